"""The same faults for our live feed and for other clients: who shows a wrong book, who tells of it, who recovers.

    python benchmarks/peer_faults.py                                  ours, and a client on `websockets` if it is there
    python benchmarks/peer_faults.py --cryptofeed-python PATH         with cryptofeed, of an environment that has it
    python benchmarks/peer_faults.py --quick                          each cell once
    python benchmarks/peer_faults.py --write                          and write docs/peer-faults.md
    python benchmarks/peer_faults.py --exchange okx --fault gap --client ours --log     one cell, with what was told

For every cell an exchange is simulated that no other cell uses, with a proxy in front, and the client runs in a process
of its own, in real time, with its defaults. It reports every book that it gives to its user; the books of both symbols
are compared, level for level, with all books that the exchange has had. docs/peer-faults.md, which this program writes,
says what the figures are.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec
import uvloop
from measuring import ROOT, machine, row

from feeds.simulator import faults, proxy
from feeds.simulator.order_flow import FlowConfig, OrderFlow
from feeds.simulator.proxy import FaultProxy
from feeds.simulator.server import SimulatedExchange

CLIENTS = Path(__file__).resolve().parent / "peer_clients"
PAGE = ROOT / "docs" / "peer-faults.md"

RECENT = 0.5  # seconds for which a book may be shown that is the exchange's no more
LOOK = 0.02  # seconds between two looks
LATE = 0.2  # seconds between two looks from which on this machine was too busy, and a cell is played again
TRIES = 3  # of a cell
ROUNDS = 3  # of faults of single messages, which matter more or less
START_TIMEOUT = 60.0  # until the books are right for the first time
FLOW = FlowConfig(levels=16, warm_up=100, rate=40, seed=1)


class Pace(msgspec.Struct, frozen=True):
    """How long a cell is watched; seconds."""

    calm: float = 2.0  # with right books before the fault, and at its end
    least: float = 5.0  # after the fault, besides what it lasts itself


# --- the exchanges, and the faults: those of the fault matrix that these can have, with the same parameters ---------


class Case(msgspec.Struct, frozen=True):
    """An exchange whose simulator all clients that are named can be pointed at."""

    exchange: str
    symbols: tuple[str, str]  # the first is struck
    field: str  # without which a delta cannot be used
    clients: tuple[str, ...] = ("ours", "cryptofeed")
    levels: int | None = None  # of each side, that are compared; None: all
    losses: int = 1  # messages that have to be lost until it shows


class Scenario(msgspec.Struct, frozen=True):
    name: str
    what: str
    make: Callable[[Case], Sequence[faults.AnyFault | proxy.AnyTransportFault]]
    lasts: float = 0.0  # seconds
    bound: float = 40.0  # seconds until the cell is given up
    retry_after: float = 0.0  # seconds for which the exchange has forbidden requests
    missing: tuple[str, ...] = ()  # exchanges that cannot have it
    is_everywhere: bool = False  # of single messages: at all exchanges, not at those alone where all clients are
    is_alone: bool = False  # nothing else may run meanwhile: the proxy has a turn of the loop for every piece

    def is_at(self, case: Case) -> bool:
        return case.exchange not in self.missing and (self.is_everywhere or len(case.clients) == len(NAMES))


NAMES = ("ours", "websockets", "cryptofeed")

CASES = [
    Case("binance-futures", ("BTCUSDT", "ETHUSDT"), "u", NAMES),
    Case("okx", ("BTC-USDT", "ETH-USDT"), "bids", NAMES),
    Case("binance", ("BTCUSDT", "ETHUSDT"), "u"),
    Case("bybit", ("BTCUSDT", "ETHUSDT"), "u"),
    Case("coinbase-advanced", ("BTC-USD", "ETH-USD"), "events"),
    Case("deribit", ("BTC-PERPETUAL", "ETH-PERPETUAL"), "change_id"),
    Case("gateio", ("BTC_USDT", "ETH_USDT"), "u"),
    Case("kraken", ("BTC/USD", "ETH/USD"), "data", levels=10, losses=20),  # its checksum is of ten levels
]

SCENARIOS = [
    Scenario("none", "nothing", lambda c: (), is_everywhere=True),
    Scenario(
        "gap",
        "a delta is lost; at Kraken 20, since its checksum is of ten levels alone",
        lambda c: [faults.Gap(c.symbols[0], count=c.losses)],
        is_everywhere=True,
    ),
    Scenario("duplicate", "a delta comes twice", lambda c: [faults.Duplicate(c.symbols[0])], is_everywhere=True),
    Scenario(
        "reorder",
        "a delta comes behind the next one",
        lambda c: [faults.Reorder(c.symbols[0])],
        missing=("coinbase-advanced",),  # the simulator numbers its messages as it sends them
        is_everywhere=True,
    ),
    Scenario(
        "malformed",
        "eight messages end in the middle",
        lambda c: [faults.Malformed(c.symbols[0], count=8)],
        is_everywhere=True,
    ),
    Scenario(
        "missing field",
        "a delta lacks a field",
        lambda c: [faults.MissingField(c.symbols[0], c.field)],
        is_everywhere=True,
    ),
    Scenario("sequence reset", "the numbers of a delta begin anew", lambda c: [faults.SequenceReset(c.symbols[0])]),
    Scenario("new field", "nine messages have a field more", lambda c: [faults.NewField(c.symbols[0], count=9)]),
    Scenario(
        "unknown word",
        "trades have a side that there was not",
        lambda c: [faults.UnknownEnum(c.symbols[0], count=2)],
        missing=("binance-futures",),  # its trades have no words
    ),
    Scenario("unknown message", "a message of an unknown type", lambda c: [faults.UnknownEvent()]),
    Scenario("unknown symbol", "a message about a symbol that is not listed", lambda c: [faults.UnknownSymbol()]),
    Scenario(
        "mute", "no data for five seconds, while pings and pongs go on", lambda c: [faults.Mute(seconds=5)], lasts=5.0
    ),
    Scenario("disconnect", "every connection is reset by the exchange", lambda c: [faults.Disconnect()]),
    Scenario("goodbye", "every connection is closed with 1001", lambda c: [faults.Disconnect(code=1001)]),
    Scenario(
        "stale snapshot",
        "after a gap two snapshots are too old",
        lambda c: [faults.StaleSnapshot(c.symbols[0], times=2), faults.Gap(c.symbols[0])],
        missing=("okx",),  # its books come by WebSocket
    ),
    Scenario(
        "429",
        "after a gap the snapshot is answered with 429, Retry-After 3",
        lambda c: [faults.RestLimit(retry_after=3), faults.Gap(c.symbols[0])],
        retry_after=3.0,
        missing=("okx",),
    ),
    Scenario(
        "418",
        "after a gap the snapshot is answered with 418, Retry-After 20",
        lambda c: [faults.RestLimit(status=418, retry_after=20), faults.Gap(c.symbols[0])],
        retry_after=20.0,
        missing=("okx",),
    ),
    Scenario("clock ahead", "the exchange's clock jumps an hour ahead", lambda c: [faults.ClockSkew(seconds=3600)]),
    Scenario("clock behind", "the exchange's clock jumps an hour back", lambda c: [faults.ClockSkew(seconds=-3600)]),
    Scenario("half-open", "connections stand, and nothing comes any more", lambda c: [proxy.HalfOpen()], bound=150.0),
    Scenario("reset", "every connection is reset on its way", lambda c: [proxy.Reset()]),
    Scenario(
        "slow drain",
        "300 bytes a second for ten seconds",
        lambda c: [proxy.SlowDrain(bytes_per_second=300, seconds=10)],
        lasts=10.0,
    ),
    Scenario(
        "one-byte segments", "5,000 bytes come one by one", lambda c: [proxy.OneByteSegments(count=5000)], is_alone=True
    ),
    Scenario(
        "fragments",
        "50,000 bytes come in pieces of up to 64",
        lambda c: [proxy.Fragments(count=50_000)],
        is_alone=True,
    ),
    Scenario(
        "refused",
        "connections are reset, and refused for five seconds",
        lambda c: [proxy.RefuseConnections(seconds=5), proxy.Reset()],
        lasts=5.0,
    ),
]


# --- what is true -------------------------------------------------------------------------------------------------


class Truth:
    """All books that an exchange has had, and until when each was the true one: an order flow like its own, beside."""

    def __init__(self, flow: OrderFlow, levels: int | None = None) -> None:
        """`levels` are of each side, of those that count; None: all do."""
        self._real = flow
        self._levels = levels
        self._flow = OrderFlow(flow.markets, flow.config)
        self._markets = {market.symbol: market for market in flow.markets}
        self._sides: dict[str, tuple[dict[int, int], dict[int, int]]] = {}
        self._current: dict[str, int] = {}
        self._until: dict[str, dict[int, float]] = {}  # of each symbol, by its books' hash
        for symbol in self._markets:
            book = self._flow.book(symbol)
            self._sides[symbol] = (dict(book.bids), dict(book.asks))
            self._until[symbol] = {}
            self._remember(symbol, -math.inf)

    def advance(self, now: float) -> None:
        """Remember what has become of the books until now."""
        while any(self._flow.last_id(symbol) < self._real.last_id(symbol) for symbol in self._markets):
            for update in self._flow.next_burst():
                bids, asks = self._sides[update.symbol]
                for change in update.changes:
                    side = bids if change.is_bid else asks
                    if change.qty:
                        side[change.price] = change.qty
                    else:
                        side.pop(change.price, None)
                self._remember(update.symbol, now)

    def key(self, symbol: str, bids: Any, asks: Any) -> int:
        """Return what stands for a book here, of levels as text."""
        market = self._markets[symbol]

        def units(text: str, decimals: int, unit: int) -> Decimal:
            return Decimal(text).scaleb(decimals) / unit

        return hash(
            tuple(
                tuple(
                    (units(price, market.price_decimals, market.tick), units(qty, market.qty_decimals, market.lot))
                    for price, qty in side[: self._levels]
                )
                for side in (bids, asks)
            )
        )

    def age(self, symbol: str, key: int, now: float) -> float | None:
        """Return for how long a book has not been the true one any more; None if it never was."""
        until = self._until[symbol].get(key)
        return None if until is None else max(0.0, now - until)

    def _remember(self, symbol: str, now: float) -> None:
        bids, asks = self._sides[symbol]
        # Equal numbers have equal hashes, whether int or Decimal.
        sides = sorted(bids.items(), reverse=True), sorted(asks.items())
        key = hash(tuple(tuple(side[: self._levels]) for side in sides))
        if symbol in self._current:
            self._until[symbol][self._current[symbol]] = now
        self._current[symbol] = key
        self._until[symbol][key] = math.inf


class Watch:
    """Keeps what a client shows, and for how long that is wrong, old or right."""

    def __init__(self, truth: Truth, symbols: Sequence[str], clock: Callable[[], float]) -> None:
        self._truth = truth
        self._symbols = symbols
        self._clock = clock  # seconds
        self._shown: dict[str, int | None] = dict.fromkeys(symbols)  # None: no book
        self._is_warned = dict.fromkeys(symbols, False)  # something has been told since the last book
        self._looked_at = self._clock()
        self.right_since = math.inf
        self.struck_at = math.inf
        self.was_ill = False  # after the fault
        self.wrong = self.old = 0.0  # seconds, after the fault, without a sign
        self.longest_pause = 0.0  # seconds between two looks, after the fault
        self.told: list[tuple[float, str, str]] = []  # when, how, what
        self.has_ended = False
        self.has_struck: Callable[[], bool] = lambda: False  # whether the fault has

    def look(self) -> None:
        """Account for the time since the last look."""
        now = self._clock()
        self._truth.advance(now)
        if self.struck_at == math.inf and self.has_struck():
            self.struck_at = now
        elapsed, self._looked_at = now - self._looked_at, now
        is_right, is_wrong, is_old = True, False, False
        for symbol in self._symbols:
            key, is_warned = self._shown[symbol], self._is_warned[symbol]
            age = math.inf if key is None else self._truth.age(symbol, key, now)
            is_right &= age is not None and age <= RECENT
            is_wrong |= age is None and not is_warned
            is_old |= key is not None and age is not None and age > RECENT and not is_warned
        if not is_right:
            self.right_since = math.inf
            self.was_ill |= now > self.struck_at
        elif self.right_since == math.inf:
            self.right_since = now
        if now > self.struck_at:
            self.longest_pause = max(self.longest_pause, elapsed)
            self.wrong += elapsed * is_wrong
            self.old += elapsed * (is_old and not is_wrong)

    def hear(self, record: dict[str, Any]) -> None:
        """Take in what the client reports."""
        self.look()
        if "told" in record:
            self.told.append((self._looked_at, record["told"], record["text"]))
            self._is_warned = dict.fromkeys(self._symbols, True)
            return
        symbol = record["symbol"]
        if "bids" in record:
            self._shown[symbol] = self._truth.key(symbol, record["bids"], record["asks"])
        else:
            self._shown[symbol] = None
            self.told.append((self._looked_at, "withdrawn", symbol))
        self._is_warned[symbol] = False
        self.look()

    def end(self) -> None:
        """The client has ended."""
        self.look()
        self.has_ended = True
        self._shown = dict.fromkeys(self._symbols)
        self.look()

    def is_right_for(self, seconds: float) -> bool:
        return self._clock() - self.right_since >= seconds


# --- playing a cell -----------------------------------------------------------------------------------------------


class Client(msgspec.Struct, frozen=True):
    """A client and what runs it: COMMAND EXCHANGE WS_URL REST_URL SYMBOL..."""

    name: str
    version: str
    command: tuple[str, ...]


class Seen(msgspec.Struct):
    """What came of a cell; seconds."""

    recovery: float | None  # None: not within the bound
    wrong: float
    old: float
    told: list[tuple[float, str, str]]  # after the fault: when, how, what
    early: int = 0  # requests while they were forbidden
    has_ended: bool = False
    longest_pause: float = 0.0  # of our own


class CellError(Exception):
    """The books were not right before the fault, or it could not strike."""


async def play(client: Client, case: Case, scenario: Scenario, pace: Pace, flow: FlowConfig = FLOW) -> Seen:
    """Play one cell. CellError when the client's books are not right before the fault, or it does not strike."""
    async with (
        SimulatedExchange(case.exchange, case.symbols, flow=flow) as sim,
        FaultProxy(sim.ws_url, sim.rest_url, seed=flow.seed) as front,
    ):
        sim.lead_clients_to(front.url(sim.ws_url))
        process = await asyncio.create_subprocess_exec(
            *client.command,
            case.exchange,
            front.url(sim.ws_url),
            front.url(sim.rest_url),
            *case.symbols,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            limit=1 << 20,
        )
        watch = Watch(Truth(sim.flow, case.levels), case.symbols, asyncio.get_running_loop().time)
        reading = asyncio.ensure_future(_read(process, watch))
        try:
            return await _follow(sim, front, watch, scenario, scenario.make(case), pace)
        except CellError as problem:
            raise CellError(f"{client.name}, {case.exchange}, {scenario.name}: {problem}") from None
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await reading


