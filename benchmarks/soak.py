"""A soak: many symbols of many exchanges at a high rate for a long time, with a fault every minute.

    python benchmarks/soak.py                   30 minutes, after as long as it takes until every book is LIVE
    python benchmarks/soak.py --quick           1 minute, few symbols: whether it works
    python benchmarks/soak.py --write           and write the section of RESULTS.md

Two processes, each on a core of its own where there are two: one serves the simulated exchanges, the other runs a
`FeedHandler` of all of them into a handler that does nothing with books, quotes and trades, under the policy "batch".
The time of the exchanges runs as fast as it takes to send `--rate` messages a second in total, or as many as they can.

Every `--fault-every` seconds one exchange, in turn, has one fault, in turn, among those that its protocol knows; one
for a symbol is about one that is drawn. A fault's time to recover is from the first book that is not LIVE any more to
the moment when all of the exchange are LIVE again.

At the end, when messages behind the last fault have shown what it lost, the exchanges stand still at a full second, and
all that they owe has been sent. Then every book must be LIVE and its best levels must be those of the exchange's true
book, exactly; otherwise the program ends with status 1.
So it does where resident memory grew by more than `--slack` of its size after the first quarter, or where the loop
stood still for longer than `--stall` ms: stalls are how late a timer of the loop is that is due every 5 ms.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import gc
import itertools
import json
import math
import os
import random
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import uvloop
from measuring import machine, pin, row, write_section

from feeds.book import BookState, OrderBook
from feeds.conflation import conflated
from feeds.events import BookStatus, EventHandler, FeedStatus
from feeds.exchange import Endpoints
from feeds.exchange import exchange as find_exchange
from feeds.latency import Histogram, Latency, LatencyProbe
from feeds.live.feed import FeedConfig
from feeds.live.handler import ExchangeConfig, FeedHandler, FeedHandlerConfig
from feeds.simulator import faults
from feeds.simulator.order_flow import NS_PER_SECOND, FlowConfig
from feeds.simulator.server import SimulatedExchange, find_simulator

# Exchange -> its share of the orders.
EXCHANGES = {
    "binance": 0.25,
    "binance-futures": 0.35,
    "bitget": 0.05,
    "bybit": 0.05,
    "gateio": 0.05,
    "kraken": 0.05,
    "kucoin": 0.1,
    "okx": 0.1,
}
CHANNELS = ("book", "quote", "trade")
COMPARED = 10  # levels of each side, that every protocol shows
STEP = 0.01  # seconds between two moves of the exchanges' time
TIMER = 0.005
START_TIMEOUT = 600.0  # until all books are LIVE
SHOWN_AFTER = 6.0  # a fault lasts 5 s at most; what it lost, the messages behind it show
SETTLE_TIMEOUT = 120.0  # until they are again, after the last fault
MB = 1024 * 1024


def symbols_of(exchange: str, count: int) -> list[str]:
    """Return so many symbols as the exchange writes them, like its best known one."""
    example: str = find_simulator(exchange).default_symbols[0]
    names = (first + second + third for first in "AB" for second in LETTERS for third in LETTERS)
    return [example.replace("BTC", name) for name, _ in zip(names, range(count), strict=False)]


LETTERS = "BCDFGHJKLMNPQRSTVWXZ"


# --- the exchanges: a process of their own -----------------------------------------------------------------------


class Exchanges:
    """All simulated exchanges, whose time is moved here."""

    def __init__(self, simulated: dict[str, SimulatedExchange], rate: float) -> None:
        self.simulated = simulated
        self._rate = rate
        self._speed = 1.0  # seconds of exchange time in one of ours
        self._moving = asyncio.Lock()
        self._stands_still = False

    async def run(self) -> None:
        """Move time on, at the speed that sends the wanted number of messages."""
        loop = asyncio.get_running_loop()
        last, sent, since = loop.time(), self.sent, loop.time()
        while True:
            await asyncio.sleep(STEP)
            now = loop.time()
            elapsed, last = min(now - last, 10 * STEP), now
            async with self._moving:
                for sim in self.simulated.values():
                    if not self._stands_still:
                        await sim.advance(elapsed * self._speed)
            if now - since >= 1.0:
                achieved = (self.sent - sent) / (now - since)
                if achieved:
                    self._speed *= min(1.25, max(0.8, self._rate / achieved))
                    self._speed = min(self._speed, 50.0)
                sent, since = self.sent, now

    @property
    def sent(self) -> int:
        return sum(sim.sent_messages for sim in self.simulated.values())

    async def stand_still(self) -> None:
        """Go on to the next full second, and no further."""
        self._stands_still = True
        async with self._moving:
            for sim in self.simulated.values():
                await sim.advance((NS_PER_SECOND - sim.now_ns % NS_PER_SECOND) / NS_PER_SECOND)

    def books(self) -> dict[str, dict[str, list[list[list[str]]]]]:
        """Return by exchange and symbol the best bids and asks, [price, quantity] each."""
        return {name: {symbol: _levels(sim, symbol) for symbol in sim.symbols} for name, sim in self.simulated.items()}

    def inject(self, exchange: str, fault: dict[str, Any]) -> bool:
        """Return whether the exchange's protocol has what the fault breaks."""
        try:
            self.simulated[exchange].inject(msgspec.convert(fault, faults.AnyFault))
        except ValueError:
            return False
        return True


