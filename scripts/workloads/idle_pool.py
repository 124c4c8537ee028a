"""Workers that sit in queue.Queue.get() with a piece of work every 50 ms: idling, not contention."""

import queue
import time

import _common


def serve(tasks):
    while (task := tasks.get()) is not None:
        sum(range(task))


def main():
    options = _common.parser(__doc__).parse_args()
    tasks = queue.Queue()
    stop = _common.arm(options.seconds)
    _common.announce(queue=tasks, mutex=tasks.mutex)
    threads = _common.start([(serve, tasks)] * options.threads)
    while not stop.requested:
        tasks.put(1_000)
        time.sleep(0.05)
    for _ in threads:
        tasks.put(None)
    _common.join(threads)


if __name__ == "__main__":
    main()
