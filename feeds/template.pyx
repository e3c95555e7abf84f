# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The quickest way through messages that are all alike: compare what never changes, read what does."""
cimport cython
from libc.stdint cimport uint32_t
from libc.string cimport memset

from feeds.levels cimport SCAN_OK, LevelVector, levels_free, skip_space, skip_value
from feeds.scan cimport (
    feeds_bool, feeds_decimal_text, feeds_digits, feeds_integer, feeds_integer_rest, feeds_literal, feeds_load, feeds_same,
)
from feeds.wire cimport FIELD_ANY, FIELD_BOOL, FIELD_INTEGER, FIELD_PRICE, FIELD_QTY, FIELD_TEXT, ONLY, UNUSED

__all__ = ["read_like"]

cdef enum:
    MAX_PIECES = 24
    MAX_TEXT_SIZE = 2048
    MEMORABLE = 16           # characters of a price
    PADDING = 8              # texts are compared by chunks of so many bytes


@cython.final
cdef class Template:

    cdef bint read(self, const char* data, const char* end, Values* out) noexcept nogil:
        cdef:
            const char* p = data
            const char* text = self._text
            Piece* piece = self.pieces
            int i
        for i in range(self.piece_count):
            p = feeds_literal(p, end, text, piece.text_size)
            if p == NULL:
                return False
            text += piece.text_size
            p = _read_value(self.wire, piece, p, end, out)
            if p == NULL:
                return False
            piece += 1
        for i in range(self.default_count):
            out.of[<int> self.defaults[i].role] = self.defaults[i].value
        return end - p == self.tail_size and feeds_same(p, text, self.tail_size)

    cdef bint learn(self, Wire wire, const char* data, const char* end) except -1:
        self.wire = wire
        self.piece_count = self.default_count = 0
        if not self._learn(wire, data, end):
            self.piece_count = 0
        return self.piece_count != 0

    cdef bint _learn(self, Wire wire, const char* data, const char* end) except -1:
        cdef:
            const char* p = data
            const char* start = data         # of the text before the next value
            const char* key
            const char* value
            Field* field
            uint32_t present = 0             # bit per field
            list texts = []
            int i
        while True:
            key = skip_space(p + 1, end)     # behind the brace or the comma
            p = key
            if skip_value(&p, end) != SCAN_OK:
                return False
            field = wire.field_of(key + 1, p - key - 2, self.piece_count)
            value = skip_space(skip_space(p, end) + 1, end)
            p = value
            if skip_value(&p, end) != SCAN_OK:
                return False
            if field != NULL:
                present |= <uint32_t> 1 << (field - wire.fields)
            if value[0] == c'"' and (field == NULL or field.type == FIELD_TEXT or field.type == FIELD_ANY):
                if field != NULL and field.role == ONLY:
                    self._set_default(ONLY, wire.is_only(value, end))
            else:
                kind = _kind(field, value)
                if kind == PRICE_TEXT or kind == QTY_TEXT:
                    text = start[:value + 1 - start]
                    start = p - 1
                else:
                    text = start[:value - start]
                    start = p
                texts.append(text)
                if not self._add(kind, field, len(text)):
                    return False
            p = skip_space(p, end)
            if p[0] == c'}':
                break
        for i in range(wire.field_count):
            if (wire.optional & ~present) >> i & 1:
                self._set_default(wire.fields[i].role, wire.fields[i].default)
        texts.append(start[:end - start])
        self.tail_size = end - start
        self.text = b"".join(texts) + bytes(PADDING)
        self._text = self.text
        return len(self.text) <= MAX_TEXT_SIZE

    cdef bint _add(self, Kind kind, Field* field, Py_ssize_t text_size) except -1:
        cdef Piece* piece = &self.pieces[self.piece_count]
        if self.piece_count == MAX_PIECES:
            return False
        piece.text_size = text_size
        piece.kind = kind
        piece.field = field
        piece.role = UNUSED if field == NULL else field.role
        piece.head = 0
        self.piece_count += 1
        return True

    cdef int _set_default(self, Role role, int64_t value) except -1:
        self.defaults[self.default_count].role = role
        self.defaults[self.default_count].value = value
        self.default_count += 1
        return 0


