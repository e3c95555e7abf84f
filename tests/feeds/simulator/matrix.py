"""The fault matrix: a live feed on every simulated exchange through every fault, in time that nobody waits for.

`python -m tests.feeds.simulator.matrix` plays all cells and writes docs/fault-matrix.md; with names of exchanges it
plays theirs and writes nothing.
"""

from __future__ import annotations

import asyncio
import math
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

import msgspec

from feeds.errors import SubscriptionRefused
from feeds.events import BookStatus, FeedStatus
from feeds.exchange import Endpoints, exchange
from feeds.live.feed import LiveFeed
from feeds.sequencing import GrowingSequence
from feeds.simulator import faults, proxy
from feeds.simulator.certificates import Certificates
from feeds.simulator.order_flow import FlowConfig
from feeds.simulator.proxy import FaultProxy
from feeds.simulator.server import SimulatedExchange, find_simulator
from feeds.subscription import Subscription

from .judging import CASES, Case, Judge, Truth
from .virtual_time import VirtualTimeLoop

STEP = 0.01  # seconds between two looks
BOUND = 0.2  # seconds, besides the period of a book's messages, within which a healthy book has been the true one
SETTLED = 1.0  # seconds of health after which a fault is over
LIMIT = 100.0  # seconds until it has to be

# Fields of book messages where, without them, no message can be told apart from one of another book.
NEEDED = {
    "bitflyer": "channel",
    "bitmex": "data",
    "bitstamp": "timestamp",
    "coinbase": "changes",
    "coinbase-advanced": "events",
    "dydx": "channel",
    "kraken": "data",
    "phemex": "symbol",
}

ALL_CASES = [
    Case("binance", ("BTCUSDT", "ETHUSDT"), field="u", has_rest_books=True, has_update_ids=True),
    Case("binance-delivery", ("BTCUSD_PERP", "ETHUSD_PERP"), field="u", has_rest_books=True, has_update_ids=True),
    Case("binance-futures", ("BTCUSDT", "ETHUSDT"), field="u", has_rest_books=True, has_update_ids=True),
    *(msgspec.structs.replace(case, field=case.field or NEEDED.get(case.exchange, "")) for case in CASES),
]


class MatrixJudge(Judge):
    """Keeps when things were told, by the loop's clock."""

    def __init__(self, truth: Truth, case: Case) -> None:
        super().__init__(truth, case)
        # When, about which symbol ("": a connection, by its number), what, and why.
        self.told: list[tuple[float, str, str, str]] = []

    def on_book_status(self, event: BookStatus) -> None:
        super().on_book_status(event)
        self._tell(event.instrument.raw_symbol, event.new.name, event.reason)

    def on_feed_status(self, event: FeedStatus) -> None:
        self._tell("", event.status, event.reason)

    def _tell(self, symbol: str, what: str, why: str) -> None:
        self.told.append((asyncio.get_running_loop().time(), symbol, what, why))


class Seen(msgspec.Struct):
    """What came of a cell."""

    recovery: float | None  # seconds; None: the session ended, with its reason
    states: dict[str, list[str]]  # of each symbol's book, after the fault
    statuses: list[str]  # of the feed, after the fault
    log: str


