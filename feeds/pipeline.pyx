# cython: language_level=3, boundscheck=False, wraparound=False, nonecheck=True
"""The pipeline: messages of one connection in, events out, through the same code live and in replay."""
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int64_t

from feeds.events cimport FeedStatus
from feeds.latency cimport begin_message

from feeds.errors import DecodeError

__all__ = ["Pipeline", "Problem"]

MAX_PROBLEM_KINDS = 256          # kinds may carry names that the peer chose


class Problem:
    """Messages of one kind that could not be decoded: how many, and the first of them in words."""

    __slots__ = ("count", "first", "kind")

    def __init__(self, kind, first):
        self.kind = kind
        self.first = first
        self.count = 0

    def __repr__(self):
        return f"<Problem {self.kind} x{self.count}: {self.first}>"


cdef class Pipeline:
    """Runs the messages of one connection through a decoder and its books into `downstream`.

    `exchange` is a `feeds.exchange.Exchange`; `downstream` is what `feeds.conflation.conflated` returns, or any handler;
    pipelines of several connections may share it. A message that cannot be decoded is counted in `problems` under its kind,
    told once per kind as a `FeedStatus("problem")`, and skipped. `latency` is told how long decoding and books take.
    """

    def __init__(self, exchange, instruments, EventHandler downstream not None, *, int source=0, bint reference=False,
                 Latency latency=None):
        self.exchange = exchange.id
        self.source = source
        self.problems = {}
        self.latency = latency
        self.books = BookBuilder(downstream, new_sequence=exchange.new_sequence, checksum=exchange.checksum)
        self.books.latency = latency
        self._new_decoder = lambda: exchange.new_decoder(instruments, self.books, reference=reference)
        self.decoder = self._new_decoder()
        self.books.decoder = self.decoder

    cdef int on_view(self, const char* data, Py_ssize_t size, int64_t ts_recv, bint last_in_batch) except -1:
        cdef Decoder decoder = self.decoder          # a handler may replace it meanwhile
        self._enter()
        if self.latency is not None:
            begin_message(self.latency, ts_recv)
        self.messages += 1
        self.payload_bytes += size
        try:
            if not decoder.scan_view(data, size, ts_recv):
                self._refer(decoder, data, size, ts_recv)
            if last_in_batch:
                self.batches += 1
                self.books.on_batch_end(ts_recv)
        finally:
            self._busy = False
        return 0

    cdef int _refer(self, Decoder decoder, const char* data, Py_ssize_t size, int64_t ts_recv) except -1:
        # Apart from `on_view`, because to be ready for an exception has a cost, which the hot engine need not pay.
        try:
            decoder.refer_view(data, size, ts_recv)
        except DecodeError as error:
            self._report(error, ts_recv)
        return 0

    cpdef on_message(self, bytes payload, int64_t ts_recv, bint last_in_batch):
        """Take one whole WebSocket message; `last_in_batch` ends the batch and lets conflated events out."""
        if payload is None:
            raise TypeError("expected bytes, found None")
        self.on_view(PyBytes_AS_STRING(payload), PyBytes_GET_SIZE(payload), ts_recv, last_in_batch)

    cpdef on_reply(self, str tag, bytes payload, int64_t ts_recv):
        """Take the reply to a `Fetch` with this tag. It is a batch of its own.

        One that cannot be decoded counts as a problem, and whoever waits for it may ask again; one that comes after the
        connection has gone is dropped: nothing may bring a STALE book back to life but a new connection.
        """
        cdef Decoder decoder = self.decoder
        if self._disconnected:
            return
        self._enter()
        if self.latency is not None:
            self.latency.measuring = False           # the callbacks that follow belong to no message
        try:
            try:
                decoder.decode_reply(tag, payload, ts_recv)
            except DecodeError as error:
                self._report(error, ts_recv)
                self._fail(tag)
            self.books.on_batch_end(ts_recv)
        finally:
            self._busy = False

    cdef int _enter(self) except -1:
        if self._busy:
            raise RuntimeError(f"{self.exchange}: expected the callback to return before the next message, found a message "
                               f"from inside it")
        self._busy = True
        return 0

    cpdef on_tick(self, int64_t ts_recv):
        """Time has come to `ts_recv` without a message: an empty batch, for timers."""
        self.books.on_batch_end(ts_recv)

    def on_connected(self, str reason, int64_t ts_recv):
        """A connection stands: decoding starts with a new decoder."""
        self._disconnected = False
        self.decoder = self._new_decoder()
        self.books.decoder = self.decoder
        self.on_status("connected", reason, ts_recv)

    def on_disconnected(self, str reason, int64_t ts_recv):
        """The connection is gone: its books become STALE."""
        self._disconnected = True
        self.on_status("disconnected", reason, ts_recv)

    def on_status(self, str status, str reason, int64_t ts_recv):
        """Pass on what the live shell has found out about the connection."""
        self.books.on_feed_status(FeedStatus(self.exchange, status, reason, source=self.source, ts_recv=ts_recv))
        self.books.on_batch_end(ts_recv)

    def on_fetch_failed(self, str tag, int64_t ts_recv, str reason):
        """A `Fetch` will not be answered: whoever waits for it may ask again."""
        self._fail(tag)
        self.on_status("fetch_failed", f"{tag}: {reason}", ts_recv)

    def _fail(self, str tag):
        instrument = self.decoder.instruments.find(self.exchange, tag)
        if instrument is not None:
            self.books.on_snapshot_failed(instrument)

    def _report(self, error, int64_t ts_recv):
        kind = error.kind if error.kind in self.problems or len(self.problems) < MAX_PROBLEM_KINDS else "other"
        problem = self.problems.get(kind)
        if problem is None:
            problem = self.problems[kind] = Problem(kind, str(error))
            self.books.on_feed_status(
                FeedStatus(self.exchange, "problem", f"{kind}: {error}", source=self.source, ts_recv=ts_recv))
        problem.count += 1
