"""Subscriptions that are acknowledged and stay silent."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from feeds import session
from feeds.events import BookDelta, EventHandler, Quote, Ticker, Trade
from feeds.exchange import Endpoints
from feeds.exchanges.binance import Binance
from feeds.instrument import Instrument, Instruments
from feeds.live.feed import LiveFeed
from feeds.live.first_data import FirstData
from feeds.recording import RecordingWriter
from feeds.simulator.faults import Disconnect
from feeds.simulator.server import SimulatedExchange
from feeds.subscription import CHANNELS, Subscription
from feeds.testing import EventLog

from .conftest import QUICK, Watcher


@pytest.fixture
def instruments() -> list[Instrument]:
    known = Instruments()
    return [known.add("x", name, symbol=name, kind="spot") for name in ("A", "B")]


def test_what_has_not_come_is_silent(instruments: list[Instrument]) -> None:
    a, b = instruments
    log = EventLog()
    first = FirstData(log, [(a, "book"), (a, "quote"), (b, "book_top"), (b, "ticker")])
    assert first.silent == [(a, "book"), (a, "quote"), (b, "book_top"), (b, "ticker")]
    events = [Quote(a, bid_price="1", bid_qty="1"), BookDelta(b, bids=[("1", "1")]), Trade(a, price="1", qty="1")]
    for event in events[:2]:
        event.dispatch(first)
    assert first.silent == [(a, "book"), (b, "ticker")]
    events[2].dispatch(first)
    assert first.silent == [(a, "book"), (b, "ticker")]
    events += [BookDelta(a, bids=[("1", "1")]), Ticker(b, last_price="1")]
    for event in events[3:]:
        event.dispatch(first)
    assert first.silent == []
    assert log.events == events


def test_channels_of_quiet_markets_are_not_awaited(instruments: list[Instrument]) -> None:
    first = FirstData(EventHandler(), [(instruments[0], channel) for channel in CHANNELS])
    assert [channel for _, channel in first.silent] == ["book", "book_top", "quote", "ticker"]


def test_instruments_that_are_not_served_pass_too(instruments: list[Instrument]) -> None:
    a, b = instruments
    log = EventLog()
    Quote(b, bid_price="1", bid_qty="1").dispatch(FirstData(log, [(a, "quote")]))
    assert len(log.quotes) == 1


class Misspelt(Binance):
    """Asks for streams of ETHUSDT that there are not: the exchange acknowledges them."""

    def streams(self, instrument: Instrument, channel: str) -> list[str]:
        return [stream.replace("eth", "nosuch") for stream in super().streams(instrument, channel)]


async def test_it_is_told_once_and_disturbs_nobody_and_is_replayed(watcher: Watcher, tmp_path: Path) -> None:
    path = tmp_path / "session.feeds"
    config: Any = type(QUICK)(first_data_timeout=1.5, tick_interval=0.05, backoff=QUICK.backoff, rest=QUICK.rest)
    writer = RecordingWriter(path)
    async with SimulatedExchange("binance", ["BTCUSDT", "ETHUSDT"], seed=7, rate=3000.0) as sim:
        subscriptions = [Subscription("BTC-USDT"), Subscription("ETH-USDT", ("book", "trade"))]
        async with LiveFeed(
            Misspelt(), subscriptions, watcher, config=config, endpoints=sim_endpoints(sim), writer=writer
        ) as feed:
            running = asyncio.ensure_future(feed.run())
            await watcher.until(lambda: "silent_subscription" in watcher.statuses())
            pipeline = feed.lines[0].pipeline
            assert pipeline.books.downstream is watcher  # nothing stands in the way any more
            sim.inject(Disconnect())
            await watcher.until(lambda: watcher.statuses().count("connected") == 2)
            await watcher.until(lambda: pipeline.books.downstream is watcher)  # it has waited once more
            feed.stop()
            await running
    writer.close()
    told = [status.reason for status in watcher.feed_statuses if status.status == "silent_subscription"]
    assert told == ["ETHUSDT book: nothing came within 1.5 s of subscribing"]
    assert pipeline.silent_subscriptions == told
    assert watcher.statuses() == ["connected", "silent_subscription", "disconnected", "connected"]
    assert watcher.states("BTCUSDT") == ["SYNCING", "LIVE", "STALE", "SYNCING", "LIVE"]
    replayed = EventLog()
    report = session.replay(replayed, path, policy="none")
    assert [status.status for status in replayed.feed_statuses] == watcher.statuses()
    assert report.silent_subscriptions == told


async def test_what_has_come_is_not_told(watcher: Watcher) -> None:
    async with SimulatedExchange("binance", ["BTCUSDT"], seed=7, rate=3000.0) as sim:
        async with LiveFeed(
            Binance(), [Subscription("BTC-USDT")], watcher, config=QUICK, endpoints=sim_endpoints(sim)
        ) as feed:
            running = asyncio.ensure_future(feed.run())
            await watcher.until(lambda: feed.lines and feed.lines[0].pipeline.books.downstream is not watcher)
            await watcher.until(lambda: feed.lines[0].pipeline.books.downstream is watcher)
            feed.stop()
            await running
    assert watcher.statuses() == ["connected"]


def sim_endpoints(sim: SimulatedExchange) -> Endpoints:
    return Endpoints(ws=sim.ws_url, rest=sim.rest_url)
