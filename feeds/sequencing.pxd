# Is this book message the next one? One object per book; a rule that several exchanges share is one type.
from libc.stdint cimport int64_t

from feeds.events cimport BookDelta


cpdef enum Verdict:
    APPLY = 0        # the next message: apply it
    OLD = 1          # the book already contains it: ignore it
    MISSED = 2       # at least one message before it was missed


cdef class Sequence:
    cdef:
        readonly int64_t last_id         # of the last applied message, -1 before the first
        readonly bint awaiting_first     # a snapshot stands and no delta has been applied to it
        readonly bint needs_held         # only a delta that came before a snapshot shows that it is not too old

    # A snapshot replaces the book.
    cdef int join(self, BookDelta snapshot) except -1
    # A snapshot that is older than the book: a late REST reply.
    cdef bint is_late(self, BookDelta snapshot) noexcept
    # Judges a delta; on APPLY it becomes the last one.
    cdef Verdict check(self, BookDelta delta) noexcept
