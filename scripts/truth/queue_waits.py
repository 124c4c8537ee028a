"""Threads get from empty queues and put into a full one, until another puts or gets at a known time.

Each queue has its own time: who wakes at the same moment fights over the GIL.
"""

import queue

import _truth


def fill(turns, _diary, tasks, other, getters, later):
    other.is_me()
    for number in turns.each(turns.hold + later):
        for _ in range(getters):
            tasks.put(number)


def get(turns, diary, tasks, what, other, offset):
    for _ in turns.each(offset):
        start = _truth.start()
        tasks.get()
        end = _truth.end()
        diary.wait(what, start, end, other.tid)


def drain(turns, _diary, tasks, other):
    other.is_me()
    for _ in turns.each(turns.hold + 12 * _truth.MS):
        tasks.get()


def put(turns, diary, tasks, what, other, offset):
    for number in turns.each(offset):
        start = _truth.start()
        tasks.put(number)
        end = _truth.end()
        diary.wait(what, start, end, other.tid)


def awaited(tasks, op):
    kind = type(tasks)
    return _truth.thing("queue", "idle", f"{kind.__module__}.{kind.__qualname__}", op, tasks)


def main():
    options = _truth.options(__doc__)
    workers = []
    getters = max(1, options.waiters - 1)
    for group, tasks in enumerate([queue.Queue(), queue.SimpleQueue()]):
        op, other = f"{type(tasks).__name__}.get", _truth.Someone()
        workers.append((fill, tasks, other, getters, 6 * group * _truth.MS))
        for n in range(1, getters + 1):
            offset = (n + 3 * group) * _truth.MS
            # Who is woken first in an older SimpleQueue wakes the next.
            known = n == 1 or isinstance(tasks, queue.Queue)
            ender = other if known else _truth.NOBODY
            workers.append((get, tasks, awaited(tasks, op), ender, offset))
    full, other = queue.Queue(maxsize=1), _truth.Someone()
    full.put(0)
    workers.append((drain, full, other))
    workers.append((put, full, awaited(full, "Queue.put"), other, 2 * _truth.MS))

    spare, simple = queue.Queue(), queue.SimpleQueue()
    costs = {"Queue.put": _truth.median_cost(lambda: spare.put(0))}
    costs["Queue.get"] = _truth.median_cost(spare.get)
    for _ in range(400):
        simple.put(0)
    costs["SimpleQueue.get"] = _truth.median_cost(simple.get)
    _truth.run("queue", options, _truth.Turns(options), workers, costs)


if __name__ == "__main__":
    main()
