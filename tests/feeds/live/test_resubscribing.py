"""Books that are made anew by a new subscription: many at once share their requests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from feeds.recording import Kind, open_session
from feeds.simulator.faults import Gap
from feeds.simulator.server import SimulatedExchange

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
