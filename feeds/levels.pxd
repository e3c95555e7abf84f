# Price levels and decimal numbers, read from JSON text into C integers without a detour through Python or a double.
from libc.stdint cimport int8_t, int64_t, uint64_t


cdef struct PriceLevel:
    int64_t price            # mantissas at the instrument's decimals
    int64_t qty


# A growable array that its holder allocates lazily and frees with levels_free.
cdef struct LevelVector:
    PriceLevel* items
    Py_ssize_t size
    Py_ssize_t capacity


cdef enum ScanStatus:
    SCAN_OK = 0
    SCAN_BAD = 1             # not the JSON that was expected here
    SCAN_OVERFLOW = 2        # a number whose mantissa does not fit int64 at the given decimals
    SCAN_GROW = 3            # a number with more decimals than given: `Decimals.needed_*` says how many
    SCAN_NO_MEMORY = 4
    SCAN_TOO_MANY = 5        # more levels than MAX_LEVELS in one array
    SCAN_NEGATIVE = 6        # a quantity below 0


# In: the decimals of mantissas to produce. Out: the decimals that the text needs, at least those given.
cdef struct Decimals:
    int price
    int qty
    int needed_price
    int needed_qty


# JSON to find in a message; the LevelShape owns it. Readable 8 bytes further.
cdef struct Text:
    const char* data
    Py_ssize_t size


cdef enum LevelPart:
    LEVEL_PRICE = 0
    LEVEL_QTY = 1
    LEVEL_SIDE = 2
    LEVEL_REMOVAL = 3


# A part of a level that is behind a key, or at a position of an array.
cdef struct LevelField:
    LevelPart part
    int bit                  # says that it has been found
    Text key                 # as messages have it: "px":
    uint64_t head            # its first bytes, and which of eight they are
    uint64_t head_mask


# The C side of a LevelShape.
cdef struct Shape:
    bint is_plain            # [price, qty, ...] and nothing else to know
    bint is_mostly_plain     # the same, but for levels that are rare: numbers below 0, and texts that are skipped
    bint is_object
    int field_count          # 1 to 4: each must be in every level
    LevelField fields[4]
    int8_t field_at[32]      # by position in an array: index in `fields`, -1 for what is skipped
    int side_count
    int bid_count            # so many of `sides` mean a bid, the others an ask
    Text sides[8]
    Text removal
    int skip_count
    Text skips[4]            # quantities of levels that are left out
    int price_scale
    int qty_scale
    bint has_signs           # a negative quantity is an ask
    bint skip_zero_price     # a level at 0 is padding
    bint negative_removes    # a quantity below 0 counts as 0
    bint padded              # numbers have all of the instrument's decimals: zeros at the end count


cdef int64_t[19] POW10       # POW10[d] == 10**d

cdef inline const char* skip_space(const char* p, const char* end) noexcept nogil:
    if p < end and p[0] > c' ':                      # exchanges send none
        return p
    while p < end and (p[0] == c' ' or p[0] == c'\n' or p[0] == c'\t' or p[0] == c'\r'):
        p += 1
    return p

# Every scan_* reads from p[0], stays below `end`, and on SCAN_OK and SCAN_GROW leaves p[0] behind what it read.
# A number: -12.340e-5. On SCAN_GROW, needed[0] is raised to the decimals that it needs.
cdef int scan_number(const char** p, const char* end, int decimals, int64_t* mantissa, int* needed) noexcept nogil
# The same, quoted, or bare as JSON has it (no leading zeros).
cdef int scan_number_value(const char** p, const char* end, int decimals, int64_t* mantissa, int* needed) noexcept nogil
# The same where zeros at the end count: SCAN_GROW where more decimals stand there than given.
cdef int scan_padded_value(const char** p, const char* end, int decimals, int64_t* mantissa, int* needed) noexcept nogil
# An int64 without fraction or exponent.
cdef int scan_integer(const char** p, const char* end, int64_t* value) noexcept nogil
# [[price, qty, ...], ...]: what follows price and qty inside a level is skipped. The levels are added to `out`, which after
# anything but SCAN_OK holds some of them: the caller empties it.
cdef int scan_levels(const char** p, const char* end, LevelVector* out, Decimals* decimals) noexcept nogil
# The same of any shape: levels go to the side that they say, those that say none to `asks` or `bids` as `is_ask` says.
cdef int scan_shaped_levels(const char** p, const char* end, const Shape* shape, LevelVector* bids, LevelVector* asks,
                            bint is_ask, Decimals* decimals) noexcept nogil
# Any JSON value, nested at most 64 deep. Strict, and stricter than JSON where that is rare: SCAN_BAD for strings with escapes.
cdef int skip_value(const char** p, const char* end) noexcept nogil

# The double nearest to mantissa / 10**decimals, and the number itself as a Decimal, whatever the decimal context.
cdef double mantissa_float(int64_t mantissa, int decimals) except? -1
cdef object mantissa_decimal(int64_t mantissa, int decimals)

cdef int levels_push(LevelVector* levels, int64_t price, int64_t qty) noexcept nogil
cdef int levels_copy(LevelVector* target, const LevelVector* source) noexcept nogil
cdef void levels_free(LevelVector* levels) noexcept nogil


cdef class LevelShape:
    cdef:
        Shape shape
        readonly bint has_side       # levels say of which side they are
        list _texts                  # what `shape` points into
        str _text

    cdef int _add_field(self, LevelPart part, object where) except -1
    cdef int _set_sides(self, object side, object bid, object ask) except -1
    cdef int _set_skips(self, tuple values) except -1
    cdef int _set_text(self, Text* text, bytes data, bytes behind=*) except -1
