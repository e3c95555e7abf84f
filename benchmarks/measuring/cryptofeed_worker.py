"""cryptofeed's message handlers over the messages of a capture; runs with a Python that has it, and none of ours.

stdin: one JSON object as `decode.py` writes it. stdout: one, {kind: {"n", "ns", "calls", "errors"}}, of the best pass.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sys
import time

from cryptofeed import exchanges
from cryptofeed.defines import (
    CANDLES,
    FUNDING,
    INDEX,
    L2_BOOK,
    LIQUIDATIONS,
    OPEN_INTEREST,
    PERPETUAL,
    SPOT,
    TICKER,
    TRADES,
)
from cryptofeed.symbols import Symbols

CHANNELS = (L2_BOOK, TICKER, TRADES, FUNDING, OPEN_INTEREST, LIQUIDATIONS, CANDLES, INDEX)


class Replies:
    """Stands for REST: the book of the symbol that an address names, as it is in the capture."""

    def __init__(self, bodies):
        self.bodies = bodies

    async def read(self, address, *_, **__):
        named = [body for symbol, body in self.bodies.items() if symbol.lower() in str(address).lower()]
        if not named:
            raise LookupError(f"no reply for {address}")
        return named[0]

    async def close(self):
        pass


class Connection:
    """Stands for the WebSocket: what is sent goes nowhere."""

    def __init__(self, address, subscription):
        self.uuid = "capture"
        self.address = address
        self.subscription = subscription

    async def write(self, _):
        pass

    async def close(self):
        pass


class Pass:
    """One pass of a new feed over all messages."""

    def __init__(self, spec):
        self.spec = spec
        self.kind = ""
        self.found = {}

    async def count(self, *_):
        self.found[self.kind]["calls"] += 1

    def feed(self):
        cls = getattr(exchanges, self.spec["class"])
        symbols = self.spec["symbols"]
        types = {name: PERPETUAL if name.endswith("-PERP") else SPOT for name in symbols}
        scales = {name: 10**8 if raw.startswith("s") else 10**4 for name, raw in symbols.items()}  # of Phemex
        Symbols.set(cls.id, symbols, {"instrument_type": types, "price_scale": scales})
        channels = [channel for channel in CHANNELS if channel in cls.websocket_channels]
        callbacks = dict.fromkeys(channels, self.count)
        feed = cls(symbols=list(symbols), channels=channels, callbacks=callbacks, candle_closed_only=False)
        feed._build_subscription()
        feed.http_conn = Replies(self.spec["replies"])
        return feed

    async def run(self):
        feed = self.feed()
        connection = Connection(self.spec["url"], feed.subscription)
        with contextlib.suppress(LookupError, ValueError):  # what the capture lacks; it has started anew by then
            await feed.subscribe(connection)
        for text, is_binary, ts, kind in self.spec["messages"]:
            payload = bytes.fromhex(text) if is_binary else text
            self.kind = kind
            found = self.found.setdefault(kind, {"n": 0, "ns": 0, "calls": 0, "errors": 0})
            began = time.monotonic_ns()
            try:
                await feed.message_handler(payload, connection, ts)
            except Exception:  # of whatever kind: the table then has no figure
                found["errors"] += 1
            found["ns"] += time.monotonic_ns() - began
            found["n"] += 1
        return self.found


def main():
    logging.disable(logging.CRITICAL)
    spec = json.load(sys.stdin)
    passes = [asyncio.run(Pass(spec).run()) for _ in range(spec["passes"])]
    best = {kind: min((found[kind] for found in passes), key=lambda one: one["ns"]) for kind in passes[0]}
    json.dump(best, sys.stdout)


if __name__ == "__main__":
    main()
