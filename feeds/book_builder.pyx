# cython: language_level=3, boundscheck=False, wraparound=False, nonecheck=True
"""Builds books from deltas and snapshots: joins them, detects gaps, asks for a new snapshot."""
from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memset

from feeds.book cimport CROSSED, GAP, LIVE, STALE, SYNCING
from feeds.events cimport (
    BookStatus,
    Candle,
    EventHandler,
    FeedStatus,
    Funding,
    Liquidation,
    OpenInterest,
    Quote,
    Ticker,
    Trade,
    is_unshared,
)
from feeds.levels cimport LevelVector, PriceLevel
from feeds.sequencing cimport APPLY, MISSED, OLD, Verdict

from collections import deque

from feeds.book import DEFAULT_MAX_LEVELS, DEFAULT_MAX_WINDOW

__all__ = ["BookBuilder"]

DEFAULT_MAX_PENDING_LEVELS = 2_000_000   # of one book while it waits for its snapshot: 32 MB


cdef class BookBuilder(Stage):
    """Keeps one `OrderBook` per instrument of one connection.

    Every event goes on downstream. After a delta that a book could use follows an `on_book`; when the worth of a book
    changes, an `on_book_status`. The join of snapshot and deltas:

    1. The first delta of an instrument creates its book (SYNCING), is held, and a snapshot is asked for.
    2. The snapshot replaces the book; held deltas that it contains are dropped, the others are applied in order.
    3. Where the first of those does not continue the snapshot, the snapshot is too old: another is asked for, and the
       deltas stay held.
    4. A delta that does not continue the one before is a gap: the book is emptied (GAP), the delta is held, a snapshot
       is asked for, and other books go on.
    5. The same happens, without being a gap (`unfit`), where decimals grow so far that a level does not fit int64 any more;
       and where a message's checksum is not that of the book with it (`mismatched`).
    6. A snapshot that `starts_over` replaces the book whatever was held: it came in the stream.
    7. A `FeedStatus` "gap" means every book of the connection.
    8. A message with a change that cannot be read (`on_lost`) is a gap of its book.
    9. `refresh` asks for a snapshot of a book that is LIVE, and stays so: deltas that come meanwhile are applied, and held
       too, so that those that the snapshot does not contain are applied to it when it replaces the book. One that is older
       than the book was when it was asked for is not taken.

    9. `drop` ends a book until `keep` lets the next message begin a new one.

    While a book is crossed no `on_book` tells of it; the first one after counts what was not told in `merged`.
    `max_pending_levels` bounds what is held per book (levels that there is memory for); beyond it the oldest deltas are
    dropped, which the join finds out.
    """

    def __init__(self, EventHandler downstream not None, *, new_sequence=Sequence, Checksum checksum=None,
                 Py_ssize_t max_pending_levels=DEFAULT_MAX_PENDING_LEVELS,
                 Py_ssize_t max_levels=DEFAULT_MAX_LEVELS,
                 Py_ssize_t max_window=DEFAULT_MAX_WINDOW):
        Stage.__init__(self, downstream)
        self.new_sequence = new_sequence
        self.checksum = checksum
        self._entries = []
        self._dropped = set()
        self._update = BookUpdate.__new__(BookUpdate)
        self.max_pending_levels = max_pending_levels
        self.max_levels = max_levels
        self.max_window = max_window

    def __dealloc__(self):
        free(self.counts)

    cdef int count(self, Py_ssize_t instruments) except -1:
        cdef uint32_t* counts
        if instruments > self.counted:
            counts = <uint32_t*> realloc(self.counts, instruments * KINDS * sizeof(uint32_t))
            if counts == NULL:
                raise MemoryError(f"no room to count the events of {instruments} instruments")
            memset(counts + self.counted * KINDS, 0, (instruments - self.counted) * KINDS * sizeof(uint32_t))
            self.counts = counts
            self.counted = instruments
        return 0

    def book(self, Instrument instrument not None):
        """Return the instrument's book, or None while no message of it has come."""
        cdef _Entry entry = self._find(instrument)
        return None if entry is None else entry.book

    @property
    def books(self):
        """All books, in the order of their instruments."""
        return [(<_Entry> entry).book for entry in self._entries if entry is not None]

    cpdef on_trade(self, Trade event):
        if self.latency is not None and self.latency.measuring:
            self.latency.decoded()
        self._count(event.instrument, TRADE)
        self.downstream.on_trade(event)

    cpdef on_quote(self, Quote event):
        if self.latency is not None and self.latency.measuring:
            self.latency.decoded()
        self._count(event.instrument, QUOTE)
        self.downstream.on_quote(event)

    cpdef on_book_delta(self, BookDelta event):
        cdef _Entry entry
        cdef Verdict verdict
        if self.latency is not None and self.latency.measuring:
            self.latency.decoded()
        entry = self._entry(event)
        if entry is None:
            return
        self._count(event.instrument, BOOK)
        self.downstream.on_book_delta(event)
        if self.latency is not None and self.latency.measuring:
            self.latency.book_began()
        if event.is_snapshot:
            self._join(entry, event)
            return
        if entry.is_partial:                         # the first complete message of the book takes over from top N
            entry.is_partial = False
            self._turn(entry, SYNCING, "deltas take over from top-N snapshots", event.ts_event, event.ts_recv)
        if entry.book._state == LIVE or entry.book._state == CROSSED:
            verdict = entry.sequence.check(event)
            if verdict == APPLY:
                if self._apply(entry, event):
                    if entry.asked:                  # step 9
                        self._hold(entry, event)
                    self._tell(entry, event, 1, event.ts_event)
                else:
                    self._hold(entry, event)
                    self._ask(entry)
            elif verdict == OLD:
                self.old += 1
            else:
                self._missed(entry, event)
            return
        if entry.book._state == STALE:
            self._turn(entry, SYNCING, "reconnected", event.ts_event, event.ts_recv)
        self._hold(entry, event)
        self._ask(entry)

    cpdef on_ticker(self, Ticker event):
        self._count(event.instrument, TICKER)
        self.downstream.on_ticker(event)

    cpdef on_funding(self, Funding event):
        self._count(event.instrument, FUNDING)
        self.downstream.on_funding(event)

    cpdef on_open_interest(self, OpenInterest event):
        self._count(event.instrument, OPEN_INTEREST)
        self.downstream.on_open_interest(event)

    cpdef on_liquidation(self, Liquidation event):
        self._count(event.instrument, LIQUIDATION)
        self.downstream.on_liquidation(event)

    cpdef on_candle(self, Candle event):
        self._count(event.instrument, CANDLE)
        self.downstream.on_candle(event)

    cpdef on_feed_status(self, FeedStatus event):
        cdef _Entry entry
        if event.status == "disconnected":
            for entry in self._entries:
                if entry is not None:
                    _drop_held(entry)
                    entry.asked = False
                    if entry.book._state != STALE:
                        self._turn(entry, STALE, event.reason or "disconnected", 0, event.ts_recv)
        elif event.status == "gap":
            for entry in self._entries:
                if entry is not None and not entry.is_partial and (entry.book._state == LIVE or entry.book._state == CROSSED):
                    self.gaps += 1
                    self._give_up(entry, event.reason, 0, event.ts_recv)
                    self._ask_after_loss(entry)
        self.downstream.on_feed_status(event)

    def on_snapshot_failed(self, Instrument instrument not None):
        """The snapshot that was asked for will not come: the next delta asks again, unless the book is LIVE."""
        cdef _Entry entry = self._find(instrument)
        if entry is not None:
            entry.asked = False
            if entry.book._state == LIVE or entry.book._state == CROSSED:
                _drop_held(entry)

    def on_lost(self, Instrument instrument not None, str reason not None, int64_t ts_recv):
        """A message that held a change of the book could not be read: the book is given up, as with a gap."""
        cdef _Entry entry = self._find(instrument)
        if entry is not None and (entry.book._state == LIVE or entry.book._state == CROSSED):
            self.gaps += 1
            self._give_up(entry, reason, 0, ts_recv)
            if not entry.is_partial:                 # the next top-N snapshot comes by itself
                self._ask_after_loss(entry)

    def refresh(self, Instrument instrument not None):
        """Ask for a snapshot that will replace a book that is LIVE: where nothing else would show that it is wrong.

        False where it is not LIVE, is kept by top-N snapshots, or waits for a snapshot already: nothing is asked for.
        """
        cdef _Entry entry = self._find(instrument)
        if entry is None or entry.is_partial or entry.asked or not (entry.book._state == LIVE or entry.book._state == CROSSED):
            return False
        entry.oldest_id = entry.sequence.last_id
        self._ask(entry)
        return entry.asked

    def is_awaiting(self, Instrument instrument not None):
        """Whether a snapshot of the instrument's book has been asked for and has not come."""
        cdef _Entry entry = self._find(instrument)
        return entry is not None and entry.asked

    def drop(self, Instrument instrument not None, int64_t ts_recv):
        """Forget an unsubscribed instrument's book: it becomes STALE, and messages under way make no new one."""
        cdef _Entry entry = self._find(instrument)
        self._dropped.add(instrument.index)
        if entry is None:
            return
        _drop_held(entry)
        entry.book.clear()
        self._entries[instrument.index] = None
        self._turn(entry, STALE, "unsubscribed", 0, ts_recv)

    def keep(self, Instrument instrument not None):
        """Make a book of the instrument's messages again: it is subscribed again."""
        self._dropped.discard(instrument.index)

    cdef _Entry _find(self, Instrument instrument):
        return <_Entry> self._entries[instrument.index] if instrument.index < len(self._entries) else None

    cdef _Entry _entry(self, BookDelta delta):
        cdef Py_ssize_t index = delta.instrument.index
        cdef _Entry entry
        if index < len(self._entries):
            entry = <_Entry> self._entries[index]
            if entry is not None:
                return entry
        else:
            self._entries.extend([None] * (index + 1 - len(self._entries)))
        if index in self._dropped:
            return None
        entry = _Entry.__new__(_Entry)
        entry.book = OrderBook(delta.instrument, max_levels=self.max_levels, max_window=self.max_window)
        entry.sequence = self.new_sequence()
        entry.pending = deque()
        entry.is_partial = delta.depth != 0
        self._entries[index] = entry
        self.downstream.on_book_status(
            BookStatus(entry.book, SYNCING, SYNCING, "first message", ts_event=delta.ts_event, ts_recv=delta.ts_recv))
        return entry

    cdef bint _apply(self, _Entry entry, BookDelta delta) except -1:
        cdef OrderBook book = entry.book
        if (book.price_decimals != delta.instrument.price_decimals or book.qty_decimals != delta.instrument.qty_decimals
                or delta.price_decimals != book.price_decimals or delta.qty_decimals != book.qty_decimals):
            delta = self._rescale(entry, delta)
            if delta is None:
                return False
        book.apply(0, &delta.bid_levels)
        book.apply(1, &delta.ask_levels)
        if delta.window:
            self._trim(book, delta.window)
        if delta.checksum >= 0 and self.checksum is not None and not self._verify(entry, delta):
            return False
        book.ts_event = delta.ts_event
        book.ts_recv = delta.ts_recv
        book.last_id = delta.last_id
        self.applied += 1
        return True

    cdef int _trim(self, OrderBook book, Py_ssize_t window) except -1:
        """Remove the levels of each side beyond the best `window`: the exchange sends no word of them."""
        cdef LevelVector beyond
        cdef PriceLevel* levels
        cdef Py_ssize_t i
        cdef Py_ssize_t depth
        cdef int side
        for side in range(2):
            depth = book.depth(side)
            if depth <= window:
                continue
            levels = <PriceLevel*> malloc(depth * sizeof(PriceLevel))
            if levels == NULL:
                raise MemoryError("no room to trim a book")
            try:
                book.top(side, depth, levels)
                for i in range(window, depth):
                    levels[i].qty = 0
                beyond.items = levels + window
                beyond.size = beyond.capacity = depth - window
                book.apply(side, &beyond)
            finally:
                free(levels)
        return 0

    cdef bint _verify(self, _Entry entry, BookDelta delta) except -1:
        """Compare the book with the message's checksum. False: another, and the book was given up."""
        if self.checksum.matches(entry.book, delta.checksum):
            self.verified += 1
            return True
        self.mismatched += 1
        self._give_up(entry, f"expected a book with checksum {delta.checksum}, found {self.checksum.of(entry.book)}",
                      delta.ts_event, delta.ts_recv)
        return False

    cdef int _give_up(self, _Entry entry, str reason, int64_t ts_event, int64_t ts_recv) except -1:
        """Empty a book that cannot be right."""
        _drop_held(entry)
        entry.asked = False                          # what has been asked for may lack what was held for it
        entry.book.clear()
        self._turn(entry, GAP, reason, ts_event, ts_recv)
        return 0

    cdef BookDelta _rescale(self, _Entry entry, BookDelta delta):
        """Bring book and delta to the instrument's decimals, which grow while messages are decoded.

        None where a level does not fit int64 at these: the book cannot be right any more, and is emptied (GAP). A snapshot
        may fit again; until one comes, the book says that it is not to be believed.
        """
        cdef OrderBook book = entry.book
        try:
            book.rescale()
            return delta.rescaled()
        except OverflowError as error:
            self.unfit += 1
            self._give_up(entry, str(error), delta.ts_event, delta.ts_recv)
            return None

    cdef int _hold(self, _Entry entry, BookDelta delta) except -1:
        entry.pending.append(delta)                  # holding the event makes it ours
        entry.pending_levels += _weight(delta)
        while entry.pending_levels > self.max_pending_levels:
            delta = entry.pending.popleft()
            entry.pending_levels -= _weight(delta)
            entry.oldest_id = delta.last_id
        return 0

    cdef int _ask(self, _Entry entry) except -1:
        if not entry.asked and self.decoder is not None:
            entry.asked = True
            self.decoder.request_snapshot(entry.book.instrument)
        return 0

    cdef int _ask_after_loss(self, _Entry entry) except -1:
        """Ask at once, or with the next delta, where a snapshot is of no use without one that was held."""
        return 0 if entry.sequence.needs_held else self._ask(entry)

    cdef int _join(self, _Entry entry, BookDelta snapshot) except -1:
        cdef:
            OrderBook book = entry.book
            BookDelta delta
            BookDelta first = None
            int64_t ts_event_first = snapshot.ts_event
            bint refreshes = entry.asked and (book._state == LIVE or book._state == CROSSED)
        if snapshot.depth and not entry.is_partial:  # a book of deltas knows more than its top
            return 0
        entry.asked = False
        if not snapshot.depth:
            if snapshot.starts_over:
                _drop_held(entry)
            elif refreshes:
                if snapshot.last_id < entry.oldest_id:       # it lacks changes that were not held for it
                    _drop_held(entry)
                    self.old += 1
                    return 0
            elif (book._state == LIVE or book._state == CROSSED) and entry.sequence.is_late(snapshot):
                self.old += 1
                return 0
            elif entry.sequence.needs_held and entry.pending and snapshot.last_id < (<BookDelta> entry.pending[0]).last_id:
                self.old += 1                                # changes may be missing between it and the first that was held
                self._ask(entry)
                return 0
            entry.is_partial = False
        entry.sequence.join(snapshot)
        if not self._judge_held(entry):
            self._ask(entry)
            return 0
        held = entry.pending
        entry.pending = deque()
        entry.pending_levels = 0
        book.clear()
        if not self._apply(entry, snapshot):
            self._ask(entry)
            return 0
        if book._state != LIVE and book._state != CROSSED:
            self._turn(entry, LIVE, "top-N snapshot" if snapshot.depth else "snapshot joined", snapshot.ts_event,
                       snapshot.ts_recv)
        if not held:
            self._tell(entry, snapshot, snapshot.merged, snapshot.ts_event)
            return 0
        for delta in held:
            if book._state != LIVE and book._state != CROSSED:           # a handler ended the connection meanwhile
                return 0
            if not self._apply(entry, delta):
                self._ask(entry)
                return 0
            if refreshes:                            # it was told of when it came
                continue
            if first is None:                        # stands for the snapshot too, which it supersedes
                first = delta
                self._tell(entry, delta, 1 + snapshot.merged, ts_event_first if ts_event_first else delta.ts_event)
            else:
                self._tell(entry, delta, 1, delta.ts_event)
        if refreshes:
            self._tell(entry, delta, snapshot.merged, delta.ts_event)
        return 0

    cdef bint _judge_held(self, _Entry entry) except -1:
        """Drop the held deltas that the joined snapshot contains. False: the others do not continue it."""
        cdef BookDelta delta
        cdef Verdict verdict
        cdef Py_ssize_t following = 0
        cdef Py_ssize_t i
        while following < len(entry.pending):
            delta = entry.pending[following]
            verdict = entry.sequence.check(delta)
            if verdict == APPLY:
                following += 1
            elif verdict == OLD:
                del entry.pending[following]
                entry.pending_levels -= _weight(delta)
                self.old += 1
            else:
                for i in range(following):           # before a hole: no snapshot that is yet to come needs them
                    entry.pending_levels -= _weight(<BookDelta> entry.pending.popleft())
                if following:
                    self._missed(entry, None)
                return False
        return True

    cdef int _missed(self, _Entry entry, BookDelta delta) except -1:
        """A message was missed before `delta` (None: before the first held one)."""
        cdef BookDelta after = entry.pending[0] if delta is None else delta
        self.gaps += 1
        entry.book.clear()
        self._turn(
            entry, GAP,
            f"expected a message after id {entry.sequence.last_id}, found ids {after.first_id}..{after.last_id}"
            + (f" after {after.previous_id}" if after.previous_id >= 0 else ""),
            after.ts_event, after.ts_recv)
        if delta is not None:
            self._hold(entry, delta)
            self._ask(entry)
        return 0

    cdef int _tell(self, _Entry entry, Event cause, int merged, int64_t ts_event_first) except -1:
        """Pass the new state on, unless the book is crossed."""
        cdef OrderBook book = entry.book
        cdef BookUpdate update
        if book.is_crossed():
            if entry.untold == 0:
                entry.untold_ts_event = ts_event_first
            entry.untold += merged
            if book._state != CROSSED:
                self._turn(entry, CROSSED, "best bid is not below best ask", cause.ts_event, cause.ts_recv)
            return 0
        if book._state == CROSSED:
            self._turn(entry, LIVE, "no longer crossed", cause.ts_event, cause.ts_recv)
        if not is_unshared(<void*> self._update):
            self._update = BookUpdate.__new__(BookUpdate)
        update = self._update
        update.begin(book.instrument, cause.ts_event, cause.ts_recv)
        update.book = book
        update.merged = merged
        update.ts_event_first = ts_event_first
        if entry.untold:
            update.merged += entry.untold
            update.ts_event_first = entry.untold_ts_event
            entry.untold = 0
        if self.latency is not None and self.latency.measuring:
            self.latency.book_done()
        self.downstream.on_book(update)
        return 0

    cdef int _turn(self, _Entry entry, BookState state, str reason, int64_t ts_event, int64_t ts_recv) except -1:
        cdef BookState old = entry.book._state
        entry.book._state = state
        if state != LIVE and state != CROSSED:
            entry.untold = 0
        if state == SYNCING:
            entry.book.clear()                       # nothing of the old book survives
        self.downstream.on_book_status(BookStatus(entry.book, old, state, reason, ts_event=ts_event, ts_recv=ts_recv))
        return 0


cdef inline Py_ssize_t _weight(BookDelta delta) noexcept:
    return delta.bid_levels.capacity + delta.ask_levels.capacity + 16        # an event without levels has a cost too


cdef inline int _drop_held(_Entry entry) except -1:
    entry.pending.clear()
    entry.pending_levels = 0
    return 0
