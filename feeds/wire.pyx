# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Wire messages: declared once, read by msgspec (the reference) or by a scanner (the hot engine)."""
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport int64_t
from libc.string cimport memcmp, memcpy

from feeds.levels cimport (
    SCAN_BAD,
    SCAN_GROW,
    SCAN_NO_MEMORY,
    SCAN_OK,
    SCAN_OVERFLOW,
    SCAN_TOO_MANY,
    scan_integer,
    scan_levels,
    scan_number_value,
    skip_space,
    skip_value,
)

import msgspec
import orjson

from feeds.errors import DecodeError
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
}
_KINDS = {Trade: TRADE, Quote: QUOTE, BookDelta: BOOK_DELTA}


cdef class Wire:
    """How a wire message becomes an event.

    `struct` is the message as a msgspec Struct with the exchange's field names: numbers as `str` (quoted) or `msgspec.Raw`
    (bare), level arrays as `msgspec.Raw`, ids and times as `int`. The keywords say which field fills which part of the
    event; a field that no keyword names is checked by msgspec and otherwise unused. `only=("X", "MARKET")` drops messages
    whose field has another text. Fields without a default are required.

        Wire(_Trade, Trade, trade_id="t", price="p", qty="q", buyer_is_maker="m", ts_event="T")
    """

    def __init__(self, struct, event, *, bint is_snapshot=False, int depth=0, only=None,
                 **roles):
        if event not in _KINDS:
            raise TypeError(f"expected Trade, Quote or BookDelta, found {event!r}")
        self.struct = struct
        self.kind = _KINDS[event]
        self.is_snapshot = is_snapshot
        self.depth = depth
        self.name = struct.__name__.lstrip("_")
        self._attributes = []
        self._decode = msgspec.json.Decoder(struct).decode
        by_name = {field.name: field for field in msgspec.structs.fields(struct)}
        for word, name in roles.items():
            if word not in _ROLES:
                raise TypeError(f"{self.name}: expected one of {sorted(_ROLES)}, found {word!r}")
            self._add(by_name, name, *_ROLES[word])
        if only is not None:
            name, text = only
            self.only_text = text.encode()
            self.only_data = self.only_text
            self.only_size = len(self.only_text)
            self._add(by_name, name, ONLY, FIELD_TEXT)

    def _add(self, by_name, name, int role, int field_type):
        cdef Field* field = &self.fields[self.field_count]
        if name not in by_name:
            raise TypeError(f"{self.name}: expected a field among {sorted(by_name)}, found {name!r}")
        key = by_name[name].encode_name.encode()
        if self.field_count == 16 or len(key) > 24:
            raise TypeError(f"{self.name}: expected at most 16 fields of at most 24 bytes, found {name!r} more")
        field.key_size = len(key)
        memcpy(field.key, <const char*> key, len(key))
        field.role = <Role> role
        field.type = <FieldType> field_type
        self.field_count += 1
        self._attributes.append(name)
        if by_name[name].required:
            self.required |= <uint32_t> 1 << role

    cdef int scan(self, const char** at, const char* end, Values* out) noexcept nogil:
        cdef:
            const char* p = at[0]
            const char* key
            Py_ssize_t key_size
            Field* field
            int expected = 0             # messages keep their key order: try the field after the last one first
            int i
            int status
            int worst = SCAN_OK
        if p == end or p[0] != c'{':
            return SCAN_BAD
        p = skip_space(p + 1, end)
        while True:
            if p == end or p[0] != c'"':
                return SCAN_BAD
            p += 1
            key = p
            while p < end and p[0] != c'"':
                if p[0] == c'\\':
                    return SCAN_BAD
                p += 1
            key_size = p - key
            p = skip_space(p + 1, end)
            if p >= end or p[0] != c':':
                return SCAN_BAD
            p = skip_space(p + 1, end)
            field = NULL
            for i in range(self.field_count):
                if expected == self.field_count:
                    expected = 0
                if (self.fields[expected].key_size == key_size and self.fields[expected].key[0] == key[0]
                        and memcmp(self.fields[expected].key, key, key_size) == 0):
                    field = &self.fields[expected]
                    expected += 1
                    break
                expected += 1
            if field == NULL:
                status = skip_value(&p, end)
            else:
                status = self._scan_field(field, &p, end, out)
                out.present |= <uint32_t> 1 << field.role
            if status == SCAN_GROW:
                worst = SCAN_GROW
            elif status != SCAN_OK:
                return status
            p = skip_space(p, end)
            if p == end:
                return SCAN_BAD
            if p[0] == c',':
                p = skip_space(p + 1, end)
                continue
            if p[0] != c'}':
                return SCAN_BAD
            at[0] = p + 1
            return worst if out.present & self.required == self.required else SCAN_BAD

    cdef inline int _scan_field(self, Field* field, const char** at, const char* end, Values* out) noexcept nogil:
        cdef const char* p
        if field.type == FIELD_INTEGER:
            return scan_integer(at, end, &out.of[<int> field.role])
        if field.type == FIELD_PRICE:
            return scan_number_value(at, end, out.decimals.price, &out.of[<int> field.role], &out.decimals.needed_price)
        if field.type == FIELD_QTY:
            return scan_number_value(at, end, out.decimals.qty, &out.of[<int> field.role], &out.decimals.needed_qty)
        if field.type == FIELD_LEVELS:
            return scan_levels(at, end, out.bids if field.role == BIDS else out.asks, &out.decimals)
        p = at[0]
        if field.type == FIELD_BOOL:
            if end - p >= 4 and memcmp(p, b"true", 4) == 0:
                out.of[<int> field.role] = 1
                at[0] = p + 4
                return SCAN_OK
            if end - p >= 5 and memcmp(p, b"false", 5) == 0:
                out.of[<int> field.role] = 0
                at[0] = p + 5
                return SCAN_OK
            return SCAN_BAD
        # FIELD_TEXT: only compared
        if p == end or p[0] != c'"':
            return SCAN_BAD
        out.of[<int> field.role] = (end - p >= self.only_size + 2 and p[self.only_size + 1] == c'"'
                                    and memcmp(p + 1, self.only_data, self.only_size) == 0)
        p += 1
        while p < end and p[0] != c'"':
            if p[0] == c'\\':
                return SCAN_BAD
            p += 1
        if p == end:
            return SCAN_BAD
        at[0] = p + 1
        return SCAN_OK

    cdef int read(self, object data, Values* out) except -1:
        cdef int i
        cdef int status
        cdef int worst = SCAN_OK
        cdef Field* field
        try:
            message = self._decode(data)
        except msgspec.ValidationError as error:
            raise self._invalid(bytes(data), str(error)) from None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise DecodeError(f"{self.name}: expected JSON, found: {error}", kind="not_json",
                              payload=bytes(data)) from None
        for i in range(self.field_count):
            field = &self.fields[i]
            value = getattr(message, self._attributes[i])
            if field.type == FIELD_TEXT:
                out.of[<int> field.role] = value == self.only_text.decode()
            elif field.type == FIELD_INTEGER or field.type == FIELD_BOOL:
                if not -2**63 <= value < 2**63:
                    raise self._bad_value(i, SCAN_OVERFLOW, bytes(data))
                out.of[<int> field.role] = value
            else:
                status = self._read_text(field, value, out)
                if status == SCAN_GROW:
                    worst = SCAN_GROW
                elif status != SCAN_OK:
                    raise self._bad_value(i, status, bytes(data))
            out.present |= <uint32_t> 1 << field.role
        return worst

    cdef int _read_text(self, Field* field, object value, Values* out) except -1:
        """Read a number or an array of levels by the same scanners, from the text that msgspec has cut out."""
        cdef Py_buffer view
        cdef const char* p
        cdef const char* end
        cdef int status
        PyObject_GetBuffer(value.encode() if isinstance(value, str) else value, &view, PyBUF_SIMPLE)
        try:
            p = <const char*> view.buf
            end = p + view.len
            if view.len == 0 and field.type == FIELD_LEVELS:         # an optional array that was not sent
                return SCAN_OK
            status = self._scan_field(field, &p, end, out)
            if (status == SCAN_OK or status == SCAN_GROW) and skip_space(p, end) != end:
                return SCAN_BAD
            return status
        finally:
            PyBuffer_Release(&view)

    def _bad_value(self, int i, int status, bytes payload):
        expected = {
            FIELD_PRICE: "a decimal number", FIELD_QTY: "a decimal number", FIELD_LEVELS: "[[price, qty], ...]",
        }.get(self.fields[i].type, "an int64")
        found = {
            SCAN_BAD: "something else", SCAN_OVERFLOW: "one beyond int64", SCAN_NO_MEMORY: "too many (out of memory)",
            SCAN_TOO_MANY: "too many levels",
        }[status]
        return DecodeError(f"{self.name}: expected {expected} in '{self._attributes[i]}', found {found}",
                           kind="bad_value", payload=payload)

    def _invalid(self, bytes payload, text):
        """Turn msgspec's refusal into ours: with the keys that were there when one is missing."""
        if "missing required field" in text:
            found = orjson.loads(payload)
            name = text.split("`")[1]
            return DecodeError(f"{self.name}: expected '{name}', found {sorted(found)}", kind="missing_field",
                               payload=payload)
        return DecodeError(f"{self.name}: {text}", kind="wrong_type", payload=payload)