def read_like(Wire wire not None, bytes model not None, bytes message not None, int price_decimals, int qty_decimals):
    """Return what the template of `model` reads of `message`, {role number: value}; None if it is unlike it.

    A test's view of what decoders do. ValueError if no template is made of `model`, which must be a message of the kind
    `wire`.
    """
    cdef Template template = Template.__new__(Template)
    cdef Values values
    cdef LevelVector levels[2]
    cdef const char* data = message
    cdef int role
    if not template.learn(wire, model, <const char*> model + len(model)):
        raise ValueError(f"expected at most {MAX_PIECES} values and {MAX_TEXT_SIZE} bytes around them")
    memset(&values, 0, sizeof(values))
    memset(levels, 0, sizeof(levels))
    values.bids, values.asks = &levels[0], &levels[1]
    values.decimals.price = values.decimals.needed_price = price_decimals
    values.decimals.qty = values.decimals.needed_qty = qty_decimals
    try:
        if not template.read(data, data + len(message), &values):
            return None
        return {role: values.of[role] for role in range(<int> UNUSED) if values.of[role]}
    finally:
        levels_free(&levels[0])
        levels_free(&levels[1])


cdef inline const char* _read_value(Wire wire, Piece* piece, const char* p, const char* end,
                                    Values* out) noexcept nogil:
    """Return what is behind the value, NULL where it is not one of its kind."""
    cdef int64_t* value = &out.of[<int> piece.role]
    cdef bint in_quotes = False
    cdef const char* behind
    if piece.kind == PRICE_TEXT:
        behind = _price(piece, p, end, out.decimals.price, value)
        in_quotes = True
    elif piece.kind == QTY_TEXT:
        behind = feeds_decimal_text(p, end, out.decimals.qty, value)
        in_quotes = True
    elif piece.kind == INTEGER:
        behind = _integer(piece, p, end, value)
    elif piece.kind == BOOL:
        behind = feeds_bool(p, end, value)
    else:
        behind = NULL
    if behind != NULL:
        return behind
    if piece.field == NULL:
        return p if skip_value(&p, end) == SCAN_OK else NULL
    p -= in_quotes
    return p - in_quotes if wire.scan_field(piece.field, &p, end, out) == SCAN_OK else NULL


# Prices repeat, and comparing is quicker than reading. Quantities repeat by chance: a branch that nobody can predict costs more.
cdef inline const char* _price(Piece* piece, const char* p, const char* end, int decimals, int64_t* value) noexcept nogil:
    cdef const char* quote
    if (end - p > MEMORABLE and feeds_load(p) == piece.head and feeds_load(p + piece.tail_at) == piece.tail
            and p[piece.size] == c'"' and piece.decimals == decimals):
        value[0] = piece.value
        return p + piece.size
    quote = feeds_decimal_text(p, end, decimals, value)
    if quote != NULL and quote - p <= MEMORABLE and end - p > MEMORABLE:
        piece.size = <int> (quote - p)
        piece.tail_at = max(piece.size - 8, 0)
        piece.head = feeds_load(p)
        piece.tail = feeds_load(p + piece.tail_at)
        piece.decimals = decimals
        piece.value = value[0]
    return quote


cdef inline const char* _integer(Piece* piece, const char* p, const char* end, int64_t* value) noexcept nogil:
    cdef const char* behind
    if end - p > 8 and feeds_load(p) == piece.head:
        return feeds_integer_rest(p, end, piece.value, value)
    behind = feeds_integer(p, end, value)
    if behind != NULL and behind - p >= 8:
        piece.head = feeds_load(p)
        piece.value = feeds_digits(piece.head, 8)
    return behind


cdef Kind _kind(const Field* field, const char* value) noexcept:
    if field == NULL:
        return OTHER
    if field.type == FIELD_PRICE and value[0] == c'"':
        return PRICE_TEXT
    if field.type == FIELD_QTY and value[0] == c'"':
        return QTY_TEXT
    if field.type == FIELD_INTEGER or (field.type == FIELD_ANY and c'0' <= value[0] <= c'9'):
        return INTEGER
    if field.type == FIELD_BOOL:
        return BOOL
    return OTHER
