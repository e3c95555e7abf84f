"""Upbit: whole books in binary frames; a request replaces the one before, and nobody confirms it."""

import re
from collections import deque
from collections.abc import Sequence
from datetime import datetime, timezone
from itertools import zip_longest
from typing import Any, ClassVar

import msgspec

from feeds.simulator.doubles import Doubles
from feeds.simulator.generated import (
    NS_PER_MS,
    BookStream,
    GeneratedExchange,
    GeneratedSession,
    Levels,
    QuoteStream,
    RecentTradeStream,
    Stream,
    TradeStream,
    json_reply,
)
from feeds.simulator.markets import Market, plausible_market
from feeds.simulator.numbers import Numbers
from feeds.simulator.order_flow import NS_PER_SECOND, Fill, Top
from feeds.simulator.protocol import Message, PolicyViolation

STATUS = b'{"status":"UP"}'
STATUS_INTERVAL = 10  # seconds, after a first PING
FORMATS = ("DEFAULT", "SIMPLE", "JSON_LIST", "SIMPLE_LIST")
ERRORS = {
    "WRONG_FORMAT": "Format 이 맞지 않습니다.",
    "NO_TICKET": "티켓이 존재하지 않거나, 유효하지 않습니다.",
    "NO_TYPE": "type 필드가 존재하지 않습니다.",
    "NO_CODES": "codes 필드가 존재하지 않습니다.",
    "INVALID_PARAM": "codes 필드가 비어 있습니다.",
}
SIMPLE_NAMES = {
    b"type": b"ty",
    b"code": b"cd",
    b"timestamp": b"tms",
    b"total_ask_size": b"tas",
    b"total_bid_size": b"tbs",
    b"orderbook_units": b"obu",
    b"ask_price": b"ap",
    b"bid_price": b"bp",
    b"ask_size": b"as",
    b"bid_size": b"bs",
    b"stream_type": b"st",
    b"level": b"lv",
    b"trade_date": b"td",
    b"trade_time": b"ttm",
    b"trade_timestamp": b"ttms",
    b"trade_price": b"tp",
    b"trade_volume": b"tv",
    b"ask_bid": b"ab",
    b"prev_closing_price": b"pcp",
    b"change": b"c",
    b"change_price": b"cp",
    b"sequential_id": b"sid",
    b"best_ask_price": b"bap",
    b"best_ask_size": b"bas",
    b"best_bid_price": b"bbp",
    b"best_bid_size": b"bbs",
}
_NAME = re.compile(rb'"([a-z_]+)":')
_DEPTH = re.compile(r"(.+)\.(1|5|15|30)")


