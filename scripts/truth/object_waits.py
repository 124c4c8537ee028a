"""Threads use an object whose own lock another thread has for a known time (free-threaded builds).

What has it that long is one call of a C function that keeps the object locked from its beginning to its
end and runs no Python code meanwhile. The rounds go round the objects.
"""

import collections
import ctypes
import operator
import random
from functools import partial

import _truth


class Basket(list):
    """A class of the program's own."""


class Sorted:
    """A list while it is sorted."""

    def __init__(self, kind=list):
        self.object, self.numbers = kind(), []

    def prepare(self, size):
        if size != len(self.numbers):
            numbers = random.Random(1)
            self.numbers = [numbers.random() for _ in range(size)]
        self.object[:] = self.numbers

    def occupy(self):
        self.object.sort()

    def touch(self):
        self.object[0] = 0.5  # appended, it would have the whole list copied


class Updated:
    """A dict while many items are put into it."""

    def __init__(self):
        self.object, self.items = {}, {}

    def prepare(self, size):
        if size != len(self.items):
            self.items = dict.fromkeys(range(size))
        self.object.clear()
        self.object[-1] = None  # an empty one would take over a copy of the other's table

    def occupy(self):
        self.object.update(self.items)

    def touch(self):
        self.object[-1] = None  # a new key might have the whole table made anew


class Merged:
    """A set while many elements are put into it."""

    def __init__(self):
        self.object, self.items = set(), set()

    def prepare(self, size):
        if size != len(self.items):
            self.items = set(range(size))
        self.object.clear()
        self.object.add(-1)

    def occupy(self):
        self.object.update(self.items)

    def touch(self):
        self.object.add(-1)


class Extended:
    """A deque while many elements are put into it."""

    def __init__(self):
        self.object, self.size = collections.deque(), 0

    def prepare(self, size):
        self.size = size
        self.object.clear()

    def occupy(self):
        self.object.extend(range(self.size))

    def touch(self):
        self.object.append(-2)


class Account:
    """A class of the program's own whose instances have a dict."""

    def __init__(self):
        self.balance = 0


class Purse:
    """One whose instances have slots."""

    __slots__ = ("balance",)


class Entered:
    """An instance while a C function is in its critical section: it begins one as an extension would."""

    def __init__(self, kind):
        self.object, self.size = kind(), 0
        self.object.balance = 0
        begin, end = ctypes.pythonapi.PyCriticalSection_Begin, ctypes.pythonapi.PyCriticalSection_End
        begin.argtypes, begin.restype = [ctypes.c_void_p, ctypes.py_object], None
        end.argtypes, end.restype = [ctypes.c_void_p], None
        self.section = ctypes.create_string_buffer(64)  # PyCriticalSection: two words
        where = ctypes.addressof(self.section)
        # One after the other within `map`: no bytecode in between where the section could be left.
        self.steps = [partial(begin, where, self.object), None, partial(end, where)]

    def prepare(self, size):
        self.steps[1] = partial(sum, range(size))

    def occupy(self):
        collections.deque(map(operator.call, self.steps), maxlen=0)

    def touch(self):
        self.object.balance = 1


def subjects():
    return [Sorted(), Sorted(Basket), Updated(), Merged(), Extended(), Entered(Account), Entered(Purse)]


def type_name(thing):
    """`tp_name`, which has the module for types written in C and not for others."""
    kind = type(thing)
    builtin = kind.__module__ in ("builtins", __name__)
    return kind.__name__ if builtin else f"{kind.__module__}.{kind.__name__}"


def sizes(subjects, nanoseconds):
    """How big each has to be so that it is occupied for about so long."""
    for subject in subjects:
        size = 20_000
        while True:
            subject.prepare(size)
            start = _truth.stamp()
            subject.occupy()
            took = _truth.stamp() - start
            if took * 4 >= nanoseconds:
                break
            size *= 2
        yield max(1, size * nanoseconds // took)


def occupy(turns, _diary, subjects, sizes, occupant):
    _truth.pin(0)
    occupant.is_me()
    subjects[0].prepare(sizes[0])
    for number in turns.each(0):
        subjects[number % len(subjects)].occupy()
        after = (number + 1) % len(subjects)
        # Once those have passed who waited. Its own locks are taken here, by nobody else.
        subjects[after].prepare(sizes[after])


def touch(turns, diary, subjects, holder, offset):
    _truth.pin(1)
    whats = [
        _truth.thing("object", "contention", type_name(one.object), "object", one.object)
        for one in subjects
    ]
    for number in turns.each(offset):
        this = number % len(subjects)
        start = _truth.start()
        subjects[this].touch()
        end = _truth.end()
        diary.wait(whats[this], start, end, holder.tid)


def main():
    options = _truth.options(__doc__, short=(35, 25, 120), long=(51, 50, 240), waiters=2)
    if not _truth.free_threaded():
        _truth.skip("object", "objects have no locks in a build with the GIL")
        return
    turns, all_of_them, occupant = _truth.Turns(options), subjects(), _truth.Someone()
    fitting = list(sizes(all_of_them, turns.hold))
    costs = {"object": _truth.median_cost(all_of_them[0].touch)}
    workers = [(occupy, all_of_them, fitting, occupant)]
    for n in range(1, options.waiters + 1):
        holder = occupant if n == 1 else _truth.NOBODY
        workers.append((touch, all_of_them, holder, (n + 1) * _truth.MS))
    _truth.run("object", options, turns, workers, costs)


if __name__ == "__main__":
    main()
