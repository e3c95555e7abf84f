# cython: language_level=3, boundscheck=False, wraparound=False
"""Large messages: their levels are read at any time and in any thread, the rest when it is their turn.

A snapshot of five megabytes takes longer to read than other feeds of the process should wait. Nearly all of it is levels, and
to read them needs nothing but the text. So `take_apart` does that first, without the GIL, and leaves a text with a placeholder
for each array. What decodes this text has little to do and gets the same levels.
"""
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memchr, memcmp, memset

from feeds.levels cimport (
    POW10, SCAN_GROW, SCAN_NO_MEMORY, SCAN_OK, SCAN_OVERFLOW, LevelShape, PriceLevel, Shape, levels_copy, levels_free,
    levels_push, scan_shaped_levels,
)

__all__ = ["LargeMessage", "take_apart"]

cdef enum:
    MIN_ARRAY = 16 * 1024    # bytes; what is shorter stays in the text
    MAX_ARRAYS = 64
    SAMPLE = 2048            # bytes
    MAX_DECIMALS = 18
    MAX_KEYS = 8
    PLACEHOLDER_SIZE = 3

PLACEHOLDER = b"[0]"         # no level: whoever does not know it for what it is refuses it

cdef extern from *:
    """
    #define feeds_times(a, b, out) __builtin_mul_overflow((a), (b), (out))
    """
    bint feeds_times(int64_t a, int64_t b, int64_t* out) nogil


cdef struct Key:
    const char* text         # "asks":
    Py_ssize_t size
    const Shape* shape


cdef class LargeMessage:
    """A message whose large arrays of levels have been read. Made by `take_apart`."""

    def __dealloc__(self):
        cdef int i
        for i in range(self.arrays.count):
            levels_free(&self.arrays.items[i].bids)
            levels_free(&self.arrays.items[i].asks)
        free(self.arrays.items)

    @property
    def array_count(self):
        """How many arrays have been read."""
        return self.arrays.count

    cdef int _add(self, const char* at, LargeArray** added) except -1:
        cdef LargeArray* items
        if self.arrays.count == self._room:
            items = <LargeArray*> realloc(self.arrays.items, (self._room + 4) * sizeof(LargeArray))
            if items == NULL:
                raise MemoryError("no room for the arrays of a large message")
            self.arrays.items = items
            self._room += 4
        added[0] = &self.arrays.items[self.arrays.count]
        memset(added[0], 0, sizeof(LargeArray))
        self.arrays.count += 1
        return 0


def take_apart(bytes payload not None, tuple arrays not None):
    """Return a `LargeMessage`, or None where there is nothing to take apart. Needs no decoder, and no GIL for long.

    `arrays` says which may be large: (name, LevelShape), at most 8. Those of 16 KiB and more that are as declared are read.
    """
    cdef:
        const char* begin = PyBytes_AS_STRING(payload)
        const char* end = begin + PyBytes_GET_SIZE(payload)
        const char* p = begin
        const char* behind
        const char* copied = begin
        Key keys[MAX_KEYS]
        int count = 0
        LargeMessage message = LargeMessage.__new__(LargeMessage)
        LargeArray* array
        LargeArray read
        list pieces = []
        list names = []
        Py_ssize_t size = 0
    if len(arrays) > MAX_KEYS:
        raise ValueError(f"expected at most {MAX_KEYS} names of arrays, found {len(arrays)}")
    for name, shape in arrays:
        names.append(f'"{name}":'.encode())
        keys[count].text = <bytes> names[count]
        keys[count].size = len(<bytes> names[count])
        keys[count].shape = &(<LevelShape?> shape).shape
        count += 1
    while message.arrays.count < MAX_ARRAYS:
        with nogil:
            p = _next_array(p, begin, end, keys, count, &read, &behind)
        if p == NULL:
            break
        try:
            message._add(p, &array)
        except MemoryError:
            levels_free(&read.bids)
            levels_free(&read.asks)
            raise
        array[0] = read
        pieces.append(copied[:p - copied])
        size += p - copied
        array.at = size
        pieces.append(PLACEHOLDER)
        size += PLACEHOLDER_SIZE
        p = copied = behind
    if not pieces:
        return None
    pieces.append(copied[:end - copied])
    message.payload = payload
    message.text = b"".join(pieces)
    message.arrays.text = message.text
    message.arrays.size = len(message.text)
    return message