async def _read(process: asyncio.subprocess.Process, watch: Watch) -> None:
    assert process.stdout is not None
    assert process.stderr is not None
    errors = asyncio.ensure_future(process.stderr.read())
    async for line in process.stdout:
        if line.endswith(b"\n"):  # and not cut off by the client's end
            watch.hear(json.loads(line))
    last = (await errors).decode(errors="replace").strip().splitlines()[-1:]
    watch.hear({"told": "exception", "text": "".join(last) or "the client has ended"})
    watch.end()
    await process.wait()


async def _follow(
    sim: SimulatedExchange,
    front: FaultProxy,
    watch: Watch,
    scenario: Scenario,
    given: Sequence[faults.AnyFault | proxy.AnyTransportFault],
    pace: Pace,
) -> Seen:
    clock = asyncio.get_running_loop().time

    async def until(condition: Callable[[], bool], seconds: float) -> bool:
        deadline = clock() + seconds
        while not (is_so := condition()) and clock() < deadline:
            await asyncio.sleep(LOOK)
            watch.look()
        return is_so

    if not await until(lambda: watch.is_right_for(pace.calm) or watch.has_ended, START_TIMEOUT) or watch.has_ended:
        raise CellError("\n".join(f"{how}: {what}" for _, how, what in watch.told[-10:]) or "nothing was told")
    requests: list[tuple[float, str]] = []
    sim.on_request = lambda target: requests.append((clock(), target))
    strikes = sim.strikes
    waits = False
    for fault in given:
        if isinstance(fault, proxy.TransportFault):
            front.inject(fault)
        else:
            sim.inject(fault)
            waits = True
    watch.has_struck = lambda: not waits or sim.strikes > strikes
    if not await until(lambda: watch.struck_at < math.inf, START_TIMEOUT):
        raise CellError("the fault has not struck")
    least = scenario.lasts + pace.least
    await until(lambda: clock() - watch.struck_at >= least, least)
    is_healed = await until(lambda: watch.is_right_for(pace.calm) or watch.has_ended, scenario.bound - least)
    is_healed &= not watch.has_ended
    recovery = (watch.right_since - watch.struck_at if watch.was_ill else 0.0) if is_healed else None
    told = [(when - watch.struck_at, how, what) for when, how, what in watch.told if when >= watch.struck_at]
    early = early_requests(requests, scenario.retry_after)
    return Seen(recovery, watch.wrong, watch.old, told, early, watch.has_ended, watch.longest_pause)


