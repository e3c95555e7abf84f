"""Gate.io spot, API v4: books whole in the stream (`obu`), or joined to a snapshot by REST (`order_book_update`)."""

import re
from collections.abc import Sequence
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
from feeds.simulator.numbers import Numbers
from feeds.simulator.order_flow import NS_PER_SECOND, Book, Fill, Top
from feeds.simulator.protocol import Message

OBU_PERIODS_MS = {"50": 20, "400": 100}  # by the depth
PERIODS_MS = {"20ms": 20, "100ms": 100}
BOOK_PATH = "/api/v4/spot/order_book"


class GateioSession(GeneratedSession):
    """One answer for a request; a channel's `payload` is what it is asked for."""

    idle_timeout = 30.0  # without a subscription

    def beat(self, monotonic_ns: int, now_ns: int) -> list[bytes]:
        if self._names:
            self._heard_ns = monotonic_ns
        return super().beat(monotonic_ns, now_ns)

    def receive(self, text: bytes, now_ns: int) -> list[bytes]:
        request = decode_object(text)
        if request is None:
            return [_answer({}, now_ns, (1, "invalid request body"))]
        channel, event, payload = request.get("channel"), request.get("event"), request.get("payload")
        if channel == "spot.ping":
            return [_answer(request | {"channel": "spot.pong"}, now_ns, None)]
        if event not in ("subscribe", "unsubscribe") or not isinstance(channel, str):
            return [_answer(request, now_ns, (1, f"unknown event: {event}"))]
        if not isinstance(payload, list) or not payload or not all(isinstance(part, str) for part in payload):
            return [_answer(request, now_ns, (2, "invalid argument: payload"))]
        first: list[bytes] = []
        for name, symbol in _asked(channel.removeprefix("spot."), payload):
            if event == "unsubscribe":
                self.unsubscribe(name, symbol)
            elif self.has(name, symbol):
                return [_answer(request, now_ns, (2, f"Alert sub {symbol}"))]
            else:
                found = self.subscribe(name, symbol, now_ns)
                if found is None:
                    is_known = symbol in self.exchange.markets
                    problem = f"unknown channel: {channel}" if is_known else f"unknown currency pair: {symbol}"
                    return [_answer(request, now_ns, (2, problem))]
                first += found
        return [_answer(request, now_ns, None), *first]


