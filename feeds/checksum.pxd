# Is our book the exchange's? Named after how the text is put together that the exchange takes the CRC-32 of.
from libc.stdint cimport int64_t

from feeds.book cimport OrderBook


# How a number is written.
cpdef enum NumberText:
    DIGITS = 0       # without its point and leading zeros: the mantissa at the instrument's decimals
    PADDED = 1       # all of the instrument's decimals: 12.1030
    SHORTEST = 2     # no zeros at the end: 12.103
    JAVASCRIPT = 3   # shortest, below 1e-6 with an exponent: 1e-7


cdef class Checksum:
    cdef:
        readonly int levels              # of each side, best first
        readonly NumberText number_text

    # Whether the checksum (unsigned) is that of the book.
    cdef bint matches(self, OrderBook book, int64_t checksum) except -1
    cdef bytes _text(self, OrderBook book)


cdef class SideBySideChecksum(Checksum):
    cdef bytes _zeros_text(self, OrderBook book, int price_zeros, int qty_zeros)


cdef class InterleavedChecksum(Checksum):
    cdef readonly bint asks_negative
