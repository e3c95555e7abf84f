"""The order book alone: ns per level of real depth streams, the top of the book, a snapshot, and memory.

    python benchmarks/book.py                       ours, with and without a window, and the peers that are there
    python benchmarks/book.py --peers PYTHON        with `sortedcontainers` and `order_book` of another environment
    python benchmarks/book.py --capture FILE ...    other recordings (default: the three of Binance)

What is in a figure: messages are decoded beforehand and lie one after the other in memory.

- change: all levels of all messages, applied through `OrderBook.apply`, the best bid and ask read after each message;
  ns per level.
- top 20: what copying the 20 best levels of both sides into a C array after each message costs more than reading the
  best ones; ns per message.
- snapshot: the stream's first snapshot, ns per level. "first" is into a new book, which allocates; "again" into one
  that holds the end of the stream, cleared before, as after a gap; "shuffled" is into a new one, in no order.
- memory: bytes of one book at the end of the stream, and the growth of the process by 1,000 such books.

Every round runs everything once, interleaved, each figure the median of its passes there, CPU time of the measuring
thread on one core where the system allows pinning; the table has medians over the rounds. That all books are equal is
checked: by every level for ours, by the best prices after every message for the Python peers.

"ours, sorted array only" is `max_window=0`. Python peers are given exactly the same changes, as integers. The C++ books
(`--baselines`) decode the capture by themselves; windows and array know the tick and are given prices in ticks, and a
window of theirs is centred for both sides, where each side of ours has its own.
"""

from __future__ import annotations

import argparse
import gc
import json
import pickle
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from measuring import RESULTS, ROOT, Figure, default_capture, load, loops, machine, pin, write_section

from feeds.book import DEFAULT_MAX_WINDOW, OrderBook
from feeds.events import BookDelta, EventHandler
from feeds.replay import Replay

CAPTURES = ("usdm-btcusdt", "cm-btcusd_perp", "spot-btcusdt")
OURS = {"ours": DEFAULT_MAX_WINDOW, "ours, sorted array only": 0}
PEER_BOOKS = Path(__file__).with_name("measuring") / "peer_books.py"
CPP = {  # what the C++ program calls them: those that a design could be
    "c++ sorted vector, best at back, hinted": "C++, sorted vector with a hint",
    "c++ sorted chunks of 128": "C++, sorted chunks of 128",
    "c++ tick window 16384 + sorted overflow": "C++, window of 16,384 ticks, both sides",
    "c++ tick window 65536 + sorted overflow": "C++, window of 65,536 ticks, both sides",
    "c++ tick array + bitmap": "C++, array of all ticks",
}

Figures = dict[tuple[str, str, str], list[float]]  # (row, what, capture) -> a figure per round


class Stream(NamedTuple):
    """The changes of one capture."""

    name: str
    path: Path
    instrument: Any
    changes: Any
    shuffled: Any  # the first snapshot alone, in no order; None where the stream begins without one


class Keep(EventHandler):
    def __init__(self) -> None:
        self.deltas: list[BookDelta] = []

    def on_book_delta(self, event: BookDelta) -> None:
        self.deltas.append(event)


def read(path: Path) -> Stream:
    keep = Keep()
    Replay(loops().MemorySource(load(path)), keep).run()
    if not keep.deltas:
        sys.exit(f"{path}: expected book messages of one symbol, found none")
    instrument = keep.deltas[0].instrument
    shuffled = None
    snapshot = next((delta for delta in keep.deltas if delta.is_snapshot), None)
    if snapshot is not None:
        sides = [random.Random(1).sample(levels, len(levels)) for levels in (snapshot.bids, snapshot.asks)]
        shuffled = loops().BookChanges([BookDelta(instrument, is_snapshot=True, bids=sides[0], asks=sides[1])])
    return Stream(path.stem.partition("_2")[0], path, instrument, loops().BookChanges(keep.deltas), shuffled)


# --- ours -----------------------------------------------------------------------------------------


def timed(run: Callable[[], object], passes: int) -> float:
    """Return the median CPU time of a pass, ns."""
    times = []
    for _ in range(passes):
        gc.collect()
        start = time.thread_time_ns()
        run()
        times.append(time.thread_time_ns() - start)
    return statistics.median(times)


