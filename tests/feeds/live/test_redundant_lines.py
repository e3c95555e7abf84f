"""Several connections with the same subscriptions: neither deaths nor rotations are seen in the stream or a replay."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from feeds import session
from feeds.errors import ConfigError
from feeds.events import EventHandler, FeedStatus
from feeds.exchange import Endpoints, exchange
from feeds.live.arbiter import Role
from feeds.live.backoff import BackoffConfig
from feeds.live.feed import MAX_LINES, FeedConfig, JoinConfig, Line, LiveFeed
from feeds.live.handler import ExchangeConfig, load_config
from feeds.live.http import RestConfig
from feeds.simulator import faults
from feeds.simulator.certificates import Certificates
from feeds.simulator.order_flow import FlowConfig, OrderFlow
from feeds.simulator.proxy import FaultProxy
from feeds.simulator.server import SimulatedExchange
from feeds.subscription import Subscription

from ..simulator import judging
from ..simulator.judging import Case, Judge, Truth

QUICK = FeedConfig(
    silence_timeout=20.0,
    tick_interval=0.05,
    snapshot_interval=0.02,
    connect_spread=0.001,
    join=JoinConfig(grace=0.1, quiet=1.0, timeout=10.0, memory_age=1.0),
    backoff=BackoffConfig(initial=0.02, maximum=0.1),
    rest=RestConfig(retry_wait=0.02),
)
# A line that a test stalls, or a busy machine, is not to fall further behind than is remembered.
TWO = msgspec.structs.replace(QUICK, lines=2, join=msgspec.structs.replace(QUICK.join, memory_age=60.0))
AGE = 4.0  # of connections that are rotated: between 2 and 3 s
BY_ID = {case.exchange: case for case in judging.CASES}
CASES = [
    Case("binance-futures", ("BTCUSDT", "ETHUSDT"), has_update_ids=True),
    BY_ID["okx"],
    BY_ID["bybit"],
    BY_ID["kraken"],
]


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have feeds send their messages without the waits that real exchanges want between them."""
    for case in CASES:
        monkeypatch.setattr(type(exchange(case.exchange)), "message_interval", 0.001)
        monkeypatch.setattr(type(exchange(case.exchange)), "connection_limits", ())


class Watched(Judge):
    """Compares books with the truth, and keeps what else it is told."""

    def __init__(self, flow: OrderFlow, case: Case) -> None:
        super().__init__(Truth(flow, case.resolution), case)
        self.statuses: list[FeedStatus] = []

    def on_feed_status(self, event: FeedStatus) -> None:
        self.statuses.append(event)

    def words(self) -> list[str]:
        return [status.status for status in self.statuses]

    def trades_of(self, symbol: str) -> list[Any]:
        return [(t.id, t.price, t.qty, t.ts_event) for t in self.trades if t.instrument.raw_symbol == symbol]

    def quotes_of(self, symbol: str) -> list[Any]:
        return [
            (q.bid_price, q.bid_qty, q.ask_price, q.ask_qty, q.ts_event)
            for q in self.quotes
            if q.instrument.raw_symbol == symbol
        ]


class Run:
    """A simulated exchange, the feed that is tested, and beside it one on a single connection that is never lost."""

    def __init__(self, case: Case, sim: SimulatedExchange) -> None:
        self.case = case
        self.sim = sim
        self.control = Watched(sim.flow, case)
        self.judge = Watched(sim.flow, case)
        self.feed: LiveFeed
        self.spared: list[Any] = []  # the clients of the control

    async def until(self, condition: Callable[[], Any]) -> None:
        """Move time on until a condition holds."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + 60
        while loop.time() < deadline:
            if condition():
                return
            await self.sim.advance(0.02)
            for _ in range(4):  # turns in which the feed reads
                await asyncio.sleep(0)
        raise AssertionError(f"not reached: {self.judge.states}, {self.judge.statuses}")

    async def both_live(self) -> None:
        for judge in (self.control, self.judge):
            before = dict(judge.updates)
            await self.until(
                lambda judge=judge, before=before: all(
                    judge.is_live(symbol) and judge.updates[symbol] >= before.get(symbol, 0) + 3
                    for symbol in self.case.symbols
                )
            )

    async def traded(self, count: int = 4) -> None:
        """Move time on until so much more has been traded of both."""
        before = len(self.judge.trades)
        await self.until(lambda: len(self.judge.trades) >= before + count)

    async def all_joined(self) -> None:
        """Move time on until on each line two connections are in step."""
        await self.until(lambda: all(roles(line) == [Role.JOINED, Role.PRIMARY] for line in self.feed.lines))

    def clients(self) -> list[Any]:
        """The exchange's ends of the connections of the feed that is tested, the oldest first."""
        return [client for client in self.sim._clients.values() if client not in self.spared]

    def oldest_clients(self) -> list[Any]:
        """Of each line the oldest: it is the primary."""
        return list({frozenset(client.session.streams): client for client in reversed(self.clients())}.values())


