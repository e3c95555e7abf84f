"""Levels alone: ns per level of real JSON arrays of price levels, for every shape that exchanges send.

    python benchmarks/levels.py                ours, orjson, msgspec, and the C++ scanner where its source is there
    python benchmarks/levels.py --callgrind    and instructions per level of ours: some minutes

The arrays are cut out of captures, as text, each with what follows it in its message, and lie one after the other in
memory: up to 40,000 levels of each shape.
Arrays of symbols with more than 8 decimals are left out: all are read at the same ones.

- ours: `feeds.levels` into a C array of int64 mantissas, every byte checked. What is read equals `json` with `Decimal`,
  level for level, or the program ends.
- orjson, float: `orjson.loads`, then a list of (float, float).
- msgspec, str: typed structs or tuples of `str`: the text of numbers that are yet to be read; "-" where they are bare.
- msgspec, float: the same with floats, from quoted numbers by `strict=False`.
- C++: the hand-written scanner of the baselines (`--baselines`), which trusts every byte; it reads quoted pairs only.

Every round runs everything once, interleaved, each figure the median of its passes there, CPU time of the measuring
thread on one core where the system allows pinning; the table has medians over the rounds.
"""

from __future__ import annotations

import argparse
import gc
import gzip
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import orjson
from measuring import RESULTS, ROOT, Figure, collected, default_capture, loops, machine, pin, row, write_section

from feeds.levels import LevelShape, parse_levels, parse_sides

MAX_LEVELS = 40_000  # of one shape
MAX_DECIMALS = 8
OURS_TIMES = 10  # in a pass: one is short
ARRAY = re.compile(rb'"(?:b|a|bids|asks|bid|ask|changes)":(\[[\[{][^\]}]*[\]}](?:,[\[{][^\]}]*[\]}])*\])')
LIMIT = "C++"


class Shape(NamedTuple):
    """One shape, and where real levels of it are."""

    title: str
    capture: str  # in the folder of captures
    price: int | str = 0
    qty: int | str = 1
    options: dict[str, Any] = {}  # noqa: RUF012 - more of LevelShape, never changed
    text: type | None = None  # what msgspec makes of a level
    numbers: type | None = None

    @property
    def declared(self) -> LevelShape | None:
        """None: the pairs that need no declaration."""
        if (self.price, self.qty, self.options) == (0, 1, {}):
            return None
        return LevelShape(price=self.price, qty=self.qty, **self.options)


def _structs(price: str, qty: str, kind: type) -> type:
    return msgspec.defstruct("Level", [(price, kind), (qty, kind)], gc=False)


SHAPES = [
    Shape(
        '["1.5","2"]',
        "binance/usdm-btcusdt_20240808.gz",
        text=tuple[str, str],
        numbers=tuple[float, float],
    ),
    Shape(
        '["1.5","2","0","4"]',
        "exchanges/OKX.ws.1.0.gz",
        text=tuple[str, str, str, str],
        numbers=tuple[float, float, float, float],
    ),
    Shape(
        "[30070,55567], scaled",
        "exchanges/PHEMEX.ws.1.0.gz",
        options={"price_scale": 4},
        numbers=tuple[float, float],
    ),
    Shape(
        '["new",1.5,2.0]',
        "exchanges/DERIBIT.ws.1.0.gz",
        1,
        2,
        numbers=tuple[str, float, float],
    ),
    Shape(
        '["sell","1.5","2"]',
        "exchanges/COINBASE.ws.28.0.gz",
        1,
        2,
        options={"side": 0, "bid": "buy", "ask": "sell"},
        text=tuple[str, str, str],
    ),
    Shape(
        '{"price":"1.5","size":"2"}',
        "exchanges/HITBTC.ws.1.0.gz",
        "price",
        "size",
        text=_structs("price", "size", str),
        numbers=_structs("price", "size", float),
    ),
    Shape(
        '{"price":1.5,"size":2.0}',
        "exchanges/BITFLYER.ws.1.0.gz",
        "price",
        "size",
        numbers=_structs("price", "size", float),
    ),
    Shape(
        '{"p":"1.5","s":2}',
        "exchanges/GATEIO_FUTURES.ws.1.0.gz",
        "p",
        "s",
        numbers=_structs("p", "s", float),
    ),
]


