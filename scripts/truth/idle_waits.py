"""Threads that have nothing to do, each in another way: none of their waits is contention."""

import queue
import select
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import _truth


def feed(turns, _diary, tasks, simple, event, condition, pool):
    """A little work for each, one after the other."""
    for _ in turns.each(0):
        for give in (lambda: tasks.put(0), lambda: simple.put(0), lambda: pool.submit(int)):
            give()
            time.sleep(0.002)
        event.set()
        event.clear()  # at once: who looks at a set event in a loop is not idle
        with condition:
            condition.notify_all()
    tasks.put(None)
    simple.put(None)


def serve(_turns, _diary, tasks):
    while tasks.get() is not None:
        pass


def watch(turns, _diary, event):
    """As a thread that looks for its end now and then."""
    while not over(turns):
        event.wait(0.05)


def attend(turns, _diary, condition):
    while not over(turns):
        with condition:
            condition.wait(0.05)


def over(turns):
    return _truth.stamp() > turns.begin + turns.rounds * turns.period


def poll(turns, _diary):
    while not over(turns):
        select.select([], [], [], 0.03)


def sleep(turns, _diary):
    while not over(turns):
        time.sleep(0.03)


def join(turns, _diary):
    while not over(turns):
        child = threading.Thread(target=time.sleep, args=(0.1,))
        child.start()
        child.join()


def main():
    options = _truth.options(__doc__, short=(20, 25, 100), long=(20, 25, 100))
    turns = _truth.Turns(options)
    tasks, simple = queue.Queue(), queue.SimpleQueue()
    event, condition = threading.Event(), threading.Condition()
    with ThreadPoolExecutor(2, thread_name_prefix="idler") as pool:
        for _ in range(2):
            pool.submit(time.sleep, 0.02)
        workers = [(feed, tasks, simple, event, condition, pool), (serve, tasks), (serve, simple)]
        workers += [(watch, event), (attend, condition), (poll,), (sleep,), (join,)]
        _truth.run("idle", options, turns, workers, {})


if __name__ == "__main__":
    main()
