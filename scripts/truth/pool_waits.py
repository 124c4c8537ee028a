"""Workers of a ThreadPoolExecutor have nothing to do until tasks come at a known time.

A worker's wait lasts from the end of one task to the beginning of its next, as the tasks themselves note.
"""

import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import _truth

TASK_SECONDS = 0.004


class Memory(threading.local):
    """When this worker's last task ended, and what it has noted."""

    ended = None
    diary = None


def task(memory, diaries, what, submitter, ender):
    now = _truth.end()
    if memory.diary is None:
        memory.diary = _truth.Diary()
        diaries.append(memory.diary)
    if memory.ended is not None and memory.ended[_truth.AT] >= submitter.since:
        memory.diary.wait(what, memory.ended, now, ender.tid)
    time.sleep(TASK_SECONDS)
    memory.ended = _truth.start()


def submit(turns, diary, pool, memory, diaries, what, submitter, ender, tasks):
    submitter.is_me()
    submitter.since = turns.begin
    for _ in turns.each(turns.hold):
        for _ in range(tasks):
            pool.submit(task, memory, diaries, what, submitter, ender)
    time.sleep(5 * TASK_SECONDS)
    for one in diaries:
        diary.waits += one.waits


def cost():
    """From the end of a task to the beginning of the next if that is there already."""
    stamps = []
    with ThreadPoolExecutor(1) as pool:
        pool.submit(time.sleep, 0.05)
        for _ in range(301):
            pool.submit(lambda: stamps.append(_truth.stamp()))
    gaps = sorted(after - before for before, after in zip(stamps, stamps[1:]))
    return gaps[len(gaps) // 2]


def main():
    options = _truth.options(__doc__)
    submitter, memory, diaries = _truth.Someone(), Memory(), []
    submitter.since = float("inf")
    costs = {"worker": cost()}
    with ThreadPoolExecutor(options.waiters, thread_name_prefix="idler") as pool:
        # A worker waits on the pool's own queue; which of the two is named is the tracer's choice.
        queue = hex(id(pool._work_queue))
        # Up to 3.12, the worker that was woken first wakes the next, and which that is is not known.
        ender = submitter if sys.version_info >= (3, 13) else _truth.NOBODY
        what = _truth.thing("pool", "idle", "ThreadPoolExecutor", "worker", pool, or_address=queue)
        for _ in range(options.waiters):
            pool.submit(task, memory, diaries, what, submitter, ender)
        time.sleep(0.1)
        workers = [(submit, pool, memory, diaries, what, submitter, ender, options.waiters)]
        _truth.run("pool", options, _truth.Turns(options), workers, costs)


if __name__ == "__main__":
    main()
