"""The live feed against a simulated exchange that misbehaves on request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from feeds import session
from feeds.conflation import POLICIES
from feeds.errors import SubscriptionRefused, UnknownSymbol
from feeds.events import BookUpdate, EventHandler, Side
from feeds.exchange import Endpoints
from feeds.recording import RawMessage, open_recording
from feeds.simulator.faults import (
    Disconnect,
    Duplicate,
    Gap,
    Malformed,
    MissingField,
    Mute,
    Refuse,
    RestLimit,
    StaleSnapshot,
    UnknownEvent,
)
from feeds.simulator.faults import (
    UnknownSymbol as UnlistedSymbol,
)
from feeds.simulator.playback import Playback
from feeds.simulator.server import SimulatedExchange
from strategies.errors import StrategyError
from strategies.strategy import Strategy

from .conftest import QUICK, Watcher

SYMBOLS = ["BTCUSDT", "ETHUSDT"]
OURS = {"binance": ["BTC-USDT", "ETH-USDT"], "binance-futures": ["BTC-USDT-PERP", "ETH-USDT-PERP"]}
LiveSession = Callable[..., Any]


def simulated(exchange: str = "binance", **options: Any) -> SimulatedExchange:
    return SimulatedExchange(exchange, SYMBOLS, **{"seed": 7, "rate": 3000.0, **options})


class TrueBook(Watcher):
    """Compares every book that it is given with the exchange's own, as of the same update id."""

    def __init__(self, exchange: SimulatedExchange) -> None:
        super().__init__()
        self.exchange = exchange
        self.compared = 0

    def on_book(self, event: BookUpdate) -> None:
        super().on_book(event)
        market = next(m for m in self.exchange.flow.markets if m.symbol == event.instrument.raw_symbol)
        truth = self.exchange.flow.book_at(market.symbol, event.book.last_id)
        tick = Decimal(market.tick).scaleb(-market.price_decimals)
        lot = Decimal(market.lot).scaleb(-market.qty_decimals)
        for side, levels in ((0, truth.bids), (1, truth.asks)):
            assert event.book.exact(side) == [(price * tick, qty * lot) for price, qty in levels]
        self.compared += 1


@pytest.mark.parametrize("exchange", ["binance", "binance-futures"])
async def test_every_book_is_the_exchanges_own_at_its_update_id(exchange: str, live_session: LiveSession) -> None:
    async with simulated(exchange) as sim:
        watcher = TrueBook(sim)
        async with live_session(sim, OURS[exchange], exchange=exchange, handler=watcher):
            await watcher.until(lambda: all(watcher.update_count(symbol) >= 5 for symbol in SYMBOLS))
    assert watcher.compared >= 10
    assert watcher.states("BTCUSDT") == ["SYNCING", "LIVE"]


@pytest.mark.parametrize("exchange", ["binance", "binance-futures"])
async def test_quotes_and_trades_arrive(exchange: str, live_session: LiveSession, watcher: Watcher) -> None:
    async with simulated(exchange) as sim, live_session(sim, OURS[exchange], exchange=exchange):
        await watcher.until(lambda: len(watcher.quotes) > 20 and len(watcher.trades) > 20)
    assert {trade.instrument.symbol for trade in watcher.trades} <= set(OURS[exchange])
    assert all(trade.side in (Side.BUY, Side.SELL) and trade.qty > 0 for trade in watcher.trades)
    for symbol in SYMBOLS:
        ids = [int(trade.id or -1) for trade in watcher.trades if trade.instrument.raw_symbol == symbol]
        assert ids == sorted(set(ids))


async def test_a_gap_resyncs_that_symbol_alone(live_session: LiveSession, watcher: Watcher) -> None:
    async with simulated() as sim, live_session(sim, OURS["binance"]):
        await watcher.until(lambda: len(watcher.books) == 2)
        sim.inject(Gap(symbol="BTCUSDT"))
        await watcher.until(lambda: watcher.states("BTCUSDT") == ["SYNCING", "LIVE", "GAP", "LIVE"])
    assert watcher.states("ETHUSDT") == ["SYNCING", "LIVE"]
    gap = next(status for status in watcher.book_statuses if status.new.name == "GAP")
    assert "expected a message after id" in gap.reason


