# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Loops that cost a few ns per message, so that a figure is of what stands behind them. Compiled on first use."""
from cpython.bytearray cimport PyByteArray_AS_STRING
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport INT64_MAX, int64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from feeds.book cimport OrderBook
from feeds.clock cimport monotonic_ns, wall_ns
from feeds.events cimport BookDelta, BookUpdate, EventHandler, Quote, Trade
from feeds.levels cimport (
    SCAN_GROW, SCAN_OK, Decimals, LevelShape, LevelVector, PriceLevel, levels_free, levels_push, scan_levels, scan_shaped_levels,
)
from feeds.pipeline cimport Pipeline
from feeds.recording.message cimport (
    KIND_BINARY, KIND_MASK, KIND_REPLY, KIND_SOURCE, KIND_TEXT, RawMessage,
)
from feeds.recording.reader cimport RawSource
from feeds.recording.writer cimport RecordingWriter
from feeds.replay cimport Replay

__all__ = ["BookChanges", "BusyStrategy", "Flood", "LevelTexts", "MemorySource", "Tally", "collect", "of_channel", "play",
           "play_batch", "read_all", "time_records", "write_all"]

cdef enum:
    MAX_TOP = 1000
    MAX_AGES = 1_000_000


# A message of a MemorySource: where its payload lies, and what else a cursor says of it.
cdef struct Packed:
    Py_ssize_t at
    Py_ssize_t size
    int64_t ts_recv
    int source
    int flags


cdef class MemorySource(RawSource):
    """A recording that is already in memory, one payload behind the other, as in a receive buffer or a block of a file.

    The peers that are compiled read theirs from such a buffer too: objects strewn over the heap would be two cache misses
    a message, which are no part of what is measured.
    """

    cdef:
        bytearray _payloads
        bytearray _received
        char* _base                      # of the payloads, where they are read from
        list _tags                       # None for most
        Packed* _messages
        Py_ssize_t _count
        Py_ssize_t _next

    def __init__(self, list messages not None):
        cdef RawMessage message
        cdef Packed* packed
        self.path = "memory"
        self._count = len(messages)
        self._messages = <Packed*> malloc((self._count + 1) * sizeof(Packed))
        if self._messages == NULL:
            raise MemoryError(f"no room for {self._count} messages")
        self._payloads = bytearray()
        self._tags = []
        packed = self._messages
        for message in messages:
            packed.at = len(self._payloads)
            packed.size = PyBytes_GET_SIZE(message.payload)
            packed.ts_recv = message.ts_recv
            packed.source = message.source
            packed.flags = message.flags
            packed += 1
            self._payloads += message.payload
            self._tags.append(message.tag.encode() if message.tag else None)
        self._received = bytearray()
        self._base = PyByteArray_AS_STRING(self._payloads)

    def __dealloc__(self):
        free(self._messages)

    def rewind(self):
        """Begin anew, for one more pass."""
        self._next = 0

    def receive(self, Py_ssize_t count):
        """Copy the payloads of the next `count` messages to where they are read from then, as a read of a socket does."""
        cdef Py_ssize_t end = min(self._next + count, self._count)
        cdef Py_ssize_t at, size
        if self._next == end:
            return
        at = self._messages[self._next].at
        size = self._messages[end - 1].at + self._messages[end - 1].size - at
        if len(self._received) < size:
            self._received = bytearray(size)
        memcpy(PyByteArray_AS_STRING(self._received), PyByteArray_AS_STRING(self._payloads) + at, size)
        self._base = PyByteArray_AS_STRING(self._received) - at

    cdef bint advance(self) except -1:
        cdef Packed* message = self._messages + self._next
        if self._next == self._count:
            self.payload = NULL
            return False
        tag = self._tags[self._next]
        self._next += 1
        self.ts_recv = message.ts_recv
        self.source = message.source
        self.flags = message.flags
        self.payload = self._base + message.at
        self.size = message.size
        if self.flags & KIND_MASK == KIND_SOURCE:
            self._declare(0)
        if tag is not None:
            self.tag = <bytes> tag
        return True


