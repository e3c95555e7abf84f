"""Sessions: a handler behind the whole chain, run live or from recordings, and a report of what happened.

books -> conflation -> digest -> (where asked for: latency) -> handler
"""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from feeds.book import OrderBook
from feeds.checks import CheckResult, QuoteCheck
from feeds.conflation import POLICIES, Conflator
from feeds.digest import CallbackDigest
from feeds.errors import ConfigError
from feeds.events import EventHandler
from feeds.exchange import Endpoints
from feeds.instrument import Instruments
from feeds.latency import Latency, LatencyProbe
from feeds.pipeline import Pipeline, Problem
from feeds.recording import (
    Damage,
    MergedSource,
    RawSource,
    RecordingConfig,
    RecordingError,
    RecordingWriter,
    open_session,
)
from feeds.replay import Replay, ReplayWindow
from feeds.subscription import DEFAULT_CHANNELS, Subscription
from picows import start_busy_polling

if TYPE_CHECKING:
    from feeds.live.feed import FeedConfig
    from feeds.live.handler import FeedHandler, FeedHandlerConfig

__all__ = ["Report", "live", "replay", "run_live"]

PROGRESS_RECORDS = 20_000  # between two calls of `progress`
PACE_SLICE = 0.005  # seconds between two looks at what is due in a paced replay


@dataclass
class Report:
    """What happened in a session."""

    mode: str  # "live" or "replay"
    policy: str
    elapsed: float = 0.0  # seconds
    frames: int = 0  # WebSocket frames (live)
    messages: int = 0
    payload_bytes: int = 0
    batches: int = 0
    trades: int = 0  # callbacks by kind
    quotes: int = 0
    books: int = 0
    deltas: int = 0
    statuses: int = 0
    others: int = 0  # tickers, funding, open interest, liquidations, candles
    quotes_merged: int = 0  # quotes that a newer one of the same batch stood in for
    books_merged: int = 0  # book messages that a later update of the same batch stood for
    superseded: int = 0  # messages that were not decoded, because a newer one of the same batch stood for them
    tickers_merged: int = 0
    applied: int = 0  # deltas and snapshots that became part of a book
    gaps: int = 0
    verified: int = 0  # messages whose checksum was that of the book
    mismatched: int = 0  # messages whose checksum was not
    connects: int = 0
    digest: str = ""
    recorded_digest: str | None = None  # of the live run, where the recording has one for this policy
    dropped: int = 0  # messages that the recording had no room for
    recording_error: str | None = None  # why the recording ended before the session
    problems: dict[str, Problem] = field(default_factory=dict)
    silent_subscriptions: list[str] = field(default_factory=list)  # in words: no data within `first_data_timeout`
    order_books: list[OrderBook] = field(default_factory=list)
    latency: Latency | None = None  # where it was asked for
    damages: list[Damage] = field(default_factory=list)
    checks: list[CheckResult] = field(default_factory=list)

    @property
    def callbacks(self) -> int:
        """How often the handler was called with an event."""
        return self.trades + self.quotes + self.books + self.deltas + self.statuses + self.others

    @property
    def is_same(self) -> bool | None:
        """Whether a replay made the callbacks of the live run; None where the recording does not say."""
        return None if self.recorded_digest is None else self.digest == self.recorded_digest


class _Chain:
    """The stages that one session puts before a handler."""

    def __init__(self, handler: EventHandler, policy: str, latency: Latency | None) -> None:
        if policy not in POLICIES:
            raise ConfigError(f"expected a conflation policy among {', '.join(POLICIES)}, found {policy!r}")
        # A Strategy brings a host that sets its clock and names it when it raises; other handlers need none.
        self.host: Any = handler.hosted() if hasattr(handler, "hosted") else handler
        self.latency = latency
        self.digest = CallbackDigest(self.host if latency is None else LatencyProbe(self.host, latency))
        self.conflator = Conflator(self.digest) if policy != "none" else None
        self.head: EventHandler = self.conflator or self.digest

    def start(self) -> None:
        if hasattr(self.host, "start"):
            self.host.start()

    def stop(self) -> None:
        if hasattr(self.host, "stop"):
            self.host.stop()

    def fill(self, report: Report, pipelines: Sequence[Pipeline]) -> None:
        digest, conflator = self.digest, self.conflator
        report.trades, report.quotes, report.books = digest.trades, digest.quotes, digest.books
        report.deltas, report.statuses, report.digest = digest.deltas, digest.statuses, digest.hexdigest
        report.others = digest.others
        if conflator is not None:
            report.quotes_merged = conflator.quotes_in - conflator.quotes_out
            report.tickers_merged = conflator.tickers_in - conflator.tickers_out
            report.books_merged = conflator.books_in - conflator.books_out
        report.latency = self.latency
        for pipeline in pipelines:
            report.messages += pipeline.messages
            report.payload_bytes += pipeline.payload_bytes
            report.batches += pipeline.batches
            report.superseded += pipeline.superseded
            report.applied += pipeline.books.applied
            report.gaps += pipeline.books.gaps
            report.verified += pipeline.books.verified
            report.mismatched += pipeline.books.mismatched
            report.order_books += pipeline.books.books
            report.silent_subscriptions += pipeline.silent_subscriptions
            for kind, problem in pipeline.problems.items():
                known = report.problems.setdefault(kind, Problem(kind, problem.first))
                known.count += problem.count