def early_requests(requests: list[tuple[float, str]], retry_after: float) -> int:
    """Count the requests that came while the first one's answer forbade them."""
    return sum(when < requests[0][0] + retry_after for when, _ in requests[1:]) if requests else 0


# --- all cells, and the table -------------------------------------------------------------------------------------

Cell = tuple[str, str, str]  # exchange, fault, client


async def play_all(clients: Sequence[Client], options: argparse.Namespace) -> dict[Cell, Seen]:
    """Play all cells, some at a time, those that may take long first."""
    found: dict[Cell, Seen] = {}

    async def play_one(case: Case, scenario: Scenario, client: Client, room: asyncio.Semaphore) -> None:
        rounds = []
        for number in range(ROUNDS if scenario.is_everywhere and not options.quick else 1):
            flow = msgspec.structs.replace(FLOW, seed=number + 1)
            async with room:
                rounds.append(await _play_in_peace(client, case, scenario, flow))
        seen = found[case.exchange, scenario.name, client.name] = worst(rounds)
        print(f"{case.exchange}, {scenario.name}, {client.name}: {' / '.join(cells(seen))}", file=sys.stderr)
        if options.log:
            print("".join(f"  {when:8.3f} {how}: {what}\n" for when, how, what in seen.told), file=sys.stderr)

    for is_alone, jobs in ((False, options.jobs), (True, 1)):
        room = asyncio.Semaphore(jobs)
        chosen = [
            play_one(case, scenario, client, room)
            for scenario in sorted(SCENARIOS, key=lambda scenario: -scenario.bound)
            for case in CASES
            for client in clients
            if scenario.is_alone == is_alone
            and scenario.is_at(case)
            and client.name in case.clients
            and options.exchange in (None, case.exchange)
            and (not options.fault or scenario.name in options.fault)
        ]
        await asyncio.gather(*chosen)
    return found


