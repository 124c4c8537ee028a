"""Threads import a module that another thread is importing, which takes a known time."""

import collections
import os
import sys
import tempfile

import _truth

BODY = """import threading, time
importer = threading.get_native_id()
time.sleep({seconds})
"""

# _ModuleLock objects by module name, as weak references (Lib/importlib/_bootstrap.py).
module_locks = sys.modules["_frozen_importlib"]._module_locks


# A program's imports name their modules by constants, which outlive the import. So must these: names
# are read from the program's memory up to a tenth of a second after the wait.
names = {}


def name(number):
    return names.setdefault(number, f"lockwatt_truth_{number}")


def write_modules(folder, turns):
    body = BODY.format(seconds=turns.hold / 1e9)
    for number in range(turns.rounds):
        with open(os.path.join(folder, name(number) + ".py"), "w") as file:
            file.write(body)
    sys.path.append(folder)


def lead(turns, _diary, leader):
    leader.is_me()
    for number in turns.each(0):
        __import__(name(number))


def follow(turns, diary, leader, came, offset):
    for number in turns.each(offset):
        module = name(number)
        reference = module_locks.get(module)
        lock = reference() if reference else None
        what = _truth.thing("import", "contention", f"module {module}", "import", lock)
        del lock
        start = _truth.start()
        came[number].append(offset)
        __import__(module)
        end = _truth.end()
        # Should the leader be late, who comes first imports it, and waits for nobody.
        if sys.modules[module].importer == leader.tid:
            # Whom the leader wakes wakes the next.
            diary.wait(what, start, end, leader.tid if came[number][0] == offset else None)


def cost():
    """Importing what somebody seems to be importing, with nobody there to wait for."""
    module = sys.modules["_truth"]
    module.__spec__._initializing = True
    try:
        return _truth.median_cost(lambda: __import__("_truth"))
    finally:
        module.__spec__._initializing = False


def main():
    options = _truth.options(__doc__)
    turns, leader = _truth.Turns(options), _truth.Someone()
    came = collections.defaultdict(list)
    sys.dont_write_bytecode = True
    with tempfile.TemporaryDirectory() as folder:
        write_modules(folder, turns)
        workers = [(lead, leader)]
        # A few milliseconds later: the leader finds the file first, with a lock of another kind.
        for n in range(1, options.waiters + 1):
            workers.append((follow, leader, came, (n + 2) * _truth.MS))
        _truth.run("import", options, turns, workers, {"import": cost()})


if __name__ == "__main__":
    main()
