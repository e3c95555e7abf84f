# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Wire messages: declared once, read by msgspec (the reference) or by a scanner (the hot engine)."""
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport int64_t, uint32_t
from libc.string cimport memcmp, memcpy

from feeds.large cimport large_levels
from feeds.levels cimport (
    SCAN_BAD,
    SCAN_GROW,
    SCAN_NEGATIVE,
    SCAN_NO_MEMORY,
    SCAN_OK,
    SCAN_OVERFLOW,
    SCAN_TOO_MANY,
    LevelVector,
    scan_integer,
    scan_levels,
    scan_number,
    scan_number_value,
    scan_shaped_levels,
    skip_space,
    skip_value,
)
from feeds.scan cimport feeds_any, feeds_bool, feeds_integer, feeds_number, feeds_plain_text, feeds_quoted_decimal

import msgspec

from feeds.errors import DecodeError, keys_text
from feeds.events import BookDelta, Quote, Trade

__all__ = ["Wire"]

_ROLES = {
    "ts_event": (TS_EVENT, FIELD_INTEGER),
    "ts_publish": (TS_PUBLISH, FIELD_INTEGER),
    "sequence": (SEQUENCE, FIELD_INTEGER),
    "trade_id": (TRADE_ID, FIELD_INTEGER),
    "first_id": (FIRST_ID, FIELD_INTEGER),
    "last_id": (LAST_ID, FIELD_INTEGER),
    "previous_id": (PREVIOUS_ID, FIELD_INTEGER),
    "buyer_is_maker": (BUYER_IS_MAKER, FIELD_BOOL),
    "price": (PRICE, FIELD_PRICE),
    "bid_price": (BID_PRICE, FIELD_PRICE),
    "ask_price": (ASK_PRICE, FIELD_PRICE),
    "qty": (QTY, FIELD_QTY),
    "bid_qty": (BID_QTY, FIELD_QTY),
    "ask_qty": (ASK_QTY, FIELD_QTY),
    "bids": (BIDS, FIELD_LEVELS),
    "asks": (ASKS, FIELD_LEVELS),
    "bids_and_asks": (BIDS_AND_ASKS, FIELD_LEVELS),
}
_KINDS = {Trade: TRADE, Quote: QUOTE, BookDelta: BOOK_DELTA}
# What a struct may declare a field as, and how one is checked that has no role: both engines must refuse the same.
_TYPES = {
    FIELD_INTEGER: (int,), FIELD_BOOL: (bool,), FIELD_TEXT: (str,), FIELD_PRICE: (str, msgspec.Raw),
    FIELD_QTY: (str, msgspec.Raw), FIELD_LEVELS: (msgspec.Raw,), FIELD_ANY: (msgspec.Raw,),
}
_UNUSED_TYPES = {int: FIELD_INTEGER, bool: FIELD_BOOL, str: FIELD_TEXT}

cdef enum:
    MAX_FIELDS = 16
    MAX_KEY_SIZE = 24        # without quotes and colon


