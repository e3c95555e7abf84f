# Where a message says what it is about, found in its bytes: for exchanges whose messages have no envelope that the routes of
# feeds.decoder know. One key per kind of message; each stream of it that was decoded once has a Route.
from libc.stdint cimport uint64_t

from feeds.decoder cimport Route
from feeds.instrument cimport Instrument


cdef enum PieceKind:
    TEXT
    NUMBER
    NAME


cdef struct KeyPiece:
    PieceKind kind
    const char* text         # owned by SupersedeKey.pattern
    Py_ssize_t size


# A stream's names, found by the last of them; the text is owned by the Route, NULL marks a free slot.
cdef struct StreamSlot:
    uint64_t hash
    const char* text
    Py_ssize_t size
    void* route


cdef class SupersedeKey:
    cdef:
        readonly bytes pattern
        bytes _after                     # what follows the brace that ends what "..." stands for
        KeyPiece _pieces[24]
        int _piece_count
        int _name_count                  # of the pieces, those up to the last name
        list _routes                     # owns what the slots point to
        StreamSlot* _slots
        Py_ssize_t _slot_count           # a power of two

    # The route of a message; at[0] is then where what the pattern leaves open begins, less one, or `end` where the rest of the
    # message is unlike the pattern. None: it is of no known stream.
    cdef Route find(self, const char** at, const char* end)
    # Give the stream of a message a route. False: it is unlike the pattern, or there are too many.
    cdef bint add(self, const char* data, const char* end, Instrument instrument, bint of_book) except -1

    cdef const char* _read(self, int first, int behind, const char* p, const char* end, StreamSlot* names) noexcept
    cdef StreamSlot* _slot_of(self, const StreamSlot* names) noexcept
    cdef int _double(self) except -1
