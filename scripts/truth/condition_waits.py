"""Threads wait for a threading.Condition until one notifies them all at a known time."""

import threading

import _truth


def notify(turns, _diary, condition, notifier):
    notifier.is_me()
    # One round more than there are waits: for who came too late for the last.
    for _ in turns.each(turns.hold, extra=1):
        with condition:
            condition.notify_all()


def wait(turns, diary, condition, what, notifier, offset):
    for _ in turns.each(offset):
        with condition:
            start = _truth.start()
            condition.wait()
            end = _truth.end()
        diary.wait(what, start, end, notifier.tid)


def cost(condition):
    with condition:
        return _truth.median_cost(lambda: condition.wait(0))


def main():
    options = _truth.options(__doc__)
    condition, notifier = threading.Condition(), _truth.Someone()
    what = _truth.thing("condition", "idle", "threading.Condition", "condition.wait", condition)
    workers = [(notify, condition, notifier)]
    workers += [
        (wait, condition, what, notifier, n * _truth.MS) for n in range(1, options.waiters + 1)
    ]
    costs = {"condition.wait": cost(condition)}
    _truth.run("condition", options, _truth.Turns(options), workers, costs)


if __name__ == "__main__":
    main()
