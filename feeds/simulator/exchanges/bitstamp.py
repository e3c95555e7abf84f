"""Bitstamp: books without numbers, joined by their times to a snapshot by REST."""

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
)
from feeds.simulator.markets import Market, plausible_market
from feeds.simulator.numbers import Numbers
from feeds.simulator.order_flow import NS_PER_SECOND, Book, Fill, Top
from feeds.simulator.protocol import Message, PolicyViolation

MAX_BYTES = 512
_CHANNEL = re.compile(r"(diff_order_book|order_book|live_trades)_([a-z0-9-]+)")
_BOOK = re.compile(r"/api/v2/order_book/([^/?]+)/?(\?.*)?")


class BitstampSession(GeneratedSession):
    """One channel a message, in less than 512 bytes; markets that there are not are acknowledged, and silent."""

    def receive(self, text: bytes, now_ns: int) -> list[bytes]:
        if len(text) >= MAX_BYTES:
            raise PolicyViolation(1009, "Message too big")
        request = decode_object(text)
        event = request.get("event") if request is not None else None
        if event == "bts:heartbeat":
            return [_encode("bts:heartbeat", "", {"status": "success"})]
        data = request.get("data") if request is not None else None
        channel = data.get("channel") if isinstance(data, dict) else None
        if event not in ("bts:subscribe", "bts:unsubscribe") or not isinstance(channel, str):
            return [_encode("bts:error", "", {"code": None, "message": "Bad subscription string."})]
        match = _CHANNEL.fullmatch(channel)
        if match is None:
            return [_encode("bts:error", channel, {"code": None, "message": "Invalid channel provided."})]
        if event == "bts:unsubscribe":
            self.unsubscribe(match[1], match[2])
            return [_encode("bts:unsubscription_succeeded", channel, {})]
        first = self.subscribe(match[1], match[2], now_ns)
        if first is None and match[2] in self.exchange.markets:
            return [_encode("bts:error", channel, {"code": 4009, "message": "Connection is unauthorized."})]
        return [_encode("bts:subscription_succeeded", channel, {}), *(first or [])]


class Bitstamp(GeneratedExchange):
    name = "bitstamp"
    ping_interval = 54.0
    pong_timeout = 60.0
    session = BitstampSession
    written = re.compile(r"[a-z0-9]+")
    default_symbols = ("btcusd", "ethusd", "xrpusd")
    ghost = ("diff_order_book", "ghostusd")

    def market(self, symbol: str) -> Market:
        return msgspec.structs.replace(plausible_market(symbol.upper()), symbol=symbol)

    def stream(self, key: str, channel: str, symbol: str) -> Stream:
        if channel == "diff_order_book":
            return BookStream(self, key, symbol, period_ns=100 * NS_PER_MS, has_snapshot=False)
        if channel == "order_book":
            whole = {"levels": 100, "is_whole": True}
            return BookStream(self, key, symbol, period_ns=100 * NS_PER_MS, has_snapshot=False, **whole)  # type: ignore[arg-type]
        return TradeStream(self, key, symbol)

    def book(self, stream: BookStream, now_ns: int, bids: Levels, asks: Levels, *, is_snapshot: bool) -> str:
        return _push(stream, "data", _book(stream.numbers, now_ns, bids, asks))

    def quote(self, stream: QuoteStream, ts_event: int, top: Top, update_id: int) -> str:
        raise NotImplementedError("there are no quotes")

    def trades(self, stream: TradeStream, ts_event: int, fills: Sequence[Fill]) -> Sequence[str]:
        n = stream.numbers
        return [
            _push(
                stream,
                "trade",
                f'{{"id":{fill.trade_id},"timestamp":"{ts_event // NS_PER_SECOND}","amount":{float(n.qty(fill.qty))},'
                f'"amount_str":"{n.qty(fill.qty)}","price":{float(n.price(fill.price))},'
                f'"price_str":"{n.price(fill.price)}","type":{int(fill.buyer_is_maker)},'
                f'"microtimestamp":"{ts_event // 1000}","buy_order_id":1443875737346049,'
                f'"sell_order_id":1443875731320832}}',
            )
            for fill in fills
        ]

    def get(self, path: str, query: dict[str, str], now_ns: int) -> object:
        return [_market(market) for market in self.markets.values()] if path == "/api/v2/markets/" else None

    def snapshot_symbol(self, target: str) -> str | None:
        match = _BOOK.fullmatch(target)
        return match[1] if match else None

    def rest_book(self, book: Book, numbers: Numbers, now_ns: int) -> bytes:
        return _book(numbers, book.ts_event, book.bids, book.asks).encode()

    def unknown_event(self, now_ns: int) -> Message:
        data = b'{"data":{"x":[1,"two",null]},"channel":"simulated_btcusd","event":"simulated"}'
        return Message("simulated", "", "other", data, to_all=True)


def _book(numbers: Numbers, ts: int, bids: Levels, asks: Levels) -> str:
    return (
        f'{{"timestamp":"{ts // NS_PER_SECOND}","microtimestamp":"{ts // 1000}",'
        f'"bids":[{numbers.levels(bids)}],"asks":[{numbers.levels(asks)}]}}'
    )


def _push(stream: Stream, event: str, data: str) -> str:
    return f'{{"data":{data},"channel":"{stream.channel}_{stream.symbol}","event":"{event}"}}'


def _encode(event: str, channel: str, data: object) -> bytes:
    return msgspec.json.encode({"event": event, "channel": channel, "data": data})


def _market(market: Market) -> dict[str, Any]:
    return {
        "name": f"{market.base}/{market.quote}",
        "market_symbol": market.symbol,
        "base_decimals": market.qty_decimals,
        "counter_decimals": market.price_decimals,
        "trading": "Enabled",
    }


SIMULATOR = Bitstamp
