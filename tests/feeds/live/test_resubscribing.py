"""Books that are made anew by a new subscription: many at once share their requests, one is not asked for too often."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from feeds.exchange import Endpoints, RateLimit, exchange
from feeds.live.feed import LiveFeed
from feeds.recording import Kind, open_session
from feeds.simulator import faults
from feeds.simulator.faults import Gap, MissingField
from feeds.simulator.order_flow import FlowConfig
from feeds.simulator.server import SimulatedExchange
from feeds.subscription import Subscription
from tests.feeds.simulator.virtual_time import VirtualTimeLoop

from .conftest import Watcher

SYMBOLS = ["BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT", "DOGEUSDT"]


async def test_books_that_have_a_gap_at_once_are_subscribed_anew_together(
    watcher: Watcher, live_session: Callable[..., Any], tmp_path: Path
) -> None:
    path = tmp_path / "session.feeds"
    async with SimulatedExchange("bybit", SYMBOLS, seed=3, rate=500.0, real_time=False) as sim:

        async def until(condition: Callable[[str], bool]) -> None:
            while not all(condition(symbol) for symbol in SYMBOLS):
                await sim.advance(0.1)
                for _ in range(4):  # turns in which the feed reads
                    await asyncio.sleep(0)

        options = {"exchange": "bybit", "channels": ("book",), "record_to": path}
        async with live_session(sim, SYMBOLS, **options):
            await until(lambda symbol: watcher.states(symbol)[-1:] == ["LIVE"])
            for symbol in SYMBOLS:
                sim.inject(Gap(symbol))
            await until(lambda symbol: watcher.states(symbol)[-2:] == ["GAP", "LIVE"])
    with open_session(path) as source:
        sent = [msgspec.json.decode(message.payload) for message in source if message.kind is Kind.SENT]
    ended = [request["args"] for request in sent if request["op"] == "unsubscribe"]
    assert sorted(topic for args in ended for topic in args) == sorted(f"orderbook.1000.{symbol}" for symbol in SYMBOLS)
    assert len(ended) < len(SYMBOLS)
    begun = [request["args"] for request in sent if request["op"] == "subscribe"]
    assert begun[-len(ended) :] == ended


def test_a_book_is_not_subscribed_anew_more_often_than_its_exchange_bears(watcher: Watcher) -> None:
    """dYdX ends a connection that subscribes to a stream a third time within a second."""
    break_books(watcher, "dydx", MissingField("BTC-USD", "channel"), 6)
    assert watcher.states("BTC-USD") == ["SYNCING", "LIVE", *["GAP", "LIVE"] * 6]


def test_a_connection_that_has_used_up_its_subscriptions_is_made_anew(
    watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(exchange("okx")), "message_limits", (RateLimit(10, 3600),))  # we use 8
    break_books(watcher, "okx", Gap("BTC-USDT"), 5)
    repaired = ["GAP", "LIVE"]  # by two messages; the first subscription was one
    states = [state for state in watcher.states("BTC-USDT") if state != "SYNCING"]
    assert states == ["LIVE", *repaired * 3, "GAP", "STALE", "LIVE", *repaired]
    reasons = [status.reason for status in watcher.feed_statuses if status.status == "disconnected"]
    assert [reason.rpartition(" for ")[0] for reason in reasons] == [
        "the exchange takes no subscriptions on this connection"
    ]


def break_books(watcher: Watcher, name: str, fault: faults.AnyFault, count: int) -> None:
    """Break a book so often, whenever it is right, in virtual time."""
    loop = VirtualTimeLoop()
    try:
        loop.run_until_complete(breaking(watcher, name, fault, count))
    finally:
        loop.close()


async def breaking(watcher: Watcher, name: str, fault: Any, count: int) -> None:
    symbol = fault.symbol
    flow = FlowConfig(levels=16, warm_up=100, rate=100)
    async with (
        SimulatedExchange(name, [symbol], flow=flow, real_time=False) as sim,
        LiveFeed(
            exchange(name),
            [Subscription(symbol, ("book",))],
            watcher,
            endpoints=Endpoints(ws=sim.ws_url, rest=sim.rest_url),
        ) as feed,
    ):
        serving = asyncio.ensure_future(feed.run())
        for repaired in range(count + 1):
            while watcher.states(symbol).count("LIVE") <= repaired:
                assert not serving.done(), serving
                await sim.advance(0.01)
                await asyncio.sleep(0.01)
            if repaired < count:
                sim.inject(fault)
        feed.stop()
        await serving