cdef const char* _next_array(const char* p, const char* begin, const char* end, const Key* keys, int count, LargeArray* read,
                             const char** behind) noexcept nogil:
    """Read the next array that is large and has one of the names; return where it begins, NULL where there is none."""
    cdef int i
    while True:
        p = <const char*> memchr(p, c'[', end - p)
        if p == NULL:
            return NULL
        for i in range(count):
            # A quote inside a text stands behind a backslash.
            if (p - begin > keys[i].size and memcmp(p - keys[i].size, keys[i].text, keys[i].size) == 0
                    and (p - keys[i].size - 1)[0] != c'\\' and _read(p, end, keys[i].shape, read, behind)):
                return p
        p += 1


cdef bint _read(const char* p, const char* end, const Shape* shape, LargeArray* read, const char** behind) noexcept nogil:
    """Read an array at the decimals that it needs. False: it is small, or not what was expected."""
    cdef Decimals decimals
    cdef int status = SCAN_GROW
    memset(read, 0, sizeof(LargeArray))
    memset(&decimals, 0, sizeof(Decimals))
    # The first levels mostly say how many decimals all have: with these one more reading is enough.
    behind[0] = p
    scan_shaped_levels(behind, min(end, p + SAMPLE), shape, &read.bids, &read.asks, False, &decimals)
    while status == SCAN_GROW:
        decimals.price, decimals.qty = decimals.needed_price, decimals.needed_qty
        if decimals.price > MAX_DECIMALS or decimals.qty > MAX_DECIMALS:
            break
        read.bids.size = read.asks.size = 0
        behind[0] = p
        status = scan_shaped_levels(behind, end, shape, &read.bids, &read.asks, False, &decimals)
    if status == SCAN_OK and behind[0] - p >= MIN_ARRAY:
        read.price_decimals, read.qty_decimals = decimals.price, decimals.qty
        return True
    levels_free(&read.bids)
    levels_free(&read.asks)
    return False


cdef int large_levels(const LargeArrays* large, const char** p, bint is_ask, LevelVector* bids, LevelVector* asks,
                      Decimals* decimals) noexcept nogil:
    cdef LargeArray* array = NULL
    cdef int i
    cdef int status
    if large == NULL or p[0] < large.text or p[0] >= large.text + large.size:
        return -1
    for i in range(large.count):
        if large.items[i].at == p[0] - large.text:
            array = &large.items[i]
            break
    if array == NULL:
        return -1
    p[0] += PLACEHOLDER_SIZE
    decimals.needed_price = max(decimals.needed_price, array.price_decimals)
    decimals.needed_qty = max(decimals.needed_qty, array.qty_decimals)
    if decimals.needed_price > decimals.price or decimals.needed_qty > decimals.qty:
        return SCAN_GROW                             # with these the caller comes back
    status = _append(asks if is_ask else bids, &array.bids, decimals.price - array.price_decimals,
                     decimals.qty - array.qty_decimals)
    if status == SCAN_OK:
        status = _append(asks, &array.asks, decimals.price - array.price_decimals, decimals.qty - array.qty_decimals)
    return status


cdef int _append(LevelVector* target, const LevelVector* source, int price_more, int qty_more) noexcept nogil:
    """Add levels with so many decimals more."""
    cdef Py_ssize_t i
    cdef PriceLevel level
    cdef int status
    if target.size == 0 and price_more == 0 and qty_more == 0:
        return levels_copy(target, source)
    for i in range(source.size):
        level = source.items[i]
        if (feeds_times(level.price, POW10[price_more], &level.price)
                or feeds_times(level.qty, POW10[qty_more], &level.qty)):
            return SCAN_OVERFLOW
        status = levels_push(target, level.price, level.qty)
        if status != SCAN_OK:
            return status
    return SCAN_OK