def _levels(sim: SimulatedExchange, symbol: str) -> list[list[list[str]]]:
    book = sim.flow.book(symbol, levels=COMPARED)
    market = next(market for market in sim.flow.markets if market.symbol == symbol)
    return [
        [
            [
                str(Decimal(price * market.tick).scaleb(-market.price_decimals)),
                str(Decimal(qty * market.lot).scaleb(-market.qty_decimals)),
            ]
            for price, qty in side
        ]
        for side in (book.bids, book.asks)
    ]


async def serve(options: dict[str, Any]) -> None:
    """Serve until stdin ends; a command per line, a line of JSON as the answer to each."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    flow = FlowConfig(levels=100, warm_up=100, history=1)
    async with AsyncExitStack() as stack:
        simulated = {
            name: await stack.enter_async_context(
                SimulatedExchange(
                    name,
                    symbols,
                    flow=flow,
                    rate=options["rate"] * EXCHANGES[name],
                    real_time=False,
                    max_output=64 * MB,
                )
            )
            for name, symbols in options["symbols"].items()
        }
        exchanges = Exchanges(simulated, options["rate"])
        running = asyncio.ensure_future(exchanges.run())
        _say({name: {"ws": sim.ws_url, "rest": sim.rest_url} for name, sim in simulated.items()})
        while line := await reader.readline():
            if running.done():
                running.result()
            command, *arguments = json.loads(line)
            if command == "inject":
                _say(exchanges.inject(*arguments))
            elif command == "stand still":
                await exchanges.stand_still()
                _say(exchanges.books())
            else:
                slow = sum(sim.slow_clients for sim in simulated.values())
                _say({"sent": exchanges.sent, "cpu": time.process_time(), "slow": slow})
        running.cancel()


def _say(answer: object) -> None:
    print(json.dumps(answer), flush=True)


class Server:
    """The process of the exchanges, seen from the other one."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._turn = asyncio.Lock()

    @classmethod
    async def start(cls, options: dict[str, Any]) -> tuple[Server, dict[str, dict[str, str]]]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, __file__, "--serve", json.dumps(options),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, limit=64 * MB,
        )  # fmt: skip
        server = cls(process)
        addresses: dict[str, dict[str, str]] = await server._answer()
        return server, addresses

    async def ask(self, *command: Any) -> Any:
        async with self._turn:
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(command).encode() + b"\n")
            return await self._answer()

    async def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            raise SystemExit(f"the exchanges ended with {await self._process.wait()}")
        return json.loads(line)

    async def end(self) -> None:
        self._process.kill()
        await self._process.wait()


# --- the feeds ---------------------------------------------------------------------------------------------------


class Watch(EventHandler):
    """Keeps count of states; of books, quotes and trades it does not hear."""

    def __init__(self) -> None:
        self.states: collections.Counter[tuple[str, str]] = collections.Counter()  # (exchange, new state)
        self.statuses: collections.Counter[tuple[str, str]] = collections.Counter()
        self.not_live: collections.defaultdict[str, set[str]] = collections.defaultdict(set)
        self.live: collections.defaultdict[str, set[str]] = collections.defaultdict(set)
        self.lost_at: dict[str, float] = {}  # by exchange, while a book is not LIVE
        self.recoveries: list[Recovery] = []

    def on_book_status(self, event: BookStatus) -> None:
        exchange, symbol = event.instrument.exchange, event.instrument.raw_symbol
        self.states[exchange, event.new.name] += 1
        if event.new is BookState.LIVE:
            self.live[exchange].add(symbol)
            self.not_live[exchange].discard(symbol)
            if not self.not_live[exchange] and exchange in self.lost_at:
                lost_at = self.lost_at.pop(exchange)
                self.recoveries.append(Recovery(lost_at, exchange, time.monotonic() - lost_at))
        elif event.new is not BookState.CROSSED:
            if symbol in self.live[exchange]:
                self.lost_at.setdefault(exchange, time.monotonic())
            self.not_live[exchange].add(symbol)

    def on_feed_status(self, event: FeedStatus) -> None:
        self.statuses[event.exchange, event.status] += 1

    def count_live(self) -> int:
        """How many books are LIVE."""
        return sum(len(symbols - self.not_live[name]) for name, symbols in self.live.items())


