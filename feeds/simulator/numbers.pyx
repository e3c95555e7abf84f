# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Ticks and lots as the text that goes on the wire."""
from cpython.unicode cimport PyUnicode_AsUTF8AndSize, PyUnicode_FromStringAndSize
from libc.stdint cimport INT64_MIN, int64_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from datetime import datetime, timezone

__all__ = ["Numbers", "decimal", "iso", "shortest"]

cdef extern from *:
    bint __builtin_mul_overflow(int64_t, int64_t, int64_t*) noexcept nogil

cdef enum:
    MAX_SHOWN = 40               # decimals
    MAX_TEXT = 64                # of a number: with a sign and a point, 20 digits, MAX_SHOWN zeros

cdef int64_t _second = INT64_MIN # the last one that was written
cdef str _second_text = ""


def decimal(int64_t mantissa, int decimals, int shown):
    """Write `mantissa / 10**decimals` with `shown` decimals, `shown >= decimals`."""
    cdef:
        char[MAX_TEXT] text
        char* end = text + MAX_TEXT
        char* start
    _check(decimals, shown)
    start = _write(end, mantissa, decimals, shown, False)
    return PyUnicode_FromStringAndSize(start, end - start)


def shortest(str text not None):
    """Leave the zeros at the end of a decimal out."""
    return text.rstrip("0").rstrip(".") if "." in text else text


cdef class Numbers:
    """Prices and quantities of one market: with the market's decimals, with more, or as short as they can be."""

    cdef:
        int64_t _tick
        int64_t _lot
        int _price_decimals
        int _qty_decimals
        int _shown_price
        int _shown_qty
        bint _is_short

    def __init__(self, market, shown_price=None, shown_qty=None, *, bint is_short=False):
        self._tick, self._price_decimals = market.tick, market.price_decimals
        self._lot, self._qty_decimals = market.lot, market.qty_decimals
        self._shown_price = market.price_decimals if shown_price is None else shown_price
        self._shown_qty = market.qty_decimals if shown_qty is None else shown_qty
        self._is_short = is_short
        _check(self._price_decimals, self._shown_price)
        _check(self._qty_decimals, self._shown_qty)

    def price(self, int64_t ticks):
        """Write a price."""
        cdef:
            char[MAX_TEXT] text
            char* end = text + MAX_TEXT
            char* start = self._write_price(end, ticks)
        return PyUnicode_FromStringAndSize(start, end - start)

    def qty(self, int64_t lots):
        """Write a quantity."""
        cdef:
            char[MAX_TEXT] text
            char* end = text + MAX_TEXT
            char* start = self._write_qty(end, lots)
        return PyUnicode_FromStringAndSize(start, end - start)

    def levels(self, levels, str before not None='["', str between not None='","', str after not None='"]',
               str separator not None=","):
        """Write levels, (ticks, lots) each, with texts before, between and behind the two numbers of each."""
        cdef:
            list known
            char* text
            char* at
            char[MAX_TEXT] number
            char* end = number + MAX_TEXT
            char* start
            Text opening = _text(before), middle = _text(between), closing = _text(after), parting = _text(separator)
        if type(self) is not Numbers:
            price, qty = self.price, self.qty
            return separator.join([f"{before}{price(ticks)}{between}{qty(lots)}{after}" for ticks, lots in levels])
        known = list(levels)
        if not known:
            return ""
        text = <char*> malloc(
            len(known) * (2 * MAX_TEXT + opening.size + middle.size + closing.size + parting.size)
        )
        if text == NULL:
            raise MemoryError(f"no room to write {len(known)} levels")
        try:
            at = text
            for ticks, lots in known:
                if at != text:
                    at = _put(at, parting.data, parting.size)
                at = _put(at, opening.data, opening.size)
                start = self._write_price(end, ticks)
                at = _put(at, start, end - start)
                at = _put(at, middle.data, middle.size)
                start = self._write_qty(end, lots)
                at = _put(at, start, end - start)
                at = _put(at, closing.data, closing.size)
            return PyUnicode_FromStringAndSize(text, at - text)
        finally:
            free(text)

    cdef char* _write_price(self, char* end, int64_t ticks) except NULL:
        return _write(end, _times(ticks, self._tick), self._price_decimals, self._shown_price, self._is_short)

    cdef char* _write_qty(self, char* end, int64_t lots) except NULL:
        return _write(end, _times(lots, self._lot), self._qty_decimals, self._shown_qty, self._is_short)


def iso(int64_t ts, Py_ssize_t digits=6):
    """Write a time (ns since the epoch) as 2023-10-06T17:35:55.440295Z."""
    global _second, _second_text
    cdef int64_t second = ts // 1_000_000_000
    if second != _second:
        _second, _second_text = second, f"{datetime.fromtimestamp(second, timezone.utc):%Y-%m-%dT%H:%M:%S}"
    fraction = f"{ts % 1_000_000_000:09d}"
    return f"{_second_text}.{fraction[:digits]}Z"


cdef struct Text:
    const char* data             # of a str that the caller keeps
    Py_ssize_t size


cdef Text _text(str text) except *:
    cdef Text found
    found.data = PyUnicode_AsUTF8AndSize(text, &found.size)
    return found


cdef inline char* _put(char* at, const char* data, Py_ssize_t size) noexcept:
    memcpy(at, data, size)
    return at + size


cdef inline int64_t _times(int64_t count, int64_t unit) except? -1:
    cdef int64_t product
    if __builtin_mul_overflow(count, unit, &product):
        raise OverflowError(f"expected a number of 64 bits, found {count} times {unit}")
    return product


cdef int _check(int decimals, int shown) except -1:
    if not 0 <= decimals <= shown <= MAX_SHOWN:
        raise ValueError(f"expected decimals from 0 to those shown, at most {MAX_SHOWN}, found {decimals} and {shown}")
    return 0


# Writes in front of `end`, and returns where the text begins.
cdef char* _write(char* end, int64_t mantissa, int decimals, int shown, bint is_short) noexcept:
    cdef:
        char* at = end
        uint64_t rest = <uint64_t> mantissa if mantissa >= 0 else 0 - <uint64_t> mantissa
        int i
        char digit
    if not is_short:
        for i in range(shown - decimals):
            at -= 1
            at[0] = c'0'
    for i in range(decimals):
        digit = <char> (rest % 10)
        rest //= 10
        if digit or at != end or not is_short:
            at -= 1
            at[0] = <char> (c'0' + digit)
    if at != end:
        at -= 1
        at[0] = c'.'
    while True:
        at -= 1
        at[0] = <char> (c'0' + rest % 10)
        rest //= 10
        if not rest:
            break
    if mantissa < 0:
        at -= 1
        at[0] = c'-'
    return at
