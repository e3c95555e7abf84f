# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Price levels and decimal numbers from JSON text, exactly: every digit that fits int64 is kept."""
from libc.stdint cimport INT64_MAX, int64_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcmp, memcpy, memset

from feeds.scan cimport feeds_levels, feeds_load, feeds_plain_text, feeds_quoted_decimal

from decimal import Decimal

__all__ = ["LevelShape", "parse_levels", "parse_number", "parse_sides"]

DEFAULT_MAX_LEVELS = 1_000_000

cdef Py_ssize_t MAX_LEVELS = DEFAULT_MAX_LEVELS      # of one array in one message
cdef enum:
    MAX_NESTING = 64                     # the bits of `objects` in skip_value
    MAX_KEY_SIZE = 24                    # of a level's field, without quotes and colon

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


cdef inline int scan_number_value(const char** at, const char* end, int decimals, int64_t* mantissa,
                                  int* needed) noexcept nogil:
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


cdef inline int _scan_level_number(const char** at, const char* end, int decimals, int64_t* mantissa,
                                   int* needed) noexcept nogil:
    cdef const char* fast = feeds_quoted_decimal(at[0], end, decimals, mantissa)
    if fast != NULL:
        at[0] = fast
        return SCAN_OK
    return scan_number_value(at, end, decimals, mantissa, needed)


cdef int scan_levels(const char** at, const char* end, LevelVector* out, Decimals* decimals) noexcept nogil:
    cdef:
        const char* p = at[0]
        int64_t* numbers
        int64_t price = 0
        int64_t qty = 0
        int status
        int worst = SCAN_OK
    out.size = 0
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
        numbers = <int64_t*> (out.items + out.size)
        p = feeds_levels(p, end, decimals.price, decimals.qty, &numbers, <int64_t*> (out.items + out.capacity))
        out.size = <PriceLevel*> numbers - out.items
        if p == end or p[0] != c'[':
            return SCAN_BAD
        p = skip_space(p + 1, end)
        status = scan_number_value(&p, end, decimals.price, &price, &decimals.needed_price)
        if status == SCAN_GROW:
            worst = SCAN_GROW
        elif status != SCAN_OK:
            return status
        p = skip_space(p, end)
        if p == end or p[0] != c',':
            return SCAN_BAD
        p = skip_space(p + 1, end)
        status = scan_number_value(&p, end, decimals.qty, &qty, &decimals.needed_qty)
        if status == SCAN_GROW:
            worst = SCAN_GROW
        elif status != SCAN_OK:
            return status
        if qty < 0:
            return SCAN_NEGATIVE
        p = skip_space(p, end)
        while p < end and p[0] == c',':              # order counts and the like
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
        return worst


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
    int64_t price
    int64_t qty
    bint is_ask
    int price_decimals       # those of the mantissas less the scale of the shape
    int qty_decimals
    int needed_price
    int needed_qty
    int worst


cdef int scan_shaped_levels(const char** at, const char* end, const Shape* shape, LevelVector* bids, LevelVector* asks,
                            Decimals* decimals) noexcept nogil:
    cdef:
        const char* p = at[0]
        char opening = c'{' if shape.is_object else c'['
        Reading level
        int status
    bids.size = 0
    if shape.field_count == 3:
        asks.size = 0
    if p == end or p[0] != c'[':
        return SCAN_BAD
    p = skip_space(p + 1, end)
    if p < end and p[0] == c']':
        at[0] = p + 1
        return SCAN_OK
    level.worst = SCAN_OK
    level.is_ask = False
    level.price_decimals = level.needed_price = decimals.price - shape.price_scale
    level.qty_decimals = level.needed_qty = decimals.qty - shape.qty_scale
    if level.price_decimals < 0 or level.qty_decimals < 0:       # no room even for whole numbers
        level.worst = SCAN_GROW
        level.price_decimals = level.needed_price = max(level.price_decimals, 0)
        level.qty_decimals = level.needed_qty = max(level.qty_decimals, 0)
    while True:
        if p == end or p[0] != opening:
            return SCAN_BAD
        p = skip_space(p + 1, end)
        if shape.is_object:
            status = _scan_object_level(&p, end, shape, &level)
        else:
            status = _scan_array_level(&p, end, shape, &level)
        if status != SCAN_OK:
            return status
        status = levels_push(asks if level.is_ask else bids, level.price, level.qty)
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
        decimals.needed_price = max(decimals.needed_price, level.needed_price + shape.price_scale)
        decimals.needed_qty = max(decimals.needed_qty, level.needed_qty + shape.qty_scale)
    at[0] = p + 1
    return level.worst