class Fault(NamedTuple):
    at: float  # time.monotonic()
    exchange: str
    what: str


class Recovery(NamedTuple):
    lost_at: float  # time.monotonic()
    exchange: str
    seconds: float


class Sample(NamedTuple):
    """The feeds' process at one moment."""

    at: float  # seconds after the start
    resident: int  # bytes
    cpu: float  # seconds
    messages: int
    sent: int
    server_cpu: float


def fault_choices(symbol: str) -> Iterator[dict[str, Any]]:
    """Yield what is done to an exchange, one after the other, about `symbol` where it is about one."""
    of_symbol: Sequence[Callable[[str], faults.AnyFault]] = (
        faults.Gap, faults.Duplicate, faults.Reorder, faults.Malformed, faults.WrongChecksum, faults.SequenceReset,
        faults.NewField, faults.UnknownEnum,
    )  # fmt: skip
    yield msgspec.to_builtins(faults.Disconnect())
    for make in of_symbol:
        yield msgspec.to_builtins(make(symbol))
    yield msgspec.to_builtins(faults.Disconnect(code=1001))
    yield msgspec.to_builtins(faults.UnknownEvent())
    yield msgspec.to_builtins(faults.UnknownSymbol())
    yield msgspec.to_builtins(faults.Mute(seconds=5.0))


