"""Gate.io perpetuals and dated futures, API v4: spot with sizes in contracts and a socket for each settlement currency.

Sizes are as a client without the header `X-Gate-Size-Decimal` gets them: text in `obu`, whole numbers elsewhere.
"""

import re
from collections.abc import Sequence
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

import msgspec

from feeds.simulator.exchanges.gateio import PERIODS_MS, Gateio, GateioSession
from feeds.simulator.generated import NS_PER_MS, BookStream, Levels, QuoteStream, Stream, TradeStream, json_reply
from feeds.simulator.markets import Market, plausible_market
from feeds.simulator.numbers import Numbers, decimal, shortest
from feeds.simulator.order_flow import NS_PER_SECOND, Book, Fill, Top
from feeds.simulator.protocol import Message

UPDATE_LEVELS = {"20ms": ("20",), "100ms": ("", "20", "50", "100")}  # of `order_book_update`, by the period; "": all
TOP_LEVELS = ("1", "5", "10", "20", "50", "100")  # of `order_book`
SOCKETS = {"/v4/ws/usdt": "futures/usdt", "/v4/ws/btc": "futures/btc", "/v4/ws/delivery/usdt": "delivery/usdt"}
REST = re.compile(r"/api/v4/(futures/usdt|futures/btc|delivery/usdt)/(contracts|order_book)")


class GateioFuturesSession(GateioSession):
    """Answers what `obu` does not have, and contracts of another socket, as if they were there."""

    idle_ending = (1006, "")
    not_json = "request message need json scheme"
    failure: ClassVar = {"status": "fail"}

    def subscribe(self, channel: str, symbol: str, now_ns: int) -> list[bytes] | None:
        return super().subscribe(channel, symbol, now_ns) if self._has_contract(symbol) else None

    def problem(self, channel: str, name: str, symbol: str) -> str | None:
        kind, _, argument = name.partition(".")
        if kind not in ("obu", "order_book_update", "order_book", "book_ticker", "trades"):
            return f"Unknown channel {channel}"
        if kind == "obu" or (symbol in self.exchange.markets and not self._has_contract(symbol)):
            return None
        if kind in ("order_book_update", "order_book") and not self.exchange.has_levels(kind, argument):
            return f"provided level not supported: {argument.rpartition('.')[2]}"
        return f"unknown currency pair: {symbol}"

    def _has_contract(self, symbol: str) -> bool:
        return SOCKETS[self.path] == family_of(symbol)


