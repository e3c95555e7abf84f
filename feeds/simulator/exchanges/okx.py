"""OKX, API v5, as it was until checksums ended in June 2026: spot, and contracts."""

import re
import zlib
from collections.abc import Sequence
from itertools import chain, zip_longest
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec

from feeds.simulator.generated import (
    NS_PER_MS,
    BookStream,
    GeneratedExchange,
    GeneratedSession,
    Levels,
    QuoteStream,
    Stream,
    TradeStream,
    decode_object,
    json_reply,
)
from feeds.simulator.markets import Market
from feeds.simulator.numbers import Numbers, decimal, shortest
from feeds.simulator.order_flow import Book, Fill, Top
from feeds.simulator.protocol import Message

PUBLIC, BUSINESS = "/ws/v5/public", "/ws/v5/business"
CHECKSUM_LEVELS = 25
CONN_ID = "a4d3ae55"


class OkxSession(GeneratedSession):
    """Text pings; an acknowledgement or an error for each argument of a request."""

    idle_timeout = 30.0
    idle_ending = (4004, "No data received in 30s.")
    data_keeps_alive = True

    def receive(self, text: bytes, now_ns: int) -> list[bytes]:
        if text == b"ping":
            return [b"pong"]
        request = decode_object(text)
        if request is None:
            return [_error("60012", f"Invalid request: {text.decode(errors='replace')}")]
        op, args = request.get("op"), request.get("args")
        if op not in ("subscribe", "unsubscribe") or not isinstance(args, list):
            return [_error("60012", f"Invalid request: {msgspec.json.encode(request).decode()}")]
        return [answer for arg in args for answer in self._answer(op, arg, now_ns)]

    def _answer(self, op: str, arg: Any, now_ns: int) -> list[bytes]:
        channel = arg.get("channel") if isinstance(arg, dict) else None
        symbol = arg.get("instId", "") if isinstance(arg, dict) else ""
        first: list[bytes] | None = None
        if (
            isinstance(channel, str)
            and isinstance(symbol, str)
            and (channel == "trades-all") == (self.path == BUSINESS)
        ):
            if op == "unsubscribe":
                first = [] if self.unsubscribe(channel, symbol) else None
            else:
                first = self.subscribe(channel, symbol, now_ns)
        if first is None:
            return [_error("60018", f"Wrong URL or channel:{channel},instId:{symbol} doesn't exist.")]
        return [msgspec.json.encode({"event": op, "arg": arg, "connId": CONN_ID}), *first]