class Soak:
    """The feeds, and what is seen of them while they run."""

    def __init__(self, handler: FeedHandler, watch: Watch, server: Server, options: argparse.Namespace) -> None:
        self._handler = handler
        self._count = sum(len(feed.symbols) for feed in handler.config.feeds)
        self._watch = watch
        self._server = server
        self._options = options
        self._random = random.Random(options.seed)
        self._began = 0.0
        self.samples: list[Sample] = []
        self.faults: list[Fault] = []
        self.stalls = Histogram()
        self.seconds_to_live = 0.0

    async def run(self) -> dict[str, list[str]]:
        """Return by exchange the symbols whose books are wrong at the end."""
        began = time.monotonic()
        await self._until(lambda: self._watch.count_live() == self._count, START_TIMEOUT)
        self._began = time.monotonic()
        self.seconds_to_live = self._began - began
        gc.collect()
        gc.freeze()
        watching = asyncio.ensure_future(self._watch_stalls())
        sampling = asyncio.ensure_future(self._sample())
        breaking = asyncio.ensure_future(self._break())
        await asyncio.sleep(self._options.minutes * 60)
        for task in (breaking, watching):
            task.cancel()
        await asyncio.sleep(SHOWN_AFTER)
        await self._until(lambda: self._watch.count_live() == self._count, SETTLE_TIMEOUT)
        sampling.cancel()
        await self._take_sample()
        truth = await self._server.ask("stand still")
        await self._until(lambda: not any(self._wrong(truth).values()), 20.0)
        return self._wrong(truth)

    async def _until(self, condition: Callable[[], bool], timeout: float) -> None:
        """Wait for a condition, or no longer than that."""
        deadline = time.monotonic() + timeout
        while not condition() and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.25)

    async def _watch_stalls(self) -> None:
        while True:
            due = time.monotonic_ns() + round(TIMER * 1e9)
            await asyncio.sleep(TIMER)
            self.stalls.record(max(0, time.monotonic_ns() - due))

    async def _sample(self) -> None:
        while True:
            await self._take_sample()
            await asyncio.sleep(self._options.sample_every)

    async def _take_sample(self) -> None:
        told = await self._server.ask("stats")
        self.samples.append(
            Sample(
                time.monotonic() - self._began,
                _resident(),
                time.process_time(),
                sum(line.frames for line in self._handler.lines),
                told["sent"],
                told["cpu"],
            )
        )

    async def _break(self) -> None:
        pause = self._options.fault_every / 2
        for number in itertools.count():
            await asyncio.sleep(pause)
            exchange = list(EXCHANGES)[number % len(EXCHANGES)]
            at = time.monotonic()
            what = await self._inject(exchange, number + number // len(EXCHANGES))
            self.faults.append(Fault(at, exchange, what))
            await asyncio.sleep(pause)

    async def _inject(self, exchange: str, number: int) -> str:
        """Do to an exchange the fault of that number, or the next that its protocol has; return its name."""
        choices = list(fault_choices(self._random.choice(sorted(self._watch.live[exchange]))))
        for offset in range(len(choices)):
            fault = choices[(number + offset) % len(choices)]
            if await self._server.ask("inject", exchange, fault):
                break
        return str(fault["type"])

    def _wrong(self, truth: dict[str, Any]) -> dict[str, list[str]]:
        return {
            name: [symbol for symbol, levels in truth[name].items() if not self._is_right(name, symbol, levels)]
            for name in truth
        }

    def _is_right(self, exchange: str, symbol: str, levels: list[list[list[str]]]) -> bool:
        book = self._book(exchange, symbol)
        if book is None or book.state is not BookState.LIVE:
            return False
        return all(
            book.exact(side)[:COMPARED] == [(Decimal(price), Decimal(qty)) for price, qty in levels[side]]
            for side in (0, 1)
        )

    def _book(self, exchange: str, symbol: str) -> OrderBook | None:
        instrument = self._handler.instruments.known(exchange, symbol)
        if instrument is None:
            return None
        books = (line.pipeline.books.book(instrument) for line in self._handler.feeds[exchange].lines)
        return next((book for book in books if book is not None), None)

    # --- what is told ---

    def report(self, latency: Latency, wrong: dict[str, list[str]]) -> str:
        first, last = self.samples[0], self.samples[-1]
        seconds = last.at - first.at
        quarter = next(sample for sample in self.samples if sample.at >= seconds / 4)
        rates = [
            (after.messages - before.messages) / (after.at - before.at)
            for before, after in zip(self.samples, self.samples[1:], strict=False)
            if after.at > before.at
        ]
        reached = latency.to_callback
        lines = [
            "# A soak",
            "",
            f"`benchmarks/soak.py`: {self._count} symbols of {len(EXCHANGES)} simulated exchanges on loopback, "
            f"{', '.join(CHANNELS)}, {self._lines()}{seconds / 60:.1f} minutes after "
            f"{self.seconds_to_live:.0f} s until every book was LIVE, a fault every "
            f"{self._options.fault_every:g} s. {machine()}",
            "",
            row(["", ""]),
            row(["---", "---"]),
            row(["messages received", f"{last.messages - first.messages:,}"]),
            row(["a second, mean", f"{(last.messages - first.messages) / seconds:,.0f}"]),
            row([f"a second, over {self._options.sample_every:g} s, least and most",
                 f"{min(rates):,.0f} and {max(rates):,.0f}"]),
            row(["CPU of the feeds' process", f"{(last.cpu - first.cpu) / seconds:.0%} of a core"]),
            row(["CPU of the exchanges' process", f"{(last.server_cpu - first.server_cpu) / seconds:.0%} of a core"]),
            row(["resident memory: start, a quarter, end",
                 ", ".join(f"{sample.resident / MB:.1f} MiB" for sample in (first, quarter, last))]),
            row(["stalls of the loop: p50, p99, p99.9, longest", _durations(self.stalls)]),
            row(["read to callback: p50, p99, p99.9, longest", _durations(reached)]),
            "",
            row(["exchange", "symbols", "connections", "made", "books lost", "GAP", "resync to LIVE",
                 "LIVE at the end", "right at the end"]),
            row(["---", *["--:"] * 8]),
        ]  # fmt: skip
        for name, feed in self._handler.feeds.items():
            states = self._watch.states
            count = len(feed.subscriptions)
            lives = len(self._watch.live[name] - self._watch.not_live[name])
            lost = sum(states[name, state] for state in ("GAP", "STALE"))
            lines.append(row([str(cell) for cell in (
                name, count, sum(len(line.legs) for line in feed.lines), sum(line.connects for line in feed.lines),
                lost, states[name, "GAP"], states[name, "LIVE"] - count, lives, count - len(wrong[name]),
            )]))  # fmt: skip
        lines += ["", row(["fault", "times", "losses", "seconds to recover: median, longest"])]
        lines.append(row(["---", "--:", "--:", "--:"]))
        for what in sorted({fault.what for fault in self.faults}):
            struck = [fault for fault in self.faults if fault.what == what]
            took = [seconds for fault in struck for seconds in self._recoveries(fault)]
            figures = f"{statistics.median(took):.2f}, {max(took):.2f}" if took else "-"
            lines.append(row([what, str(len(struck)), str(len(took)), figures]))
        return "\n".join(lines) + "\n"

    def _lines(self) -> str:
        return f"{self._options.lines} redundant lines where that can be, " if self._options.lines > 1 else ""

    def _recoveries(self, fault: Fault) -> list[float]:
        """Return the seconds that the books took which were lost between the fault and the exchange's next one."""
        until = min(
            (other.at for other in self.faults if other.exchange == fault.exchange and other.at > fault.at),
            default=math.inf,
        )
        return [
            recovery.seconds
            for recovery in self._watch.recoveries
            if recovery.exchange == fault.exchange and fault.at <= recovery.lost_at < until
        ]

    def failures(self, wrong: dict[str, list[str]]) -> Iterator[str]:
        """Yield what is not as it must be."""
        for name, symbols in wrong.items():
            if symbols:
                yield f"{name}: expected the exchange's book, found another: {', '.join(symbols[:10])}"
        start = next(sample for sample in self.samples if sample.at >= self.samples[-1].at / 4)
        end = self.samples[-1]
        if end.resident > start.resident * (1 + self._options.slack):
            yield f"expected flat memory, found {start.resident / MB:.1f} MiB and then {end.resident / MB:.1f} MiB"
        if self.stalls.max > self._options.stall * 1e6:
            yield f"expected no stall above {self._options.stall:g} ms, found {self.stalls.max / 1e6:.1f} ms"


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def _durations(histogram: Histogram) -> str:
    found = [histogram.quantile(q) for q in (0.5, 0.99, 0.999)] + [histogram.max]
    return ", ".join(f"{ns / 1e6:.2f} ms" for ns in found)


async def soak(options: argparse.Namespace) -> tuple[str, list[str]]:
    """Return the report, and what is not as it must be."""
    per_exchange = math.ceil(options.symbols / len(EXCHANGES))
    symbols = {name: symbols_of(name, per_exchange) for name in EXCHANGES}
    server, addresses = await Server.start({"symbols": symbols, "rate": options.rate})
    try:
        config = FeedHandlerConfig(
            feeds=tuple(
                ExchangeConfig(
                    exchange=name,
                    symbols=tuple(symbols[name]),
                    channels=CHANNELS,
                    endpoints=Endpoints(**addresses[name]),
                    config=FeedConfig(lines=options.lines if find_exchange(name).copies_differ is None else 1),
                )
                for name in EXCHANGES
            )
        )
        watch, latency = Watch(), Latency(is_live=True)
        downstream = conflated(LatencyProbe(watch, latency))
        async with FeedHandler(config, downstream, latency=latency) as handler:
            soaking = Soak(handler, watch, server, options)
            feeding = asyncio.ensure_future(handler.run())
            working = asyncio.ensure_future(soaking.run())
            await asyncio.wait([feeding, working], return_when=asyncio.FIRST_COMPLETED)
            if feeding.done():
                working.cancel()
                feeding.result()
            wrong = working.result()
            report, failures = soaking.report(latency, wrong), list(soaking.failures(wrong))
            handler.stop()
            await feeding
        return report, failures
    finally:
        await server.end()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--symbols", type=int, default=500, help="of all exchanges together")
    parser.add_argument("--rate", type=float, default=50_000.0, help="messages a second, of all exchanges together")
    parser.add_argument("--lines", type=int, default=1, help="connections that bring the same, where that can be")
    parser.add_argument("--fault-every", type=float, default=60.0, help="seconds")
    parser.add_argument("--sample-every", type=float, default=5.0, help="seconds")
    parser.add_argument(
        "--slack", type=float, default=0.05, help="share by which memory may grow after the first quarter"
    )
    parser.add_argument("--stall", type=float, default=50.0, help="ms that the loop may stand still")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="1 minute, 40 symbols, 2,000 messages a second")
    parser.add_argument("--write", action="store_true", help="write the section of RESULTS.md")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        if (os.cpu_count() or 1) > 1:
            pin(1)
        uvloop.run(serve(json.loads(options.serve)))
        return
    if options.quick:
        options.minutes, options.symbols, options.rate, options.fault_every = 1.0, 40, 2_000.0, 8.0
    pin(0)
    report, failures = uvloop.run(soak(options))
    print(report)
    if options.write:
        write_section(report)
    if failures:
        sys.exit("\n".join(failures))


if __name__ == "__main__":
    main()
