"""Several feeds in one handler: configured, served, recorded, refused."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from feeds import session
from feeds.errors import ConfigError, FetchError, SubscriptionRefused, UnknownExchange, UnknownSymbol
from feeds.events import EventHandler, Fanout, Trade
from feeds.exchange import Endpoints, Exchange
from feeds.exchanges.binance import Binance
from feeds.live.feed import FeedConfig
from feeds.live.handler import ExchangeConfig, FeedHandler, FeedHandlerConfig, load_config
from feeds.live.http import RestConfig
from feeds.recording import Kind, RecordingConfig, RecordingWriter, open_recording, session_files
from feeds.simulator.faults import Disconnect, Gap
from feeds.simulator.server import SimulatedExchange
from feeds.subscription import Subscription
from feeds.testing import EventLog

from .conftest import QUICK, Watcher

SPOT, FUTURES = "binance", "binance-futures"
SYMBOLS = {SPOT: ("BTC-USDT", "ETH-USDT"), FUTURES: ("BTC-USDT-PERP", "ETHUSDT")}

WHOLE = """
policy = "drained"
record_to = "session.feeds"
recording = { rotate_interval = 60.0, append = false }

[[feeds]]
exchange = "binance"
symbols = ["BTC-USDT", { symbol = "ETHUSDT", channels = ["trade"] }]
endpoints = { ws = "ws://a", rest = "http://b" }

[feeds.config]
silence_timeout = 10
rest = { attempts = 2 }

