"""N threads take turns holding one lock for 2 ms: every wait is long.

The holder sleeps, or with --busy computes, so that its only sleeps are waits for the lock.

Ends with a second line, {"acquires": N}.
"""

import threading
import time

import _common


def compute(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def hold(stop, lock, acquires, limit, pause):
    while not stop.requested:
        with lock:
            acquires[0] += 1  # under the lock, so exact
            if limit is not None and acquires[0] >= limit:
                stop.request()
            pause(0.002)


def main():
    arguments = _common.parser(__doc__)
    arguments.add_argument("--waits", type=int, help="stop after about so many acquires in all")
    arguments.add_argument("--busy", action="store_true", help="compute while holding the lock")
    arguments.add_argument("--delay", type=float, default=0, help="seconds before the threads start")
    options = arguments.parse_args()
    lock, acquires = threading.Lock(), [0]
    stop = _common.arm(options.seconds)
    _common.announce(lock=lock)
    time.sleep(options.delay)
    pause = compute if options.busy else time.sleep
    worker = (hold, stop, lock, acquires, options.waits, pause)
    _common.join(_common.start([worker] * options.threads))
    _common.say({"acquires": acquires[0]})


if __name__ == "__main__":
    main()
