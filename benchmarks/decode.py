"""From bytes to events: ns per message of every exchange and kind of message, over real traffic, beside cryptofeed.

    python benchmarks/decode.py                              ours
    python benchmarks/decode.py --cryptofeed-python PATH     and cryptofeed, from an environment that has it
    python benchmarks/decode.py --only okx,kraken            these exchanges

What is in a figure of ours: one cursor step of a source in memory and one `Pipeline` call for the message, which is a
batch of its own: decoding, sequence checks, checksums, the book, conflation, and a handler that counts. What is in one
of cryptofeed: its `message_handler`, which does the same, awaited, and callbacks that count. In both the time is read
before and after each message, which costs ours some 25 ns.

A kind is what our decoder makes of a message: `snapshot` is a whole book, `top` the best levels of one. Answers and
heartbeats are played, as sequence numbers need it, and are no row. Each capture is played by both programs in turn, a
round after the other, cryptofeed in a process of its own; in each round `--passes` times, of which the best counts. The
table has medians over the rounds; the ratio is taken inside a round, over the captures in which cryptofeed decodes the
kind.
"-": there is none: it is not there, has no such exchange, or speaks a newer protocol. It decodes a kind where it does
not raise, and calls back for half of the messages at least.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from measuring import RESULTS, Figure, default_capture, load, loops, machine, pin, row, short, write_section

from feeds.conflation import conflated
from feeds.events import BookDelta
from feeds.exchange import exchange_ids
from feeds.instrument import Instruments
from feeds.recording import Kind, RawMessage, RecordingError
from feeds.replay import Replay
from feeds.testing import EventLog

WORKER = Path(__file__).resolve().parent / "measuring" / "cryptofeed_worker.py"
OTHER = "other"  # what emits nothing
KINDS = {
    "Trade": "trade",
    "Quote": "quote",
    "Ticker": "ticker",
    "Funding": "funding",
    "OpenInterest": "open interest",
    "Liquidation": "liquidation",
    "Candle": "candle",
}
# What cryptofeed calls the exchanges of which there are captures.
PEERS = {
    "binance": "Binance",
    "binance-delivery": "BinanceDelivery",
    "binance-futures": "BinanceFutures",
    "bitfinex": "Bitfinex",
    "bitflyer": "Bitflyer",
    "bitget": "Bitget",
    "bithumb": "Bithumb",
    "bitstamp": "Bitstamp",
    "bybit": "Bybit",
    "coinbase": "Coinbase",
    "deribit": "Deribit",
    "dydx": "dYdX",
    "gateio": "Gate",
    "gateio-futures": "GateFutures",
    "gemini": "Gemini",
    "htx": "HTX",
    "htx-swap": "HTXSwap",
    "kraken": "Kraken",
    "kraken-futures": "KrakenFutures",
    "kucoin": "KuCoin",
    "okx": "OKX",
    "phemex": "Phemex",
    "upbit": "Upbit",
}


@dataclass
class Capture:
    """The messages of one file, and for each record the kind of what our decoder makes of it."""

    path: Path
    exchange: str
    url: str
    records: list[RawMessage]
    kinds: list[str] = field(default_factory=list)
    instruments: Instruments = field(default_factory=lambda: Instruments(infer=True))

    def classify(self) -> None:
        """Play it once, which also makes the instruments known, as metadata would."""
        log = EventLog()
        replay = Replay(loops().MemorySource(self.records), log, instruments=self.instruments)
        for record in self.records:
            replay.run(max_records=1)
            is_message = record.kind in (Kind.TEXT, Kind.BINARY)
            self.kinds.append((is_message and kind_of(log)) or OTHER)
            log.clear()

    def counts(self) -> dict[str, tuple[int, int]]:
        """Return of each kind that has a row how many messages there are, and their bytes."""
        found: dict[str, tuple[int, int]] = {}
        for record, kind in zip(self.records, self.kinds, strict=True):
            if kind != OTHER:
                count, size = found.get(kind, (0, 0))
                found[kind] = count + 1, size + len(record.payload)
        return found

    def measure(self, passes: int) -> dict[str, float]:
        """Return the ns of all messages of each kind in the best of so many passes."""
        names = sorted(set(self.kinds))
        numbers = bytes(names.index(kind) for kind in self.kinds)
        found = []
        for _ in range(passes):
            handler = conflated(loops().Tally())
            replay = Replay(loops().MemorySource(self.records), handler, instruments=self.instruments)
            found.append(loops().time_records(replay, numbers, len(names)))
        return {name: min(times) for name, times in zip(names, zip(*found, strict=True), strict=True)}

    def spec(self, passes: int) -> dict[str, Any]:
        """Return what the worker of cryptofeed is given."""
        messages = []
        for record, kind in zip(self.records, self.kinds, strict=True):
            if record.kind == Kind.TEXT:
                messages.append([record.payload.decode(), False, record.ts_recv / 1e9, kind])
            elif record.kind == Kind.BINARY:
                messages.append([record.payload.hex(), True, record.ts_recv / 1e9, kind])
        known = [one for one in self.instruments if one.exchange == self.exchange]
        symbols = {one.symbol or f"S{one.index}-USD": one.raw_symbol for one in known}
        if self.exchange == "gemini":  # as its messages of the time write them
            symbols = {name: raw.upper() for name, raw in symbols.items()}
        return {
            "class": PEERS[self.exchange],
            "url": self.url,
            "symbols": symbols,
            "replies": {r.tag: r.payload.decode() for r in self.records if r.kind == Kind.REPLY and r.tag},
            "messages": messages,
            "passes": passes,
        }


def kind_of(log: EventLog) -> str:
    """Name the kind of a message by the events that it emitted; empty where there are none."""
    names = set()
    for event in log.events:
        if isinstance(event, BookDelta):
            names.add("top" if event.depth else "snapshot" if event.is_snapshot else "book")
        elif type(event).__name__ in KINDS:
            names.add(KINDS[type(event).__name__])
    return " + ".join(sorted(names))


def find_captures(folder: Path, only: list[str], most: int) -> Iterator[Capture]:
    """Yield the captures that a decoder of ours reads, of each the first so many records."""
    for path in sorted([*folder.glob("exchanges/*.ws.*.gz"), *folder.glob("binance/*.gz")]):
        try:
            records = load(path)[:most]
        except RecordingError:  # of an exchange that we do not know
            continue
        declared = json.loads(records[0].payload)
        if declared["exchange"] in (only or exchange_ids()):
            capture = Capture(path, declared["exchange"], declared.get("url", ""), records)
            capture.classify()
            yield capture


# --- cryptofeed -----------------------------------------------------------------------------------


def cryptofeed_of(python: str, capture: Capture, passes: int) -> dict[str, float]:
    """Return the ns of all messages of each kind that cryptofeed decodes, in the best of so many passes."""
    if capture.exchange not in PEERS:
        return {}
    spec = json.dumps(capture.spec(passes))
    done = subprocess.run([python, str(WORKER)], input=spec, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{capture.path.name}: cryptofeed ended with {done.returncode}\n{done.stderr}")
    return {
        kind: found["ns"]
        for kind, found in json.loads(done.stdout).items()
        if not found["errors"] and found["calls"] * 2 >= found["n"]
    }


def missing(python: str | None) -> str:
    """Say why there is no cryptofeed; empty where there is."""
    if python is None:
        return "no --cryptofeed-python"
    try:
        done = subprocess.run([python, "-c", "import cryptofeed"], capture_output=True, text=True)
    except OSError as error:
        return str(error)
    return done.stderr.strip().splitlines()[-1] if done.returncode else ""


# --- the table ------------------------------------------------------------------------------------


@dataclass
class Row:
    """One exchange and kind, over all captures that have it; ns are of all messages, by round."""

    exchange: str
    kind: str
    messages: int = 0
    size: int = 0  # bytes of all messages
    ours: dict[int, float] = field(default_factory=dict)
    # In the captures in which cryptofeed decodes the kind: how many messages, what we need for them, and what it does.
    compared: int = 0
    ours_compared: dict[int, float] = field(default_factory=dict)
    theirs: dict[int, float] = field(default_factory=dict)

    def cells(self) -> list[str]:
        ours = Figure(ns / self.messages for ns in self.ours.values())
        cells = [self.exchange, self.kind, f"{self.messages:,}", f"{self.size / self.messages:,.0f}"]
        cells += [str(ours), ours.range]
        if not self.compared:
            return [*cells, "-", "-", "-", "-"]
        theirs = Figure(ns / self.compared for ns in self.theirs.values())
        ratio = statistics.median(ns / self.ours_compared[number] for number, ns in self.theirs.items())
        return [*cells, f"{self.compared:,}", str(theirs), theirs.range, short(ratio)]


def run_rounds(captures: list[Capture], rounds: int, passes: int, python: str | None) -> list[Row]:
    """Return the rows, sorted; `python` has cryptofeed, None: it is not measured."""
    rows: dict[tuple[str, str], Row] = {}
    for number in range(1, rounds + 1):
        for capture in captures:
            print(f"round {number} of {rounds}: {capture.path.name}", file=sys.stderr)
            ours = capture.measure(passes)
            theirs = {} if python is None else cryptofeed_of(python, capture, passes)
            for kind, (count, size) in capture.counts().items():
                one = rows.setdefault((capture.exchange, kind), Row(capture.exchange, kind))
                if number == 1:
                    one.messages += count
                    one.size += size
                    one.compared += count if kind in theirs else 0
                one.ours[number] = one.ours.get(number, 0.0) + ours[kind]
                if kind in theirs:
                    one.ours_compared[number] = one.ours_compared.get(number, 0.0) + ours[kind]
                    one.theirs[number] = one.theirs.get(number, 0.0) + theirs[kind]
    return [rows[key] for key in sorted(rows)]


def report(rows: list[Row], absent: str, options: argparse.Namespace) -> str:
    head = ["exchange", "kind", "messages", "bytes", "ours", "range"]
    head += ["messages of cryptofeed", "cryptofeed", "range", "cryptofeed is x"]
    lines = [
        "# Decoding, by exchange",
        "",
        f"ns per message, over captures of {len({one.exchange for one in rows})} exchanges; bytes are means.",
        f"Rounds: {options.rounds}, {options.pinned}. {machine()}",
        "What is in a figure, and what a kind is: the docstring of `benchmarks/decode.py`.",
        "",
        row(head),
        row(["---", "---", *["--:"] * (len(head) - 2)]),
        *(row(one.cells()) for one in rows),
    ]
    if absent:
        lines += ["", f"Not measured: cryptofeed: {absent}."]
    return "\n".join(lines) + "\n"


def _parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--captures", type=Path, default=default_capture().parents[1], help="folder of the captures")
    parser.add_argument("--cryptofeed-python", help="Python of an environment with cryptofeed")
    parser.add_argument("--only", type=lambda text: text.split(","), default=[], help="ids of exchanges")
    parser.add_argument("--messages", type=int, default=10_000, help="of a capture, at most")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--passes", type=int, default=2, help="of each program, in each round")
    parser.add_argument("--core", type=int, help="to be pinned to (default: the last)")
    parser.add_argument("--write", action="store_true", help=f"write the section in {RESULTS.name} too")
    options = parser.parse_args(arguments)
    if unknown := set(options.only) - set(exchange_ids()):
        parser.error(f"--only: expected some of {', '.join(exchange_ids())}, found {', '.join(sorted(unknown))}")
    return options


def main() -> None:
    options = _parse()
    loops()  # compiled once, before anybody is measured
    absent = missing(options.cryptofeed_python)
    options.pinned = pin(options.core)
    captures = list(find_captures(options.captures, options.only, options.messages))
    if not captures:
        sys.exit(f"{options.captures}: expected captures; name their folder with --captures, or in FEEDS_CAPTURES")
    rows = run_rounds(captures, options.rounds, options.passes, None if absent else options.cryptofeed_python)
    text = report(rows, absent, options)
    print(text, end="", flush=True)
    if options.write:
        write_section(text)


if __name__ == "__main__":
    main()
