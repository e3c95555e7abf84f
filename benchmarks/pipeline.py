"""From bytes to the strategy: ns per message of this project and of its peers, in one run.

    python benchmarks/pipeline.py                              ours, and the peers that are there
    python benchmarks/pipeline.py --cryptofeed-python PATH     with cryptofeed, from an environment that has it
    python benchmarks/pipeline.py --callgrind                  and instructions per message of ours: half an hour
    python benchmarks/pipeline.py --latency                    what `feeds.latency` costs, and nothing else

What is in a figure of ours: `Replay.run` over a source that is already in memory, so reading and decompression are not
in it, and everything after it is: one cursor step and one `Pipeline` call per message, decoding, sequence checks, the
book, conflation, and the handler's callbacks. Every message is a batch of its own, so conflation saves nothing here: a
live burst costs less. The loop over the messages is compiled (`measuring/loops.pyx`), a few ns per message.

The same messages go to every program; the final books of all must be identical, and a difference ends the run. A figure
is CPU time of the measuring thread, on one core where the system allows pinning. Programs take turns: each round runs
each program once, in a process of its own, and takes the median of its passes there. The table has medians over the
rounds; ratios are taken inside a round, then the median of them.

`--latency` runs ours in one process, off and on in turns, pass by pass: the medians of both, and of their differences.
"On" is what `feeds replay --latency` does, "every message" is `Latency(every=1)`.

The peers are scripts beside the project (`--baselines`): C++ scanners that assume field order and check nothing, which
are a lower bound, not a design; msgspec with two dicts for a book; and cryptofeed's own message handler.
"""

from __future__ import annotations

import argparse
import functools
import gc
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from measuring import RESULTS, ROOT, Figure, collected, default_capture, load, loops, machine, pin, row, write_section
from measuring.charts import Bar, Panel, draw
from measuring.charts import missing as charts_missing

from feeds.conflation import conflated
from feeds.events import EventHandler
from feeds.latency import Latency, LatencyProbe
from feeds.replay import Replay
from strategies.imbalance import BookImbalance as PythonImbalance
from strategies.imbalance_cython import BookImbalance as CythonImbalance

KINDS = {"all": "all", "depth": "depth", "ticker": "best bid/offer", "trade": "trades"}
CHANNELS = {"depth": "depth", "ticker": "bookTicker", "trade": "trade"}  # on Binance
LIMIT = "C++, hand scanner, tick book"
CRYPTOFEED = "cryptofeed"

CHARTS = {theme: ROOT / "docs" / f"pipeline-{theme}.svg" for theme in ("light", "dark")}

Record = dict[str, Any]  # one JSON line: name, what (the kind), n, ns, and what the program found


# --- ours: runs in a process of its own -----------------------------------------------------------


class Ours(NamedTuple):
    """One way of running our pipeline."""

    title: str
    new_handler: Callable[[], EventHandler]
    reference: bool = False


OURS = {
    "count": Ours("ours, to a handler that counts", lambda: loops().Tally()),
    "cython": Ours("ours, to the Cython strategy", lambda: CythonImbalance().hosted()),
    "python": Ours("ours, to the Python strategy", lambda: PythonImbalance().hosted()),
    "reference": Ours("ours, reference engine, to a handler that counts", lambda: loops().Tally(), reference=True),
}


def measure(which: str, capture: Path, kinds: list[str], passes: int) -> Iterator[Record]:
    """Yield a record per kind: our pipeline over the messages of that kind, the median of so many passes."""
    ours = OURS[which]
    messages = load(capture)
    for kind in kinds:
        chosen = messages if kind == "all" else loops().of_channel(messages, CHANNELS[kind])
        count = len(chosen) - 1  # the source's declaration is no message of the exchange
        source = loops().MemorySource(chosen)
        times = []
        for _ in range(passes):
            handler = ours.new_handler()
            source.rewind()
            replay = Replay(source, conflated(handler), reference=ours.reference)
            gc.collect()
            start = time.thread_time_ns()
            replay.run()
            times.append(time.thread_time_ns() - start)
        yield {"what": kind, "n": count, "ns": statistics.median(times) / count, "book": checksum(replay)}


def checksum(replay: Replay) -> str | None:
    """Return the FNV-1a hash of the final book that the peers print too: every level, in units of 1e-8, best first."""
    books = [book for pipeline in replay.pipelines for book in pipeline.books.books]
    if not books:
        return None
    state = 1469598103934665603
    for side in (0, 1):
        for level in books[0].exact(side):
            for number in level:
                state = (state ^ int(number.scaleb(8))) * 1099511628211 % 2**64
    return f"{state:016x}"


# --- what measuring latency costs -----------------------------------------------------------------

