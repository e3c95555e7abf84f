# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Price levels and decimal numbers from JSON text, exactly: every digit that fits int64 is kept."""
from libc.stdint cimport INT64_MAX, int64_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcmp, memcpy, memset

from feeds.scan cimport feeds_levels, feeds_literal, feeds_load, feeds_number, feeds_plain_text

from decimal import Decimal

import msgspec

__all__ = ["LevelShape", "parse_levels", "parse_number", "parse_sides"]

DEFAULT_MAX_LEVELS = 1_000_000

cdef Py_ssize_t MAX_LEVELS = DEFAULT_MAX_LEVELS      # of one array in one message
cdef enum:
    MAX_NESTING = 64                     # the bits of `objects` in skip_value
    MAX_POSITION = 31                    # of a part of a level: see `Shape.field_at`
    MAX_SKIP_TEXTS = 4
    MAX_SIDE_TEXTS = 8                   # those that mean a bid and those that mean an ask
    PADDING = 8                          # texts are compared by chunks of so many bytes

cdef int64_t[19] POW10
cdef int _d
POW10[0] = 1
for _d in range(1, 19):
    POW10[_d] = POW10[_d - 1] * 10


cdef inline bint is_digit(char c) noexcept nogil:
    return <unsigned char> (c - c'0') < 10


cdef inline int scan_number(const char** at, const char* end, int decimals, int64_t* mantissa,
                            int* needed) noexcept nogil:
    cdef:
        const char* p = at[0]
        const char* start
        uint64_t value = 0
        int fraction = 0
        int more = 0
        int status = SCAN_OK
        bint negative = False
    if p < end and p[0] == c'-':
        negative = True
        p += 1
    start = p
    while p < end and is_digit(p[0]):
        value = value * 10 + (p[0] - c'0')
        p += 1
    if p == start:
        return SCAN_BAD
    if p - start + decimals > 18:                    # may not fit: `value` is not to be believed
        return _scan_wide_number(at, end, decimals, mantissa, needed)
    if p < end and p[0] == c'.':
        p += 1
        if p == end or not is_digit(p[0]):
            return SCAN_BAD
        while fraction < decimals and p < end and is_digit(p[0]):
            value = value * 10 + (p[0] - c'0')
            fraction += 1
            p += 1
        if fraction == decimals:                     # digits that the decimals have no room for: zeros are not news
            start = p
            while p < end and is_digit(p[0]):
                if p[0] != c'0':
                    more = <int> (p - start) + 1
                p += 1
    if p < end and (p[0] == c'e' or p[0] == c'E'):
        return _scan_wide_number(at, end, decimals, mantissa, needed)
    if more:
        status = SCAN_GROW
        if decimals + more > needed[0]:
            needed[0] = decimals + more
    value *= POW10[decimals - fraction]
    mantissa[0] = -<int64_t> value if negative else <int64_t> value
    at[0] = p
    return status


cdef int _scan_wide_number(const char** at, const char* end, int decimals, int64_t* mantissa,
                           int* needed) noexcept nogil:
    """The same for any number: exponents, and mantissas near the edge of int64. Every step is checked."""
    cdef:
        const char* p = at[0]
        const char* start
        uint64_t value = 0                           # significant digits, without trailing zeros
        int pending_zeros = 0
        int64_t point = 0                            # value * 10**point is the number
        int64_t exponent = 0
        bint negative = False
        bint exponent_negative = False
        bint after_point = False
    if p < end and p[0] == c'-':
        negative = True
        p += 1
    start = p
    while p < end:
        if p[0] == c'.' and not after_point and p > start:
            after_point = True
            p += 1
            if p == end or not is_digit(p[0]):
                return SCAN_BAD
            continue
        if not is_digit(p[0]):
            break
        if p[0] == c'0':
            pending_zeros += 1
        else:
            if value:
                while pending_zeros:
                    if value > <uint64_t> INT64_MAX // 10:
                        return SCAN_OVERFLOW
                    value *= 10
                    pending_zeros -= 1
            pending_zeros = 0
            if value > (<uint64_t> INT64_MAX - (p[0] - c'0')) // 10:
                return SCAN_OVERFLOW
            value = value * 10 + (p[0] - c'0')
        if after_point:
            point -= 1
        p += 1
    if p == start:
        return SCAN_BAD
    if p < end and (p[0] == c'e' or p[0] == c'E'):
        p += 1
        if p < end and (p[0] == c'-' or p[0] == c'+'):
            exponent_negative = p[0] == c'-'
            p += 1
        if p == end or not is_digit(p[0]):
            return SCAN_BAD
        while p < end and is_digit(p[0]):
            if exponent < 100_000:
                exponent = exponent * 10 + (p[0] - c'0')
            p += 1
        point += -exponent if exponent_negative else exponent
    at[0] = p
    if value == 0:
        mantissa[0] = 0
        return SCAN_OK
    point += pending_zeros                           # trailing zeros were not multiplied in
    if point < -decimals:
        if point < -18:
            return SCAN_OVERFLOW
        if -point > needed[0]:
            needed[0] = <int> -point
        mantissa[0] = 0
        return SCAN_GROW
    point += decimals
    if point > 18:
        return SCAN_OVERFLOW
    while point:
        if value > <uint64_t> INT64_MAX // 10:
            return SCAN_OVERFLOW
        value *= 10
        point -= 1
    mantissa[0] = -<int64_t> value if negative else <int64_t> value
    return SCAN_OK


