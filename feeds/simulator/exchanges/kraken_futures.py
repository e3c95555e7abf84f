"""Kraken Futures: one level a message, each with a number."""

import re
import uuid
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any, ClassVar

import msgspec

from feeds.simulator.generated import (
    NS_PER_MS,
    BookStream,
    GeneratedExchange,
    GeneratedSession,
    Levels,
    PeriodicQuoteStream,
    QuoteStream,
    RecentTradeStream,
    Stream,
    TradeStream,
    decode_object,
)
from feeds.simulator.markets import Market, plausible_market
from feeds.simulator.numbers import Numbers, decimal, iso, shortest
from feeds.simulator.order_flow import NS_PER_SECOND, Fill, Top
from feeds.simulator.protocol import Message

FEEDS = ("book", "trade", "ticker", "ticker_lite")
HOUR_MS = 3_600_000
TYPICAL_USD = 1_500  # of an order for contracts that are dollars


class KrakenFuturesSession(GeneratedSession):
    """One answer for each product; who subscribes to heartbeats need not ping."""

    idle_timeout = 60.0
    messages_per_second = 100
    has_heartbeats = False

    def open(self, now_ns: int) -> list[bytes]:
        return [b'{"event":"info","version":1}']

    def beat(self, monotonic_ns: int, now_ns: int) -> list[bytes]:
        if not self.has_heartbeats:
            return super().beat(monotonic_ns, now_ns)
        self._heard_ns = monotonic_ns
        return [msgspec.json.encode({"feed": "heartbeat", "time": now_ns // NS_PER_MS})]

    def receive(self, text: bytes, now_ns: int) -> list[bytes]:
        request = decode_object(text)
        if request is None:
            return [_error("Json Error")]
        event, feed, products = request.get("event"), request.get("feed"), request.get("product_ids")
        if event not in ("subscribe", "unsubscribe"):
            return [_error("Bad event")]
        if feed == "heartbeat":
            self.has_heartbeats = event == "subscribe"
            return [msgspec.json.encode({"event": f"{event}d", "feed": feed})]
        if feed not in FEEDS:
            return [_error("Invalid feed")]
        if not isinstance(products, list) or not products:
            return [_error("Invalid product id")]
        answers, first = list[bytes](), list[bytes]()
        for product in products:
            symbol = str(product).upper()
            if event == "unsubscribe":
                found: list[bytes] | None = [] if self.unsubscribe(feed, symbol) else None
            else:
                found = self.subscribe(feed, symbol, now_ns)
            if found is None:
                answers.append(_error("Invalid product id"))
            else:
                answers.append(msgspec.json.encode({"event": f"{event}d", "feed": feed, "product_ids": [symbol]}))
                first += found
        return [*answers, *first]


class KrakenFutures(GeneratedExchange):
    name = "kraken-futures"
    session = KrakenFuturesSession
    paths = ("/ws/v1",)
    written = re.compile(r"P[FI]_[A-Z0-9]+USD|F[FI]_[A-Z0-9]+USD_\d{6}")
    default_symbols = ("PF_XBTUSD", "PF_ETHUSD", "PI_XBTUSD")
    precisions: ClassVar = {
        "PF_XBTUSD": (1, 5, 4, 1),
        "PF_ETHUSD": (1, 1, 3, 1),
        "PI_XBTUSD": (1, 5, 0, 1),
        "PI_ETHUSD": (2, 5, 0, 1),
    }
    ghost = ("book", "PF_GHOSTUSD")
    sequence_fields = ("seq",)
    enum_field = "side"

    def market(self, symbol: str) -> Market:
        kind, pair, *date = symbol.split("_")
        if date:
            _maturity(date[0])  # ValueError for a day that there is not
        like = plausible_market(
            pair.replace("XBT", "BTC").replace("XDG", "DOGE"), precision=self.precisions.get(symbol)
        )
        market = msgspec.structs.replace(like, symbol=symbol, base=pair.removesuffix("USD"))
        if kind.endswith("F"):
            return market
        return msgspec.structs.replace(market, qty_decimals=0, lot=1, typical_qty=TYPICAL_USD)

    def number_format(self, market: Market) -> Numbers:
        return Numbers(market, is_short=True)

    def stream(self, key: str, channel: str, symbol: str) -> Stream:
        if channel == "book":
            return BookStream(self, key, symbol)
        if channel == "trade":
            return RecentTradeStream(self, key, symbol)
        return PeriodicQuoteStream(self, key, symbol, NS_PER_SECOND)

    def book(
        self, stream: BookStream, now_ns: int, bids: Levels, asks: Levels, *, is_snapshot: bool
    ) -> str | Sequence[str]:
        n, ts = stream.numbers, now_ns // NS_PER_MS
        if is_snapshot:
            return (
                f'{{"feed":"book_snapshot","product_id":"{stream.symbol}","timestamp":{ts},"seq":{stream.number},'
                f'"tickSize":null,"bids":[{_levels(n, bids)}],"asks":[{_levels(n, asks)}]}}'
            )
        # What is gone comes first: no book is crossed on the way to the next.
        sides = (("buy", bids, stream.before[0]), ("sell", asks, stream.before[1]))
        changes = [
            (side, price, 0) for side, levels, before in sides for price, qty in levels if not qty and price in before
        ]
        changes += [(side, price, qty) for side, levels, _ in sides for price, qty in levels if qty]
        first = stream.number
        stream.number += len(changes) - 1
        return [
            f'{{"feed":"book","product_id":"{stream.symbol}","side":"{side}","seq":{seq},'
            f'"price":{_float(n.price(price))},"qty":{_float(n.qty(qty))},"timestamp":{ts}}}'
            for seq, (side, price, qty) in enumerate(changes, first)
        ]

    def quote(self, stream: QuoteStream, ts_event: int, top: Top, update_id: int) -> str:
        n, symbol, ts = stream.numbers, stream.symbol, ts_event // NS_PER_MS
        bid, ask = _float(n.price(top.bid)), _float(n.price(top.ask))
        _, pair, *date = symbol.split("_")
        matures = _maturity(date[0]) if date else 0
        days = max(0, matures - ts) // (24 * HOUR_MS)
        head = f'"product_id":"{symbol}","bid":{bid},"ask":{ask}'
        what = (
            f'"change":0.0,"premium":0.0,"volume":0.0,"tag":"{"month" if date else "perpetual"}",'
            f'"pair":"{pair.removesuffix("USD")}:USD","dtm":{days},"maturityTime":{matures}'
        )
        if stream.channel == "ticker_lite":
            return f'{{"feed":"ticker_lite",{head},{what}}}'
        due = (ts // HOUR_MS + 1) * HOUR_MS
        funding = f',"funding_rate":0.0,"relative_funding_rate":0.0,"next_funding_rate_time":{due}'
        return (
            f'{{"feed":"ticker",{head},"bid_size":{_float(n.qty(top.bid_qty))},"ask_size":{_float(n.qty(top.ask_qty))},'
            f'{what},"leverage":"50x","last":{bid},"index":{bid},"markPrice":{bid},"openInterest":0.0,"time":{ts},'
            f'"suspended":false,"post_only":false{"" if date else funding}}}'
        )

    def trades(self, stream: TradeStream, ts_event: int, fills: Sequence[Fill]) -> Sequence[str]:
        return [_trade(stream, ts_event, fill) for fill in fills]

    def backlog(self, stream: TradeStream, now_ns: int, trades: Sequence[tuple[int, Fill]]) -> Sequence[str]:
        listed = ",".join(_trade(stream, ts_event, fill) for ts_event, fill in trades)
        return [f'{{"feed":"trade_snapshot","product_id":"{stream.symbol}","trades":[{listed}]}}']

    def get(self, path: str, query: dict[str, str], now_ns: int) -> object:
        if path != "/derivatives/api/v3/instruments":
            return None
        listed = [_instrument(market) for market in self.markets.values()]
        return {"result": "success", "instruments": listed, "serverTime": iso(now_ns, 3)}

    def unknown_event(self, now_ns: int) -> Message:
        data = b'{"feed":"simulated","product_id":"PF_XBTUSD","x":[1,"two",null]}'
        return Message("simulated", "", "other", data, to_all=True)


def _float(text: str) -> str:
    """Write a number as a float that has none but zeros behind its point: 438.0."""
    return text if "." in text else f"{text}.0"


def _levels(numbers: Numbers, levels: Levels) -> str:
    texts = [(_float(numbers.price(price)), _float(numbers.qty(qty))) for price, qty in levels]
    return ",".join([f'{{"price":{price},"qty":{qty}}}' for price, qty in texts])


def _trade(stream: TradeStream, ts_event: int, fill: Fill) -> str:
    n = stream.numbers
    return (
        f'{{"feed":"trade","product_id":"{stream.symbol}","uid":"{uuid.UUID(int=fill.trade_id)}",'
        f'"side":"{"sell" if fill.buyer_is_maker else "buy"}","type":"fill","seq":{fill.trade_id},'
        f'"time":{ts_event // NS_PER_MS},"qty":{_float(n.qty(fill.qty))},"price":{_float(n.price(fill.price))}}}'
    )


def _error(message: str) -> bytes:
    return msgspec.json.encode({"event": "error", "message": message})


def _maturity(date: str) -> int:
    """Return when the contract of a date ends, ms."""
    return round(datetime.strptime(date, "%y%m%d").replace(hour=8, tzinfo=timezone.utc).timestamp()) * 1000


def _instrument(market: Market) -> dict[str, Any]:
    kind, pair, *_ = market.symbol.split("_")
    tick = shortest(decimal(market.tick, market.price_decimals, market.price_decimals))
    return {
        "symbol": market.symbol,
        "type": "flexible_futures" if kind.endswith("F") else "futures_inverse",
        "underlying": f"rr_{pair.lower()}",
        "tickSize": msgspec.Raw(tick.encode()),
        "contractSize": 1,
        "tradeable": True,
        "contractValueTradePrecision": market.qty_decimals,
    }


SIMULATOR = KrakenFutures