async def _play_in_peace(client: Client, case: Case, scenario: Scenario, flow: FlowConfig) -> Seen:
    """Play a cell, again where this machine had too much else to do, or the client did not begin."""
    tries: list[Seen] = []
    for number in range(1, TRIES + 1):
        try:
            tries.append(await play(client, case, scenario, Pace(), flow))
        except CellError:
            if number == TRIES and not tries:
                raise
        else:
            if tries[-1].longest_pause <= LATE:
                break
    return min(tries, key=lambda seen: seen.longest_pause)


def worst(rounds: Sequence[Seen]) -> Seen:
    """Return the worst of each figure, and all that was told."""
    recoveries = [seen.recovery for seen in rounds]
    return Seen(
        None if None in recoveries else max(recovery or 0.0 for recovery in recoveries),
        max(seen.wrong for seen in rounds),
        max(seen.old for seen in rounds),
        [one for seen in rounds for one in seen.told],
        max(seen.early for seen in rounds),
        any(seen.has_ended for seen in rounds),
        max(seen.longest_pause for seen in rounds),
    )


def cells(seen: Seen) -> list[str]:
    """Return what the table says of a cell."""
    recovery = "never" if seen.recovery is None else _seconds(seen.recovery)
    if seen.has_ended:
        recovery = "ends"
    if seen.early:
        recovery += f" ({seen.early} early)"
    hows = list(dict.fromkeys(how for _, how, _ in seen.told))
    return [recovery, _seconds(seen.wrong), _seconds(seen.old), ", ".join(hows) or "-"]


