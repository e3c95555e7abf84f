# cython: language_level=3, boundscheck=False, wraparound=False
"""Keys of messages that supersede one another: which stream a message is of, told by its bytes without decoding it."""
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp

from feeds.scan cimport feeds_name, feeds_same

import re

__all__ = ["SupersedeKey"]

cdef enum:
    MAX_PIECES = 24
    MAX_STREAMS = 65_536     # of a key: names come from the peer
    FIRST_SLOTS = 64


cdef class SupersedeKey:
    """How messages of a kind are written of which each says all that those before it on its stream said.

    `pattern` is such a message, with `*` for a name (the text up to the quote), `#` for digits and `...` for what is left
    open, which ends with a brace. What stands between the first name and the last is the key. ValueError for other patterns.
    """

    def __cinit__(self, bytes pattern not None):
        cdef const char* text = PyBytes_AS_STRING(pattern)
        cdef Py_ssize_t at = 0
        cdef bytes part
        beginning, _, ending = pattern.partition(b"...")
        parts = [part for part in re.split(rb"([*#])", beginning) if part]
        if not ending.startswith(b"}") or b"*" not in parts or beginning[len(beginning) - 1:] in (b"*", b"#") or len(parts) > MAX_PIECES:
            raise ValueError(f"expected a message with a name, '*', and '...' before a brace, found {pattern!r}")
        self.pattern = pattern
        self._after = ending[1:]
        for part in parts:
            self._pieces[self._piece_count].kind = NAME if part == b"*" else NUMBER if part == b"#" else TEXT
            self._pieces[self._piece_count].text = text + at
            self._pieces[self._piece_count].size = len(part)
            self._piece_count += 1
            if part == b"*":
                self._name_count = self._piece_count
            at += len(part)
        self._routes = []
        self._slot_count = FIRST_SLOTS
        self._slots = <StreamSlot*> calloc(self._slot_count, sizeof(StreamSlot))
        if self._slots == NULL:
            raise MemoryError()

    def __dealloc__(self):
        free(self._slots)

    cdef Route find(self, const char** at, const char* end):
        cdef StreamSlot names
        cdef StreamSlot* slot
        cdef const char* p = self._read(0, self._name_count, at[0], end, &names)
        if p == NULL:
            return None
        slot = self._slot_of(&names)
        if slot.text == NULL:
            return None
        p = self._read(self._name_count, self._piece_count, p, end, &names)
        at[0] = end if p == NULL else p - 1
        return <Route> slot.route

    cdef bint add(self, const char* data, const char* end, Instrument instrument, bint of_book) except -1:
        cdef StreamSlot names
        cdef StreamSlot* slot
        cdef Route route
        cdef const char* p = self._read(0, self._name_count, data, end, &names)
        if p == NULL or len(self._routes) >= MAX_STREAMS:
            return False
        slot = self._slot_of(&names)
        if slot.text != NULL or self._read(self._name_count, self._piece_count, p, end, &names) == NULL:
            return slot.text != NULL
        route = Route.__new__(Route)
        route.name = names.text[:names.size]
        route.opens = (self._pieces[self._piece_count - 1].text + self._pieces[self._piece_count - 1].size - 1)[0]
        route.after = self._after
        route.instrument = instrument
        route.supersedes = True
        route.of_book = of_book
        route.newest = -1
        slot[0] = names
        slot.text = PyBytes_AS_STRING(route.name)
        slot.route = <void*> route
        self._routes.append(route)
        if len(self._routes) * 2 > self._slot_count:             # at most half full: probes stay short
            self._double()
        return True

    cdef const char* _read(self, int first, int behind, const char* p, const char* end, StreamSlot* names) noexcept:
        """Return what is behind the pieces, and all of their names in one; NULL where the message is unlike them."""
        cdef KeyPiece* piece
        cdef const char* start
        cdef int i
        if first == 0:
            names.text = NULL
        for i in range(first, behind):
            piece = &self._pieces[i]
            if piece.kind == TEXT:
                if end - p < piece.size or not feeds_same(p, piece.text, piece.size):
                    return NULL
                p += piece.size
                continue
            start = p
            if piece.kind == NAME:
                p = feeds_name(p, end, &names.hash)
                if p == NULL:
                    return NULL
                if names.text == NULL:
                    names.text = start
                names.size = p - names.text
            else:
                while p < end and c'0' <= p[0] <= c'9':
                    p += 1
            if p == start:
                return NULL
        return p

    cdef StreamSlot* _slot_of(self, const StreamSlot* names) noexcept:
        """The slot of these names, or the free one where they are not there."""
        cdef Py_ssize_t at = names.hash & (self._slot_count - 1)
        cdef StreamSlot* slot = &self._slots[at]
        while slot.text != NULL and not (slot.hash == names.hash and slot.size == names.size
                                         and memcmp(slot.text, names.text, names.size) == 0):
            at = (at + 1) & (self._slot_count - 1)
            slot = &self._slots[at]
        return slot

    cdef int _double(self) except -1:
        cdef StreamSlot* before = self._slots
        cdef Py_ssize_t i
        cdef Py_ssize_t count = self._slot_count
        cdef StreamSlot* slots = <StreamSlot*> calloc(count * 2, sizeof(StreamSlot))
        if slots == NULL:
            raise MemoryError()
        self._slots = slots
        self._slot_count = count * 2
        for i in range(count):
            if before[i].text != NULL:
                self._slot_of(&before[i])[0] = before[i]
        free(before)
        return 0
