"""A thread that was asked for the GIL lets it go, and stays until the one who asked has taken it.

That takes as long as the other one can't run: it shares its CPU with a program of real-time priority, which
computes from before the GIL is let go until a known time after that.
"""

import os
import subprocess
import sys

import _truth
import gil_waits

# For each line on its standard input: computes on one CPU from the first moment to the second.
BUSY = """
import os, sys, time
os.sched_setaffinity(0, {int(sys.argv[1])})
os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
print(flush=True)
for line in sys.stdin:
    begin, end = map(int, line.split())
    time.sleep(max(0, begin - time.monotonic_ns()) / 1e9)
    while time.monotonic_ns() < end:
        pass
"""

# In each round the other thread asks after so long; later its CPU is taken from it. Then, after `--hold`, the
# GIL is let go, and it gets its CPU back when this part of the round is over.
ASK, TAKE, GIVE = 2 * _truth.MS, 16 * _truth.MS, 0.6


def let_go(turns, diary, what, count, other):
    _truth.pin(0)
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))  # of this thread: in time, whatever else runs
    steps = gil_waits.turn(count)
    for _ in turns.each(0):
        start, end = gil_waits.taken(steps)
        diary.wait(what, start, end, other.tid)


def ask(turns, _diary, other, busy):
    _truth.pin(1)
    other.is_me()

    def take_cpu(number):
        begin = turns.begin + number * turns.period
        busy.stdin.write(b"%d %d\n" % (begin + TAKE, begin + round(GIVE * turns.period)))
        busy.stdin.flush()

    take_cpu(0)
    # Back from its sleep it wants the GIL, and right after it got it sleeps again.
    for number in turns.each(ASK):
        if number + 1 < turns.rounds:
            take_cpu(number + 1)


def start_busy():
    cpus = sorted(os.sched_getaffinity(os.getpid()))
    arguments = [sys.executable, "-c", BUSY, str(cpus[1 % len(cpus)])]
    return subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def main():
    options = _truth.options(__doc__, short=(20, 30, 100), long=(40, 30, 220))
    if _truth.free_threaded():
        _truth.skip("gil_handoff", "there is no GIL")
        return
    busy = start_busy()
    if not busy.stdout.readline():
        _truth.skip("gil_handoff", "no program may have real-time priority here")
        return
    turns = _truth.Turns(options)
    what = _truth.thing("gil_handoff", "contention", "GIL hand-off", "gil")
    other = _truth.Someone()
    workers = [(let_go, what, gil_waits.loops(turns.hold), other), (ask, other, busy)]
    try:
        _truth.run("gil_handoff", options, turns, workers, {"gil": gil_waits.cost()})
    finally:
        busy.stdin.close()
        busy.wait()


if __name__ == "__main__":
    main()