class Corpus:
    """The arrays of one shape."""

    def __init__(self, shape: Shape, folder: Path) -> None:
        self.shape = shape
        self.texts: list[bytes] = []
        self.levels = 0
        rests: list[bytes] = []
        path = folder / shape.capture
        if not path.exists():
            sys.exit(f"{path}: expected a capture; name their folder with --captures")
        opening = b"[{" if isinstance(shape.price, str) else b"[["
        has_side = "side" in shape.options
        with gzip.open(path) as file:
            for line in file:
                for match in ARRAY.finditer(line):
                    text, rest = match[1], line[match.end() :].rstrip()
                    if (
                        self.levels >= MAX_LEVELS
                        or not text.startswith(opening)
                        or (has_side and b"l2update" not in line)
                    ):
                        continue
                    _, *needed = loops().LevelTexts([text], [rest]).scan(shape.declared, 0, 0)
                    if max(needed) <= MAX_DECIMALS:
                        self.texts.append(text)
                        rests.append(rest)
                        self.levels += len(orjson.loads(text))
        if not self.texts:
            sys.exit(f"{path}: expected levels like {shape.title}, found none")
        self.compiled = loops().LevelTexts(self.texts, rests)
        _, *self.decimals = self.compiled.scan(shape.declared, 0, 0)

    def check(self) -> None:
        """End the program unless what we read is what `json` with `Decimal` reads."""
        price, qty = self.decimals
        shape = self.shape.declared
        scale = self.shape.options.get("price_scale", 0)
        for text in self.texts:
            if shape is not None and shape.has_side:
                bids, asks, *_ = parse_sides(text, price, qty, shape)
                found = sorted(bids + asks)
            else:
                found = sorted(parse_levels(text, price, qty, shape)[0])
            levels = json.loads(text, parse_float=Decimal, parse_int=Decimal)
            exact = sorted(
                (Decimal(level[self.shape.price]).scaleb(price - scale), Decimal(level[self.shape.qty]).scaleb(qty))
                for level in levels
            )
            if found != exact:
                sys.exit(f"{self.shape.title}: expected {exact}, found {found}")


# --- who reads them -------------------------------------------------------------------------------


def readers(corpus: Corpus) -> dict[str, Callable[[], object]]:
    """Return what reads the whole corpus, by the column of the table."""
    shape, texts = corpus.shape, corpus.texts
    price, qty, declared = shape.price, shape.qty, shape.declared

    def by_orjson() -> None:
        for text in texts:
            [(float(level[price]), float(level[qty])) for level in orjson.loads(text)]

    found: dict[str, Callable[[], object]] = {
        "ours": lambda: corpus.compiled.scan(declared, *corpus.decimals, OURS_TIMES),
        "orjson, float": by_orjson,
    }
    for column, kind in (("msgspec, str", shape.text), ("msgspec, float", shape.numbers)):
        if kind is not None:
            decode = msgspec.json.Decoder(list[kind], strict=False).decode  # type: ignore[valid-type]

            def by_msgspec(decode: Callable[[bytes], Any] = decode) -> None:
                for text in texts:
                    decode(text)

            found[column] = by_msgspec
    return found


def timed(run: Callable[[], object], passes: int) -> float:
    """Return the median CPU time of a pass, ns."""
    times = []
    for _ in range(passes):
        gc.collect()
        start = time.thread_time_ns()
        run()
        times.append(time.thread_time_ns() - start)
    return statistics.median(times)


def build_limit(baselines: Path) -> Path | str:
    """Return the compiled C++ scanner, or why there is none."""
    binary = ROOT / "build" / "benchmarks" / "levels_limit"
    source = Path(__file__).with_name("measuring") / "levels_limit.cpp"
    limit = baselines / "cpp" / "limit.cpp"
    if not limit.exists():
        return f"cpp/{limit.name} is not in --baselines"
    if binary.exists() and binary.stat().st_mtime > max(source.stat().st_mtime, limit.stat().st_mtime):
        return binary
    if shutil.which("g++") is None:
        return "there is no g++"
    binary.parent.mkdir(parents=True, exist_ok=True)
    scanner = binary.with_name("limit_scanner.hpp")  # of that program what stands before the uses of simdjson
    scanner.write_text(limit.read_text().partition("// ---------- simdjson")[0].replace("#include <simdjson.h>", ""))
    command = ["g++", "-std=c++17", "-O3", "-march=native", f"-I{binary.parent}", f"-I{limit.parent}", str(source)]
    done = subprocess.run([*command, "-o", str(binary), "-lz"], capture_output=True, text=True)
    if done.returncode:
        return next((line for line in done.stderr.splitlines() if "error" in line), "g++ failed").strip()
    return binary