def _seconds(value: float) -> str:
    return "0" if value < 0.005 else f"{value:.2f}" if value < 10 else f"{value:.1f}"


def table(found: dict[Cell, Seen], case: Case) -> Iterator[str]:
    """Yield the lines of one exchange's table; none where nothing was played."""
    names = [name for name in NAMES if any((case.exchange, s.name, name) in found for s in SCENARIOS)]
    if not names:
        return
    yield row(["", *(f"{name}: {what}" for name in names for what in ("right again", "wrong", "old", "told"))])
    yield row(["---", *["--:", "--:", "--:", "---"] * len(names)])
    for scenario in SCENARIOS:
        seen = [found.get((case.exchange, scenario.name, name)) for name in names]
        if any(seen):
            yield row([scenario.name, *(cell for one in seen for cell in (cells(one) if one else [""] * 4))])


HEAD = """# The same faults, and other clients

What other clients make of the faults of [the fault matrix](fault-matrix.md). `benchmarks/peer_faults.py --write` plays
them in real time and writes this page. Each cell has a simulated exchange of its own with two books and 40 orders a
second, a TCP proxy in front of it, and the client in a process of its own, with its defaults. The fault is switched on
when both books have been right for 2 s. Faults of single messages, those that are played at all exchanges below, are
played {rounds} times with other orders, and each figure is the worst of them. A cell is played again, up to twice,
where the benchmark's own loop stood still for more than {late:g} s.

Clients: {versions}. {machine}

Every book that a client gives to its user, at every callback, is compared, level for level (at Kraken the ten levels
a side that its checksum is of), with all books that the exchange has had:

- **right again**: seconds from the fault until both books were the exchange's, and stayed so for 2 s. What was the
  exchange's book within the last 0.5 s counts as right: messages come every 100 ms or so, and machines have other work.
  0: they were right all the time. A client that takes its book back is not right until it shows another; one that goes
  on showing it is, as long as that is true. never: not within the bound.
- **wrong**: seconds in which a client showed a book that the exchange never had.
- **old**: seconds in which it showed one that had not been the exchange's for more than 0.5 s.
- **told**: *withdrawn*: the program was told that there is no good book; *status*: the program was told of the fault;
  *log*: a warning or an error was logged; *exception*: the client ended.

Wrong and old do not count after a client has told anything, in whatever way, until its next book. That is in favour of
cryptofeed, whose books have no state: a program that does not read the log does not learn of it. Requests that the
exchange had forbidden by 429 or 418, and that came before `Retry-After` was over, are *early*.

The client on `websockets` is `benchmarks/peer_clients/websockets_client.py`: what a careful user writes, with books
that are joined, checked and made anew as the exchange prescribes. It is there for two exchanges.
"""

