"""Deribit: JSON-RPC, heartbeats that must be answered, ids that name the message before."""

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
from feeds.simulator.markets import Market
from feeds.simulator.numbers import Numbers, decimal
from feeds.simulator.order_flow import NS_PER_SECOND, Fill, Top
from feeds.simulator.protocol import Message, PolicyViolation

INTERVALS_MS = {"100ms": 100, "agg2": 1000}
MIN_HEARTBEAT = 10  # seconds
_CHANNEL = re.compile(r"(book|trades|ticker)\.([^.]+)\.(raw|100ms|agg2)|(quote)\.([^.]+)")


class DeribitSession(GeneratedSession):
    """Channels that there are not are left out of the answer; a test request must be answered."""

    def __init__(self, exchange: GeneratedExchange, path: str) -> None:
        super().__init__(exchange, path)
        self._interval_ns = 0  # of heartbeats; 0: none
        self._tested_ns = 0  # when the last test request was sent
        self._owes_test = False

    def beat(self, monotonic_ns: int, now_ns: int) -> list[bytes]:
        if not self._interval_ns:
            return []
        if not self._tested_ns:
            self._tested_ns = monotonic_ns
        if monotonic_ns - self._tested_ns < self._interval_ns:
            return []
        if self._owes_test:
            raise PolicyViolation(1000, "no answer to test_request")
        self._tested_ns, self._owes_test = monotonic_ns, True
        return [_heartbeat("heartbeat"), _heartbeat("test_request")]

    def receive(self, text: bytes, now_ns: int) -> list[bytes]:
        request = decode_object(text)
        if request is None:
            return [_error(None, -32700, "parse_error")]
        request_id, method, params = request.get("id"), request.get("method"), request.get("params", {})
        if not isinstance(params, dict):
            return [_error(request_id, -32602, "Invalid params")]
        if method == "public/test":
            self._owes_test = False
            return [_result(request_id, {"version": "1.2.26"}, now_ns)]
        if method == "public/set_heartbeat":
            interval = params.get("interval")
            if not isinstance(interval, int) or interval < MIN_HEARTBEAT:
                return [_error(request_id, -32602, "Invalid params")]
            self._interval_ns, self._tested_ns = interval * NS_PER_SECOND, 0
            return [_result(request_id, "ok", now_ns)]
        if method not in ("public/subscribe", "public/unsubscribe", "public/unsubscribe_all"):
            return [_error(request_id, -32601, "Method not found")]
        if method == "public/unsubscribe_all":
            for key in self.streams:
                self.unsubscribe(*key.rsplit(":", 1))
            return [_result(request_id, "ok", now_ns)]
        channels = params.get("channels")
        if not isinstance(channels, list) or not all(isinstance(channel, str) for channel in channels):
            return [_error(request_id, -32602, "Invalid params")]
        if any(channel.endswith(".raw") for channel in channels):
            return [_error(request_id, 13778, "raw_subscriptions_not_available_for_unauthorized")]
        accepted, first = [], list[bytes]()
        for channel in channels:
            match = _CHANNEL.fullmatch(channel)
            if match is None:
                continue
            kind, symbol = (match[4], match[5]) if match[4] else (f"{match[1]}.{match[3]}", match[2])
            if method == "public/unsubscribe":
                found: list[bytes] | None = [] if self.unsubscribe(kind, symbol) else None
            else:
                found = self.subscribe(kind, symbol, now_ns)
            if found is not None:
                accepted.append(channel)
                first += found
        return [_result(request_id, accepted, now_ns), *first]