cdef class Tally(EventHandler):
    """The handler that does nothing but count, as the peers' do."""

    cdef:
        readonly long books
        readonly long quotes
        readonly long trades
        readonly int64_t volume          # sum of trade qty, mantissas

    cpdef on_book(self, BookUpdate event):
        self.books += 1

    cpdef on_quote(self, Quote event):
        self.quotes += 1

    cpdef on_trade(self, Trade event):
        self.trades += 1
        self.volume += event.qty_mantissa


def collect(RawSource source not None):
    """Return the messages of a source that a pipeline has to do with, and the declarations of their sources."""
    cdef list messages = []
    cdef int kind
    while source.advance():
        kind = source.flags & KIND_MASK
        if kind == KIND_SOURCE or kind == KIND_TEXT or kind == KIND_BINARY or kind == KIND_REPLY:
            messages.append(source.message())
    return messages


def of_channel(list messages not None, str channel):
    """Return the messages of one Binance channel, by the text behind the @ of their stream, and what every channel needs.

    The REST snapshot, a reply, belongs to "depth".
    """
    cdef bytes name = b"@" + channel.encode()
    cdef list chosen = []
    cdef RawMessage message
    cdef int kind
    for message in messages:
        kind = message.flags & KIND_MASK
        if kind == KIND_SOURCE or (channel == "depth" if kind == KIND_REPLY else name in message.payload[:64]):
            chosen.append(message)
    return chosen


def read_all(RawSource source not None):
    """Advance to the end; return how many messages there were."""
    cdef Py_ssize_t count = 0
    while source.advance():
        count += 1
    return count


def time_records(Replay replay not None, const unsigned char[:] kinds not None, int count):
    """Play a record of each kind, 0 to `count` - 1, after the other; return the ns that those of each kind took together."""
    cdef int64_t[256] total
    cdef int64_t began
    cdef Py_ssize_t i
    for i in range(count):
        total[i] = 0
    for i in range(kinds.shape[0]):
        began = monotonic_ns()
        replay.run(INT64_MAX, 1)
        total[kinds[i]] += monotonic_ns() - began
    return [total[i] for i in range(count)]


def play_batch(Pipeline pipeline not None, list messages not None, int64_t ts_recv):
    """Give a pipeline these payloads as one batch, the way a receiver does: from a view of their bytes."""
    cdef Py_ssize_t i
    cdef Py_ssize_t last = len(messages) - 1
    cdef bytes message
    for i in range(last + 1):
        message = <bytes> messages[i]
        pipeline.on_view(PyBytes_AS_STRING(message), PyBytes_GET_SIZE(message), ts_recv, i == last)


def write_all(RecordingWriter writer not None, MemorySource source not None, Py_ssize_t count):
    """Record the next messages of a source, tags aside, as the live receiver does; return how many there were."""
    cdef Py_ssize_t written = 0
    while written < count and source.advance():
        writer.write_view(source.ts_recv, source.source, source.flags, source.payload, source.size)
        written += 1
    return written


