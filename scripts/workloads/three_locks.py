"""N threads fight over one threading.Lock, then over one dict, then over one list, and round again.

All are at the same one at a time (40 ms each): otherwise the slowest would keep most threads waiting
for it, and away from the other two.
"""

import threading
import time

import _common

PHASE_SECONDS = 0.04


def work(amount):
    total = 0
    for i in range(amount):
        total += i * i
    return total


def use_lock(lock):
    for _ in range(20):
        with lock:
            work(100)


def use_dict(shared, me):
    for i in range(500):
        shared[(me, i)] = i


def use_list(shared):
    for i in range(500):
        shared.append(i)
    del shared[:500]


def fight(stop, me, lock, shared_dict, shared_list):
    while not stop.requested:
        phase = int(time.monotonic() / PHASE_SECONDS) % 3
        if phase == 0:
            use_lock(lock)
        elif phase == 1:
            use_dict(shared_dict, me)
        else:
            use_list(shared_list)


def main():
    options = _common.parser(__doc__).parse_args()
    lock, shared_dict, shared_list = threading.Lock(), {}, []
    stop = _common.arm(options.seconds)
    _common.announce(lock=lock, dict=shared_dict, list=shared_list)
    fights = [(fight, stop, k, lock, shared_dict, shared_list) for k in range(options.threads)]
    _common.join(_common.start(fights))


if __name__ == "__main__":
    main()