async def test_a_duplicate_is_not_a_gap(live_session: LiveSession, watcher: Watcher) -> None:
    async with simulated() as sim, live_session(sim, OURS["binance"]) as running:
        await watcher.until(lambda: len(watcher.books) == 2)
        sim.inject(Duplicate(symbol="BTCUSDT"))
        seen = watcher.update_count("BTCUSDT")
        await watcher.until(lambda: watcher.update_count("BTCUSDT") >= seen + 3)
    assert running.report.gaps == 0
    assert watcher.states("BTCUSDT") == ["SYNCING", "LIVE"]


@pytest.mark.parametrize("code", [None, 1001])
async def test_it_reconnects_and_rebuilds_every_book(
    code: int | None, live_session: LiveSession, watcher: Watcher
) -> None:
    async with simulated() as sim, live_session(sim, OURS["binance"]) as running:
        await watcher.until(lambda: len(watcher.books) == 2)
        sim.inject(Disconnect(code=code))
        for symbol in SYMBOLS:
            await watcher.until(lambda s=symbol: watcher.states(s) == ["SYNCING", "LIVE", "STALE", "SYNCING", "LIVE"])
    assert watcher.statuses() == ["connected", "disconnected", "connected"]
    assert running.report.connects == 2
    expected = "without a close frame" if code is None else "peer closed with 1001"
    assert expected in watcher.feed_statuses[1].reason


async def test_no_level_of_the_old_book_survives_a_reconnect(live_session: LiveSession) -> None:
    sizes = []

    class Sizes(Watcher):
        def on_book_status(self, event):  # type: ignore[no-untyped-def]
            super().on_book_status(event)
            sizes.append((event.new.name, event.book.bid_count, event.book.ask_count))

    handler = Sizes()
    async with simulated() as sim, live_session(sim, OURS["binance"], handler=handler):
        await handler.until(lambda: len(handler.books) == 2)
        sim.inject(Disconnect())
        await handler.until(lambda: handler.states("BTCUSDT").count("SYNCING") == 2)
    assert [size for name, *size in sizes if name == "SYNCING"] == [[0, 0]] * len(
        [name for name, *_ in sizes if name == "SYNCING"]
    )


async def test_refused_connections_are_tried_again_with_backoff(live_session: LiveSession, watcher: Watcher) -> None:
    async with simulated() as sim, live_session(sim, OURS["binance"]):
        await watcher.until(lambda: len(watcher.books) == 2)
        sim.inject(Refuse(seconds=0.3))
        sim.inject(Disconnect())
        await watcher.until(lambda: watcher.statuses().count("connected") == 2)
        await watcher.until(lambda: watcher.states("BTCUSDT")[-1] == "LIVE")
    assert 1 <= watcher.statuses().count("connect_failed") <= 15


async def test_a_mute_connection_is_noticed_and_replaced(live_session: LiveSession, watcher: Watcher) -> None:
    async with simulated() as sim, live_session(sim, OURS["binance"]):
        await watcher.until(lambda: len(watcher.books) == 2)
        sim.inject(Mute(seconds=0.9))
        await watcher.until(lambda: watcher.statuses().count("connected") >= 2)
        await watcher.until(lambda: watcher.states("BTCUSDT")[-1] == "LIVE")
    assert watcher.statuses()[:3] == ["connected", "silent", "disconnected"]
    assert "no data for" in watcher.feed_statuses[1].reason


async def test_a_snapshot_that_is_too_old_is_asked_for_again(live_session: LiveSession, watcher: Watcher) -> None:
    async with simulated(faults=[StaleSnapshot(symbol="BTCUSDT", times=2)]) as sim:
        async with live_session(sim, OURS["binance"]):
            await watcher.until(lambda: watcher.states("BTCUSDT") == ["SYNCING", "LIVE"])


async def test_429_is_obeyed(live_session: LiveSession, watcher: Watcher) -> None:
    async with simulated() as sim, live_session(sim, OURS["binance"]):
        await watcher.until(lambda: len(watcher.books) == 2)
        sim.inject(RestLimit(status=429, retry_after=1, times=1))
        sim.inject(Gap(symbol="BTCUSDT"))
        await watcher.until(lambda: watcher.states("BTCUSDT")[2:] == ["GAP", "LIVE"])
    gap, live = watcher.book_statuses[-2:]
    assert live.ts_recv - gap.ts_recv > 0.9e9


