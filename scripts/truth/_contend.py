"""A holder that keeps a lock for a known time, and waiters that come meanwhile."""

import threading
import time

import _truth


class Owner:
    """Who has the lock, since when. Read and written under the lock alone."""

    def __init__(self):
        self.tid, self.since = None, 0

    def change(self, now):
        """Makes the calling thread the owner; the one before it."""
        before = self.tid, self.since
        self.tid, self.since = threading.get_native_id(), now
        return before


def hold(turns, _diary, lock, owner):
    for _ in turns.each(0):
        with lock:
            owner.change(_truth.stamp())
            time.sleep(turns.hold / 1e9)


def contend(turns, diary, lock, owner, what, offset):
    for _ in turns.each(offset):
        start = _truth.start()
        lock.acquire()
        end = _truth.end()
        holder, since = owner.change(end[_truth.AT])
        lock.release()
        # If the lock went from hand to hand meanwhile, no single thread was in the way.
        diary.wait(what, start, end, holder if since <= start[_truth.AT] else None)


def run(family, doc, lock, what):
    """A whole program: one lock, one holder, `--waiters` waiters a millisecond apart."""
    options = _truth.options(doc)
    costs = {what["op"]: _truth.median_cost(lock.acquire, lock.release)}
    owner = Owner()
    workers = [(hold, lock, owner)]
    workers += [(contend, lock, owner, what, n * _truth.MS) for n in range(1, options.waiters + 1)]
    _truth.run(family, options, _truth.Turns(options), workers, costs)
