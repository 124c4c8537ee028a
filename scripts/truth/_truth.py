"""What every truth program does alike: turns by the clock, stamps around waits, the lines it prints.

A truth program makes its threads wait for known things at known times, and says afterwards who waited
for what, from when to when. It prints JSON lines:

    {"pid": 1, "family": "lock"}                  first; or with "skip": why there is nothing to see here
    {"op": "lock.acquire", "cost_ns": 120}        what the operation costs when nobody is in the way
    {"kind": "lock", "class": "contention", "name": "_thread.lock", "address": "0x..", "op": "lock.acquire",
     "tid": 2, "start_ns": 0, "end_ns": 0, "cpu_ns": 0, "slept": 1, "lost_cpu": 0,
     "holder_tid": 3}
    {"done": true}                                last; then it stays until its standard input ends

`cpu_ns` is the time that the thread was on a CPU between the two stamps, `slept` how often it left one to
sleep, `lost_cpu` how often it did without having to. Times are CLOCK_MONOTONIC; `holder_tid` is who was in
the way, or who ended the wait, where that was one thread and no other. `address` is null where Python doesn't know it; `or_address` is as right.

Threads take turns by the clock, not by locks: every wait of a worker is one that the program speaks of.
"""

import argparse
import gc
import json
import os
import resource
import select
import sys
import threading
import time

stamp = time.monotonic_ns

# Where the stamp is in what `start` and `end` give.
AT = 2

# What took less than this was no wait: somebody came late, and the lock was free.
SHORTEST = 2_000_000

MS = 1_000_000


def options(doc, short=(20, 25.0, 50.0), long=(34, 100.0, 150.0), waiters=3):
    """What the command line says. `short` and `long`: rounds, hold, period."""
    arguments = argparse.ArgumentParser(description=doc)
    arguments.add_argument(
        "--long",
        action="store_true",
        help="some hundred waits of some hundred milliseconds: a hundredth of each is more than what"
        " comes before it and after it",
    )
    usual = f"default {{}}; --long: {{}}".format
    arguments.add_argument("--rounds", type=int, help=usual(short[0], long[0]))
    arguments.add_argument("--hold", type=float, help=f"milliseconds, {usual(short[1], long[1])}")
    arguments.add_argument("--period", type=float, help=f"milliseconds, {usual(short[2], long[2])}")
    arguments.add_argument("--waiters", type=int, default=waiters, help=f"default {waiters}")
    arguments.add_argument("--wait", type=float, default=3.0, help="seconds to wait for a line, default 3")
    asked = arguments.parse_args()
    for name, value in zip(("rounds", "hold", "period"), long if asked.long else short):
        if getattr(asked, name) is None:
            setattr(asked, name, value)
    return asked


def say(line):
    print(json.dumps(line), flush=True)


def free_threaded():
    return not getattr(sys, "_is_gil_enabled", lambda: True)()


def skip(family, why):
    say({"pid": os.getpid(), "family": family, "skip": why})


def thing(kind, class_, name, op, awaited=None, **more):
    """What is waited for, as a truth record says it."""
    address = None if awaited is None else hex(id(awaited))
    return {"kind": kind, "class": class_, "name": name, "address": address, "op": op, **more}


def start():
    """Taken right before a call: the thread's time on the CPU, how often it left the CPU, a stamp."""
    return time.thread_time_ns(), left_cpu(), stamp()


def end():
    """The same right after the call."""
    at = stamp()
    return time.thread_time_ns(), left_cpu(), at


def left_cpu():
    return left(resource.getrusage(resource.RUSAGE_THREAD))


def left(usage):
    """How often a thread left the CPU to sleep, and how often while it could have gone on."""
    return usage.ru_nvcsw, usage.ru_nivcsw


class Diary:
    """The waits of one thread, written by it alone."""

    def __init__(self):
        self.waits = []

    def wait(self, what, start, end, holder=None):
        """Notes a wait between a `start` and an `end`, if it was one."""
        if end[AT] - start[AT] >= SHORTEST:
            self.waits.append((what, threading.get_native_id(), start, end, holder))

    def lines(self):
        for what, tid, (cpu, left, at), (cpu_after, left_after, until), holder in self.waits:
            slept, lost = (after - before for before, after in zip(left, left_after))
            parts = {"cpu_ns": cpu_after - cpu, "slept": slept, "lost_cpu": lost}
            times = {"start_ns": at, "end_ns": until, **parts}
            yield {**what, "tid": tid, **times, "holder_tid": holder}


class Someone:
    """A thread that others wait for.

    Where waiters wake each other in turn it is in the way of all, but ends the wait of the first alone:
    only there it can be told from the others.
    """

    tid = None

    def is_me(self):
        self.tid = threading.get_native_id()


NOBODY = Someone()


class Turns:
    """When is whose turn: round N begins N periods after the program's begin."""

    def __init__(self, options):
        self.rounds = options.rounds
        self.period = round(options.period * MS)
        self.hold = round(options.hold * MS)
        self.begin = 0

    def each(self, offset, extra=0):
        """The numbers of the rounds, each when `offset` nanoseconds of it have passed."""
        for number in range(self.rounds + extra):
            sleep_until(self.begin + number * self.period + offset)
            yield number


def sleep_until(when):
    left = when - stamp()
    if left > 0:
        time.sleep(left / 1e9)


def pin(number):
    """Keeps the calling thread on one CPU: threads that compute must not take each other's."""
    cpus = sorted(os.sched_getaffinity(os.getpid()))
    os.sched_setaffinity(0, {cpus[number % len(cpus)]})


def median_cost(operation, undo=None, times=301):
    """Nanoseconds of an operation that nobody is in the way of."""
    costs = []
    for _ in range(times):
        start = stamp()
        operation()
        costs.append(stamp() - start)
        if undo:
            undo()
    return sorted(costs)[times // 2]


def run(family, options, turns, workers, costs):
    """Starts a thread for each (function, *arguments), lets all begin at once, prints the truth.

    Functions are called as function(turns, diary, *arguments). `costs` are nanoseconds by operation.
    """
    gc.disable()  # a collection stops the world of a free-threaded program: a pause nobody spoke of
    reader, writer = os.pipe()
    diaries = [Diary() for _ in workers]

    def work(diary, function, *arguments):
        os.read(reader, 1)  # until the other end is closed: no lock, no futex
        function(turns, diary, *arguments)

    threads = [
        threading.Thread(target=work, args=(diary, *worker), name=f"{worker[0].__name__}-{number}")
        for number, (diary, worker) in enumerate(zip(diaries, workers))
    ]
    for thread in threads:
        thread.start()
    say({"pid": os.getpid(), "family": family})
    if select.select([sys.stdin], [], [], options.wait)[0]:
        sys.stdin.readline()
    turns.begin = stamp() + 20 * MS
    os.close(writer)
    for thread in threads:
        thread.join()
    for op, cost in costs.items():
        say({"op": op, "cost_ns": cost})
    for diary in diaries:
        for line in diary.lines():
            say(line)
    say({"done": True})
    # A recorder reads names from this process: it must not be gone before that is done.
    while sys.stdin.readline():
        pass
