"""The order of snapshots: by need, by waiting time, one at a time for each book, within what an exchange allows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from feeds.decoder import Fetch
from feeds.errors import FetchError
from feeds.exchange import Endpoints, RateLimit, exchange
from feeds.exchanges.binance import Binance
from feeds.live.feed import LiveFeed
from feeds.live.http import RestClient
from feeds.live.limits import Budget
from feeds.live.snapshots import Need, PendingSnapshot, SnapshotQueue, SnapshotScheduler
from feeds.simulator.faults import Gap
from feeds.simulator.server import SimulatedExchange
from feeds.subscription import Subscription

from .conftest import QUICK, Watcher

REPAIR, RENEWAL = Need.REPAIR, Need.RENEWAL


def fetch(symbol: str) -> Fetch:
    return Fetch(f"/depth?symbol={symbol}", symbol)


class Line:
    """A connection that notes what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, ...]] = []

    def requested(self, url: str, tag: str) -> None:
        self.told.append(("requested", tag))

    def came(self, tag: str, reply: bytes) -> None:
        self.told.append(("came", tag, reply.decode()))

    def failed(self, tag: str, reason: str) -> None:
        self.told.append(("failed", tag, reason))


# --- the queue ------------------------------------------------------------------------------------


def symbols(pending: list[PendingSnapshot]) -> list[str]:
    return [one.symbol for one in pending]


def test_a_book_that_is_broken_goes_before_one_that_is_renewed_and_the_longest_waiting_first() -> None:
    queue, line, other = SnapshotQueue(1.0), Line(), Line()
    for now, (asker, symbol, need) in enumerate(
        ((line, "a", RENEWAL), (line, "b", REPAIR), (other, "c", REPAIR), (other, "d", RENEWAL), (line, "e", REPAIR))
    ):
        queue.ask(asker, fetch(symbol), need, float(now))
    assert symbols(queue.waiting) == ["b", "c", "e", "a", "d"]
    taken = []
    while (pending := queue.next(9.0)) is not None:
        queue.begin(pending)
        taken.append(pending.symbol)
    assert taken == ["b", "c", "e", "a", "d"]
    assert (queue.waiting, queue.next_due()) == ([], None)


def test_a_renewal_whose_book_breaks_becomes_a_repair_and_keeps_its_time() -> None:
    queue, line = SnapshotQueue(1.0), Line()
    queue.ask(line, fetch("a"), RENEWAL, 0.0)
    queue.ask(line, fetch("b"), REPAIR, 1.0)
    queue.ask(line, Fetch("/newer", "a"), REPAIR, 2.0)
    queue.ask(line, fetch("b"), RENEWAL, 3.0)
    first, second = queue.waiting
    assert (first.symbol, first.request.url, first.need, first.since) == ("a", "/newer", REPAIR, 0.0)
    assert (second.symbol, second.need, second.since) == ("b", REPAIR, 1.0)


def test_of_each_book_one_is_under_way() -> None:
    queue, line, other = SnapshotQueue(1.0), Line(), Line()
    queue.ask(line, fetch("a"), REPAIR, 0.0)
    under_way = queue.next(0.0)
    assert under_way is not None
    queue.begin(under_way)
    queue.ask(line, fetch("a"), REPAIR, 100.0)
    assert (queue.next(200.0), queue.next_due()) == (None, None)
    queue.ask(other, fetch("a"), REPAIR, 100.0)  # the same symbol on another connection is another book
    assert getattr(queue.next(200.0), "asker", None) is other
    queue.end(under_way)
    assert getattr(queue.next(200.0), "asker", None) is line


def test_what_was_no_use_is_asked_for_again_after_a_growing_wait() -> None:
    queue, line = SnapshotQueue(1.0), Line()
    now, waits = 0.0, []
    for _ in range(8):
        queue.ask(line, fetch("a"), REPAIR, now)
        due = queue.next_due()
        assert due is not None
        assert due == now or queue.next(due - 0.001) is None
        waits.append(due - now)
        now = due
        pending = queue.next(now)
        assert pending is not None
        queue.begin(pending)
        queue.end(pending)
    assert waits == [0, 1, 2, 4, 8, 16, 16, 16]
    assert queue.pace(line, "a", now + 31.9) == 16
    assert queue.pace(line, "a", now + 100) == 0  # it has been quiet
    assert queue.pace(line, "b", now) == 0


