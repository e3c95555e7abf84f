"""What all simulated exchanges owe: a live feed of ours keeps their true books, through every fault."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from feeds import session
from feeds.errors import SubscriptionRefused
from feeds.events import EventHandler
from feeds.exchange import Endpoints, exchange
from feeds.live.backoff import BackoffConfig
from feeds.live.feed import FeedConfig
from feeds.live.handler import FeedHandler
from feeds.live.http import RestConfig
from feeds.simulator import faults
from feeds.simulator.order_flow import FlowConfig
from feeds.simulator.server import SimulatedExchange, find_simulator, simulated_ids
from feeds.subscription import Subscription

from .judging import CASES, MORE_CASES, Case, Judge, Truth

QUICK = FeedConfig(
    silence_timeout=5.0,
    tick_interval=0.05,
    snapshot_interval=0.02,
    backoff=BackoffConfig(initial=0.02, maximum=0.1),
    rest=RestConfig(retry_wait=0.02),
)


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have feeds send their messages without the waits that real exchanges want between them."""
    for case in CASES:
        limit = find_simulator(case.exchange).session.messages_per_second
        monkeypatch.setattr(type(exchange(case.exchange)), "message_interval", 1.1 / limit if limit else 0.001)
        monkeypatch.setattr(type(exchange(case.exchange)), "connection_limits", ())
        monkeypatch.setattr(type(exchange(case.exchange)), "resubscribe_interval", 0.0)
    monkeypatch.setattr(type(exchange("crypto-com")), "subscribe_after", 0.0)
    monkeypatch.setattr(find_simulator("dydx").session, "per_second", 1000)


class Run:
    """A simulated exchange whose time is moved by hand, and a live feed on it."""

    def __init__(self, case: Case, sim: SimulatedExchange, judge: Judge) -> None:
        self.case = case
        self.sim = sim
        self.judge = judge
        self.report: session.Report | None = None
        self.feeds: FeedHandler

    def started(self, feeds: FeedHandler) -> None:
        self.feeds = feeds

    async def until(self, condition: Callable[[], Any]) -> None:
        """Move time on until a condition holds."""
        for _ in range(4000):
            if condition():
                return
            await self.sim.advance(0.02)
            for _ in range(4):  # turns in which the feed reads
                await asyncio.sleep(0)
        raise AssertionError(f"not reached: {self.judge.states}, {self.judge.updates}")

    async def both_live(self, updates: int = 3) -> None:
        """Move time on until both books are LIVE and have had updates."""
        judge, before = self.judge, dict(self.judge.updates)
        await self.until(
            lambda: all(
                judge.is_live(symbol) and judge.updates[symbol] >= before.get(symbol, 0) + updates
                for symbol in self.case.symbols
            )
        )

    async def until_traded(self, symbol: str) -> None:
        """Move time on until something has been traded four times more."""

        def count() -> int:
            return sum(trade.instrument.raw_symbol == symbol for trade in self.judge.trades)

        before = count()
        await self.until(lambda: count() >= before + 4)


@asynccontextmanager
async def running(case: Case, tmp_path: Path, *given: Any) -> AsyncIterator[Run]:
    policy = "none" if case.is_in_parts else "batch"  # of every part, or of what came together
    flow = FlowConfig(levels=16, warm_up=100, rate=400, seed=5)
    async with SimulatedExchange(case.exchange, case.symbols, flow=flow, real_time=False, faults=given) as sim:
        judge = Judge(Truth(sim.flow, case.resolution), case)
        run = Run(case, sim, judge)
        stop = asyncio.Event()
        path = tmp_path / "session.feeds"
        live = asyncio.ensure_future(
            session.live(
                judge,
                case.exchange,
                case.symbols,
                channels=case.channels,
                policy=policy,
                config=QUICK,
                record_to=path,
                stop=stop,
                on_start=run.started,
                endpoints=Endpoints(ws=sim.ws_url, rest=sim.rest_url),
            )
        )
        body = asyncio.current_task()
        assert body is not None
        live.add_done_callback(lambda done: None if stop.is_set() else body.cancel())
        try:
            yield run
        except asyncio.CancelledError:
            if not live.done():
                raise
        finally:
            stop.set()
            run.report = await asyncio.wait_for(live, 10)
    assert judge.wrong == []
    assert session.replay(EventHandler(), path, policy=policy).is_same


@pytest.mark.parametrize("case", [*CASES, *MORE_CASES], ids=str)
async def test_a_live_feed_has_the_true_books(case: Case, tmp_path: Path) -> None:
    async with running(case, tmp_path) as run:
        await run.until(lambda: len(run.judge.trades) > 20 and ("quote" not in case.channels or run.judge.quotes))
        await run.both_live(10)
        assert all(run.judge.is_true(symbol) for symbol in case.symbols)
        assert all(states == ["SYNCING", "LIVE"] for states in run.judge.states.values())
    assert run.report is not None
    assert run.report.problems == {}
    assert (run.report.gaps, run.report.mismatched) == (0, 0)


def losses(case: Case) -> Iterator[faults.AnyFault]:
    """What makes one book wrong, in a way that the protocol shows."""
    symbol = case.symbols[0]
    simulator = find_simulator(case.exchange)
    if simulator.sequence_fields and not case.repeats:
        yield faults.Gap(symbol)
        yield faults.Reorder(symbol)
    elif case.is_numbered_as_one:
        yield faults.Gap(symbol)
    elif simulator.checksum_field:
        yield faults.Gap(symbol, count=20)  # one may concern levels that no checksum is of
    if case.field:
        yield faults.MissingField(symbol, case.field)
    if simulator.sequence_fields:
        yield faults.SequenceReset(symbol)
    if simulator.checksum_field:
        yield faults.WrongChecksum(symbol)


