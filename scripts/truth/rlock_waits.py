"""One thread keeps a threading.RLock for a known time while others come for it."""

import threading

import _contend
import _truth

if __name__ == "__main__":
    lock = threading.RLock()
    what = _truth.thing("rlock", "contention", "_thread.RLock", "rlock.acquire", lock)
    _contend.run("rlock", __doc__, lock, what)
