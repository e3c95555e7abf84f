"""The age of the book that a strategy acts on when a burst or a flood comes, and what a burst of quotes costs.

    python benchmarks/burst.py                   27 floods, four clients: about a minute
    python benchmarks/burst.py --callgrind       and instructions per message of the burst
    python benchmarks/burst.py --write           write the section of RESULTS.md and draw docs/burst-*.svg too

A server, a process on the other core, sends messages of 5, 50 or 500 symbols over loopback, each symbol in turn,
three best bids and offers and then a book delta: every millisecond a burst, 10, 100 or 1,000 thousand messages a
second. Just before it sends a burst it writes the time into all of its messages. The strategy, compiled, is called
with quotes and books, notes how old what it was given is, and then takes 0, 50 or 500 microseconds. A figure is a
quantile over its calls after the first 100 ms. What the server cannot send in time, because the client does not read,
it does not make up for: so a client that falls behind has the age of full socket buffers, or, where these do not fill
in the time of a run, of the run. Both are less than what it would come to.

The clients run in one process, in turn: ours under the policies `batch`, `drained` and `none` (receiver, pipeline,
books, without recording), and "naive": the same WebSocket core, `orjson.loads`, a dict of floats for each side of a
book, and a call for every message.

The burst of quotes is 1,000 best bids and offers of one symbol, given to a pipeline as one batch: under `batch`,
which decodes the first and the newest, and with everything decoded. CPU time and callgrind's instructions, less the
loop's.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import functools
import hashlib
import json
import multiprocessing
import os
import re
import socket
import statistics
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from measuring import ROOT, collected, loops, machine, pin, row, write_section
from measuring.charts import Bar, Panel, draw
from measuring.charts import missing as charts_missing

from feeds.conflation import Conflator, conflated
from feeds.decoder import Fetch
from feeds.events import EventHandler
from feeds.exchange import exchange
from feeds.instrument import Instruments
from feeds.live.feed import FeedConfig
from feeds.live.receiver import Receiver
from feeds.pipeline import Pipeline
from picows import WSFrame, WSListener, WSMsgType, WSTransport, serialize_frame, ws_connect

BURSTS_PER_SECOND = 1000
WARM = 0.1  # seconds of a run that are not counted
ID = "1000000000001"  # of the first delta of every book
NOW = "9" * 19  # where the time is written
SNAPSHOT = b'{"lastUpdateId":%s,"bids":[["61800.20","2.909"]],"asks":[["61800.30","1.5"]]}' % ID.encode()
SYMBOLS, RATES, WORK = [5, 50, 500], [10, 100, 1000], [0, 50, 500]
QUOTES = 1000  # of the burst that is counted
CONFIG = FeedConfig()


class Flooded(NamedTuple):
    """One flood: symbols, thousand messages a second, microseconds a call."""

    symbols: int
    rate: int
    work: int


class Client(NamedTuple):
    """A column of the table."""

    title: str
    policy: str | None  # None: naive


CLIENTS = [Client("batch", "batch"), Client("drained", "drained"), Client("none", "none"), Client("naive", None)]


# --- the server: a process of its own ---------------------------------------------------------------


def quote_frame(symbol: str) -> tuple[bytes, tuple[int, ...], tuple[int, ...]]:
    """Return a frame with a best bid and offer, and where in it the times are, and the ids that count up."""
    data = (
        f'{{"stream":"{symbol.lower()}@bookTicker","data":{{"e":"bookTicker","u":{ID},"s":"{symbol}","b":"61800.20",'
        f'"B":"2.507","a":"61800.30","A":"2.510","T":{NOW},"E":{NOW}}}}}'
    )
    frame = serialize_frame(WSMsgType.TEXT, data.encode())
    return frame, _places(frame, NOW), ()


def delta_frame(symbol: str) -> tuple[bytes, tuple[int, ...], tuple[int, ...]]:
    """Return a frame with a book delta, in the same way; ids in the order of the message."""
    data = (
        f'{{"stream":"{symbol.lower()}@depth@0ms","data":{{"e":"depthUpdate","E":{NOW},"T":{NOW},"s":"{symbol}",'
        f'"U":{ID},"u":{ID},"pu":{ID},"b":[["61800.20","2.507"],["61799.90","0"]],"a":[["61800.40","1.204"]]}}}}'
    )
    frame = serialize_frame(WSMsgType.TEXT, data.encode())
    return frame, _places(frame, NOW), _places(frame, ID)


def _places(frame: bytes, text: str) -> tuple[int, ...]:
    return tuple(found.start() for found in re.finditer(text.encode(), frame))


def symbol_names(count: int) -> list[str]:
    return [f"SYM{number:03d}USDT" for number in range(count)]


def serve(port: Any, core: int | None) -> None:
    """Flood whoever connects to ws://.../SYMBOLS/RATE until they go."""
    if core is not None:
        pin(core)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port.send(listening.getsockname()[1])
        while True:
            connection, _ = listening.accept()
            with connection:
                try:
                    symbols, rate = _shake_hands(connection)
                    _flood(connection, symbols, rate)
                except OSError:  # the client has gone
                    pass