class UpbitSession(GeneratedSession):
    """All subscriptions in one array, which nobody confirms; codes that there are not stay silent."""

    sends_binary = True
    idle_timeout = 60.0  # as observed; 120 by the documentation
    idle_ending = (1006, "idle")
    data_keeps_alive = True
    messages_per_second: ClassVar[int | None] = 5
    messages_per_minute: ClassVar[int | None] = 100
    options: ClassVar[dict[str, tuple[str, ...]]] = {
        "snapshot": ("is_only_snapshot", "isOnlySnapshot"),
        "realtime": ("is_only_realtime", "isOnlyRealtime"),
    }

    def __init__(self, exchange: GeneratedExchange, path: str) -> None:
        super().__init__(exchange, path)
        self._format = FORMATS[0]
        self._minute: deque[int] = deque(maxlen=self.messages_per_minute)  # when frames came
        self._status_ns: int | None = None  # when the last status was due; None: nobody asked

    def count_frame(self, monotonic_ns: int) -> None:
        super().count_frame(monotonic_ns)
        minute = self._minute
        if not minute.maxlen:
            return
        if len(minute) == minute.maxlen and monotonic_ns - minute[0] < 60 * NS_PER_SECOND:
            raise PolicyViolation(1008, "Too many requests")
        minute.append(monotonic_ns)

    def beat(self, monotonic_ns: int, now_ns: int) -> list[bytes]:
        is_due = self._status_ns is not None and monotonic_ns - self._status_ns >= STATUS_INTERVAL * NS_PER_SECOND
        self._was_served |= is_due
        super().beat(monotonic_ns, now_ns)
        if not is_due:
            return []
        self._status_ns = monotonic_ns
        return [STATUS]

    def receive(self, text: bytes, now_ns: int) -> list[bytes]:
        if text == b"PING":
            self._status_ns = self._heard_ns
            return [STATUS]
        try:
            fields = msgspec.json.decode(text, type=list[dict[str, Any]])
        except msgspec.DecodeError:
            return self._refuse("WRONG_FORMAT")
        if not fields or not fields[0].get("ticket"):
            return self._refuse("NO_TICKET")
        wanted = [field for field in fields[1:] if "type" in field]
        if not wanted:
            return self._refuse("NO_TYPE")
        if any("codes" not in field for field in wanted):
            return self._refuse("NO_CODES")
        if any(not isinstance(field["codes"], list) or not field["codes"] for field in wanted):
            return self._refuse("INVALID_PARAM")
        chosen = next((field["format"] for field in fields[1:] if "format" in field), FORMATS[0])
        if chosen not in FORMATS:
            return self._refuse("WRONG_FORMAT")
        self._format = chosen
        return self._replace(wanted, now_ns)

    def encode(self, message: Message) -> bytes | None:
        data = super().encode(message)
        return None if data is None else self._formatted(data)

    def _replace(self, wanted: Sequence[dict[str, Any]], now_ns: int) -> list[bytes]:
        for key in self.streams:
            self.unsubscribe(*key.rsplit(":", 1))
        first: list[bytes] = []
        for field in wanted:
            wants_first, wants_rest = not self._has(field, "realtime"), not self._has(field, "snapshot")
            for code in map(str, field["codes"]):
                found = _DEPTH.fullmatch(code)
                channel, symbol = (f"{field['type']}.{found[2]}", found[1]) if found else (str(field["type"]), code)
                snapshot = self.subscribe(channel, symbol, now_ns) or []
                first += map(self._formatted, snapshot if wants_first else [])
                if not wants_rest:
                    self.unsubscribe(channel, symbol)
        return first

    def _has(self, field: dict[str, Any], option: str) -> bool:
        return any(field.get(name) is True for name in self.options[option])

    def _formatted(self, data: bytes) -> bytes:
        if self._format.startswith("SIMPLE"):
            data = _NAME.sub(lambda found: b'"%b":' % SIMPLE_NAMES.get(found[1], found[1]), data)
        return b"[%b]" % data if self._format.endswith("LIST") else data

    def _refuse(self, name: str) -> list[bytes]:
        self.ending = PolicyViolation(1000, name)
        return [msgspec.json.encode({"error": {"name": name, "message": ERRORS[name]}})]


class _Doubles(Doubles):
    whole = ""  # as in the recorded 6E-8