cdef class Wire:
    """How a wire message becomes an event.

    `struct` is the message as a msgspec Struct with the exchange's field names: numbers as `str` (quoted) or `msgspec.Raw`
    (bare or quoted), level arrays as `msgspec.Raw`, ids and times as `int`. The keywords say which field fills which part of
    the event; a field that no keyword names must have its type and is otherwise unused. `only=("X", "MARKET")` drops
    messages whose field has another text. Fields without a default are required. Levels are [price, qty, ...] unless `levels`
    says otherwise; `bids_and_asks` is an array of both sides, whose shape has to say how a level tells its own.

        Wire(_Trade, Trade, trade_id="t", price="p", qty="q", buyer_is_maker="m", ts_event="T")
    """

    def __init__(self, struct, event, *, bint is_snapshot=False, int depth=0, only=None,
                 LevelShape levels=None, **roles):
        if event not in _KINDS:
            raise TypeError(f"expected Trade, Quote or BookDelta, found {event!r}")
        self.struct = struct
        self.kind = _KINDS[event]
        self.is_snapshot = is_snapshot
        self.depth = depth
        self.name = struct.__name__.lstrip("_")
        self._attributes = []
        self._decode = msgspec.json.Decoder(struct).decode
        self.levels = levels
        has_side = levels is not None and levels.has_side
        if has_side != ("bids_and_asks" in roles) or (has_side and ("bids" in roles or "asks" in roles)):
            raise TypeError(f"{self.name}: expected 'bids_and_asks' of levels that say their side, else 'bids' and 'asks', "
                            f"found {sorted(roles)}")
        words = {}                                   # field -> (role, its type)
        for word, name in roles.items():
            if word not in _ROLES:
                raise TypeError(f"{self.name}: expected one of {sorted(_ROLES)}, found {word!r}")
            words[name] = _ROLES[word]
        self.only_text = b""
        if only is not None:
            name, text = only
            self.only_text = text.encode()
            words[name] = (ONLY, FIELD_TEXT)
        self.only_data = self.only_text
        self.only_size = len(self.only_text)
        for info in msgspec.structs.fields(struct):  # in the struct's order, which is that of the message
            self._add(info, *words.pop(info.name, (UNUSED, _UNUSED_TYPES.get(info.type, FIELD_ANY))))
        if words:
            raise TypeError(f"{self.name}: expected fields among {self._attributes}, found {sorted(words)}")

    def _add(self, info, int role, int field_type):
        cdef Field* field = &self.fields[self.field_count]
        key = info.encode_name.encode()
        if self.field_count == MAX_FIELDS or len(key) > MAX_KEY_SIZE:
            raise TypeError(f"{self.name}: expected at most {MAX_FIELDS} fields of at most {MAX_KEY_SIZE} bytes, found "
                            f"{info.name!r} more")
        if info.type not in _TYPES[field_type]:
            raise TypeError(f"{self.name}: expected {info.name!r} to be one of {_TYPES[field_type]}, found {info.type!r}")
        field.key_size = len(key)
        memcpy(field.key, <const char*> key, len(key))
        field.role = <Role> role
        field.type = <FieldType> field_type
        field.quoted = info.type is str
        if info.required:
            self.required |= <uint32_t> 1 << self.field_count
        elif role != UNUSED and field_type != FIELD_LEVELS:
            self.optional |= <uint32_t> 1 << self.field_count
            if field_type == FIELD_TEXT:
                field.default = info.default.encode() == self.only_text
            elif field_type == FIELD_PRICE or field_type == FIELD_QTY:
                if len(info.default):
                    raise TypeError(f"{self.name}: expected {info.name!r} to be empty by default, found {info.default!r}")
            else:
                field.default = info.default
        self.field_count += 1
        self._attributes.append(info.name)

    cdef int scan(self, const char** at, const char* end, Values* out) noexcept nogil:
        cdef:
            const char* p = at[0]
            const char* key
            Py_ssize_t key_size
            Field* field
            uint32_t present = 0         # bit per field
            uint32_t bit
            int expected = 0             # messages keep their key order: the field after the last one is the likeliest
            int i
            int status
            int worst = SCAN_OK
            char separator = c'{'
        while True:
            p = skip_space(p, end)
            if p == end:
                return SCAN_BAD
            if p[0] == c'}' and separator == c',':
                break
            if p[0] != separator:
                return SCAN_BAD
            separator = c','
            p = skip_space(p + 1, end)
            if p == end or p[0] != c'"':
                return SCAN_BAD
            p += 1
            key = p
            while p < end and p[0] != c'"':
                if p[0] == c'\\' or <unsigned char> p[0] < 0x20:
                    return SCAN_BAD
                p += 1
            key_size = p - key
            p = skip_space(p + 1, end)
            if p >= end or p[0] != c':':
                return SCAN_BAD
            p = skip_space(p + 1, end)
            field = self.field_of(key, key_size, expected)
            if field == NULL:
                status = skip_value(&p, end)
            else:
                expected = <int> (field - self.fields)
                bit = <uint32_t> 1 << expected
                if present & bit:                        # twice: which one counts is the reference's to say
                    return SCAN_BAD
                present |= bit
                expected += 1
                status = self.scan_field(field, &p, end, out)
            if status == SCAN_GROW:
                worst = SCAN_GROW
            elif status != SCAN_OK:
                return status
        at[0] = p + 1
        if self.required & ~present:
            return SCAN_BAD
        if self.optional & ~present:
            for i in range(self.field_count):
                if (self.optional & ~present) >> i & 1:
                    out.of[<int> self.fields[i].role] = self.fields[i].default
        return worst

    cdef Field* field_of(self, const char* key, Py_ssize_t size, int likely) noexcept nogil:
        cdef int i
        for i in range(self.field_count):
            if likely >= self.field_count:
                likely = 0
            if self.fields[likely].key_size == size and memcmp(self.fields[likely].key, key, size) == 0:
                return &self.fields[likely]
            likely += 1
        return NULL

    cdef int scan_field(self, Field* field, const char** at, const char* end, Values* out) noexcept nogil:
        cdef const char* p
        if field.type == FIELD_LEVELS:
            return self._scan_levels(field, at, end, out)
        p = _short_value(self, field, at[0], end, out)
        if p != NULL:
            at[0] = p
            return SCAN_OK
        if field.type == FIELD_INTEGER:
            return scan_integer(at, end, &out.of[<int> field.role])
        if field.type == FIELD_PRICE or field.type == FIELD_QTY:
            if field.quoted and (at[0] == end or at[0][0] != c'"'):
                return SCAN_BAD
            return self._scan_number(field, False, at, end, out)
        if field.type == FIELD_ANY:
            return skip_value(at, end)
        if field.type == FIELD_BOOL or at[0] == end or at[0][0] != c'"':
            return SCAN_BAD
        p = _after_text(at[0] + 1, end)
        if p == NULL:
            return SCAN_BAD
        out.of[<int> field.role] = self.is_only(at[0], end)
        at[0] = p
        return SCAN_OK

    cdef inline bint is_only(self, const char* p, const char* end) noexcept nogil:
        """Whether the text that begins here is the one that the declaration asks for."""
        return (end - p >= self.only_size + 2 and p[self.only_size + 1] == c'"'
                and memcmp(p + 1, self.only_data, self.only_size) == 0)

    cdef inline int _scan_number(self, Field* field, bint without_quotes, const char** at, const char* end,
                                 Values* out) noexcept nogil:
        """`without_quotes`: of text from which they have been taken off."""
        cdef bint is_price = field.type == FIELD_PRICE
        cdef int decimals = out.decimals.price if is_price else out.decimals.qty
        cdef int* needed = &out.decimals.needed_price if is_price else &out.decimals.needed_qty
        cdef int64_t* mantissa = &out.of[<int> field.role]
        cdef int status
        if without_quotes:
            status = scan_number(at, end, decimals, mantissa, needed)
        else:
            status = scan_number_value(at, end, decimals, mantissa, needed)
        return SCAN_NEGATIVE if status == SCAN_OK and mantissa[0] < 0 and not is_price else status

    cdef inline int _scan_levels(self, const Field* field, const char** at, const char* end, Values* out) noexcept nogil:
        cdef bint is_ask = field.role == ASKS
        cdef int status
        if field.role != ASKS:
            out.bids.size = 0
        if field.role != BIDS:
            out.asks.size = 0
        if out.large != NULL:
            status = large_levels(out.large, at, is_ask, out.bids, out.asks, &out.decimals)
            if status >= 0:
                return status
        if self.levels is None:
            return scan_levels(at, end, out.asks if is_ask else out.bids, &out.decimals)
        return scan_shaped_levels(at, end, &self.levels.shape, out.bids, out.asks, is_ask, &out.decimals)

    cdef int read(self, object data, Values* out) except -1:
        cdef int i
        cdef int status
        cdef int worst = SCAN_OK
        cdef Field* field
        try:
            message = self._decode(data)
        except msgspec.ValidationError as error:
            raise self._invalid(bytes(data), str(error)) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise DecodeError(f"{self.name}: expected JSON, found: {error}", kind="not_json",
                              payload=bytes(data)) from None
        for i in range(self.field_count):
            field = &self.fields[i]
            if field.role == UNUSED:
                continue
            value = getattr(message, self._attributes[i])
            if field.type == FIELD_TEXT:
                out.of[<int> field.role] = value == self.only_text.decode()
            elif field.type == FIELD_INTEGER or field.type == FIELD_BOOL:
                if not -2**63 <= value < 2**63:
                    raise self._bad_value(i, SCAN_OVERFLOW, bytes(data))
                out.of[<int> field.role] = value
            else:
                status = self._read_text(field, self.required >> i & 1, value, out)
                if status == SCAN_GROW:
                    worst = SCAN_GROW
                elif status != SCAN_OK:
                    raise self._bad_value(i, status, bytes(data))
        return worst

    cdef int _read_text(self, Field* field, bint required, object value, Values* out) except -1:
        """Read a number or an array of levels by the same scanners, from the text that msgspec has cut out."""
        cdef Py_buffer view
        cdef const char* p
        cdef const char* end
        cdef int status
        PyObject_GetBuffer(value.encode() if isinstance(value, str) else value, &view, PyBUF_SIMPLE)
        try:
            p = <const char*> view.buf
            end = p + view.len
            if view.len == 0 and not required:       # it was not sent
                return SCAN_OK
            if field.type == FIELD_LEVELS:
                status = self._scan_levels(field, &p, end, out)
            else:
                status = self._scan_number(field, field.quoted, &p, end, out)
            if (status == SCAN_OK or status == SCAN_GROW) and skip_space(p, end) != end:
                return SCAN_BAD
            return status
        finally:
            PyBuffer_Release(&view)

    def _bad_value(self, int i, int status, bytes payload):
        expected = {
            FIELD_PRICE: "a decimal number", FIELD_QTY: "a decimal number", FIELD_LEVELS: str(self.levels or "[[price, qty], ...]"),
        }.get(self.fields[i].type, "an int64")
        found = {
            SCAN_BAD: "something else", SCAN_OVERFLOW: "one beyond int64", SCAN_NO_MEMORY: "too many (out of memory)",
            SCAN_TOO_MANY: "too many levels", SCAN_NEGATIVE: "a negative quantity",
        }[status]
        return DecodeError(f"{self.name}: expected {expected} in '{self._attributes[i]}', found {found}",
                           kind="bad_value", payload=payload)

    def _invalid(self, bytes payload, text):
        """Turn msgspec's refusal into ours: with the keys that were there when one is missing."""
        if "missing required field" in text:
            name = text.split("`")[1]
            return DecodeError(f"{self.name}: expected '{name}', found {keys_text(payload)}", kind="missing_field",
                               payload=payload)
        return DecodeError(f"{self.name}: {text}", kind="wrong_type", payload=payload)


