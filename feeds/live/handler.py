"""The feed handler: any number of feeds on one loop, into one handler, by one configuration."""

from __future__ import annotations

import asyncio
import difflib
import os
import ssl
import sys
from collections.abc import Callable, Coroutine, Iterable
from types import TracebackType
from typing import Any

import msgspec

from feeds.conflation import POLICIES
from feeds.errors import ConfigError
from feeds.events import EventHandler
from feeds.exchange import Endpoints
from feeds.exchange import exchange as find_exchange
from feeds.instrument import Instruments
from feeds.latency import Latency
from feeds.live.feed import FeedConfig, Line, LiveFeed
from feeds.live.instrument_lists import InstrumentListsConfig
from feeds.live.snapshots import PendingSnapshot
from feeds.live.tasks import cancel_all
from feeds.recording import RecordingConfig, RecordingWriter
from feeds.subscription import DEFAULT_CHANNELS, Subscription, subscriptions

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["ExchangeConfig", "FeedHandler", "FeedHandlerConfig", "load_config"]


class ExchangeConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One exchange's feed; UnknownExchange and ConfigError for what cannot be.

    `symbols` are ours or the exchange's; one given as a `Subscription` has channels of its own, the others `channels`.
    """

    exchange: str
    symbols: tuple[str | Subscription, ...]
    channels: tuple[str, ...] = DEFAULT_CHANNELS
    endpoints: Endpoints | None = None  # None: the exchange's
    config: FeedConfig = FeedConfig()

    def __post_init__(self) -> None:
        found = find_exchange(self.exchange)
        if not self.symbols:
            raise ConfigError(f"{self.exchange}: expected symbols, found none")
        self.config.check(found)
        for subscription in self.subscriptions:
            found.check_channels(subscription)

    @property
    def subscriptions(self) -> list[Subscription]:
        """What is subscribed, symbol by symbol."""
        return subscriptions(self.symbols, self.channels)


class FeedHandlerConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Feeds of several exchanges, each at most once, and what becomes of their events; ConfigError for what cannot be.

    `policy` is one of `feeds.conflation.POLICIES`; `record_to` and `recording` are as for `feeds.session.live`.
    """

    feeds: tuple[ExchangeConfig, ...]
    policy: str = "batch"
    record_to: str | None = None
    recording: RecordingConfig = RecordingConfig()
    instruments: InstrumentListsConfig = InstrumentListsConfig()

    def __post_init__(self) -> None:
        if self.policy not in POLICIES:
            raise ConfigError(f"expected a conflation policy among {', '.join(POLICIES)}, found {self.policy!r}")
        names = [feed.exchange for feed in self.feeds]
        if not names:
            raise ConfigError("expected feeds, found none")
        for name in names:
            if names.count(name) > 1:
                raise ConfigError(f"expected one feed of {name}, found {names.count(name)}")


def load_config(path: str | os.PathLike[str]) -> FeedHandlerConfig:
    """Read a configuration from a TOML file, whose keys are the fields of `FeedHandlerConfig`.

    ConfigError names the file and the key, for an unknown one with near matches; OSError where it cannot be read.

        policy = "batch"

        [[feeds]]
        exchange = "binance"
        symbols = ["BTC-USDT", { symbol = "ETH-USDT", channels = ["book", "trade"] }]
        config.silence_timeout = 10

        [[feeds]]
        exchange = "kraken"
        symbols = ["BTC-USD"]
    """
    with open(path, "rb") as file:
        try:
            found = tomllib.load(file)
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{os.fspath(path)}: expected TOML: {error}") from None
    try:
        _check_keys(found, msgspec.inspect.type_info(FeedHandlerConfig), "")
        return msgspec.convert(found, FeedHandlerConfig)
    except msgspec.ValidationError as error:
        text, _, where = str(error).rpartition(" - at `$")
        raise ConfigError(f"{os.fspath(path)}: {_joined(where.strip('.`'), text or str(error))}") from None
    except ConfigError as error:
        raise ConfigError(f"{os.fspath(path)}: {error}") from None


