"""Threads wait for a threading.Event that one sets at a known time."""

import threading

import _truth


def set_and_clear(turns, _diary, event, setter):
    setter.is_me()
    for _ in turns.each(turns.hold):
        event.set()
        # Before the next round, and after everybody has seen it.
        _truth.sleep_until(_truth.stamp() + (turns.period - turns.hold) // 2)
        event.clear()
    event.set()


def wait(turns, diary, event, what, setter, offset):
    for _ in turns.each(offset):
        start = _truth.start()
        event.wait()
        end = _truth.end()
        diary.wait(what, start, end, setter.tid)


def main():
    options = _truth.options(__doc__)
    event, setter = threading.Event(), _truth.Someone()
    what = _truth.thing("event", "idle", "threading.Event", "event.wait", event)
    workers = [(set_and_clear, event, setter)]
    workers += [(wait, event, what, setter, n * _truth.MS) for n in range(1, options.waiters + 1)]
    costs = {"event.wait": _truth.median_cost(lambda: event.wait(0))}
    _truth.run("event", options, _truth.Turns(options), workers, costs)


if __name__ == "__main__":
    main()
