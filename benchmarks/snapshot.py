"""How long a large snapshot keeps everything else in the process waiting.

    python benchmarks/snapshot.py                     books of 5 MB, a minute
    python benchmarks/snapshot.py --levels 10000      of 10,000 levels a side

In one call, as a replay does it: a snapshot is decoded and becomes a book, from the message to the return of the
handler's callback. One comes as the reply to a request (Binance), one in the stream (Coinbase). Beside them, in turns,
what a Python program would do at least: orjson, and two dicts of floats. CPU time of the thread.

Live: the snapshot comes over a WebSocket from another process, and the longest time is measured for which the event
loop (uvloop) did nothing else, from the first byte to the callback: reading the socket, and, where no thread reads the
levels, all of the decoding. Medians of the rounds, and the longest: nothing here knows the snapshot before it comes.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import multiprocessing
import random
import statistics
import time
from collections.abc import Callable
from multiprocessing.connection import Connection

import orjson
import uvloop
from measuring import RESULTS, loops, machine, pin, row, write_section

from feeds.conflation import conflated
from feeds.exchange import exchange
from feeds.instrument import Instruments
from feeds.live.receiver import DEFAULT_LARGE_MESSAGE, Receiver
from feeds.pipeline import Pipeline
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect, ws_create_server

TS = 1_700_000_000_000_000_000
MAX_MESSAGE = 64 * 1024 * 1024


def levels(count: int, *, is_ask: bool) -> str:
    """Return so many levels as JSON, best first: dense at the touch, with gaps that grow, as real books are."""
    rng = random.Random(count + is_ask)
    price = 6_000_000
    found = []
    for i in range(count):
        price += (1 if is_ask else -1) * (1 + rng.randrange(1 + i // 2000))
        found.append(f'["{price / 100:.2f}","{rng.randrange(1, 10 ** rng.randrange(4, 9)) / 1e5:.5f}"]')
    return "[" + ",".join(found) + "]"


def pipeline(exchange_id: str, raw_symbol: str) -> Pipeline:
    """Return what a live feed has that knows its instruments: how many decimals a level may have."""
    instruments = Instruments()
    instruments.add(exchange_id, raw_symbol, price_decimals=2, qty_decimals=5)
    return Pipeline(exchange(exchange_id), instruments, conflated(loops().Tally()))


def reply(bids: str, asks: str) -> tuple[bytes, Callable[[bytes], None]]:
    """Return Binance's REST snapshot, and what takes it."""
    delta = (
        b'{"stream":"btcusdt@depth","data":{"e":"depthUpdate","E":1700000000000,"s":"BTCUSDT","U":1,"u":2,'
        b'"b":[["1.00","1.00000"]],"a":[]}}'
    )

    def take(payload: bytes) -> None:
        chain = pipeline("binance", "BTCUSDT")
        chain.on_message(delta, TS, True)
        begin = time.thread_time_ns()
        chain.on_reply("BTCUSDT", payload, TS)
        times["ours, a reply"].append(time.thread_time_ns() - begin)
        check(chain, bids)

    return f'{{"lastUpdateId":2,"bids":{bids},"asks":{asks}}}'.encode(), take


def in_stream(bids: str, asks: str) -> tuple[bytes, Callable[[bytes], None]]:
    """Return Coinbase's snapshot, and what takes it."""

    def take(payload: bytes) -> None:
        chain = pipeline("coinbase", "BTC-USD")
        begin = time.thread_time_ns()
        chain.on_message(payload, TS, True)
        times["ours, in the stream"].append(time.thread_time_ns() - begin)
        check(chain, bids)

    head = '{"type":"snapshot","product_id":"BTC-USD"'
    return f'{head},"asks":{asks},"bids":{bids},"time":"2023-11-14T22:13:20.000000Z"}}'.encode(), take


def plain(bids: str, asks: str) -> tuple[bytes, Callable[[bytes], None]]:
    """Return a snapshot, and what a plain program does with it."""

    def take(payload: bytes) -> None:
        begin = time.thread_time_ns()
        message = orjson.loads(payload)
        sides = [{float(price): float(qty) for price, qty in message[side]} for side in ("bids", "asks")]
        times["orjson, two dicts"].append(time.thread_time_ns() - begin)
        if len(sides[0]) != bids.count("[") - 1:
            raise SystemExit("expected every level in the dict")

    return f'{{"lastUpdateId":2,"bids":{bids},"asks":{asks}}}'.encode(), take