def _check_keys(value: Any, kind: msgspec.inspect.Type, where: str) -> None:
    """Refuse keys that no field has; what is of a wrong type is left to whoever converts it."""
    if isinstance(kind, msgspec.inspect.UnionType):
        kind = next((one for one in kind.types if isinstance(one, msgspec.inspect.StructType)), kind)
    if isinstance(kind, msgspec.inspect.StructType) and isinstance(value, dict):
        fields = {field.encode_name: field.type for field in kind.fields}
        for key, inner in value.items():
            below = f"{where}.{key}" if where else key
            if key not in fields:
                near = difflib.get_close_matches(key, fields, n=3)
                hint = f"did you mean {', '.join(near)}?" if near else f"expected one of {', '.join(fields)}"
                raise ConfigError(f"{below}: unknown key; {hint}")
            _check_keys(inner, fields[key], below)
    elif isinstance(kind, msgspec.inspect.VarTupleType) and isinstance(value, list):
        for number, inner in enumerate(value):
            _check_keys(inner, kind.item_type, f"{where}[{number}]")


def _joined(where: str, text: str) -> str:
    return f"{where}: {text}" if where else text


class FeedHandler:
    """Runs several feeds into `downstream`, on one loop.

    `async with FeedHandler(config, downstream) as handler: await handler.run()`. `run` ends when `stop` is called, and
    by raising when one of the feeds does: a symbol that an exchange does not know (UnknownSymbol) or an instrument list
    that it does not give (FetchError), both before the first connection of any; a subscription that it refuses
    (SubscriptionRefused, which names exchange and address); or what a handler raises. The other feeds are then closed.
    A connection that is lost is made again, and is no error: see `LiveFeed`.

    `downstream` is shared by all connections, as a handler of `feeds.conflation` is; `writer` records them all, each as
    a source of its own. `ssl_context`, `wrap` and `latency` are as for `LiveFeed`.
    """

    def __init__(
        self,
        config: FeedHandlerConfig,
        downstream: EventHandler,
        *,
        ssl_context: ssl.SSLContext | None = None,
        writer: RecordingWriter | None = None,
        wrap: Callable[[EventHandler], EventHandler] | None = None,
        latency: Latency | None = None,
    ) -> None:
        self.config = config
        self.latency = latency
        self.instruments = Instruments()  # of all feeds: handlers tell them apart by their index
        self.feeds = {
            wanted.exchange: LiveFeed(
                find_exchange(wanted.exchange),
                wanted.subscriptions,
                downstream,
                instruments=self.instruments,
                config=wanted.config,
                endpoints=wanted.endpoints,
                ssl_context=ssl_context,
                writer=writer,
                wrap=wrap,
                policy=config.policy,
                latency=latency,
                lists=config.instruments,
            )
            for wanted in config.feeds
        }

    @property
    def lines(self) -> list[Line]:
        """The connections of all feeds, feed by feed."""
        return [line for feed in self.feeds.values() for line in feed.lines]

    @property
    def pending_snapshots(self) -> dict[str, list[PendingSnapshot]]:
        """By exchange the snapshots that wait, the next first."""
        return {exchange: feed.snapshots.pending for exchange, feed in self.feeds.items()}

    async def __aenter__(self) -> FeedHandler:
        for feed in self.feeds.values():
            await feed.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for feed in self.feeds.values():
            await feed.__aexit__(kind, error, traceback)

    def stop(self) -> None:
        """Have `run` close all connections and return."""
        for feed in self.feeds.values():
            feed.stop()

    def add(self, exchange: str, subscription: Subscription) -> None:
        """Subscribe to something more while running: see `LiveFeed.add`; ConfigError where the exchange has no feed."""
        self._feed(exchange).add(subscription)

    def remove(self, exchange: str, subscription: Subscription) -> None:
        """End a subscription while running: see `LiveFeed.remove`; ConfigError where the exchange has no feed."""
        self._feed(exchange).remove(subscription)

    def _feed(self, exchange: str) -> LiveFeed:
        if exchange not in self.feeds:
            raise ConfigError(f"expected one of the feeds {', '.join(self.feeds)}, found {exchange!r}")
        return self.feeds[exchange]

    async def run(self) -> None:
        """Serve until stopped."""
        feeds = self.feeds.values()
        await _all(feed.prepare() for feed in feeds)
        for feed in feeds:  # one after the other: instruments and sources in the order that a replay finds them in
            feed.open()
        await _all(feed.serve() for feed in feeds)


async def _all(works: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Wait for all; where one raises, cancel the others, wait for their end, and raise that."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in tasks:  # in their order, so that of several failures always the same is told
            if task in done:
                task.result()
    finally:
        await cancel_all(tasks, patience=5.0)