class Gateio(GeneratedExchange):
    name = "gateio"
    session = GateioSession
    paths = ("/ws/v4/",)
    written = re.compile(r"[A-Z0-9]+_[A-Z0-9]+")
    default_symbols = ("BTC_USDT", "ETH_USDT", "SOL_USDT")
    ghost = ("obu.400", "GHOST_USDT")
    sequence_fields = ("U", "u")
    enum_field = "side"

    def number_format(self, market: Market) -> Numbers:
        return Numbers(market, is_short=True)

    def stream(self, key: str, channel: str, symbol: str) -> Stream:
        kind, _, argument = channel.partition(".")
        if kind == "obu":
            period_ns = OBU_PERIODS_MS[argument] * NS_PER_MS
            return BookStream(self, key, symbol, levels=int(argument), period_ns=period_ns)
        if kind == "order_book_update":
            return BookStream(self, key, symbol, period_ns=PERIODS_MS[argument] * NS_PER_MS, has_snapshot=False)
        if kind == "book_ticker":
            return QuoteStream(self, key, symbol)
        if kind == "trades":
            return TradeStream(self, key, symbol)
        raise KeyError(channel)

    def book(self, stream: BookStream, now_ns: int, bids: Levels, asks: Levels, *, is_snapshot: bool) -> str:
        n, ts = stream.numbers, now_ns // NS_PER_MS
        kind, _, argument = stream.channel.partition(".")
        sides = f'"b":[{n.levels(bids)}],"a":[{n.levels(asks)}]'
        if kind == "order_book_update":
            result = (
                f'{{"t":{ts},"e":"depthUpdate","E":{ts // 1000},"s":"{stream.symbol}",'
                f'"U":{stream.previous_id + 1},"u":{stream.last_id},{sides}}}'
            )
        else:
            ids = '"full":true,' if is_snapshot else f'"U":{stream.previous_id + 1},'
            result = f'{{"t":{ts},"s":"ob.{stream.symbol}.{argument}",{ids}"u":{stream.last_id},{sides}}}'
        return _push(kind, result, now_ns)

    def quote(self, stream: QuoteStream, ts_event: int, top: Top, update_id: int) -> str:
        n = stream.numbers
        result = (
            f'{{"t":{ts_event // NS_PER_MS},"u":{update_id},"s":"{stream.symbol}","b":"{n.price(top.bid)}",'
            f'"B":"{n.qty(top.bid_qty)}","a":"{n.price(top.ask)}","A":"{n.qty(top.ask_qty)}"}}'
        )
        return _push("book_ticker", result, ts_event)

    def trades(self, stream: TradeStream, ts_event: int, fills: Sequence[Fill]) -> Sequence[str]:
        n = stream.numbers
        ms = f"{ts_event // NS_PER_MS}.{ts_event % NS_PER_MS // 100:04d}"
        return [
            _push(
                "trades",
                f'{{"id":{fill.trade_id},"create_time":{ts_event // NS_PER_SECOND},"create_time_ms":"{ms}",'
                f'"side":"{"sell" if fill.buyer_is_maker else "buy"}","currency_pair":"{stream.symbol}",'
                f'"amount":"{n.qty(fill.qty)}","price":"{n.price(fill.price)}"}}',
                ts_event,
            )
            for fill in fills
        ]

    def get(self, path: str, query: dict[str, str], now_ns: int) -> object:
        if path == "/api/v4/spot/currency_pairs":
            return [_pair(market) for market in self.markets.values()]
        if path == BOOK_PATH:
            symbol = query.get("currency_pair")
            return json_reply(400, {"label": "INVALID_CURRENCY_PAIR", "message": f"Invalid currency pair {symbol}"})
        return None

    def snapshot_symbol(self, target: str) -> str | None:
        parts = urlsplit(target)
        return parse_qs(parts.query).get("currency_pair", [None])[0] if parts.path == BOOK_PATH else None

    def snapshot_levels(self, query: dict[str, str]) -> int:
        limit = query.get("limit", "10")
        return int(limit) if limit.isdecimal() and 0 < int(limit) <= 1000 else 10

    def rest_book(self, book: Book, numbers: Numbers, now_ns: int) -> bytes:
        return (
            f'{{"id":{book.update_id},"current":{now_ns // NS_PER_MS},"update":{book.ts_event // NS_PER_MS},'
            f'"asks":[{numbers.levels(book.asks)}],"bids":[{numbers.levels(book.bids)}]}}'
        ).encode()

    def unknown_event(self, now_ns: int) -> Message:
        text = _push("simulated", '{"x":[1,"two",null]}', now_ns)
        return Message("simulated", "", "other", text.encode(), to_all=True)


def _asked(channel: str, payload: list[str]) -> list[tuple[str, str]]:
    """Return [(name of the stream, symbol), ...]."""
    if channel == "obu":
        parts = [name.split(".") for name in payload]
        return [(f"obu.{part[-1]}", ".".join(part[1:-1])) for part in parts]
    if channel == "order_book_update":
        return [(f"{channel}.{payload[-1]}", payload[0])]
    return [(channel, symbol) for symbol in payload]


def _push(channel: str, result: str, now_ns: int) -> str:
    ms = now_ns // NS_PER_MS
    return f'{{"time":{ms // 1000},"time_ms":{ms},"channel":"spot.{channel}","event":"update","result":{result}}}'


def _answer(request: dict[str, Any], now_ns: int, problem: tuple[int, str] | None) -> bytes:
    ms = now_ns // NS_PER_MS
    answer = {"time": ms // 1000, "time_ms": ms, "conn_id": "5e74253e9c793974"}
    answer |= {name: request[name] for name in ("id", "channel", "event", "payload") if name in request}
    answer.setdefault("channel", "")
    if request.get("channel") == "spot.pong":
        return msgspec.json.encode(answer | {"event": "", "result": None})
    if problem is not None:
        return msgspec.json.encode(answer | {"error": {"code": problem[0], "message": problem[1]}, "result": None})
    return msgspec.json.encode(answer | {"error": None, "result": {"status": "success"}})


def _pair(market: Market) -> dict[str, Any]:
    return {
        "id": market.symbol,
        "base": market.base,
        "quote": market.quote,
        "precision": market.price_decimals,
        "amount_precision": market.qty_decimals,
        "trade_status": "tradable",
    }


SIMULATOR = Gateio
