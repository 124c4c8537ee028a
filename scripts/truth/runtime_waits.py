"""Threads want the interpreter's lock of warnings while another thread shows one.

Since 3.14 a thread that warns keeps `PyInterpreterState.warnings.lock` until the warning is shown, and what
shows it is a Python function: here one that sleeps. Before, that lock is let go as soon as the thread sleeps
(a critical section), or there is none.
"""

import sys
import time
import warnings

import _contend
import _truth


class Shown:
    """Keeps the lock for as long as the caller wants."""

    def __init__(self):
        self.seconds, self.owner, self.before = 0, _contend.Owner(), (None, 0)

    def __call__(self, _message):
        self.before = self.owner.change(_truth.stamp())
        if self.seconds:
            time.sleep(self.seconds)


def warn():
    warnings.warn_explicit("known", UserWarning, "truth", 1)


def hold(turns, _diary, shown):
    for _ in turns.each(0):
        shown.seconds = turns.hold / 1e9  # read once the lock is there: nobody else warns now
        warn()


def contend(turns, diary, shown, what, offset):
    for _ in turns.each(offset):
        start = _truth.start()
        shown.seconds = 0
        warn()
        end = _truth.end()
        # As in `_contend`: if it went from hand to hand, no single thread was in the way.
        holder, since = shown.before
        diary.wait(what, start, end, holder if since <= start[_truth.AT] else None)


def main():
    options = _truth.options(__doc__)
    if sys.version_info < (3, 14):
        _truth.skip("runtime", "no lock of the runtime's is kept for long at will")
        return
    shown = Shown()
    warnings.simplefilter("always")
    warnings._showwarnmsg = shown
    costs = {"warn": _truth.median_cost(warn)}
    what = _truth.thing("runtime", "contention", "warnings.lock", "warn")
    workers = [(hold, shown)]
    workers += [(contend, shown, what, n * _truth.MS) for n in range(1, options.waiters + 1)]
    _truth.run("runtime", options, _truth.Turns(options), workers, costs)


if __name__ == "__main__":
    main()