def check(chain: Pipeline, bids: str) -> None:
    (book,) = chain.books.books
    expected = bids.count("[") - 1
    if chain.problems or book.state.name != "LIVE" or book.bid_count != expected:
        raise SystemExit(f"expected a book of {expected} bids, found {book!r}, {chain.problems}")


# --- live -----------------------------------------------------------------------------------------


class Sender(WSListener):
    """Answers every message with the snapshot."""

    def __init__(self, payload: bytes) -> None:
        super().__init__()
        self._payload = payload

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.TEXT:
            transport.send(WSMsgType.TEXT, self._payload)


def serve(payload: bytes, ready: Connection) -> None:
    async def run() -> None:
        server = await ws_create_server(lambda _: Sender(payload), "127.0.0.1", 0)
        ready.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    uvloop.run(run())


class Shell:
    def on_requests(self) -> None: ...

    def on_failed(self, error: Exception) -> None:
        raise error


async def longest_stalls(port: int, bids: str, rounds: int) -> None:
    """Receive the snapshot with and without a thread, in turns."""
    for _ in range(rounds):
        for title, large_message in (("levels read by a thread", DEFAULT_LARGE_MESSAGE), ("without", MAX_MESSAGE)):
            chain = pipeline("coinbase", "BTC-USD")
            receiver = Receiver(chain, Shell(), max_message_size=MAX_MESSAGE, large_message=large_message)
            url = f"ws://127.0.0.1:{port}"
            transport, _ = await ws_connect(lambda made=receiver: made, url, max_frame_size=MAX_MESSAGE)
            gc.collect()
            receiver.send(b"{}")
            longest, last = 0, time.perf_counter_ns()
            while not chain.batches:
                await asyncio.sleep(0)
                now = time.perf_counter_ns()
                longest, last = max(longest, now - last), now
            stalls[title].append(longest)
            check(chain, bids)
            receiver.detach()
            transport.disconnect()
            await transport.wait_disconnected()


times: dict[str, list[int]] = {"ours, a reply": [], "ours, in the stream": [], "orjson, two dicts": []}
stalls: dict[str, list[int]] = {"levels read by a thread": [], "without": []}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--levels", type=int, default=105_000, help="of each side")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--core", type=int, help="to be pinned to (default: the last)")
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.name} too")
    options = parser.parse_args()
    bids, asks = levels(options.levels, is_ask=False), levels(options.levels, is_ask=True)
    cases = [make(bids, asks) for make in (reply, in_stream, plain)]
    ready, sent = multiprocessing.Pipe()
    context = multiprocessing.get_context("spawn")
    server = context.Process(target=serve, args=(cases[1][0], sent), daemon=True)
    server.start()
    uvloop.run(longest_stalls(ready.recv(), bids, options.rounds))
    server.terminate()
    pinned = pin(options.core)
    for _ in range(options.rounds):
        for payload, take in cases:
            gc.collect()
            take(payload)
    lines = [
        "# A large snapshot",
        "",
        f"{2 * options.levels:,} levels in {len(cases[0][0]) / 1e6:.1f} MB; {options.rounds} rounds.",
        f"CPU time, {pinned}, and for the live feed time by the clock, not pinned. {machine()}",
        "What is in a figure: the docstring of `benchmarks/snapshot.py`.",
        "",
        row(["ms in one call", "median", "shortest", "longest"]),
        row(["---", "--:", "--:", "--:"]),
        *(
            row([title, *(f"{value / 1e6:.1f}" for value in (statistics.median(found), min(found), max(found)))])
            for title, found in times.items()
        ),
        "",
        row(["ms for which a live feed keeps others waiting", "median", "shortest", "longest"]),
        row(["---", "--:", "--:", "--:"]),
        *(
            row([title, *(f"{value / 1e6:.1f}" for value in (statistics.median(found), min(found), max(found)))])
            for title, found in stalls.items()
        ),
    ]
    text = "\n".join(lines) + "\n"
    print(text, end="")
    if options.write:
        write_section(text)


if __name__ == "__main__":
    main()
