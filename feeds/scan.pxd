# The fast ways through a value; see the comments of the header. NULL: ask the careful scanners of feeds.levels.
from libc.stdint cimport int64_t, uint64_t


cdef extern from "scan.h" nogil:
    uint64_t feeds_load(const char* p)
    bint feeds_same(const char* p, const char* text, Py_ssize_t size)
    const char* feeds_literal(const char* p, const char* end, const char* text, Py_ssize_t size)
    const char* feeds_name(const char* p, const char* end, uint64_t* hash)
    const char* feeds_levels(const char* p, const char* end, int price_decimals, int qty_decimals, int64_t** at,
                             const int64_t* numbers_end)
    const char* feeds_decimal_text(const char* p, const char* end, int decimals, int64_t* mantissa)
    const char* feeds_quoted_decimal(const char* p, const char* end, int decimals, int64_t* mantissa)
    uint64_t feeds_digits(uint64_t chunk, int count)
    const char* feeds_integer_rest(const char* p, const char* end, int64_t number, int64_t* value)
    const char* feeds_number(const char* p, const char* end, int decimals, int64_t* mantissa)
    const char* feeds_integer(const char* p, const char* end, int64_t* value)
    const char* feeds_plain_text(const char* p, const char* end)
    const char* feeds_bool(const char* p, const char* end, int64_t* value)
    const char* feeds_any(const char* p, const char* end)
