"""A client on `websockets`, as a careful user writes it: python websockets_client.py EXCHANGE WS_URL REST_URL SYMBOL...

Books in dicts, joined and checked by the exchange's published rules, made anew one by one where a message is missing,
and withdrawn when the connection has gone. Connections, pings and reconnects are left to `websockets` and its defaults.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sys
from collections.abc import Iterable
from typing import Any

import aiohttp
from reporting import LogReport, show, withdraw
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

log = logging.getLogger("client")


class Book:
    def __init__(self, symbol: str) -> None:
        self.symbol = symbol
        self.last_id: int | None = None  # None: not in sync
        self.sides: dict[str, dict[str, str]] = {"b": {}, "a": {}}

    def replace(self, bids: Any, asks: Any, last_id: int) -> None:
        self.sides = {"b": {}, "a": {}}
        self.change(bids, asks, last_id)

    def change(self, bids: Any, asks: Any, last_id: int) -> None:
        for side, levels in (("b", bids), ("a", asks)):
            for price, qty, *_ in levels:
                if float(qty):
                    self.sides[side][price] = qty
                else:
                    self.sides[side].pop(price, None)
        self.last_id = last_id

    def forget(self) -> None:
        self.last_id = None
        withdraw(self.symbol)

    def show(self) -> None:
        show(self.symbol, self._sorted("b", True), self._sorted("a", False))

    def _sorted(self, side: str, descending: bool) -> Iterable[tuple[str, str]]:
        return sorted(self.sides[side].items(), key=lambda level: float(level[0]), reverse=descending)


class Client:
    path = ""

    def __init__(self, ws_url: str, rest_url: str, symbols: tuple[str, ...]) -> None:
        self.ws_url = ws_url + self.path
        self.rest_url = rest_url
        self.books = {symbol: Book(symbol) for symbol in symbols}

    async def run(self) -> None:
        async for ws in connect(self.ws_url):
            try:
                await self.on_open(ws)
                async for text in ws:
                    try:
                        if text != "pong":
                            await self.on_message(ws, json.loads(text))
                    except (ValueError, KeyError, TypeError) as error:
                        log.warning("cannot read a message: %r", error)  # what was in it is missing, and will be seen
            except ConnectionClosed as error:
                log.warning("disconnected: %s", error)
            finally:
                self.on_close()

    async def on_open(self, ws: ClientConnection) -> None:
        raise NotImplementedError

    async def on_message(self, ws: ClientConnection, message: Any) -> None:
        raise NotImplementedError

    def on_close(self) -> None:
        for book in self.books.values():
            book.forget()


class BinanceFutures(Client):
    """https://developers.binance.com/docs/derivatives: how to manage a local order book correctly."""

    def __init__(self, ws_url: str, rest_url: str, symbols: tuple[str, ...]) -> None:
        self.path = "/public/stream?streams=" + "/".join(f"{symbol.lower()}@depth@100ms" for symbol in symbols)
        super().__init__(ws_url, rest_url, symbols)
        self.waiting: dict[str, list[Any]] = {}  # deltas that have come since the snapshot was asked for
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def on_open(self, ws: ClientConnection) -> None:
        for book in self.books.values():
            self.join(book)

    def on_close(self) -> None:
        super().on_close()
        for task in self.tasks.values():
            task.cancel()

    async def on_message(self, ws: ClientConnection, message: Any) -> None:
        delta = message["data"]
        if delta["e"] != "depthUpdate" or delta["s"] not in self.books:
            log.warning("not expected: %s", delta)
            return
        book = self.books[delta["s"]]
        bids, asks, _, last_id, previous_id = (delta[field] for field in ("b", "a", "U", "u", "pu"))
        if book.last_id is None:
            self.waiting[book.symbol].append(delta)
        elif previous_id == book.last_id:
            book.change(bids, asks, last_id)
            book.show()
        elif last_id > book.last_id:
            log.warning("%s: expected pu %d, found %d", book.symbol, book.last_id, previous_id)
            book.forget()
            self.join(book)

    def join(self, book: Book) -> None:
        self.waiting[book.symbol] = []
        self.tasks[book.symbol] = asyncio.create_task(self.sync(book))

    async def sync(self, book: Book) -> None:
        """Fetch snapshots until the deltas continue one."""
        while True:
            snapshot = await self.fetch(f"{self.rest_url}/fapi/v1/depth?symbol={book.symbol}&limit=1000")
            last_id = snapshot["lastUpdateId"]
            while not (newer := [delta for delta in self.waiting[book.symbol] if delta["u"] >= last_id]):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            if newer[0]["U"] <= last_id or newer[0]["pu"] == last_id:
                break
            await asyncio.sleep(1)
        book.replace(snapshot["bids"], snapshot["asks"], last_id)
        for number, delta in enumerate(newer):
            if number and delta["pu"] != book.last_id:
                log.warning("%s: expected pu %d, found %d", book.symbol, book.last_id, delta["pu"])
                return self.join(book)
            book.change(delta["b"], delta["a"], delta["u"])
        book.show()

    async def fetch(self, url: str) -> Any:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
            while True:
                wait = 1.0
                with contextlib.suppress(aiohttp.ClientError, asyncio.TimeoutError):
                    async with session.get(url) as response:
                        if response.status == 200:
                            return await response.json()
                        log.warning("%s: %d", url, response.status)
                        wait = float(response.headers.get("Retry-After", 1))
                await asyncio.sleep(wait)


class Okx(Client):
    """https://www.okx.com/docs-v5: order book channel. A book is made anew by subscribing to it again."""

    path = "/ws/v5/public"

    async def on_open(self, ws: ClientConnection) -> None:
        self.pinging = asyncio.create_task(self.ping(ws))
        await self.send(ws, "subscribe", ("books", "trades"), self.books)

    def on_close(self) -> None:
        super().on_close()
        self.pinging.cancel()

    async def on_message(self, ws: ClientConnection, message: Any) -> None:
        if message.get("event") in ("subscribe", "unsubscribe"):
            return
        channel, symbol = message["arg"]["channel"], message["arg"]["instId"]
        if channel == "trades":
            return
        if channel != "books" or symbol not in self.books:
            log.warning("not expected: %s", message)
            return
        book, (data,) = self.books[symbol], message["data"]
        bids, asks, last_id, previous_id = (data[field] for field in ("bids", "asks", "seqId", "prevSeqId"))
        if message["action"] == "snapshot":
            book.replace(bids, asks, last_id)
            book.show()
        elif book.last_id is not None and previous_id == book.last_id:
            book.change(bids, asks, last_id)
            book.show()
        elif book.last_id is not None and last_id != book.last_id:
            log.warning("%s: expected prevSeqId %d, found %d", symbol, book.last_id, previous_id)
            book.forget()
            await self.send(ws, "unsubscribe", ("books",), [symbol])
            await self.send(ws, "subscribe", ("books",), [symbol])

    async def ping(self, ws: ClientConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                await asyncio.sleep(20)
                await ws.send("ping")

    async def send(self, ws: ClientConnection, op: str, channels: Iterable[str], symbols: Iterable[str]) -> None:
        args = [{"channel": channel, "instId": symbol} for channel in channels for symbol in symbols]
        await ws.send(json.dumps({"op": op, "args": args}))


CLIENTS: dict[str, type[Client]] = {"binance-futures": BinanceFutures, "okx": Okx}


if __name__ == "__main__":
    logging.getLogger().addHandler(LogReport())
    name, ws, rest, *names = sys.argv[1:]
    asyncio.run(CLIENTS[name](ws, rest, tuple(names)).run())
