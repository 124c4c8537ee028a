"""One thread that yields its CPU in a loop, at a depth of recursion, to a child that does the same.

Both are on one CPU, so that every yield gives it away, and nothing else is done between two of them:
what a tracer does at a yield is measured with warm caches.
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
    parser = _common.parser(__doc__, threads=1)
    parser.add_argument("--depth", type=int, default=1, metavar="FRAMES")
    options = parser.parse_args()
    os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
    parent = os.getpid()
    if os.fork() == 0:
        while os.getppid() == parent:
            os.sched_yield()
        os._exit(0)
    stop = _common.arm(options.seconds)
    _common.announce()
    at_depth(options.depth, give_away, stop)


if __name__ == "__main__":
    main()
