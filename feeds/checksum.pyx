# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Checksums of books, as exchanges send them: CRC-32 of a text made of the best levels."""
from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from feeds.levels cimport PriceLevel

import zlib

__all__ = ["Checksum", "InterleavedChecksum", "NumberText", "SideBySideChecksum"]

cdef enum:
    MAX_NUMBER_SIZE = 48
    MAX_LEARNED_ZEROS = 8


cdef class Checksum:
    """A rule that makes a text of a book's best `levels` of each side; the checksum is its CRC-32. Base of the others."""

    def __init__(self, *, int levels, int number_text):
        if levels < 1:
            raise ValueError(f"expected at least 1 level, found {levels}")
        self.levels = levels
        self.number_text = <NumberText> number_text

    cdef bint matches(self, OrderBook book, int64_t checksum) except -1:
        return zlib.crc32(self._text(book)) == checksum

    cdef bytes _text(self, OrderBook book):
        raise NotImplementedError(f"{type(self).__name__} has no text")

    def of(self, OrderBook book not None):
        """Return the checksum of a book as it stands, unsigned."""
        return zlib.crc32(self._text(book))

    def text(self, OrderBook book not None):
        """Return the text that the checksum is of: for diagnosis."""
        return self._text(book).decode()


cdef class SideBySideChecksum(Checksum):
    """All asks, then all bids, price and quantity of each, with nothing between them. Kraken: ten levels, DIGITS.

    DIGITS need the decimals that the exchange uses. Where no metadata tells them, the messages may show fewer: then the first
    checksum that fits with more tells how many, and the instrument's decimals grow.
    """

    cdef bint matches(self, OrderBook book, int64_t checksum) except -1:
        cdef int price_zeros
        cdef int qty_zeros
        if Checksum.matches(self, book, checksum):
            return True
        if self.number_text != DIGITS or book.instrument.tick_size is not None:
            return False
        for price_zeros in range(MAX_LEARNED_ZEROS + 1):
            for qty_zeros in range(MAX_LEARNED_ZEROS + 1):
                if zlib.crc32(self._zeros_text(book, price_zeros, qty_zeros)) == checksum:
                    try:
                        book.instrument.grow(book.price_decimals + price_zeros, book.qty_decimals + qty_zeros)
                        book.rescale()
                    except (OverflowError, ValueError):
                        return False
                    return True
        return False

    cdef bytes _text(self, OrderBook book):
        return self._zeros_text(book, 0, 0)

    cdef bytes _zeros_text(self, OrderBook book, int price_zeros, int qty_zeros):
        """The text with zeros behind every price and every quantity."""
        cdef PriceLevel* levels = <PriceLevel*> malloc(self.levels * sizeof(PriceLevel))
        cdef char* text = <char*> malloc(self.levels * 4 * MAX_NUMBER_SIZE)
        cdef char* p = text
        cdef Py_ssize_t i
        cdef Py_ssize_t count
        cdef int side
        try:
            if levels == NULL or text == NULL:
                raise MemoryError()
            for side in range(1, -1, -1):
                count = book.top(side, self.levels, levels)
                for i in range(count):
                    p = _write(p, levels[i].price, book.price_decimals, self.number_text)
                    memset(p, c'0', price_zeros)
                    p = _write(p + price_zeros, levels[i].qty, book.qty_decimals, self.number_text)
                    memset(p, c'0', qty_zeros)
                    p += qty_zeros
            return text[:p - text]
        finally:
            free(levels)
            free(text)


cdef class InterleavedChecksum(Checksum):
    """Best bid, best ask, second bid, second ask and so on, price and quantity of each, colons between all.

    Where one side is shorter its entries are missing. OKX and Bitget: 25 levels. Bitfinex: 25 levels, JAVASCRIPT, and the
    quantities of asks are negative.
    """

    def __init__(self, *, int levels, int number_text, bint asks_negative=False):
        Checksum.__init__(self, levels=levels, number_text=number_text)
        self.asks_negative = asks_negative

    cdef bytes _text(self, OrderBook book):
        cdef PriceLevel* levels = <PriceLevel*> malloc(2 * self.levels * sizeof(PriceLevel))
        cdef char* text = <char*> malloc(self.levels * 4 * (MAX_NUMBER_SIZE + 1))
        cdef char* p = text
        cdef PriceLevel* level
        cdef Py_ssize_t counts[2]
        cdef Py_ssize_t i
        cdef int side
        try:
            if levels == NULL or text == NULL:
                raise MemoryError()
            counts[0] = book.top(0, self.levels, levels)
            counts[1] = book.top(1, self.levels, levels + self.levels)
            for i in range(self.levels):
                for side in range(2):
                    if i >= counts[side]:
                        continue
                    level = &levels[side * self.levels + i]
                    p = _write(p, level.price, book.price_decimals, self.number_text)
                    p[0] = c':'
                    p = _write(p + 1, -level.qty if side == 1 and self.asks_negative else level.qty, book.qty_decimals,
                               self.number_text)
                    p[0] = c':'
                    p += 1
            return text[:p - text - 1] if p > text else b""
        finally:
            free(levels)
            free(text)


cdef char* _write(char* p, int64_t mantissa, int decimals, NumberText form) noexcept:
    """Write a number and return what is behind it: at most MAX_NUMBER_SIZE bytes."""
    cdef char[24] digits             # from the last one
    cdef int count = 0
    cdef int i
    cdef int exponent
    if mantissa < 0:
        p[0] = c'-'
        p += 1
        mantissa = -mantissa
    if form == DIGITS:
        decimals = 0
    elif form != PADDED:
        while decimals and mantissa % 10 == 0:
            mantissa //= 10
            decimals -= 1
    while mantissa or count == 0:
        digits[count] = <char> (c'0' + mantissa % 10)
        mantissa //= 10
        count += 1
    if form == JAVASCRIPT and decimals - count >= 6:     # JavaScript: 0.000001, but 1e-7
        p[0] = digits[count - 1]
        p += 1
        if count > 1:
            p[0] = c'.'
            p += 1
            for i in range(count - 2, -1, -1):
                p[0] = digits[i]
                p += 1
        exponent = decimals - count + 1
        p[0] = c'e'
        p[1] = c'-'
        p += 2
        if exponent >= 10:
            p[0] = <char> (c'0' + exponent // 10)
            p += 1
        p[0] = <char> (c'0' + exponent % 10)
        return p + 1
    while count <= decimals:                             # 0.05: a digit before the point
        digits[count] = c'0'
        count += 1
    for i in range(count - 1, -1, -1):
        if i == decimals - 1:
            p[0] = c'.'
            p += 1
        p[0] = digits[i]
        p += 1
    return p