class Deribit(GeneratedExchange):
    name = "deribit"
    update_ids = "exchange"
    session = DeribitSession
    paths = ("/ws/api/v2",)
    written = re.compile(r"[A-Z0-9]+(_[A-Z]+)?(-(PERPETUAL|\d{1,2}[A-Z]{3}\d{2}(-[0-9d]+-[CP])?))?")
    default_symbols = ("BTC-PERPETUAL", "ETH-PERPETUAL", "SOL_USDC-PERPETUAL")
    precisions: ClassVar = {"BTC-PERPETUAL": (1, 5, 1, 100), "ETH-PERPETUAL": (2, 5, 1, 10)}
    ghost = ("book.100ms", "GHOST-PERPETUAL")
    sequence_fields = ("change_id", "prev_change_id")
    enum_field = "direction"

    def stream(self, key: str, channel: str, symbol: str) -> Stream:
        kind, _, interval = channel.partition(".")
        if kind == "book":
            return BookStream(self, key, symbol, period_ns=INTERVALS_MS[interval] * NS_PER_MS)
        if kind == "trades":
            return TradeStream(self, key, symbol)
        if kind == "quote":
            return QuoteStream(self, key, symbol)
        raise KeyError(channel)

    def book(self, stream: BookStream, now_ns: int, bids: Levels, asks: Levels, *, is_snapshot: bool) -> str:
        before_bids, before_asks = ({}, {}) if is_snapshot else stream.before
        previous = "" if is_snapshot else f'"prev_change_id":{stream.previous_id},'
        return _data(
            stream,
            f'{{"type":"{"snapshot" if is_snapshot else "change"}","timestamp":{now_ns // NS_PER_MS},{previous}'
            f'"instrument_name":"{stream.symbol}","change_id":{stream.last_id},'
            f'"bids":[{_levels(stream.numbers, bids, before_bids)}],'
            f'"asks":[{_levels(stream.numbers, asks, before_asks)}]}}',
        )

    def quote(self, stream: QuoteStream, ts_event: int, top: Top, update_id: int) -> str:
        n = stream.numbers
        return _data(
            stream,
            f'{{"timestamp":{ts_event // NS_PER_MS},"instrument_name":"{stream.symbol}",'
            f'"best_bid_price":{n.price(top.bid)},"best_bid_amount":{n.qty(top.bid_qty)},'
            f'"best_ask_price":{n.price(top.ask)},"best_ask_amount":{n.qty(top.ask_qty)}}}',
        )

    def trades(self, stream: TradeStream, ts_event: int, fills: Sequence[Fill]) -> Sequence[str]:
        n = stream.numbers
        trades = ",".join(
            f'{{"timestamp":{ts_event // NS_PER_MS},"price":{n.price(fill.price)},"amount":{n.qty(fill.qty)},'
            f'"direction":"{"sell" if fill.buyer_is_maker else "buy"}","index_price":{n.price(fill.price)},'
            f'"instrument_name":"{stream.symbol}","trade_seq":{fill.trade_id},"mark_price":{n.price(fill.price)},'
            f'"tick_direction":2,"trade_id":"{fill.trade_id}"}}'
            for fill in fills
        )
        return [_data(stream, f"[{trades}]")]

    def get(self, path: str, query: dict[str, str], now_ns: int) -> object:
        if path != "/api/v2/public/get_instruments":
            return None
        return {"jsonrpc": "2.0", "result": [_instrument(market) for market in self.markets.values()], "testnet": False}

    def unknown_event(self, now_ns: int) -> Message:
        data = b'{"jsonrpc":"2.0","method":"subscription","params":{"channel":"simulated.x","data":{"x":[1,null]}}}'
        return Message("simulated", "", "other", data, to_all=True)


def _levels(numbers: Numbers, levels: Levels, before: dict[int, int]) -> str:
    def action(price: int, qty: int) -> str:
        return "delete" if not qty else "change" if price in before else "new"

    return ",".join([f'["{action(price, qty)}",{numbers.price(price)},{numbers.qty(qty)}]' for price, qty in levels])


def _data(stream: Stream, data: str) -> str:
    kind, _, interval = stream.channel.partition(".")
    channel = f"{kind}.{stream.symbol}" + (f".{interval}" if interval else "")
    return f'{{"jsonrpc":"2.0","method":"subscription","params":{{"channel":"{channel}","data":{data}}}}}'


def _heartbeat(kind: str) -> bytes:
    return msgspec.json.encode({"jsonrpc": "2.0", "method": "heartbeat", "params": {"type": kind}})


def _result(request_id: Any, result: object, now_ns: int) -> bytes:
    now_us = now_ns // 1000
    times = {"usIn": now_us, "usOut": now_us, "usDiff": 0, "testnet": False}
    return msgspec.json.encode({"jsonrpc": "2.0", "id": request_id, "result": result} | times)


def _error(request_id: Any, code: int, message: str) -> bytes:
    return msgspec.json.encode({"jsonrpc": "2.0", "id": request_id, "error": {"code": code, "message": message}})


def _instrument(market: Market) -> dict[str, Any]:
    parts = market.symbol.split("-")
    lot = msgspec.Raw(decimal(market.lot, market.qty_decimals, market.qty_decimals).encode())
    return {
        "instrument_name": market.symbol,
        "kind": "spot" if len(parts) == 1 else "future" if len(parts) == 2 else "option",
        "base_currency": market.base,
        "quote_currency": "USD",
        "tick_size": msgspec.Raw(decimal(market.tick, market.price_decimals, market.price_decimals).encode()),
        "min_trade_amount": lot,
        "contract_size": lot,
        "is_active": True,
    }


SIMULATOR = Deribit
