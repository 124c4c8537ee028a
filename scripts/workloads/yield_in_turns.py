"""Two threads that yield one CPU to each other in a loop, at a depth of recursion.

Both are pinned to one CPU, so that every yield gives it away, and nothing else is done between two
of them: what a tracer does at a yield is measured with warm caches. `os.sched_yield` lets go of the
GIL, so neither ever waits for it.
"""

import os

import _common


def at_depth(depth, function, *arguments):
    """Calls a function with so many frames above it."""
    if depth > 1:
        return at_depth(depth - 1, function, *arguments)
    return function(*arguments)


def give_away(stop):
    while not stop.requested:
        os.sched_yield()


def main():
    parser = _common.parser(__doc__, threads=2)
    parser.add_argument("--depth", type=int, default=1, metavar="FRAMES")
    options = parser.parse_args()
    os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
    stop = _common.arm(options.seconds)
    _common.announce()
    worker = (at_depth, options.depth, give_away, stop)
    _common.join(_common.start([worker] * options.threads))


if __name__ == "__main__":
    main()