async def test_bad_messages_are_counted_told_once_and_skipped(live_session: LiveSession, watcher: Watcher) -> None:
    async with simulated() as sim, live_session(sim, OURS["binance"]) as running:
        await watcher.until(lambda: len(watcher.books) == 2)
        sim.inject(Malformed(symbol="BTCUSDT", count=3))
        sim.inject(UnknownEvent())
        sim.inject(UnknownEvent())
        sim.inject(UnlistedSymbol())
        sim.inject(MissingField(symbol="ETHUSDT", field="u"))
        await watcher.until(lambda: watcher.statuses().count("problem") == 4)
        await watcher.until(lambda: watcher.states("BTCUSDT")[-1] == watcher.states("ETHUSDT")[-1] == "LIVE")
        seen = len(watcher.updates)
        await watcher.until(lambda: len(watcher.updates) > seen + 4)
    assert {kind: problem.count for kind, problem in running.report.problems.items()} == {
        "not_json": 3,
        "unknown_event": 2,
        "unknown_symbol": 1,
        "missing_field": 1,
    }
    assert watcher.statuses().count("disconnected") == 0


async def test_a_strategy_that_raises_ends_the_session_and_is_named(live_session: LiveSession) -> None:
    class Broken(Strategy):
        def on_book(self, event: BookUpdate) -> None:
            raise ZeroDivisionError("no position")

    async with simulated() as sim:
        with pytest.raises(StrategyError, match=r"'Broken' raised ZeroDivisionError in on_book at <BookUpdate binance"):
            async with live_session(sim, OURS["binance"], handler=Broken()):
                await asyncio.sleep(30)


async def test_a_wrong_symbol_is_refused_at_once_with_near_matches(live_session: LiveSession) -> None:
    async with simulated() as sim:
        with pytest.raises(UnknownSymbol, match=r"no instrument 'BTC-USDC'.*did you mean BTC-USDT"):
            async with live_session(sim, ["BTC-USDC"]):
                await asyncio.sleep(30)


async def test_a_refused_subscription_ends_the_session(live_session: LiveSession, watcher: Watcher) -> None:
    async with simulated() as sim:
        with pytest.raises(SubscriptionRefused, match=r"code 2: Invalid request"):
            async with live_session(sim, OURS["binance"]):
                await watcher.until(lambda: watcher.statuses() == ["connected"])
                sim.emit('{"error":{"code":2,"msg":"Invalid request"},"id":1}')
                await asyncio.sleep(30)
    assert watcher.statuses() == ["connected", "refused"]


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("exchange", ["binance", "binance-futures"])
async def test_a_replay_makes_the_callbacks_of_the_live_run(
    exchange: str, policy: str, live_session: LiveSession, watcher: Watcher, tmp_path: Path
) -> None:
    path = tmp_path / "session.feeds"
    async with simulated(exchange) as sim:
        async with live_session(sim, OURS[exchange], exchange=exchange, policy=policy, record_to=path) as running:
            await watcher.until(lambda: len(watcher.books) == 2)
            sim.inject(Gap(symbol="BTCUSDT"))
            sim.inject(UnknownEvent())
            sim.inject(StaleSnapshot(symbol="BTCUSDT"))
            sim.burst("ETHUSDT", 300)
            await watcher.until(lambda: watcher.states("BTCUSDT")[-2:] == ["GAP", "LIVE"])
            sim.inject(Disconnect())
            await watcher.until(lambda: watcher.states("BTCUSDT")[-2:] == ["SYNCING", "LIVE"])
            await watcher.until(lambda: watcher.states("ETHUSDT")[-2:] == ["SYNCING", "LIVE"])
    replayed = session.replay(EventHandler(), path, policy=policy)
    assert replayed.recorded_digest == running.report.digest
    assert replayed.is_same
    assert replayed.callbacks == running.report.callbacks > 100
    assert session.replay(EventHandler(), path, policy=policy, reference=True).digest == replayed.digest