class Run:
    """One session of a cell."""

    def __init__(self, case: Case, sim: SimulatedExchange, front: FaultProxy, judge: MatrixJudge) -> None:
        self.case = case
        self.sim = sim
        self.front = front
        self.judge = judge
        self.loop: VirtualTimeLoop = asyncio.get_running_loop()  # type: ignore[assignment]
        self.struck = case.symbols[0]
        self.requests: list[tuple[float, str]] = []  # of REST
        self.bound = BOUND
        self.equal_at = 0.0  # when all books were last LIVE and the true ones
        self.healed_at = 0.0  # when they were so again, after they had not been for too long
        self.is_ill = True
        self.error: BaseException | None = None
        sim.on_request = lambda target: self.requests.append((self.loop.time(), target))

    async def step(self) -> None:
        """Move the exchange's time on with the loop's, and look at the books."""
        await self.sim.advance(STEP)
        await asyncio.sleep(STEP)
        now, symbols = self.loop.time(), self.case.symbols
        are_live = all(map(self.judge.is_live, symbols))
        if are_live and all(self.judge.is_current(symbol) for symbol in symbols):
            self.equal_at = now
            if self.is_ill:
                self.is_ill, self.healed_at = False, now
        elif not are_live or now - self.equal_at > self.bound:
            self.is_ill = True

    async def until(self, condition: Callable[[], Any], what: str) -> None:
        deadline = self.loop.time() + LIMIT
        while not condition():
            if self.error is not None:
                raise self.error
            assert self.loop.time() < deadline, f"not within {LIMIT:g} s: {what}\n{self.log()}"
            await self.step()

    async def started(self) -> None:
        """Return when all books are LIVE for the first time, and all quotes have come."""
        symbols, quoted = self.case.symbols, "quote" in self.case.channels

        def is_started() -> bool:
            names = {quote.instrument.raw_symbol for quote in self.judge.quotes}
            return all(map(self.judge.is_live, symbols)) and (not quoted or names.issuperset(symbols))

        await self.until(is_started, "LIVE")
        streams = self.sim._protocol.source._streams.values()
        self.bound += max(stream.period_ns for stream in streams if stream.kind in ("delta", "book")) / 1e9

    async def healthy(self) -> None:
        """Return when all books have been LIVE and right for a while."""
        await self.until(lambda: not self.is_ill and self.loop.time() - self.healed_at >= SETTLED, "LIVE and equal")

    def ended(self, done: asyncio.Future[None]) -> None:
        """The feed has ended: with an error there is nothing to wait for."""
        self.error = None if done.cancelled() else done.exception()

    def log(self, since: float = 0.0) -> str:
        told = [one for one in self.judge.told if one[0] >= since]
        return "\n".join(f"{when:8.2f} {symbol or '-':10} {what}: {why}" for when, symbol, what, why in told)


DONE = object()  # what a fault returns that strikes at once


# --- the faults ---------------------------------------------------------------------------------------------------


class Scenario(msgspec.Struct, frozen=True):
    """A fault of the matrix: how it is switched on, and what a feed has to tell of it."""

    name: str
    what: str  # for the documentation
    strike: Callable[[Run], object]
    struck: tuple[str, ...] = ()  # states of the struck symbol's book
    others: tuple[str, ...] = ()  # and of the other's
    statuses: tuple[str, ...] = ()  # of the feed, of each of its connections
    missing: Callable[[Case], str | None] = lambda case: None  # why the fault cannot be at an exchange
    at_start: Callable[[Case], Sequence[faults.AnyFault]] = lambda case: ()
    is_secure: bool = False  # needs TLS
    within: float = 5.0  # seconds from its first effect until the books are LIVE and right again
    ends: bool = False  # the session, with SubscriptionRefused

    def __str__(self) -> str:
        return self.name.replace(" ", "-")


def simulator(case: Case) -> Any:
    return find_simulator(case.exchange)


def numbers(case: Case) -> str | None:
    return None if simulator(case).sequence_fields else "its messages have no numbers of their own"


def whole(case: Case) -> str | None:
    return None if case.depth is None else "every message is a whole book"


def loss(case: Case) -> str | None:
    """Why nothing shows that a message is missing."""
    if reason := whole(case):
        return reason
    if case.repeats:
        return f"nothing in its messages shows it; whole books come every {case.repeats:g} s"
    sim = simulator(case)
    if sim.sequence_fields or sim.checksum_field or case.is_numbered_as_one:
        return None
    interval = exchange(case.exchange).resnapshot_interval
    return f"nothing in its messages shows it; books are made anew every {interval:g} s"


def order(case: Case) -> str | None:
    if case.is_numbered_as_one:
        return "the simulator numbers a connection's messages as it sends them"
    return loss(case)


def checksum(case: Case) -> str | None:
    return None if simulator(case).checksum_field else "there are no checksums"


def words(case: Case) -> str | None:
    return None if simulator(case).enum_field or simulator(case).enum_front else "its trades have no words"


def rest_books(case: Case) -> str | None:
    return None if case.has_rest_books else "books come by WebSocket"


def refusals(case: Case) -> str | None:
    return None if simulator(case).refuses_subscriptions else "unknown symbols are not refused: they stay silent"


def inject(make: Callable[[Run], faults.AnyFault]) -> Callable[[Run], object]:
    return lambda run: run.sim.inject(make(run))


