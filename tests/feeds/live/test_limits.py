"""What an exchange allows, on a clock that only these tests move."""

from __future__ import annotations

import asyncio
import random
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feeds.exchange import Endpoints, RateLimit, exchange, exchange_ids
from feeds.exchanges.binance import Binance
from feeds.live.feed import LiveFeed
from feeds.live.limits import Budget, ConnectionPacer
from feeds.simulator.faults import Disconnect
from feeds.simulator.server import SimulatedExchange
from feeds.subscription import Subscription

from .conftest import QUICK, Watcher


def test_a_budget_waits_until_enough_of_its_window_has_passed() -> None:
    budget = Budget([RateLimit(10, 60.0)])
    for now, weight in ((0.0, 4.0), (20.0, 5.0)):
        assert budget.delay(weight, now) == 0
        budget.spend(weight, now)
    assert budget.delay(1, 30.0) == 0
    assert budget.delay(2, 30.0) == 30.0  # when the first has left the window
    assert budget.delay(6, 30.0) == 50.0  # when the second has
    assert budget.delay(100, 30.0) == 50.0  # more than there ever is: when nothing else counts
    assert budget.delay(6, 80.0) == 0
    assert Budget([]).delay(1e9, 0.0) == 0


def test_every_limit_holds_and_a_share_is_less() -> None:
    budget = Budget([RateLimit(4, 1.0), RateLimit(8, 60.0)], share=0.5)
    for now in (0.0, 0.0, 5.0, 5.0):
        assert budget.delay(1, now) == 0
        budget.spend(1, now)
    assert budget.delay(1, 5.0) == 55.0
    assert budget.delay(1, 60.0) == 0


@given(
    st.lists(st.tuples(st.integers(1, 20), st.integers(0, 30)), min_size=1, max_size=60),
    st.lists(st.tuples(st.integers(1, 40), st.integers(1, 50)), min_size=1, max_size=3),
)
def test_no_window_ever_has_more_than_its_limit(requests: list[tuple[int, int]], limits: list[tuple[int, int]]) -> None:
    budget = Budget([RateLimit(most, window) for most, window in limits])
    now, spent = 0.0, []
    for weight, pause in requests:
        now += pause
        now += budget.delay(weight, now)
        assert budget.delay(weight, now) == 0
        budget.spend(weight, now)
        spent.append((now, weight))
    for most, window in limits:
        for end, last in spent:
            assert sum(w for when, w in spent if end - window < when <= end) <= max(most, last)


# --- connections ----------------------------------------------------------------------------------


def test_connections_that_are_lost_together_come_back_apart() -> None:
    pacer = ConnectionPacer([], spread=0.1, rng=random.Random(7))
    turns = [pacer.reserve(100.0) for _ in range(50)]
    gaps = [after - before for before, after in pairwise(turns)]
    assert turns[0] == 0
    assert all(0.05 <= gap <= 0.1500001 for gap in gaps)
    assert len({round(gap, 4) for gap in gaps}) > 40
    assert pacer.reserve(200.0) == 0  # nobody has come for long


def test_connections_stay_within_the_exchanges_limits() -> None:
    pacer = ConnectionPacer([RateLimit(3, 1.0), RateLimit(5, 60.0)])
    assert [pacer.reserve(10.0) for _ in range(7)] == [0, 0, 0, 1, 1, 60, 60]
    assert pacer.reserve(10.0) == 60
    half = ConnectionPacer([RateLimit(4, 1.0)], share=0.5)
    assert [half.reserve(0.0) for _ in range(3)] == [0, 0, 1]


def test_nobody_connects_before_the_exchange_allows_it() -> None:
    pacer = ConnectionPacer([])
    pacer.hold(50.0)
    pacer.hold(20.0)
    assert pacer.reserve(10.0) == 40.0
    assert pacer.reserve(60.0) == 0


@given(
    st.lists(st.floats(0, 5), min_size=1, max_size=60),
    st.lists(st.tuples(st.integers(1, 10), st.integers(1, 20)), min_size=1, max_size=2),
)
def test_no_window_has_more_connections_than_its_limit(pauses: list[float], limits: list[tuple[int, int]]) -> None:
    pacer = ConnectionPacer([RateLimit(most, window) for most, window in limits], spread=0.1)
    now, made = 0.0, []
    for pause in pauses:
        now += pause
        made.append(now + pacer.reserve(now))
    assert made == sorted(made)
    for most, window in limits:
        for before, after in zip(made, made[most:], strict=False):
            assert after - before >= window - 1e-6


class Narrow(Binance):
    """Has room for one stream on a connection, and makes few connections a second."""

    max_topics_per_connection = 1
    connection_limits = (RateLimit(5, 0.1),)


async def test_a_storm_of_reconnects_is_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[float] = []
    reserve = ConnectionPacer.reserve

    def noted(pacer: ConnectionPacer, now: float) -> float:
        wait = reserve(pacer, now)
        made.append(now + wait)
        return wait

    monkeypatch.setattr(ConnectionPacer, "reserve", noted)
    names = [f"C{number:02}USDT" for number in range(12)]
    watcher = Watcher()
    config = msgspec.structs.replace(QUICK, limit_share=1.0, connect_spread=0.01)
    async with SimulatedExchange("binance", names, seed=7, rate=1000.0) as sim:
        endpoints = Endpoints(ws=sim.ws_url, rest=sim.rest_url)
        wanted = [Subscription(name, ("quote",)) for name in names]
        async with LiveFeed(Narrow(), wanted, watcher, config=config, endpoints=endpoints) as feed:
            running = asyncio.ensure_future(feed.run())
            await watcher.until(lambda: watcher.statuses().count("connected") == 12)
            sim.inject(Disconnect())
            await watcher.until(lambda: watcher.statuses().count("connected") == 24)
            feed.stop()
            await running
    assert len(made) == 24
    assert all(after - before >= 0.0049 for before, after in pairwise(made))
    assert all(after - before >= 0.0999 for before, after in zip(made, made[5:], strict=False))


@pytest.mark.parametrize("exchange_id", exchange_ids())
def test_every_limit_of_an_exchange_is_one(exchange_id: str) -> None:
    found = exchange(exchange_id)
    for limit in (*found.request_limits, *found.connection_limits):
        assert limit.weight >= 1
        assert limit.window > 0