cdef int scan_number_value(const char** at, const char* end, int decimals, int64_t* mantissa, int* needed) noexcept nogil:
    cdef const char* p = feeds_number(at[0], end, decimals, mantissa)
    if p == NULL:
        return _scan_unusual_value(at, end, decimals, mantissa, needed)
    at[0] = p
    return SCAN_OK


cdef int _scan_unusual_value(const char** at, const char* end, int decimals, int64_t* mantissa, int* needed) noexcept nogil:
    cdef int status
    cdef const char* digits
    if at[0] < end and at[0][0] == c'"':
        at[0] += 1
        status = scan_number(at, end, decimals, mantissa, needed)
        if status != SCAN_OK and status != SCAN_GROW:
            return status
        if at[0] == end or at[0][0] != c'"':
            return SCAN_BAD
        at[0] += 1
        return status
    digits = at[0] + 1 if at[0] < end and at[0][0] == c'-' else at[0]
    if end - digits >= 2 and digits[0] == c'0' and is_digit(digits[1]):      # not JSON, where text may be anything
        return SCAN_BAD
    return scan_number(at, end, decimals, mantissa, needed)


cdef int scan_padded_value(const char** at, const char* end, int decimals, int64_t* mantissa, int* needed) noexcept nogil:
    cdef const char* p = at[0]
    cdef int fraction = 0
    cdef int status = scan_number_value(at, end, decimals, mantissa, needed)
    if status != SCAN_OK:
        return status
    while p < at[0] and p[0] != c'.':
        p += 1
    p += 1
    while p < at[0] and is_digit(p[0]):
        fraction += 1
        p += 1
    if fraction <= decimals:
        return SCAN_OK
    needed[0] = max(needed[0], fraction)
    return SCAN_GROW


cdef inline int scan_integer(const char** at, const char* end, int64_t* value) noexcept nogil:
    cdef:
        const char* p = at[0]
        const char* start
        int64_t result = 0
        bint negative = False
    if p < end and p[0] == c'-':
        negative = True
        p += 1
    start = p
    while p < end and is_digit(p[0]):
        if p - start >= 18 and result > (INT64_MAX - (p[0] - c'0')) // 10:
            return SCAN_OVERFLOW
        result = result * 10 + (p[0] - c'0')
        p += 1
    if p == start or (p < end and (p[0] == c'.' or p[0] == c'e' or p[0] == c'E')):
        return SCAN_BAD
    if start[0] == c'0' and p - start > 1:
        return SCAN_BAD
    value[0] = -result if negative else result
    at[0] = p
    return SCAN_OK