def transport(*given: proxy.AnyTransportFault) -> Callable[[Run], object]:
    def strike(run: Run) -> object:
        for fault in given:
            run.front.inject(fault)
        return DONE

    return strike


def losses(case: Case) -> int:
    """How many messages have to be lost until it shows: a checksum may be of other levels."""
    is_numbered = simulator(case).sequence_fields or case.is_numbered_as_one
    return 20 if not is_numbered and simulator(case).checksum_field else 1


def strike_with_loss(make: Callable[[Run], faults.AnyFault]) -> Callable[[Run], object]:
    """A fault of snapshots, and a reason to ask for one."""

    def strike(run: Run) -> None:
        run.sim.inject(make(run))
        run.sim.inject(faults.Disconnect() if loss(run.case) else faults.Gap(run.struck))

    return strike


def skew(seconds: float) -> Callable[[Run], object]:
    def strike(run: Run) -> None:
        run.judge.skews_ns.append(round(seconds * 1e9))
        run.sim.inject(faults.ClockSkew(seconds=seconds))

    return strike


def lose_name(run: Run) -> object:
    """The exchange's name resolves no more, for five seconds."""
    del run.loop.hosts[HOST]
    run.loop.call_later(5.0, run.loop.hosts.__setitem__, HOST, "127.0.0.1")
    run.front.inject(proxy.Reset())
    return DONE


HOST = "exchange.invalid"
REPAIRED = ("GAP", "LIVE")
ANEW = ("STALE", "LIVE")
RECONNECTED = ("disconnected", "connected")
FAILED = ("disconnected", "connect_failed", "connected")

