"""The live feed: connects, subscribes, fulfils the decoder's requests, has silence watched, reconnects."""

from __future__ import annotations

import asyncio
import random
import ssl
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from functools import partial
from itertools import zip_longest
from types import TracebackType
from typing import Any

import msgspec

from feeds.book import BookState, OrderBook
from feeds.decoder import Fetch, Reconnect, Refused, Resubscribe, Send
from feeds.errors import ConfigError, DecodeError, FeedsError, FetchError, SubscriptionRefused, UnknownSymbol
from feeds.events import EventHandler
from feeds.exchange import ConnectionPlan, Endpoints, Exchange
from feeds.instrument import Instrument, Instruments
from feeds.latency import Latency
from feeds.live.arbiter import MAX_LEGS, Arbiter, Role
from feeds.live.backoff import BackoffConfig
from feeds.live.first_data import FirstData
from feeds.live.http import RestClient, RestConfig, address
from feeds.live.instrument_lists import InstrumentCache, InstrumentList, InstrumentLists, InstrumentListsConfig
from feeds.live.leg import Leg
from feeds.live.limits import Budget, ConnectionPacer
from feeds.live.liveness import LivenessConfig, new_activity
from feeds.live.merging import merge_requests
from feeds.live.receiver import DEFAULT_LARGE_MESSAGE, Receiver
from feeds.live.snapshots import Need, SnapshotScheduler
from feeds.live.tasks import cancel_all
from feeds.pipeline import Pipeline
from feeds.recording import RecordingWriter
from feeds.recording.format import INSTRUMENTS_TAG, TICKET_TAG
from feeds.subscription import Subscription

__all__ = ["FeedConfig", "JoinConfig", "LiveFeed"]

MAX_LINES = MAX_LEGS - 1  # one more replaces one of them
MAX_NAMED = 20  # instruments that one status names


class JoinConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When connections with the same subscriptions are in step, and how copies are told; seconds and bytes."""

    grace: float = 1.0  # what has come on one connection comes on every other within so long
    quiet: float = 10.0  # on a market where nothing comes a connection is in step after so long
    timeout: float = 30.0  # not joined by then is told, and a connection that would replace another is given up
    memory: int = 65_536  # messages by which copies are told, and
    memory_age: float = 60.0  # for how long they are remembered
    max_held_bytes: int = 16 * 1024 * 1024  # of messages of a connection that joins, in twice the grace

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            if not getattr(self, name) > 0:
                raise ValueError(f"expected {name} above 0, found {getattr(self, name)}")
        if self.memory > 1 << 24:
            raise ValueError(f"expected a memory of at most {1 << 24} messages, found {self.memory}")
        if not self.grace <= self.memory_age:
            raise ValueError(f"expected memory_age of at least grace, found {self.memory_age} and {self.grace}")


class FeedConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits and waits of a live feed; seconds and bytes."""

    connect_timeout: float = 10.0
    silence_timeout: float | None = None  # of a connection, without data before we reconnect; None: learned
    liveness: LivenessConfig = LivenessConfig()
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
    limit_share: float = 0.8  # of what the exchange allows that we use: other programs have the same address
    connect_spread: float = 0.05  # between two connections to the exchange, on average
    max_instrument_pages: int = 1000  # of one list of instruments
    snapshot_interval: float = 0.25  # between snapshots of one book that were each too old; doubles up to 16 times that
    # Between the snapshots that each book of an exchange gets whose messages show no loss; None: as the exchange says
    # (`Exchange.resnapshot_interval`), 0: never. Other exchanges need none, and get none.
    resnapshot_interval: float | None = None
    # Connections with the same subscriptions, of which the first copy of each message counts: as long as one lives
    # there is no gap. More than 1 only where an exchange sends the same on each (`Exchange.copies_differ`).
    lines: int = 1
    # How long before an exchange ends a connection for its age another takes its place; for each between once and half
    # of it, so that they do not go together. One that could not be replaced is made anew a tenth of it before the end.
    rotation_margin: float = 600.0
    join: JoinConfig = JoinConfig()
    backoff: BackoffConfig = BackoffConfig()
    rest: RestConfig = RestConfig()

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if isinstance(value, int | float) and not (value > 0 or (name == "resnapshot_interval" and value == 0)):
                raise ValueError(f"expected {name} above 0, found {value}")
        if self.limit_share > 1:
            raise ValueError(f"expected limit_share at most 1, found {self.limit_share}")
        if self.lines > MAX_LINES:
            raise ValueError(f"expected lines at most {MAX_LINES}, found {self.lines}")

    def check(self, exchange: Exchange) -> None:
        """ConfigError where the exchange cannot be had like that."""
        if self.lines > 1 and exchange.copies_differ is not None:
            raise ConfigError(f"{exchange.id}: expected lines = 1, found {self.lines}: {exchange.copies_differ}")


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

    `FeedConfig.lines` are connections that bring the same: the first copy of each message counts. What they are told
    of is FeedStatus("line_joined"), ("line_lost"), and ("line_behind") for one that is not in step; "disconnected" is
    told when the last one in step is lost. Before an exchange ends a connection for its age another joins and takes
    its place, FeedStatus("rotated"), without a gap; ("rotation_failed") tells that it could not yet, ("reconnecting")
    that the connection has to be lost. ConfigError where there cannot be so many lines.
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
        self.config.check(exchange)
        self.endpoints = endpoints or exchange.endpoints
        self.instruments = Instruments() if instruments is None else instruments
        self.lines: list[Line] = []
        self._subscriptions = list(subscriptions)
        self._wanted: dict[str, tuple[str, ...]] = {}  # by raw symbol the channels
        self._plans: list[ConnectionPlan] = []
        self._serving: list[asyncio.Future[None]] = []
        self._failed: asyncio.Future[None] | None = None  # what ends the feed
        self._is_changing = False
        self._downstream = downstream
        self._ssl = ssl_context
        self._writer = writer
        self._wrap = wrap
        self._policy = policy
        self._latency = latency
        self._rest = RestClient(
            self.endpoints.rest,
            self.config.rest,
            ssl_context,
            own_url=exchange.endpoints.rest,
            budget=Budget(exchange.request_limits, self.config.limit_share),
            weight=exchange.request_weight,
        )
        self._pacer = ConnectionPacer(
            exchange.connection_limits, share=self.config.limit_share, spread=self.config.connect_spread
        )
        self.snapshots = SnapshotScheduler(
            self._rest, interval=self.config.snapshot_interval, max_concurrent=self.config.rest.max_concurrent
        )
        self._names: set[str] = set()  # of the exchange's instruments, as it listed them last
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
        self._wanted.clear()
        for subscription in self._subscriptions:
            raw_symbol = self._resolve(subscription).raw_symbol
            self._wanted[raw_symbol] = _with(self._wanted.get(raw_symbol, ()), subscription)
        return self._planned(self._wanted, [])

    def _planned(
        self, wanted: Mapping[str, tuple[str, ...]], current: Sequence[ConnectionPlan]
    ) -> list[ConnectionPlan]:
        subscriptions = [Subscription(raw_symbol, channels) for raw_symbol, channels in wanted.items()]
        return self.exchange.plan(subscriptions, self._listed.instruments, current)

    def _resolve(self, subscription: Subscription) -> Instrument:
        return self._listed.instruments.resolve(self.exchange.id, subscription.symbol)

    def _learn(self, raw_symbols: Iterable[str]) -> None:
        """Make instruments known to the decoders: only what is subscribed, in an order that a replay can repeat."""
        for raw_symbol in raw_symbols:
            instrument = self._listed.instruments.resolve(self.exchange.id, raw_symbol)
            self.instruments.add_described(instrument.describe())

    def open(self) -> None:
        """Make the lines, which are not connected yet, and declare them to the recording."""
        self._names = {instrument.raw_symbol for instrument in self._listed.instruments}
        self._learn(self._wanted)
        self.lines = [self._line(plan) for plan in self._plans]
        self._tell_list()

    # --- while it runs ----------------------------------------------------------------------------

    @property
    def subscriptions(self) -> list[Subscription]:
        """What is subscribed now, by the exchange's symbols."""
        return [Subscription(raw_symbol, channels) for raw_symbol, channels in self._wanted.items()]

    def add(self, subscription: Subscription) -> None:
        """Subscribe to further channels, of a further instrument or one that is subscribed; soon, for callbacks too.

        Connections that have room for it get messages, paced as the exchange wants it; else there will be a new one.
        Each connection that changes tells FeedStatus("subscribed"). UnknownSymbol, ConfigError.
        """
        self._check_is_serving()
        raw_symbol = self._resolve(subscription).raw_symbol
        added = {raw_symbol: _with(self._wanted.get(raw_symbol, ()), subscription)}
        # Or it says why not: of what is added alone, if what there is already cannot be a reason.
        if self.exchange.max_connections is None:
            self._planned(added, [])
        else:
            self._planned(self._wanted | added, [line.plan for line in self.lines])
        self._wanted |= added
        self._change_soon()

    def remove(self, subscription: Subscription) -> None:
        """End the subscription to channels of an instrument; soon, for callbacks too. ConfigError where there is none.

        Where the exchange has no message for that, the connection is made anew. The instrument's book, if it is among
        the channels, becomes STALE with the reason "unsubscribed", and is no more; trades and quotes that are under way
        still come. Each connection that changes tells FeedStatus("unsubscribed").
        """
        self._check_is_serving()
        raw_symbol = self._resolve(subscription).raw_symbol
        subscribed = self._wanted.get(raw_symbol, ())
        if missing := [channel for channel in subscription.channels if channel not in subscribed]:
            raise ConfigError(
                f"{self.exchange.id}: expected a subscription to {raw_symbol} {', '.join(missing)}, found none"
            )
        left = tuple(channel for channel in subscribed if channel not in subscription.channels)
        if left:
            self._wanted[raw_symbol] = left
        else:
            del self._wanted[raw_symbol]
        self._change_soon()

    def _check_is_serving(self) -> None:
        if self._failed is None:
            raise ConfigError(f"{self.exchange.id}: expected a feed that runs, found one that does not")

    def _change_soon(self) -> None:
        """Have the lines changed, once for all that is wanted in one turn of the loop, and never inside a callback."""
        if not self._is_changing:
            self._is_changing = True
            asyncio.get_running_loop().call_soon(self._change)

    def _change(self) -> None:
        self._is_changing = False
        if self._failed is None or self._failed.done():
            return
        try:
            self._learn(self._wanted)
            plans = self._planned(self._wanted, [line.plan for line in self.lines])
            for line, plan in zip(self.lines, plans, strict=False):
                if plan is not line.plan:
                    self._declare(line, plan)
                    line.change(plan)
            for plan in plans[len(self.lines) :]:
                line = self._line(plan)
                self.lines.append(line)
                line.tell_changes(())
                self._start(line)
        except Exception as error:
            self._fail(error)

    def _declare(self, line: Line, plan: ConnectionPlan) -> None:
        """Tell the recording what a connection is about to serve, too."""
        if self._writer is not None:
            line.streams += [stream for stream in plan.streams if stream not in line.streams]
            self._writer.declare_again(
                line.pipeline.source, self.exchange.id, line.url, **self._declaration(line.streams)
            )

    def _declaration(self, streams: Sequence[str]) -> dict[str, Any]:
        described = [i.describe() for i in self.instruments if i.exchange == self.exchange.id]
        return {"streams": streams, "instruments": described}

    def _fail(self, error: BaseException) -> None:
        if self._failed is not None and not self._failed.done():
            self._failed.set_exception(error)

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
        self._failed = asyncio.get_running_loop().create_future()
        stopping: asyncio.Future[Any] = asyncio.ensure_future(self._stopping.wait())
        refreshing: asyncio.Future[Any] = asyncio.ensure_future(self._keep_refreshing())
        fetching: asyncio.Future[Any] = asyncio.ensure_future(self.snapshots.run())
        for task in (refreshing, fetching):
            task.add_done_callback(self._ended)
        ends: list[asyncio.Future[Any]] = [stopping, self._failed]
        for line in self.lines:
            self._start(line)
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if self._failed.done():
                self._failed.result()
        finally:
            self._failed.cancel()
            self._failed = None
            for line in self.lines:
                line.detach()
            await cancel_all([*self._serving, stopping, refreshing, fetching])

    def _start(self, line: Line) -> None:
        task = asyncio.ensure_future(line.run())
        self._serving.append(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Future[Any]) -> None:
        """A line only ends by raising."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)

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
        before, now = self._names, {instrument.raw_symbol for instrument in listed.instruments}
        for raw_symbol in self._wanted.keys() - now:  # what is subscribed can be unsubscribed
            description = self._listed.instruments.resolve(self.exchange.id, raw_symbol).describe()
            if listed.instruments.is_named(self.exchange.id, description["symbol"] or ""):  # another has its name now
                description["symbol"] = None
            listed.instruments.add_described(description)
        self._listed, self._names = listed, now
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
            source = self._writer.add_source(self.exchange.id, url, **self._declaration(plan.streams))
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
            self.snapshots,
            self._pacer,
            self.config,
            endpoints=self.endpoints,
            ssl_context=self._ssl,
            writer=self._writer,
            drain_reads=self.config.drain_reads if self._policy == "drained" else 0,
        )


class Line:
    """One plan of subscriptions: its pipeline, and the connections that bring it, of which several bring the same."""

    def __init__(
        self,
        exchange: Exchange,
        plan: ConnectionPlan,
        url: str,
        pipeline: Pipeline,
        rest: RestClient,
        snapshots: SnapshotScheduler,
        pacer: ConnectionPacer,
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
        self.pacer = pacer
        self.config = config
        self.writer = writer
        self.drain_reads = drain_reads
        self.connects = 0
        wanted, needed = config.resnapshot_interval, exchange.resnapshot_interval
        self.resnapshot_interval = 0.0 if needed is None else needed if wanted is None else wanted  # seconds, 0: never
        self.activity = new_activity(config.liveness, pipeline.books)
        self.streams = list(plan.streams)  # all that there have been
        self._downstream = pipeline.books.downstream
        self._awaiting: asyncio.Task[None] | None = None  # first data
        self._silent: list[tuple[Instrument, str]] = []  # subscriptions, and told of
        self._rest = rest
        self._snapshots = snapshots
        self._endpoints = endpoints
        self._ssl = ssl_context
        self._arbiter: Arbiter | None = self._new_arbiter() if config.lines > 1 else None
        self._watching: asyncio.Task[None] | None = None
        self._rotating = asyncio.Lock()
        self._due: dict[str, Resubscribe] = {}  # that wait until messages may be sent
        self._retired_frames = 0
        self._tasks: dict[Leg, asyncio.Task[None]] = {}
        self._helpers: set[asyncio.Task[None]] = set()  # of the connection in progress
        # What ends the line for good.
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.legs = [Leg(self, number, self._arbiter, ssl_context) for number in range(config.lines)]

    @property
    def receiver(self) -> Receiver:
        """That of the primary connection, which what concerns the line as a whole is given to."""
        return self._primary.receiver

    @property
    def frames(self) -> int:
        """All that have been received, on every connection."""
        return self._retired_frames + sum(leg.receiver.frames for leg in self.legs)

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection whose messages count."""
        return self._primary.receiver.is_connected and self._primary.is_primary

    @property
    def _primary(self) -> Leg:
        return next((leg for leg in self.legs if leg.is_primary), self.legs[0])

    async def run(self) -> None:
        """Connect, serve and reconnect until cancelled, refused, or a handler raises."""
        ticking = asyncio.ensure_future(self._tick())
        for leg in self.legs:
            self._start(leg)
        if self._arbiter is not None:
            self._watching = self._watch(self._arbiter)
        try:
            await self._failed
        finally:
            tasks = [ticking, *self._tasks.values(), *([] if self._watching is None else [self._watching])]
            self._end_helpers()
            await cancel_all(tasks)
            self._failed.cancel()

    def detach(self) -> None:
        """End the session: nothing is recorded or passed on any more, and the books stay as they are."""
        for leg in self.legs:
            leg.receiver.detach()

    # --- connections ------------------------------------------------------------------------------

    def _start(self, leg: Leg) -> None:
        task = asyncio.ensure_future(leg.run())
        self._tasks[leg] = task

        def ended(task: asyncio.Task[None]) -> None:
            del self._tasks[leg]
            if len(self.legs) > 1:
                self.legs.remove(leg)
                self._retired_frames += leg.receiver.frames
            self.on_task_ended(task)

        task.add_done_callback(ended)

    def on_leg_connected(self, leg: Leg) -> None:
        """A connection stands."""
        self.connects += 1
        if leg.is_primary and self.resnapshot_interval:
            self._help(self._resnapshot(self.resnapshot_interval))

    def on_leg_ended(self, leg: Leg) -> None:
        """A connection has ended, if it is the only one there is."""
        if self._arbiter is None:
            self._end_helpers()

    def on_leg_lost(self, number: int, reason: str) -> None:
        """A connection of several has ended: where none is left in step, all begin anew."""
        assert self._arbiter is not None
        leg = next((leg for leg in self.legs if leg.number == number), None)  # None: it has been retired
        if self._arbiter.primary < 0:
            self._end_helpers()
            for other in self.legs:
                if other is not leg and other.receiver.is_connected:
                    other.reconnect("no connection in step is left to join")
        elif leg is not None and not leg.is_leaving:
            self.tell("line_lost", f"connection {number}: {reason}")

    def _new_arbiter(self) -> Arbiter:
        join = self.config.join
        return Arbiter(
            memory=join.memory,
            memory_age=_ns(join.memory_age),
            grace=_ns(join.grace),
            max_held_bytes=join.max_held_bytes,
            answers=self.exchange.answers,
            snapshots=self.exchange.opening_snapshots,
        )

    def _watch(self, arbiter: Arbiter) -> asyncio.Task[None]:
        task = asyncio.ensure_future(self._watch_legs(arbiter))
        task.add_done_callback(self.on_task_ended)
        return task

    async def _watch_legs(self, arbiter: Arbiter) -> None:
        """Join the connections that are in step, until there is only one, and nothing is remembered of others."""
        join = self.config.join
        loop = asyncio.get_running_loop()
        alone_since = loop.time()
        while self.config.lines > 1 or loop.time() - alone_since < join.memory_age:
            await asyncio.sleep(join.grace / 4)
            if len(self.legs) > 1:
                alone_since = loop.time()
            now = time.time_ns()
            self._hold_back(arbiter, now)
            behind = arbiter.watch(now)
            if arbiter.is_lost:
                self.receiver.disconnect("it fell behind further than is remembered, and no other is in step")
            for leg in list(self.legs):
                reason = arbiter.reason(leg.number) or "nothing came on it"
                if arbiter.is_in_step(leg.number, now, _ns(join.quiet)):
                    self._join(leg)
                elif leg.number in behind:
                    self._tell_behind(leg, reason)
                elif arbiter.role(leg.number) != Role.JOINING:
                    leg.out_of_step_since = loop.time()
                elif loop.time() - leg.out_of_step_since > join.timeout and not leg.is_told_late:
                    leg.is_told_late = True
                    self._tell_behind(leg, f"not in step within {join.timeout:g} s: {reason}")
        for leg in self.legs:
            leg.receiver.arbiter = None
        self._arbiter = self._watching = None

    def _hold_back(self, arbiter: Arbiter, now: int) -> None:
        """Have connections join not before they and the primary have subscribed, and its books have begun.

        A book that begins in the stream needs the deltas behind its snapshot from the same connection.
        """
        books = self.pipeline.books
        if self._primary.subscribed is not self.plan:
            arbiter.part_all(now, "subscriptions are being changed")
        elif self.exchange.opening_snapshots and not all(
            _is_usable(book) and not books.is_awaiting(book.instrument) for book in books.books
        ):
            arbiter.part_all(now, "a book waits for its snapshot")
        for leg in self.legs:
            if leg.subscribed is not self.plan:
                arbiter.part(leg.number, now, "it has not subscribed to everything yet")

    def _join(self, leg: Leg) -> None:
        def join() -> None:
            if leg.receiver.join():
                leg.joined.set()
                leg.is_told_late = False
                if not leg.is_told_joined:  # it may have joined anew behind a snapshot, which is nothing to tell
                    leg.is_told_joined = True
                    self.tell("line_joined", f"connection {leg.number}")

        self._guard(join)

    def _tell_behind(self, leg: Leg, reason: str) -> None:
        leg.is_told_joined = False
        self.tell("line_behind", f"connection {leg.number}: {reason}")

    async def replace_in_time(self, leg: Leg) -> None:
        """Wait until a connection is nearly too old, and put another in its place."""
        assert self.exchange.max_connection_age is not None
        age = self.exchange.max_connection_age
        margin = min(self.config.rotation_margin, age / 2)
        latest = leg.connected_at + age - margin / 10
        loop = asyncio.get_running_loop()
        await asyncio.sleep(max(0.0, age - margin * random.uniform(0.5, 1)))
        reason = f"the exchange ends connections after {age:g} s"
        if self.exchange.copies_differ is None:
            async with self._rotating:
                while (left := latest - loop.time()) > 0:
                    timeout = min(self.config.join.timeout, left)
                    if await self._replace(leg, timeout, reason):
                        return
                    self.tell("rotation_failed", f"no other connection was in step within {timeout:g} s")
                    await asyncio.sleep(min(timeout, max(0.0, latest - loop.time())))
        else:
            reason += f", and another cannot join: {self.exchange.copies_differ}"
        self.tell("reconnecting", reason)
        leg.reconnect(reason)

    async def _replace(self, old: Leg, timeout: float, reason: str) -> bool:
        """Make a connection that takes the place of another as soon as it is in step; False where it is not in time."""
        if self._arbiter is None:
            self._arbiter = self._new_arbiter()
            self._arbiter.attach(old.number, time.time_ns())
            old.receiver.arbiter = self._arbiter
        arbiter = self._arbiter
        if self._watching is None:
            self._watching = self._watch(arbiter)
        free = next(number for number in range(MAX_LEGS) if all(leg.number != number for leg in self.legs))
        new = Leg(self, free, arbiter, self._ssl)
        self.legs.append(new)
        self._start(new)
        try:
            await asyncio.wait_for(new.joined.wait(), timeout)
        except asyncio.TimeoutError:
            pass
        finally:  # this may be the end of the old one, too
            is_replaced = arbiter.role(new.number) in (Role.JOINED, Role.PRIMARY)
            if is_replaced and arbiter.primary == old.number:
                arbiter.hand_over(new.number)
            gone = old if is_replaced else new
            if gone in self._tasks:
                gone.retire(self._tasks[gone], reason)
        if is_replaced:
            self.tell("rotated", reason)
        return is_replaced

    def change(self, plan: ConnectionPlan) -> None:
        """Serve another plan, on the connection that there is if the exchange has messages for that."""
        before, self.plan = self.plan, plan
        if self._arbiter is not None:
            self._arbiter.part_all(time.time_ns(), "subscriptions are being changed")
        for leg in self.legs:
            leg.replan()
        self.tell_changes(before.serves)

    def tell_changes(self, before: Sequence[tuple[str, str]]) -> None:
        """Have it recorded and told what is served, and was not before, and the other way round."""
        after = self.plan.serves
        for served, tell in (
            ([pair for pair in before if pair not in after], self.receiver.unsubscribed),
            ([pair for pair in after if pair not in before], self.receiver.subscribed),
        ):
            channels: dict[str, list[str]] = {}
            for raw_symbol, channel in served:
                channels.setdefault(raw_symbol, []).append(channel)
            for raw_symbol, names in channels.items():
                if tell == self.receiver.unsubscribed and not {"book", "book_top"}.isdisjoint(names):
                    self._snapshots.forget(self, raw_symbol)
                self._guard(partial(tell, raw_symbol, ", ".join(names)))

    # --- what the receiver tells ------------------------------------------------------------------

    def on_requests(self) -> None:
        """Fulfil what the decoder asks for."""
        for request in self.pipeline.decoder.take_requests():
            if isinstance(request, Send):
                self.receiver.send(request.payload)
            elif isinstance(request, Fetch):
                self._snapshots.ask(self, request, self._need(request.tag))
            elif isinstance(request, Resubscribe):
                if self._arbiter is not None:  # what is behind the snapshot has to come on the same connection
                    self._arbiter.part_all(time.time_ns(), "a book waits for its snapshot")
                self._help(self._resubscribe(request))
            elif isinstance(request, Reconnect):
                self.receiver.disconnect(request.reason)
            elif isinstance(request, Refused):
                self._fail(SubscriptionRefused(f"{self.exchange.id}: {self.url}: {request.reason}"))

    def on_failed(self, error: Exception) -> None:
        """A handler raised where no frame brought it about."""
        self._fail(error)

    # --- the connection in progress ---------------------------------------------------------------

    async def address(self) -> str:
        """Return where to connect to."""
        ticket = self.plan.ticket
        if ticket is None:
            return self.url
        reply = await self._rest.get(ticket.url, ticket.body)
        self.receiver.exchanged(TICKET_TAG, ticket.url, ticket.body, reply)
        return address(self._endpoints.ws, self.exchange.endpoints.ws, self.exchange.ticket_url(self.plan, reply))

    def watch_first_data(self, before: Sequence[tuple[str, str]]) -> None:
        """Look for data of what is served and was not `before`, and of what is still looked for."""
        served = [pair for pair in self.plan.serves if pair not in before]
        still = self.pipeline.books.downstream
        if isinstance(still, FirstData) and before:
            names = [(instrument.raw_symbol, channel) for instrument, channel in still.silent]
            served += [pair for pair in names if pair in self.plan.serves]
        found = [(_known(self.pipeline, raw_symbol), channel) for raw_symbol, channel in served]
        self.pipeline.books.downstream = FirstData(self._downstream, found)

    def await_first_data(self) -> None:
        """Tell, from now on, what brings no data in time."""
        first_data = self.pipeline.books.downstream
        if isinstance(first_data, FirstData):
            if self._awaiting is not None:
                self._awaiting.cancel()
            self._awaiting = self._help(self._tell_silent(first_data))

    async def _tell_silent(self, first_data: FirstData) -> None:
        """Wait until all that was subscribed has brought data, at most so long; then tell what has not, once."""
        loop = asyncio.get_running_loop()
        timeout = self.config.first_data_timeout
        deadline = loop.time() + timeout
        # Looked for, so that the stage has nothing more to do per event.
        while first_data.silent and (left := deadline - loop.time()) > 0:  # noqa: ASYNC110
            await asyncio.sleep(min(left, self.config.tick_interval))
        self.pipeline.books.downstream = self._downstream
        told, self._silent = self._silent, first_data.silent
        for instrument, channel in self._silent:
            if (instrument, channel) not in told and (instrument.raw_symbol, channel) in self.plan.serves:
                reason = f"{instrument.raw_symbol} {channel}: nothing came within {timeout:g} s of subscribing"
                self.tell("silent_subscription", reason)

    async def _resnapshot(self, interval: float) -> None:
        """Ask for snapshots of the connection's books, one after the other, each once every `interval` seconds."""
        while True:
            books = [raw_symbol for raw_symbol, channel in self.plan.serves if channel == "book"]
            for raw_symbol in books or [""]:
                await asyncio.sleep(max(interval / max(1, len(books)), 2 * self.plan.message_interval))
                if (raw_symbol, "book") in self.plan.serves:
                    self._guard(partial(self.receiver.resnapshot, raw_symbol))

    async def _tick(self) -> None:
        while True:
            messages = self.pipeline.messages
            await asyncio.sleep(self.config.tick_interval)
            if self.pipeline.messages == messages:
                self._guard(self.receiver.tick)

    async def _resubscribe(self, request: Resubscribe) -> None:
        wait = self._snapshots.pace(self, request.tag)
        await asyncio.sleep(max(wait, self.exchange.resubscribe_interval) if wait else 0)
        self._due[request.tag] = request
        await self._primary.send_in_turn(self._take_due)
        await asyncio.sleep(self.config.snapshot_timeout)
        book = self._book(request.tag)
        if book is None or not self.pipeline.books.is_awaiting(book.instrument):
            return
        reason = f"no snapshot came within {self.config.snapshot_timeout:g} s of subscribing anew"
        if _is_usable(book):  # and may be subscribed no more
            self.receiver.disconnect(f"{request.tag}: {reason}")
        else:
            self._guard(partial(self.receiver.fetch_failed, request.tag, reason))

    def _take_due(self) -> list[bytes]:
        """Return what makes all waiting subscriptions anew, in as few messages as can be: first ends, then begins."""
        served = {raw_symbol for raw_symbol, _ in self.plan.serves}  # some may be unsubscribed by now
        due = [request.messages for request in self._due.values() if request.tag in served]
        self._due.clear()
        limit = self.exchange.max_topics_per_message
        return [
            message
            for step in zip_longest(*due)
            for message in merge_requests((part for part in step if part is not None), limit)
        ]

    # --- what the scheduler of snapshots tells ----------------------------------------------------

    def requested(self, url: str, tag: str) -> None:
        """A snapshot is about to be requested: it is recorded."""
        self.receiver.requested(url, tag)

    def came(self, tag: str, reply: bytes) -> None:
        """A snapshot has come."""
        self._guard(partial(self.receiver.reply, tag, reply))

    def failed(self, tag: str, reason: str) -> None:
        """A snapshot will not come."""
        self._guard(partial(self.receiver.fetch_failed, tag, reason))

    def _need(self, raw_symbol: str) -> Need:
        book = self._book(raw_symbol)
        return Need.RENEWAL if book is not None and _is_usable(book) else Need.REPAIR

    def _book(self, raw_symbol: str) -> OrderBook | None:
        instrument = self.pipeline.decoder.instruments.known(self.exchange.id, raw_symbol)
        return None if instrument is None else self.pipeline.books.book(instrument)

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
        self.detach()
        if not self._failed.done():
            self._failed.set_exception(error)

    def _help(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(work)
        self._helpers.add(task)
        task.add_done_callback(self._helped)
        return task

    def _helped(self, task: asyncio.Task[None]) -> None:
        self._helpers.discard(task)
        self.on_task_ended(task)

    def on_task_ended(self, task: asyncio.Task[None]) -> None:
        """What a task raises ends the line."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error if isinstance(error, Exception) else FeedsError(str(error)))

    def _end_helpers(self) -> None:
        for task in self._helpers:
            task.cancel()
        self._snapshots.forget(self)
        self._due.clear()


def _with(channels: tuple[str, ...], added: Subscription) -> tuple[str, ...]:
    """Return the channels of an instrument with those of a further subscription; ConfigError where they cannot be."""
    together = tuple(dict.fromkeys((*channels, *added.channels)))
    return Subscription(added.symbol, together).channels


def _is_usable(book: OrderBook) -> bool:
    return book.state in (BookState.LIVE, BookState.CROSSED)


def _known(pipeline: Pipeline, raw_symbol: str) -> Instrument:
    instrument = pipeline.decoder.instruments.known(pipeline.exchange, raw_symbol)
    assert instrument is not None  # what is subscribed is known to the decoder
    return instrument


def _ns(seconds: float) -> int:
    return round(seconds * 1_000_000_000)