cdef int scan_levels(const char** at, const char* end, LevelVector* out, Decimals* decimals) noexcept nogil:
    cdef:
        const char* p = at[0]
        int64_t* numbers
        int64_t price = 0
        int64_t qty = 0
        int status
        bint are_pairs = True
    if p == end or p[0] != c'[':
        return SCAN_BAD
    p = skip_space(p + 1, end)
    if p < end and p[0] == c']':
        at[0] = p + 1
        return SCAN_OK
    if out.capacity == 0:
        status = _grow(out, 1)
        if status != SCAN_OK:
            return status
    while True:
        if are_pairs:
            numbers = <int64_t*> (out.items + out.size)
            # Where decimals are missing, all is read again: until then with those that are known to be needed, which is quick.
            p = feeds_levels(p, end, decimals.needed_price, decimals.needed_qty, &numbers,
                             <int64_t*> (out.items + out.capacity))
            out.size = <PriceLevel*> numbers - out.items
        if p == end or p[0] != c'[':
            return SCAN_BAD
        p = skip_space(p + 1, end)
        status = scan_number_value(&p, end, decimals.needed_price, &price, &decimals.needed_price)
        if status != SCAN_OK and status != SCAN_GROW:
            return status
        p = skip_space(p, end)
        if p == end or p[0] != c',':
            return SCAN_BAD
        p = skip_space(p + 1, end)
        status = scan_number_value(&p, end, decimals.needed_qty, &qty, &decimals.needed_qty)
        if status != SCAN_OK and status != SCAN_GROW:
            return status
        if qty < 0:
            return SCAN_NEGATIVE
        p = skip_space(p, end)
        while p < end and p[0] == c',':              # order counts and the like: the other levels have them too
            are_pairs = False
            p = skip_space(p + 1, end)
            status = skip_value(&p, end)
            if status != SCAN_OK:
                return status
            p = skip_space(p, end)
        if p == end or p[0] != c']':
            return SCAN_BAD
        status = levels_push(out, price, qty)
        if status != SCAN_OK:
            return status
        p = skip_space(p + 1, end)
        if p < end and p[0] == c',':
            p = skip_space(p + 1, end)
            continue
        if p == end or p[0] != c']':
            return SCAN_BAD
        at[0] = p + 1
        return SCAN_GROW if decimals.needed_price > decimals.price or decimals.needed_qty > decimals.qty else SCAN_OK


cdef inline const char* _after_string(const char* p, const char* end) noexcept nogil:
    """`p` is behind the opening quote; returns what is behind the closing one.

    NULL where there is none, and for strings with escapes, which the scanner leaves to others.
    """
    while p < end:
        if p[0] == c'"':
            return p + 1
        if p[0] == c'\\' or <unsigned char> p[0] < 0x20:
            return NULL
        p += 1
    return NULL


cdef inline const char* _after_key(const char* p, const char* end) noexcept nogil:
    """Returns the start of the value behind `"key" :`, NULL where there is no such thing."""
    if p == end or p[0] != c'"':
        return NULL
    p = _after_string(p + 1, end)
    if p == NULL:
        return NULL
    p = skip_space(p, end)
    if p == end or p[0] != c':':
        return NULL
    return skip_space(p + 1, end)


cdef const char* _after_number(const char* p, const char* end) noexcept nogil:
    if p < end and p[0] == c'-':
        p += 1
    if p == end or not is_digit(p[0]) or (p[0] == c'0' and p + 1 < end and is_digit(p[1])):
        return NULL
    while p < end and is_digit(p[0]):
        p += 1
    if p < end and p[0] == c'.':
        p += 1
        if p == end or not is_digit(p[0]):
            return NULL
        while p < end and is_digit(p[0]):
            p += 1
    if p < end and (p[0] == c'e' or p[0] == c'E'):
        p += 1
        if p < end and (p[0] == c'-' or p[0] == c'+'):
            p += 1
        if p == end or not is_digit(p[0]):
            return NULL
        while p < end and is_digit(p[0]):
            p += 1
    return p


cdef inline const char* _after_word(const char* p, const char* end, const char* word, Py_ssize_t size) noexcept nogil:
    return p + size if end - p >= size and memcmp(p, word, size) == 0 else NULL


