"""Workloads of `cargo xtask bench overhead`: each counts its own operations in a file that is mapped.

    loads.py NAME --counters FILE [--threads N]
    loads.py --list

Whoever measures maps the same file and adds up its 64-bit numbers: nothing is asked of the program
while it runs. Each thread has a line of the cache to itself, and a view of its own, so that counting
is no contention. Prints "ready" when all threads run.
"""

import argparse
import http.server
import mmap
import os
import queue
import socketserver
import subprocess
import sys
import threading
import time

LINE = 64
SLOTS = 512


class Counter:
    """One thread's number in the file."""

    def __init__(self, path, slot):
        self.file = os.open(path, os.O_RDWR)
        self.map = mmap.mmap(self.file, SLOTS * LINE)
        self.slot = memoryview(self.map).cast("Q")[slot * LINE // 8 : slot * LINE // 8 + 1]
        self.n = 0

    def add(self, n):
        self.n += n
        self.slot[0] = self.n


def busy(seconds):
    """Uses the CPU for so long."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def in_threads(path, threads, work, first=0):
    """Runs work(counter, number) in each of so many threads."""

    def run(number):
        work(Counter(path, first + number), number)

    for number in range(threads):
        threading.Thread(target=run, args=(number,), daemon=True).start()


def token(path, _threads):
    """Two threads hand a token over two locks: every operation waits."""
    locks = threading.Lock(), threading.Lock()
    locks[1].acquire()

    def hand_over(counter, me):
        mine, theirs = locks[me], locks[1 - me]
        n, slot = 0, counter.slot
        while True:
            mine.acquire()
            theirs.release()
            n += 1
            slot[0] = n

    in_threads(path, 2, hand_over)


def short_holds(path, threads):
    """Threads that take one lock for a moment, with as much to do outside of it."""
    lock, shared = threading.Lock(), [0]

    def work(counter, _me):
        mine = 0
        while True:
            for _ in range(20):
                with lock:
                    shared[0] += 1
                for _ in range(10):
                    mine += 1
            counter.add(20)

    in_threads(path, threads, work)


def long_holds(path, threads):
    """Threads that hold one lock for 200 us at a time, and do 50 us of work outside of it."""
    lock = threading.Lock()

    def work(counter, _me):
        while True:
            with lock:
                busy(200e-6)
            busy(50e-6)
            counter.add(1)

    in_threads(path, threads, work)


def gil(path, threads):
    """Threads that compute in Python: with a GIL they pass it on every 5 ms."""

    def work(counter, _me):
        while True:
            x = 0
            for i in range(1000):
                x += i
            counter.add(1)

    in_threads(path, threads, work)


def dict_storm(path, threads):
    """Threads that store into one dict."""
    shared = {}

    def work(counter, me):
        while True:
            for i in range(100):
                shared[(me, i)] = i
            counter.add(100)

    in_threads(path, threads, work)


def list_storm(path, threads):
    """Threads that append to one list, and clear it now and then."""
    shared = []

    def work(counter, _me):
        while True:
            for i in range(100):
                shared.append(i)
            if len(shared) > 10_000:
                shared.clear()
            counter.add(100)

    in_threads(path, threads, work)


def attribute_storm(path, threads):
    """Threads that set attributes of one object."""

    class Account:
        pass

    shared = Account()

    def work(counter, _me):
        while True:
            for i in range(100):
                shared.balance = i
            counter.add(100)

    in_threads(path, threads, work)


def idle_pools(path, threads):
    """A thread that computes beside 50 idle workers, of which one gets work every 10 ms."""
    tasks = queue.Queue()

    def serve():
        while True:
            sum(range(tasks.get()))

    for _ in range(50):
        threading.Thread(target=serve, daemon=True).start()

    def feed():
        while True:
            time.sleep(0.01)
            tasks.put(1000)

    threading.Thread(target=feed, daemon=True).start()
    gil(path, 1)


def http_server(path, threads):
    """A threaded HTTP server; its clients are another process, each with a connection kept open."""
    local = threading.local()
    lock, slots = threading.Lock(), iter(range(SLOTS))

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self):
            if not hasattr(local, "counter"):
                with lock:
                    local.counter = Counter(path, next(slots))
            body = b"x" * 512
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            local.counter.add(1)

        def log_message(self, *_arguments):
            pass

    class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
        daemon_threads = True

    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    clients = [sys.executable, __file__, "clients", "--counters", str(server.server_port)]
    subprocess.Popen([*clients, "--threads", str(threads)])


def clients(port, threads):
    """The load of http_server: ends when its parent does."""
    import http.client

    parent = os.getppid()

    def work():
        connection = http.client.HTTPConnection("127.0.0.1", int(port))
        while os.getppid() == parent:
            connection.request("GET", "/")
            connection.getresponse().read()

    for _ in range(threads):
        threading.Thread(target=work).start()


def uncontended(path, _threads):
    """One thread with a lock, a dict and a list of its own."""

    def work(counter, _me):
        lock, mine, some = threading.Lock(), {}, []
        while True:
            for i in range(100):
                with lock:
                    mine[i] = i
                some.append(i)
            some.clear()
            counter.add(100)

    in_threads(path, 1, work)


LOADS = [
    token,
    short_holds,
    long_holds,
    gil,
    dict_storm,
    list_storm,
    attribute_storm,
    idle_pools,
    http_server,
    uncontended,
]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("load", nargs="?", choices=[load.__name__ for load in LOADS] + ["clients"])
    parser.add_argument("--counters", metavar="FILE", help=f"at least {SLOTS * LINE} bytes")
    parser.add_argument("--threads", type=int, default=6)
    parser.add_argument("--list", action="store_true", help="say what there is")
    options = parser.parse_args()
    if options.list or not options.load:
        for load in LOADS:
            print(f"{load.__name__:16} {load.__doc__}")
        return
    if options.load == "clients":
        clients(options.counters, options.threads)
        return
    {load.__name__: load for load in LOADS}[options.load](options.counters, options.threads)
    time.sleep(0.5)
    print("ready", flush=True)
    while True:
        time.sleep(3600)


if __name__ == "__main__":
    main()