class GateioFutures(Gateio):
    name = "gateio-futures"
    session = GateioFuturesSession
    paths = tuple(SOCKETS)
    written = re.compile(r"[A-Z0-9]+_USDT(_\d{8})?|[A-Z0-9]+_USD")
    precisions: ClassVar = {"BTC_USDT": (1, 1, 0, 1), "ETH_USDT": (2, 1, 0, 1), "SOL_USDT": (2, 1, 0, 1)}
    enum_field = None  # the sign of a trade's size is its side
    section = "futures"

    def market(self, symbol: str) -> Market:
        priced = plausible_market(symbol, precision=self.precisions.get(symbol))
        return msgspec.structs.replace(priced, qty_decimals=0, lot=1, typical_qty=200)

    def has_levels(self, kind: str, argument: str) -> bool:
        """Whether a book of a channel may be asked for so."""
        if kind == "order_book":
            return argument in TOP_LEVELS
        period, _, levels = argument.partition(".")
        return levels in UPDATE_LEVELS.get(period, ())

    def stream(self, key: str, channel: str, symbol: str) -> Stream:
        kind, _, argument = channel.partition(".")
        if kind == "order_book_update" and self.has_levels(kind, argument):
            period, _, levels = argument.partition(".")
            period_ns = PERIODS_MS[period] * NS_PER_MS
            asked = int(levels) if levels else None
            return BookStream(self, key, symbol, levels=asked, period_ns=period_ns, has_snapshot=False)
        if kind == "order_book" and self.has_levels(kind, argument):
            return BookStream(self, key, symbol, levels=int(argument), period_ns=100 * NS_PER_MS, is_whole=True)
        if kind == "obu" and family_of(symbol) != "delivery/usdt":
            return super().stream(key, channel, symbol)
        if kind == "book_ticker":
            return QuoteStream(self, key, symbol)
        if kind == "trades":
            return TradeStream(self, key, symbol)
        raise KeyError(channel)

    def book(self, stream: BookStream, now_ns: int, bids: Levels, asks: Levels, *, is_snapshot: bool) -> str:
        n, ts = stream.numbers, now_ns // NS_PER_MS
        kind, _, argument = stream.channel.partition(".")
        if kind == "obu":
            return super().book(stream, now_ns, bids, asks, is_snapshot=is_snapshot)
        if kind == "order_book":
            result = (
                f'{{"t":{ts},"id":{stream.last_id},"contract":"{stream.symbol}","asks":[{_levels(n, asks)}],'
                f'"bids":[{_levels(n, bids)}],"l":"{argument}"}}'
            )
            return self.push(kind, result, now_ns, "all")
        levels = argument.partition(".")[2]
        suffix = f',"l":"{levels}"' if levels else ""
        result = (
            f'{{"U":{stream.previous_id + 1},"a":[{_levels(n, asks)}],"b":[{_levels(n, bids)}],'
            f'"s":"{stream.symbol}","t":{ts},"u":{stream.last_id}{suffix}}}'
        )
        return self.push(kind, result, now_ns)

    def quote(self, stream: QuoteStream, ts_event: int, top: Top, update_id: int) -> str:
        n = stream.numbers
        result = (
            f'{{"t":{ts_event // NS_PER_MS},"u":{update_id},"s":"{stream.symbol}","b":"{n.price(top.bid)}",'
            f'"B":{n.qty(top.bid_qty)},"a":"{n.price(top.ask)}","A":{n.qty(top.ask_qty)}}}'
        )
        return self.push("book_ticker", result, ts_event)

    def trades(self, stream: TradeStream, ts_event: int, fills: Sequence[Fill]) -> Sequence[str]:
        n = stream.numbers
        trades = ",".join(
            f'{{"size":{"-" if fill.buyer_is_maker else ""}{n.qty(fill.qty)},"id":{fill.trade_id},'
            f'"create_time":{ts_event // NS_PER_SECOND},"create_time_ms":{ts_event // NS_PER_MS},'
            f'"price":"{n.price(fill.price)}","contract":"{stream.symbol}"}}'
            for fill in fills
        )
        return [self.push("trades", f"[{trades}]", ts_event)]

    def get(self, path: str, query: dict[str, str], now_ns: int) -> object:
        found = REST.fullmatch(path)
        if found is None:
            return None
        if found[2] == "order_book":
            return json_reply(400, {"label": "CONTRACT_NOT_FOUND"})
        return [_contract(market) for market in self.markets.values() if family_of(market.symbol) == found[1]]

    def snapshot_symbol(self, target: str) -> str | None:
        parts = urlsplit(target)
        found = REST.fullmatch(parts.path)
        symbol = parse_qs(parts.query).get("contract", [""])[0]
        is_there = found is not None and found[2] == "order_book" and family_of(symbol) == found[1]
        return symbol if is_there else None

    def rest_book(self, book: Book, numbers: Numbers, now_ns: int) -> bytes:
        def levels(side: Levels) -> str:
            return ",".join([f'{{"s":{numbers.qty(qty)},"p":"{numbers.price(price)}"}}' for price, qty in side])

        return (
            f'{{"current":{_seconds(now_ns)},"update":{_seconds(book.ts_event)},"asks":[{levels(book.asks)}],'
            f'"bids":[{levels(book.bids)}],"id":{book.update_id}}}'
        ).encode()

    def unknown_event(self, now_ns: int) -> Message:
        text = self.push("simulated", '[{"x":[1,"two",null]}]', now_ns)
        return Message("simulated", "", "other", text.encode(), to_all=True)


def family_of(symbol: str) -> str:
    """Return what a contract is listed with: futures or delivery, and what it is settled in."""
    quote, _, date = symbol.partition("_")[2].partition("_")
    return f"{'delivery' if date else 'futures'}/{'btc' if quote == 'USD' else quote.lower()}"


def _levels(numbers: Numbers, levels: Levels) -> str:
    return ",".join([f'{{"p":"{numbers.price(price)}","s":{numbers.qty(qty)}}}' for price, qty in levels])


def _seconds(ts: int) -> str:
    return shortest(decimal(ts // NS_PER_MS, 3, 3))


def _contract(market: Market) -> dict[str, Any]:
    is_inverse = market.quote == "USD"
    return {
        "name": market.symbol,
        "type": "inverse" if is_inverse else "direct",
        "quanto_multiplier": "0" if is_inverse else "0.0001",
        "order_price_round": decimal(market.tick, market.price_decimals, market.price_decimals),
        "order_size_min": 1,
        "order_size_max": 1000000,
        "enable_decimal": False,
        "funding_interval": 28800,
        "in_delisting": False,
    }


SIMULATOR = GateioFutures
