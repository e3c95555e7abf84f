# One wire message, declared once as a msgspec Struct, decoded by two engines that must agree:
#   read   the reference: msgspec decodes the struct, which gives the clear errors
#   scan   the hot one: reads the bytes in one pass, any key order, unknown fields skipped, no Python object made; what it
#          does not expect it refuses, and the caller asks the reference
from libc.stdint cimport int64_t, uint32_t

from feeds.large cimport LargeArrays
from feeds.levels cimport Decimals, LevelShape, LevelVector


# What a field of a message means to the event.
cdef enum Role:
    TS_EVENT
    TS_PUBLISH           # stands in where TS_EVENT is not sent
    SEQUENCE
    TRADE_ID
    FIRST_ID
    LAST_ID
    PREVIOUS_ID
    BUYER_IS_MAKER
    ONLY                 # 1 where the field has the text that the declaration asks for
    PRICE
    BID_PRICE
    ASK_PRICE
    QTY
    BID_QTY
    ASK_QTY
    BIDS
    ASKS
    BIDS_AND_ASKS
    UNUSED               # the event has no place for it, but the struct promises its type
    ROLE_COUNT


cdef enum EventKind:
    TRADE
    QUOTE
    BOOK_DELTA


cdef enum FieldType:
    FIELD_INTEGER
    FIELD_BOOL
    FIELD_TEXT
    FIELD_PRICE
    FIELD_QTY
    FIELD_LEVELS
    FIELD_ANY


# What was read. The caller points bids and asks to the vectors to fill and sets the decimals.
cdef struct Values:
    int64_t of[19]       # by role
    Decimals decimals
    LevelVector* bids
    LevelVector* asks
    const LargeArrays* large # those that have been read before; may be NULL


cdef struct Field:
    char key[24]
    Py_ssize_t key_size
    Role role
    FieldType type
    bint quoted              # a number that must stand in quotes; else it may
    int64_t default          # where it may be missing


cdef class Wire:
    cdef:
        readonly object struct
        readonly EventKind kind
        readonly bint is_snapshot
        readonly int depth
        readonly str name
        readonly LevelShape levels   # None: [price, qty, ...]
        Field fields[16]
        int field_count
        uint32_t required            # bit per field
        uint32_t optional            # those whose default is worth writing down
        bytes only_text
        const char* only_data
        Py_ssize_t only_size
        list _attributes             # by field: attribute name of the struct, in its order
        object _decode

    # SCAN_OK or SCAN_GROW with at[0] behind the object; anything else means that the reference is to be asked.
    cdef int scan(self, const char** at, const char* end, Values* out) noexcept nogil
    # The same from any bytes-like `data`, by msgspec; DecodeError says what is wrong.
    cdef int read(self, object data, Values* out) except -1

    # The field of that name, NULL if there is none; the field number `likely` is looked at first.
    cdef Field* field_of(self, const char* key, Py_ssize_t size, int likely) noexcept nogil
    # Any value of a field; any text of the one that says ONLY: whether it is the one asked for.
    cdef int scan_field(self, Field* field, const char** at, const char* end, Values* out) noexcept nogil
    cdef bint is_only(self, const char* p, const char* end) noexcept nogil
    cdef int _scan_number(self, Field* field, bint without_quotes, const char** at, const char* end, Values* out) noexcept nogil
    cdef int _scan_levels(self, const Field* field, const char** at, const char* end, Values* out) noexcept nogil
    cdef int _read_text(self, Field* field, bint required, object value, Values* out) except -1
