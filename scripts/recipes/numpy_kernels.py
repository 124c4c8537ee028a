"""NumPy: vectors, a matrix product, a Fourier transform. The work is inside single calls."""

import sys

try:
    import numpy
except ImportError:
    sys.exit("this recipe needs NumPy in both interpreters (pip install numpy)")


def main():
    vector = numpy.arange(20_000_000, dtype=numpy.float64)
    print(float(numpy.sqrt(vector).sum()))
    matrix = numpy.random.default_rng(1).random((1500, 1500))
    print(float((matrix @ matrix).trace()))
    print(float(abs(numpy.fft.fft(vector[: 1 << 22])).max()))


if __name__ == "__main__":
    main()