cdef inline const char* _short_value(Wire wire, const Field* field, const char* p, const char* end, Values* out) noexcept nogil:
    """Read a value that looks as nearly all do; return what is behind it. NULL: it wants a closer look."""
    if field.type == FIELD_INTEGER:
        return feeds_integer(p, end, &out.of[<int> field.role])
    if field.type == FIELD_PRICE:
        return _short_number(field, p, end, out.decimals.price, &out.of[<int> field.role])
    if field.type == FIELD_QTY:
        return _short_number(field, p, end, out.decimals.qty, &out.of[<int> field.role])
    if field.type == FIELD_ANY:
        return feeds_any(p, end)
    if field.type == FIELD_BOOL:
        return feeds_bool(p, end, &out.of[<int> field.role])
    if field.role == ONLY:
        out.of[<int> ONLY] = wire.is_only(p, end)
    return feeds_plain_text(p, end)


cdef inline const char* _short_number(const Field* field, const char* p, const char* end, int decimals,
                                      int64_t* mantissa) noexcept nogil:
    if field.quoted:
        return feeds_quoted_decimal(p, end, decimals, mantissa)
    return feeds_number(p, end, decimals, mantissa)


# Characters of a text that stand for themselves: ASCII without control characters, quote and backslash.
cdef unsigned char[256] PLAIN
cdef int _c
for _c in range(256):
    PLAIN[_c] = 0x20 <= _c < 0x80 and _c != 0x22 and _c != 0x5C