SCENARIOS = [
    Scenario(
        "gap",
        "a delta is lost; at Kraken 20, since its checksum is of ten levels alone",
        inject(lambda r: faults.Gap(r.struck, count=losses(r.case))),
        REPAIRED,
        missing=loss,
        within=10.0,
    ),
    Scenario("duplicate", "a delta comes twice", inject(lambda r: faults.Duplicate(r.struck)), missing=whole),
    Scenario(
        "reorder",
        "a delta comes behind the next one",
        inject(lambda r: faults.Reorder(r.struck)),
        REPAIRED,
        missing=order,
    ),
    Scenario("malformed", "eight messages end in the middle", inject(lambda r: faults.Malformed(r.struck, count=8))),
    Scenario(
        "missing field",
        "a delta lacks a field",
        inject(lambda r: faults.MissingField(r.struck, r.case.field)),
        REPAIRED,
        statuses=("problem",),
        missing=whole,
    ),
    Scenario(
        "wrong checksum",
        "a delta has a checksum that is not the book's",
        inject(lambda r: faults.WrongChecksum(r.struck)),
        REPAIRED,
        missing=checksum,
    ),
    Scenario(
        "sequence reset",
        "the numbers of a delta begin anew",
        inject(lambda r: faults.SequenceReset(r.struck)),
        REPAIRED,
        missing=numbers,
    ),
    Scenario("new field", "nine messages have a field more", inject(lambda r: faults.NewField(r.struck, count=9))),
    Scenario(
        "unknown word",
        "trades have a side that there was not",
        inject(lambda r: faults.UnknownEnum(r.struck, count=2)),
        statuses=("problem",),
        missing=words,
    ),
    Scenario(
        "unknown message",
        "a message of an unknown type",
        inject(lambda r: faults.UnknownEvent()),
        statuses=("problem",),
    ),
    Scenario(
        "unknown symbol",
        "a message about a symbol that is not listed",
        inject(lambda r: faults.UnknownSymbol()),
        statuses=("problem",),
    ),
    Scenario(
        "mute",
        "no data for five seconds, while pings and pongs go on",
        inject(lambda r: faults.Mute(seconds=5)),
        REPAIRED,
        REPAIRED,
        missing=loss,
        within=10.0,
    ),
    Scenario(
        "disconnect",
        "every connection is reset by the exchange",
        inject(lambda r: faults.Disconnect()),
        ANEW,
        ANEW,
        RECONNECTED,
    ),
    Scenario(
        "goodbye",
        "every connection is closed with 1001",
        inject(lambda r: faults.Disconnect(code=1001)),
        ANEW,
        ANEW,
        RECONNECTED,
    ),
    Scenario(
        "stale snapshot",
        "after a gap two snapshots are too old",
        strike_with_loss(lambda r: faults.StaleSnapshot(r.struck, times=2)),
        REPAIRED,
        missing=rest_books,
    ),
    Scenario(
        "429",
        "after a gap the snapshot is answered with 429, Retry-After 3",
        strike_with_loss(lambda r: faults.RestLimit(retry_after=3)),
        REPAIRED,
        missing=rest_books,
        within=10.0,
    ),
    Scenario(
        "418",
        "after a gap the snapshot is answered with 418, Retry-After 20",
        strike_with_loss(lambda r: faults.RestLimit(status=418, retry_after=20)),
        REPAIRED,
        missing=rest_books,
        within=40.0,
    ),
    Scenario("clock ahead", "the exchange's clock jumps an hour ahead", skew(3600)),
    Scenario("clock behind", "the exchange's clock jumps an hour back", skew(-3600)),
    Scenario(
        "half-open",
        "connections stand, and nothing comes any more",
        transport(proxy.HalfOpen()),
        ANEW,
        ANEW,
        ("dead", *RECONNECTED),
        within=40.0,
    ),
    Scenario("reset", "every connection is reset on its way", transport(proxy.Reset()), ANEW, ANEW, RECONNECTED),
    Scenario(
        "slow drain",
        "300 bytes a second for ten seconds",
        transport(proxy.SlowDrain(bytes_per_second=300, seconds=10)),
        within=15.0,
    ),
    Scenario("one-byte segments", "5,000 bytes come one by one", transport(proxy.OneByteSegments(count=5000))),
    Scenario("fragments", "50,000 bytes come in pieces of up to 64", transport(proxy.Fragments(count=50_000))),
    Scenario(
        "refused",
        "connections are reset, and refused for five seconds",
        transport(proxy.RefuseConnections(seconds=5), proxy.Reset()),
        ANEW,
        ANEW,
        FAILED,
        within=20.0,
    ),
    Scenario(
        "other name",
        "a certificate of another name for five seconds",
        transport(proxy.BadCertificate(kind="other_name", seconds=5), proxy.Reset()),
        ANEW,
        ANEW,
        FAILED,
        is_secure=True,
        within=20.0,
    ),
    Scenario(
        "expired",
        "an expired certificate for five seconds",
        transport(proxy.BadCertificate(kind="expired", seconds=5), proxy.Reset()),
        ANEW,
        ANEW,
        FAILED,
        is_secure=True,
        within=20.0,
    ),
    Scenario(
        "self-signed",
        "a certificate of nobody we trust for five seconds",
        transport(proxy.BadCertificate(kind="self_signed", seconds=5), proxy.Reset()),
        ANEW,
        ANEW,
        FAILED,
        is_secure=True,
        within=20.0,
    ),
    Scenario(
        "cut handshake",
        "TLS handshakes end behind the client's hello for five seconds",
        transport(proxy.CutHandshake(seconds=5), proxy.Reset()),
        ANEW,
        ANEW,
        FAILED,
        is_secure=True,
        within=20.0,
    ),
    Scenario(
        "refused subscription",
        "a subscription is refused: the session ends, and says why",
        lambda run: None,
        missing=refusals,
        at_start=lambda case: [faults.RefuseSubscription(case.symbols[0], times=9)],
        ends=True,
    ),
    Scenario(
        "no name", "the host's name does not resolve for five seconds", lose_name, ANEW, ANEW, FAILED, within=20.0
    ),
]


UNREADABLE = ("malformed", "missing field")  # without numbers they may have been of any book


# --- what has to come of it ---------------------------------------------------------------------------------------


