"""N CPU-only threads that share nothing: with the GIL, waits for the GIL and no other."""

import _common


def spin(stop):
    value = 0
    while not stop.requested:
        for i in range(10_000):
            value = (value * 31 + i) & 0xFFFF


def main():
    options = _common.parser(__doc__).parse_args()
    stop = _common.arm(options.seconds)
    _common.announce()
    _common.join(_common.start([(spin, stop)] * options.threads))


if __name__ == "__main__":
    main()
