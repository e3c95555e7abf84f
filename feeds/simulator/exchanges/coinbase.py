"""Coinbase Exchange: books without numbers, whole at the beginning."""

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


class _Tickers(TradeStream):
    """The best prices at every trade."""

    kind: Kind = "quote"


class CoinbaseSession(GeneratedSession):
    """Every change of subscriptions is answered with all that there are."""

    idle_timeout = 5.0  # without a subscription
    idle_ending = (1000, "Subscription required")
    messages_per_second = 100

    def beat(self, monotonic_ns: int, now_ns: int) -> list[bytes]:
        if self._names:
            self._heard_ns = monotonic_ns
        super().beat(monotonic_ns, now_ns)
        time = iso(now_ns)
        return [
            _encode(type="heartbeat", sequence=self.exchange.source.flow.last_id(symbol), product_id=symbol, time=time)
            for channel, _, symbol in (key.rpartition(":") for key in self._names)
            if channel == "heartbeat"
        ]

    def receive(self, text: bytes, now_ns: int) -> list[bytes]:
        request = decode_object(text)
        if request is None:
            return [_error("Malformed JSON", "")]
        kind, channels = request.get("type"), request.get("channels")
        if kind not in ("subscribe", "unsubscribe"):
            return [_error("Failed to subscribe", f"{kind} is not a valid type")]
        if not isinstance(channels, list) or not channels:
            return [_error("Failed to subscribe", "channels is required")]
        wanted = []
        for channel in channels:
            if isinstance(channel, str):
                channel = {"name": channel}
            products = channel.get("product_ids", request.get("product_ids", []))
            wanted += [(str(channel.get("name")), str(product)) for product in products]
        first: list[bytes] = []
        for name, product in wanted:
            if kind == "unsubscribe":
                self.unsubscribe(name, product)
                continue
            if name in ("level2", "full", "level3"):
                return [_error("Failed to subscribe", f"{name} channel requires authentication")]
            found = self.subscribe(name, product, now_ns)
            if found is None:
                what = "channel" if product in self.exchange.markets else "product"
                return [
                    _error("Failed to subscribe", f"{name if what == 'channel' else product} is not a valid {what}")
                ]
            first += found
        return [_encode(type="subscriptions", channels=self._subscriptions()), *first]

    def _subscriptions(self) -> list[dict[str, Any]]:
        products: dict[str, list[str]] = {}
        for key in self._names:
            channel, _, symbol = key.rpartition(":")
            products.setdefault(channel, []).append(symbol)
        return [{"name": name, "product_ids": names} for name, names in products.items()]


class Coinbase(GeneratedExchange):
    name = "coinbase"
    session = CoinbaseSession
    written = re.compile(r"[A-Z0-9]+-[A-Z0-9]+")
    default_symbols = ("BTC-USD", "ETH-USD", "SOL-USD")
    precisions: ClassVar = {"BTC-USD": (2, 1, 8, 1000)}
    ghost = ("level2_batch", "GHOST-USD")
    enum_field = "type"

    def number_format(self, market: Market) -> Numbers:
        return Numbers(market, shown_qty=QTY_DECIMALS)

    def stream(self, key: str, channel: str, symbol: str) -> Stream:
        if channel == "level2_batch":
            return BookStream(self, key, symbol, period_ns=50 * NS_PER_MS)
        if channel == "matches":
            return TradeStream(self, key, symbol)
        if channel == "ticker":
            return _Tickers(self, key, symbol)
        if channel == "heartbeat":
            return Stream(key, symbol)
        raise KeyError(channel)

    def book(self, stream: BookStream, now_ns: int, bids: Levels, asks: Levels, *, is_snapshot: bool) -> str:
        n = stream.numbers
        if is_snapshot:
            return (
                f'{{"type":"snapshot","product_id":"{stream.symbol}","asks":[{n.levels(asks)}],'
                f'"bids":[{n.levels(bids)}],"time":"{iso(now_ns)}"}}'
            )
        changes = [f'["buy","{n.price(price)}","{n.qty(qty)}"]' for price, qty in bids]
        changes += [f'["sell","{n.price(price)}","{n.qty(qty)}"]' for price, qty in asks]
        return (
            f'{{"type":"l2update","product_id":"{stream.symbol}","changes":[{",".join(changes)}],'
            f'"time":"{iso(now_ns)}"}}'
        )

    def quote(self, stream: QuoteStream, ts_event: int, top: Top, update_id: int) -> str:
        raise NotImplementedError("the best prices come with matches, in tickers")

    def trades(self, stream: TradeStream, ts_event: int, fills: Sequence[Fill]) -> Sequence[str]:
        n, top, time = stream.numbers, self.source.flow.top(stream.symbol), iso(ts_event)
        sequence = self.source.flow.last_id(stream.symbol)
        if stream.channel == "ticker":
            return [
                f'{{"type":"ticker","sequence":{sequence},"product_id":"{stream.symbol}",'
                f'"price":"{n.price(fill.price)}","best_bid":"{n.price(top.bid)}","best_bid_size":"{n.qty(top.bid_qty)}",'
                f'"best_ask":"{n.price(top.ask)}","best_ask_size":"{n.qty(top.ask_qty)}",'
                f'"side":"{"sell" if fill.buyer_is_maker else "buy"}","time":"{time}","trade_id":{fill.trade_id},'
                f'"last_size":"{n.qty(fill.qty)}"}}'
                for fill in fills
            ]
        # The side of a match is the maker's.
        return [
            f'{{"type":"match","trade_id":{fill.trade_id},"maker_order_id":"ac928c66-ca53-498f-9c13-a110027a60e8",'
            f'"taker_order_id":"132fb6ae-456b-4654-b4e0-d681ac05cea1",'
            f'"side":"{"buy" if fill.buyer_is_maker else "sell"}","size":"{n.qty(fill.qty)}",'
            f'"price":"{n.price(fill.price)}","product_id":"{stream.symbol}","sequence":{sequence},"time":"{time}"}}'
            for fill in fills
        ]

    def get(self, path: str, query: dict[str, str], now_ns: int) -> object:
        return [_product(market) for market in self.markets.values()] if path == "/products" else None

    def unknown_event(self, now_ns: int) -> Message:
        data = b'{"type":"simulated","product_id":"BTC-USD","x":[1,"two",null]}'
        return Message("simulated", "", "other", data, to_all=True)


def _encode(**fields: Any) -> bytes:
    return msgspec.json.encode(fields)


def _error(message: str, reason: str) -> bytes:
    return _encode(type="error", message=message, reason=reason)


def _product(market: Market) -> dict[str, Any]:
    return {
        "id": market.symbol,
        "base_currency": market.base,
        "quote_currency": market.quote,
        "quote_increment": decimal(market.tick, market.price_decimals, market.price_decimals),
        "base_increment": decimal(market.lot, market.qty_decimals, market.qty_decimals),
        "status": "online",
        "trading_disabled": False,
    }


SIMULATOR = Coinbase
