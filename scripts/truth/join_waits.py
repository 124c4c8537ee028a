"""Threads join a thread that ends at a known time."""

import collections
import threading
import time

import _truth


def make(turns, _diary, targets):
    for _ in turns.each(0):
        target = threading.Thread(target=time.sleep, args=(turns.hold / 1e9,))
        target.start()
        targets.append(target)  # and kept: no other thread may get its address


def join(turns, diary, targets, came, offset):
    for number in turns.each(offset):
        if number >= len(targets):
            continue  # the maker is late
        target = targets[number]
        what = _truth.thing("join", "idle", "Thread", "thread.join", target)
        start = _truth.start()
        came[number].append(offset)
        target.join()
        end = _truth.end()
        # Who came first is woken first, by the target; it wakes the next.
        diary.wait(what, start, end, target.native_id if came[number][0] == offset else None)


def cost():
    ended = threading.Thread(target=int)
    ended.start()
    ended.join()
    return _truth.median_cost(ended.join)


def main():
    options = _truth.options(__doc__)
    targets, came = [], collections.defaultdict(list)
    workers = [(make, targets)]
    # A millisecond more: a thread's start takes a while.
    workers += [(join, targets, came, (n + 1) * _truth.MS) for n in range(1, options.waiters + 1)]
    _truth.run("join", options, _truth.Turns(options), workers, {"thread.join": cost()})


if __name__ == "__main__":
    main()
