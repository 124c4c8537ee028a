"""Threads that block inside, outside and on the way into `with` blocks; prints which locks each of
them is inside of, as [id(lock), depth of the frame], from what the program knows itself."""

import json
import threading
import time

gate = threading.Lock()
gate.acquire()
expected = {}


def block(*held):
    expected[threading.get_native_id()] = [[hex(id(lock)), depth] for lock, depth in held]
    gate.acquire()


def nested():
    a, b = threading.Lock(), threading.Lock()
    with a:
        with b:
            block((a, 1), (b, 1))


def in_one_statement():
    a, b = threading.Lock(), threading.RLock()
    with a, b:
        block((a, 1), (b, 1))


def in_two_frames():
    def inner():
        with b:
            block((b, 1), (a, 2))

    a, b = threading.Lock(), threading.Lock()
    with a:
        inner()


def left():
    a = threading.Lock()
    for _ in range(3):
        with a:
            pass
    a.acquire()
    block()


def left_by_an_exception():
    a = threading.Lock()
    try:
        with a:
            raise ValueError
    except ValueError:
        a.acquire()
        block()


def in_a_handler():
    a = threading.Lock()
    with a:
        try:
            raise ValueError
        except ValueError:
            block((a, 1))


def in_a_loop():
    a = threading.Lock()
    for _ in [1, 2]:
        for _ in {3: 4}:
            with a:
                try:
                    block((a, 1))
                finally:
                    pass


def entering():
    expected[threading.get_native_id()] = []
    with gate:
        pass


def entering_inside():
    a = threading.Lock()
    expected[threading.get_native_id()] = [[hex(id(a)), 0]]
    with a:
        with gate:
            pass


def in_a_generator():
    def values():
        with a:
            block((a, 1))
            yield

    a = threading.Lock()
    for _ in values():
        pass


def cells():
    a = threading.Lock()
    b = c = d = 1
    with a:
        list(map(lambda _: block((a, 2)), [b + c + d]))


def in_a_condition():
    lock = threading.Lock()
    condition = threading.Condition(lock)
    with condition:
        block((lock, 1))


def waiting_in_a_condition():
    lock, other = threading.Lock(), threading.Lock()
    condition = threading.Condition(lock)
    # Another one has the lock that this thread has let go.
    threading.Timer(0.1, lock.acquire).start()
    expected[threading.get_native_id()] = [[hex(id(other)), 2]]

    def wait():
        with lock:
            condition.wait()

    with other:
        wait()


class Account:
    def __init__(self):
        self.lock = threading.Lock()
        with self.lock:
            block((self.lock, 1))


ways = [
    nested, in_one_statement, in_two_frames, left, left_by_an_exception, in_a_handler, in_a_loop,
    entering, entering_inside, in_a_generator, cells, in_a_condition,
    waiting_in_a_condition, Account,
]
for way in ways:
    threading.Thread(target=way, name=getattr(way, "__name__"), daemon=True).start()
while len(expected) < len(ways):
    time.sleep(0.01)
names = {thread.native_id: thread.name for thread in threading.enumerate()}
time.sleep(0.3)
print(json.dumps({"threads": {
    str(tid): {"name": names[tid], "held": held} for tid, held in expected.items()
}}), flush=True)
time.sleep(600)
