# cython: language_level=3, nonecheck=True, boundscheck=False, wraparound=False
"""Replay: a recording through the same pipeline as live."""
from libc.stdint cimport INT64_MAX, int64_t

from feeds.events cimport (
    BookDelta, BookUpdate, Candle, Funding, Liquidation, OpenInterest, Quote, Ticker, Trade,
)
from feeds.pipeline cimport Pipeline
from feeds.recording.message cimport (
    KIND_BINARY,
    KIND_CONNECTED,
    KIND_DISCONNECTED,
    KIND_MASK,
    KIND_NOTE,
    KIND_REPLY,
    KIND_SOURCE,
    KIND_STATUS,
    KIND_TEXT,
    KIND_TICK,
    LAST_IN_BATCH,
)

import msgspec

from feeds.errors import excerpt
from feeds.exchange import exchange
from feeds.recording.errors import RecordingError
from feeds.recording.format import SETUP_TAG

__all__ = ["Replay", "ReplayWindow"]


class _Status(msgspec.Struct):
    """What the live feed decided, as it recorded it."""

    status: str
    reason: str = ""
    tag: str = ""


cdef class Replay:
    """Plays a recording (any `RawSource`) into `handler`, which usually is what `feeds.conflation.conflated` returns.

    Each connection of the recording gets its own `Pipeline`, with the exchange, the instruments and the decisions of the
    live run that were recorded: so the handler sees the calls that the live one saw. `wrap(handler)` may put a stage
    between the books and `handler`, per connection. `latency` measures the stages before `handler`. `skip_superseded` is
    for a `handler` that conflates: see `Pipeline`. A recording without instrument metadata has its instruments inferred.
    """

    def __init__(self, RawSource source not None, EventHandler handler not None, *, Instruments instruments=None,
                 bint reference=False, wrap=None, bint skip_superseded=False, Latency latency=None):
        self.source = source
        self.handler = handler
        self.instruments = Instruments() if instruments is None else instruments
        self.reference = reference
        self.skip_superseded = skip_superseded
        self.notes = {}
        self._pipelines = {}
        self._runs = {}
        self._all_pipelines = []
        self._wrap = wrap
        self.latency = latency

    @property
    def pipelines(self):
        """The pipelines of the connections seen so far, in the order of their declaration."""
        return list(self._all_pipelines)

    cpdef bint run(self, int64_t until=INT64_MAX, Py_ssize_t max_records=-1) except -1:
        """Play what was received up to `until` (ns since the epoch), at most `max_records`; False at the recording's end."""
        cdef RawSource source = self.source
        if self.finished:
            return False
        self._is_paused = False
        while max_records != 0 and not self._is_paused:
            if not self.is_held and not source.advance():
                self.finished = True
                return False
            self.is_held = source.ts_recv > until
            if self.is_held:
                return True
            self.records += 1
            if source.ts_recv:
                self.ts_recv = source.ts_recv
            self._dispatch()
            max_records -= 1
        return True

    cpdef bint step(self) except -1:
        """Play up to the end of a batch, or of the recording, where this is False."""
        cdef int kind
        while self.run(max_records=1):
            kind = self.source.flags & KIND_MASK
            if (kind == KIND_TEXT or kind == KIND_BINARY) and self.source.flags & LAST_IN_BATCH or KIND_REPLY <= kind <= KIND_TICK:
                return True
        return False

    def pause(self):
        """Have `run` return after the record in hand: for callbacks. The next `run` or `step` goes on."""
        self._is_paused = True

    cdef int _dispatch(self) except -1:
        cdef RawSource source = self.source
        cdef int kind = source.flags & KIND_MASK
        cdef Pipeline pipeline
        if kind == KIND_TEXT or kind == KIND_BINARY:
            if source.source != self._last_number or self._last_pipeline is None:
                self._pipeline(source.source)        # sets both
            pipeline = self._last_pipeline
            self.messages += 1
            pipeline.on_view(source.payload, source.size, source.ts_recv, source.flags & LAST_IN_BATCH != 0)
            if pipeline.decoder._requests:           # nobody fulfils them: the replies were recorded
                pipeline.decoder._requests.clear()
        elif kind == KIND_SOURCE:
            self._add_pipeline(source.source, source.sources.get(source.source))
        elif kind == KIND_NOTE:
            self.notes[source.tag.decode("utf-8", "replace")] = self._json(source.payload[:source.size], "a note")
        else:
            self._dispatch_rare(kind)
        return 0

    def _dispatch_rare(self, int kind):
        message = self.source.message()
        if kind == KIND_REPLY:
            if message.tag.startswith(SETUP_TAG):    # it took that to connect; no decoder asked for it
                return
            self._pipeline(message.source).on_reply(message.tag, message.payload, message.ts_recv)
        elif kind == KIND_CONNECTED:
            self._pipeline(message.source).on_connected(message.payload.decode("utf-8", "replace"), message.ts_recv)
        elif kind == KIND_DISCONNECTED:
            self._pipeline(message.source).on_disconnected(message.payload.decode("utf-8", "replace"), message.ts_recv)
        elif kind == KIND_STATUS:
            self._replay_status(message)
        elif kind == KIND_TICK:
            self._pipeline(message.source).on_tick(message.ts_recv)
        # Messages that we sent, requests, and kinds of a newer writer need no replaying.

    def _replay_status(self, message):
        decision = self._json(message.payload, "a status", _Status)
        pipeline = self._pipeline(message.source)
        if decision.status == "fetch_failed":
            pipeline.on_fetch_failed(decision.tag, message.ts_recv, decision.reason)
        elif decision.status == "resnapshot":
            pipeline.on_resnapshot(decision.tag, message.ts_recv)
        elif decision.status == "subscribed":
            pipeline.on_subscribed(decision.tag, decision.reason, message.ts_recv)
        elif decision.status == "unsubscribed":
            pipeline.on_unsubscribed(decision.tag, decision.reason, message.ts_recv)
        else:
            pipeline.on_status(decision.status, decision.reason, message.ts_recv)

    def _json(self, bytes payload, what, type=object):
        try:
            return msgspec.json.decode(payload, type=type)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise RecordingError(f"{self.source.path}: expected {what} as JSON, found {excerpt(payload)}: {error}") from None

    def _add_pipeline(self, int number, declared):
        """Make a source's pipeline. One that is declared again goes on; that of another run ends.

        The next file of a session does so, and a live feed that has subscribed to further instruments.
        """
        cdef Pipeline known = self._pipelines.get(number)
        if known is not None:
            run, before = self._runs[number]
            if run == self.source.run and _is_same_connection(before, declared):
                if declared != before:
                    self._add_instruments(number, declared)
                    self._runs[number] = (run, declared)
                return
            if run != self.source.run:
                if not known._disconnected:
                    known.on_disconnected("its recording ended", self.ts_recv)
        if not isinstance(declared, dict) or not isinstance(declared.get("exchange"), str):
            raise RecordingError(f"{self.source.path}: expected source {number} to declare its exchange, found {declared!r}")
        self._add_instruments(number, declared)
        self._last_pipeline = None
        handler = self.handler if self._wrap is None else self._wrap(self.handler)
        spoken = exchange(declared["exchange"]).spoken(str(declared.get("url", "")), self.source.ts_recv)
        pipeline = Pipeline(spoken, self.instruments, handler, source=number, reference=self.reference,
                            skip_superseded=self.skip_superseded, latency=self.latency)
        self._pipelines[number] = pipeline
        self._runs[number] = (self.source.run, declared)
        self._all_pipelines.append(pipeline)

    def _add_instruments(self, int number, declared):
        described = declared.get("instruments")
        if described is None:
            self.instruments.infer_exchange(declared["exchange"])
        try:
            for description in described or ():
                self.instruments.add_described(description)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise RecordingError(f"{self.source.path}: expected source {number} to describe instruments, found "
                                 f"{type(error).__name__}: {error}") from error

    cdef Pipeline _pipeline(self, int number):
        if number == self._last_number and self._last_pipeline is not None:
            return self._last_pipeline
        pipeline = self._pipelines.get(number)
        if pipeline is None:
            raise RecordingError(f"{self.source.path}: expected source {number} to be declared before its first message")
        self._last_number = number
        self._last_pipeline = pipeline
        return self._last_pipeline


