"""One thread keeps the only place of a threading.Semaphore for a known time while others come for it."""

import threading

import _contend
import _truth

if __name__ == "__main__":
    semaphore = threading.Semaphore(1)
    what = _truth.thing("semaphore", "contention", "threading.Semaphore", "semaphore.acquire", semaphore)
    _contend.run("semaphore", __doc__, semaphore, what)
