"""The live feed: connects, subscribes, fulfils the decoder's requests, watches for silence, reconnects."""

from __future__ import annotations

import asyncio
import ssl
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from types import TracebackType
from typing import Any

import msgspec

from feeds.book import BookState
from feeds.decoder import Fetch, Reconnect, Refused, Resubscribe, Send
from feeds.errors import DecodeError, FeedsError, FetchError, SubscriptionRefused, UnknownSymbol
from feeds.events import EventHandler
from feeds.exchange import ConnectionPlan, Endpoints, Exchange, Heartbeat
from feeds.instrument import Instrument, Instruments
from feeds.latency import Latency
from feeds.live.backoff import Backoff, BackoffConfig
from feeds.live.first_data import FirstData
from feeds.live.http import RestClient, RestConfig, address
from feeds.live.instrument_lists import InstrumentCache, InstrumentList, InstrumentLists, InstrumentListsConfig
from feeds.live.receiver import DEFAULT_LARGE_MESSAGE, Receiver
from feeds.pipeline import Pipeline
from feeds.recording import RecordingWriter
from feeds.recording.format import INSTRUMENTS_TAG, TICKET_TAG
from feeds.subscription import Subscription
from picows import WSError, ws_connect

__all__ = ["FeedConfig", "LiveFeed"]

GREETING_POLL = 0.01  # seconds

MAX_NAMED = 20  # instruments that one status names


class FeedConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits and waits of a live feed; seconds and bytes."""

    connect_timeout: float = 10.0
    silence_timeout: float = 30.0  # without any message before we reconnect
    # After subscribing, without data of an instrument's book, best prices or ticker, before we tell of it: exchanges
    # acknowledge subscriptions that then stay silent. Channels that may be silent for hours are not counted: trades,
    # liquidations, candles, funding.
    first_data_timeout: float = 30.0
    read_buffer_size: int = 256 * 1024  # of one read, and so of one burst
    tick_interval: float = 1.0  # timers fire at least this often when nothing arrives
    # Under the policy "drained": how many reads more a burst may take, each of `read_buffer_size` at most, and how long
    # it may wait for one under TLS, where a part of a record may be all that has arrived.
    drain_reads: int = 8
    drain_timeout: float = 0.001
    max_held_bytes: int = 256 * 1024  # of messages of one burst that a newer one may supersede
    max_message_size: int = 16 * 1024 * 1024
    large_message: int = DEFAULT_LARGE_MESSAGE  # from this size on a thread reads levels, and other connections go on
    snapshot_timeout: float = 10.0  # without the snapshot that a new subscription should bring, before we ask again
    max_instrument_pages: int = 1000  # of one list of instruments
    snapshot_interval: float = 0.25  # between snapshots of one book that were each too old; doubles up to 16 times that
    # Between the snapshots that each book of an exchange gets whose messages show no loss; None: as the exchange says
    # (`Exchange.resnapshot_interval`), 0: never. Other exchanges need none, and get none.
    resnapshot_interval: float | None = None
    backoff: BackoffConfig = BackoffConfig()
    rest: RestConfig = RestConfig()

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if isinstance(value, int | float) and not (value > 0 or (name == "resnapshot_interval" and value == 0)):
                raise ValueError(f"expected {name} above 0, found {value}")


class LiveFeed:
    """One exchange's subscriptions, live, into `downstream`.

    `async with LiveFeed(...) as feed: await feed.run()`. `run` ends when `stop` is called, when a subscription is
    refused (SubscriptionRefused) or when a handler raises (what it raised). Lost connections are not errors: they are
    told as `FeedStatus`, and made again with backoff. `writer` records everything that the pipeline is given, and the
    replies that it took to connect. `endpoints` other than the exchange's stand for all of its hosts, which
    then are named in front of the path: https://api.example/list becomes ENDPOINT/api.example/list.
    `policy` is the one under which `downstream` is conflated: unless it is "none", messages that a newer one of the
    same burst supersedes are not decoded, and "drained" makes one burst of all that has arrived.
    `instruments` are those that several feeds into one `downstream` share. `lists` says where lists of instruments are
    kept, and when they are fetched again: see `refresh_instruments`.
    `latency` measures the stages before `downstream`; on Linux the kernel is then asked when it received what was read.
    """

    def __init__(
        self,
        exchange: Exchange,
        subscriptions: Sequence[Subscription],
        downstream: EventHandler,
        *,
        instruments: Instruments | None = None,
        config: FeedConfig | None = None,
        endpoints: Endpoints | None = None,
        ssl_context: ssl.SSLContext | None = None,
        writer: RecordingWriter | None = None,
        wrap: Callable[[EventHandler], EventHandler] | None = None,
        policy: str = "none",
        latency: Latency | None = None,
        lists: InstrumentListsConfig | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.exchange = exchange
        self._sleep = sleep  # between two looks at the list of instruments
        self.config = config or FeedConfig()
        self.endpoints = endpoints or exchange.endpoints
        self.instruments = Instruments() if instruments is None else instruments
        self.lines: list[Line] = []
        self._subscriptions = list(subscriptions)
        self._plans: list[ConnectionPlan] = []
        self._downstream = downstream
        self._ssl = ssl_context
        self._writer = writer
        self._wrap = wrap
        self._policy = policy
        self._latency = latency
        self._rest = RestClient(self.endpoints.rest, self.config.rest, ssl_context, own_url=exchange.endpoints.rest)
        self._lists_config = lists or InstrumentListsConfig()
        cache = None
        if self._lists_config.cache_folder is not None and self.endpoints.rest == exchange.endpoints.rest:
            cache = InstrumentCache(self._lists_config.cache_folder, max_age=self._lists_config.max_age)
        self._lists = InstrumentLists(exchange, self._rest, cache, max_pages=self.config.max_instrument_pages)
        self._listed = InstrumentList([], is_cached=False)  # all instruments of the exchange
        self._stopping = asyncio.Event()

    async def __aenter__(self) -> LiveFeed:
        await self._rest.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._rest.__aexit__(kind, error, traceback)

    def stop(self) -> None:
        """Have `run` close the connections and return."""
        self._stopping.set()

    async def run(self) -> None:
        """Serve until stopped: `prepare`, `open` and `serve`, which a handler of several feeds calls for all."""
        await self.prepare()
        self.open()
        await self.serve()

    async def prepare(self) -> None:
        """Learn what can be subscribed; UnknownSymbol, ConfigError or FetchError."""
        self._listed = await self._lists.load()
        try:
            self._plans = self._plan()
        except UnknownSymbol:
            if not self._listed.is_cached:
                raise
            self._listed = await self._lists.load(fresh=True)  # it may have been listed since
            self._plans = self._plan()

    def _plan(self) -> list[ConnectionPlan]:
        return self.exchange.plan(self._subscriptions, self._listed.instruments)

    def open(self) -> None:
        """Make the lines, which are not connected yet, and declare them to the recording."""
        # Only what is subscribed is known to the decoders, in an order that a replay can repeat.
        for subscription in self._subscriptions:
            instrument = self._listed.instruments.resolve(self.exchange.id, subscription.symbol)
            self.instruments.add_described(instrument.describe())
        self.lines = [self._line(plan) for plan in self._plans]
        self._tell_list()

    def _tell_list(self) -> None:
        """Have the list recorded, wherever it came from, so that the recording can be served; tell what is wrong."""
        if self.lines:
            receiver = self.lines[0].receiver
            for reply in self._listed.replies:
                receiver.exchanged(INSTRUMENTS_TAG, reply.url, reply.body, reply.reply)
            for problem in self._listed.problems:
                receiver.status("problem", problem)
        self._listed.replies.clear()
        self._listed.problems.clear()

    async def serve(self) -> None:
        """Connect, and serve until stopped; raises what ends one of the lines."""
        tasks: list[asyncio.Future[Any]] = [asyncio.ensure_future(line.run()) for line in self.lines]
        tasks += [asyncio.ensure_future(self._stopping.wait()), asyncio.ensure_future(self._keep_refreshing())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()  # a line only ends by raising
        finally:
            for line in self.lines:
                line.receiver.detach()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def refresh_instruments(self) -> None:
        """Fetch the list of instruments anew, so that new ones can be subscribed; tell what has changed.

        `run` does so by itself every `InstrumentListsConfig.refresh_interval`. A list that does not come is told as a
        problem. What has changed is told as FeedStatus("instruments_changed"), and for each instrument that is
        subscribed and has vanished FeedStatus("instrument_gone", its symbol) comes from its connection.
        """
        try:
            listed = await self._lists.load(fresh=True)
        except (FetchError, DecodeError) as error:
            self._status("problem", f"instruments not refreshed: {error}")
            return
        before, now = _raw_symbols(self._listed), _raw_symbols(listed)
        self._listed = listed
        if before == now:  # then those that the recording has do for it
            self._listed.replies.clear()
        self._tell_list()
        if before == now:
            return
        changes = [
            f"{len(names)} {what}: {', '.join(names[:MAX_NAMED])}{', ...' if len(names) > MAX_NAMED else ''}"
            for what, names in (("new", sorted(now - before)), ("gone", sorted(before - now)))
            if names
        ]
        self._status("instruments_changed", "; ".join(changes))
        for line in self.lines:
            for name in sorted({raw_symbol for raw_symbol, _ in line.plan.serves} & (before - now)):
                line.tell("instrument_gone", name)

    def _status(self, status: str, reason: str) -> None:
        """Tell what is about the feed as a whole."""
        if self.lines:
            self.lines[0].tell(status, reason)

    async def _keep_refreshing(self) -> None:
        while True:
            await self._sleep(self._lists_config.refresh_interval)
            await self.refresh_instruments()

    def _line(self, plan: ConnectionPlan) -> Line:
        url = address(self.endpoints.ws, self.exchange.endpoints.ws, plan.path)
        source = 0
        if self._writer is not None:
            source = self._writer.add_source(
                self.exchange.id,
                url,
                streams=plan.streams,
                instruments=[i.describe() for i in self.instruments if i.exchange == self.exchange.id],
            )
        handler = self._downstream if self._wrap is None else self._wrap(self._downstream)
        pipeline = Pipeline(
            self.exchange,
            self.instruments,
            handler,
            source=source,
            latency=self._latency,
            skip_superseded=self._policy != "none",
            max_held_bytes=self.config.max_held_bytes,
        )
        return Line(
            self.exchange,
            plan,
            url,
            pipeline,
            self._rest,
            self.config,
            endpoints=self.endpoints,
            ssl_context=self._ssl,
            writer=self._writer,
            drain_reads=self.config.drain_reads if self._policy == "drained" else 0,
        )


class Line:
    """One connection of a feed, made again whenever it is lost."""

    def __init__(
        self,
        exchange: Exchange,
        plan: ConnectionPlan,
        url: str,
        pipeline: Pipeline,
        rest: RestClient,
        config: FeedConfig,
        *,
        endpoints: Endpoints,
        ssl_context: ssl.SSLContext | None,
        writer: RecordingWriter | None,
        drain_reads: int,
    ) -> None:
        self.exchange = exchange
        self.plan = plan
        self.url = url
        self.pipeline = pipeline
        self.receiver = Receiver(
            pipeline,
            self,
            writer=writer,
            max_message_size=config.max_message_size,
            drain_reads=drain_reads,
            drain_timeout=config.drain_timeout,
            large_message=config.large_message,
        )
        self.connects = 0
        wanted, needed = config.resnapshot_interval, exchange.resnapshot_interval
        self.resnapshot_interval = 0.0 if needed is None else needed if wanted is None else wanted  # seconds, 0: never
        self._downstream = pipeline.books.downstream
        self._served = [(_known(pipeline, raw_symbol), channel) for raw_symbol, channel in plan.serves]
        self._silent: list[tuple[Instrument, str]] = []  # subscriptions, and told of
        self._rest = rest
        self._config = config
        self._endpoints = endpoints
        self._ssl = ssl_context
        self._backoff = Backoff(config.backoff)
        self._helpers: set[asyncio.Task[None]] = set()
        self._failed: asyncio.Future[None] | None = None  # what ends the line for good
        self._snapshot_wait: dict[str, tuple[float, float]] = {}  # tag -> (loop time of the last one, wait)

    async def run(self) -> None:
        """Connect, serve and reconnect until cancelled, refused, or a handler raises."""
        self._failed = asyncio.get_running_loop().create_future()
        ticking = asyncio.ensure_future(self._tick())
        try:
            while True:
                wait = await self._serve_once()
                if wait:
                    await asyncio.sleep(wait)
        finally:
            ticking.cancel()
            self._end_helpers()
            self._failed.cancel()

    # --- what the receiver tells ------------------------------------------------------------------

    def on_requests(self) -> None:
        """Fulfil what the decoder asks for."""
        for request in self.pipeline.decoder.take_requests():
            if isinstance(request, Send):
                self.receiver.send(request.payload)
            elif isinstance(request, Fetch):
                self._help(self._fetch(request))
            elif isinstance(request, Resubscribe):
                self._help(self._resubscribe(request))
            elif isinstance(request, Reconnect):
                self.receiver.disconnect(request.reason)
            elif isinstance(request, Refused):
                self._fail(SubscriptionRefused(f"{self.exchange.id}: {self.url}: {request.reason}"))

    def on_failed(self, error: Exception) -> None:
        """A handler raised where no frame brought it about."""
        self._fail(error)

    # --- one connection ---------------------------------------------------------------------------

    async def _serve_once(self) -> float:
        """Connect and serve until the connection ends; return the seconds to wait before the next one."""
        assert self._failed is not None
        frames_before = self.receiver.frames
        first_data = FirstData(self._downstream, self._served)
        self.pipeline.books.downstream = first_data  # before the first message can come
        try:
            transport, _ = await ws_connect(
                lambda: self.receiver,
                await self._address(),
                extra_headers=self.plan.headers or None,
                ssl_context=self._ssl,
                websocket_handshake_timeout=self._config.connect_timeout,
                max_frame_size=self._config.max_message_size,
                read_buffer_init_size=self._config.read_buffer_size,
                read_until_drained=self.receiver.drain_reads,
                kernel_time=self.pipeline.latency is not None and sys.platform == "linux",
                logger_name="feeds",
            )
        except (OSError, WSError, asyncio.TimeoutError, DecodeError, FetchError) as error:
            self.receiver.status("connect_failed", f"{self.url}: {type(error).__name__}: {error}")
            return self._backoff.next()
        self.connects += 1
        self._help(self._subscribe(frames_before, first_data))
        self._help(self._watch_silence())
        if self.plan.heartbeat is not None:
            self._help(self._beat(self.plan.heartbeat))
        if self.resnapshot_interval:
            self._help(self._resnapshot(self.resnapshot_interval))
        disconnected = asyncio.ensure_future(transport.wait_disconnected())
        try:
            await asyncio.wait([disconnected, self._failed], return_when=asyncio.FIRST_COMPLETED)
            if self._failed.done():
                self._failed.result()
            try:
                await disconnected
            except (WSError, OSError):
                pass  # the peer broke the protocol or vanished: told as "disconnected", and we come back
        finally:
            self._end_helpers()
            disconnected.cancel()
            transport.disconnect(False)
        if self.receiver.frames > frames_before:
            self._backoff.reset()
        return self._backoff.next()

    async def _address(self) -> str:
        ticket = self.plan.ticket
        if ticket is None:
            return self.url
        reply = await self._rest.get(ticket.url, ticket.body)
        self.receiver.exchanged(TICKET_TAG, ticket.url, ticket.body, reply)
        return address(self._endpoints.ws, self.exchange.endpoints.ws, self.exchange.ticket_url(self.plan, reply))

    async def _subscribe(self, frames_before: int, first_data: FirstData) -> None:
        if self.plan.awaits_greeting:
            # Looked for, rather than told by the receiver, which then has nothing more to do per frame. Where none
            # comes, silence ends the connection.
            while self.receiver.frames == frames_before:  # noqa: ASYNC110
                await asyncio.sleep(GREETING_POLL)
        await asyncio.sleep(self.plan.subscribe_after)
        await self._send_all(self.plan.subscribe)
        await self._await_first_data(first_data)

    async def _await_first_data(self, first_data: FirstData) -> None:
        """Wait until all that was subscribed has brought data, at most so long; then tell what has not, once."""
        loop = asyncio.get_running_loop()
        timeout = self._config.first_data_timeout
        deadline = loop.time() + timeout
        # Looked for, so that the stage has nothing more to do per event.
        while first_data.silent and (left := deadline - loop.time()) > 0:  # noqa: ASYNC110
            await asyncio.sleep(min(left, self._config.tick_interval))
        self.pipeline.books.downstream = self._downstream
        told, self._silent = self._silent, first_data.silent
        for instrument, channel in self._silent:
            if (instrument, channel) not in told:
                reason = f"{instrument.raw_symbol} {channel}: nothing came within {timeout:g} s of subscribing"
                self.tell("silent_subscription", reason)

    async def _send_all(self, messages: Sequence[bytes | Callable[[int], bytes]]) -> None:
        for number, message in enumerate(messages):
            if number:
                await asyncio.sleep(self.plan.message_interval)
            self.receiver.send(message if isinstance(message, bytes) else message(time.time_ns()))

    async def _beat(self, heartbeat: Heartbeat) -> None:
        while True:
            await asyncio.sleep(heartbeat.interval)
            self.receiver.send(heartbeat.message(time.time_ns()))

    async def _resnapshot(self, interval: float) -> None:
        """Ask for snapshots of the connection's books, one after the other, each once every `interval` seconds."""
        books = [instrument for instrument, channel in self._served if channel == "book"]
        while books:
            for instrument in books:
                await asyncio.sleep(max(interval / len(books), 2 * self.plan.message_interval))
                self._guard(partial(self.receiver.resnapshot, instrument.raw_symbol))

    async def _watch_silence(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            frames, began = self.receiver.frames, loop.time()
            await asyncio.sleep(self._config.silence_timeout)
            if self.receiver.frames == frames:
                reason = f"no message for {loop.time() - began:.1f} s"
                self.receiver.status("silent", reason)
                self.receiver.disconnect(reason)
                return

    async def _tick(self) -> None:
        while True:
            messages = self.pipeline.messages
            await asyncio.sleep(self._config.tick_interval)
            if self.pipeline.messages == messages:
                self._guard(self.receiver.tick)

    async def _fetch(self, request: Fetch) -> None:
        await self._pace_snapshots(request.tag)
        self.receiver.requested(request.url, request.tag)
        try:
            body = await self._rest.get(request.url, request.body)
        except FetchError as error:
            reason = str(error)
            self._guard(lambda: self.receiver.fetch_failed(request.tag, reason))
        else:
            self._guard(lambda: self.receiver.reply(request.tag, body))

    async def _resubscribe(self, request: Resubscribe) -> None:
        await self._pace_snapshots(request.tag)
        await self._send_all(request.messages)
        await asyncio.sleep(self._config.snapshot_timeout)
        books = self.pipeline.books
        instrument = self.pipeline.decoder.instruments.known(self.pipeline.exchange, request.tag)
        book = None if instrument is None else books.book(instrument)
        if instrument is None or book is None or not books.is_awaiting(instrument):
            return
        reason = f"no snapshot came within {self._config.snapshot_timeout:g} s of subscribing anew"
        if book.state in (BookState.LIVE, BookState.CROSSED):  # and may be subscribed no more
            self.receiver.disconnect(f"{request.tag}: {reason}")
        else:
            self._guard(lambda: self.receiver.fetch_failed(request.tag, reason))

    async def _pace_snapshots(self, tag: str) -> None:
        """Wait before a snapshot that follows another of the same book: that one was too old, or the book has gaps."""
        now = asyncio.get_running_loop().time()
        last, wait = self._snapshot_wait.get(tag, (-1e9, 0.0))
        shortest, longest = self._config.snapshot_interval, self._config.snapshot_interval * 16
        wait = min(max(wait * 2, shortest), longest) if now - last < longest * 2 else 0.0
        self._snapshot_wait[tag] = (now + wait, wait)
        await asyncio.sleep(wait)

    # --- helpers ----------------------------------------------------------------------------------

    def tell(self, status: str, reason: str) -> None:
        """Have a status recorded and passed on; what a handler raises at it ends the line."""
        if not self.receiver.is_detached:
            self._guard(partial(self.receiver.status, status, reason))

    def _guard(self, call: Callable[[], None]) -> None:
        """Call into the pipeline from outside a frame: what a handler raises ends the line."""
        try:
            call()
        except Exception as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        self.receiver.detach()
        if self._failed is not None and not self._failed.done():
            self._failed.set_exception(error)

    def _help(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.ensure_future(work)
        self._helpers.add(task)
        task.add_done_callback(self._helped)

    def _helped(self, task: asyncio.Task[None]) -> None:
        self._helpers.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error if isinstance(error, Exception) else FeedsError(str(error)))

    def _end_helpers(self) -> None:
        for task in self._helpers:
            task.cancel()
        self._snapshot_wait.clear()


def _raw_symbols(listed: InstrumentList) -> set[str]:
    return {instrument.raw_symbol for instrument in listed.instruments}


def _known(pipeline: Pipeline, raw_symbol: str) -> Instrument:
    instrument = pipeline.decoder.instruments.known(pipeline.exchange, raw_symbol)
    assert instrument is not None  # what is subscribed is known to the decoder
    return instrument