def expected_states(scenario: Scenario, case: Case) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What the books of the struck symbol and of the other go through."""
    struck, others = scenario.struck, scenario.others
    if scenario.name == "clock behind" and isinstance(exchange(case.exchange).new_sequence(), GrowingSequence):
        struck = others = REPAIRED  # its numbers are times
    elif scenario.name in UNREADABLE and not whole(case):
        struck, others = REPAIRED, REPAIRED if numbers(case) or case.repeats else ()
    elif scenario.name == "gap" and case.is_numbered_as_one:
        others = REPAIRED
    elif scenario.missing is rest_books and loss(case):
        struck = others = ANEW
    return struck, others


def expected_statuses(scenario: Scenario, case: Case) -> tuple[str, ...]:
    """The words of the feed's statuses, by their first appearance."""
    if scenario.missing is rest_books and loss(case):
        return RECONNECTED
    if case.is_numbered_as_one and scenario.name in ("gap", "mute"):
        return ("gap",)
    if scenario.name in UNREADABLE:
        return ("gap", "problem") if expected_states(scenario, case)[1] else ("problem",)
    return scenario.statuses


def once(states: Sequence[str]) -> tuple[str, ...]:
    """Repairs that follow one another count once: eight messages are cut, and each may be of the repaired book."""
    found = list(states)
    while found[:2] == found[2:4] and len(found) >= 4:
        del found[:2]
    return tuple(found)


def check_told(run: Run, feed: LiveFeed, scenario: Scenario, seen: Seen) -> None:
    """One line for each event: what happened to each book, and what to the connections."""
    case = run.case
    states = tuple(once(seen.states[symbol]) for symbol in case.symbols)
    assert states == expected_states(scenario, case), f"{seen.states}\n{seen.log}"
    words, expected = tuple(dict.fromkeys(seen.statuses)), expected_statuses(scenario, case)
    if scenario.name in UNREADABLE:
        words = tuple(sorted(words))  # the first cut message may be of trades
    if any(line.plan.ticket is not None for line in feed.lines):  # REST tries again by itself
        words, expected = (tuple(w for w in one if w != "connect_failed") for one in (words, expected))
    assert words == expected, f"{seen.statuses}\n{seen.log}"
    if "disconnected" in expected:
        assert seen.statuses.count("disconnected") == seen.statuses.count("connected") == len(feed.lines), seen.log
    assert seen.recovery is not None
    assert seen.recovery <= scenario.within + case.wait, f"{seen.recovery:.1f} s\n{seen.log}"


def check_limits(run: Run) -> None:
    """Requests and connections stayed within what the exchange allows."""
    ours = exchange(run.case.exchange)
    requests = [(when, ours.request_weight(target)) for when, target in run.requests]
    tries = [(when, 1.0) for when, _, what, _ in run.judge.told if what in ("connected", "connect_failed")]
    for limits, spent in ((ours.request_limits, requests), (ours.connection_limits, tries)):
        for limit in limits:
            for end, _ in spent:
                used = sum(weight for when, weight in spent if end - limit.window < when <= end)
                assert used <= limit.weight, f"{used:g} in {limit.window:g} s, of {limit.weight:g}\n{run.log()}"


def check_left(run: Run, feed: LiveFeed) -> None:
    """Nothing waits and nothing is held while all is well."""
    assert feed.snapshots.pending == []
    for line in feed.lines:
        for book in line.pipeline.books.books:
            assert not line.pipeline.books.is_awaiting(book.instrument)


# --- playing a cell -----------------------------------------------------------------------------------------------


@cache
def certificates() -> Certificates:
    return Certificates("localhost", "127.0.0.1", HOST)


def play(case: Case, scenario: Scenario, seed: int = 1) -> Seen:
    """Play a cell. AssertionError says what was wrong, and what the feed told."""
    threads = set(threading.enumerate())
    loop = VirtualTimeLoop()
    loop.hosts = {"127.0.0.1": "127.0.0.1", HOST: "127.0.0.1"}
    unhandled: list[str] = []
    loop.set_exception_handler(lambda _, context: unhandled.append(context["message"]))
    try:
        seen = loop.run_until_complete(_play(case, scenario, seed))
        left = [task for task in asyncio.all_tasks(loop) if not task.done()]
        assert left == [], f"tasks are left: {left}"
        loop.run_until_complete(loop.shutdown_default_executor())  # as asyncio.run does
        assert loop.open_sockets == 0, f"{loop.open_sockets} sockets are left"
        assert set(threading.enumerate()) <= threads, "threads are left"
        # aiofastnet tells the loop of a handshake that is cut, besides raising.
        assert [message for message in unhandled if not message.startswith("SSL handshake failed")] == []
    finally:
        loop.close()
    return seen