def run_limit(binary: Path, corpus: Corpus, passes: int) -> float:
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"\n".join(corpus.texts) + b"\n")
        file.flush()
        done = subprocess.run([str(binary), file.name, str(passes)], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    if found["levels"] != corpus.levels:
        sys.exit(f"{LIMIT}: expected {corpus.levels} levels, found {found['levels']}")
    return float(found["ns"])


# --- rounds and report ----------------------------------------------------------------------------

Figures = dict[tuple[str, str], list[float]]  # (shape, column) -> ns per level of each round


def run_rounds(corpora: list[Corpus], limit: Path | str, options: argparse.Namespace) -> Figures:
    figures: Figures = {}
    for _ in range(options.rounds):
        for corpus in corpora:
            title = corpus.shape.title
            for column, run in readers(corpus).items():
                times = OURS_TIMES if column == "ours" else 1
                figures.setdefault((title, column), []).append(timed(run, options.passes) / corpus.levels / times)
            if isinstance(limit, Path) and corpus.shape.text == tuple[str, str]:
                figures.setdefault((title, LIMIT), []).append(run_limit(limit, corpus, options.passes * OURS_TIMES))
    return figures


def report(figures: Figures, corpora: list[Corpus], instructions: dict[str, float], absent: str, pinned: str) -> str:
    columns = ["ours", "orjson, float", "msgspec, str", "msgspec, float", LIMIT]

    def cells(title: str) -> list[str]:
        return [str(Figure(figures[title, column])) if (title, column) in figures else "-" for column in columns]

    rounds = len(figures[corpora[0].shape.title, "ours"])
    head = ["ns per level", "levels", *columns, "ours, range", *(["ours, instructions"] if instructions else [])]
    lines = [
        "# Levels",
        "",
        f"Rounds: {rounds}; CPU time of the measuring thread, {pinned}. {machine()}",
        "What is in a figure, and in which way: the docstring of `benchmarks/levels.py`.",
        "",
        row(head),
        row(["---", *["--:"] * (len(head) - 1)]),
    ]
    for corpus in corpora:
        title = corpus.shape.title
        source = Path(corpus.shape.capture).name.partition(".")[0].partition("_2")[0]
        line = [f"`{title}` ({source})", f"{corpus.levels:,}", *cells(title), Figure(figures[title, "ours"]).range]
        lines.append(row([*line, *([f"{instructions[title]:,.0f}"] if instructions else [])]))
    if absent:
        lines += ["", f"Not measured: {LIMIT}: {absent}."]
    return "\n".join(lines) + "\n"


def count_instructions(corpora: list[Corpus], folder: Path) -> dict[str, float]:
    """Return callgrind's total of three passes less that of one, per level, by shape."""
    found = {}
    for number, corpus in enumerate(corpora):
        print(f"counting: {corpus.shape.title}", file=sys.stderr)
        one, three = (_collected(number, passes, folder) for passes in (1, 3))
        found[corpus.shape.title] = (three - one) / 2 / corpus.levels
    return found


def _collected(number: int, passes: int, folder: Path) -> int:
    worker = [sys.executable, __file__, f"--captures={folder}", f"--worker={number}", f"--passes={passes}"]
    return collected(worker)[0]


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--captures", type=Path, default=default_capture().parents[1], help="their folder")
    parser.add_argument(
        "--baselines", type=Path, default=ROOT / "../shared/baselines", help="folder of the C++ scanner"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--passes", type=int, default=5, help="in each round")
    parser.add_argument("--core", type=int, help="to be pinned to (default: the last)")
    parser.add_argument("--callgrind", action="store_true", help="count instructions too, which takes some minutes")
    parser.add_argument("--write", action="store_true", help=f"write the section in {RESULTS.name} too")
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.callgrind and shutil.which("valgrind") is None:
        parser.error("--callgrind: expected valgrind on the path")
    return options


def main() -> None:
    options = _parse()
    if options.worker is not None:
        corpus = Corpus(SHAPES[options.worker], options.captures)
        corpus.compiled.scan(corpus.shape.declared, *corpus.decimals, options.passes)
        return
    corpora = [Corpus(shape, options.captures) for shape in SHAPES]
    for corpus in corpora:
        corpus.check()
    limit = build_limit(options.baselines)
    pinned = pin(options.core)
    figures = run_rounds(corpora, limit, options)
    instructions = count_instructions(corpora, options.captures) if options.callgrind else {}
    text = report(figures, corpora, instructions, limit if isinstance(limit, str) else "", pinned)
    print(text, end="", flush=True)
    if options.write:
        write_section(text)


if __name__ == "__main__":
    main()