cdef int skip_value(const char** at, const char* end) noexcept nogil:
    cdef:
        const char* p = at[0]
        uint64_t objects = 0             # bit 0: the innermost open container is an object; bit 1: the one around it ...
        int depth = 0
        char first
        const char* fast
    while True:
        if p == end:
            return SCAN_BAD
        first = p[0]
        if first == c'"':
            fast = feeds_plain_text(p, end)
            p = fast if fast != NULL else _after_string(p + 1, end)
        elif first == c'-' or is_digit(first):
            p = _after_number(p, end)
        elif first == c't':
            p = _after_word(p, end, b"true", 4)
        elif first == c'f':
            p = _after_word(p, end, b"false", 5)
        elif first == c'n':
            p = _after_word(p, end, b"null", 4)
        elif first == c'{' or first == c'[':
            p = skip_space(p + 1, end)
            if p < end and p[0] == (c'}' if first == c'{' else c']'):
                p += 1
            else:
                if depth == MAX_NESTING:
                    return SCAN_BAD
                depth += 1
                objects = objects << 1 | (first == c'{')
                if first == c'{':
                    p = _after_key(p, end)
                    if p == NULL:
                        return SCAN_BAD
                continue
        else:
            return SCAN_BAD
        if p == NULL:
            return SCAN_BAD
        while True:                                      # a value has ended: so may what it stands in
            if depth == 0:
                at[0] = p
                return SCAN_OK
            p = skip_space(p, end)
            if p == end:
                return SCAN_BAD
            if p[0] == c',':
                p = skip_space(p + 1, end)
                if objects & 1:
                    p = _after_key(p, end)
                    if p == NULL:
                        return SCAN_BAD
                break
            if p[0] != (c'}' if objects & 1 else c']'):
                return SCAN_BAD
            p += 1
            depth -= 1
            objects >>= 1


# What is read of one level after the other, and with which decimals.
cdef struct Reading:
    int64_t numbers[2]       # by LevelPart: price and quantity
    int decimals[2]          # those of the mantissas less the scale of the shape
    int needed[2]
    bint is_ask
    bint is_removed
    bint is_skipped
    int worst                # SCAN_GROW where any number asks for more decimals
    int refusal              # why the functions below returned NULL


cdef int scan_shaped_levels(const char** at, const char* end, const Shape* shape, LevelVector* bids, LevelVector* asks,
                            bint is_ask, Decimals* decimals) noexcept nogil:
    cdef:
        const char* p = at[0]
        char opening = c'{' if shape.is_object else c'['
        Reading level
        LevelVector* side = asks if is_ask else bids
        Py_ssize_t size = side.size
        int part
        int status
    if shape.is_plain or shape.is_mostly_plain:
        status = scan_levels(at, end, side, decimals)
        if shape.is_plain or status == SCAN_OK or status == SCAN_GROW:
            return status
        side.size = size
    if p == end or p[0] != c'[':
        return SCAN_BAD
    p = skip_space(p + 1, end)
    if p < end and p[0] == c']':
        at[0] = p + 1
        return SCAN_OK
    level.worst = SCAN_OK
    level.refusal = SCAN_BAD
    level.decimals[<int> LEVEL_PRICE] = decimals.price - shape.price_scale
    level.decimals[<int> LEVEL_QTY] = decimals.qty - shape.qty_scale
    for part in range(2):
        if level.decimals[part] < 0:                     # no room even for whole numbers
            level.decimals[part] = 0
            level.worst = SCAN_GROW
        level.needed[part] = level.decimals[part]
    while True:
        if p == end or p[0] != opening:
            return SCAN_BAD
        p = skip_space(p + 1, end)
        level.numbers[<int> LEVEL_QTY] = 0               # of one that has no place for it
        level.is_ask = is_ask
        level.is_removed = level.is_skipped = False
        p = _after_level(p, end, shape, &level)
        if p == NULL:
            return level.refusal
        status = _push_level(shape, &level, bids, asks)
        if status != SCAN_OK:
            return status
        p = skip_space(p, end)
        if p < end and p[0] == c',':
            p = skip_space(p + 1, end)
            continue
        if p == end or p[0] != c']':
            return SCAN_BAD
        break
    if level.worst == SCAN_GROW:
        decimals.needed_price = max(decimals.needed_price, level.needed[<int> LEVEL_PRICE] + shape.price_scale)
        decimals.needed_qty = max(decimals.needed_qty, level.needed[<int> LEVEL_QTY] + shape.qty_scale)
    at[0] = p + 1
    return level.worst


