# cython: language_level=3, boundscheck=False, wraparound=False
"""Loops that cost a few ns per message, so that a figure is of what stands behind them. Compiled on first use."""
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int64_t

from feeds.events cimport BookUpdate, EventHandler, Quote, Trade
from feeds.recording.message cimport KIND_BINARY, KIND_MASK, KIND_REPLY, KIND_SOURCE, KIND_TEXT, RawMessage
from feeds.recording.reader cimport RawSource
from feeds.recording.writer cimport RecordingWriter

__all__ = ["MemorySource", "Tally", "collect", "of_channel", "read_all", "write_all"]


cdef class MemorySource(RawSource):
    """A recording that is already in memory."""

    cdef:
        list _messages
        Py_ssize_t _next

    def __init__(self, list messages not None):
        self.path = "memory"
        self._messages = messages

    cdef bint advance(self) except -1:
        cdef RawMessage message
        if self._next == len(self._messages):
            self.payload = NULL
            return False
        message = <RawMessage> self._messages[self._next]
        self._next += 1
        self.ts_recv = message.ts_recv
        self.source = message.source
        self.flags = message.flags
        self.payload = PyBytes_AS_STRING(message.payload)
        self.size = PyBytes_GET_SIZE(message.payload)
        if self.flags & KIND_MASK == KIND_SOURCE:
            self._declare(0)
        if message.tag:
            self.tag = message.tag.encode()
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


def write_all(RecordingWriter writer not None, list messages not None):
    """Record the messages, tags aside, the way the live receiver does: from a view of their bytes."""
    cdef RawMessage message
    for message in messages:
        writer.write_view(message.ts_recv, message.source, message.flags,
                          PyBytes_AS_STRING(message.payload), PyBytes_GET_SIZE(message.payload))