@pytest.mark.parametrize("case", [case for case in [*CASES, *MORE_CASES] if list(losses(case))], ids=str)
async def test_a_loss_is_seen_and_costs_its_symbol_alone(case: Case, tmp_path: Path) -> None:
    struck, other = case.symbols
    async with running(case, tmp_path) as run:
        await run.both_live()
        run.judge.levels = case.checked or case.depth
        for fault in losses(case):
            run.judge.states[struck].clear()
            run.sim.inject(fault)
            await run.until(lambda: "LIVE" in run.judge.states[struck])
            assert run.judge.states[struck][0] == "GAP", fault
            await run.both_live()
        assert (run.judge.states[other] == ["SYNCING", "LIVE"]) != case.is_numbered_as_one


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_what_is_strange_does_no_harm_and_is_counted(case: Case, tmp_path: Path) -> None:
    struck, other = case.symbols
    strange: list[faults.AnyFault] = [faults.UnknownEvent(), faults.UnknownSymbol(), faults.NewField(struck, count=9)]
    simulator = find_simulator(case.exchange)
    if simulator.enum_field or simulator.enum_front:
        strange.append(faults.UnknownEnum(struck, count=2))
    async with running(case, tmp_path) as run:
        await run.both_live()
        await run.until_traded(struck)  # every connection stands
        for fault in strange:
            run.sim.inject(fault)
        await run.until_traded(struck)
        await run.both_live(10)
        assert run.judge.states == {struck: ["SYNCING", "LIVE"], other: ["SYNCING", "LIVE"]}
        run.sim.inject(faults.Duplicate(struck))
        await run.both_live()
    assert run.report is not None
    counted = {kind: problem.count for kind, problem in run.report.problems.items()}
    lines = run.report.connects  # what is for everybody comes on each
    assert counted["unknown_message"] >= lines
    assert counted[case.unlisted] == lines
    assert sum(counted.values()) == 2 * lines + (2 if len(strange) == 4 else 0), run.report.problems


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_no_book_is_wrong_after_messages_that_cannot_be_read(case: Case, tmp_path: Path) -> None:
    struck, other = case.symbols
    simulator = find_simulator(case.exchange)
    async with running(case, tmp_path) as run:
        await run.both_live()
        run.sim.inject(faults.Malformed(struck, count=8))
        await run.until_traded(struck)
        await run.both_live()
        if simulator.sequence_fields and not case.repeats:
            assert run.judge.states[other] == ["SYNCING", "LIVE"]
    assert run.report is not None
    assert sum(problem.count for problem in run.report.problems.values()) == 8


@pytest.mark.parametrize("case", [*CASES, *MORE_CASES], ids=str)
async def test_books_come_back_with_the_connection(case: Case, tmp_path: Path) -> None:
    losing: list[list[faults.AnyFault]] = [
        [faults.Disconnect()],
        [faults.Disconnect(code=1001)],
        [faults.Refuse(0.3), faults.Disconnect()],
        [faults.Disconnect(after=7)],
    ]
    async with running(case, tmp_path) as run:
        await run.both_live()
        for given in losing:
            for states in run.judge.states.values():
                states.clear()
            for fault in given:
                run.sim.inject(fault)
            await run.until(lambda: all("STALE" in states for states in run.judge.states.values()))
            await run.both_live()


# Channels are ended by numbers that the exchange gives them, or all at once.
WITHOUT_UNSUBSCRIBING = ("bitfinex", "phemex")


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_a_symbol_goes_and_comes_back_and_the_other_does_not_notice(case: Case, tmp_path: Path) -> None:
    stays, goes = case.symbols
    wanted = Subscription(goes, case.channels)
    async with running(case, tmp_path) as run:
        await run.both_live()
        run.feeds.remove(case.exchange, wanted)
        await run.until(lambda: run.judge.states[goes][-1] == "STALE")
        await run.until(lambda: not any(stream.endswith(goes) for stream in run.sim.streams))
        ended, seen = run.judge.updates[goes], run.judge.updates[stays]
        await run.until(lambda: run.judge.updates[stays] > seen + 3)
        assert run.judge.updates[goes] == ended
        run.feeds.add(case.exchange, wanted)
        await run.both_live()
    assert run.judge.states[goes] == ["SYNCING", "LIVE", "STALE", "SYNCING", "LIVE"]
    if case.exchange not in WITHOUT_UNSUBSCRIBING:
        assert run.judge.states[stays] == ["SYNCING", "LIVE"]
    assert run.report is not None
    assert run.report.problems == {}


@pytest.mark.parametrize(
    "case", [case for case in CASES if find_simulator(case.exchange).refuses_subscriptions], ids=str
)
async def test_a_refused_subscription_ends_the_session_with_its_reason(case: Case, tmp_path: Path) -> None:
    with pytest.raises(SubscriptionRefused):
        async with running(case, tmp_path, faults.RefuseSubscription(case.symbols[0], times=9)) as run:
            await run.both_live()


def test_all_simulated_exchanges_are_tested() -> None:
    assert [case.exchange for case in CASES] == [name for name in simulated_ids() if not name.startswith("binance")]