cdef inline const char* _after_level(const char* p, const char* end, const Shape* shape, Reading* level) noexcept nogil:
    """`p` is behind the bracket that opens a level; returns what is behind the one that closes it, NULL for a `refusal`."""
    cdef:
        const LevelField* field
        char closing = c'}' if shape.is_object else c']'
        int position = 0
        int found                            # the index of the field that is next, -1 for what is skipped
        int likely = 0                       # keys mostly come in the order in which the shape was declared
        int present = 0
    while True:
        if not shape.is_object:
            found = shape.field_at[position] if position <= MAX_POSITION else -1
            position += 1
        elif _has_key(&shape.fields[likely], p, end):
            found = likely
            p = skip_space(p + shape.fields[found].key.size, end)
        else:
            p = _after_unlikely_key(p, end, shape, &found)
            if p == NULL:
                return NULL
        if found < 0:
            p = _after_value(p, end)
        else:
            field = &shape.fields[found]
            if present & field.bit:          # a key that stands there twice: nobody knows which one counts
                return NULL
            present |= field.bit
            p = _after_field(field, p, end, shape, level)
            likely = found + 1 if found + 1 < shape.field_count else 0
        if p == NULL:
            return NULL
        p = skip_space(p, end)
        if p < end and p[0] == c',':
            p = skip_space(p + 1, end)
            continue
        if p == end or p[0] != closing or present != (1 << shape.field_count) - 1:
            return NULL
        return p + 1


cdef inline bint _has_key(const LevelField* field, const char* p, const char* end) noexcept nogil:
    return (end - p >= 8 and (feeds_load(p) & field.head_mask) == field.head
            and (field.key.size <= 8 or feeds_literal(p, end, field.key.data, field.key.size) != NULL))


cdef const char* _after_unlikely_key(const char* key, const char* end, const Shape* shape,
                                     int* found) noexcept nogil:
    """The same as `_after_key`, of any key; `found` is the index of its field, -1 if it has none."""
    cdef const char* p = feeds_plain_text(key, end)
    cdef const Text* text
    cdef int i
    if p == NULL:
        if key == end or key[0] != c'"':
            return NULL
        p = _after_string(key + 1, end)
        if p == NULL:
            return NULL
    found[0] = -1
    for i in range(shape.field_count):
        text = &shape.fields[i].key
        if text.size == p - key + 1 and memcmp(text.data, key, p - key) == 0:
            found[0] = i
    p = skip_space(p, end)
    return skip_space(p + 1, end) if p < end and p[0] == c':' else NULL


cdef inline const char* _after_value(const char* p, const char* end) noexcept nogil:
    return p if skip_value(&p, end) == SCAN_OK else NULL


cdef inline const char* _after_field(const LevelField* field, const char* p, const char* end, const Shape* shape,
                                     Reading* level) noexcept nogil:
    cdef const char* behind
    cdef int i
    if field.part <= LEVEL_QTY:
        if not shape.padded:
            behind = feeds_number(p, end, level.decimals[<int> field.part], &level.numbers[<int> field.part])
            if behind != NULL:
                return behind
        return _after_unusual_number(field, p, end, shape, level)
    if field.part == LEVEL_REMOVAL:
        behind = _after_text(p, end, &shape.removal)
        if behind == NULL:
            return _after_value(p, end)
        level.is_removed = True
        return behind
    for i in range(shape.side_count):
        behind = _after_text(p, end, &shape.sides[i])
        if behind != NULL:
            level.is_ask = i >= shape.bid_count
            return behind
    return NULL


cdef const char* _after_unusual_number(const LevelField* field, const char* p, const char* end, const Shape* shape,
                                       Reading* level) noexcept nogil:
    cdef int part = field.part
    cdef int status
    cdef int i
    cdef const char* behind
    if part == LEVEL_QTY:
        for i in range(shape.skip_count):
            behind = _after_text(p, end, &shape.skips[i])
            if behind != NULL:
                level.is_skipped = True
                return behind
    if shape.padded:
        status = scan_padded_value(&p, end, level.decimals[part], &level.numbers[part], &level.needed[part])
    else:
        status = scan_number_value(&p, end, level.decimals[part], &level.numbers[part], &level.needed[part])
    if status == SCAN_GROW:
        level.worst = SCAN_GROW
    elif status != SCAN_OK:
        level.refusal = status
        return NULL
    return p


cdef inline const char* _after_text(const char* p, const char* end, const Text* text) noexcept nogil:
    """What is behind a value that is exactly this JSON text; NULL where it is another."""
    p = feeds_literal(p, end, text.data, text.size)
    if p == NULL or p == end or not (p[0] == c',' or p[0] == c']' or p[0] == c'}' or <unsigned char> p[0] <= c' '):
        return NULL
    return p