def _is_same_connection(one, other):
    return isinstance(other, dict) and all(one.get(key) == other.get(key) for key in ("exchange", "url"))


cdef class ReplayWindow(Stage):
    """Lets market data pass that was received at `start` (ns since the epoch) or later.

    Status events always pass, so that a strategy that begins in the middle of a session knows the books and their states.
    """

    def __init__(self, EventHandler downstream not None, int64_t start):
        Stage.__init__(self, downstream)
        self.start = start

    cpdef on_trade(self, Trade event):
        if event.ts_recv >= self.start:
            self.downstream.on_trade(event)

    cpdef on_quote(self, Quote event):
        if event.ts_recv >= self.start:
            self.downstream.on_quote(event)

    cpdef on_book_delta(self, BookDelta event):
        if event.ts_recv >= self.start:
            self.downstream.on_book_delta(event)

    cpdef on_book(self, BookUpdate event):
        if event.ts_recv >= self.start:
            self.downstream.on_book(event)

    cpdef on_ticker(self, Ticker event):
        if event.ts_recv >= self.start:
            self.downstream.on_ticker(event)

    cpdef on_funding(self, Funding event):
        if event.ts_recv >= self.start:
            self.downstream.on_funding(event)

    cpdef on_open_interest(self, OpenInterest event):
        if event.ts_recv >= self.start:
            self.downstream.on_open_interest(event)

    cpdef on_liquidation(self, Liquidation event):
        if event.ts_recv >= self.start:
            self.downstream.on_liquidation(event)

    cpdef on_candle(self, Candle event):
        if event.ts_recv >= self.start:
            self.downstream.on_candle(event)
