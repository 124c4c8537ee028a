"""Two threads take turns with the GIL: while one computes, the other wants it back.

Each turn is one call of a C function that computes (and keeps the GIL), takes a stamp, polls nothing
(and so lets the GIL go, to who has been asking for it, and wants it back), and takes a stamp. No bytecode
runs in between, so the GIL can't be lost at any other place.
"""

import operator
import resource
import select
import time
from functools import partial

import _truth


def loops(nanoseconds):
    """How far to sum so that it takes about so long."""
    count = 100_000
    best = min(_truth.median_cost(partial(sum, range(count)), times=5) for _ in range(3))
    return max(1, count * nanoseconds // max(1, best))


def turn(count):
    """Computes; then what `start` gives; polls; then what `end` gives."""
    work, usage = partial(sum, range(count)), partial(resource.getrusage, resource.RUSAGE_THREAD)
    poll = partial(select.select, (), (), (), 0)
    return [work, time.thread_time_ns, usage, _truth.stamp, poll, _truth.stamp, time.thread_time_ns, usage]


def taken(steps):
    """Does the steps of a turn; the start and the end of its wait."""
    _, cpu, usage, at, _, until, cpu_after, usage_after = list(map(operator.call, steps))
    return (cpu, _truth.left(usage), at), (cpu_after, _truth.left(usage_after), until)


def compute(turns, diary, what, count, cpu, me, other):
    _truth.pin(cpu)
    me.is_me()
    steps = turn(count)
    for _ in range(turns.rounds):
        start, end = taken(steps)
        diary.wait(what, start, end, other.tid)


def cost():
    costs = []
    for _ in range(301):
        start, end = taken(turn(10))
        costs.append(end[_truth.AT] - start[_truth.AT])
    return sorted(costs)[len(costs) // 2]


def main():
    # More than the switch interval of 5 ms: who waits has asked for the GIL before it is let go.
    options = _truth.options(__doc__, short=(25, 30, 0), long=(51, 100, 0))
    if _truth.free_threaded():
        _truth.skip("gil", "there is no GIL")
        return
    turns = _truth.Turns(options)
    what = _truth.thing("gil", "contention", "GIL", "gil")
    one, other = _truth.Someone(), _truth.Someone()
    count = loops(turns.hold)
    workers = [(compute, what, count, 0, one, other), (compute, what, count, 1, other, one)]
    _truth.run("gil", options, turns, workers, {"gil": cost()})


if __name__ == "__main__":
    main()
