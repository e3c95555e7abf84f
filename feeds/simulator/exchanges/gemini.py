"""Gemini, `ws.gemini.com`: spot and perpetuals, books whose ids go on where the message before ended."""

import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, ClassVar
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
)
from feeds.simulator.markets import Market, plausible_market
from feeds.simulator.numbers import Numbers, decimal, shortest
from feeds.simulator.order_flow import Fill, Top
from feeds.simulator.protocol import HttpReply, Message, Refused

MORE_DECIMALS = 2  # than a step has, in books and trades
_DEPTH = re.compile(r"depth(5|10|20)?(@100ms)?")


class GeminiSession(GeneratedSession):
    """One answer for all streams of a request, behind their snapshots: a bad one refuses them all."""

    has_snapshots = False

    def receive(self, text: bytes, now_ns: int) -> list[bytes]:
        request = decode_object(text)
        if request is None:
            return [_error(None, -1130, "Invalid JSON")]
        request_id, method, streams = request.get("id"), str(request.get("method")).lower(), request.get("params")
        if method == "ping":
            return [_ok(request_id)]
        if method not in ("subscribe", "unsubscribe"):
            return [_error(request_id, -1130, f"Invalid method: {request.get('method')}")]
        if not isinstance(streams, list) or not all(isinstance(stream, str) for stream in streams):
            return [_error(request_id, -1130, "Invalid params")]
        before, first = set(self.streams), list[bytes]()
        for stream in streams:
            symbol, _, channel = stream.partition("@")
            if method == "unsubscribe":
                self.unsubscribe(channel, symbol)
                continue
            found = self.subscribe(channel, symbol, now_ns)
            if found is None:
                for key in set(self.streams) - before:
                    self.unsubscribe(*key.rsplit(":", 1))
                return [_error(request_id, -1013, f"Invalid stream name: {stream}")]
            if self.has_snapshots or channel not in ("depth", "depth@100ms"):
                first += found
        return [*first, _ok(request_id)]


class Gemini(GeneratedExchange):
    name = "gemini"
    update_ids = "exchange"
    ping_interval = 20.0
    session = GeminiSession
    written = re.compile(r"[a-z0-9]+")
    default_symbols = ("btcusd", "ethusd", "solusd")
    precisions: ClassVar = {"btcusd": (2, 1, 8, 1), "ethusd": (2, 1, 6, 1), "solusd": (3, 1, 6, 1)}
    ghost = ("depth@100ms", "ghostusd")
    sequence_fields = ("U", "u")

    def connect(self, target: str) -> GeneratedSession:
        session = super().connect(target)
        assert isinstance(session, GeminiSession)
        levels = parse_qs(urlsplit(target).query).get("snapshot", ["0"])[0]
        if levels not in ("-1", "0"):
            raise Refused(HttpReply(501, b"the simulator has snapshots of all levels (-1), or none (0)"))
        session.has_snapshots = levels == "-1"
        return session

    def market(self, symbol: str) -> Market:
        pair = symbol.upper().removesuffix("PERP")
        like = plausible_market(pair.replace("GUSD", "USD"), precision=self.precisions.get(symbol))
        return msgspec.structs.replace(like, symbol=symbol, quote="GUSD" if pair.endswith("GUSD") else like.quote)

    def number_format(self, market: Market) -> Numbers:
        return Numbers(market, market.price_decimals + MORE_DECIMALS, market.qty_decimals + MORE_DECIMALS)

    def stream(self, key: str, channel: str, symbol: str) -> Stream:
        if channel == "trade":
            return TradeStream(self, key, symbol)
        if channel == "bookTicker":
            return QuoteStream(self, key, symbol)
        match = _DEPTH.fullmatch(channel)
        if match is None:
            raise KeyError(channel)
        period_ns = (100 if match[2] else 1000) * NS_PER_MS
        levels = int(match[1]) if match[1] else None
        return BookStream(self, key, symbol, levels=levels, period_ns=period_ns, is_whole=levels is not None)

    def book(self, stream: BookStream, now_ns: int, bids: Levels, asks: Levels, *, is_snapshot: bool) -> str:
        n = stream.numbers
        if stream.kind == "book":
            return (
                f'{{"lastUpdateId":{stream.last_id},"symbol":"{stream.symbol}",'
                f'"bids":[{n.levels(bids)}],"asks":[{n.levels(asks)}]}}'
            )
        return (
            f'{{"e":"depthUpdate","E":{now_ns},"s":"{stream.symbol}",'
            f'"U":{stream.last_id if is_snapshot else stream.previous_id},"u":{stream.last_id},'
            f'"b":[{n.levels(bids)}],"a":[{n.levels(asks)}]}}'
        )

    def quote(self, stream: QuoteStream, ts_event: int, top: Top, update_id: int) -> str:
        n = stream.numbers
        return (
            f'{{"u":{update_id},"E":{ts_event},"s":"{stream.symbol}",'
            f'"b":"{n.price(top.bid)}","B":"{shortest(n.qty(top.bid_qty))}",'
            f'"a":"{n.price(top.ask)}","A":"{shortest(n.qty(top.ask_qty))}"}}'
        )

    def trades(self, stream: TradeStream, ts_event: int, fills: Sequence[Fill]) -> Sequence[str]:
        n = stream.numbers
        return [
            f'{{"E":{ts_event},"s":"{stream.symbol}","t":{fill.trade_id},"p":"{n.price(fill.price)}",'
            f'"q":"{n.qty(fill.qty)}","m":{"true" if fill.buyer_is_maker else "false"}}}'
            for fill in fills
        ]

    def get(self, path: str, query: dict[str, str], now_ns: int) -> object:
        if path == "/v1/symbols":
            return list(self.markets)
        name = path.removeprefix("/v1/symbols/details/").lower()
        if name == "all":
            return [_details(market) for market in self.markets.values()]
        return _details(self.markets[name]) if name in self.markets else None

    def unknown_event(self, now_ns: int) -> Message:
        data = b'{"e":"simulated","E":1,"s":"btcusd","x":[1,"two",null]}'
        return Message("simulated", "", "other", data, to_all=True)


def _ok(request_id: Any) -> bytes:
    return msgspec.json.encode({"id": request_id, "status": 200})


def _error(request_id: Any, code: int, msg: str) -> bytes:
    return msgspec.json.encode({"id": request_id, "status": 400, "error": {"code": code, "msg": msg}})


def _step(mantissa: int, decimals: int) -> msgspec.Raw:
    """Write a step as Gemini does: a bare number, 1E-8 where it is below a millionth."""
    return msgspec.Raw(str(Decimal(decimal(mantissa, decimals, decimals))).encode())


def _details(market: Market) -> dict[str, Any]:
    is_perpetual = market.symbol.endswith("perp")
    return {
        "symbol": market.symbol.upper(),
        "base_currency": market.base,
        "quote_currency": market.quote,
        "tick_size": _step(market.lot, market.qty_decimals),  # of quantities
        "quote_increment": _step(market.tick, market.price_decimals),  # of prices
        "min_order_size": decimal(market.lot, market.qty_decimals, market.qty_decimals),
        "status": "open",
        "product_type": "swap" if is_perpetual else "spot",
    }


SIMULATOR = Gemini
