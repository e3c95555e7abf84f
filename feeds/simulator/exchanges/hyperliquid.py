"""Hyperliquid perpetuals: every book whole, nothing to join; a coin that there is not ends the connection."""

import re
from collections.abc import Sequence
from typing import Any

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
from feeds.simulator.numbers import Numbers
from feeds.simulator.order_flow import Fill, Top
from feeds.simulator.protocol import HttpReply, Message, PolicyViolation

USERS = '["0x0000000000000000000000000000000000000001","0x0000000000000000000000000000000000000002"]'
HASH = f"0x{0:064x}"


class HyperliquidSession(GeneratedSession):
    """One subscription a message."""

    idle_timeout = 60.0
    data_keeps_alive = True

    def receive(self, text: bytes, now_ns: int) -> list[bytes]:
        request = decode_object(text)
        method = request.get("method") if request is not None else None
        if method == "ping":
            return [b'{"channel":"pong"}']
        wanted = request.get("subscription") if request is not None else None
        if request is None or method not in ("subscribe", "unsubscribe") or not isinstance(wanted, dict):
            return [_error(f"Error parsing JSON into valid websocket request: {text.decode(errors='replace')}")]
        kind, coin = wanted.get("type"), wanted.get("coin")
        if kind not in ("l2Book", "bbo", "trades"):
            return [_error(f"Error parsing JSON into valid websocket request: {text.decode(errors='replace')}")]
        if not isinstance(coin, str) or coin not in self.exchange.markets:
            raise PolicyViolation(1006, f"unknown coin {coin}")
        channel = "l2Book.fast" if kind == "l2Book" and wanted.get("fast") else kind
        first: list[bytes] | None
        if method == "unsubscribe":
            first = [] if self.unsubscribe(channel, coin) else None
            problem = "Already unsubscribed"
        else:
            problem = "Already subscribed" if self.has(channel, coin) else "Cannot track more than 1000 total users."
            first = None if self.has(channel, coin) else self.subscribe(channel, coin, now_ns)
        if first is None:
            return [_error(f"{problem}: {msgspec.json.encode(wanted).decode()}")]
        if kind == "l2Book":
            wanted = {"nSigFigs": None, "mantissa": None, "fast": False} | wanted
        answer = {"channel": "subscriptionResponse", "data": {"method": method, "subscription": wanted}}
        return [msgspec.json.encode(answer), *first]


class Hyperliquid(GeneratedExchange):
    name = "hyperliquid"
    session = HyperliquidSession
    answers_posts = True
    paths = ("/ws",)
    written = re.compile(r"k?[A-Z0-9]+")
    default_symbols = ("BTC", "ETH", "SOL")
    ghost = ("l2Book", "GHOST")
    enum_field = "side"

    def number_format(self, market: Market) -> Numbers:
        return Numbers(market, shown_price=max(1, market.price_decimals))

    def stream(self, key: str, channel: str, symbol: str) -> Stream:
        if channel == "l2Book.fast":
            return BookStream(self, key, symbol, levels=5, period_ns=540 * NS_PER_MS, is_whole=True)
        if channel == "l2Book":
            return BookStream(self, key, symbol, levels=20, period_ns=5000 * NS_PER_MS, is_whole=True)
        if channel == "bbo":
            return QuoteStream(self, key, symbol)
        return TradeStream(self, key, symbol)

    def book(self, stream: BookStream, now_ns: int, bids: Levels, asks: Levels, *, is_snapshot: bool) -> str:
        fast = ',"fast":true' if stream.channel == "l2Book.fast" else ""
        sides = ",".join(f"[{','.join(_level(stream.numbers, *level) for level in side)}]" for side in (bids, asks))
        data = f'{{"coin":"{stream.symbol}","time":{now_ns // NS_PER_MS},"levels":[{sides}]{fast}}}'
        return f'{{"channel":"l2Book","data":{data}}}'

    def quote(self, stream: QuoteStream, ts_event: int, top: Top, update_id: int) -> str:
        bid = _level(stream.numbers, top.bid, top.bid_qty)
        ask = _level(stream.numbers, top.ask, top.ask_qty)
        data = f'{{"coin":"{stream.symbol}","time":{ts_event // NS_PER_MS},"bbo":[{bid},{ask}]}}'
        return f'{{"channel":"bbo","data":{data}}}'

    def trades(self, stream: TradeStream, ts_event: int, fills: Sequence[Fill]) -> Sequence[str]:
        n = stream.numbers
        data = ",".join(
            f'{{"coin":"{stream.symbol}","side":"{"A" if fill.buyer_is_maker else "B"}","px":"{n.price(fill.price)}",'
            f'"sz":"{n.qty(fill.qty)}","time":{ts_event // NS_PER_MS},"hash":"{HASH}","tid":{fill.trade_id},'
            f'"users":{USERS}}}'
            for fill in fills
        )
        return [f'{{"channel":"trades","data":[{data}]}}']

    def rest(self, target: str, now_ns: int, *, stale: bool = False, body: bytes = b"") -> HttpReply:
        request = decode_object(body)
        kind = request.get("type") if request is not None else None
        universe = [_perpetual(market) for market in self.markets.values()]
        replies: dict[object, object] = {
            "meta": {"universe": universe},
            "allPerpMetas": [{"universe": universe}],
            "spotMeta": {"universe": [], "tokens": []},
        }
        if target != "/info":
            return HttpReply(404, b"Not Found")
        if kind not in replies:
            return HttpReply(422, b"Failed to deserialize the JSON body into the target type")
        return json_reply(200, replies[kind])

    def get(self, path: str, query: dict[str, str], now_ns: int) -> object:
        return None

    def unknown_event(self, now_ns: int) -> Message:
        data = b'{"channel":"simulated","data":{"coin":"BTC","x":[1,"two",null]}}'
        return Message("simulated", "", "other", data, to_all=True)


def _level(numbers: Numbers, price: int, qty: int) -> str:
    return f'{{"px":"{numbers.price(price)}","sz":"{numbers.qty(qty)}","n":1}}'


def _error(text: str) -> bytes:
    return msgspec.json.encode({"channel": "error", "data": text})


def _perpetual(market: Market) -> dict[str, Any]:
    return {"name": market.symbol, "szDecimals": market.qty_decimals, "maxLeverage": 40}


SIMULATOR = Hyperliquid
