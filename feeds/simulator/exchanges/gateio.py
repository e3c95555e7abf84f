"""Gate.io spot, API v4: books whole in the stream (`obu`), or joined to a snapshot by REST (`order_book_update`)."""

import re
from collections.abc import Sequence
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
    not_json = "invalid request body"
    failure: ClassVar[dict[str, str] | None] = None  # the result of a request that failed

    def beat(self, monotonic_ns: int, now_ns: int) -> list[bytes]:
        if self._names:
            self._heard_ns = monotonic_ns
        return super().beat(monotonic_ns, now_ns)

    def receive(self, text: bytes, now_ns: int) -> list[bytes]:
        request = decode_object(text)
        if request is None:
            return [self._answer({}, now_ns, (1, self.not_json))]
        section = self.exchange.section
        channel, event, payload = request.get("channel"), request.get("event"), request.get("payload")
        if channel == f"{section}.ping":
            pong = _head(request | {"channel": f"{section}.pong"}, now_ns)
            return [msgspec.json.encode(pong | {"event": "", "result": None})]
        if event not in ("subscribe", "unsubscribe") or not isinstance(channel, str):
            return [self._answer(request, now_ns, (1, f"unknown event: {event}"))]
        if not isinstance(payload, list) or not payload or not all(isinstance(part, str) for part in payload):
            return [self._answer(request, now_ns, (2, "invalid argument: payload"))]
        first: list[bytes] = []
        for name, symbol in _asked(channel.removeprefix(f"{section}."), payload):
            if event == "unsubscribe":
                self.unsubscribe(name, symbol)
            elif self.has(name, symbol):
                kind, _, levels = name.partition(".")
                topic = f"ob.{symbol}.{levels}" if kind == "obu" else symbol
                return [self._answer(request, now_ns, (2, f"Alert sub {topic}"))]
            elif (found := self.subscribe(name, symbol, now_ns)) is not None:
                first += found
            elif (problem := self.problem(channel, name, symbol)) is not None:
                return [self._answer(request, now_ns, (2, problem))]
        return [self._answer(request, now_ns), *first]

    def problem(self, channel: str, name: str, symbol: str) -> str | None:
        """Say why there is no such stream; None: it is acknowledged all the same, and stays silent."""
        is_known = symbol in self.exchange.markets
        return f"unknown channel: {channel}" if is_known else f"unknown currency pair: {symbol}"

    def _answer(self, request: dict[str, Any], now_ns: int, problem: tuple[int, str] | None = None) -> bytes:
        if problem is None:
            outcome: dict[str, Any] = {"error": None, "result": {"status": "success"}}
        else:
            outcome = {"error": {"code": problem[0], "message": problem[1]}, "result": self.failure}
        return msgspec.json.encode(_head(request, now_ns) | outcome)


class Gateio(GeneratedExchange):
    name = "gateio"
    session = GateioSession
    paths: Sequence[str] = ("/ws/v4/",)
    written = re.compile(r"[A-Z0-9]+_[A-Z0-9]+")
    default_symbols = ("BTC_USDT", "ETH_USDT", "SOL_USDT")
    ghost = ("obu.400", "GHOST_USDT")
    sequence_fields = ("U", "u")
    enum_field: str | None = "side"
    section = "spot"  # what the names of channels begin with

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
        if kind == "order_book_update":
            result = (
                f'{{"t":{ts},"e":"depthUpdate","E":{ts // 1000},"s":"{stream.symbol}",'
                f'"U":{stream.previous_id + 1},"u":{stream.last_id},"b":[{n.levels(bids)}],"a":[{n.levels(asks)}]}}'
            )
            return self.push(kind, result, now_ns)
        first = '"full":true,' if is_snapshot else ""
        ids = f'"u":{stream.last_id}' if is_snapshot else f'"U":{stream.previous_id + 1},"u":{stream.last_id}'
        sides = "".join([f',"{side}":[{n.levels(levels)}]' for side, levels in (("b", bids), ("a", asks)) if levels])
        return self.push(kind, f'{{"t":{ts},{first}"s":"ob.{stream.symbol}.{argument}",{ids}{sides}}}', now_ns)

    def quote(self, stream: QuoteStream, ts_event: int, top: Top, update_id: int) -> str:
        n = stream.numbers
        result = (
            f'{{"t":{ts_event // NS_PER_MS},"u":{update_id},"s":"{stream.symbol}","b":"{n.price(top.bid)}",'
            f'"B":"{n.qty(top.bid_qty)}","a":"{n.price(top.ask)}","A":"{n.qty(top.ask_qty)}"}}'
        )
        return self.push("book_ticker", result, ts_event)

    def trades(self, stream: TradeStream, ts_event: int, fills: Sequence[Fill]) -> Sequence[str]:
        n = stream.numbers
        ms = f"{ts_event // NS_PER_MS}.{ts_event % NS_PER_MS // 100:04d}"
        return [
            self.push(
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

    def push(self, channel: str, result: str, now_ns: int, event: str = "update") -> str:
        """Write a message of a channel."""
        ms = now_ns // NS_PER_MS
        return (
            f'{{"time":{ms // 1000},"time_ms":{ms},"channel":"{self.section}.{channel}","event":"{event}",'
            f'"result":{result}}}'
        )

    def unknown_event(self, now_ns: int) -> Message:
        text = self.push("simulated", '{"x":[1,"two",null]}', now_ns)
        return Message("simulated", "", "other", text.encode(), to_all=True)


def _asked(channel: str, payload: list[str]) -> list[tuple[str, str]]:
    """Return [(name of the stream, symbol), ...]."""
    if channel == "obu":
        parts = [name.split(".") for name in payload]
        return [(f"obu.{part[-1]}", ".".join(part[1:-1])) for part in parts]
    if channel == "order_book_update":
        return [(".".join([channel, *payload[1:]]), payload[0])]
    if channel == "order_book":
        return [(".".join([channel, *payload[1:2]]), payload[0])]
    return [(channel, symbol) for symbol in payload]


def _head(request: dict[str, Any], now_ns: int) -> dict[str, Any]:
    """Return what every answer begins with."""
    ms = now_ns // NS_PER_MS
    head = {"time": ms // 1000, "time_ms": ms, "conn_id": "5e74253e9c793974", "channel": ""}
    return head | {name: request[name] for name in ("id", "channel", "event", "payload") if name in request}


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
