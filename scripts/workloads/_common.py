"""What every workload does alike: arguments, the first JSON line, a clean stop."""

import argparse
import json
import os
import signal
import threading


class Stop:
    """Set by SIGTERM, SIGINT or the --seconds timer; workers look at `requested` between batches.

    Not a threading.Event: its lock would show up in the traces, and setting it in a signal handler can
    deadlock with the thread that it interrupted.
    """

    requested = False

    def request(self, _signal=None, _frame=None):
        self.requested = True


def parser(doc, threads=4):
    arguments = argparse.ArgumentParser(description=doc)
    arguments.add_argument("--seconds", type=float, help="how long to run (default: until killed)")
    arguments.add_argument("--threads", type=int, default=threads, help=f"default {threads}")
    return arguments


def say(line):
    print(json.dumps(line), flush=True)


def announce(**objects):
    """Prints the line that tests compare addresses with."""

    def described(thing):
        kind = type(thing)
        prefix = "" if kind.__module__ in ("builtins", "__main__") else kind.__module__ + "."
        return {"type": prefix + kind.__qualname__, "id": hex(id(thing))}

    say({"pid": os.getpid(), "objects": {name: described(thing) for name, thing in objects.items()}})


def arm(seconds):
    """A Stop that the signals and, after `seconds`, a timer set. Call before starting threads."""
    stop = Stop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM):
        signal.signal(number, stop.request)
    if seconds is not None:
        # A timer, so that the main thread needs no polling wait of its own.
        signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-6))
    return stop


def start(workers, names="worker"):
    """Starts a thread for each (function, *arguments).

    The signals are blocked in the workers, so they always interrupt the main thread's join.
    """
    signals = {signal.SIGTERM, signal.SIGINT, signal.SIGALRM}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    threads = [
        threading.Thread(target=function, args=arguments, name=f"{names}-{number}")
        for number, (function, *arguments) in enumerate(workers, 1)
    ]
    for thread in threads:
        thread.start()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
    return threads


def join(threads):
    for thread in threads:
        thread.join()
