from libc.stdint cimport int64_t, uint64_t

from feeds.events cimport Event, EventHandler
from feeds.latency cimport Histogram
from feeds.pipeline cimport Pipeline
from feeds.recording.reader cimport RawSource
from feeds.replay cimport Replay


cdef enum:
    SLOTS = 512                     # of a plot
    WINDOWS = 3                     # 1, 10 and 100 ms
    BATCH_SIZES = 32                # 1, 2, 3-4, 5-8, ...
    MAX_WINDOW_MESSAGES = 1 << 20   # more in 100 ms are counted as so many


# What is counted of an instrument.
cdef enum:
    BOOK = 0
    SNAPSHOTS = 1
    QUOTE = 2
    TRADE = 3
    TICKER = 4
    FUNDING = 5
    OPEN_INTEREST = 6
    LIQUIDATION = 7
    CANDLE = 8
    GAPS = 9
    CHECKSUM_FAILURES = 10
    COUNTS = 11


# The values that fell into one slot of time.
cdef struct Slot:
    double low
    double high
    double sum
    int64_t count                   # 0: the other fields mean nothing


# A value over time in a fixed number of slots, which keep the least and the greatest: no spike is lost.
cdef class Series:
    cdef Slot slots[SLOTS]

    cdef void add(self, int slot, double value) noexcept
    # Every two slots become one: time has outgrown them.
    cdef void halve(self) noexcept


# ts_recv - ts_event of one exchange.
cdef class Skew:
    cdef:
        int64_t base                # the first
        Histogram above             # distances from it
        Histogram below
        readonly Series series
        readonly int64_t min
        readonly int64_t max

    cdef void add(self, int slot, int64_t ns) noexcept


# What one connection has sent.
cdef class ConnectionTally:
    cdef:
        readonly Pipeline pipeline
        readonly str url
        readonly uint64_t largest_batch
        readonly uint64_t disconnects
        readonly dict reasons       # of them, text -> how often
        uint64_t open_batch         # messages of the batch in progress
        int64_t last_ts             # of its last message


# What one instrument has had.
cdef class SymbolTally:
    cdef:
        readonly object instrument
        uint64_t _counts[COUNTS]
        readonly int64_t first_live         # 0: its book never was
        readonly int64_t not_live_ns        # after that
        Skew skew
        # Of its book; of its quotes until it has one. None beyond `MAX_PLOTTED` instruments.
        readonly Series spread
        readonly Series bid_qty
        readonly Series ask_qty
        bint has_book


# Counts what passes, in constant memory. Fed by a `SurveyedReplay`.
cdef class Survey(EventHandler):
    cdef:
        readonly int64_t first              # ts_recv of the first message that has one
        readonly int64_t last               # the greatest
        readonly uint64_t steps_back        # messages received before the one before them
        readonly int64_t largest_step_back
        int64_t now                         # of the last message

        # Slots of all series: [start + (n << shift), start + (n + 1 << shift)) ns.
        readonly int64_t start
        readonly int shift
        int slot                            # of `now`
        list _series
        readonly Series rate                # messages in the 100 ms before each message

        # Receive times of the last 100 ms. Index n stands at n modulo the capacity.
        int64_t* _ring
        int64_t _capacity
        int64_t _pushed
        int64_t _tails[WINDOWS]             # index of the first message in the window
        int64_t _most[WINDOWS]
        int64_t _most_ts[WINDOWS]           # of the window's last message

        uint64_t _batch_sizes[BATCH_SIZES]
        readonly uint64_t batches
        readonly uint64_t largest_batch
        readonly int64_t largest_batch_ts

        int64_t silence_ns
        readonly object silences            # Periods without a message of a connection
        readonly object book_gaps           # Periods in which a book that had been LIVE, or should be, was not
        readonly object disconnects         # Moments
        readonly dict statuses
        dict _open_gaps                     # OrderBook -> since when, in which state and why
        readonly list connections
        readonly uint64_t unlisted_connections
        dict _current                       # number -> ConnectionTally
        int _last_number
        ConnectionTally _last_connection
        readonly list symbols
        readonly uint64_t unlisted_symbols
        list _by_index                      # Instrument.index -> SymbolTally
        readonly SymbolTally others         # the instruments that are not listed, together
        readonly dict skews                 # exchange -> Skew

    cdef int on_message(self, int number, int64_t ts_recv, bint last_in_batch) except -1
    cdef int _pass_to(self, int64_t ts) except -1
    cdef int _push(self, int64_t ts) except -1
    cdef int _make_room(self) except -1
    cdef SymbolTally _of(self, Event event)
    cdef int _count(self, Event event, int what) except -1
    cdef void _measure_skew(self, SymbolTally tally, Event event) noexcept


# A replay that tells a `Survey` of every message, besides the events.
cdef class SurveyedReplay(Replay):
    cdef readonly Survey survey