class Upbit(GeneratedExchange):
    name = "upbit"
    refuses_subscriptions = False
    session: type[GeneratedSession] = UpbitSession
    backlog_size = 1
    paths = ("/websocket/v1",)
    written = re.compile(r"(KRW|BTC|USDT)-[A-Z0-9]+")
    default_symbols = ("KRW-BTC", "KRW-ETH", "KRW-SOL")
    precisions: ClassVar = {"KRW-BTC": (0, 1000, 8, 1), "KRW-ETH": (0, 1000, 8, 1), "KRW-SOL": (0, 100, 8, 1)}
    ghost = ("orderbook", "KRW-GHOST")
    enum_field = "ask_bid"
    rest_depth = 30
    depths: ClassVar[dict[str, int]] = {
        "orderbook": 30,
        "orderbook.1": 1,
        "orderbook.5": 5,
        "orderbook.15": 15,
        "orderbook.30": 30,
    }

    def market(self, symbol: str) -> Market:
        quote, _, base = symbol.partition("-")  # the quote currency is written first
        market = plausible_market(f"{base}-{quote}", precision=self.precisions.get(symbol))
        return msgspec.structs.replace(market, symbol=symbol)

    def number_format(self, market: Market) -> Numbers:
        return _Doubles(market)

    def stream(self, key: str, channel: str, symbol: str) -> Stream:
        if channel == "trade":
            return RecentTradeStream(self, key, symbol)
        return _Books(self, key, symbol, levels=self.depths[channel], period_ns=100 * NS_PER_MS, is_whole=True)

    def book(self, stream: BookStream, now_ns: int, bids: Levels, asks: Levels, *, is_snapshot: bool) -> str:
        n = stream.numbers
        return (
            f'{{"type":"orderbook","code":"{stream.symbol}","timestamp":{now_ns // NS_PER_MS},{totals(n, bids, asks)},'
            f'"orderbook_units":[{units(n, bids, asks)}],"stream_type":"REALTIME","level":0}}'
        )

    def quote(self, stream: QuoteStream, ts_event: int, top: Top, update_id: int) -> str:
        raise NotImplementedError("the best prices are those of books")

    def trades(self, stream: TradeStream, ts_event: int, fills: Sequence[Fill]) -> Sequence[str]:
        return [self.trade(stream, ts_event, fill, "REALTIME") for fill in fills]

    def backlog(self, stream: TradeStream, now_ns: int, trades: Sequence[tuple[int, Fill]]) -> Sequence[str]:
        return [self.trade(stream, ts_event, fill, "SNAPSHOT") for ts_event, fill in trades]

    def trade(self, stream: TradeStream, ts_event: int, fill: Fill, stream_type: str) -> str:
        """Write one trade; its closing price of yesterday is the price that order flow began with."""
        n, top, ts = stream.numbers, self.source.flow.top(stream.symbol), ts_event // NS_PER_MS
        return (
            f'{{"type":"trade","code":"{stream.symbol}","timestamp":{ts},"trade_date":"{day(ts_event)}",'
            f'"trade_time":"{clock(ts_event)}","trade_timestamp":{ts},"trade_price":{n.price(fill.price)},'
            f'"trade_volume":{n.qty(fill.qty)},"ask_bid":"{"ASK" if fill.buyer_is_maker else "BID"}",'
            f'{self.change(stream.symbol, fill.price)},"sequential_id":{ts * 10_000 + fill.trade_id % 10_000},'
            f'"best_ask_price":{n.price(top.ask)},"best_ask_size":{n.qty(top.ask_qty)},'
            f'"best_bid_price":{n.price(top.bid)},"best_bid_size":{n.qty(top.bid_qty)},"stream_type":"{stream_type}"}}'
        )

    def change(self, symbol: str, price: int) -> str:
        """Write how a price has changed since yesterday."""
        market, n = self.markets[symbol], self.numbers[symbol]
        since = price - market.start_price
        word = "RISE" if since > 0 else "FALL" if since else "EVEN"
        return (
            f'"prev_closing_price":{n.price(market.start_price)},"change":"{word}","change_price":{n.price(abs(since))}'
        )

    def get(self, path: str, query: dict[str, str], now_ns: int) -> object:
        if path == "/v1/market/all":
            return [
                {"market": market.symbol, "korean_name": market.base, "english_name": market.base}
                for market in self.markets.values()
            ]
        if path != "/v1/orderbook":
            return None
        codes = query.get("markets", "").split(",")
        if any(code not in self.markets for code in codes):
            return json_reply(404, {"error": {"name": 404, "message": "Code not found"}})
        return [msgspec.Raw(self._orderbook(code).encode()) for code in codes]

    def _orderbook(self, symbol: str) -> str:
        book, n = self.source.current_book(symbol, self.rest_depth), self.numbers[symbol]
        return (
            f'{{"market":"{symbol}","timestamp":{book.ts_event // NS_PER_MS},{totals(n, book.bids, book.asks)},'
            f'"orderbook_units":[{units(n, book.bids, book.asks)}],"level":0}}'
        )

    def unknown_event(self, now_ns: int) -> Message:
        data = b'{"type":"simulated","code":"KRW-BTC","x":[1,"two",null],"stream_type":"REALTIME"}'
        return Message("simulated", "", "other", data, to_all=True)


class _Books(BookStream):
    """Whole books; the first that a subscriber gets is marked."""

    def first(self, now_ns: int) -> list[bytes]:
        return [data.replace(b'"REALTIME"', b'"SNAPSHOT"') for data in super().first(now_ns)]


def units(numbers: Numbers, bids: Levels, asks: Levels) -> str:
    """Write the i-th best levels of both sides as one unit; what is missing on one side is zero."""
    price, qty = numbers.price, numbers.qty
    return ",".join(
        [
            f'{{"ask_price":{price(ask[0])},"bid_price":{price(bid[0])},"ask_size":{qty(ask[1])},"bid_size":{qty(bid[1])}}}'
            for bid, ask in zip_longest(bids, asks, fillvalue=(0, 0))
        ]
    )


def totals(numbers: Numbers, bids: Levels, asks: Levels) -> str:
    """Write the sums of all sizes."""
    ask, bid = (numbers.qty(sum(qty for _, qty in side)) for side in (asks, bids))
    return f'"total_ask_size":{ask},"total_bid_size":{bid}'


def day(ts: int, zone: timezone = timezone.utc) -> str:
    """Write the day of a time (ns)."""
    return f"{datetime.fromtimestamp(ts // NS_PER_SECOND, zone):%Y-%m-%d}"


def clock(ts: int, zone: timezone = timezone.utc) -> str:
    """Write the time of day of a time (ns)."""
    return f"{datetime.fromtimestamp(ts // NS_PER_SECOND, zone):%H:%M:%S}"


SIMULATOR = Upbit
