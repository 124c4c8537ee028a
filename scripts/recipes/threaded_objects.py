"""Objects in threads: each worker puts strings in upper case, in its own part of one list that all share
(--shared), or in a list of its own. The first fights for the list's lock at each store."""

import argparse
import threading


def in_place(records, first, last, rounds):
    for _ in range(rounds):
        for k in range(first, last):
            records[k] = records[k].upper()


def copied(records, first, last, rounds):
    for _ in range(rounds):
        own = []
        for k in range(first, last):
            own.append(records[k].upper())


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--workers", type=int, default=2)
    arguments.add_argument("--records", type=int, default=400_000)
    arguments.add_argument("--rounds", type=int, default=10)
    arguments.add_argument("--shared", action="store_true")
    options = arguments.parse_args()
    records = [f"record {k}" for k in range(options.records)]
    step = options.records // options.workers
    work = in_place if options.shared else copied
    threads = [
        threading.Thread(target=work, args=(records, k * step, (k + 1) * step, options.rounds))
        for k in range(options.workers)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
