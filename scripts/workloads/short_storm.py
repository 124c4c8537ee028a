"""Two sides hand a token back and forth over two locks: every operation is a short blocking wait.

--threads is rounded up to an even number; --depth puts each thread that deep into recursion.
Ends with a second line, {"handoffs": N}.
"""

import threading

import _common


def at_depth(depth, function, *arguments):
    """Calls a function with so many frames above it."""
    if depth > 1:
        return at_depth(depth - 1, function, *arguments)
    return function(*arguments)


def hand_over(stop, mine, theirs, handoffs, me):
    done = 0
    while True:
        mine.acquire()
        # Looked at with the token in hand: whoever stops passes it on once more, below, so the sides
        # leave in turns and nobody is left waiting.
        if stop.requested:
            break
        theirs.release()
        done += 1
    theirs.release()
    handoffs[me] = done


def main():
    # Three a side: a free-threaded build's waiter spins before it blocks, but not on a lock that
    # others are already blocked on.
    parser = _common.parser(__doc__, threads=6)
    parser.add_argument("--depth", type=int, default=1, metavar="FRAMES")
    options = parser.parse_args()
    each = max(1, (options.threads + 1) // 2)
    ping, pong = threading.Lock(), threading.Lock()
    pong.acquire()  # ping's side has the token
    handoffs = [0] * (2 * each)
    stop = _common.arm(options.seconds)
    _common.announce(ping=ping, pong=pong)
    sides = [(ping, pong), (pong, ping)] * each
    workers = [(at_depth, options.depth, hand_over, stop, *side, handoffs, number) for number, side in enumerate(sides)]
    _common.join(_common.start(workers))
    _common.say({"handoffs": sum(handoffs)})


if __name__ == "__main__":
    main()
