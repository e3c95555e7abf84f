# Large messages, of which the arrays of levels are read before anything else: by whoever has time for it.
from feeds.levels cimport Decimals, LevelVector


# The levels of one array, at the decimals that it needs.
cdef struct LargeArray:
    Py_ssize_t at            # where its placeholder stands in the text
    LevelVector bids         # or levels that do not say of which side they are
    LevelVector asks
    int price_decimals
    int qty_decimals


cdef struct LargeArrays:
    const char* text         # in which the placeholders stand
    Py_ssize_t size
    LargeArray* items
    int count


# If `p` is a placeholder: adds its levels as scan_shaped_levels would, moves p[0] behind it and returns the ScanStatus.
# -1: it is none. `large` may be NULL.
cdef int large_levels(const LargeArrays* large, const char** p, bint is_ask, LevelVector* bids, LevelVector* asks,
                      Decimals* decimals) noexcept nogil


cdef class LargeMessage:
    cdef:
        readonly bytes payload           # as it came
        readonly bytes text              # the same with a placeholder for each array that has been read
        LargeArrays arrays
        int _room

    cdef int _add(self, const char* at, LargeArray** added) except -1
