"""Threads wait at a threading.Barrier until the last one comes at a known time."""

import threading

import _truth


def meet(turns, diary, barrier, what, last, offset):
    for _ in turns.each(offset):
        start = _truth.start()
        barrier.wait()
        end = _truth.end()
        # The barrier's action named the last one before it let the others go.
        diary.wait(what, start, end, last.tid)


def main():
    options = _truth.options(__doc__)
    last = _truth.Someone()
    barrier = threading.Barrier(options.waiters + 1, action=last.is_me)
    turns = _truth.Turns(options)
    what = _truth.thing("barrier", "idle", "threading.Barrier", "barrier.wait", barrier)
    offsets = [n * _truth.MS for n in range(1, options.waiters + 1)] + [turns.hold]
    workers = [(meet, barrier, what, last, offset) for offset in offsets]
    costs = {"barrier.wait": _truth.median_cost(threading.Barrier(1).wait)}
    _truth.run("barrier", options, turns, workers, costs)


if __name__ == "__main__":
    main()
