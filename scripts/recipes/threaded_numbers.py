"""Numbers in threads: factorials, matrix products and an n-body step, independent parts in a pool."""

import argparse
import math
from concurrent.futures import ThreadPoolExecutor


def factorials(first, last):
    return sum(math.factorial(n) % 1_000_003 for n in range(first, last))


def rows(a, b, first, last):
    columns = list(zip(*b))
    return [[sum(x * y for x, y in zip(row, column)) for column in columns] for row in a[first:last]]


def forces(bodies, first, last):
    out = []
    for x, y, z in bodies[first:last]:
        fx = fy = fz = 0.0
        for u, v, w in bodies:
            dx, dy, dz = u - x, v - y, w - z
            d = (dx * dx + dy * dy + dz * dz + 0.01) ** -1.5
            fx, fy, fz = fx + dx * d, fy + dy * d, fz + dz * d
        out.append((fx, fy, fz))
    return out


def parts(n, workers):
    step = -(-n // (4 * workers))
    return [(k, min(n, k + step)) for k in range(0, n, step)]


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--workers", type=int, default=2)
    workers = arguments.parse_args().workers
    size = 160
    a = [[(i * j) % 7 + 0.5 for j in range(size)] for i in range(size)]
    bodies = [(math.sin(k), math.cos(k), k % 17 / 17) for k in range(900)]
    with ThreadPoolExecutor(workers) as pool:
        done = [pool.submit(factorials, *part) for part in parts(1500, workers)]
        done += [pool.submit(rows, a, a, *part) for part in parts(size, workers)]
        done += [pool.submit(forces, bodies, *part) for part in parts(len(bodies), workers)]
        print(len([one.result() for one in done]))


if __name__ == "__main__":
    main()
