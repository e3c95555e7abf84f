"""From a compressed file to the strategy: messages per second of this project and of its peers, in one run.

    python benchmarks/replay.py                                    ours, and the peers that are there
    python benchmarks/replay.py --cryptofeed-python PATH           with cryptofeed, of an environment that has it
    python benchmarks/replay.py --hftbacktest-python PATH          with hftbacktest's converter, the same
    python benchmarks/replay.py --tardis-dev node_modules/tardis-dev   with tardis-dev, a package of node
    python benchmarks/replay.py --callgrind                        and instructions per message of ours: minutes

The same session stands in three files: in our own format (zstd, as `feeds convert` writes it), in the collector format
and as tardis.dev stores it (gzip both). What is in a figure is everything from opening a file to its end: reading,
decompression, splitting into messages, decoding, sequence checks, the book, conflation, and the strategy's callbacks.
Every message is a batch of its own, so conflation saves nothing here. Ours are the strategies in `strategies/`.

Of the peers, tardis-dev gets its own format: gunzip, lines, JSON.parse, its mappers of trades, books and best bids and
offers, and its OrderBook, whose top is read after each change. It fetches its files and keeps them on disk before it
replays; that is left out. cryptofeed has no replay: its message handler gets the lines of the collector file, with
callbacks that do nothing. hftbacktest converts the collector file into the array that it backtests on, without book or
strategy. The books of all that have one must end with the same number of levels and best prices, else the run ends.

Programs take turns: each round runs each once, in a process of its own, and takes the median of its passes there. Wall
time and CPU time (of all threads) are of the same passes; the table has medians over the rounds, and ratios inside a
round.
"""

from __future__ import annotations

import argparse
import functools
import gc
import gzip
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

from measuring import RESULTS, Figure, collected, default_capture, machine, pin, row, write_section

from feeds.conflation import conflated
from feeds.events import EventHandler
from feeds.recording import Kind, open_recording
from feeds.recording.copying import copy_recording
from feeds.replay import Replay
from strategies.imbalance import BookImbalance as PythonImbalance
from strategies.imbalance_cython import BookImbalance as CythonImbalance

MEASURING = Path(__file__).resolve().parent / "measuring"
TARDIS_DEV = "tardis-dev"
FILES = {"native": "session.feeds", "collector": "collector.gz", "tardis": "tardis.gz"}
FORMATS = {"native": "our format, zstd", "collector": "collector format, gzip", "tardis": "tardis.dev's, gzip"}
STRATEGIES: dict[str, Callable[[], EventHandler]] = {
    "Cython": lambda: CythonImbalance().hosted(),
    "Python": lambda: PythonImbalance().hosted(),
}

Record = dict[str, Any]  # n, wall and cpu (ns of the median pass), top (levels and best prices of both sides, or null)


class Program(NamedTuple):
    """One way of playing one of the files."""

    title: str
    input: str  # of FORMATS
    run: Callable[[], Record]


# --- the files ------------------------------------------------------------------------------------


def make_files(capture: Path, folder: Path) -> str:
    """Write the capture in every format into `folder`; return the exchange that it is of."""
    with open_recording(capture) as source:
        copy_recording(source, folder / FILES["native"])
        exchange = str(source.sources[1]["exchange"])
    with open_recording(capture) as source, gzip.open(folder / FILES["collector"], "wb", compresslevel=6) as file:
        for message in source:
            if message.kind is not Kind.SOURCE:
                file.write(b"%d %b\n" % (message.ts_recv, message.payload))
    with open_recording(capture) as source, gzip.open(folder / FILES["tardis"], "wb", compresslevel=6) as file:
        for message in source:
            payload = message.payload
            if message.kind is Kind.REPLY:
                stream = f"{message.tag.lower()}@depthSnapshot"
                payload = b'{"stream":"%b","generated":true,"data":%b}' % (stream.encode(), payload)
            if message.kind is not Kind.SOURCE:
                file.write(_iso(message.ts_recv) + b" " + payload + b"\n")
    return exchange