NOTES = """## Why

- **Bybit, cryptofeed.** Its handler does not look at `u`, the number of a delta. What a lost delta changed, or one that
  came too late, stays wrong until that level changes again, and nobody is told. For the same reason it does not miss
  `u` where that field is missing, and is right.
- **One message that cannot be read, cryptofeed.** Whatever its handler raises ends the connection with all books, and
  it connects again after a second: a cut message, a symbol or (Binance) a message that it does not know, a missing
  field. So it does where it finds a gap at OKX, Coinbase, Deribit, Gate.io and Kraken. At Binance it drops that book
  alone and fetches a snapshot with the next delta; until then its user keeps the old one.
- **Unknown word, cryptofeed and the client on `websockets`.** A trade whose side is not "buy" is a sale for cryptofeed,
  and the other client does not look at trades. Ours leaves the trade out and tells.
- **Goodbye.** Iterating over a connection of `websockets` ends without an exception when it is closed with 1001:
  cryptofeed connects again at once, and logs nothing.
- **Half-open.** Until a ping is missed everybody shows old books as good. We ping after 10 s of silence and wait 10 s;
  `websockets` pings every 20 s, waits 20 s, and then up to 10 s for the end of the connection; cryptofeed has it wait
  60 s. Its own watchdog is later, after 120 s.
- **Duplicate.** At OKX and Gate.io cryptofeed takes one for a gap.
- **429.** cryptofeed waits 15 s, whatever `Retry-After` says, inside its message handler, so both books wait.
- **418.** cryptofeed connects again after a second, and asks for the snapshots of both books, while it is banned. The
  simulator refuses once; an exchange would prolong the ban.
- **Mute, slow drain.** Nothing shows it while it lasts, and all clients show old books.
- **Kraken.** Its messages have no numbers. The checksum of the first message that comes shows the loss, but nothing
  does while messages are lost.

## What is not compared

cryptofeed 3.0.1 goes to Bitget's v2 address where v3 is simulated, and to a KuCoin host that wants no ticket where the
tickets are simulated; it has no BitMEX and, of Coinbase, only Advanced Trade. At Bitstamp and Hyperliquid it subscribes
to whole books, in which nothing can be missing. It speaks wss alone: the benchmark has it connect without TLS, so
faults of TLS are left out, as are names that do not resolve, and wrong checksums, which OKX no longer sends.
"""


