from libc.stdint cimport int64_t, uint32_t, uint64_t

from feeds.book cimport BookState, OrderBook
from feeds.checksum cimport Checksum
from feeds.decoder cimport Decoder
from feeds.events cimport BookDelta, BookUpdate, Event, Stage
from feeds.instrument cimport Instrument
from feeds.latency cimport Latency
from feeds.sequencing cimport Sequence


# Kinds of events that are counted.
cdef enum Kind:
    BOOK, QUOTE, TRADE, TICKER, FUNDING, OPEN_INTEREST, LIQUIDATION, CANDLE
    KINDS


# What the builder keeps per instrument.
cdef class _Entry:
    cdef:
        OrderBook book
        Sequence sequence
        object pending           # deque of BookDelta copies that wait for a snapshot
        Py_ssize_t pending_levels    # in all of `pending`
        bint asked               # a snapshot has been asked for and has not come
        bint is_partial          # kept by a top-N stream
        int64_t oldest_id        # of a book that is LIVE and waits for a snapshot: no older one can replace it
        # Messages in the book that no update told of, because it was crossed; the ts_event of the first of them.
        int untold
        int64_t untold_ts_event


cdef class BookBuilder(Stage):
    cdef:
        public Decoder decoder           # who is asked for snapshots; replaced on reconnect
        public Latency latency           # None: nothing is measured
        readonly object new_sequence     # () -> Sequence, and what checksums are compared by: of the decoder's protocol
        readonly Checksum checksum
        list _entries                    # by instrument index, None where there is no book
        set _dropped                     # indexes of instruments whose messages make no book
        BookUpdate _update
        readonly Py_ssize_t max_pending_levels
        readonly Py_ssize_t max_levels
        readonly Py_ssize_t max_window
        readonly uint64_t applied        # deltas and snapshots that became part of a book
        readonly uint64_t old            # deltas that a book already contained
        readonly uint64_t gaps
        readonly uint64_t verified       # messages whose checksum was that of the book
        readonly uint64_t mismatched     # messages whose checksum was not
        readonly uint64_t unfit          # times a book was given up because a level did not fit int64 at new decimals
        # How many events there were, by instrument index and kind, of the first `counted` instruments. They wrap around.
        uint32_t* counts
        Py_ssize_t counted

    # Count from now on the events of at least so many instruments, too.
    cdef int count(self, Py_ssize_t instruments) except -1
    cdef inline int _count(self, Instrument instrument, int kind) noexcept:
        if instrument.index < self.counted:
            self.counts[instrument.index * KINDS + kind] += 1
        return 0
    cdef _Entry _entry(self, BookDelta delta)            # None: the book was dropped
    cdef _Entry _find(self, Instrument instrument)       # None: no message of it has come
    # False: a level does not fit, or the checksum is another, and the book was given up.
    cdef bint _apply(self, _Entry entry, BookDelta delta) except -1
    cdef int _trim(self, OrderBook book, Py_ssize_t window) except -1
    cdef bint _verify(self, _Entry entry, BookDelta delta) except -1
    cdef int _give_up(self, _Entry entry, str reason, int64_t ts_event, int64_t ts_recv) except -1
    cdef BookDelta _rescale(self, _Entry entry, BookDelta delta)
    cdef int _hold(self, _Entry entry, BookDelta delta) except -1
    cdef int _ask(self, _Entry entry) except -1
    cdef int _ask_after_loss(self, _Entry entry) except -1
    cdef int _join(self, _Entry entry, BookDelta snapshot) except -1
    cdef bint _judge_held(self, _Entry entry) except -1
    cdef int _missed(self, _Entry entry, BookDelta delta) except -1
    cdef int _tell(self, _Entry entry, Event cause, int merged, int64_t ts_event_first) except -1
    cdef int _turn(self, _Entry entry, BookState state, str reason, int64_t ts_event, int64_t ts_recv) except -1
