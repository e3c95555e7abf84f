# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""What each subscription of a connection brings, and how long it may bring nothing."""
from libc.math cimport INFINITY
from libc.stdint cimport uint32_t
from libc.stdlib cimport calloc, free

from feeds.book_builder cimport (
    BOOK,
    CANDLE,
    FUNDING,
    KINDS,
    LIQUIDATION,
    OPEN_INTEREST,
    QUOTE,
    TICKER,
    TRADE,
    BookBuilder,
)

__all__ = ["Activity"]

cdef enum:
    ENOUGH = 16                  # looks that found something: evidence of what is usual

_KINDS = {
    "book": BOOK, "book_top": BOOK, "quote": QUOTE, "trade": TRADE, "agg_trade": TRADE, "ticker": TICKER,
    "funding": FUNDING, "open_interest": OPEN_INTEREST, "liquidation": LIQUIDATION, "candle": CANDLE,
}


# A subscription, or the connection as a whole. Seconds.
cdef struct Flow:
    Py_ssize_t counter           # of its events
    uint32_t count               # at the last look
    uint32_t learned             # silences, up to ENOUGH
    uint32_t flowing             # looks that found something since patience grew, up to ENOUGH
    bint is_answer               # what comes next was asked for: how long that took says nothing about the market
    double silence               # since the last look that found something
    double age                   # of `longest`
    double longest               # silence of this half of the window
    double longest_before        # ... and of the half before
    double patience              # a factor: grows with each threshold that was passed
    double fixed                 # threshold that is set, 0: learned


cdef class Activity:
    """Learns of each instrument and channel that is served what silence is usual, and says where it is longer.

    `books` counts the events that pass through it, which is all that is done per event. `look` is to be called every second
    or so, and compares the counters with those of the last look; silences are known to that resolution. A threshold is
    `factor` times the longest silence of the last `window` seconds, at least `floor`. It is infinite until 16 silences have
    been seen, and where it would exceed `ceiling`: such a market may be quiet. `timeouts` sets thresholds by channel.

    Whoever passes a threshold gets `factor` times the patience for the next time, until data has come in 16 looks: a market
    that has fallen asleep is soon beyond the ceiling, and left alone.
    """

    cdef:
        BookBuilder _books
        Flow* _flows             # of `_pairs`
        list _pairs
        Flow _connection
        dict _timeouts
        readonly double factor
        readonly double window
        readonly double floor
        readonly double ceiling

    def __init__(self, BookBuilder books not None, *, double factor=4.0, double window=3600.0, double floor=30.0,
                 double ceiling=300.0, timeouts=None):
        self._books = books
        self.factor, self.window, self.floor, self.ceiling = factor, window, floor, ceiling
        self._timeouts = dict(timeouts or {})
        self._pairs = []
        self._connection.patience = 1

    def __dealloc__(self):
        free(self._flows)

    @property
    def silence(self):
        """Seconds, to the last look, for which nothing has come of all that is served."""
        return self._connection.silence

    @property
    def threshold(self):
        """Seconds of silence beyond which the connection is not believed to serve a quiet market; may be infinite."""
        return self._threshold(&self._connection)

    def serve(self, pairs):
        """Look from now on after these pairs of instrument and channel; known ones keep what was learned."""
        cdef Flow* flows
        cdef Flow* flow
        cdef Py_ssize_t i
        pairs = list(pairs)
        known = {pair: i for i, pair in enumerate(self._pairs)}
        self._books.count(1 + max((instrument.index for instrument, _ in pairs), default=-1))
        flows = <Flow*> calloc(len(pairs) + 1, sizeof(Flow))
        if flows == NULL:
            raise MemoryError(f"no room to watch {len(pairs)} subscriptions")
        for i in range(len(pairs)):
            flow = flows + i
            if pairs[i] in known:
                flow[0] = self._flows[<Py_ssize_t> known[pairs[i]]]
                continue
            instrument, channel = pairs[i]
            flow.counter = <Py_ssize_t> instrument.index * KINDS + <Py_ssize_t> _KINDS[channel]
            flow.count = self._books.counts[flow.counter]
            flow.patience = 1
            flow.is_answer = True
            flow.fixed = self._timeouts.get(channel, 0.0)
        free(self._flows)
        self._flows, self._pairs = flows, pairs

    def restart(self):
        """A new connection: silences count from now, and what comes first teaches nothing."""
        cdef Py_ssize_t i
        _restart(&self._connection)
        for i in range(len(self._pairs)):
            _restart(self._flows + i)

    def look(self, double elapsed, Py_ssize_t most):
        """Compare counters, `elapsed` seconds after the last look.

        Return (instrument, channel, silence) of what has passed its threshold, so many at most: others are for the next look.
        Nothing is said to have stalled while the whole connection brings nothing.
        """
        cdef Py_ssize_t i
        cdef Flow* flow
        cdef bint has_come = False
        cdef list stalled = []
        for i in range(len(self._pairs)):
            flow = self._flows + i
            flow.silence += elapsed
            if self._books.counts[flow.counter] != flow.count:
                flow.count = self._books.counts[flow.counter]
                self._come(flow)
                has_come = True
        self._connection.silence += elapsed
        if not has_come:
            return stalled
        self._come(&self._connection)
        for i in range(len(self._pairs)):
            flow = self._flows + i
            if flow.silence > self._threshold(flow) and len(stalled) < most:
                stalled.append((*self._pairs[i], flow.silence))
                self._lose_patience(flow)
        return stalled

    def renewed(self, pair):
        """This one has been subscribed anew: what comes next teaches nothing."""
        self._flows[<Py_ssize_t> self._pairs.index(pair)].is_answer = True

    def gave_up(self):
        """The connection is made anew because of its silence."""
        self._lose_patience(&self._connection)

    cdef int _come(self, Flow* flow) noexcept:
        flow.age += flow.silence
        if not flow.is_answer:
            if flow.age >= self.window / 2:
                flow.longest_before, flow.longest, flow.age = flow.longest, 0, 0
            flow.longest = max(flow.longest, flow.silence)
            if flow.learned < ENOUGH:
                flow.learned += 1
        flow.is_answer = False
        flow.silence = 0
        if flow.flowing < ENOUGH:
            flow.flowing += 1
            if flow.flowing == ENOUGH:
                flow.patience = 1
        return 0

    cdef double _threshold(self, Flow* flow) noexcept:
        cdef double threshold
        if flow.fixed:
            return flow.fixed * flow.patience
        if flow.learned < ENOUGH:
            return INFINITY
        threshold = max(self.floor, self.factor * max(flow.longest, flow.longest_before)) * flow.patience
        return threshold if threshold <= self.ceiling else INFINITY

    cdef int _lose_patience(self, Flow* flow) noexcept:
        flow.patience *= self.factor
        flow.flowing = 0
        return 0


cdef inline int _restart(Flow* flow) noexcept:
    flow.silence = 0
    flow.is_answer = True
    return 0