MEASURING: dict[str, Callable[[], Latency | None]] = {
    "off": lambda: None,
    "on": Latency,
    "on, every message": lambda: Latency(every=1),
}


def measure_latency(capture: Path, kinds: list[str], passes: int) -> dict[tuple[str, str], list[float]]:
    """Return (way, kind) -> ns per message of each pass, to a handler that counts; the ways take turns."""
    messages = load(capture)
    found: dict[tuple[str, str], list[float]] = {}
    for kind in kinds:
        chosen = messages if kind == "all" else loops().of_channel(messages, CHANNELS[kind])
        source = loops().MemorySource(chosen)
        for _ in range(passes):
            for way, new in MEASURING.items():
                latency, handler = new(), loops().Tally()
                head = handler if latency is None else LatencyProbe(handler, latency)
                source.rewind()
                replay = Replay(source, conflated(head), latency=latency)
                gc.collect()
                start = time.thread_time_ns()
                replay.run()
                found.setdefault((way, kind), []).append((time.thread_time_ns() - start) / (len(chosen) - 1))
    return found


def latency_report(found: dict[tuple[str, str], list[float]], options: argparse.Namespace) -> str:
    def added(way: str, kind: str) -> str:
        pairs = list(zip(found[way, kind], found["off", kind], strict=True))
        more = statistics.median(on - off for on, off in pairs)
        return f"{more:+.1f} ({statistics.median(on / off for on, off in pairs):.3f})"

    kinds = options.kinds
    lines = [
        "# What measuring latency costs",
        "",
        f"`{options.capture.name}` to a handler that counts, {options.passes} passes of each in turns, in one process;",
        f"CPU time, {options.pinned}. {machine()}",
        "",
        row(["ns per message", *(KINDS[kind] for kind in kinds)]),
        row(["---", *["--:"] * len(kinds)]),
        *(row([way, *(str(Figure(found[way, kind])) for kind in kinds)]) for way in MEASURING),
        *(row([f"{way}: more (x)", *(added(way, kind) for kind in kinds)]) for way in MEASURING if way != "off"),
    ]
    return "\n".join(lines) + "\n"


# --- everybody -----------------------------------------------------------------------------------


class Program(NamedTuple):
    """One row of the table: `run(kinds)` yields a record per kind."""

    title: str
    run: Callable[[list[str]], Iterator[Record]]


def run_ours(which: str, capture: Path, passes: int, kinds: list[str]) -> Iterator[Record]:
    return _records([*_worker(which, capture, kinds), f"--passes={passes}"], {})


def _worker(which: str, capture: Path, kinds: list[str]) -> list[str]:
    return [sys.executable, __file__, f"--worker={which}", f"--capture={capture}", f"--kinds={','.join(kinds)}"]


def run_cpp(binary: Path, scanner: str, capture: Path, tick: int, kinds: list[str]) -> Iterator[Record]:
    for kind in kinds:
        yield from _records([str(binary), scanner, kind, "5", str(capture)], {"TICK": str(tick)})


def run_msgspec(python: str, baselines: Path, capture: Path, kinds: list[str]) -> Iterator[Record]:
    for kind in kinds:
        case = "floats+dict" if kind in ("all", "depth") else "floats+none"  # without depth there is no book to keep
        command = [python, str(baselines / "py_msgspec.py"), kind, str(capture)]
        yield from _records(command, {"ONLY": case, "REPS": "3"})


def run_cryptofeed(python: str, baselines: Path, capture: Path, kinds: list[str]) -> Iterator[Record]:
    for kind in kinds:
        yield from _records([python, str(baselines / "py_cryptofeed.py"), kind, "usdm", str(capture)], {})


