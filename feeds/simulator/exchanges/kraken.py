"""Kraken spot, WebSocket API v2."""

import re
import zlib
from collections.abc import Sequence
from typing import Any

import msgspec

from feeds.simulator.generated import (
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
from feeds.simulator.numbers import Numbers, decimal, iso
from feeds.simulator.order_flow import Fill, Top
from feeds.simulator.protocol import Message

DEPTHS = (10, 25, 100, 500, 1000)
CHECKSUM_LEVELS = 10
QTY_DECIMALS = 8
REST_NAMES = {"BTC": "XBT", "DOGE": "XDG"}
STATUS = (
    b'{"channel":"status","type":"update","data":[{"version":"2.0.9","system":"online","api_version":"v2",'
    b'"connection_id":12393906104898154338}]}'
)


class KrakenSession(GeneratedSession):
    """One answer per symbol; a heartbeat in each second without data, from the first subscription on."""

    idle_timeout = 60.0
    data_keeps_alive = True

    def open(self, now_ns: int) -> list[bytes]:
        return [STATUS]

    def beat(self, monotonic_ns: int, now_ns: int) -> list[bytes]:
        was_served = self._was_served
        super().beat(monotonic_ns, now_ns)
        if not self._names or was_served:
            return []
        self._heard_ns = monotonic_ns
        return [b'{"channel":"heartbeat"}']

    def receive(self, text: bytes, now_ns: int) -> list[bytes]:
        request = decode_object(text)
        if request is None:
            return [_encode({"error": "Malformed request", "success": False}, {}, now_ns)]
        method, params = request.get("method"), request.get("params")
        if method == "ping":
            return [_encode({"method": "pong"}, request, now_ns)]
        if method not in ("subscribe", "unsubscribe"):
            return [_encode({"error": "Unsupported method", "method": method, "success": False}, request, now_ns)]
        channel = params.get("channel") if isinstance(params, dict) else None
        symbols = params.get("symbol") if isinstance(params, dict) else None
        if not isinstance(channel, str) or not isinstance(symbols, list):
            return [_encode({"error": "Missing field", "method": method, "success": False}, request, now_ns)]
        return [answer for symbol in symbols for answer in self._answer(request, channel, symbol, now_ns)]

    def _answer(self, request: dict[str, Any], channel: str, symbol: Any, now_ns: int) -> list[bytes]:
        method, params = request["method"], request["params"]
        result = {"channel": channel, "symbol": symbol}
        name = channel
        if channel == "book":
            result["depth"] = params.get("depth", 10)
            name = f"book-{result['depth']}"
        if channel not in ("book", "trade", "ticker") or (channel == "book" and result["depth"] not in DEPTHS):
            problem = "Subscription depth not supported" if channel == "book" else f"Subscription {channel} not found"
        elif not isinstance(symbol, str) or symbol not in self.exchange.markets:
            problem = f"Currency pair not supported {symbol}"
        elif method == "unsubscribe":
            problem = "" if self.unsubscribe(name, symbol) else "Subscription Not Found"
            first: list[bytes] | None = []
        else:
            problem = "Already subscribed" if self.has(name, symbol) else ""
            first = [] if problem else self.subscribe(name, symbol, now_ns)
            if first is None:
                problem = f"Currency pair not supported {symbol}"
        if problem:
            refusal = {"error": problem, "method": method, "success": False, "symbol": symbol}
            return [_encode(refusal, request, now_ns)]
        return [_encode({"method": method, "result": result, "success": True}, request, now_ns), *(first or [])]


class Kraken(GeneratedExchange):
    name = "kraken"
    session = KrakenSession
    paths = ("/v2",)
    written = re.compile(r"[A-Za-z0-9]+/[A-Z0-9]+")
    default_symbols = ("BTC/USD", "ETH/USD", "SOL/USD")
    ghost = ("book-10", "GHOST/USD")
    checksum_field = "checksum"
    enum_field = "side"

    def number_format(self, market: Market) -> Numbers:
        return Numbers(market, shown_qty=QTY_DECIMALS)

    def stream(self, key: str, channel: str, symbol: str) -> Stream:
        if channel == "trade":
            return TradeStream(self, key, symbol)
        if channel == "ticker":
            return QuoteStream(self, key, symbol)
        name, _, depth = channel.partition("-")
        if name == "book":
            return BookStream(self, key, symbol, levels=int(depth), tells_dropped=False)
        raise KeyError(channel)

    def book(self, stream: BookStream, now_ns: int, bids: Levels, asks: Levels, *, is_snapshot: bool) -> str:
        return (
            f'{{"channel":"book","type":"{"snapshot" if is_snapshot else "update"}","data":[{{'
            f'"symbol":"{stream.symbol}","bids":[{_levels(stream.numbers, bids)}],'
            f'"asks":[{_levels(stream.numbers, asks)}],"checksum":{checksum(stream)},"timestamp":"{iso(now_ns)}"}}]}}'
        )

    def quote(self, stream: QuoteStream, ts_event: int, top: Top, update_id: int) -> str:
        n = stream.numbers
        return (
            f'{{"channel":"ticker","type":"update","data":[{{"symbol":"{stream.symbol}","bid":{n.price(top.bid)},'
            f'"bid_qty":{n.qty(top.bid_qty)},"ask":{n.price(top.ask)},"ask_qty":{n.qty(top.ask_qty)},'
            f'"last":{n.price(top.bid)},"timestamp":"{iso(ts_event)}"}}]}}'
        )

    def trades(self, stream: TradeStream, ts_event: int, fills: Sequence[Fill]) -> Sequence[str]:
        n = stream.numbers
        data = ",".join(
            f'{{"symbol":"{stream.symbol}","side":"{"sell" if fill.buyer_is_maker else "buy"}",'
            f'"price":{n.price(fill.price)},"qty":{n.qty(fill.qty)},"ord_type":"market","trade_id":{fill.trade_id},'
            f'"timestamp":"{iso(ts_event)}"}}'
            for fill in fills
        )
        return [f'{{"channel":"trade","type":"update","data":[{data}]}}']

    def get(self, path: str, query: dict[str, str], now_ns: int) -> object:
        if path == "/0/public/AssetPairs":
            return {"error": [], "result": {_rest_name(market, ""): _pair(market) for market in self.markets.values()}}
        if path == "/0/public/Time":
            return {"error": [], "result": {"unixtime": now_ns // 1_000_000_000}}
        return None

    def unknown_event(self, now_ns: int) -> Message:
        data = b'{"channel":"simulated","type":"update","data":[{"x":[1,"two",null]}]}'
        return Message("simulated", "", "other", data, to_all=True)


def checksum(stream: BookStream) -> int:
    """CRC-32 of the digits of ten asks, then of ten bids, leading zeros left out."""
    bids, asks = stream.best(CHECKSUM_LEVELS)
    numbers = stream.numbers.levels([*asks, *bids], "", " ", "", " ").replace(".", "").split(" ")
    return zlib.crc32("".join([digits.lstrip("0") for digits in numbers]).encode())


def _levels(numbers: Numbers, levels: Levels) -> str:
    return numbers.levels(levels, '{"price":', ',"qty":', "}")


def _encode(answer: dict[str, Any], request: dict[str, Any], now_ns: int) -> bytes:
    if isinstance(request.get("req_id"), int):
        answer["req_id"] = request["req_id"]
    return msgspec.json.encode(answer | {"time_in": iso(now_ns), "time_out": iso(now_ns)})


def _rest_name(market: Market, separator: str) -> str:
    base, _, quote = market.symbol.partition("/")
    return f"{REST_NAMES.get(base, base)}{separator}{REST_NAMES.get(quote, quote)}"


def _pair(market: Market) -> dict[str, Any]:
    return {
        "altname": _rest_name(market, ""),
        "wsname": _rest_name(market, "/"),
        "base": market.base,
        "quote": market.quote,
        "pair_decimals": market.price_decimals,
        "lot_decimals": QTY_DECIMALS,
        "tick_size": decimal(market.tick, market.price_decimals, market.price_decimals),
        "status": "online",
    }


SIMULATOR = Kraken