def measure_ours(stream: Stream, max_window: int, passes: int) -> Iterator[tuple[str, float]]:
    """Yield (what, figure)."""
    changes = stream.changes

    def new() -> OrderBook:
        return OrderBook(stream.instrument, max_window=max_window)

    change = timed(lambda: changes.apply_to(new()), passes)
    top = timed(lambda: changes.apply_to(new(), 20), passes)
    yield "change", change / changes.level_count
    yield "top 20", (top - change) / len(changes)
    book = new()
    changes.apply_to(book)
    yield "memory", sys.getsizeof(book)
    if stream.shuffled is not None:
        size = changes.snapshot_size
        yield "snapshot, first", timed(lambda: changes.load_snapshot(new(), 1), passes * 5) / size
        yield "snapshot, again", timed(lambda: changes.load_snapshot(book, 10), passes) / 10 / size
        yield "snapshot, shuffled", timed(lambda: stream.shuffled.load_snapshot(new(), 1), passes * 5) / size


def thousand_books(stream: Stream) -> float:
    """Return by how many MiB 1,000 books at the end of the stream make a process grow."""
    command = [sys.executable, __file__, f"--thousand={stream.path}"]
    return float(_output(command).stdout)


def grow_by_a_thousand(path: Path) -> None:
    stream = read(path)
    books = [OrderBook(stream.instrument) for _ in range(1000)]
    stream.changes.apply_to(OrderBook(stream.instrument))
    before = _resident()
    for book in books:
        stream.changes.apply_to(book)
    print((_resident() - before) / 2**20)