async def _play(case: Case, scenario: Scenario, seed: int) -> Seen:
    flow = FlowConfig(levels=16, warm_up=100, rate=40, seed=seed)
    secret = certificates() if scenario.is_secure else None
    given = scenario.at_start(case)
    async with (
        SimulatedExchange(case.exchange, case.symbols, flow=flow, real_time=False, faults=given) as sim,
        FaultProxy(sim.ws_url, sim.rest_url, certificates=secret, seed=seed) as front,
    ):
        judge = MatrixJudge(Truth(sim.flow, case.resolution), case)
        if scenario.missing in (loss, order, checksum):
            judge.levels = case.checked or case.depth
        run = Run(case, sim, front, judge)
        ws_url = front.url(sim.ws_url).replace("127.0.0.1", HOST)
        sim.lead_clients_to(ws_url)
        async with LiveFeed(
            exchange(case.exchange),
            [Subscription(symbol, case.channels) for symbol in case.symbols],
            judge,
            endpoints=Endpoints(ws=ws_url, rest=front.url(sim.rest_url)),
            ssl_context=None if secret is None else secret.trusting,
        ) as feed:
            serving = asyncio.ensure_future(feed.run())
            serving.add_done_callback(run.ended)
            try:
                if scenario.ends:
                    return await _follow_to_the_end(run)
                seen = await _follow(run, feed, scenario)
                check_left(run, feed)
            finally:
                feed.stop()
                await asyncio.wait([serving])
        assert run.error is None
    assert judge.wrong == [], f"wrong and LIVE: {judge.wrong[:5]}\n{run.log()}"
    assert min(judge.updates.values()) > 1, f"hardly a book was compared: {judge.updates}"
    check_told(run, feed, scenario, seen)
    check_limits(run)
    return seen


async def _follow(run: Run, feed: LiveFeed, scenario: Scenario) -> Seen:
    await run.started()
    await run.healthy()
    loop, case = run.loop, run.case
    assert any(map(run.sim._protocol.snapshot_symbol, (target for _, target in run.requests))) == case.has_rest_books
    strikes, begun = run.sim.strikes, loop.time()

    def told(about: str) -> list[str]:
        found = [what for when, symbol, what, _ in run.judge.told if when >= begun and symbol == about]
        return [what for what in found if what != "SYNCING"]  # where a snapshot comes first, a book is LIVE at once

    # What the exchange does waits for its message, what the transport does is done.
    if scenario.strike(run) is not DONE:
        await run.until(lambda: run.sim.strikes > strikes, "the fault strikes")
    effect = loop.time()
    for symbol, states in zip(case.symbols, expected_states(scenario, case), strict=True):
        await run.until(lambda symbol=symbol, states=states: len(told(symbol)) >= len(states), f"{symbol} {states}")
    for status in expected_statuses(scenario, case):
        least = len(feed.lines) if status == "connected" else 1
        if status != "connect_failed":
            await run.until(lambda status=status, least=least: told("").count(status) >= least, status)
    await run.until(lambda: loop.time() > effect + 2 * SETTLED, "time passes")
    await run.healthy()
    states = {symbol: told(symbol) for symbol in case.symbols}
    return Seen(max(0.0, run.healed_at - effect), states, told(""), run.log(begun))


async def _follow_to_the_end(run: Run) -> Seen:
    try:
        await run.until(lambda: False, "the end of the session")
    except SubscriptionRefused:
        return Seen(None, {}, [], run.log())
    raise AssertionError("unreachable")


# --- the table ----------------------------------------------------------------------------------------------------