def roles(line: Line) -> list[Role]:
    return sorted(
        Role.ABSENT if leg.receiver.arbiter is None else leg.receiver.arbiter.role(leg.number) for leg in line.legs
    )


def is_part(found: list[Any], whole: list[Any]) -> bool:
    return any(whole[at : at + len(found)] == found for at in range(len(whole) - len(found) + 1))


@asynccontextmanager
async def running(
    case: Case,
    path: Path,
    config: FeedConfig,
    symbols: tuple[str, ...] | None = None,
    *,
    policy: str = "none",
    certificates: Certificates | None = None,
) -> AsyncIterator[Run]:
    """A feed of these symbols, through TLS where there are certificates, and its control."""
    symbols = symbols or case.symbols
    market = type(exchange(case.exchange))()
    market.max_connection_age = None
    flow = FlowConfig(levels=16, warm_up=100, rate=400, seed=5)
    async with (
        SimulatedExchange(case.exchange, case.symbols, flow=flow, real_time=False) as sim,
        FaultProxy(sim.ws_url, sim.rest_url, certificates=certificates) as front,
    ):
        run = Run(case, sim)
        endpoints = Endpoints(ws=sim.ws_url, rest=sim.rest_url)
        tested = (
            endpoints if certificates is None else Endpoints(ws=front.url(sim.ws_url), rest=front.url(sim.rest_url))
        )
        wanted = [Subscription(symbol, case.channels) for symbol in case.symbols]
        stop = asyncio.Event()
        async with LiveFeed(market, wanted, run.control, config=QUICK, endpoints=endpoints) as control:
            controlling = asyncio.ensure_future(control.run())
            await run.until(lambda: all(run.control.is_live(symbol) for symbol in case.symbols))
            await run.until(lambda: sim.clients == len(control.lines))
            run.spared = list(sim._clients.values())
            live = asyncio.ensure_future(
                session.live(
                    run.judge,
                    case.exchange,
                    symbols,
                    channels=case.channels,
                    policy=policy,
                    config=config,
                    record_to=path,
                    stop=stop,
                    endpoints=tested,
                    ssl_context=None if certificates is None else certificates.trusting,
                    on_start=lambda feeds: setattr(run, "feed", feeds.feeds[case.exchange]),
                )
            )
            try:
                await run.until(lambda: all(run.judge.is_live(symbol) for symbol in symbols))
                yield run
            finally:
                stop.set()
                report = await asyncio.wait_for(live, 10)
                control.stop()
                await controlling
    assert run.judge.wrong == run.control.wrong == []
    assert report.problems == {}
    assert session.replay(EventHandler(), path, policy=policy).is_same