def _resident() -> int:
    """Bytes of memory that the process has now; the most that it had, where the system does not tell."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * resource.getpagesize()
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


# --- peers ----------------------------------------------------------------------------------------


def measure_python_peers(python: str, stream: Stream, expected: int) -> Iterator[tuple[str, float]]:
    """Yield (row, ns per level); ends the program where a peer had other best prices."""
    with tempfile.NamedTemporaryFile(suffix=".pickle") as file:
        pickle.dump(stream.changes.as_messages(), file)
        file.flush()
        for line in _output([python, str(PEER_BOOKS), file.name]).stdout.splitlines():
            record = json.loads(line)
            if record["total"] != expected:
                sys.exit(f"{record['name']}: expected best prices to add up to {expected}, found {record['total']}")
            yield record["name"], record["ns"]


def measure_cpp(binary: Path, stream: Stream) -> Iterator[tuple[str, float]]:
    for line in _output([str(binary), "5", str(stream.path)]).stdout.splitlines():
        record = json.loads(line)
        if record["name"] in CPP:
            yield CPP[record["name"]], record["ns"]


def build_cpp(source: Path) -> Path | str:
    """Return the compiled C++ books, or why there are none."""
    binary = ROOT / "build" / "benchmarks" / "books"
    if not source.exists():
        return f"cpp/{source.name} is not in --baselines"
    if binary.exists() and binary.stat().st_mtime > source.stat().st_mtime:
        return binary
    if shutil.which("g++") is None:
        return "there is no g++"
    binary.parent.mkdir(parents=True, exist_ok=True)
    command = ["g++", "-std=c++17", "-O3", "-march=native", str(source), "-o", str(binary), "-lz", "-lsimdjson"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        return next((line for line in done.stderr.splitlines() if "error" in line), "g++ failed").strip()
    return binary


def _output(command: list[str]) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: ended with {done.returncode}\n{done.stderr}")
    return done


# --- rounds and report ----------------------------------------------------------------------------


def run_rounds(streams: list[Stream], cpp: Path | str, options: argparse.Namespace) -> Figures:
    figures: Figures = {}

    def add(row: str, what: str, stream: Stream, figure: float) -> None:
        figures.setdefault((row, what, stream.name), []).append(figure)

    for stream in streams:
        expected = check(stream)
        for number in range(1, options.rounds + 1):
            print(f"{stream.name}: round {number} of {options.rounds}", file=sys.stderr)
            for row, max_window in OURS.items():
                for what, figure in measure_ours(stream, max_window, options.passes):
                    add(row, what, stream, figure)
            for row, figure in measure_python_peers(options.peers, stream, expected):
                add(row, "change", stream, figure)
            if isinstance(cpp, Path):
                for row, figure in measure_cpp(cpp, stream):
                    add(row, "change", stream, figure)
        add("ours", "1,000 books", stream, thousand_books(stream))
    return figures


def check(stream: Stream) -> int:
    """Ends the program unless our books agree with and without a window; return the sum of their best prices."""
    books = [OrderBook(stream.instrument, max_window=max_window) for max_window in OURS.values()]
    totals = {stream.changes.apply_to(book) for book in books}
    if len(totals) > 1 or any(books[0].exact(side) != books[1].exact(side) for side in (0, 1)):
        sys.exit(f"{stream.name}: expected one book, found two: best prices add up to {totals}")
    return int(totals.pop())


def report(figures: Figures, streams: list[Stream], absent: dict[str, str], options: argparse.Namespace) -> str:
    names = [stream.name for stream in streams]
    rows = list(dict.fromkeys(row for row, _, _ in figures))

    def cells(row: str, what: str) -> list[str]:
        return [str(Figure(figures[row, what, name])) if (row, what, name) in figures else "-" for name in names]

    def ratio(row: str, name: str) -> str:
        pairs = zip(figures[row, "change", name], figures["ours", "change", name], strict=True)
        return f"{statistics.median(theirs / ours for theirs, ours in pairs):.2f}"

    lines = [
        "# The order book",
        "",
        *(
            f"- `{stream.name}`: {len(stream.changes):,} messages, {stream.changes.level_count:,} levels, "
            f"{stream.changes.snapshot_size:,} of them in the first message."
            for stream in streams
        ),
        "",
        f"Rounds: {options.rounds}; CPU time of the measuring thread, {options.pinned}. {machine()}",
        "What is in a figure, and in which way: the docstring of `benchmarks/book.py`.",
        "",
        _row(["ns per level changed", *names, "x ours"]),
        _row(["---", *["--:"] * (len(names) + 1)]),
        *(_row([row, *cells(row, "change"), " / ".join(ratio(row, name) for name in names)]) for row in rows),
        "",
    ]
    for heading, whats in (
        ("ns per message, top 20 of both sides", ["top 20"]),
        ("ns per level of a snapshot", ["snapshot, first", "snapshot, again", "snapshot, shuffled"]),
        ("memory of a book, bytes", ["memory"]),
    ):
        lines += [_row([heading, *names]), _row(["---", *["--:"] * len(names)])]
        for what in whats:
            detail = what.partition(", ")[2]
            lines += [_row([f"{row}{f'; {detail}' if detail else ''}", *cells(row, what)]) for row in OURS]
        lines.append("")
    grown = ", ".join(f"{figures['ours', '1,000 books', name][0]:,.0f}" for name in names)
    lines.append(f"1,000 books at the end of these streams make a process grow by {grown} MiB.")
    lines += [f"Not measured: {title}: {reason}." for title, reason in absent.items()]
    return "\n".join(lines) + "\n"


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _parse() -> argparse.Namespace:
    folder = default_capture().parent
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--capture", type=Path, nargs="+", help="Binance, one symbol each")
    parser.add_argument("--peers", default=sys.executable, help="Python of an environment with the peers")
    parser.add_argument("--baselines", type=Path, default=ROOT / "../shared/baselines", help="folder of the C++ books")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--passes", type=int, default=5, help="of ours, in each round")
    parser.add_argument("--core", type=int, help="to be pinned to (default: the last)")
    parser.add_argument("--write", action="store_true", help=f"write the section in {RESULTS.name} too")
    parser.add_argument("--thousand", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.capture is None:
        options.capture = [folder / f"{name}_20240808.gz" for name in CAPTURES]
    return options


def main() -> None:
    options = _parse()
    if options.thousand:
        grow_by_a_thousand(options.thousand)
        return
    streams = [read(path) for path in options.capture]
    cpp = build_cpp(options.baselines / "cpp" / "books.cpp")
    absent = {} if isinstance(cpp, Path) else {"the C++ books": cpp}
    for module in ("order_book", "sortedcontainers"):
        if subprocess.run([options.peers, "-c", f"import {module}"], capture_output=True).returncode:
            absent[module] = "it is not installed, see --peers"
    options.pinned = pin(options.core)
    text = report(run_rounds(streams, cpp, options), streams, absent, options)
    print(text, end="", flush=True)
    if options.write:
        write_section(text)


if __name__ == "__main__":
    main()
