# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Times as exchanges write them, in ns since the epoch. ValueError for what is no time; 0 stands for unknown."""
from cpython.unicode cimport PyUnicode_AsUTF8AndSize
from libc.stdint cimport INT64_MAX, int64_t
from libc.string cimport memcmp

__all__ = ["iso_ns", "ms_ns", "seconds_ns", "unix_ns", "us_ns"]


def ms_ns(value):
    """Return a time in whole milliseconds, a number or its text."""
    return _scaled(int(value), 1_000_000, value)


def us_ns(value):
    """Return a time in whole microseconds, a number or its text."""
    return _scaled(int(value), 1_000, value)


def unix_ns(value):
    """Return a whole time, a number or its text, that tells its unit by its size: 10 digits s, 13 ms, 16 us, 19 ns."""
    cdef object number = int(value)
    if number < 100_000_000_000:
        return _scaled(number, 1_000_000_000, value)
    if number < 100_000_000_000_000:
        return _scaled(number, 1_000_000, value)
    if number < 100_000_000_000_000_000:
        return _scaled(number, 1_000, value)
    return _scaled(number, 1, value)


def seconds_ns(str value not None):
    """Return a time in seconds with a fraction, as text: "1618678142.557535". Digits beyond ns are dropped."""
    whole, _, fraction = value.partition(".")
    if not whole.isdecimal() or not (fraction.isdecimal() or not fraction):
        raise ValueError(f"expected seconds since the epoch, found {value[:40]!r}")
    return _scaled(int(whole) * 1_000_000_000 + int((fraction + "000000000")[:9]), 1, value)


cdef _scaled(object number, int64_t factor, object value):
    if not 0 <= number <= INT64_MAX // factor:
        raise ValueError(f"expected a time since the epoch, found {str(value)[:40]!r}")
    return number * factor


cdef inline int _digits(const char* p, int count) noexcept nogil:
    """Return the number that `count` digits are, -1 where one is none."""
    cdef int value = 0
    cdef int i
    for i in range(count):
        if not c'0' <= p[i] <= c'9':
            return -1
        value = value * 10 + (p[i] - c'0')
    return value


cdef int64_t _days(int year, int month, int day) noexcept nogil:
    """Days since 1970-01-01 in the Gregorian calendar, by eras of 400 years that begin in March."""
    cdef int64_t y = year - (month <= 2)
    cdef int64_t era = y // 400
    cdef int64_t of_era = y - era * 400
    cdef int64_t of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    return era * 146097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719468


def iso_ns(str value not None):
    """Return an ISO 8601 time in UTC: "2023-10-06T17:35:55.440295Z". Digits beyond ns are dropped; years before 1970 give 0."""
    cdef Py_ssize_t size
    cdef const char* p = PyUnicode_AsUTF8AndSize(value, &size)
    cdef int64_t ns = iso_time(p, size)
    if ns < 0:
        raise ValueError(f"expected a time like 2023-10-06T17:35:55.440295Z, found {value[:40]!r}")
    return ns


cdef int64_t iso_time(const char* p, Py_ssize_t size) noexcept nogil:
    cdef Py_ssize_t i = 19
    cdef int64_t ns = 0
    cdef int64_t unit = 100_000_000
    cdef int64_t seconds
    cdef int year, month, day, hour, minute, second
    if size < 19 or p[4] != c'-' or p[7] != c'-' or (p[10] != c'T' and p[10] != c' ') or p[13] != c':' or p[16] != c':':
        return -1
    year, month, day = _digits(p, 4), _digits(p + 5, 2), _digits(p + 8, 2)
    hour, minute, second = _digits(p + 11, 2), _digits(p + 14, 2), _digits(p + 17, 2)
    if not (0 <= year < 2262 and 1 <= month <= 12 and 1 <= day <= 31 and 0 <= hour < 24 and 0 <= minute < 60
            and 0 <= second <= 60):
        return -1
    if i < size and p[i] == c'.':
        i += 1
        while i < size and c'0' <= p[i] <= c'9':
            ns += (p[i] - c'0') * unit
            unit //= 10
            i += 1
    size -= i
    if not (size == 0 or (size == 1 and p[i] == c'Z') or (size == 6 and memcmp(p + i, b"+00:00", 6) == 0)
            or (size == 5 and memcmp(p + i, b"+0000", 5) == 0)):
        return -1
    seconds = (_days(year, month, day) * 24 + hour) * 3600 + minute * 60 + second
    return seconds * 1_000_000_000 + ns if seconds > 0 else 0
