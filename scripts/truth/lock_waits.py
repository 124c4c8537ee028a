"""One thread keeps a threading.Lock for a known time while others come for it."""

import threading

import _contend
import _truth

if __name__ == "__main__":
    lock = threading.Lock()
    what = _truth.thing("lock", "contention", "_thread.lock", "lock.acquire", lock)
    _contend.run("lock", __doc__, lock, what)
