"""N threads store into one dict, and do nothing else."""

import _common


def store(stop, shared, me):
    while not stop.requested:
        for i in range(500):
            shared[(me, i)] = i


def main():
    options = _common.parser(__doc__, threads=6).parse_args()
    shared = {}
    stop = _common.arm(options.seconds)
    _common.announce(dict=shared)
    _common.join(_common.start([(store, stop, shared, k) for k in range(options.threads)]))


if __name__ == "__main__":
    main()