[[feeds]]
exchange = "kraken"
symbols = ["BTC-USD"]
channels = ["book", "ticker"]
"""


# --- the configuration ----------------------------------------------------------------------------


def written(folder: Path, text: str) -> Path:
    path = folder / "feeds.toml"
    path.write_text(text)
    return path


def test_a_file_says_what_objects_say(tmp_path: Path) -> None:
    assert load_config(written(tmp_path, WHOLE)) == FeedHandlerConfig(
        policy="drained",
        record_to="session.feeds",
        recording=RecordingConfig(rotate_interval=60.0),
        feeds=(
            ExchangeConfig(
                exchange="binance",
                symbols=("BTC-USDT", Subscription("ETHUSDT", ("trade",))),
                endpoints=Endpoints(ws="ws://a", rest="http://b"),
                config=FeedConfig(silence_timeout=10.0, rest=RestConfig(attempts=2)),
            ),
            ExchangeConfig(exchange="kraken", symbols=("BTC-USD",), channels=("book", "ticker")),
        ),
    )


FEED = '[[feeds]]\nexchange = "binance"\nsymbols = ["BTC-USDT"]\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("polcy = 1\n" + FEED, "polcy: unknown key; did you mean policy?"),
        (FEED + "config.silence_timout = 3", "feeds[0].config.silence_timout: unknown key; did you mean silence_tim"),
        (FEED + "endpoints = { wss = 'a' }", "feeds[0].endpoints.wss: unknown key; did you mean ws?"),
        (FEED + FEED.replace('["BTC-USDT"]', "[{name='a'}]"), "feeds[1].symbols[0].name: unknown key; expected one of"),
        (FEED + "config.silence_timeout = 'a'", "feeds[0].config.silence_timeout: Expected `float | null`, got `str`"),
        (FEED + "config.silence_timeout = 0", "feeds[0].config: expected silence_timeout above 0, found 0"),
        (FEED + "config.rest.attempts = 0", "feeds[0].config.rest: expected attempts and max_concurrent >= 1"),
        (FEED + "channels = ['nope']", "feeds[0]: BTC-USDT: expected channels among book"),
        (FEED + "channels = ['funding']", "feeds[0]: binance: expected channels among book"),
        (FEED.replace("binance", "binanse"), "found 'binanse'; did you mean binance"),
        (FEED + FEED, "expected one feed of binance, found 2"),
        (FEED.replace('"BTC-USDT"', ""), "feeds[0]: binance: expected symbols, found none"),
        ("[[feeds]]\nexchange = 'binance'", "feeds[0]: Object missing required field `symbols`"),
        ("feeds = []", "expected feeds, found none"),
        ("", "Object missing required field `feeds`"),
        ("policy = 'all'\n" + FEED, "expected a conflation policy among"),
        ("feeds = 3", "feeds: Expected `array`, got `int`"),
        ("feeds = ", "expected TOML: "),
    ],
)
def test_a_mistake_in_a_file_names_file_and_key(text: str, message: str, tmp_path: Path) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigError) as raised:
        load_config(path)
    assert str(raised.value).startswith(f"{path}: ")
    assert message in str(raised.value)


def test_a_mistake_in_an_object_is_refused_at_once() -> None:
    with pytest.raises(UnknownExchange, match=r"found 'Kraken'; did you mean kraken"):
        ExchangeConfig(exchange="Kraken", symbols=("a",))
    with pytest.raises(ConfigError, match="binance: expected channels among"):
        ExchangeConfig(exchange="binance", symbols=("a",), channels=("funding",))
    with pytest.raises(ConfigError, match="expected feeds, found none"):
        FeedHandlerConfig(feeds=())


# --- running --------------------------------------------------------------------------------------


@asynccontextmanager
async def simulators(*exchanges: str, symbols: tuple[str, ...] = ("BTCUSDT", "ETHUSDT")) -> AsyncIterator[Any]:
    """Simulated exchanges, by id."""
    async with AsyncExitStack() as stack:
        yield {
            exchange: await stack.enter_async_context(SimulatedExchange(exchange, symbols, seed=7, rate=1000.0))
            for exchange in exchanges
        }


def configured(sims: dict[str, SimulatedExchange], **options: Any) -> FeedHandlerConfig:
    feeds = [
        ExchangeConfig(
            exchange=exchange,
            symbols=SYMBOLS[exchange],
            endpoints=Endpoints(ws=sim.ws_url, rest=sim.rest_url),
            config=QUICK,
        )
        for exchange, sim in sims.items()
    ]
    return FeedHandlerConfig(feeds=tuple(feeds), **options)


@asynccontextmanager
async def running(watcher: EventHandler, config: FeedHandlerConfig) -> AsyncIterator[Callable[[], session.Report]]:
    """A session, which ends on leaving; what is yielded gives its report then."""
    stop = asyncio.Event()
    task = asyncio.ensure_future(session.live(watcher, config=config, stop=stop))
    body = asyncio.current_task()
    assert body is not None
    task.add_done_callback(lambda done: None if stop.is_set() else body.cancel())
    try:
        yield task.result
    except asyncio.CancelledError:
        if not task.done():
            raise
    finally:
        stop.set()
        await asyncio.wait_for(task, 10)


def live_books(watcher: Watcher) -> set[tuple[str, str]]:
    """(exchange, raw symbol) of the books that are LIVE."""
    newest = {(s.instrument.exchange, s.instrument.raw_symbol): s.new.name for s in watcher.book_statuses}
    return {key for key, state in newest.items() if state == "LIVE"}


async def test_feeds_of_two_exchanges_reach_one_handler_and_one_recording(tmp_path: Path) -> None:
    watcher = Watcher()
    path = tmp_path / "session.feeds"
    async with simulators(SPOT, FUTURES) as sims:
        async with running(watcher, configured(sims, record_to=str(path))) as report:
            await watcher.until(lambda: len(live_books(watcher)) == 4)
            sims[SPOT].inject(Gap(symbol="BTCUSDT"))
            await watcher.until(lambda: "GAP" in [s.new.name for s in watcher.book_statuses])
            await watcher.until(lambda: len(live_books(watcher)) == 4)
            sims[FUTURES].inject(Disconnect())
            await watcher.until(lambda: "STALE" in [s.new.name for s in watcher.book_statuses])
            await watcher.until(lambda: len(live_books(watcher)) == 4)
    assert {s.instrument.exchange for s in watcher.book_statuses if s.new.name == "GAP"} == {SPOT}
    assert {s.instrument.exchange for s in watcher.book_statuses if s.new.name == "STALE"} == {FUTURES}
    assert len({book.instrument.index for book in report().order_books}) == 4  # a handler tells them apart by it
    with open_recording(path) as source:
        assert {message.source for message in source} >= {1, 2}
        assert [declared["exchange"] for declared in source.sources.values()] == [SPOT, FUTURES, FUTURES]
        assert [i["exchange"] for i in source.sources[1]["instruments"]] == [SPOT, SPOT]
    replayed = session.replay(EventHandler(), path)
    assert replayed.is_same
    assert replayed.callbacks == report().callbacks > 100


async def test_a_symbol_that_one_exchange_does_not_know_is_refused_before_any_connection() -> None:
    watcher = Watcher()
    async with simulators(SPOT, FUTURES) as sims:
        good, bad = configured(sims).feeds
        wrong = ExchangeConfig(exchange=FUTURES, symbols=("BTC-USDC-PERP",), endpoints=bad.endpoints, config=QUICK)
        with pytest.raises(UnknownSymbol, match=r"binance-futures: no instrument 'BTC-USDC-PERP'.*did you mean"):
            await session.live(watcher, config=FeedHandlerConfig(feeds=(good, wrong)))
    assert watcher.statuses() == []


async def test_an_exchange_that_gives_no_list_is_named() -> None:
    watcher = Watcher()
    async with simulators(SPOT) as sims:
        nobody = ExchangeConfig(
            exchange=FUTURES,
            symbols=("BTCUSDT",),
            endpoints=Endpoints(ws="ws://127.0.0.1:1", rest="http://127.0.0.1:1"),
            config=FeedConfig(rest=RestConfig(attempts=1)),
        )
        with pytest.raises(FetchError, match=r"http://127.0.0.1:1/fapi"):
            await session.live(watcher, config=FeedHandlerConfig(feeds=(*configured(sims).feeds, nobody)))
    assert watcher.statuses() == []


async def test_a_refused_subscription_of_one_feed_ends_all_and_is_named() -> None:
    watcher = Watcher()
    async with simulators(SPOT, FUTURES) as sims:
        with pytest.raises(SubscriptionRefused, match=r"^binance: ws://127.*code 2: Invalid request"):
            async with running(watcher, configured(sims)):
                await watcher.until(lambda: len(live_books(watcher)) == 4)
                sims[SPOT].emit('{"error":{"code":2,"msg":"Invalid request"},"id":1}')
                await asyncio.Event().wait()
        told = len(watcher.updates)
        sims[FUTURES].burst("BTCUSDT", 50)
        await asyncio.wait_for(sims[FUTURES].wait_clients(0), 10)
        assert len(watcher.updates) == told  # nobody is called any more


async def test_what_stands_in_the_config_is_not_given_beside_it() -> None:
    config = FeedHandlerConfig(feeds=(ExchangeConfig(exchange=SPOT, symbols=("BTC-USDT",)),))
    for options in ({"policy": "none"}, {"record_to": "a"}, {"exchange": SPOT}, {"channels": ["book"]}):
        with pytest.raises(ConfigError, match="in the config alone"):
            await session.live(EventHandler(), config=config, **options)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="expected an exchange, or a FeedHandlerConfig"):
        await session.live(EventHandler())


# --- adding and removing --------------------------------------------------------------------------


def states(watcher: Watcher, raw_symbol: str) -> list[str]:
    return [s.new.name for s in watcher.book_statuses if s.instrument.raw_symbol == raw_symbol]


@asynccontextmanager
async def handling(
    watcher: EventHandler, config: FeedHandlerConfig, writer: RecordingWriter | None = None
) -> AsyncIterator[FeedHandler]:
    async with FeedHandler(config, watcher, writer=writer) as handler:
        running = asyncio.ensure_future(handler.run())
        try:
            yield handler
        finally:
            handler.stop()
            await asyncio.wait_for(running, 10)


MANY = tuple(f"C{number:02}USDT" for number in range(50))


async def test_fifty_symbols_are_added_and_removed_on_the_connection_that_there_is(tmp_path: Path) -> None:
    watcher, log = Watcher(), EventLog()
    path = tmp_path / "session.feeds"
    async with simulators(SPOT, symbols=("BTCUSDT", "ETHUSDT", *MANY)) as sims:
        with RecordingWriter(path) as writer:
            async with handling(Fanout([log, watcher]), configured(sims, policy="none"), writer) as handler:
                await watcher.until(lambda: len(live_books(watcher)) == 2)
                for name in MANY:
                    handler.add(SPOT, Subscription(name))
                await watcher.until(lambda: len(live_books(watcher)) == 52)
                for name in MANY[:49]:
                    handler.remove(SPOT, Subscription(name))
                await watcher.until(lambda: watcher.statuses().count("unsubscribed") == 49)
                seen = len(watcher.updates)
                await watcher.until(lambda: len(watcher.updates) > seen + 20)
                assert {u.instrument.raw_symbol for u in watcher.updates[seen:]} <= {"BTCUSDT", "ETHUSDT", MANY[49]}
                for name in MANY[:5]:
                    handler.add(SPOT, Subscription(name, ("book",)))
                await watcher.until(lambda: len(live_books(watcher)) == 8)
                assert len(handler.lines) == 1
                assert len(handler.lines[0].pipeline.books.books) == 8
    assert watcher.statuses().count("connected") == 1
    assert states(watcher, MANY[0]) == ["SYNCING", "LIVE", "STALE", "SYNCING", "LIVE"]
    assert states(watcher, MANY[9]) == ["SYNCING", "LIVE", "STALE"]
    assert states(watcher, "BTCUSDT") == ["SYNCING", "LIVE"]
    told = [s.reason for s in watcher.feed_statuses if s.status == "unsubscribed"]
    assert told == [f"{name}: book, quote, trade" for name in MANY[:49]]
    with open_recording(path) as source:
        sent = [json.loads(message.payload) for message in source if message.kind is Kind.SENT]
    methods = [method for method, _ in groupby(request["method"] for request in sent)]
    assert methods == ["SUBSCRIBE", "UNSUBSCRIBE", "SUBSCRIBE"]
    assert len(sent) <= 6  # what is wanted at once goes together: 3 topics each of 2, 50, 49 symbols, and 5
    again = EventLog()
    session.replay(again, path, policy="none")
    assert [repr(event) for event in again.events] == [repr(event) for event in log.events]
    assert again.tops == log.tops


async def test_what_has_no_room_gets_a_new_connection_and_an_empty_one_is_used_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Binance, "max_topics_per_connection", 3)
    watcher, log = Watcher(), EventLog()
    path = tmp_path / "session"
    async with simulators(SPOT) as sims:
        config = configured(sims)
        one = ExchangeConfig(exchange=SPOT, symbols=("BTC-USDT",), endpoints=config.feeds[0].endpoints, config=QUICK)
        with RecordingWriter(path, rotate_bytes=20_000, block_size=4096) as writer:
            async with handling(
                Fanout([log, watcher]), FeedHandlerConfig(feeds=(one,), policy="none"), writer
            ) as handler:
                await watcher.until(lambda: len(live_books(watcher)) == 1)
                for _ in range(2):
                    handler.add(SPOT, Subscription("ETH-USDT"))
                    await watcher.until(lambda: len(live_books(watcher)) == 2)
                    assert len(handler.lines) == 2
                    handler.remove(SPOT, Subscription("ETHUSDT"))
                    await asyncio.wait_for(sims[SPOT].wait_clients(1), 10)
                handler.add(SPOT, Subscription("ETH-USDT"))
                await watcher.until(lambda: len(live_books(watcher)) == 2)
                seen = watcher.update_count("ETHUSDT")
                await watcher.until(lambda: watcher.update_count("ETHUSDT") > seen + 5)
    assert states(watcher, "BTCUSDT") == ["SYNCING", "LIVE"]
    assert next(s.reason for s in watcher.feed_statuses if s.status == "disconnected").startswith(
        "nothing is subscribed"
    )
    assert len(session_files(path)) > 2
    again = EventLog()
    session.replay(again, path, policy="none")
    assert [repr(event) for event in again.events] == [repr(event) for event in log.events]
    alone = Watcher()  # the last file says by itself what the instruments of its connections are
    report = session.replay(alone, session_files(path)[-1], policy="none")
    assert report.problems == {}
    assert {quote.instrument.symbol for quote in alone.quotes} == {"BTC-USDT", "ETH-USDT"}


async def test_an_exchange_without_a_message_for_it_has_its_connection_made_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Binance, "unsubscribe_message", Exchange.unsubscribe_message)
    watcher = Watcher()
    async with simulators(SPOT) as sims:
        async with handling(watcher, configured(sims, policy="none")) as handler:
            await watcher.until(lambda: len(live_books(watcher)) == 2)
            handler.remove(SPOT, Subscription("ETH-USDT"))
            await watcher.until(lambda: watcher.statuses().count("connected") == 2)
            await watcher.until(lambda: states(watcher, "BTCUSDT")[-1] == "LIVE")
    assert watcher.statuses() == ["connected", "unsubscribed", "disconnected", "connected"]
    assert watcher.feed_statuses[2].reason == "the exchange has no message to end subscriptions"
    assert states(watcher, "BTCUSDT") == ["SYNCING", "LIVE", "STALE", "SYNCING", "LIVE"]
    assert states(watcher, "ETHUSDT") == ["SYNCING", "LIVE", "STALE"]


async def test_single_channels_come_and_go_without_the_book() -> None:
    watcher = Watcher()
    async with simulators(SPOT) as sims:
        async with handling(watcher, configured(sims, policy="none")) as handler:
            await watcher.until(lambda: len(live_books(watcher)) == 2 and watcher.quotes and watcher.trades)
            handler.remove(SPOT, Subscription("BTC-USDT", ("quote", "trade")))
            await asyncio.wait_for(sims[SPOT].wait_unsubscribed("btcusdt@trade"), 10)
            trades, seen = (
                len([t for t in watcher.trades if t.instrument.raw_symbol == "BTCUSDT"]),
                len(watcher.updates),
            )
            await watcher.until(lambda: len(watcher.updates) > seen + 5)
            assert len([t for t in watcher.trades if t.instrument.raw_symbol == "BTCUSDT"]) == trades
            handler.add(SPOT, Subscription("BTCUSDT", ("trade", "book")))  # the book is there already
            await asyncio.wait_for(sims[SPOT].wait_subscribed("btcusdt@trade"), 10)
            assert handler.feeds[SPOT].subscriptions[0].channels == ("book", "trade")
    assert states(watcher, "BTCUSDT") == ["SYNCING", "LIVE"]
    assert [(s.status, s.reason) for s in watcher.feed_statuses[1:]] == [
        ("unsubscribed", "BTCUSDT: quote, trade"),
        ("subscribed", "BTCUSDT: trade"),
    ]


async def test_a_strategy_may_change_its_subscriptions_inside_a_callback(tmp_path: Path) -> None:
    class Curious(Watcher):
        handler: FeedHandler
        removes = True

        def on_trade(self, event: Trade) -> None:
            super().on_trade(event)
            if "subscribed" not in self.statuses():
                self.handler.add(SPOT, Subscription("ETH-USDT"))
            elif self.removes and live_books(self) == {(SPOT, "BTCUSDT"), (SPOT, "ETHUSDT")}:
                self.removes = False
                self.handler.remove(SPOT, Subscription("BTC-USDT"))

    watcher, path = Curious(), tmp_path / "session.feeds"
    log = EventLog()
    async with simulators(SPOT) as sims:
        config = configured(sims)
        one = ExchangeConfig(exchange=SPOT, symbols=("BTC-USDT",), endpoints=config.feeds[0].endpoints, config=QUICK)
        with RecordingWriter(path) as writer:
            async with FeedHandler(
                FeedHandlerConfig(feeds=(one,), policy="none"), Fanout([log, watcher]), writer=writer
            ) as handler:
                watcher.handler = handler
                running = asyncio.ensure_future(handler.run())
                await watcher.until(lambda: "unsubscribed" in watcher.statuses())
                handler.stop()
                await asyncio.wait_for(running, 10)
    again = EventLog()
    session.replay(again, path, policy="none")
    assert [repr(event) for event in again.events] == [repr(event) for event in log.events]


async def test_subscriptions_of_a_session_change_on_both_exchanges_and_are_replayed(tmp_path: Path) -> None:
    watcher, path, stop = Watcher(), tmp_path / "session.feeds", asyncio.Event()
    handlers: list[FeedHandler] = []
    async with simulators(SPOT, FUTURES) as sims:
        config = configured(sims, record_to=str(path))
        task = asyncio.ensure_future(session.live(watcher, config=config, stop=stop, on_start=handlers.append))
        await watcher.until(lambda: len(live_books(watcher)) == 4)
        for name in (SPOT, FUTURES):
            handlers[0].remove(name, Subscription("ETHUSDT"))
        await watcher.until(lambda: len(live_books(watcher)) == 2)
        sims[FUTURES].inject(Disconnect())
        await watcher.until(lambda: states(watcher, "BTCUSDT").count("STALE") == 1)
        for name in (SPOT, FUTURES):
            handlers[0].add(name, Subscription("ETHUSDT", ("book", "trade")))
        await watcher.until(lambda: len(live_books(watcher)) == 4)
        stop.set()
        report = await asyncio.wait_for(task, 10)
    assert {(s.exchange, s.reason) for s in watcher.feed_statuses if s.status == "subscribed"} == {
        (SPOT, "ETHUSDT: book, trade"),
        (FUTURES, "ETHUSDT: book"),  # each on a connection of its own
        (FUTURES, "ETHUSDT: trade"),
    }
    replayed = session.replay(EventHandler(), path)
    assert replayed.is_same
    assert replayed.callbacks == report.callbacks


async def test_what_there_is_no_connection_for_is_refused_and_the_feed_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Binance, "max_connections", 1)
    monkeypatch.setattr(Binance, "max_topics_per_connection", 4)
    monkeypatch.setitem(SYMBOLS, SPOT, ("BTC-USDT",))
    watcher = Watcher()
    async with simulators(SPOT) as sims:
        async with handling(watcher, configured(sims, policy="none")) as handler:
            await watcher.until(lambda: len(live_books(watcher)) == 1)
            with pytest.raises(ConfigError, match=r"expected subscriptions for 1 connections.* found 6 topics"):
                handler.add(SPOT, Subscription("ETH-USDT", ("book", "quote", "trade")))
            handler.add(SPOT, Subscription("ETH-USDT", ("trade",)))
            await asyncio.wait_for(sims[SPOT].wait_subscribed("ethusdt@trade"), 10)
    assert watcher.statuses() == ["connected", "subscribed"]


async def test_what_cannot_be_added_or_removed_is_said_at_once() -> None:
    watcher = Watcher()
    async with simulators(SPOT) as sims:
        async with handling(watcher, configured(sims, policy="none")) as handler:
            with pytest.raises(ConfigError, match="expected a feed that runs"):
                handler.add(SPOT, Subscription("ETH-USDT"))
            await watcher.until(lambda: len(live_books(watcher)) == 2)
            for symbol, channels, message in (
                ("BTC-USDC", ("book",), "no instrument 'BTC-USDC'.*did you mean BTC-USDT"),
                ("BTC-USDT", ("funding",), "expected channels among book"),
                ("BTC-USDT", ("book_top",), "expected one of book and book_top, found both"),
            ):
                with pytest.raises(ConfigError, match=message):
                    handler.add(SPOT, Subscription(symbol, channels))
            with pytest.raises(ConfigError, match="expected a subscription to BTCUSDT ticker, found none"):
                handler.remove(SPOT, Subscription("BTC-USDT", ("book", "ticker")))
            with pytest.raises(ConfigError, match="expected one of the feeds binance, found 'kraken'"):
                handler.remove("kraken", Subscription("BTC-USDT"))
    assert watcher.statuses() == ["connected"]
