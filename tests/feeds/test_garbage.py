"""The data path makes no garbage: laps of real messages leave blocks, memory and collections where they were.

`benchmarks/garbage.py` does the same with ten million messages.
"""

import gc
import sys
from pathlib import Path

import pytest

from feeds.conflation import conflated
from feeds.events import EventHandler
from feeds.exchange import exchange
from feeds.instrument import Instruments
from feeds.latency import Latency, LatencyProbe
from feeds.pipeline import Pipeline
from feeds.recording import Kind, open_recording
from strategies.imbalance_cython import BookImbalance

MESSAGES = 20_000
LAPS = 5
SLACK = 32  # blocks and pages in all laps together: a counter that gets larger becomes a larger number
STATM = Path("/proc/self/statm")


@pytest.fixture(scope="module")
def messages(captures):
    with open_recording(captures / "binance" / "usdm-btcusdt_20240808.gz") as source:
        kept = [m for m, _ in zip(source, range(MESSAGES), strict=False)]
    return [m for m in kept if m.kind in (Kind.TEXT, Kind.REPLY)]


def laps(messages, handler, *, policy="batch", latency=None):
    """Play laps, each on a connection of its own; return what has grown: blocks, pages, collections."""
    instruments = Instruments()
    instruments.infer_exchange("binance-futures")
    pipeline = Pipeline(exchange("binance-futures"), instruments, conflated(handler, policy), latency=latency)

    def lap():
        pipeline.on_disconnected("lap", 1)
        pipeline.on_connected("", 1)
        for number, message in enumerate(messages):
            if message.kind == Kind.REPLY:
                pipeline.on_reply(message.tag, message.payload, message.ts_recv)
            else:
                pipeline.on_message(message.payload, message.ts_recv, number % 3 == 0)
        pipeline.decoder.take_requests()

    lap()
    lap()
    applied = pipeline.books.applied
    blocks, pages, collections = state()
    for _ in range(LAPS):
        lap()
    grown = [now - then for now, then in zip(state(), (blocks, pages, collections), strict=True)]
    assert not pipeline.problems
    assert pipeline.books.applied == applied // 2 * (LAPS + 2)
    return grown


def state():
    pages = int(STATM.read_text().split()[1]) if STATM.exists() else 0
    return sys.getallocatedblocks(), pages, sum(generation["collections"] for generation in gc.get_stats())


@pytest.mark.parametrize("policy", ["batch", "none"])
@pytest.mark.parametrize("with_latency", [False, True])
def test_laps_leave_no_garbage(messages, policy, with_latency):
    latency = Latency() if with_latency else None
    strategy = BookImbalance().hosted()
    handler = strategy if latency is None else LatencyProbe(strategy, latency)
    blocks, pages, collections = laps(messages, handler, policy=policy, latency=latency)
    assert blocks <= SLACK
    assert pages <= SLACK
    assert collections == 0


class Keeping(EventHandler):
    """Keeps one event in a hundred."""

    def __init__(self):
        self.kept = []
        self.seen = 0

    def on_trade(self, event):
        self.seen += 1
        if self.seen % 100 == 0:
            self.kept.append(event)


class Cyclic(EventHandler):
    """Makes an object that only a collection can free."""

    def on_trade(self, event):
        cycle = []
        cycle.append(cycle)


def test_a_handler_that_keeps_events_is_found_out(messages):
    blocks, _, _ = laps(messages, Keeping())
    assert blocks > SLACK


def test_a_handler_that_makes_cycles_is_found_out(messages):
    _, _, collections = laps(messages, Cyclic())
    assert collections > 0
