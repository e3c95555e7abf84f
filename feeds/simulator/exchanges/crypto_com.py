"""Crypto.com Exchange v1: books that name the message before, heartbeats that must be answered with their ids."""

import re
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
    QuoteStream,
    RecentTradeStream,
    Stream,
    TradeStream,
    decode_object,
)
from feeds.simulator.markets import Market
from feeds.simulator.numbers import Numbers, decimal, shortest
from feeds.simulator.order_flow import NS_PER_SECOND, Fill, Top
from feeds.simulator.protocol import Message, PolicyViolation

HEARTBEAT_NS = 30 * NS_PER_SECOND
ANSWER_NS = 5 * NS_PER_SECOND  # within which a heartbeat must be answered
QUIET_NS = 5 * NS_PER_SECOND  # after which a book that has not changed says so
MAX_CHANNELS = 400  # of a connection
OPENING_TRADE = 2_999_999_999  # below those of the order flow
# How often books come, by what the names of their channels here end with: changes, changes, and whole books.
PERIODS_MS = {"": 10, ".100ms": 100, ".snapshot": 500}
_TOPIC = re.compile(r"book\.([^.]+)\.(10|50|150)")
_CHANNEL = re.compile(r"book\.(10|50|150)(|\.100ms|\.snapshot)")


class _Books(BookStream):
    """A book that repeats its number when it has been quiet."""

    _wrote_ns = 0

    def on_tick(self, now_ns: int, out: list[Message]) -> None:
        before = len(out)
        super().on_tick(now_ns, out)
        if len(out) > before or not self._wrote_ns:
            self._wrote_ns = now_ns
        elif self.kind == "delta" and now_ns - self._wrote_ns >= QUIET_NS:
            self._wrote_ns, self.previous_id = now_ns, self.last_id
            out.append(Message(self.key, self.symbol, self.kind, self._write(now_ns, [], [], False)[0]))


class CryptoComSession(GeneratedSession):
    """One answer for all channels of a request: a bad one refuses them all. Heartbeats have to be answered."""

    messages_per_second = 100

    def __init__(self, exchange: GeneratedExchange, path: str) -> None:
        super().__init__(exchange, path)
        self._asked_ns = 0  # when the last heartbeat was sent
        self._owed: int | None = None  # the id of one that has not been answered

    def beat(self, monotonic_ns: int, now_ns: int) -> list[bytes]:
        if not self._asked_ns:
            self._asked_ns = monotonic_ns
        waited_ns = monotonic_ns - self._asked_ns
        if self._owed is not None:
            if waited_ns >= ANSWER_NS:
                raise PolicyViolation(1006, f"no answer to heartbeat {self._owed}")
            return []
        if waited_ns < HEARTBEAT_NS:
            return []
        self._asked_ns, self._owed = monotonic_ns, now_ns // NS_PER_MS
        return [msgspec.json.encode({"id": self._owed, "method": "public/heartbeat", "code": 0})]

    def receive(self, text: bytes, now_ns: int) -> list[bytes]:
        request = decode_object(text)
        if request is None:
            return [_error({})]
        method, params = request.get("method"), request.get("params")
        if method == "public/respond-heartbeat":
            if request.get("id") == self._owed:
                self._owed = None
            return []
        params = params if isinstance(params, dict) else {}
        topics = params.get("channels")
        if method not in ("subscribe", "unsubscribe") or not isinstance(topics, list):
            return [_error(request)]
        before, first = set(self.streams), list[bytes]()
        for topic in map(str, topics):
            channel, _, symbol = topic.partition(".")
            book = _TOPIC.fullmatch(topic)
            if book is not None:
                channel, symbol = f"book.{book[2]}", book[1]
            modes = PERIODS_MS if book else ("",)
            if method == "unsubscribe":
                for mode in modes:
                    self.unsubscribe(channel + mode, symbol)
                continue
            if book is not None:
                channel += _mode(params)
            found = self.subscribe(channel, symbol, now_ns) if len(self._names) < MAX_CHANNELS else None
            if found is None:
                for key in set(self.streams) - before:
                    self.unsubscribe(*key.rsplit(":", 1))
                return [_error(request)]
            first += found
        return [msgspec.json.encode({"id": request.get("id"), "code": 0, "method": method}), *first]