cdef inline int _scan_array_level(const char** at, const char* end, const Shape* shape, Reading* level) noexcept nogil:
    cdef:
        const char* p = at[0]
        int position = 0
        int present = 0
        int part
        int status
    while True:
        part = 0
        while part < shape.field_count and shape.fields[part].position != position:
            part += 1
        if part < shape.field_count:
            present += 1
            status = _scan_part(part, &p, end, shape, level)
        else:
            status = skip_value(&p, end)
        if status != SCAN_OK:
            return status
        position += 1
        p = skip_space(p, end)
        if p < end and p[0] == c',':
            p = skip_space(p + 1, end)
            continue
        if p == end or p[0] != c']' or present != shape.field_count:
            return SCAN_BAD
        at[0] = p + 1
        return SCAN_OK


cdef inline int _scan_object_level(const char** at, const char* end, const Shape* shape, Reading* level) noexcept nogil:
    cdef:
        const char* p = at[0]
        const char* key
        Py_ssize_t key_size
        int present = 0                      # bit per part
        int part
        int status
    while True:
        part = 0
        while part < shape.field_count and not _has_key(&shape.fields[part], p, end):
            part += 1
        if part < shape.field_count:
            p = skip_space(p + shape.fields[part].key_size, end)
        else:                                # another key, one with space behind it, or near the end of the message
            key = p
            if p == end or p[0] != c'"':
                return SCAN_BAD
            p = _after_string(p + 1, end)
            if p == NULL:
                return SCAN_BAD
            key_size = p - key
            p = skip_space(p, end)
            if p == end or p[0] != c':':
                return SCAN_BAD
            p = skip_space(p + 1, end)
            part = 0
            while part < shape.field_count and (shape.fields[part].key_size != key_size + 1
                                                or memcmp(shape.fields[part].key, key, key_size) != 0):
                part += 1
        if part < shape.field_count:
            if present >> part & 1:          # twice: nobody knows which one counts
                return SCAN_BAD
            present |= 1 << part
            status = _scan_part(part, &p, end, shape, level)
        else:
            status = skip_value(&p, end)
        if status != SCAN_OK:
            return status
        p = skip_space(p, end)
        if p < end and p[0] == c',':
            p = skip_space(p + 1, end)
            continue
        if p == end or p[0] != c'}' or present != (1 << shape.field_count) - 1:
            return SCAN_BAD
        at[0] = p + 1
        return SCAN_OK


cdef inline bint _has_key(const LevelField* field, const char* p, const char* end) noexcept nogil:
    return (end - p > 28 and (feeds_load(p) & field.head_mask) == field.head
            and (field.key_size <= 8 or memcmp(p, field.key, field.key_size) == 0))