cdef class BookChanges:
    """What a book applies of a stream of deltas, from their first snapshot on, in one piece of memory.

    In a pipeline the levels of a message are in the cache when the book gets them; here they are prefetched.
    """

    cdef:
        LevelVector levels                   # bids, then asks, of one message after the other
        LevelVector messages                 # how many of them: bids as `price`, asks as `qty`
        readonly Py_ssize_t snapshot_size    # the first message, where it is a snapshot: levels in it

    def __init__(self, list deltas not None):
        cdef BookDelta delta
        cdef BookDelta snapshot = None
        for delta in deltas:
            if delta.is_snapshot:
                snapshot = delta
                self.snapshot_size = self._add(delta)
                break
        for delta in deltas:
            if not delta.is_snapshot and (snapshot is None or delta.last_id > snapshot.last_id):
                self._add(delta)

    def __dealloc__(self):
        levels_free(&self.levels)
        levels_free(&self.messages)

    def __len__(self):
        return self.messages.size

    @property
    def level_count(self):
        return self.levels.size

    cdef Py_ssize_t _add(self, BookDelta delta) except -1:
        """Append a delta at the decimals that the last one has; return how many levels it has."""
        cdef Py_ssize_t i
        cdef int status = 0
        delta = delta.rescaled()
        for i in range(delta.bid_levels.size):
            status |= levels_push(&self.levels, delta.bid_levels.items[i].price, delta.bid_levels.items[i].qty)
        for i in range(delta.ask_levels.size):
            status |= levels_push(&self.levels, delta.ask_levels.items[i].price, delta.ask_levels.items[i].qty)
        if status | levels_push(&self.messages, delta.bid_levels.size, delta.ask_levels.size):
            raise MemoryError(f"no room for more than {self.levels.size} levels")
        return delta.bid_levels.size + delta.ask_levels.size

    def apply_to(self, OrderBook book not None, Py_ssize_t top=1):
        """Apply all, and copy the `top` best levels of both sides after each message; return the sum of their prices."""
        cdef PriceLevel[MAX_TOP] best
        cdef Py_ssize_t at = 0
        cdef Py_ssize_t i
        cdef int64_t total = 0
        if not 0 < top <= MAX_TOP:
            raise ValueError(f"expected top of 1 to {MAX_TOP}, found {top}")
        book.clear()
        for i in range(self.messages.size):
            at = self._apply(book, i, at)
            if top == 1:
                if book.best(0, best):
                    total += best[0].price
                if book.best(1, best):
                    total += best[0].price
            else:
                if book.top(0, top, best):
                    total += best[0].price
                if book.top(1, top, best):
                    total += best[0].price
        return total

    def load_snapshot(self, OrderBook book not None, int times):
        """Empty the book and load the snapshot, so many times."""
        for _ in range(times):
            book.clear()
            self._apply(book, 0, 0)

    def as_messages(self):
        """Return [(bids, asks)] of all messages, levels as (price, qty) in mantissas."""
        cdef Py_ssize_t at = 0
        cdef Py_ssize_t i
        cdef list found = []
        for i in range(self.messages.size):
            sides = []
            for size in (self.messages.items[i].price, self.messages.items[i].qty):
                sides.append([(self.levels.items[k].price, self.levels.items[k].qty) for k in range(at, at + size)])
                at += size
            found.append(tuple(sides))
        return found

    cdef Py_ssize_t _apply(self, OrderBook book, Py_ssize_t message, Py_ssize_t at) except -1:
        cdef LevelVector part
        part.capacity = 0
        part.items = self.levels.items + at
        part.size = self.messages.items[message].price
        book.apply(0, &part)
        part.items += part.size
        part.size = self.messages.items[message].qty
        book.apply(1, &part)
        return part.items + part.size - self.levels.items


cdef class BusyStrategy(EventHandler):
    """Takes `work_ns` a call, and notes how old what it is called with is, from `start` to `end` (ns since the epoch)."""

    cdef:
        int64_t* _ages
        readonly Py_ssize_t calls            # noted
        int64_t work_ns
        int64_t start
        int64_t end

    def __cinit__(self, int64_t work_ns, int64_t start, int64_t end):
        self._ages = <int64_t*> malloc(MAX_AGES * sizeof(int64_t))
        if self._ages == NULL:
            raise MemoryError()
        self.work_ns = work_ns
        self.start = start
        self.end = end

    def __dealloc__(self):
        free(self._ages)

    cpdef on_quote(self, Quote event):
        self.act(event.ts_event)

    cpdef on_book(self, BookUpdate event):
        self.act(event.ts_event)

    cpdef act(self, int64_t ts_event):
        """What came has been true at `ts_event`."""
        cdef int64_t now = wall_ns()
        cdef int64_t done = now + self.work_ns
        if now >= self.end:
            return
        if now >= self.start and self.calls < MAX_AGES:
            self._ages[self.calls] = now - ts_event
            self.calls += 1
        while wall_ns() < done:
            pass

    def ages(self):
        """All that were noted, sorted, in ns."""
        return sorted([self._ages[i] for i in range(self.calls)])