async def test_timers_fire_without_data_and_at_the_same_times_in_a_replay(
    live_session: LiveSession, tmp_path: Path
) -> None:
    class Timed(Strategy):
        def __init__(self) -> None:
            self.fired: list[int] = []

        def on_feed_status(self, event):  # type: ignore[no-untyped-def]
            if event.status == "connected":
                self.set_timer("beat", every=50_000_000)

        def on_timer(self, name: str) -> None:
            self.fired.append(self.now)
            if len(self.fired) == 5:
                enough.set()

    enough = asyncio.Event()
    path = tmp_path / "quiet.feeds"
    strategy = Timed()
    async with (
        simulated(faults=[Mute(seconds=60)]) as sim,
        live_session(sim, ["BTC-USDT"], handler=strategy, record_to=path),
    ):
        await asyncio.wait_for(enough.wait(), 10)
    again = Timed()
    session.replay(again, path)
    assert again.fired == strategy.fired


async def test_merged_updates_have_receipts(live_session: LiveSession, watcher: Watcher) -> None:
    async with simulated() as sim, live_session(sim, OURS["binance"]) as running:
        await watcher.until(lambda: len(watcher.books) == 2)
        sim.burst("BTCUSDT", 1000)
        await watcher.until(lambda: any(quote.merged >= 50 for quote in watcher.quotes))
    report = running.report
    assert sum(quote.merged for quote in watcher.quotes) == report.quotes + report.quotes_merged
    assert len(watcher.trades) == report.trades


async def test_a_recording_can_be_served_and_gives_the_same_book(
    live_session: LiveSession, watcher: Watcher, tmp_path: Path
) -> None:
    path = tmp_path / "first.feeds"
    async with simulated() as sim, live_session(sim, OURS["binance"], record_to=path):
        await watcher.until(lambda: all(watcher.update_count(symbol) >= 5 for symbol in SYMBOLS))
    told = {book.instrument.raw_symbol: book.exact(0) for book in session.replay(EventHandler(), path).order_books}
    last_ids = {symbol: book.last_id for symbol, book in watcher.books.items()}

    second = Watcher()

    def recorded() -> Iterator[RawMessage]:
        with open_recording(path) as source:
            yield from source

    playback = Playback(recorded, speed=float("inf"))
    async with (
        SimulatedExchange("binance", SYMBOLS, playback=playback) as sim,
        live_session(sim, OURS["binance"], handler=second),
    ):
        await second.until(lambda: {s: b.last_id for s, b in second.books.items()} == last_ids)
        assert {symbol: book.exact(0) for symbol, book in second.books.items()} == told


async def test_tls_is_verified(live_session: LiveSession, watcher: Watcher, tls_proxy: Any) -> None:
    async with simulated() as sim, tls_proxy(sim) as (port, trusting):
        secure = Endpoints(ws=f"wss://localhost:{port}", rest=f"https://localhost:{port}")
        async with live_session(sim, OURS["binance"], endpoints=secure, ssl_context=trusting):
            await watcher.until(lambda: len(watcher.books) == 2)
        with pytest.raises(Exception, match=r"certificate verify failed|CERTIFICATE_VERIFY_FAILED"):
            async with live_session(sim, OURS["binance"], endpoints=secure, handler=Watcher()):
                await asyncio.sleep(30)


async def test_a_drained_session_over_tls_is_replayed_as_it_was(
    live_session: LiveSession, watcher: Watcher, tls_proxy: Any, tmp_path: Path
) -> None:
    path = tmp_path / "session.feeds"
    async with simulated() as sim, tls_proxy(sim) as (port, trusting):
        secure = Endpoints(ws=f"wss://localhost:{port}", rest=f"https://localhost:{port}")
        options: dict[str, Any] = {"endpoints": secure, "ssl_context": trusting, "policy": "drained", "record_to": path}
        async with live_session(sim, OURS["binance"], **options) as running:
            await watcher.until(lambda: len(watcher.books) == 2)
            for _ in range(5):
                books = watcher.update_count("ETHUSDT")
                sim.burst("ETHUSDT", 2000)
                await watcher.until(lambda before=books: watcher.update_count("ETHUSDT") > before)
    for policy in ("drained", "batch"):
        replayed = session.replay(EventHandler(), path, policy=policy)
        assert replayed.is_same
        assert replayed.superseded == running.report.superseded
    assert session.replay(EventHandler(), path, policy="none").is_same is None


def test_a_config_names_the_value_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="expected silence_timeout above 0, found 0"):
        type(QUICK)(silence_timeout=0)