class CryptoCom(GeneratedExchange):
    name = "crypto-com"
    update_ids = "exchange"
    session = CryptoComSession
    paths = ("/exchange/v1/market",)
    written = re.compile(r"[A-Z0-9]+_[A-Z0-9]+|[A-Z0-9]+USD-(PERP|\d{6})")
    default_symbols = ("BTC_USDT", "ETH_USDT", "BTCUSD-PERP")
    precisions: ClassVar = {"BTC_USDT": (2, 1, 5, 1), "ETH_USDT": (2, 1, 4, 1), "BTCUSD-PERP": (1, 1, 4, 1)}
    ghost = ("book.50", "GHOST_USDT")
    sequence_fields = ("pu", "u")
    enum_field = "s"

    def market(self, symbol: str) -> Market:
        _expiry(symbol)  # ValueError for a day that there is not
        return super().market(symbol)

    def number_format(self, market: Market) -> Numbers:
        return Numbers(market, is_short=True)

    def stream(self, key: str, channel: str, symbol: str) -> Stream:
        if channel == "trade":
            if not (recent := self.recent_trades[symbol]):
                flow = self.flow_of(symbol)
                top = flow.top(symbol)
                recent.append((flow.ts_event, Fill(OPENING_TRADE, top.bid, top.bid_qty, True)))
            return RecentTradeStream(self, key, symbol)
        if channel == "ticker":
            return QuoteStream(self, key, symbol)
        match = _CHANNEL.fullmatch(channel)
        is_whole = channel.endswith(".snapshot")
        if match is None or (match[1] == "150" and not is_whole):
            raise KeyError(channel)
        period_ns = PERIODS_MS[match[2]] * NS_PER_MS
        return _Books(self, key, symbol, levels=int(match[1]), period_ns=period_ns, is_whole=is_whole)

    def book(self, stream: BookStream, now_ns: int, bids: Levels, asks: Levels, *, is_snapshot: bool) -> str:
        ts, n = now_ns // NS_PER_MS, stream.numbers
        sides = f'"bids":[{_levels(n, bids)}],"asks":[{_levels(n, asks)}]'
        # `cs` is a checksum that nobody knows how to make.
        tail = f'"t":{ts},"tt":{ts},"u":{stream.last_id},"cs":{stream.last_id % 2**31}'
        data = f"{sides},{tail}" if is_snapshot else f'"update":{{{sides}}},{tail},"pu":{stream.previous_id}'
        topic = f"book.{stream.symbol}.{stream.levels}"
        return _push(stream, topic, f'"book{"" if is_snapshot else ".update"}","depth":{stream.levels}', data)

    def quote(self, stream: QuoteStream, ts_event: int, top: Top, update_id: int) -> str:
        n, ts = stream.numbers, ts_event // NS_PER_MS
        data = (
            f'"i":"{stream.symbol}","h":null,"l":null,"a":"{n.price(top.bid)}","v":"0","vv":"0","c":null,'
            f'"b":"{n.price(top.bid)}","bs":"{n.qty(top.bid_qty)}","k":"{n.price(top.ask)}",'
            f'"ks":"{n.qty(top.ask_qty)}","oi":"0","t":{ts}'
        )
        return _push(stream, f"ticker.{stream.symbol}", '"ticker"', data)

    def trades(self, stream: TradeStream, ts_event: int, fills: Sequence[Fill]) -> Sequence[str]:
        return self.backlog(stream, ts_event, [(ts_event, fill) for fill in reversed(fills)])

    def backlog(self, stream: TradeStream, now_ns: int, trades: Sequence[tuple[int, Fill]]) -> Sequence[str]:
        n = stream.numbers
        data = "},{".join(
            f'"d":"{fill.trade_id}","t":{ts_event // NS_PER_MS},"p":"{n.price(fill.price)}","q":"{n.qty(fill.qty)}",'
            f'"s":"{"SELL" if fill.buyer_is_maker else "BUY"}","i":"{stream.symbol}"'
            for ts_event, fill in trades
        )
        return [_push(stream, f"trade.{stream.symbol}", '"trade"', data)]

    def get(self, path: str, query: dict[str, str], now_ns: int) -> object:
        if path != "/exchange/v1/public/get-instruments":
            return None
        listed = [_instrument(market) for market in self.markets.values()]
        return {"id": -1, "method": "public/get-instruments", "code": 0, "result": {"data": listed}}

    def unknown_event(self, now_ns: int) -> Message:
        data = b'{"id":-1,"code":0,"method":"simulated","result":{"x":[1,"two",null]}}'
        return Message("simulated", "", "other", data, to_all=True)


def _mode(params: dict[str, Any]) -> str:
    """Return what the channel of the book that a client wants ends with."""
    if params.get("book_subscription_type", "SNAPSHOT") == "SNAPSHOT":
        return ".snapshot"
    frequency = str(params.get("book_update_frequency", 10))
    return {"10": "", "100": ".100ms"}.get(frequency, ".unknown")


def _levels(numbers: Numbers, levels: Levels) -> str:
    return ",".join([f'["{numbers.price(price)}","{numbers.qty(qty)}","{1 if qty else 0}"]' for price, qty in levels])


def _push(stream: Stream, topic: str, channel: str, data: str) -> str:
    return (
        f'{{"id":-1,"code":0,"method":"subscribe","result":{{"instrument_name":"{stream.symbol}",'
        f'"subscription":"{topic}","channel":{channel},"data":[{{{data}}}]}}}}'
    )


def _error(request: dict[str, Any]) -> bytes:
    request_id, method = request.get("id", -1), request.get("method", "")
    return msgspec.json.encode({"id": request_id, "code": 40003, "method": method, "message": "Invalid request"})


def _expiry(symbol: str) -> int:
    """Return when a future ends, ms; 0 for what does not end."""
    date = symbol.partition("-")[2]
    if not date.isdecimal():
        return 0
    return round(datetime.strptime(date, "%y%m%d").replace(hour=8, tzinfo=timezone.utc).timestamp()) * 1000


def _instrument(market: Market) -> dict[str, Any]:
    expiry = _expiry(market.symbol)
    kind = "FUTURE" if expiry else "PERPETUAL_SWAP" if market.symbol.endswith("-PERP") else "CCY_PAIR"
    return {
        "symbol": market.symbol,
        "inst_type": kind,
        "display_name": market.symbol.replace("_", "/"),
        "base_ccy": market.base,
        "quote_ccy": market.quote,
        "quote_decimals": market.price_decimals,
        "quantity_decimals": market.qty_decimals,
        "price_tick_size": shortest(decimal(market.tick, market.price_decimals, market.price_decimals)),
        "qty_tick_size": shortest(decimal(market.lot, market.qty_decimals, market.qty_decimals)),
        "tradable": True,
        "expiry_timestamp_ms": expiry,
    }


SIMULATOR = CryptoCom