cdef inline int _push_level(const Shape* shape, const Reading* level, LevelVector* bids, LevelVector* asks) noexcept nogil:
    cdef bint is_ask = level.is_ask
    cdef int64_t price = level.numbers[<int> LEVEL_PRICE]
    cdef int64_t qty = level.numbers[<int> LEVEL_QTY]
    if qty < 0:
        if shape.has_signs:
            is_ask = True
            qty = -qty
        elif shape.negative_removes:
            qty = 0
        else:
            return SCAN_NEGATIVE
    if level.is_removed:
        qty = 0
    if level.is_skipped or (price == 0 and shape.skip_zero_price):
        return SCAN_OK
    return levels_push(asks if is_ask else bids, price, qty)


cdef int _grow(LevelVector* levels, Py_ssize_t at_least) noexcept nogil:
    cdef Py_ssize_t capacity = levels.capacity * 2 if levels.capacity else 64
    cdef PriceLevel* items
    if at_least > MAX_LEVELS:
        return SCAN_TOO_MANY
    if capacity < at_least:
        capacity = at_least
    items = <PriceLevel*> realloc(levels.items, capacity * sizeof(PriceLevel))
    if items == NULL:
        return SCAN_NO_MEMORY
    levels.items = items
    levels.capacity = capacity
    return SCAN_OK


cdef inline int levels_push(LevelVector* levels, int64_t price, int64_t qty) noexcept nogil:
    cdef int status
    if levels.size == levels.capacity:
        status = _grow(levels, levels.size + 1)
        if status != SCAN_OK:
            return status
    levels.items[levels.size].price = price
    levels.items[levels.size].qty = qty
    levels.size += 1
    return SCAN_OK


cdef int levels_copy(LevelVector* target, const LevelVector* source) noexcept nogil:
    cdef int status
    if target.capacity < source.size:
        status = _grow(target, source.size)
        if status != SCAN_OK:
            return status
    if source.size:
        memcpy(target.items, source.items, source.size * sizeof(PriceLevel))
    target.size = source.size
    return SCAN_OK


cdef void levels_free(LevelVector* levels) noexcept nogil:
    free(levels.items)
    levels.items = NULL
    levels.size = levels.capacity = 0


cdef double mantissa_float(int64_t mantissa, int decimals) except? -1:
    if -(1 << 53) <= mantissa <= 1 << 53:
        return mantissa / <double> POW10[decimals]       # both are exact: so the quotient is rounded once
    return float(f"{mantissa}e-{decimals}")


cdef object mantissa_decimal(int64_t mantissa, int decimals):
    return Decimal(f"{mantissa}E-{decimals}")            # by text: arithmetic would round to the caller's context


_STATUS_NAMES = {
    SCAN_BAD: "not a JSON number or level array",
    SCAN_OVERFLOW: "a number beyond int64 at these decimals",
    SCAN_NO_MEMORY: "out of memory",
    SCAN_TOO_MANY: "too many levels",
    SCAN_NEGATIVE: "a negative quantity",
}