class Okx(GeneratedExchange):
    name = "okx"
    update_ids = "exchange"
    session = OkxSession
    paths = (PUBLIC, BUSINESS)
    written = re.compile(r"[A-Z0-9]+-[A-Z0-9_]+(-SWAP|-\d{6}(-\d+-[CP])?)?")
    default_symbols = ("BTC-USDT", "ETH-USDT", "BTC-USDT-SWAP")
    ghost = ("books", "GHOST-USDT")
    checksum_field = "checksum"
    sequence_fields = ("seqId", "prevSeqId")
    enum_field = "side"

    def number_format(self, market: Market) -> Numbers:
        return Numbers(market, is_short=True)

    def stream(self, key: str, channel: str, symbol: str) -> Stream:
        if channel in ("trades", "trades-all"):
            return TradeStream(self, key, symbol)
        if channel == "books":
            return BookStream(self, key, symbol, levels=400, period_ns=100 * NS_PER_MS)
        if channel == "books5":
            return BookStream(self, key, symbol, levels=5, period_ns=100 * NS_PER_MS, is_whole=True)
        if channel == "bbo-tbt":
            return QuoteStream(self, key, symbol)
        raise KeyError(channel)

    def book(self, stream: BookStream, now_ns: int, bids: Levels, asks: Levels, *, is_snapshot: bool) -> str:
        sides = f'"asks":[{_levels(stream.numbers, asks)}],"bids":[{_levels(stream.numbers, bids)}]'
        ts = now_ns // NS_PER_MS
        if stream.kind == "book":
            data = f'{{{sides},"instId":"{stream.symbol}","ts":"{ts}","seqId":{stream.last_id}}}'
            return f'{{"arg":{_arg(stream)},"data":[{data}]}}'
        return (
            f'{{"arg":{_arg(stream)},"action":"{"snapshot" if is_snapshot else "update"}","data":[{{{sides},'
            f'"ts":"{ts}","checksum":{checksum(stream)},"seqId":{stream.last_id},'
            f'"prevSeqId":{-1 if is_snapshot else stream.previous_id}}}]}}'
        )

    def quote(self, stream: QuoteStream, ts_event: int, top: Top, update_id: int) -> str:
        asks = _levels(stream.numbers, [(top.ask, top.ask_qty)])
        bids = _levels(stream.numbers, [(top.bid, top.bid_qty)])
        data = f'{{"asks":[{asks}],"bids":[{bids}],"ts":"{ts_event // NS_PER_MS}","seqId":{update_id}}}'
        return f'{{"arg":{_arg(stream)},"data":[{data}]}}'

    def trades(self, stream: TradeStream, ts_event: int, fills: Sequence[Fill]) -> Sequence[str]:
        def write(fill: Fill, qty: int, count: str) -> str:
            return (
                f'{{"arg":{_arg(stream)},"data":[{{"instId":"{stream.symbol}","tradeId":"{fill.trade_id}",'
                f'"px":"{stream.numbers.price(fill.price)}","sz":"{stream.numbers.qty(qty)}",'
                f'"side":"{"sell" if fill.buyer_is_maker else "buy"}","ts":"{ts_event // NS_PER_MS}"{count}}}]}}'
            )

        if stream.key.startswith("trades-all:"):
            return [write(fill, fill.qty, "") for fill in fills]
        by_price: dict[int, list[Fill]] = {}
        for fill in fills:
            by_price.setdefault(fill.price, []).append(fill)
        return [
            write(same[-1], sum(fill.qty for fill in same), f',"count":"{len(same)}"') for same in by_price.values()
        ]

    def get(self, path: str, query: dict[str, str], now_ns: int) -> object:
        if path == "/api/v5/public/instruments":
            kind = query.get("instType")
            listed = [_instrument(market) for market in self.markets.values()]
            return {"code": "0", "msg": "", "data": [found for found in listed if found["instType"] == kind]}
        if path == "/api/v5/market/books":
            return json_reply(200, {"code": "51001", "msg": "Instrument ID doesn't exist.", "data": []})
        if path == "/api/v5/public/time":
            return {"code": "0", "msg": "", "data": [{"ts": str(now_ns // NS_PER_MS)}]}
        return None

    def snapshot_symbol(self, target: str) -> str | None:
        parts = urlsplit(target)
        return parse_qs(parts.query).get("instId", [None])[0] if parts.path == "/api/v5/market/books" else None

    def snapshot_levels(self, query: dict[str, str]) -> int:
        size = query.get("sz", "1")
        return min(int(size), 400) if size.isdecimal() and int(size) else 1

    def rest_book(self, book: Book, numbers: Numbers, now_ns: int) -> bytes:
        asks, bids = _levels(numbers, book.asks), _levels(numbers, book.bids)
        data = f'{{"asks":[{asks}],"bids":[{bids}],"ts":"{now_ns // NS_PER_MS}","seqId":{book.update_id}}}'
        return f'{{"code":"0","msg":"","data":[{data}]}}'.encode()

    def unknown_event(self, now_ns: int) -> Message:
        data = b'{"arg":{"channel":"simulated","instId":"BTC-USDT"},"data":[{"x":[1,"two",null]}]}'
        return Message("simulated", "", "other", data, to_all=True)


def checksum(stream: BookStream) -> int:
    """CRC-32, signed, of price and size of the 25 best levels: a bid, an ask, the next bid and so on."""
    levels = [level for level in chain.from_iterable(zip_longest(*stream.best(CHECKSUM_LEVELS))) if level is not None]
    crc = zlib.crc32(stream.numbers.levels(levels, "", ":", "", ":").encode())
    return crc - 2**32 if crc >= 2**31 else crc


def _levels(numbers: Numbers, levels: Levels) -> str:
    return ",".join(
        [f'["{numbers.price(price)}","{numbers.qty(qty)}","0","{1 if qty else 0}"]' for price, qty in levels]
    )


def _arg(stream: Stream) -> str:
    return f'{{"channel":"{stream.channel}","instId":"{stream.symbol}"}}'


def _error(code: str, msg: str) -> bytes:
    return msgspec.json.encode({"event": "error", "code": code, "msg": msg, "connId": CONN_ID})


def _instrument(market: Market) -> dict[str, str]:
    parts = market.symbol.split("-")
    kind = "SPOT" if len(parts) == 2 else "SWAP" if parts[2] == "SWAP" else "FUTURES" if len(parts) == 3 else "OPTION"
    lot = shortest(decimal(market.lot, market.qty_decimals, market.qty_decimals))
    is_spot = kind == "SPOT"
    return {
        "instId": market.symbol,
        "instType": kind,
        "baseCcy": market.base if is_spot else "",
        "quoteCcy": market.quote if is_spot else "",
        "tickSz": shortest(decimal(market.tick, market.price_decimals, market.price_decimals)),
        "lotSz": lot,
        "minSz": lot,
        "ctVal": "" if is_spot else "0.01",
        "ctMult": "" if is_spot else "1",
        "ctValCcy": "" if is_spot else parts[0],
        "ctType": "" if is_spot else "linear",
        "state": "live",
    }


SIMULATOR = Okx