def _iso(ts: int) -> bytes:
    """Return a time as tardis.dev writes it, in units of 100 ns."""
    moment = datetime.fromtimestamp(ts // 10**9, timezone.utc)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{ts % 10**9 // 100:07d}Z".encode()


# --- ours: runs in a process of its own -----------------------------------------------------------


def measure(path: Path, exchange: str, strategy: str, passes: int) -> Record:
    """Play a file so many times, and return the median of each."""
    found = []
    for _ in range(passes):
        handler = STRATEGIES[strategy]()
        gc.collect()
        wall, cpu = time.perf_counter_ns(), time.process_time_ns()
        with open_recording(path, exchange=exchange) as source:
            replay = Replay(source, conflated(handler))
            replay.run()
        found.append((time.perf_counter_ns() - wall, time.process_time_ns() - cpu))
    return {
        "n": replay.messages,
        "wall": statistics.median(wall for wall, _ in found),
        "cpu": statistics.median(cpu for _, cpu in found),
        "top": top(replay),
    }


def top(replay: Replay) -> list[float] | None:
    """Return how many levels each side of the final book has, and its best prices."""
    books = [book for pipeline in replay.pipelines for book in pipeline.books.books]
    if not books:
        return None
    (book, *_) = books
    return [book.bid_count, book.ask_count, float(book.exact(0)[0][0]), float(book.exact(1)[0][0])]


# --- everybody ------------------------------------------------------------------------------------


def _run(command: list[str]) -> Record:
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"})
    if done.returncode:
        sys.exit(f"{' '.join(command)}: ended with {done.returncode}\n{done.stderr}")
    record: Record = json.loads(done.stdout.splitlines()[-1])
    return record


def _ours(path: Path, exchange: str, strategy: str, passes: int) -> list[str]:
    options = (f"--worker={strategy}", f"--capture={path}", f"--exchange={exchange}", f"--passes={passes}")
    return [sys.executable, __file__, *options]


def find_programs(options: argparse.Namespace, folder: Path, exchange: str) -> tuple[list[Program], dict[str, str]]:
    """Return the programs to run, and for each peer that cannot, the reason."""
    programs = []
    for name, file in FILES.items():
        for strategy in STRATEGIES:
            command = _ours(folder / file, exchange, strategy, options.passes)
            title = f"ours, to the {strategy} strategy"
            programs.append(Program(title, name, functools.partial(_run, command)))
    absent = {}
    passes = str(options.passes)
    node = shutil.which("node")
    if options.tardis_dev is None:
        absent[TARDIS_DEV] = "no --tardis-dev"
    elif node is None:
        absent[TARDIS_DEV] = "there is no node"
    elif not (options.tardis_dev / "package.json").exists():
        absent[TARDIS_DEV] = f"{options.tardis_dev} is no package of node"
    else:
        script = str(MEASURING / "tardis_replay.mjs")
        command = [node, script, str(options.tardis_dev.resolve()), exchange, str(folder / FILES["tardis"]), passes]
        programs.append(Program(TARDIS_DEV, "tardis", functools.partial(_run, command)))
    for title, module, python, script in (
        ("cryptofeed", "cryptofeed", options.cryptofeed_python, "cryptofeed_replay.py"),
        ("hftbacktest, conversion", "hftbacktest", options.hftbacktest_python, "hftbacktest_replay.py"),
    ):
        reason = f"no --{module}-python" if python is None else _missing(python, module)
        if reason:
            absent[title] = reason
        else:
            command = [python, str(MEASURING / script), exchange, str(folder / FILES["collector"]), passes]
            programs.append(Program(title, "collector", functools.partial(_run, command)))
    return programs, absent


def _missing(python: str, module: str) -> str:
    """Say why a Python cannot import the module; empty when it can."""
    try:
        done = subprocess.run([python, "-c", f"import {module}"], capture_output=True, text=True)
    except OSError as error:
        return str(error)
    return done.stderr.strip().splitlines()[-1] if done.returncode else ""


def run_rounds(programs: list[Program], rounds: int) -> list[Record]:
    """Return the record of every program in every round. Ends the run where two final books differ."""
    records = []
    for number in range(1, rounds + 1):
        for program in programs:
            print(f"round {number} of {rounds}: {program.title}, {FORMATS[program.input]}", file=sys.stderr)
            records.append(program.run() | {"round": number, "title": program.title, "input": program.input})
    tops = {json.dumps(record["top"]): record["title"] for record in records if record["top"] is not None}
    if len(tops) > 1:
        sys.exit(f"expected one final book, found {tops}")
    return records


# --- the table ------------------------------------------------------------------------------------


def table(records: list[Record], programs: list[Program]) -> list[str]:
    """Return the lines of the Markdown table: a row per program."""
    found = {(r["title"], r["input"], r["round"]): r for r in records}
    rounds = sorted({r["round"] for r in records})

    def values(program: Program, what: str) -> list[float]:
        return [found[program.title, program.input, number][what] for number in rounds]

    peer = next((program for program in programs if program.title == TARDIS_DEV), None)
    lines = [
        row(["", "file", "messages/s", "range", "CPU ns a message", "range", "tardis-dev is x"]),
        row(["---", "---", *["--:"] * 5]),
    ]
    for program in programs:
        n = values(program, "n")
        rate = Figure(count * 1e9 / wall for count, wall in zip(n, values(program, "wall"), strict=True))
        cpu = Figure(cpu / count for count, cpu in zip(n, values(program, "cpu"), strict=True))
        times = "-"
        if peer is not None:
            pairs = zip(values(peer, "cpu"), values(program, "cpu"), strict=True)
            times = f"{statistics.median(theirs / own for theirs, own in pairs):.1f}"
        lines.append(row([program.title, FORMATS[program.input], str(rate), rate.range, str(cpu), cpu.range, times]))
    return lines


def report(records: list[Record], programs: list[Program], absent: dict[str, str], options: argparse.Namespace) -> str:
    books = len({(r["title"], r["input"]) for r in records if r["top"] is not None})
    lines = [
        "# From a file to the strategy",
        "",
        f"The {records[0]['n']:,} messages of `{options.capture.name}`, from compressed files in the system's cache.",
        f"Rounds: {options.rounds}; messages a second of wall time, CPU time of all threads; {options.pinned}.",
        machine(),
        "The last column compares CPU time. What is in a figure: the docstring of `benchmarks/replay.py`.",
        "",
        *table(records, programs),
        "",
        *(f"Not measured: {title}: {reason}." for title, reason in absent.items()),
        f"The final books of the {books} programs that have one have the same levels and best prices.",
    ]
    return "\n".join(lines) + "\n"


# --- instructions ---------------------------------------------------------------------------------


def count_instructions(folder: Path, exchange: str) -> Iterator[str]:
    """Yield a Markdown table: callgrind's total of two passes less that of one, per message."""
    yield row(["instructions per message", *FORMATS.values()])
    yield row(["---", *["--:"] * len(FORMATS)])
    for strategy in STRATEGIES:
        cells = [f"ours, to the {strategy} strategy"]
        for name, file in FILES.items():
            print(f"counting: {cells[0]}, {FORMATS[name]}", file=sys.stderr)
            one, n = _collected(_ours(folder / file, exchange, strategy, 1))
            two, n = _collected(_ours(folder / file, exchange, strategy, 2))
            cells.append(f"{(two - one) / n:,.0f}")
        yield row(cells)


def _collected(command: list[str]) -> tuple[int, int]:
    instructions, printed = collected(command)
    return instructions, json.loads(printed)["n"]


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--capture", type=Path, default=default_capture(), help="Binance, one symbol")
    parser.add_argument("--cryptofeed-python", help="Python of an environment with cryptofeed")
    parser.add_argument("--hftbacktest-python", help="Python of an environment with hftbacktest")
    parser.add_argument("--tardis-dev", type=Path, help="folder of that package of node")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--passes", type=int, default=5, help="of each program, in each round")
    parser.add_argument("--core", type=int, help="to be pinned to; by default the second core may decompress ahead")
    parser.add_argument("--callgrind", action="store_true", help="count instructions too, which takes long")
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.name} too")
    parser.add_argument("--worker", choices=STRATEGIES, help=argparse.SUPPRESS)
    parser.add_argument("--exchange", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.callgrind and shutil.which("valgrind") is None:
        parser.error("--callgrind: expected valgrind on the path")
    if not options.capture.exists():
        parser.error(f"{options.capture}: expected a capture; name one with --capture, or its folder in FEEDS_CAPTURES")
    return options


def main() -> None:
    options = _parse()
    if options.worker:
        print(json.dumps(measure(options.capture, options.exchange, options.worker, options.passes)))
        return
    options.pinned = "not pinned" if options.core is None else pin(options.core)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        exchange = make_files(options.capture, folder)
        programs, absent = find_programs(options, folder, exchange)
        text = report(run_rounds(programs, options.rounds), programs, absent, options)
        print(text, end="", flush=True)
        if options.callgrind:
            counted = "\n" + "\n".join(count_instructions(folder, exchange)) + "\n"
            print(counted, end="")
            text += counted
    if options.write:
        write_section(text)


if __name__ == "__main__":
    main()