# --- live -----------------------------------------------------------------------------------------


async def live(
    handler: EventHandler,
    exchange: str | None = None,
    symbols: Sequence[str | Subscription] = (),
    *,
    channels: Sequence[str] = DEFAULT_CHANNELS,
    policy: str = "batch",
    record_to: str | os.PathLike[str] | None = None,
    recording: RecordingConfig | None = None,
    duration: float | None = None,
    stop: asyncio.Event | None = None,
    endpoints: Endpoints | None = None,
    ssl_context: ssl.SSLContext | None = None,
    config: FeedConfig | FeedHandlerConfig | None = None,
    latency: bool = False,
    on_start: Callable[[FeedHandler], object] | None = None,
) -> Report:
    """Run `handler` on live data until `duration` (seconds) has passed, `stop` is set or the task is cancelled.

    Of one exchange, `config` then is a `feeds.live.feed.FeedConfig`; or of those that `config` names, a
    `feeds.live.handler.FeedHandlerConfig`, in which then also stands what else is about them.

    `policy` is one of `feeds.conflation.POLICIES`.
    `record_to` names a new file that gets everything received, or a folder where `recording` says to rotate; a
    recording that fails does not end the session, see `Report.recording_error`. `latency` measures where the time
    between packet and handler goes, for `Report.latency`. `on_start` is called with the `FeedHandler` before anything
    comes, for who wants to subscribe and unsubscribe later. Raises UnknownExchange, UnknownSymbol and ConfigError for
    what cannot be, SubscriptionRefused for what the exchange refuses, FetchError without instrument metadata, and
    whatever the handler raises (a strategy: StrategyError).
    """
    from feeds.live.feed import FeedConfig  # aiohttp: only for who goes live
    from feeds.live.handler import ExchangeConfig, FeedHandler, FeedHandlerConfig

    if isinstance(config, FeedHandlerConfig):
        given = (exchange, tuple(symbols), tuple(channels), policy, record_to, recording, endpoints)
        if given != (None, (), DEFAULT_CHANNELS, "batch", None, None, None):
            raise ConfigError(
                "expected exchange, symbols, channels, policy, recording and endpoints in the config alone"
            )
        wanted = config
    else:
        if exchange is None:
            raise ConfigError("expected an exchange, or a FeedHandlerConfig, found neither")
        feed = ExchangeConfig(
            exchange=exchange,
            symbols=tuple(symbols),
            channels=tuple(channels),
            endpoints=endpoints,
            config=config or FeedConfig(),
        )
        wanted = FeedHandlerConfig(
            feeds=(feed,),
            policy=policy,
            record_to=None if record_to is None else os.fspath(record_to),
            recording=recording or RecordingConfig(),
        )
    chain = _Chain(handler, wanted.policy, Latency(is_live=True) if latency else None)
    report = Report("live", wanted.policy)
    writer = None
    if wanted.record_to is not None:
        settings = msgspec.structs.asdict(wanted.recording)
        writer = RecordingWriter(wanted.record_to, metadata={"policy": wanted.policy}, **settings)
    began = time.monotonic()
    try:
        async with FeedHandler(
            wanted, chain.head, ssl_context=ssl_context, writer=writer, latency=chain.latency
        ) as feeds:
            ending = asyncio.ensure_future(_stop_later(feeds.stop, duration, stop))
            flushing = (
                None if writer is None else asyncio.ensure_future(_flush(writer, wanted.recording.flush_interval))
            )
            chain.start()
            try:
                if on_start is not None:
                    on_start(feeds)
                await feeds.run()
            finally:
                ending.cancel()
                if flushing is not None:
                    flushing.cancel()
                chain.stop()
                report.elapsed = time.monotonic() - began
                report.frames = sum(line.frames for line in feeds.lines)
                report.connects = sum(line.connects for line in feeds.lines)
                chain.fill(report, [line.pipeline for line in feeds.lines])
                if writer is not None and writer.problem is None:
                    digest = {"policy": wanted.policy, "digest": report.digest, "callbacks": report.callbacks}
                    writer.note("digest", digest)
    finally:
        if writer is not None:
            try:
                writer.close()
            except RecordingError as error:
                report.recording_error = str(error)
            report.dropped = writer.dropped
    return report