async def nothing_was_lost(run: Run) -> None:
    """What came is what the control got, each event once and in order, and the books were LIVE all the time."""
    await run.traded()
    found = {symbol: (run.judge.trades_of(symbol), run.judge.quotes_of(symbol)) for symbol in run.case.symbols}
    await run.traded()  # what is compared has come to the control by now
    await run.both_live()
    for symbol, (trades, quotes) in found.items():
        assert run.judge.states[symbol] == ["SYNCING", "LIVE"], run.judge.statuses
        assert trades
        assert is_part(trades, run.control.trades_of(symbol))
        assert len(quotes) > 1
        assert is_part(quotes[1:], run.control.quotes_of(symbol))  # the first tells what is


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_the_death_of_one_line_after_the_other_is_no_gap(case: Case, tmp_path: Path) -> None:
    async with running(case, tmp_path / "session.feeds", TWO) as run:
        for _ in range(3):
            await run.all_joined()
            await run.traded()
            before = [line.receiver.leg for line in run.feed.lines]
            run.judge.statuses.clear()
            for client in run.oldest_clients():
                client.reset()
            await run.until(lambda: run.judge.words().count("line_joined") == len(run.feed.lines))
            assert [line.receiver.leg for line in run.feed.lines] == [1 - leg for leg in before]
            assert run.judge.words().count("line_lost") == len(before)
        await nothing_was_lost(run)
        assert sum(line.pipeline.messages for line in run.feed.lines) < sum(line.frames for line in run.feed.lines)


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_so_it_is_under_tls_with_reads_drained_and_large_messages(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder, large = exchange(case.exchange).decoder, []
    take_apart = decoder.take_apart
    monkeypatch.setattr(decoder, "take_apart", lambda self, payload: large.append(payload) or take_apart(self, payload))
    config = msgspec.structs.replace(TWO, large_message=400)
    async with running(case, tmp_path / "session.feeds", config, policy="drained", certificates=Certificates()) as run:
        for _ in range(2):
            await run.all_joined()
            await run.traded()
            run.judge.statuses.clear()
            for client in run.oldest_clients():
                client.reset()
            await run.until(lambda: run.judge.words().count("line_joined") == len(run.feed.lines))
        await run.traded()
        found = {symbol: run.judge.trades_of(symbol) for symbol in case.symbols}
        await run.traded()
        for symbol, trades in found.items():
            assert run.judge.states[symbol] == ["SYNCING", "LIVE"], run.judge.statuses
            assert is_part(trades, run.control.trades_of(symbol))
    assert bool(large) == bool(decoder.large_arrays)  # the others never have large messages


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_the_death_of_all_lines_is_a_disconnect(case: Case, tmp_path: Path) -> None:
    async with running(case, tmp_path / "session.feeds", TWO) as run:
        await run.all_joined()
        run.judge.statuses.clear()
        for client in run.clients():
            client.reset()
        await run.until(lambda: all(states[-1] == "STALE" for states in run.judge.states.values()))
        await run.both_live()
        assert run.judge.words().count("disconnected") == len(run.feed.lines)
        await run.all_joined()
        await run.traded()
        for symbol in case.symbols:
            states = [state for state in run.judge.states[symbol] if state != "SYNCING"]
            assert states == ["LIVE", "STALE", "LIVE"]
            ids = [id for id, *_ in run.judge.trades_of(symbol)]
            assert len(ids) == len(set(ids))


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_a_connection_is_replaced_before_it_is_too_old(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # From the earliest moment on, so that a busy machine has 3.6 s for it.
    monkeypatch.setattr(type(exchange(case.exchange)), "max_connection_age", 2 * AGE)
    monkeypatch.setattr("feeds.live.feed.random.uniform", lambda least, most: most)
    async with running(case, tmp_path / "session.feeds", QUICK) as run:
        old = [line.legs[0] for line in run.feed.lines]
        assert all(leg.receiver.arbiter is None for leg in old)
        await run.until(lambda: run.judge.words().count("rotated") == len(old))
        await run.until(lambda: all(len(line.legs) == 1 for line in run.feed.lines))
        assert all(line.legs[0] not in old for line in run.feed.lines)
        await nothing_was_lost(run)
        # When nothing of the old one can come any more, there is an end to comparing.
        await run.until(lambda: all(line.legs[0].receiver.arbiter is None for line in run.feed.lines))
        assert "disconnected" not in run.judge.words()


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_a_book_is_made_anew_with_two_lines(case: Case, tmp_path: Path) -> None:
    struck, other = case.symbols
    async with running(case, tmp_path / "session.feeds", TWO) as run:
        for _ in range(2):
            await run.all_joined()
            run.judge.states[struck].clear()
            run.judge.levels = case.checked
            run.sim.inject(faults.Gap(struck, count=20 if case.checked else 1))  # on both: the exchange loses it
            await run.until(lambda: "GAP" in run.judge.states[struck] and run.judge.states[struck][-1] == "LIVE")
            run.judge.levels = None
            await run.both_live()
            run.judge.states[struck].clear()
            await run.all_joined()
            for client in run.oldest_clients():
                client.reset()
            await run.both_live()
            assert run.judge.states[struck] == [], [(s.status, s.reason) for s in run.judge.statuses]
        assert run.judge.states[other] == ["SYNCING", "LIVE"]


@contextmanager
def stalled(clients: list[Any]) -> Iterator[None]:
    """Nothing reaches these clients meanwhile; all of it does in the end."""
    unsent: list[tuple[Any, list[bytes]]] = []
    sends = [client.send for client in clients]
    for client, send in zip(clients, sends, strict=True):
        client.send = lambda frames, send=send: unsent.append((send, frames))
    yield
    assert unsent
    for client, send in zip(clients, sends, strict=True):
        client.send = send
    for send, frames in unsent:
        send(frames)


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_a_line_that_stalls_costs_nothing(case: Case, tmp_path: Path) -> None:
    async with running(case, tmp_path / "session.feeds", TWO) as run:
        await run.all_joined()
        before = [line.receiver.leg for line in run.feed.lines]
        with stalled(run.oldest_clients()):
            await run.traded(20)
            await run.both_live()
        await run.traded(20)
        await nothing_was_lost(run)
        assert [line.receiver.leg for line in run.feed.lines] == before
        assert run.judge.words().count("line_lost") == 0


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_the_deltas_behind_a_snapshot_come_on_its_connection(case: Case, tmp_path: Path) -> None:
    struck, other = case.symbols
    async with running(case, tmp_path / "session.feeds", TWO) as run:
        await run.all_joined()
        run.judge.levels = case.checked
        with stalled(run.oldest_clients()):  # which are to bring the snapshot
            run.sim.inject(faults.Gap(struck, count=20 if case.checked else 1))
            await run.until(lambda: "GAP" in run.judge.states[struck])
            before = run.control.updates[struck]
            await run.until(lambda: run.control.updates[struck] >= before + 20)
        await run.until(lambda: run.judge.states[struck][-1] == "LIVE")
        run.judge.levels = None
        before = run.control.updates[struck]
        await run.until(lambda: run.control.updates[struck] >= before + 20)
        assert run.judge.states == {struck: ["SYNCING", "LIVE", "GAP", "LIVE"], other: ["SYNCING", "LIVE"]}
        await run.all_joined()


async def test_lines_that_join_anew_behind_a_snapshot_are_not_told(tmp_path: Path) -> None:
    config = msgspec.structs.replace(TWO, join=msgspec.structs.replace(TWO.join, timeout=2.0))
    async with running(BY_ID["okx"], tmp_path / "session.feeds", config) as run:
        await run.all_joined()
        leg = run.feed.lines[0].legs[0]
        await run.until(lambda: asyncio.get_running_loop().time() > leg.connected_at + 2.5)
        run.judge.statuses.clear()
        run.sim.inject(faults.Gap("BTC-USDT"))
        await run.until(lambda: run.judge.states["BTC-USDT"] == ["SYNCING", "LIVE", "GAP", "LIVE"])
        await run.all_joined()
        assert run.judge.words() == []


async def test_a_line_that_lacks_messages_is_told_and_joins_anew(tmp_path: Path) -> None:
    async with running(BY_ID["okx"], tmp_path / "session.feeds", TWO) as run:
        await run.all_joined()
        lossy = run.clients()[-1]
        send, lossy.send = lossy.send, lambda frames: None
        await run.until(lambda: "line_behind" in run.judge.words())
        reason = next(status.reason for status in run.judge.statuses if status.status == "line_behind")
        assert reason.endswith("it lacked a message that another connection brought")
        lossy.send = send
        run.judge.statuses.clear()
        await run.all_joined()
        assert run.judge.words() == ["line_joined"]
        await nothing_was_lost(run)


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_subscriptions_change_on_all_lines(case: Case, tmp_path: Path) -> None:
    first, second = case.symbols
    async with running(case, tmp_path / "session.feeds", TWO, symbols=(first,)) as run:
        await run.all_joined()
        run.feed.add(Subscription(second, case.channels))
        await run.until(lambda: run.judge.states.get(second) == ["SYNCING", "LIVE"])
        await run.all_joined()
        for client in run.oldest_clients():
            client.reset()
        await nothing_was_lost(run)
        await run.all_joined()
        run.feed.remove(Subscription(second, case.channels))
        await run.until(lambda: run.judge.states[second] == ["SYNCING", "LIVE", "STALE"])
        await run.all_joined()
        assert not any(second in stream for client in run.clients() for stream in client.session.streams)
        if case.exchange != "kraken":  # which has no message to end subscriptions
            assert run.judge.states[first] == ["SYNCING", "LIVE"]


async def test_what_a_handler_raises_ends_a_session_of_two_lines(tmp_path: Path) -> None:
    class Raises(EventHandler):
        calls = 0

        def on_trade(self, event: Any) -> None:
            self.calls += 1
            if self.calls == 20:
                raise ZeroDivisionError("on purpose")

    handler = Raises()
    async with SimulatedExchange("okx", ("BTC-USDT",), seed=5, rate=1000.0) as sim:
        with pytest.raises(ZeroDivisionError, match="on purpose"):
            await asyncio.wait_for(
                session.live(
                    handler,
                    "okx",
                    ["BTC-USDT"],
                    policy="none",
                    config=TWO,
                    endpoints=Endpoints(ws=sim.ws_url, rest=sim.rest_url),
                ),
                20,
            )
    assert handler.calls == 20


# --- where a connection cannot be replaced --------------------------------------------------------


async def test_a_connection_that_cannot_be_replaced_is_kept_as_long_as_it_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = BY_ID["okx"]
    monkeypatch.setattr(type(exchange("okx")), "max_connection_age", AGE)
    config = msgspec.structs.replace(QUICK, join=msgspec.structs.replace(QUICK.join, timeout=0.2))
    async with running(case, tmp_path / "session.feeds", config) as run:
        run.sim.inject(faults.Refuse(1e9))
        await run.until(lambda: "rotation_failed" in run.judge.words())
        await run.traded()
        for states in run.judge.states.values():
            assert states == ["SYNCING", "LIVE"]
        await run.until(lambda: "reconnecting" in run.judge.words())
        await run.until(lambda: "disconnected" in run.judge.words())
        words = run.judge.words()
        assert words.index("rotation_failed") < words.index("reconnecting") < words.index("disconnected")


async def test_where_copies_differ_a_connection_is_lost_on_purpose(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = BY_ID["coinbase-advanced"]
    monkeypatch.setattr(type(exchange(case.exchange)), "max_connection_age", 1.0)
    monkeypatch.setattr(type(exchange(case.exchange)), "message_interval", 0.001)
    async with running(case, tmp_path / "session.feeds", QUICK) as run:
        await run.until(lambda: run.judge.words()[-3:] == ["reconnecting", "disconnected", "connected"])
        await run.both_live()
        told = next(status.reason for status in run.judge.statuses if status.status == "reconnecting")
        assert "after 1 s, and another cannot join: messages are numbered anew on each connection" in told


def test_redundant_lines_are_refused_where_copies_differ(tmp_path: Path) -> None:
    path = tmp_path / "feeds.toml"
    path.write_text('[[feeds]]\nexchange = "gemini"\nsymbols = ["BTC-USD"]\nconfig.lines = 2\n')
    with pytest.raises(ConfigError, match=r"feeds.toml: .*gemini: expected lines = 1, found 2: .*socket_sequence"):
        load_config(path)
    with pytest.raises(ConfigError, match="has not been tested"):
        ExchangeConfig(exchange="phemex", symbols=("BTC-USD",), config=TWO)
    with pytest.raises(ConfigError, match="its pings are answered by the decoder"):
        LiveFeed(exchange("htx-swap"), [], EventHandler(), config=TWO)


def test_a_file_says_how_many_lines(tmp_path: Path) -> None:
    path = tmp_path / "feeds.toml"
    path.write_text(
        '[[feeds]]\nexchange = "okx"\nsymbols = ["BTC-USDT"]\nconfig.lines = 3\nconfig.rotation_margin = 60\n'
        "config.join.grace = 0.5\n"
    )
    config = load_config(path).feeds[0].config
    assert (config.lines, config.rotation_margin, config.join) == (3, 60.0, JoinConfig(grace=0.5))


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: FeedConfig(lines=0), "lines above 0"),
        (lambda: FeedConfig(lines=MAX_LINES + 1), f"lines at most {MAX_LINES}"),
        (lambda: FeedConfig(rotation_margin=0), "rotation_margin above 0"),
        (lambda: JoinConfig(grace=0), "grace above 0"),
        (lambda: JoinConfig(memory=1 << 25), "memory of at most"),
        (lambda: JoinConfig(memory_age=0.5), "memory_age of at least grace"),
    ],
)
def test_values_that_cannot_be_are_refused(make: Callable[[], Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        make()


def test_exchanges_that_end_connections_by_their_age() -> None:
    ages = {name: exchange(name).max_connection_age for name in ("binance", "binance-futures", "mexc", "kraken")}
    assert ages == {"binance": 86_400, "binance-futures": 86_400, "mexc": 86_400, "kraken": None}
