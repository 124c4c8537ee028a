# Threads blocked at known places. Each notes its own stack on the very line where it blocks; the
# first line printed is {"threads": {native id: {"name": ..., "frames": [[function, file, line]...]}}}.
import json
import signal
import sys
import threading
import time
import types

gate = threading.Lock()
gate.acquire()
blocking = threading.local()  # .now: this thread has warmed up
threads = {}


def note():
    """True, and the caller's stack noted, once it is time to block: `note() and gate.acquire()`."""
    if not hasattr(blocking, "now"):
        return False
    frame, frames = sys._getframe(1), []
    while frame:
        code = frame.f_code
        frames.append([code.co_qualname, code.co_filename, frame.f_lineno])
        frame = frame.f_back
    name = threading.current_thread().name
    threads[threading.get_native_id()] = {"name": name, "frames": frames}
    return True


def recursion(n=100):
    if n > 1:
        return recursion(n - 1)
    return note() and gate.acquire()


def deep_recursion():
    recursion(200)


def plain():
    note() and gate.acquire()


def multi_line_call():
    return max(
        0,
        *[1, 2],
        key=lambda number:
            note() and gate.acquire(),
    )


def generator():
    def numbers():
        yield 1
        yield note() and gate.acquire()

    return [number for number in numbers()]


def delegating_generator():
    def inner():
        yield note() and gate.acquire()

    def outer():
        yield from inner()

    return list(outer())


def generator_expression():
    return sum(bool(note() and gate.acquire()) for _ in "a")


def coroutine():
    async def inner():
        return note() and gate.acquire()

    async def outer():
        return await inner()

    try:
        outer().send(None)
    except StopIteration:
        pass


@types.coroutine
def switch():
    yield


def resumed_coroutine():
    async def work():
        await switch()
        return note() and gate.acquire()

    running = work()
    running.send(None)
    try:
        running.send(None)
    except StopIteration:
        pass


def asynchronous_generator():
    async def numbers():
        yield note() and gate.acquire()

    async def work():
        async for _ in numbers():
            pass

    try:
        work().send(None)
    except StopIteration:
        pass


class Place:
    def method(self):
        return note() and gate.acquire()

    @classmethod
    def class_method(cls):
        return note() and gate.acquire()

    @staticmethod
    def static_method():
        return note() and gate.acquire()

    @property
    def value(self):
        return note() and gate.acquire()

    def __eq__(self, other):
        note() and gate.acquire()
        return True

    def __lt__(self, other):
        note() and gate.acquire()
        return True

    def __enter__(self):
        return note() and gate.acquire()

    def __exit__(self, *_):
        pass

    def __getattr__(self, name):
        return note() and gate.acquire()

    class Inner:
        def method(self):
            return note() and gate.acquire()


class Made:
    def __init__(self):
        note() and gate.acquire()


class Derived(Made):
    def __init__(self):
        super().__init__()


def method():
    Place().method()


def class_method():
    Place.class_method()


def static_method():
    Place.static_method()


def property_value():
    return Place().value


def equality():
    return Place() == Place()


def ordering():
    return sorted([Place(), Place()])


def context_manager():
    with Place():
        pass


def missing_attribute():
    return Place().missing


def inner_class():
    Place.Inner().method()


def constructor():
    return Made()


def derived_constructor():
    return Derived()


def class_body():
    class Body:
        noted = note() and gate.acquire()

    return Body


anonymous = lambda: note() and gate.acquire()  # noqa: E731


def nested():
    def middle():
        def innermost():
            return note() and gate.acquire()

        return innermost()

    return middle()


def list_comprehension():
    return [
        note() and gate.acquire()
        for _ in "a"
    ]


def dict_comprehension():
    return {key: note() and gate.acquire() for key in "a"}


def decorate(function):
    def wrapper(*arguments):
        return function(*arguments)

    return wrapper


@decorate
@decorate
def decorated():
    return note() and gate.acquire()


def sort_key():
    return sorted([3, 1, 2], key=lambda n: n == 1 and note() and gate.acquire() or n)


def mapped():
    return list(map(anonymous_of_one, [1]))


anonymous_of_one = lambda _: anonymous()  # noqa: E731


def handler():
    try:
        raise KeyError
    except KeyError:
        note() and gate.acquire()
    finally:
        pass


def looping():
    for n in range(1000):
        if n == 999:
            note() and gate.acquire()


def café():
    note() and gate.acquire()


def 待つ():
    note() and gate.acquire()


def 𠀀𠀁():
    note() and gate.acquire()


source = "\n" * 40 + """
def outer():
    return note() and gate.acquire()

outer()
"""
executed_code = compile(source, "/no/such/folder/файл.py", "exec")


def executed():
    exec(executed_code, {"note": note, "gate": gate})


# A line table of many entries, with instructions that need EXTENDED_ARG.
long_source = "def long(x):\n" + "".join(f"    a{n} = x + {n}\n" for n in range(3000))
long_source += "    return note() and gate.acquire()\n"
exec(compile(long_source, "long.py", "exec"))

# The name is cut, the file's kept.
long_name = "n" * 1000
exec(f"def {long_name}(): note() and gate.acquire()")


def long_function():
    return long(1)


def gone_over():
    return globals()[long_name]()


class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "lockwatt_no_such_module":
            note() and gate.acquire()
        return None


def importing():
    try:
        import lockwatt_no_such_module  # noqa: F401
    except ImportError:
        pass


sys.meta_path.insert(0, Finder)
cases = [
    recursion, deep_recursion, plain, multi_line_call, generator, delegating_generator,
    generator_expression, coroutine, resumed_coroutine, asynchronous_generator, method,
    class_method, static_method, property_value, equality, ordering, context_manager,
    missing_attribute, inner_class, constructor, derived_constructor, class_body, anonymous,
    nested, list_comprehension, dict_comprehension, decorated, sort_key, mapped, handler, looping,
    café, 待つ, 𠀀𠀁, executed, long_function, gone_over, importing,
]


def run(number, case):
    if number % 5 == 0:
        threading.current_thread().name = f"название-{number}"
    # Free-threaded builds specialise bytecode thread by thread.
    for _ in range(60 if "--warm" in sys.argv else 0):
        case()
    blocking.now = True
    case()


class Worker(threading.Thread):
    """Has attributes of its own in front, and a dict that somebody looked at."""

    def __init__(self, **arguments):
        self.before = 1
        super().__init__(**arguments)
        self.after = 2
        self.__dict__["later"] = 3


class Crowded(threading.Thread):
    """More attributes than a shared-key dict has room for."""

    def __init__(self, **arguments):
        super().__init__(**arguments)
        for n in range(100):
            setattr(self, f"attribute_{n}", n)


for number, case in enumerate(cases):
    kind = [threading.Thread, Worker, Crowded][number % 3]
    name = f"{case.__name__[:20]}-{number}" if number % 5 else f"an old name {number}"
    kind(target=run, args=(number, case), name=name, daemon=True).start()
while len(threads) < len(cases):
    time.sleep(0.01)
if "--release" in sys.argv:
    print(json.dumps({"threads": threads}), flush=True)
    signal.sigwait([signal.SIGUSR1])
    # Some come back for more.
    for _ in range(4 * len(cases)):
        try:
            gate.release()
        except RuntimeError:
            pass  # nobody had come back yet
        time.sleep(0.002)
    time.sleep(600)
blocking.now = True
note(); print(json.dumps({"threads": threads}), flush=True); gate.acquire()
