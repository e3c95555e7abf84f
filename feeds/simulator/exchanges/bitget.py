"""Bitget spot, API v3 (UTA) as of April 2026, when updates still had checksums."""

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from feeds.simulator.exchanges.okx import checksum
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
)
from feeds.simulator.markets import Market
from feeds.simulator.numbers import Numbers
from feeds.simulator.order_flow import Fill, Top
from feeds.simulator.protocol import Message, PolicyViolation

SPOT = "spot"
TYPES = (SPOT, "usdt-futures", "usdc-futures", "coin-futures")
CONN_ID = "b05a1e92"
MAX_BYTES = 4096


class BitgetSession(GeneratedSession):
    """Text pings, without which a connection ends though data flow; one answer per argument."""

    idle_timeout = 120.0
    messages_per_second = 10

    def receive(self, text: bytes, now_ns: int) -> list[bytes]:
        if text == b"ping":
            return [b"pong"]
        if len(text) > MAX_BYTES:
            raise PolicyViolation(1009, "message too long")
        request = decode_object(text)
        if request is None:
            return [_error(30003, "Illegal request")]
        op, args = request.get("op"), request.get("args")
        if op not in ("subscribe", "unsubscribe") or not isinstance(args, list):
            return [_error(30003, f"Invalid op:{op}")]
        return [answer for arg in args for answer in self._answer(op, arg, now_ns)]

    def _answer(self, op: str, arg: Any, now_ns: int) -> list[bytes]:
        kind, topic, symbol = (
            (arg.get("instType"), arg.get("topic"), arg.get("symbol")) if isinstance(arg, dict) else (None, None, None)
        )
        accepted: list[bytes] | None = None
        if isinstance(topic, str) and isinstance(symbol, str) and kind in TYPES:
            if kind != SPOT and symbol in self.exchange.markets:
                accepted = []  # a real symbol of another type: acknowledged, and silent
            elif op == "subscribe":
                accepted = self.subscribe(topic, symbol, now_ns)
            else:
                accepted = [] if self.unsubscribe(topic, symbol) else None
        if accepted is None:
            return [_error(30001, f"instType:{kind},topic:{topic},symbol:{symbol} doesn't exist")]
        return [msgspec.json.encode({"event": op, "arg": arg, "connId": CONN_ID}), *accepted]


class Bitget(GeneratedExchange):
    name = "bitget"
    update_ids = "exchange"
    session = BitgetSession
    paths = ("/v3/ws/public",)
    written = re.compile(r"[A-Z0-9]+")
    default_symbols = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
    ghost = ("books", "GHOSTUSDT")
    checksum_field = "checksum"
    sequence_fields = ("seq", "pseq")
    enum_field = "S"

    def number_format(self, market: Market) -> Numbers:
        return Numbers(market, is_short=True)

    def stream(self, key: str, channel: str, symbol: str) -> Stream:
        if channel == "books":
            return BookStream(self, key, symbol, levels=1000, period_ns=50 * NS_PER_MS)
        if channel == "books5":
            return BookStream(self, key, symbol, levels=5, period_ns=10 * NS_PER_MS, is_whole=True)
        if channel == "books1":
            return BookStream(self, key, symbol, levels=1, is_whole=True)
        if channel == "publicTrade":
            return TradeStream(self, key, symbol)
        raise KeyError(channel)

    def book(self, stream: BookStream, now_ns: int, bids: Levels, asks: Levels, *, is_snapshot: bool) -> str:
        n, ts = stream.numbers, now_ns // NS_PER_MS
        data = (
            f'{{"a":[{n.levels(asks)}],"b":[{n.levels(bids)}],"checksum":{0 if is_snapshot else checksum(stream)},'
            f'"pseq":{0 if is_snapshot else stream.previous_id},"seq":{stream.last_id},"ts":"{ts}"}}'
        )
        return _push(stream, "snapshot" if is_snapshot else "update", data, ts)

    def quote(self, stream: QuoteStream, ts_event: int, top: Top, update_id: int) -> str:
        raise NotImplementedError("quotes are books of one level")

    def trades(self, stream: TradeStream, ts_event: int, fills: Sequence[Fill]) -> Sequence[str]:
        n, ts = stream.numbers, ts_event // NS_PER_MS
        data = ",".join(
            f'{{"i":"{fill.trade_id}","p":"{n.price(fill.price)}","v":"{n.qty(fill.qty)}",'
            f'"S":"{"sell" if fill.buyer_is_maker else "buy"}","T":"{ts}","isRPI":"no"}}'
            for fill in reversed(fills)  # newest first
        )
        return [_push(stream, "update", data, ts)]

    def get(self, path: str, query: dict[str, str], now_ns: int) -> object:
        listed: list[Any] = []
        if path == "/api/v2/spot/public/symbols":
            listed = [_symbol(market) for market in self.markets.values()]
        elif path != "/api/v2/mix/market/contracts":
            return None
        return {"code": "00000", "msg": "success", "requestTime": now_ns // NS_PER_MS, "data": listed}

    def unknown_event(self, now_ns: int) -> Message:
        data = (
            b'{"action":"update","arg":{"instType":"spot","topic":"simulated","symbol":"%b"},'
            b'"data":[{"x":[1,"two",null]}],"ts":1}' % next(iter(self.markets)).encode()
        )
        return Message("simulated", "", "other", data, to_all=True)


def _push(stream: Stream, action: str, data: str, ts: int) -> str:
    arg = f'{{"instType":"spot","topic":"{stream.channel}","symbol":"{stream.symbol}"}}'
    return f'{{"action":"{action}","arg":{arg},"data":[{data}],"ts":{ts}}}'


def _error(code: int, msg: str) -> bytes:
    return msgspec.json.encode({"event": "error", "code": code, "msg": msg})


def _symbol(market: Market) -> dict[str, str]:
    return {
        "symbol": market.symbol,
        "baseCoin": market.base,
        "quoteCoin": market.quote,
        "pricePrecision": str(market.price_decimals),
        "quantityPrecision": str(market.qty_decimals),
        "status": "online",
    }


SIMULATOR = Bitget