cdef class Flood:
    """Messages of Binance USD-M in turn: three best bids and offers of each symbol, then a book delta, and so on.

    Every message is one WebSocket frame with the time of sending (19 digits, ns) as its event time, and each delta continues
    the one before of its symbol: numbers of a fixed width are written over those of a template.
    """

    cdef:
        list _templates                      # [(frame, (offset of a time, ...), (offset of an id, ...))], by kind and symbol
        Py_ssize_t _symbols
        int64_t _sent
        bytearray _out

    def __init__(self, list quotes not None, list deltas not None):
        self._symbols = len(quotes)
        self._templates = [*quotes, *quotes, *quotes, *deltas]
        self._out = bytearray()

    def next(self, Py_ssize_t count, int64_t now):
        """Return the next so many messages, sent at `now`; valid until the next call."""
        cdef Py_ssize_t i
        cdef Py_ssize_t at = 0
        cdef Py_ssize_t offset
        cdef int64_t turn
        cdef char* data
        cdef bytes template
        cdef tuple times, ids
        if len(self._out) == 0:
            self._out = bytearray(count * max(len(template) for template, _, _ in self._templates))
        data = self._out
        for i in range(count):
            template, times, ids = self._templates[self._sent % len(self._templates)]
            turn = self._sent // len(self._templates)
            memcpy(data + at, PyBytes_AS_STRING(template), PyBytes_GET_SIZE(template))
            for offset in times:
                _write_digits(data + at + offset, now, 19)
            if ids:                          # U, u, pu
                _write_digits(data + at + <Py_ssize_t> ids[0], FIRST_DELTA_ID + turn, 13)
                _write_digits(data + at + <Py_ssize_t> ids[1], FIRST_DELTA_ID + turn, 13)
                _write_digits(data + at + <Py_ssize_t> ids[2], FIRST_DELTA_ID + turn - 1, 13)
            at += PyBytes_GET_SIZE(template)
            self._sent += 1
        return memoryview(self._out)[:at]


cdef int64_t FIRST_DELTA_ID = 1_000_000_000_001


cdef void _write_digits(char* text, int64_t number, int digits) noexcept:
    cdef int i
    for i in range(digits - 1, -1, -1):
        text[i] = <char> (48 + number % 10)
        number //= 10


cdef class LevelTexts:
    """JSON arrays of levels, each with what follows it in its message, one after the other in memory."""

    cdef:
        bytes _text
        LevelVector _places                  # of each array: where it begins as `price`, its message's end as `qty`
        LevelVector _bids
        LevelVector _asks

    def __init__(self, list texts not None, list rests not None):
        cdef Py_ssize_t at = 0
        self._text = b"".join([text + rest for text, rest in zip(texts, rests, strict=True)])
        for text, rest in zip(texts, rests, strict=True):
            if levels_push(&self._places, at, at + len(text) + len(rest)):
                raise MemoryError(f"no room for more than {self._places.size} texts")
            at += len(text) + len(rest)

    def __dealloc__(self):
        levels_free(&self._places)
        levels_free(&self._bids)
        levels_free(&self._asks)

    def scan(self, LevelShape shape, int price_decimals, int qty_decimals, int times=1):
        """Read all, so many times; return (levels, price decimals needed, qty decimals needed)."""
        cdef:
            const char* start = PyBytes_AS_STRING(self._text)
            const char* p
            const char* end
            Decimals decimals
            Py_ssize_t i
            Py_ssize_t count = 0
            int status
        decimals.price = decimals.needed_price = price_decimals
        decimals.qty = decimals.needed_qty = qty_decimals
        for _ in range(times):
            for i in range(self._places.size):
                p = start + self._places.items[i].price
                end = start + self._places.items[i].qty
                self._bids.size = self._asks.size = 0
                if shape is None:
                    status = scan_levels(&p, end, &self._bids, &decimals)
                else:
                    status = scan_shaped_levels(&p, end, &shape.shape, &self._bids, &self._asks, False, &decimals)
                if status != SCAN_OK and status != SCAN_GROW:
                    raise ValueError(f"expected levels, found {self._text[self._places.items[i].price:][:200]!r}")
                count += self._bids.size + self._asks.size
        return count, decimals.needed_price, decimals.needed_qty


def play(Pipeline pipeline not None, list messages not None, int batch):
    """Play received messages and replies into a pipeline, so many messages to a batch; return how many messages."""
    cdef RawMessage message
    cdef Py_ssize_t count = 0
    cdef int kind
    for message in messages:
        kind = message.flags & KIND_MASK
        if kind == KIND_REPLY:
            pipeline.on_reply(message.tag, message.payload, message.ts_recv)
        elif kind == KIND_TEXT or kind == KIND_BINARY:
            count += 1
            pipeline.on_view(PyBytes_AS_STRING(message.payload), PyBytes_GET_SIZE(message.payload), message.ts_recv,
                             count % batch == 0)
    pipeline.on_tick(pipeline.books.books[0].ts_recv)
    return count
