"""Threads that say themselves what they do: for the tests of energy, whose truth must not be lockwatt's.

Each thread has a slot of two 64-bit numbers in a file that others map: nanoseconds of CPU time that it has
spent waiting for the lock and waking who waits for it, and of CPU time in all. It is waiting if it found the
lock taken. Releasing is waking if somebody was waiting and it took as long as a system call. Of both only
what they take beyond the same call on a lock that nobody wants: calling a method is no waiting. What two
readings of the clock cost is taken off, as measured right afterwards: a tracer may make them dearer.

--mode lock: the threads, each on a CPU of its own, take one threading.Lock in turns, hold it for a while
and leave it alone for longer. On a free-threaded build who finds it taken spins, and parks now and then:
how often depends on how long a waking takes on the machine.
--mode busy: each computes for a part (--duty) of the time and sleeps for the rest.
"""

import mmap
import os
import random
import threading
import time

import _common

clock = time.thread_time_ns


def cost_of_yield():
    costs = []
    for _ in range(2000):
        before = clock()
        os.sched_yield()
        after = clock()
        costs.append(2 * after - before - clock())
    return sorted(costs)[len(costs) // 2]


def costs_unwanted():
    """Of an acquisition and a release of a lock that nobody else wants."""
    lock = threading.Lock()
    acquiring, releasing = [], []
    for _ in range(2000):
        before = clock()
        lock.acquire()
        after = clock()
        acquiring.append(2 * after - before - clock())
        leaves = clock()
        lock.release()
        left = clock()
        releasing.append(2 * left - leaves - clock())
    return [max(0, sorted(costs)[len(costs) // 2]) for costs in (acquiring, releasing)]


def fight(stop, slots, place, lock, wanted, hold, rest, cpu):
    os.sched_setaffinity(0, [cpu])
    dice = random.Random(cpu)
    rests = [range(dice.randrange(rest // 2, 3 * rest // 2)) for _ in range(500)]
    held = range(hold)
    # No system call that wakes somebody is shorter than one that does nothing.
    least = cost_of_yield()
    acquiring, releasing = costs_unwanted()
    waited = 0
    while not stop.requested:
        for rounds in rests:
            if not lock.acquire(False):
                wanted[place] = True
                before = clock()
                lock.acquire()
                after = clock()
                waited += max(2 * after - before - clock() - acquiring, 0)
                wanted[place] = False
            for _ in held:
                pass
            awaited = True in wanted
            leaves = clock()
            lock.release()
            left = clock()
            if awaited or True in wanted:
                spent = 2 * left - leaves - clock()
                if spent >= least:
                    waited += max(spent - releasing, 0)
            slots[2 * place] = waited
            slots[2 * place + 1] = left
            for _ in rounds:
                pass


def compute(stop, slots, place, duty, cpu):
    os.sched_setaffinity(0, [cpu])
    while not stop.requested:
        begun = time.monotonic()
        while time.monotonic() - begun < 0.01 * duty:
            for _ in range(300):
                pass
            slots[2 * place + 1] = clock()
        if duty < 1:
            time.sleep(0.01 * (1 - duty))


def main():
    parser = _common.parser(__doc__, threads=2)
    parser.add_argument("--mode", choices=["lock", "busy"], default="lock")
    parser.add_argument("--share", metavar="FILE", help="where the slots are; without it nobody else sees them")
    parser.add_argument("--hold", type=int, default=150, metavar="ROUNDS")
    parser.add_argument("--rest", type=int, default=500, metavar="ROUNDS")
    parser.add_argument("--duty", type=float, default=1.0, help="part of the time that is computed")
    parser.add_argument("--first-cpu", type=int, default=0)
    options = parser.parse_args()
    if options.share:
        with open(options.share, "w+b") as file:
            file.truncate(4096)
            shared = mmap.mmap(file.fileno(), 4096)
    else:
        shared = mmap.mmap(-1, 4096)
    slots = memoryview(shared).cast("Q")
    cpus = sorted(os.sched_getaffinity(0))
    cpu = [cpus[(options.first_cpu + k) % len(cpus)] for k in range(options.threads)]
    stop = _common.arm(options.seconds)
    lock = threading.Lock()
    wanted = [False] * options.threads
    _common.announce(lock=lock)
    if options.mode == "lock":
        work = [(fight, stop, slots, k, lock, wanted, options.hold, options.rest, cpu[k]) for k in range(options.threads)]
    else:
        work = [(compute, stop, slots, k, options.duty, cpu[k]) for k in range(options.threads)]
    _common.join(_common.start(work))


if __name__ == "__main__":
    main()
