"""Coinbase Advanced Trade: one number counts all messages of a connection."""

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
from feeds.simulator.numbers import Numbers, decimal, iso
from feeds.simulator.order_flow import Fill, Top
from feeds.simulator.protocol import Kind, Message

QTY_DECIMALS = 8
CHANNELS = ("level2", "market_trades", "ticker")


class _Tickers(TradeStream):
    """The best prices at every trade."""

    kind: Kind = "quote"


class CoinbaseAdvancedSession(GeneratedSession):
    """One channel a request; heartbeats keep a quiet connection open."""

    idle_timeout = 90.0
    data_keeps_alive = True
    messages_per_second = 8

    def __init__(self, exchange: GeneratedExchange, path: str) -> None:
        super().__init__(exchange, path)
        self._number = -1  # of the newest message
        self._heartbeats = -1  # sent, -1: not subscribed

    def encode(self, message: Message) -> bytes | None:
        data = super().encode(message)
        return None if data is None else self._numbered(data)

    def beat(self, monotonic_ns: int, now_ns: int) -> list[bytes]:
        super().beat(monotonic_ns, now_ns)
        if self._heartbeats < 0:
            return []
        self._heard_ns = monotonic_ns
        self._heartbeats += 1
        event = f'{{"current_time":"{iso(now_ns)}","heartbeat_counter":{self._heartbeats}}}'
        return [self._numbered(_push("heartbeats", now_ns, event).encode())]

    def receive(self, text: bytes, now_ns: int) -> list[bytes]:
        request = decode_object(text)
        if request is None:
            return [_error("failed to parse request")]
        kind, channel, products = request.get("type"), request.get("channel"), request.get("product_ids", [])
        if kind not in ("subscribe", "unsubscribe"):
            return [_error(f"unknown type: {kind}")]
        first: list[bytes] = []
        if channel == "heartbeats":
            self._heartbeats = max(self._heartbeats, 0) if kind == "subscribe" else -1
        elif channel not in CHANNELS:
            return [_error(f"channel {channel} does not exist")]
        elif not isinstance(products, list) or not products:
            return [_error("product_ids is required")]
        else:
            for product in map(str, products):
                if kind == "unsubscribe":
                    self.unsubscribe(channel, product)
                    continue
                found = self.subscribe(channel, product, now_ns)
                if found is None:
                    return [_error(f"{product} is not a valid product")]
                first += found
        subscribed: dict[str, list[str]] = {}
        for key in self._names:
            name, _, symbol = key.rpartition(":")
            subscribed.setdefault(name, []).append(symbol)
        event = msgspec.json.encode({"subscriptions": subscribed}).decode()
        return [self._numbered(data) for data in (*first, _push("subscriptions", now_ns, event).encode())]

    def _numbered(self, data: bytes) -> bytes:
        self._number += 1
        return data.replace(b',"events":', b',"sequence_num":%d,"events":' % self._number, 1)


class CoinbaseAdvanced(GeneratedExchange):
    name = "coinbase-advanced"
    session = CoinbaseAdvancedSession
    written = re.compile(r"[A-Z0-9]+-[A-Z0-9]+")
    default_symbols = ("BTC-USD", "ETH-USD", "SOL-USD")
    precisions: ClassVar = {"BTC-USD": (2, 1, 8, 1000)}
    ghost = ("level2", "GHOST-USD")
    enum_field = "side"

    def number_format(self, market: Market) -> Numbers:
        return Numbers(market, shown_qty=QTY_DECIMALS)

    def stream(self, key: str, channel: str, symbol: str) -> Stream:
        if channel == "level2":
            return BookStream(self, key, symbol, period_ns=50 * NS_PER_MS)
        if channel == "market_trades":
            return TradeStream(self, key, symbol)
        if channel == "ticker":
            return _Tickers(self, key, symbol)
        raise KeyError(channel)

    def book(self, stream: BookStream, now_ns: int, bids: Levels, asks: Levels, *, is_snapshot: bool) -> str:
        n, time = stream.numbers, iso(now_ns)
        updates = ",".join(
            f'{{"side":"{side}","event_time":"{time}","price_level":"{n.price(price)}","new_quantity":"{n.qty(qty)}"}}'
            for side, levels in (("bid", bids), ("offer", asks))
            for price, qty in levels
        )
        kind = "snapshot" if is_snapshot else "update"
        return _push("l2_data", now_ns, f'{{"type":"{kind}","product_id":"{stream.symbol}","updates":[{updates}]}}')

    def quote(self, stream: QuoteStream, ts_event: int, top: Top, update_id: int) -> str:
        raise NotImplementedError("the best prices come with trades, in tickers")

    def trades(self, stream: TradeStream, ts_event: int, fills: Sequence[Fill]) -> Sequence[str]:
        n = stream.numbers
        if stream.channel == "ticker":
            top = self.source.flow.top(stream.symbol)
            ticker = (
                f'{{"type":"ticker","product_id":"{stream.symbol}","price":"{n.price(fills[-1].price)}",'
                f'"best_bid":"{n.price(top.bid)}","best_bid_quantity":"{n.qty(top.bid_qty)}",'
                f'"best_ask":"{n.price(top.ask)}","best_ask_quantity":"{n.qty(top.ask_qty)}"}}'
            )
            return [_push("ticker", ts_event, f'{{"type":"update","tickers":[{ticker}]}}')]
        # The side is taken for the maker's, as in the other feed of this market.
        trades = ",".join(
            f'{{"trade_id":"{fill.trade_id}","product_id":"{stream.symbol}","price":"{n.price(fill.price)}",'
            f'"size":"{n.qty(fill.qty)}","side":"{"BUY" if fill.buyer_is_maker else "SELL"}","time":"{iso(ts_event)}"}}'
            for fill in fills
        )
        return [_push("market_trades", ts_event, f'{{"type":"update","trades":[{trades}]}}')]

    def get(self, path: str, query: dict[str, str], now_ns: int) -> object:
        if path != "/api/v3/brokerage/market/products":
            return None
        products = [_product(market) for market in self.markets.values()]
        return {"products": products, "num_products": len(products)}

    def unknown_event(self, now_ns: int) -> Message:
        text = _push("simulated", now_ns, '{"type":"update","x":[1,"two",null]}')
        return Message("simulated", "", "other", text.encode(), to_all=True)


def _push(channel: str, now_ns: int, event: str) -> str:
    return f'{{"channel":"{channel}","client_id":"","timestamp":"{iso(now_ns)}","events":[{event}]}}'


def _error(message: str) -> bytes:
    return msgspec.json.encode({"type": "error", "message": message})


def _product(market: Market) -> dict[str, Any]:
    tick = decimal(market.tick, market.price_decimals, market.price_decimals)
    return {
        "product_id": market.symbol,
        "base_currency_id": market.base,
        "quote_currency_id": market.quote,
        "base_increment": decimal(market.lot, market.qty_decimals, market.qty_decimals),
        "quote_increment": tick,
        "price_increment": tick,
        "alias": "",
        "alias_to": [],
    }


SIMULATOR = CoinbaseAdvanced
