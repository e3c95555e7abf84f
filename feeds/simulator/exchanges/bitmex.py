"""BitMEX: tables, whose rows are inserted, updated and deleted."""

import re
from collections.abc import Sequence
from typing import Any, ClassVar

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
from feeds.simulator.numbers import decimal, iso
from feeds.simulator.order_flow import Fill, Top
from feeds.simulator.protocol import Message

KEYS = {"orderBookL2": '["symbol","id","side"]', "orderBookL2_25": '["symbol","id","side"]'}
FIRST_ID = 88_000_000_000  # of levels


class _Trades(TradeStream):
    def first(self, now_ns: int) -> list[bytes]:
        return [_push(self, "partial", "").encode()]


class _Quotes(QuoteStream):
    def first(self, now_ns: int) -> list[bytes]:
        return [first.replace(b'"action":"insert"', b'"action":"partial"', 1) for first in super().first(now_ns)]


class BitmexSession(GeneratedSession):
    """Greets; one answer for each table."""

    def open(self, now_ns: int) -> list[bytes]:
        return [
            msgspec.json.encode(
                {
                    "info": "Welcome to the BitMEX Realtime API.",
                    "version": "2.0.0",
                    "timestamp": iso(now_ns, 3),
                    "docs": "https://www.bitmex.com/app/wsAPI",
                    "limit": {"remaining": 39},
                }
            )
        ]

    def receive(self, text: bytes, now_ns: int) -> list[bytes]:
        if text == b"ping":
            return [b"pong"]
        request = decode_object(text)
        if request is None:
            return [_error("Unexpected token in JSON", None)]
        op, args = request.get("op"), request.get("args")
        topics = [topic for topic in (args if isinstance(args, list) else [args]) if isinstance(topic, str)]
        if op not in ("subscribe", "unsubscribe") or not topics:
            return [_error(f"Unsupported operation: {op}", request)]
        answers: list[bytes] = []
        for topic in topics:
            table, _, symbol = topic.partition(":")
            if op == "unsubscribe":
                self.unsubscribe(table, symbol)
                first: list[bytes] | None = []
            else:
                first = self.subscribe(table, symbol, now_ns)
            if first is None:
                is_known = symbol in self.exchange.markets
                answers.append(_error(f"Unknown {'table' if is_known else 'or expired symbol'}: {topic}", request))
            else:
                answers.append(msgspec.json.encode({"success": True, op: topic, "request": request}))
                answers += first
        return answers


class Bitmex(GeneratedExchange):
    name = "bitmex"
    session = BitmexSession
    paths = ("/realtime",)
    written = re.compile(r"[A-Z0-9]+")
    default_symbols = ("XBTUSD", "ETHUSD", "SOLUSDT")
    precisions: ClassVar = {"XBTUSD": (1, 5, 0, 100), "ETHUSD": (2, 5, 0, 1), "SOLUSDT": (2, 1, 0, 1000)}
    ghost = ("orderBookL2", "GHOSTUSD")
    enum_field = "side"

    def market(self, symbol: str) -> Market:
        priced = plausible_market(symbol.replace("XBT", "BTC"), precision=self.precisions.get(symbol, (2, 1, 0, 1)))
        return msgspec.structs.replace(priced, symbol=symbol, base=priced.base.replace("BTC", "XBT"))

    def stream(self, key: str, channel: str, symbol: str) -> Stream:
        if channel in KEYS:
            levels = 25 if channel == "orderBookL2_25" else None
            return BookStream(self, key, symbol, levels=levels, period_ns=20 * NS_PER_MS)
        if channel == "trade":
            return _Trades(self, key, symbol)
        if channel == "quote":
            return _Quotes(self, key, symbol)
        raise KeyError(channel)

    def book(self, stream: BookStream, now_ns: int, bids: Levels, asks: Levels, *, is_snapshot: bool) -> Sequence[str]:
        n, time = stream.numbers, iso(now_ns, 3)
        rows: dict[str, list[str]] = {"delete": [], "update": [], "insert": [], "partial": []}
        for side, levels, before in (("Sell", asks, stream.before[1]), ("Buy", bids, stream.before[0])):
            for price, qty in levels:
                size = f',"size":{n.qty(qty)}' if qty else ""
                row = f'{{"symbol":"{stream.symbol}","id":{FIRST_ID - price},"side":"{side}"{size},'
                changed = "delete" if not qty else "update" if price in before else "insert"
                action = "partial" if is_snapshot else changed
                if action != "delete" or price in before:
                    rows[action].append(f'{row}"price":{n.price(price)},"timestamp":"{time}","transactTime":"{time}"}}')
        return [_push(stream, action, ",".join(found)) for action, found in rows.items() if found]

    def quote(self, stream: QuoteStream, ts_event: int, top: Top, update_id: int) -> str:
        n = stream.numbers
        row = (
            f'{{"timestamp":"{iso(ts_event, 3)}","symbol":"{stream.symbol}","bidSize":{n.qty(top.bid_qty)},'
            f'"bidPrice":{n.price(top.bid)},"askPrice":{n.price(top.ask)},"askSize":{n.qty(top.ask_qty)}}}'
        )
        return _push(stream, "insert", row)

    def trades(self, stream: TradeStream, ts_event: int, fills: Sequence[Fill]) -> Sequence[str]:
        n = stream.numbers
        rows = ",".join(
            f'{{"timestamp":"{iso(ts_event, 3)}","symbol":"{stream.symbol}",'
            f'"side":"{"Sell" if fill.buyer_is_maker else "Buy"}","size":{n.qty(fill.qty)},'
            f'"price":{n.price(fill.price)},"tickDirection":"PlusTick",'
            f'"trdMatchID":"00000000-006d-1000-0000-{fill.trade_id:012x}","trdType":"Regular"}}'
            for fill in fills
        )
        return [_push(stream, "insert", rows)]

    def get(self, path: str, query: dict[str, str], now_ns: int) -> object:
        return (
            [_instrument(market) for market in self.markets.values()] if path == "/api/v1/instrument/active" else None
        )

    def unknown_symbol(self, now_ns: int) -> Message:
        channel, symbol = self.ghost
        stream = self.stream(f"{channel}:{symbol}", channel, symbol)
        # A whole book: changes of one that has not begun are nothing to a client.
        return Message(stream.key, symbol, "delta", stream.first(now_ns)[0], to_all=True)

    def unknown_event(self, now_ns: int) -> Message:
        data = b'{"table":"simulated","action":"partial","data":[{"x":[1,"two",null]}]}'
        return Message("simulated", "", "other", data, to_all=True)


def _push(stream: Stream, action: str, rows: str) -> str:
    described = ""
    if action == "partial":
        keys = KEYS.get(stream.channel, "[]")
        described = f'"keys":{keys},"types":{{}},"filter":{{"symbol":"{stream.symbol}"}},'
    return f'{{"table":"{stream.channel}","action":"{action}",{described}"data":[{rows}]}}'


def _error(text: str, request: object) -> bytes:
    return msgspec.json.encode({"status": 400, "error": text, "meta": {}, "request": request})


def _instrument(market: Market) -> dict[str, Any]:
    is_inverse = market.quote == "USD"
    tick = decimal(market.tick, market.price_decimals, market.price_decimals)
    return {
        "symbol": market.symbol,
        "state": "Open",
        "typ": "FFWCSX",
        "underlying": market.base,
        "quoteCurrency": market.quote,
        "tickSize": msgspec.Raw(tick.encode()),
        "lotSize": market.lot,
        "isInverse": is_inverse,
        "underlyingToPositionMultiplier": None if is_inverse else 10_000,
    }


SIMULATOR = Bitmex
