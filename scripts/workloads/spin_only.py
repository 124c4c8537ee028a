"""Two threads, each on a CPU of its own, that sort one short list again and again: they spin for it
and (nearly) never park.

A spin of a PyMutex is 40 calls of sched_yield, some 10 to 20 µs. The list is held for less than that,
and then left alone for longer: whoever finds it taken finds it free when it is done spinning. Alone on
its CPU, a yield gives nothing away, so nothing ever sleeps or is switched. For how long it is left alone
is random: two threads that keep step would keep step with a sampler's clock as well.
"""

import os
import random

import _common


def sort(stop, shared, rest, cpu):
    os.sched_setaffinity(0, [cpu])
    dice = random.Random(cpu)
    rests = [range(dice.randrange(2 * rest)) for _ in range(2000)]
    while not stop.requested:
        for rounds in rests:
            shared.sort()
            for _ in rounds:
                pass


def main():
    parser = _common.parser(__doc__, threads=2)
    parser.add_argument("--length", type=int, default=1000, metavar="ITEMS", help="of the list")
    parser.add_argument("--rest", type=int, default=2000, metavar="ROUNDS", help="between two sorts")
    options = parser.parse_args()
    # Small integers: they are immortal, so that no reference count is fought over.
    shared = sorted(number % 250 for number in range(options.length))
    cpus = sorted(os.sched_getaffinity(0))
    stop = _common.arm(options.seconds)
    _common.announce(list=shared)
    sorters = [
        (sort, stop, shared, options.rest, cpus[k % len(cpus)]) for k in range(options.threads)
    ]
    _common.join(_common.start(sorters))


if __name__ == "__main__":
    main()