SEEDS = (1, 2, 3)
COLUMNS = 10  # exchanges in one table
PAGE = Path(__file__).parents[3] / "docs" / "fault-matrix.md"
HEAD = """# The fault matrix

Every fault that the simulators know, at every exchange that is simulated. `make soak-faults` plays all of it and
writes this page; `make test` plays a selection. In each cell a live feed with two books runs against the simulated
exchange, through a TCP proxy, with the default `FeedConfig`; when both books are in sync the fault is switched on.
The page is written only if in all cells, with each of the seeds {seeds},

- both books were the exchange's true ones again, level for level, within the bound that is given below;
- no callback ever saw a book that was LIVE and not the true one of its moment (of Kraken, while messages are lost:
  the ten levels a side that its checksum is of);
- a fault of one symbol changed the state of that symbol's book alone, where the exchange's messages can tell;
- `BookStatus` and `FeedStatus` told what happened, and nothing else;
- REST requests and connections stayed within the exchange's limits, and messages within the simulator's;
- no task, socket or thread was left, and no book still waited for a snapshot.

The numbers are milliseconds from the fault's first effect until both books were LIVE and right again, by the clock
of the simulated session, in which computing takes no time: the median of {count} seeds. 0: they were so all the
time. They contain the fault's own duration, the feed's waits (backoff, pace of snapshots, the 20 s after which a
connection that brings nothing is known to be dead) and the period of the exchange's messages, in a market of 40 orders
a second. A letter says why there is nothing to show. What other clients make of it: [peer-faults.md](peer-faults.md).



"""


def main() -> None:
    """Play all cells, or those of the exchanges that are named; print the tables, and write the page if it is of all.

    Ends with what has failed, where something has.
    """
    if unknown := set(sys.argv[1:]) - {case.exchange for case in ALL_CASES}:
        sys.exit(f"expected names of simulated exchanges, found {', '.join(sorted(unknown))}")
    cases = [case for case in ALL_CASES if case.exchange in sys.argv[1:]] or ALL_CASES
    reasons: dict[str, str] = {}
    cells: dict[tuple[str, str], str] = {}
    plays = []
    for scenario in SCENARIOS:
        for case in cases:
            reason = scenario.missing(case)
            if reason is None:
                plays.append((case, scenario))
            else:
                cells[case.exchange, scenario.name] = reasons.setdefault(reason, chr(ord("a") + len(reasons)))
    failures: list[str] = []
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        numbers = [(ALL_CASES.index(case), SCENARIOS.index(scenario)) for case, scenario in plays]
        for (case, scenario), (cell, failed) in zip(plays, pool.map(_play_cell, numbers), strict=True):
            cells[case.exchange, scenario.name] = cell
            failures += failed
            print(f"{case} {scenario.name}: {cell}", *failed, sep="\n", flush=True)
    tables = "\n\n".join(_table(cases[at : at + COLUMNS], cells) for at in range(0, len(cases), COLUMNS))
    print(tables)
    if failures:
        sys.exit("\n".join(failures))
    if cases is not ALL_CASES:
        return
    notes = "\n".join(f"- {letter}: {reason}" for reason, letter in reasons.items())
    what = "\n".join(f"| {s.name} | {s.what} | {s.within:g} |" for s in SCENARIOS)
    head = HEAD.format(seeds=", ".join(map(str, SEEDS)), count=len(SEEDS))
    faults_table = f"## The faults\n\n| Fault | What happens | Bound, s |\n|---|---|---:|\n{what}\n"
    PAGE.write_text(
        f"{head.rstrip()}\n\n{tables}\n\n{notes}\n- ends: the session ends with `SubscriptionRefused`\n\n{faults_table}"
    )


def _play_cell(numbers: tuple[int, int]) -> tuple[str, list[str]]:
    """Play one cell with all seeds, in a process of its own; return what is shown, and what has failed."""
    case, scenario = ALL_CASES[numbers[0]], SCENARIOS[numbers[1]]
    times: list[float] = []
    failures = []
    for seed in SEEDS:
        try:
            seen = play(case, scenario, seed)
        except Exception as error:
            failures.append(f"{case} {scenario.name} seed {seed}: {type(error).__name__}: {error}")
        else:
            times.append(math.nan if seen.recovery is None else seen.recovery)
    return "failed" if failures else _cell(median(times)), failures


def _table(cases: Sequence[Case], cells: Mapping[tuple[str, str], str]) -> str:
    rows = [
        f"| {scenario.name} | {' | '.join(cells[case.exchange, scenario.name] for case in cases)} |"
        for scenario in SCENARIOS
    ]
    names = " | ".join(case.exchange for case in cases)
    return "\n".join([f"| | {names} |", "|---|" + "---:|" * len(cases), *rows])


def _cell(seconds: float) -> str:
    return "ends" if math.isnan(seconds) else f"{seconds * 1000:.0f}"


if __name__ == "__main__":
    main()
