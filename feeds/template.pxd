# What all messages of a stream have in common, learned from one of them: an exchange writes a kind of message always alike.
cimport cython
from libc.stdint cimport int64_t, uint64_t

from feeds.wire cimport Field, Role, Values, Wire


cdef enum Kind:
    INTEGER
    PRICE_TEXT           # in quotes, which are part of the texts around it
    QTY_TEXT
    BOOL
    OTHER                # anything else, also of no field


cdef struct Piece:
    int text_size        # of the text before the value
    Kind kind
    Role role
    Field* field         # the Wire's; NULL where the Wire has none: the value is skipped
    # What was read last: prices often stay as they are, and of times and ids the first digits do.
    uint64_t head        # its first eight characters; 0: nothing yet
    int64_t value        # of an INTEGER that of its head
    # Only of a price of up to 16 characters.
    uint64_t tail        # from `tail_at` on, which is 0 where it has no more than eight
    int tail_at
    int size
    int decimals         # of `value`


cdef struct Default:
    Role role
    int64_t value


@cython.final
cdef class Template:
    cdef:
        Wire wire
        bytes text                   # what stands before, between and behind the values
        const char* _text
        Piece pieces[24]
        int piece_count              # 0: nothing learned
        int tail_size
        Default defaults[16]         # of fields that the message does not have
        int default_count

    # Make it the template of messages like the one that stands from `data` to `end` and that the Wire can scan: an object, and
    # whatever is behind it. False, and none, where it has too many values.
    cdef bint learn(self, Wire wire, const char* data, const char* end) except -1
    # Whether what stands from `data` to `end` is such a message, all of whose values are as nearly all are: then they are in `out`.
    cdef bint read(self, const char* data, const char* end, Values* out) noexcept nogil

    cdef bint _learn(self, Wire wire, const char* data, const char* end) except -1
    cdef bint _add(self, Kind kind, Field* field, Py_ssize_t text_size) except -1
    cdef int _set_default(self, Role role, int64_t value) except -1
