"""The world is stopped while one thread is in a long C call (free-threaded builds).

Who stops it waits until that call is over; a third thread, which runs Python code, is paused for as long.
In the first rounds nobody is in the way: what a call costs then it costs in the others too, with caches as
cold, a collection above all.
"""

import contextlib
import gc
import os
import sys
from functools import partial

import _truth
import gil_waits


# Rounds in which all but who stops the world sleep.
FREE = 10


def compute(turns, _diary, count, busy):
    _truth.pin(0)
    busy.is_me()
    work = partial(sum, range(count))
    for number in turns.each(0):
        if number >= FREE:
            work()


def stop(turns, diary, stoppers, whats, busy, stopper, costs):
    _truth.pin(1)  # whose other thread is paused while this one waits; a third CPU there may not be
    # Who was let go on must not take it away before the call is over.
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    stopper.is_me()
    free = {what["op"]: [] for what in whats}
    for number in turns.each(2 * _truth.MS):
        this = number % len(stoppers)
        start = _truth.start()
        stopper.since = start[_truth.AT]
        stoppers[this]()
        end = _truth.end()
        if number < FREE:
            free[whats[this]["op"]].append(end[_truth.AT] - start[_truth.AT])
            continue
        diary.wait(whats[this], start, end, busy.tid)
        stopper.until = end[_truth.AT]
    costs |= {op: sorted(times)[len(times) // 2] for op, times in free.items()}


def run_on(turns, diary, what, stopper):
    """Runs Python code from before the stop until after it: a long time between two stamps is a pause."""
    _truth.pin(1)
    os.nice(10)  # of this thread: going on, it must not take the CPU from who stopped it
    for number in turns.each(_truth.MS // 2):
        if number < FREE:
            continue
        until = _truth.stamp() + turns.period * 3 // 4
        # One moment is the end of a gap and the beginning of the next: no place for a pause is left.
        before = now = _truth.end()
        longest = (0, before, now)
        while now[_truth.AT] < until:
            now = _truth.end()
            gap = now[_truth.AT] - before[_truth.AT]
            if gap > longest[0]:
                longest = (gap, before, now)
            before = now
        _, start, end = longest
        # Whether it was that pause, or another thread on this CPU: both ends fit.
        if start[_truth.AT] > stopper.since - _truth.MS and end[_truth.AT] < stopper.until + _truth.MS:
            diary.wait(what, start, end, stopper.tid)


def main():
    options = _truth.options(__doc__, short=(40, 25, 60), long=(61, 100, 150))
    if not _truth.free_threaded():
        _truth.skip("stop_the_world", "the GIL stops the world")
        return
    turns = _truth.Turns(options)
    gc.freeze()  # a collection has little to do, and so is mostly the stop
    stoppers = {"current_frames": sys._current_frames, "collect": gc.collect}
    whats = [_truth.thing("stop_the_world", "pause", "stop-the-world", op) for op in stoppers]
    costs = {"pause": 0}
    paused = _truth.thing("stop_the_world", "pause", "stop-the-world", "pause")
    busy, stopper = _truth.Someone(), _truth.Someone()
    stopper.since = stopper.until = 0
    count = gil_waits.loops(turns.hold)
    workers = [
        (compute, count, busy),
        (stop, list(stoppers.values()), whats, busy, stopper, costs),
        (run_on, paused, stopper),
    ]
    _truth.run("stop_the_world", options, turns, workers, costs)


if __name__ == "__main__":
    main()