cdef class LevelShape:
    """How an exchange writes the levels of an array in JSON.

    `price` and `qty` are positions in an array or names in an object; what else a level has is skipped, keys come in any
    order, numbers are quoted or bare. `side` is for levels of both sides in one array: where it stands, and the JSON value,
    or tuple of values, that means `bid` or `ask`; another value is refused. `signed` is for arrays of both sides too: a
    negative quantity is an ask. `removal=(place, value)` marks levels that are removed, whatever their quantity; with
    `qty=None` all are. `price_scale` n is for prices that count units of 10**-n, `qty_scale` the same for quantities.

    With `skip_zero_price` a level at 0 is padding, as are levels with one of the JSON values `skip_qty` as quantity; with
    `negative_removes` a quantity below 0 counts as 0, which else is refused. `padded` numbers have all of the instrument's decimals: zeros at the end count.

        LevelShape()                                            ["30249.4","0.5",...]
        LevelShape("px", "sz")                                  {"px":"59.8","sz":"3.4","n":1}
        LevelShape(1, 2, side=0, bid="buy", ask="sell")         ["sell","0.00001306","660.5"]
        LevelShape(0, 2, signed=True, removal=(1, 0))           [279380,1,0.0089]
        LevelShape(price_scale=4)                               [345475000,14340]: 34547.5000
    """

    def __init__(self, price=0, qty=1, *, side=None, bid=None, ask=None, int price_scale=0, int qty_scale=0, removal=None,
                 bint signed=False, bint skip_zero_price=False, tuple skip_qty=(), bint negative_removes=False,
                 bint padded=False):
        places = {"price": price, "qty": qty, "side": side, "removal": None}
        self._texts = []
        if removal is not None:
            places["removal"], value = removal
            self._set_text(&self.shape.removal, msgspec.json.encode(value))
        places = {part: where for part, where in places.items() if where is not None}
        kind = type(price)
        if (kind not in (int, str) or any(type(where) is not kind for where in places.values())
                or len(set(places.values())) < len(places)):
            raise TypeError(f"expected different positions or different names of {', '.join(places)}, "
                            f"found {list(places.values())}")
        if side is not None and signed:
            raise TypeError(f"expected a side or signed quantities, found both, the side at {side!r}")
        for scale in (price_scale, qty_scale):
            if not 0 <= scale <= 18:
                raise ValueError(f"expected a scale of 0 to 18, found {scale}")
        self._set_sides(side, bid, ask)
        self._set_skips(skip_qty)
        self.has_side = side is not None or signed
        self.shape.is_object = kind is str
        self.shape.price_scale = price_scale
        self.shape.qty_scale = qty_scale
        self.shape.has_signs = signed
        self.shape.skip_zero_price = skip_zero_price
        self.shape.negative_removes = negative_removes
        self.shape.padded = padded
        memset(self.shape.field_at, -1, sizeof(self.shape.field_at))
        self.shape.field_count = 0
        for part, where in places.items():
            self._add_field(_PARTS[part], where)
        self.shape.is_mostly_plain = places == {"price": 0, "qty": 1} and not (
            price_scale or qty_scale or signed or skip_zero_price or padded)
        self.shape.is_plain = self.shape.is_mostly_plain and not (skip_qty or negative_removes)
        named = {where: part for part, where in places.items()}
        if self.shape.is_object:
            self._text = "[{" + ", ".join(f'"{name}": {part}' for name, part in named.items()) + "}, ...]"
        else:
            self._text = "[[" + ", ".join(named.get(at, "...") for at in range(max(named) + 1)) + "], ...]"

    def __str__(self):
        return self._text

    cdef int _add_field(self, LevelPart part, object where) except -1:
        cdef LevelField* field = &self.shape.fields[self.shape.field_count]
        field.part = part
        field.bit = 1 << self.shape.field_count
        if isinstance(where, int):
            if not 0 <= where <= MAX_POSITION:
                raise ValueError(f"expected positions of 0 to {MAX_POSITION}, found {where}")
            self.shape.field_at[<int> where] = self.shape.field_count
        elif where:
            self._set_text(&field.key, msgspec.json.encode(where), b":")
            field.head_mask = ~<uint64_t> 0 if field.key.size >= 8 else (<uint64_t> 1 << 8 * field.key.size) - 1
            field.head = feeds_load(field.key.data) & field.head_mask
        else:
            raise ValueError("expected names of 1 character or more, found ''")
        self.shape.field_count += 1
        return 0

    cdef int _set_sides(self, object side, object bid, object ask) except -1:
        cdef tuple bids = bid if isinstance(bid, tuple) else () if bid is None else (bid,)
        cdef tuple asks = ask if isinstance(ask, tuple) else () if ask is None else (ask,)
        texts = [msgspec.json.encode(value) for value in bids + asks]
        if bool(bids) != (side is not None) or bool(asks) != (side is not None) or len(set(texts)) < len(texts):
            raise TypeError(f"expected different values of bid and ask with a side and none without, found {side!r}, {bid!r}, "
                            f"{ask!r}")
        if len(texts) > MAX_SIDE_TEXTS:
            raise ValueError(f"expected at most {MAX_SIDE_TEXTS} values of bid and ask, found {len(texts)}")
        for i, text in enumerate(texts):
            self._set_text(&self.shape.sides[i], text)
        self.shape.bid_count = len(bids)
        self.shape.side_count = len(texts)
        return 0

    cdef int _set_skips(self, tuple values) except -1:
        if len(values) > MAX_SKIP_TEXTS:
            raise ValueError(f"expected at most {MAX_SKIP_TEXTS} quantities to skip, found {len(values)}")
        for i, value in enumerate(values):
            self._set_text(&self.shape.skips[i], msgspec.json.encode(value))
        self.shape.skip_count = len(values)
        return 0

    cdef int _set_text(self, Text* text, bytes data, bytes behind=b"") except -1:
        """Make it one to find by the bytes of the message: the scanner takes no text that has escapes."""
        if b"\\" in data or not data.isascii() or not data.decode().isprintable():
            raise ValueError(f"expected printable ASCII without quotes and backslashes, found {data.decode()}")
        padded = data + behind + bytes(PADDING)
        self._texts.append(padded)
        text.data = padded
        text.size = len(data) + len(behind)
        return 0