cdef inline const char* _after_text(const char* p, const char* end) noexcept nogil:
    """`p` is behind the opening quote of a text; returns what is behind the closing one, NULL where it is not plain UTF-8."""
    while True:
        while p < end and PLAIN[<unsigned char> p[0]]:
            p += 1
        if p == end:
            return NULL
        if p[0] == c'"':
            return p + 1
        if <unsigned char> p[0] < 0x80:
            return NULL
        p = _after_wide_character(p, end)
        if p == NULL:
            return NULL


cdef const char* _after_wide_character(const char* p, const char* end) noexcept nogil:
    """UTF-8 of two to four bytes, as RFC 3629 section 4 has it: nothing overlong, no surrogates, nothing above U+10FFFF."""
    cdef unsigned char first = p[0]
    cdef unsigned char second
    cdef int size = 2 if first < 0xE0 else 3 if first < 0xF0 else 4
    cdef int i
    if first < 0xC2 or first > 0xF4 or end - p < size:
        return NULL
    second = p[1]
    if ((first == 0xE0 and second < 0xA0) or (first == 0xED and second > 0x9F) or (first == 0xF0 and second < 0x90)
            or (first == 0xF4 and second > 0x8F)):
        return NULL
    for i in range(1, size):
        if (<unsigned char> p[i]) >> 6 != 2:
            return NULL
    return p + size
