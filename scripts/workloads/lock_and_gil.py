"""N threads that hold one threading.Lock while they compute for more than 5 ms, the GIL's turn: a
waiter waits for the lock, and whoever gets it may wait for the GIL while holding it."""

import threading
import time

import _common

HOLD_SECONDS = 0.008


def compute(seconds):
    value = 0
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for i in range(1_000):
            value = (value * 31 + i) & 0xFFFF
    return value


def take_turns(stop, lock):
    while not stop.requested:
        with lock:
            compute(HOLD_SECONDS)
        # Outside the lock too, so that the holder has others to share the GIL with.
        compute(HOLD_SECONDS / 4)


def main():
    options = _common.parser(__doc__).parse_args()
    lock = threading.Lock()
    stop = _common.arm(options.seconds)
    _common.announce(lock=lock)
    _common.join(_common.start([(take_turns, stop, lock)] * options.threads))


if __name__ == "__main__":
    main()