def _shake_hands(connection: socket.socket) -> tuple[int, int]:
    request = b""
    while not request.endswith(b"\r\n\r\n"):
        received = connection.recv(4096)
        if not received:
            raise ConnectionError
        request += received
    key = re.search(rb"(?i)sec-websocket-key: *(\S+)", request)
    path = re.match(rb"GET /(\d+)/(\d+) ", request)
    if key is None or path is None:
        raise ConnectionError
    accept = base64.b64encode(hashlib.sha1(key[1] + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
    connection.sendall(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
    )
    return int(path[1]), int(path[2])


def _flood(connection: socket.socket, symbols: int, rate: int) -> None:
    names = symbol_names(symbols)
    flood = loops().Flood([quote_frame(name) for name in names], [delta_frame(name) for name in names])
    count = rate * 1000 // BURSTS_PER_SECOND
    due = time.monotonic()
    while True:
        connection.sendall(flood.next(count, time.time_ns()))
        due = max(due + 1 / BURSTS_PER_SECOND, time.monotonic() - 1 / BURSTS_PER_SECOND)
        while (wait := due - time.monotonic()) > 0:
            if wait > 0.0005:
                time.sleep(wait - 0.0002)


# --- the clients --------------------------------------------------------------------------------------


class Shell:
    """Answers what the decoder asks for: snapshots."""

    receiver: Receiver

    def on_requests(self) -> None:
        for request in self.receiver.pipeline.decoder.take_requests():
            if isinstance(request, Fetch):
                self.receiver.reply(request.tag, SNAPSHOT)


class Naive(WSListener):
    """Decodes every message, applies it, and calls."""

    def __init__(self, strategy: Any) -> None:
        self._act = strategy.act
        self._books: dict[str, tuple[dict[float, float], dict[float, float]]] = {}

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type != WSMsgType.TEXT:
            return
        data = orjson.loads(frame.get_payload_as_bytes())["data"]
        if data["e"] == "depthUpdate":
            book = self._books.setdefault(data["s"], ({}, {}))
            for side, levels in zip(book, (data["b"], data["a"]), strict=True):
                for price, qty in levels:
                    if float(qty):
                        side[float(price)] = float(qty)
                    else:
                        side.pop(float(price), None)
        self._act(data["T"])


def new_listener(client: Client, strategy: EventHandler) -> tuple[WSListener, int]:
    """Return what listens, and for how many reads more at once."""
    if client.policy is None:
        return Naive(strategy), 0
    pipeline = Pipeline(
        exchange("binance-futures"),
        Instruments(infer=True),
        conflated(strategy, client.policy),
        skip_superseded=client.policy != "none",
    )
    shell = Shell()
    shell.receiver = Receiver(pipeline, shell, max_message_size=CONFIG.max_message_size)
    return shell.receiver, CONFIG.drain_reads if client.policy == "drained" else 0


async def measure(port: int, client: Client, flooded: Flooded, seconds: float) -> list[int]:
    """Return the ages in ns of what the strategy was called with, sorted."""
    start = time.time_ns() + int(WARM * 1e9)
    end = start + int(seconds * 1e9)
    strategy = loops().BusyStrategy(flooded.work * 1000, start, end)
    listener, reads = new_listener(client, strategy)
    transport, _ = await ws_connect(
        lambda: listener,
        f"ws://127.0.0.1:{port}/{flooded.symbols}/{flooded.rate}",
        read_buffer_init_size=CONFIG.read_buffer_size,
        read_until_drained=reads,
    )
    await asyncio.sleep((end - time.time_ns()) / 1e9)
    transport.disconnect(graceful=False)
    await transport.wait_disconnected()
    if isinstance(listener, Receiver):
        books = listener.pipeline.books
        if listener.pipeline.problems or books.gaps:
            found = f"{listener.pipeline.problems}, {books.gaps} gaps"
            sys.exit(f"{client.title}, {flooded}: expected books without problems and gaps, found {found}")
    ages: list[int] = strategy.ages()
    if not ages:
        sys.exit(f"{client.title}, {flooded}: expected calls of the strategy, found none")
    return ages


def quantile(ages: list[int], q: float) -> float:
    """Return a quantile of sorted ages, in microseconds."""
    return ages[min(int(len(ages) * q), len(ages) - 1)] / 1000


Ages = dict[tuple[Flooded, str], tuple[float, float]]  # (flood, client) -> p50, p99 in microseconds


def run_floods(floods: list[Flooded], options: argparse.Namespace) -> Ages:
    import uvloop

    loops()  # compiled once, before the server needs it
    here, there = multiprocessing.get_context("spawn").Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(there, options.server_core), daemon=True)
    server.start()
    try:
        port = here.recv()
        found: Ages = {}
        for number, flooded in enumerate(floods, 1):
            print(f"{number} of {len(floods)}: {flooded}", file=sys.stderr)
            for client in CLIENTS:
                ages = uvloop.run(measure(port, client, flooded, options.seconds))
                found[flooded, client.title] = quantile(ages, 0.5), quantile(ages, 0.99)
        return found
    finally:
        server.kill()
        server.join()


# --- a burst of quotes -----------------------------------------------------------------------------------


def play_quotes(which: str, passes: int) -> list[float]:
    """Give a pipeline the burst so many times, after a first; return ns of CPU time per message of each pass."""
    messages = [
        b'{"stream":"btcusdt@bookTicker","data":{"e":"bookTicker","u":%d,"s":"BTCUSDT","b":"61800.20","B":"2.%03d",'
        b'"a":"61800.30","A":"1.%03d","T":%d,"E":%d}}'
        % (5123107839020 + n, n, 999 - n, 1723161256313 + n, 1723161256313 + n)
        for n in range(QUOTES)
    ]
    handler = Conflator(loops().Tally())
    pipeline = Pipeline(
        exchange("binance-futures"), Instruments(infer=True), handler, skip_superseded=which == "skipping"
    )
    play = loops().play_batch
    play(pipeline, messages, 1)
    times = []
    for _ in range(passes):
        began = time.thread_time_ns()
        play(pipeline, messages, 1)
        times.append((time.thread_time_ns() - began) / QUOTES)
    if handler.quotes_out != passes + 1 or pipeline.superseded != (which == "skipping") * ((QUOTES - 2) * passes + 997):
        sys.exit(f"expected one quote a pass, found {handler.quotes_out}, and {pipeline.superseded} messages skipped")
    return times


@functools.cache
def count_instructions(which: str) -> float:
    """Return callgrind's instructions per message of the burst: those of 201 passes less those of one."""
    command = [sys.executable, __file__, f"--worker={which}"]
    one, many = (collected([*command, f"--passes={passes}"])[0] for passes in (1, 201))
    return (many - one) / (200 * QUOTES)


def quote_table(callgrind: bool) -> list[str]:
    """Return a table of what a burst of quotes costs; both ways take turns."""
    rounds = [{which: statistics.median(play_quotes(which, 50)) for which in ("skipping", "all")} for _ in range(5)]
    times = {which: statistics.median(r[which] for r in rounds) for which in ("skipping", "all")}
    part = statistics.median(r["skipping"] / r["all"] for r in rounds)
    lines = [
        row(["per message", "newest decoded", "all decoded", "ratio"]),
        row(["---", "--:", "--:", "--:"]),
        row(["ns", f"{times['skipping']:,.1f}", f"{times['all']:,.1f}", f"{part:.3f}"]),
    ]
    if callgrind:
        one, every = count_instructions("skipping"), count_instructions("all")
        lines.append(row(["instructions", f"{one:,.0f}", f"{every:,.0f}", f"{one / every:.3f}"]))
    return lines


# --- the report -----------------------------------------------------------------------------------------


def milliseconds(age: float) -> str:
    """Return microseconds as milliseconds in three digits."""
    value = age / 1000
    return (
        f"{value:.3f}"
        if value < 1
        else f"{value:.2f}"
        if value < 10
        else f"{value:.1f}"
        if value < 100
        else f"{value:.0f}"
    )


def table(found: Ages) -> list[str]:
    """Return the lines of the table: a row per flood, p50 / p99 per client."""
    lines = [
        row(["symbols", "thousand messages a second", "us a call", *(client.title for client in CLIENTS)]),
        row(["--:"] * (3 + len(CLIENTS))),
    ]
    for flooded in dict.fromkeys(flooded for flooded, _ in found):
        ages = (found[flooded, client.title] for client in CLIENTS)
        lines.append(row([*(f"{n:,}" for n in flooded), *(" / ".join(map(milliseconds, pair)) for pair in ages)]))
    return lines


def report(found: Ages, quotes: list[str], options: argparse.Namespace) -> str:
    lines = [
        "# The age of the book in a flood",
        "",
        f"ms, p50 / p99 over the calls of {options.seconds:g} s; {options.pinned}, the server to the other.",
        machine(),
        "What is in a figure: the docstring of `benchmarks/burst.py`.",
        "",
        *table(found),
        "",
        f"A burst of {QUOTES:,} best bids and offers of one symbol in one batch:",
        "",
        *quotes,
    ]
    return "\n".join(lines) + "\n"


def panels(found: Ages) -> list[Panel]:
    """Return the charts of what was measured of these floods: p99 in microseconds."""
    titles = {
        "batch": ("ours, per read", "ours"),
        "drained": ("ours, drained", "ours"),
        "none": ("ours, every update", "limit"),
        "naive": ("naive", "peer"),
    }
    chosen = [Flooded(50, 10, 50), Flooded(50, 100, 50), Flooded(50, 1000, 50), Flooded(50, 1000, 0)]
    return [
        Panel(
            f"{f.rate:,} thousand messages a second, {f.work} us a call",
            [Bar(label, found[f, client][1], kind) for client, (label, kind) in titles.items()],
            is_log=True,
        )
        for f in chosen
        if (f, "naive") in found
    ]


def draw_charts(found: Ages) -> str:
    """Draw the charts into docs/; return why not, or nothing."""
    reason = charts_missing()
    if reason:
        return reason
    for theme in ("light", "dark"):
        heading = "Age of the book that the strategy acts on: p99 in microseconds, log scale, 50 symbols"
        draw(ROOT / "docs" / f"burst-{theme}.svg", heading, panels(found), theme)
    return ""


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--symbols", type=_numbers, default=SYMBOLS)
    parser.add_argument("--rates", type=_numbers, default=RATES, help="thousand messages a second")
    parser.add_argument("--work", type=_numbers, default=WORK, help="microseconds a call of the strategy")
    parser.add_argument("--seconds", type=float, default=0.4, help="of each flood that are counted")
    parser.add_argument("--callgrind", action="store_true", help="count the instructions of the burst of quotes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the ages too")
    parser.add_argument("--write", action="store_true", help="write the section of RESULTS.md and the charts too")
    parser.add_argument("--worker", choices=["skipping", "all"], help=argparse.SUPPRESS)
    parser.add_argument("--passes", type=int, default=1, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if not 0 < options.seconds <= 60:
        parser.error(f"--seconds: expected more than 0 and at most 60, found {options.seconds:g}")
    return options


def main() -> None:
    options = _parse()
    if options.worker is not None:
        play_quotes(options.worker, options.passes)
        return
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    options.server_core = cores[0] if len(cores) > 1 else None
    options.pinned = pin(None)
    floods = [Flooded(s, r, w) for s in options.symbols for r in options.rates for w in options.work]
    found = run_floods(floods, options)
    text = report(found, quote_table(options.callgrind), options)
    print(text, end="")
    if options.json is not None:
        records = [{**f._asdict(), "client": c, "p50": p50, "p99": p99} for (f, c), (p50, p99) in found.items()]
        options.json.write_text("".join(json.dumps(record) + "\n" for record in records))
    if options.write:
        write_section(text)
        reason = draw_charts(found)
        if reason:
            print(f"No charts: {reason}.", file=sys.stderr)


if __name__ == "__main__":
    main()