cdef inline int _scan_part(int part, const char** at, const char* end, const Shape* shape, Reading* level) noexcept nogil:
    cdef int status
    if part == LEVEL_PRICE:
        status = _scan_level_number(at, end, level.price_decimals, &level.price, &level.needed_price)
    elif part == LEVEL_QTY:
        status = _scan_level_number(at, end, level.qty_decimals, &level.qty, &level.needed_qty)
        if status == SCAN_OK and level.qty < 0:
            return SCAN_NEGATIVE
    elif end - at[0] >= shape.bid_size and memcmp(at[0], shape.bid_text, shape.bid_size) == 0:
        level.is_ask = False
        at[0] += shape.bid_size
        return SCAN_OK
    elif end - at[0] >= shape.ask_size and memcmp(at[0], shape.ask_text, shape.ask_size) == 0:
        level.is_ask = True
        at[0] += shape.ask_size
        return SCAN_OK
    else:
        return SCAN_BAD
    if status == SCAN_GROW:
        level.worst = SCAN_GROW
        return SCAN_OK
    return status


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
    """Where price and quantity stand in one level of an array of levels, other than as [price, qty, ...].

    `price` and `qty` are positions in an array or names in an object; what else a level has is skipped, keys come in any
    order, numbers are quoted or bare. `side` is for levels of both sides in one array: where the side stands, and the texts
    that mean `bid` and `ask`; another text is refused. A scale of N is for numbers that count units of 10**-N.

        LevelShape(price="px", qty="sz")                             {"px":"59.8","sz":"3.4","n":1}
        LevelShape(price=1, qty=2)                                   ["new",42500.0,1000.0]
        LevelShape(side=0, bid="buy", ask="sell", price=1, qty=2)    ["sell","0.00001306","660.5"]
        LevelShape(price_scale=4)                                    [345475000,14340]: 34547.5000
    """

    def __init__(self, *, price=0, qty=1, side=None, str bid="", str ask="", int price_scale=0, int qty_scale=0):
        places = [price, qty] if side is None else [price, qty, side]
        kind = type(price)
        if kind not in (int, str) or any(type(where) is not kind for where in places) or len(set(places)) < len(places):
            raise TypeError(f"expected different positions or different names of price, qty and side, found {places}")
        if (side is None) != (not bid and not ask) or (side is not None and (bid == ask or not bid or not ask)):
            raise TypeError(f"expected two texts with a side and none without, found {side!r}, {bid!r}, {ask!r}")
        for scale in (price_scale, qty_scale):
            if not 0 <= scale <= 18:
                raise ValueError(f"expected a scale of 0 to 18, found {scale}")
        self.has_side = side is not None
        self.shape.is_object = kind is str
        self.shape.price_scale = price_scale
        self.shape.qty_scale = qty_scale
        self.shape.field_count = len(places)
        for part, where in enumerate(places):
            self._place(part, where)
        self._bid_text = _plain(bid)
        self._ask_text = _plain(ask)
        self.shape.bid_text, self.shape.bid_size = self._bid_text, len(self._bid_text)
        self.shape.ask_text, self.shape.ask_size = self._ask_text, len(self._ask_text)
        named = dict(zip(places, ("price", "qty", "side"), strict=False))
        if self.shape.is_object:
            self._text = "[{" + ", ".join(f'"{name}": {part}' for name, part in named.items()) + "}, ...]"
        else:
            self._text = "[[" + ", ".join(named.get(at, "...") for at in range(max(places) + 1)) + "], ...]"

    def __str__(self):
        return self._text

    cdef int _place(self, int part, object where) except -1:
        cdef LevelField* field = &self.shape.fields[part]
        if isinstance(where, int):
            if not 0 <= where < 32:
                raise ValueError(f"expected positions of 0 to 31, found {where}")
            field.position = where
            return 0
        key = _plain(where) + b":"
        if not 0 < len(where) <= MAX_KEY_SIZE:
            raise ValueError(f"expected names of 1 to {MAX_KEY_SIZE} bytes, found {where!r}")
        field.position = -1
        field.key_size = len(key)
        memcpy(field.key, <const char*> key, len(key))
        key = (key + bytes(8))[:8]
        field.head = feeds_load(<const char*> key)
        field.head_mask = ~<uint64_t> 0 if field.key_size >= 8 else (<uint64_t> 1 << 8 * field.key_size) - 1
        return 0


def _plain(str text):
    """Return the text as JSON without escapes has it: names and sides are found by the bytes of the message."""
    if not text.isascii() or not text.isprintable() or '"' in text or "\\" in text:
        raise ValueError(f"expected printable ASCII without quotes and backslashes, found {text!r}")
    return b'"' + text.encode() + b'"'


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
    """Return (bids, asks, needed price decimals, needed qty decimals) of an array whose levels name their side."""
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
            status = scan_shaped_levels(&p, end, &shape.shape, &bids, &asks, &decimals)
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