async def _flush(
    writer: RecordingWriter,
    interval: float,
    *,
    now: Callable[[], int] = time.time_ns,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Have what was recorded written in time, also when no message follows."""
    while True:
        await sleep(interval / 4)
        writer.flush_due(now() + int(interval * 250_000_000))  # what would be late the next time is due now


async def _stop_later(stop_feed: Callable[[], None], duration: float | None, stop: asyncio.Event | None) -> None:
    try:
        await asyncio.wait_for((stop or asyncio.Event()).wait(), duration)
    except asyncio.TimeoutError:
        pass
    stop_feed()


def run_live(
    handler: EventHandler,
    exchange: str | None = None,
    symbols: Sequence[str | Subscription] = (),
    *,
    busy_poll: bool = False,
    **options: Any,
) -> Report:
    """Run `live` in an event loop of its own (uvloop); SIGINT and SIGTERM end the session in good order.

    `busy_poll` takes a processor for itself, and never sleeps between messages: see picows.start_busy_polling().
    """
    import signal

    import uvloop

    async def main() -> Report:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                loop.add_signal_handler(number, stop.set)
            except (ValueError, RuntimeError):  # not in the main thread: whoever is, decides
                break
        if busy_poll:
            start_busy_polling()
        return await live(handler, exchange, symbols, stop=stop, **options)

    return uvloop.run(main())


# --- replay ---------------------------------------------------------------------------------------


def replay(
    handler: EventHandler,
    paths: Sequence[str | os.PathLike[str]] | str | os.PathLike[str],
    *,
    policy: str = "batch",
    speed: float | None = None,
    start: int | None = None,
    warm_up: float | None = None,
    end: int | None = None,
    check: bool = False,
    reference: bool = False,
    format: Literal["auto", "native", "collector", "cryptofeed", "tardis"] = "auto",
    exchange: str | None = None,
    progress: Callable[[RawSource], None] | None = None,
    latency: bool = False,
) -> Report:
    """Run `handler` on recordings through the code that runs live; several files, and folders, merged by receive time.

    `speed` paces by the recorded receive times (1.0 = as it was, None = as fast as possible). Data events before
    `start` and messages after `end` (ns since the epoch, receive time) are not delivered; what lies before `start`
    still builds the books: all of it, or, with `warm_up`, so many seconds, to which the index of a recording leads.
    Books are then SYNCING until a snapshot comes, which for some exchanges is the next reconnect. `check` compares
    books with quotes where the exchange numbers both alike, in a pass of its own, which sees all of them. `reference`
    decodes everything with the reference engine. `latency` measures decoding, books and callbacks, for
    `Report.latency`. Bursts are those of the recording: "batch" and "drained" are the same here. Raises
    RecordingError, and whatever the handler raises (a strategy: StrategyError).
    """
    chain = _Chain(handler, policy, Latency() if latency else None)
    head = chain.head if start is None else ReplayWindow(chain.head, start)
    report = Report("replay", policy)
    instruments = Instruments()
    pipelines: list[Pipeline] = []
    began = time.monotonic()
    chain.start()
    try:
        with open_session(paths, format=format, exchange=exchange) as source:
            run = Replay(
                source,
                head,
                instruments=instruments,
                reference=reference,
                skip_superseded=chain.conflator is not None,
                latency=chain.latency,
            )
            if start is not None and warm_up is not None:
                source.seek(start - int(warm_up * 1e9))
            for _ in _slices(run, speed, end):
                if progress is not None:
                    progress(source)
            pipelines += run.pipelines
            noted = run.notes.get("digest")
            is_one_run = source.runs == 1 if isinstance(source, MergedSource) else source.run == 0
            if (
                is_one_run
                and start is None
                and end is None
                and noted
                and (noted["policy"] == "none") == (policy == "none")
            ):
                report.recorded_digest = noted["digest"]
        report.damages += source.damages
    finally:
        chain.stop()
        report.elapsed = time.monotonic() - began
        chain.fill(report, pipelines)
    if check:
        report.checks = _compare(paths, end, reference=reference, format=format, exchange=exchange)
    return report


def _compare(
    paths: Sequence[str | os.PathLike[str]] | str | os.PathLike[str],
    end: int | None,
    *,
    reference: bool,
    **options: Any,
) -> list[CheckResult]:
    """Compare the books of recordings with every quote, so without conflation."""
    checks: list[QuoteCheck] = []

    def checked(downstream: EventHandler) -> EventHandler:
        checks.append(QuoteCheck(downstream))
        return checks[-1]

    with open_session(paths, **options) as source:
        run = Replay(source, EventHandler(), reference=reference, wrap=checked)
        run.run(2**63 - 1 if end is None else end)
    return [result for result in (check.result() for check in checks) if result.compared]


def _slices(run: Replay, speed: float | None, end: int | None) -> Iterator[None]:
    """Play the recording in slices, at the pace of its receive times where a speed is given."""
    last = 2**63 - 1 if end is None else end
    if speed is None:
        while run.run(last, PROGRESS_RECORDS) and not run.is_held:
            yield
        return
    while run.ts_recv == 0 and run.run(last, 1) and not run.is_held:  # up to the first record with a time
        pass
    first, began = run.ts_recv, time.monotonic()
    while True:
        due = first + int((time.monotonic() - began) * speed * 1e9)
        if not run.run(min(due, last)) or due >= last:
            return
        yield
        time.sleep(PACE_SLICE)