def test_what_is_forgotten_waits_no_more_and_begins_anew() -> None:
    queue, line, other = SnapshotQueue(1.0), Line(), Line()
    for asker, symbol in ((line, "a"), (line, "b"), (other, "a"), (line, "c")):
        queue.ask(asker, fetch(symbol), REPAIR, 0.0)
    queue.forget(line, "a")
    assert [(one.asker, one.symbol) for one in queue.waiting] == [(line, "b"), (other, "a"), (line, "c")]
    queue.forget(line)
    assert [(one.asker, one.symbol) for one in queue.waiting] == [(other, "a")]
    assert queue.pace(line, "a", 0.1) == 0
    assert queue.pace(other, "a", 0.1) == 1


# --- the scheduler --------------------------------------------------------------------------------


class Rest:
    """Answers when told to, and says how long to wait."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answers: dict[str, asyncio.Future[bytes]] = {}
        self.wait = 0.0

    def delay(self, url: str) -> float:
        return self.wait

    async def get(self, url: str, body: bytes = b"") -> bytes:
        symbol = url.partition("=")[2]
        self.asked.append(symbol)
        self.answers[symbol] = asyncio.get_running_loop().create_future()
        return await self.answers[symbol]


@asynccontextmanager
async def scheduling(max_concurrent: int = 1) -> AsyncIterator[tuple[SnapshotScheduler, Any, Line]]:
    rest: Any = Rest()
    scheduler = SnapshotScheduler(rest, interval=0.001, max_concurrent=max_concurrent)
    running = asyncio.ensure_future(scheduler.run())
    try:
        yield scheduler, rest, Line()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def turns(count: int = 20) -> None:
    """Let everything happen that needs no time."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_the_next_is_chosen_when_there_is_room() -> None:
    async with scheduling(max_concurrent=2) as (scheduler, rest, line):
        for symbol in "abc":
            scheduler.ask(line, fetch(symbol), RENEWAL)
        await turns()
        assert (rest.asked, symbols(scheduler.under_way), symbols(scheduler.pending)) == (["a", "b"], ["a", "b"], ["c"])
        scheduler.ask(line, fetch("d"), REPAIR)
        rest.answers["b"].set_result(b"B")
        await turns()
        assert rest.asked == ["a", "b", "d"]  # its need is greater
        rest.answers["a"].set_exception(FetchError("banned"))
        await turns()
        assert rest.asked == ["a", "b", "d", "c"]
        assert symbols(scheduler.pending) == []
    assert line.told == [
        ("requested", "a"), ("requested", "b"), ("came", "b", "B"), ("requested", "d"), ("failed", "a", "banned"),
        ("requested", "c"),
    ]  # fmt: skip


async def test_nothing_is_asked_while_the_exchange_forbids_it_and_then_what_is_needed_most() -> None:
    async with scheduling() as (scheduler, rest, line):
        rest.wait = 3600.0
        scheduler.ask(line, fetch("a"), RENEWAL)
        await turns()
        assert (rest.asked, symbols(scheduler.pending)) == ([], ["a"])
        rest.wait = 0.0
        scheduler.ask(line, fetch("b"), REPAIR)
        await turns()
        assert rest.asked == ["b"]


async def test_what_is_forgotten_is_not_told() -> None:
    async with scheduling() as (scheduler, rest, line):
        other = Line()
        for asker, symbol in ((line, "a"), (line, "b"), (other, "c")):
            scheduler.ask(asker, fetch(symbol), REPAIR)
        await turns()
        scheduler.forget(line)
        await turns()
        assert rest.answers["a"].cancelled()
        assert rest.asked == ["a", "c"]
        assert line.told == [("requested", "a")]


async def test_what_goes_wrong_is_told_to_who_asked() -> None:
    async with scheduling() as (scheduler, rest, line):
        scheduler.ask(line, fetch("a"), REPAIR)
        await turns()
        rest.answers["a"].set_exception(RuntimeError("session is closed"))
        scheduler.ask(line, fetch("b"), REPAIR)
        await turns()
        assert rest.asked == ["a", "b"]
    assert ("failed", "a", "RuntimeError: session is closed") in line.told