_PARTS = {"price": LEVEL_PRICE, "qty": LEVEL_QTY, "side": LEVEL_SIDE, "removal": LEVEL_REMOVAL}


def parse_number(bytes text, int decimals):
    """Return (mantissa, needed decimals) of `text`, quoted or bare: ('1.50', 1) -> (15, 1).

    Where more decimals are needed than given, the mantissa is meaningless and the caller asks again. ValueError for
    anything that is not one whole number or does not fit.
    """
    cdef:
        const char* start = text
        const char* p = start
        const char* end = start + len(text)
        int64_t mantissa = 0
        int needed = decimals
        int status
    if not 0 <= decimals <= 18:
        raise ValueError(f"expected 0 to 18 decimals, found {decimals}")
    status = scan_number_value(&p, end, decimals, &mantissa, &needed)
    if status == SCAN_OK or status == SCAN_GROW:
        if p == end:
            return mantissa, needed
        status = SCAN_BAD
    raise ValueError(f"{_STATUS_NAMES[status]}: {text[:80]!r}")


def parse_levels(bytes text, int price_decimals, int qty_decimals, LevelShape shape=None):
    """Return ([(price mantissa, qty mantissa), ...], needed price decimals, needed qty decimals) of a JSON level array.

    A test's and a tool's view of what decoders do in C. ValueError as in `parse_number`.
    """
    if shape is not None and shape.has_side:
        raise ValueError(f"expected levels of one side, found {shape}")
    bids, _, needed_price, needed_qty = _parse(text, price_decimals, qty_decimals, shape)
    return bids, needed_price, needed_qty


def parse_sides(bytes text, int price_decimals, int qty_decimals, LevelShape shape not None):
    """Return (bids, asks, needed price decimals, needed qty decimals) of an array whose levels say their side."""
    if not shape.has_side:
        raise ValueError(f"expected a shape with a side, found {shape}")
    return _parse(text, price_decimals, qty_decimals, shape)


cdef tuple _parse(bytes text, int price_decimals, int qty_decimals, LevelShape shape):
    cdef:
        const char* start = text
        const char* p = start
        const char* end = start + len(text)
        LevelVector bids
        LevelVector asks
        Decimals decimals
        int status
        Py_ssize_t i
    memset(&bids, 0, sizeof(bids))
    memset(&asks, 0, sizeof(asks))
    decimals.price = decimals.needed_price = price_decimals
    decimals.qty = decimals.needed_qty = qty_decimals
    for given in (price_decimals, qty_decimals):
        if not 0 <= given <= 18:
            raise ValueError(f"expected 0 to 18 decimals, found {given}")
    try:
        if shape is None:
            status = scan_levels(&p, end, &bids, &decimals)
        else:
            status = scan_shaped_levels(&p, end, &shape.shape, &bids, &asks, False, &decimals)
        if status == SCAN_OK or status == SCAN_GROW:
            if p == end:
                return ([(bids.items[i].price, bids.items[i].qty) for i in range(bids.size)],
                        [(asks.items[i].price, asks.items[i].qty) for i in range(asks.size)],
                        decimals.needed_price, decimals.needed_qty)
            status = SCAN_BAD
        raise ValueError(f"{_STATUS_NAMES[status]}: {text[:80]!r}")
    finally:
        levels_free(&bids)
        levels_free(&asks)