def _records(command: list[str], environment: dict[str, str]) -> Iterator[Record]:
    done = subprocess.run(
        command,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"} | environment,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        sys.exit(f"{' '.join(command)}: ended with {done.returncode}\n{done.stderr}")
    for line in done.stdout.splitlines():
        record = json.loads(line)
        found = re.search(r"\bbook ([0-9a-f]{16})", done.stderr)  # the Python peers say it there
        if found:
            record["book"] = found[1]
        yield record


def find_programs(options: argparse.Namespace) -> tuple[list[Program], dict[str, str]]:
    """Return the programs to run, and for each peer that cannot, the reason."""
    capture, baselines = options.capture, options.baselines
    programs = [
        Program(ours.title, functools.partial(run_ours, which, capture, options.passes)) for which, ours in OURS.items()
    ]
    absent = {}
    binary = _build_limit(baselines / "cpp" / "limit.cpp")
    for title, scanner in ((LIMIT, "tick"), ("C++, hand scanner, sorted flat book", "hand")):
        if isinstance(binary, str):
            absent[title] = binary
        else:
            programs.append(Program(title, functools.partial(run_cpp, binary, scanner, capture, options.tick)))
    python = options.cryptofeed_python or sys.executable
    for title, script, modules, run in (
        ("msgspec typed, dict book", "py_msgspec.py", "msgspec, order_book, sortedcontainers", run_msgspec),
        (CRYPTOFEED, "py_cryptofeed.py", "cryptofeed", run_cryptofeed),
    ):
        missing = _missing(python, modules) if (baselines / script).exists() else f"{script} is not in --baselines"
        if missing:
            absent[title] = missing
        else:
            programs.append(Program(title, functools.partial(run, python, baselines, capture)))
    return programs, absent


def _missing(python: str, modules: str) -> str:
    """Say why a Python cannot import the modules; empty when it can."""
    try:
        done = subprocess.run([python, "-c", f"import {modules}"], capture_output=True, text=True)
    except OSError as error:
        return str(error)
    return done.stderr.strip().splitlines()[-1] if done.returncode else ""


def _build_limit(source: Path) -> Path | str:
    """Return the compiled C++ reference, or why there is none."""
    binary = ROOT / "build" / "benchmarks" / "limit"
    if not source.exists():
        return f"cpp/{source.name} is not in --baselines"
    if binary.exists() and binary.stat().st_mtime > source.stat().st_mtime:
        return binary
    compiler = shutil.which("g++")
    if compiler is None:
        return "there is no g++"
    binary.parent.mkdir(parents=True, exist_ok=True)
    command = [compiler, "-std=c++17", "-O3", "-march=native", str(source), "-o", str(binary), "-lz", "-lsimdjson"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        return next((line for line in done.stderr.splitlines() if "error" in line), "g++ failed").strip()
    return binary


def run_rounds(programs: list[Program], kinds: list[str], rounds: int) -> list[Record]:
    """Return every record of every round, with `round` and `title`. Ends the program where two final books differ."""
    records = []
    books: dict[tuple[str, str], str] = {}  # (kind, hash) -> who has it
    for number in range(1, rounds + 1):
        for program in programs:
            print(f"round {number} of {rounds}: {program.title}", file=sys.stderr)
            for record in program.run(kinds):
                records.append(record | {"round": number, "title": program.title})
                # Depth on its own differs: cryptofeed is given the snapshot apart from the messages.
                if record.get("book") and record["what"] == "all":
                    books.setdefault((record["what"], record["book"]), program.title)
    if len(books) > 1:
        sys.exit(f"expected one final book, found {books}")
    return records


# --- the table ------------------------------------------------------------------------------------


def table(records: list[Record], programs: list[Program], kinds: list[str]) -> list[str]:
    """Return the lines of the Markdown table: a row per program."""
    ns = {(r["title"], r["what"], r["round"]): r["ns"] for r in records}
    rounds = sorted({r["round"] for r in records})
    titles = [program.title for program in programs]

    def figure(title: str, kind: str) -> Figure:
        return Figure(ns[title, kind, number] for number in rounds)

    def ratio(over: str, under: str, kind: str) -> str:
        if over not in titles or under not in titles:
            return "-"
        return f"{statistics.median(ns[over, kind, n] / ns[under, kind, n] for n in rounds):.2f}"

    head = ["ns per message", *(KINDS[k] for k in kinds), f"range ({kinds[0]})", "x the C++ limit", "cryptofeed is x"]
    lines = [row(head), row(["---", *["--:"] * (len(head) - 1)])]
    for title in titles:
        cells = [title, *(str(figure(title, kind)) for kind in kinds), figure(title, kinds[0]).range]
        cells.append(" / ".join(ratio(title, LIMIT, kind) for kind in kinds))
        cells.append(" / ".join(ratio(CRYPTOFEED, title, kind) for kind in kinds))
        lines.append(row(cells))
    return lines


def panels(records: list[Record], programs: list[Program], kinds: list[str]) -> list[Panel]:
    """Return a chart per kind of message: what everybody needs for one, except our reference engine."""
    found = []
    for kind in kinds:
        bars = []
        for program in programs:
            values = [r["ns"] for r in records if (r["title"], r["what"]) == (program.title, kind)]
            if values and program.title != OURS["reference"].title:
                colour = "ours" if program.title.startswith("ours") else "limit" if program.title == LIMIT else "peer"
                bars.append(Bar(program.title.replace("C++, hand scanner", "C++"), statistics.median(values), colour))
        if bars:
            found.append(Panel(f"CPU ns for a message: {KINDS[kind]}", bars, is_log=True))
    return found


def draw_charts(chosen: list[Panel]) -> None:
    """Draw the charts into docs/, or say why not."""
    reason = charts_missing() or ("they need all kinds of messages" if len(chosen) < len(KINDS) else "")
    if reason:
        print(f"No charts: {reason}.", file=sys.stderr)
        return
    for theme, path in CHARTS.items():
        draw(path, "From bytes to the strategy, logarithmic", chosen, theme)


def report(records: list[Record], programs: list[Program], absent: dict[str, str], options: argparse.Namespace) -> str:
    kinds = options.kinds
    count = {record["what"]: record["n"] for record in reversed(records)}  # ours: cryptofeed's leave the snapshot out
    books = sum(bool(r.get("book")) for r in records if r["what"] == "all" and r["round"] == 1)
    lines = [
        "# From bytes to the strategy",
        "",
        f"Messages of `{options.capture.name}`: " + ", ".join(f"{count[kind]:,} {KINDS[kind]}" for kind in kinds) + ".",
        f"Rounds: {options.rounds}; CPU time of the measuring thread, {options.pinned}. {machine()}",
        "Ratios are in the order of the columns: " + " / ".join(KINDS[kind] for kind in kinds) + ".",
        "What is in a figure, and in which way: the docstring of `benchmarks/pipeline.py`.",
        "",
        *table(records, programs, kinds),
        "",
        *(f"Not measured: {title}: {reason}." for title, reason in absent.items()),
        *([f"The final book of `all` is identical in the {books} programs that tell it."] if books else []),
    ]
    return "\n".join(lines) + "\n"


# --- instructions -----------------------------------------------------------------------------------


def count_instructions(options: argparse.Namespace) -> Iterator[str]:
    """Yield a Markdown table: callgrind's total of two passes less that of one, per message."""
    yield row(["instructions per message", *(KINDS[kind] for kind in options.kinds)])
    yield row(["---", *["--:"] * len(options.kinds)])
    for which, ours in OURS.items():
        print(f"counting: {ours.title}", file=sys.stderr)
        cells = [ours.title]
        for kind in options.kinds:
            one, n = _collected(which, options.capture, kind, 1)
            two, n = _collected(which, options.capture, kind, 2)
            cells.append(f"{(two - one) / n:,.0f}")
        yield row(cells)


def _collected(which: str, capture: Path, kind: str, passes: int) -> tuple[int, int]:
    instructions, printed = collected([*_worker(which, capture, [kind]), f"--passes={passes}"])
    return instructions, json.loads(printed)["n"]


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--capture", type=Path, default=default_capture(), help="Binance USD-M, one symbol")
    parser.add_argument(
        "--baselines", type=Path, default=ROOT / "../shared/baselines", help="folder of the peers' scripts"
    )
    parser.add_argument("--cryptofeed-python", help="Python of an environment with cryptofeed, for it and msgspec")
    parser.add_argument("--tick", type=int, default=10_000_000, help="tick size of the capture, in units of 1e-8")
    parser.add_argument("--kinds", type=lambda text: text.split(","), default=list(KINDS), help=",".join(KINDS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--passes", type=int, default=3, help="of ours, in each round")
    parser.add_argument("--core", type=int, help="to be pinned to (default: the last)")
    parser.add_argument("--callgrind", action="store_true", help="count instructions too, which takes long")
    parser.add_argument("--latency", action="store_true", help="what measuring latency costs, and nothing else")
    parser.add_argument("--json", action="store_true", help="every record as a JSON line instead of the table")
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.name} and the charts too")
    parser.add_argument("--worker", choices=OURS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.callgrind and shutil.which("valgrind") is None:
        parser.error("--callgrind: expected valgrind on the path")
    unknown = set(options.kinds) - set(KINDS)
    if unknown:
        parser.error(f"--kinds: expected some of {', '.join(KINDS)}, found {', '.join(unknown)}")
    return options


def main() -> None:
    options = _parse()
    if options.worker:
        for record in measure(options.worker, options.capture, options.kinds, options.passes):
            print(json.dumps(record))
        return
    loops()  # compiled once, before anybody is measured
    if options.latency:
        options.pinned = pin(options.core)
        text = latency_report(measure_latency(options.capture, options.kinds, options.passes), options)
        _publish(text, text, options)
        return
    programs, absent = find_programs(options)
    options.pinned = pin(options.core)
    records = run_rounds(programs, options.kinds, options.rounds)
    text = report(records, programs, absent, options)
    _publish(text, text, options)
    if options.write:
        draw_charts(panels(records, programs, options.kinds))
    if options.callgrind:
        counted = "\n" + "\n".join(count_instructions(options)) + "\n"
        _publish(counted, text + counted, options)
    if options.json:
        for record in records:
            print(json.dumps(record))


def _publish(news: str, section: str, options: argparse.Namespace) -> None:
    if not options.json:
        print(news, end="", flush=True)
    if options.write:
        write_section(section)


if __name__ == "__main__":
    main()
