"""Sequential kernels: bubble sort, a sieve, the Mandelbrot set. One thread, no lock."""

import random


def bubble_sort(n):
    dice = random.Random(1)
    items = [dice.random() for _ in range(n)]
    for end in range(n - 1, 0, -1):
        for k in range(end):
            if items[k] > items[k + 1]:
                items[k], items[k + 1] = items[k + 1], items[k]
    return items[0]


def sieve(n):
    prime = bytearray([1]) * (n + 1)
    for k in range(2, int(n**0.5) + 1):
        if prime[k]:
            prime[k * k :: k] = bytes(len(range(k * k, n + 1, k)))
    return sum(prime) - 2


def mandelbrot(size, rounds=60):
    inside = 0
    for y in range(size):
        for x in range(size):
            c = complex(3 * x / size - 2, 2 * y / size - 1)
            z = 0j
            for _ in range(rounds):
                z = z * z + c
                if abs(z) > 2:
                    break
            else:
                inside += 1
    return inside


if __name__ == "__main__":
    print(bubble_sort(2500), sieve(4_000_000), mandelbrot(250))
