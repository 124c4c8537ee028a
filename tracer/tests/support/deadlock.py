"""Two threads that have each other's lock, for ever; a third one that waits behind them. The first
argument is the type of the locks. Prints a JSON line once they are stuck."""

import json
import sys
import threading
import time

new = getattr(threading, sys.argv[1])
left, right, both = new(), new(), threading.Barrier(2)


def pay(first, second):
    with first:
        both.wait()
        settle(second)


def settle(lock):
    with lock:
        raise AssertionError("no deadlock")


def audit():
    with left:
        raise AssertionError("no deadlock")


for name, target, locks in [
    ("payer", pay, (left, right)), ("payee", pay, (right, left)), ("auditor", audit, ()),
]:
    threading.Thread(target=target, name=name, args=locks, daemon=True).start()
    if name == "payee":
        time.sleep(0.3)
time.sleep(0.3)
print(json.dumps({"left": hex(id(left)), "right": hex(id(right))}), flush=True)
time.sleep(600)