# --- feeds ----------------------------------------------------------------------------------------


class Counted(Binance):
    """Allows few requests in a short window."""

    request_limits = (RateLimit(500.0, 0.5),)  # 8 snapshots, with the share of 0.8


async def test_fifty_books_of_two_connections_share_what_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"C{number:02}USDT" for number in range(50)]
    watcher = Watcher()
    spent: list[tuple[float, float]] = []

    class Noted(Budget):
        def spend(self, weight: float, now: float) -> None:
            spent.append((now, weight))
            super().spend(weight, now)

    monkeypatch.setattr("feeds.live.feed.Budget", Noted)
    monkeypatch.setattr(Counted, "max_topics_per_connection", 25)
    async with SimulatedExchange("binance", names, seed=7, rate=2000.0) as sim:
        endpoints = Endpoints(ws=sim.ws_url, rest=sim.rest_url)
        wanted = [Subscription(name, ("book",)) for name in names]
        async with LiveFeed(Counted(), wanted, watcher, config=QUICK, endpoints=endpoints) as feed:
            running = asyncio.ensure_future(feed.run())
            await watcher.until(lambda: len(feed.snapshots.pending) > 20)
            assert {pending.need for pending in feed.snapshots.pending} == {REPAIR}
            await watcher.until(lambda: len(watcher.books) == 50)
            assert len(feed.lines) == 2
            assert feed.snapshots.pending == []
            feed.stop()
            await running
    assert len(spent) >= 51
    for now, _ in spent:
        assert sum(weight for when, weight in spent if now - 0.5 < when <= now) <= 400


async def test_a_book_with_a_gap_overtakes_one_that_is_to_be_renewed(monkeypatch: pytest.MonkeyPatch) -> None:
    watcher = Watcher()
    async with SimulatedExchange("binance", ["BTCUSDT", "ETHUSDT"], seed=7, rate=2000.0) as sim:
        endpoints = Endpoints(ws=sim.ws_url, rest=sim.rest_url)
        wanted = [Subscription(name, ("book",)) for name in ("BTCUSDT", "ETHUSDT")]
        async with LiveFeed(Binance(), wanted, watcher, config=QUICK, endpoints=endpoints) as feed:
            running = asyncio.ensure_future(feed.run())
            await watcher.until(lambda: len(watcher.books) == 2)
            with monkeypatch.context() as banned:
                banned.setattr(RestClient, "delay", lambda client, path: 0.01)
                feed.lines[0].receiver.resnapshot("BTCUSDT")
                sim.inject(Gap(symbol="ETHUSDT"))
                await watcher.until(lambda: len(feed.snapshots.pending) == 2)
                found = [(pending.symbol, pending.need) for pending in feed.snapshots.pending]
                assert found == [("ETHUSDT", REPAIR), ("BTCUSDT", RENEWAL)]
            await watcher.until(lambda: watcher.states("ETHUSDT")[-1] == "LIVE" and not feed.snapshots.pending)
            feed.stop()
            await running
    assert watcher.states("BTCUSDT") == ["SYNCING", "LIVE"]
    assert watcher.states("ETHUSDT") == ["SYNCING", "LIVE", "GAP", "LIVE"]


@pytest.mark.parametrize(
    ("exchange_id", "url", "weight"),
    [
        ("binance", "/api/v3/depth?symbol=BTCUSDT&limit=1000", 50),
        ("binance", "/api/v3/depth?symbol=BTCUSDT&limit=5000", 250),
        ("binance", "/api/v3/exchangeInfo", 20),
        ("binance-futures", "/fapi/v1/depth?symbol=BTCUSDT&limit=1000", 20),
        ("binance-delivery", "/dapi/v1/exchangeInfo", 1),
        ("okx", "/api/v5/market/books?instId=BTC-USDT", 1),
    ],
)
def test_what_a_request_weighs(exchange_id: str, url: str, weight: float) -> None:
    assert exchange(exchange_id).request_weight(url) == weight
