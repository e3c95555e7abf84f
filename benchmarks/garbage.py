"""No garbage: ten million messages through one pipeline into a Cython strategy; allocated blocks, memory, collections.

    python benchmarks/garbage.py                       a minute or two; status 1 where something grows
    python benchmarks/garbage.py --messages 1000000

A capture is played again and again into the same pipeline, in batches of `--batch` messages. Before each lap the
connection is lost and made anew, as in a process that runs for weeks: so the snapshot joins again, and every delta is
applied. After the first two laps, which warm up, none of three things may grow:

- blocks: `sys.getallocatedblocks()` after any lap. `--slack` of them are allowed in all laps together: a counter that
  gets larger becomes a larger number.
- memory: resident pages of the process; as many are allowed.
- collections of the cyclic garbage collector, which is on as always: none.
"""

from __future__ import annotations

import argparse
import gc
import json
import resource
import sys
import time
from array import array
from pathlib import Path
from typing import NamedTuple

from measuring import RESULTS, default_capture, load, loops, machine, pin, row, short, write_section

from feeds.conflation import conflated
from feeds.events import EventHandler
from feeds.exchange import exchange
from feeds.instrument import Instruments
from feeds.latency import Latency, LatencyProbe
from feeds.pipeline import Pipeline
from feeds.recording import Kind, RawMessage
from strategies.imbalance_cython import BookImbalance

WARM_UP = 2  # laps


class State(NamedTuple):
    """What may not grow, blocks aside: asking for this takes some."""

    pages: int
    collections: int


class Growth(NamedTuple):
    blocks: int
    pages: int
    collections: int


class Run(NamedTuple):
    """The laps of one chain, after those that warm up."""

    title: str
    messages: int
    laps: int
    growth: Growth
    seconds: float


CHAINS = {
    "policy batch": ("batch", False),
    "policy none": ("none", False),
    "policy batch, latency measured": ("batch", True),
}


def state() -> State:
    collections = sum(generation["collections"] for generation in gc.get_stats())
    return State(_pages(), collections)


def _pages() -> int:
    """Resident pages of the process; the most that there were, where the system does not tell."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1])
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most // (resource.getpagesize() if sys.platform == "darwin" else resource.getpagesize() // 1024)


def run(title: str, messages: list[RawMessage], wanted: int, batch: int) -> Run:
    """Play laps until `wanted` messages have been measured."""
    policy, with_latency = CHAINS[title]
    latency = Latency() if with_latency else None
    handler: EventHandler = BookImbalance().hosted()
    if latency is not None:
        handler = LatencyProbe(handler, latency)
    declared = next(message for message in messages if message.kind == Kind.SOURCE)
    found = exchange(json.loads(declared.payload)["exchange"])
    instruments = Instruments()
    instruments.infer_exchange(found.id)
    pipeline = Pipeline(found, instruments, conflated(handler, policy), latency=latency)
    play = loops().play

    def lap() -> int:
        pipeline.on_disconnected("lap", 1)
        pipeline.on_connected("", 1)
        played: int = play(pipeline, messages, batch)
        pipeline.decoder.take_requests()
        return played

    for _ in range(WARM_UP):
        lap()
    before = state()
    # Between the laps only a number is asked for, and kept where it is no object: files and statistics take blocks.
    blocks = array("q", [sys.getallocatedblocks()] * 2)  # first, most
    count = laps = 0
    began = time.monotonic()
    while count < wanted:
        count += lap()
        laps += 1
        blocks[1] = max(blocks[1], sys.getallocatedblocks())
    seconds = time.monotonic() - began
    if pipeline.problems or not pipeline.books.applied:
        sys.exit(f"{title}: expected every message to be decoded, found {pipeline.problems or 'no book message'}")
    after = state()
    growth = Growth(blocks[1] - blocks[0], after.pages - before.pages, after.collections - before.collections)
    return Run(title, count, laps, growth, seconds)


def report(runs: list[Run], options: argparse.Namespace) -> str:
    lines = [
        "# No garbage",
        "",
        f"`{options.capture.name}`, lap after lap into the Cython strategy, {options.batch} messages to a batch.",
        machine(),
        "Growth is from the end of the warm-up, of blocks to the most after any lap: see `benchmarks/garbage.py`.",
        "",
        row(["", "messages", "laps", "blocks grown by", "pages grown by", "collections", "ns per message"]),
        row(["---", *["--:"] * 6]),
    ]
    for one in runs:
        cells = [one.title, f"{one.messages:,}", str(one.laps), *(f"{n:,}" for n in one.growth)]
        lines.append(row([*cells, short(one.seconds / one.messages * 1e9)]))
    return "\n".join(lines) + "\n"


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--capture", type=Path, default=default_capture())
    parser.add_argument("--messages", type=int, default=10_000_000, help="at least so many, of each chain")
    parser.add_argument("--batch", type=int, default=3, help="messages to a batch")
    parser.add_argument("--slack", type=int, default=32, help="blocks and pages that may come in all laps together")
    parser.add_argument("--core", type=int, help="to be pinned to (default: the last)")
    parser.add_argument("--write", action="store_true", help=f"write the section in {RESULTS.name} too")
    return parser.parse_args()


def main() -> None:
    options = _parse()
    pin(options.core)
    messages = load(options.capture)
    runs = [run(title, messages, options.messages, options.batch) for title in CHAINS]
    text = report(runs, options)
    print(text, end="", flush=True)
    if options.write:
        write_section(text)
    if any(max(one.growth[:2]) > options.slack or one.growth.collections for one in runs):
        sys.exit(f"expected at most {options.slack} blocks and pages and no collection: see the table")


if __name__ == "__main__":
    main()