def page(found: dict[Cell, Seen], clients: Sequence[Client], absent: dict[str, str]) -> str:
    versions = ", ".join(client.version for client in clients)
    parts = [HEAD.format(versions=versions, rounds=ROUNDS, late=LATE, machine=machine())]
    for case in CASES:
        if lines := list(table(found, case)):
            parts.append(f"## {case.exchange}\n\n" + "\n".join(lines) + "\n")
    parts += [f"Not measured: {name}: {reason}.\n" for name, reason in absent.items()]
    what = [row([scenario.name, scenario.what, f"{scenario.bound:g}"]) for scenario in SCENARIOS]
    parts += [
        NOTES,
        "## The faults\n\n" + "\n".join([row(["", "what happens", "bound, s"]), "|---|---|--:|", *what]) + "\n",
    ]
    return "\n".join(part.lstrip("\n") for part in parts)


def find_clients(options: argparse.Namespace) -> tuple[list[Client], dict[str, str]]:
    """Return the clients that can be run, and for each that cannot, the reason."""
    clients = [Client("ours", f"picows-feeds {metadata.version('picows-feeds')}", _command(sys.executable, "ours.py"))]
    absent = {}
    for name, python, script in (
        ("websockets", sys.executable, "websockets_client.py"),
        ("cryptofeed", options.cryptofeed_python, "cryptofeed_client.py"),
    ):
        if python is None:
            absent[name] = f"no --{name}-python"
            continue
        version, reason = _version(python, name)
        if reason:
            absent[name] = reason
        else:
            clients.append(Client(name, f"{name} {version}", _command(python, script)))
    if options.client:
        clients = [client for client in clients if client.name in options.client]
    return clients, absent


def _command(python: str, script: str) -> tuple[str, ...]:
    return (python, str(CLIENTS / script))


def _version(python: str, package: str) -> tuple[str, str]:
    """Return the version of a package that a Python can import, or the reason why it cannot."""
    code = f"import {package}; from importlib.metadata import version; print(version('{package}'))"
    try:
        done = subprocess.run([python, "-c", code], capture_output=True, text=True)
    except OSError as error:
        return "", str(error)
    return done.stdout.strip(), done.stderr.strip().splitlines()[-1] if done.returncode else ""


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cryptofeed-python", help="Python of an environment with cryptofeed")
    parser.add_argument("--jobs", type=int, default=6, help="cells at a time")
    parser.add_argument("--exchange", choices=[case.exchange for case in CASES], help="this alone")
    parser.add_argument("--fault", choices=[s.name for s in SCENARIOS], action="append", help="these alone")
    parser.add_argument("--client", choices=NAMES, action="append", help="these alone")
    parser.add_argument("--quick", action="store_true", help="each cell once")
    parser.add_argument("--log", action="store_true", help="show what clients told")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name} too, of all cells")
    options = parser.parse_args()
    if options.write and (options.exchange or options.fault or options.client or options.quick):
        parser.error("--write: expected all cells, and all of their rounds")
    return options


def main() -> None:
    options = _parse()
    clients, absent = find_clients(options)
    text = page(uvloop.run(play_all(clients, options)), clients, absent)
    print(text, end="")
    if options.write:
        if absent:
            sys.exit(f"--write: expected all clients, found none of {', '.join(absent)}")
        PAGE.write_text(text)


if __name__ == "__main__":
    main()
