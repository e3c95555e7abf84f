"""cryptofeed's message handler over a collector file; runs with a Python that has it, and none of ours.

usage: cryptofeed_replay.py EXCHANGE FILE PASSES; one JSON object on stdout, as replay.py writes it of ours.

cryptofeed subscribes to aggregated trades where the capture has single ones: those are told in its words, in a file of
their own, before the clock starts.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import statistics
import sys
import tempfile
import time

from cryptofeed.defines import L2_BOOK, TICKER, TRADES
from cryptofeed.exchanges import Binance, BinanceFutures
from cryptofeed.symbols import Symbols

EXCHANGES = {"binance": (Binance, "BTC-USDT"), "binance-futures": (BinanceFutures, "BTC-USDT-PERP")}


class Replies:
    """Stands for REST: the snapshot that is in the capture."""

    def __init__(self, body):
        self.body = body

    async def read(self, *_, **__):
        return self.body

    async def close(self):
        pass


def reword(path, output):
    """Write a file with aggregated trades, and return the snapshot."""
    snapshot = ""
    with gzip.open(path, "rt") as lines, gzip.open(output, "wt", compresslevel=6) as out:
        for line in lines:
            ts, _, text = line.partition(" ")
            if text.startswith('{"lastUpdateId"'):
                snapshot = text
                continue
            if "@trade" in text[:60]:
                message = json.loads(text)
                data = message["data"]
                message["stream"] = message["stream"].replace("@trade", "@aggTrade")
                trade = data.pop("t")
                data |= {"e": "aggTrade", "a": trade, "f": trade, "l": trade}
                data.pop("X", None)
                text = json.dumps(message, separators=(",", ":")) + "\n"
            out.write(f"{ts} {text}")
    return snapshot


async def play(path, snapshot, cls, symbol):
    async def count(*_):
        pass

    Symbols.set(cls.id, {symbol: "BTCUSDT"}, {})
    feed = cls(
        symbols=[symbol], channels=[L2_BOOK, TRADES, TICKER], callbacks=dict.fromkeys((L2_BOOK, TRADES, TICKER), count)
    )
    feed._build_subscription()
    feed.http_conn = Replies(snapshot)
    n = 0
    with gzip.open(path, "rt") as lines:
        for line in lines:
            ts, _, text = line.partition(" ")
            await feed.message_handler(text, None, int(ts) / 1e9)
            n += 1
    book = feed._l2_book[symbol].book
    return n, [len(book.bids), len(book.asks), float(book.bids.index(0)[0]), float(book.asks.index(0)[0])]


def main():
    exchange, path, passes = sys.argv[1:]
    logging.disable(logging.CRITICAL)
    cls, symbol = EXCHANGES[exchange]
    wall, cpu = [], []
    with tempfile.TemporaryDirectory() as folder:
        file = f"{folder}/reworded.gz"
        snapshot = reword(path, file)
        for _ in range(int(passes)):
            began, used = time.perf_counter_ns(), time.process_time_ns()
            n, top = asyncio.run(play(file, snapshot, cls, symbol))
            wall.append(time.perf_counter_ns() - began)
            cpu.append(time.process_time_ns() - used)
    print(json.dumps({"n": n, "wall": statistics.median(wall), "cpu": statistics.median(cpu), "top": top}))


if __name__ == "__main__":
    main()
