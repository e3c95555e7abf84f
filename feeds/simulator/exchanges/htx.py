"""HTX (Huobi) spot: gzip around every message, pings that the client answers, books whose snapshots are requested.

The books of changes (`mbp`) have a socket of their own, `/feed`.
"""

import gzip
import re
from collections.abc import Sequence
from functools import lru_cache
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
    Stream,
    TradeStream,
    decode_object,
)
from feeds.simulator.markets import Market, plausible_market
from feeds.simulator.numbers import Numbers
from feeds.simulator.order_flow import NS_PER_SECOND, Fill, Top, Update
from feeds.simulator.protocol import Message, PolicyViolation

MARKET, FEED = "/ws", "/feed"
MBP_PERIODS_MS = {"mbp.5": 0, "mbp.20": 0, "mbp.150": 100, "mbp.400": 100}
WHOLE_BOOKS = {  # (levels, ms)
    "mbp.refresh.5": (5, 100),
    "mbp.refresh.10": (10, 100),
    "mbp.refresh.20": (20, 100),
    "depth.step0": (150, 1000),
}
PING_NS, IMPATIENT_PING_NS = 5 * NS_PER_SECOND, NS_PER_SECOND
_TOPIC = re.compile(r"market\.([^.]+)\.(.+)")


def packed(text: bytes) -> bytes:
    """Return a text as a gzip member: the same bytes every time."""
    return gzip.compress(text, compresslevel=1, mtime=0)


_packed = lru_cache(maxsize=256)(packed)  # once for all clients


class HtxTrades(TradeStream):
    """Trades, of which a new subscriber gets the last ones again."""

    def __init__(self, exchange: "HtxExchange", key: str, symbol: str) -> None:
        super().__init__(exchange, key, symbol)
        self._last_trades = exchange.last_trades

    def on_update(self, update: Update, out: list[Message]) -> None:
        super().on_update(update, out)
        if update.fills:
            self._last_trades[self.symbol] = out[-1].data

    def first(self, now_ns: int) -> list[bytes]:
        return [self._last_trades[self.symbol]] if self.symbol in self._last_trades else []


class HtxSession(GeneratedSession):
    """One topic a request. Pings every five seconds, and every second while a pong is owed, until `pong_timeout`."""

    sends_binary = True
    pong_timeout: ClassVar[float] = 15.0  # seconds without a pong

    def __init__(self, exchange: "HtxExchange", path: str) -> None:
        super().__init__(exchange, path)
        self._pinged_ns: int | None = None
        self._ponged_ns: int | None = None

    def encode(self, message: Message) -> bytes | None:
        data = super().encode(message)
        return None if data is None else _packed(data)

    def beat(self, monotonic_ns: int, now_ns: int) -> list[bytes]:
        if self._pinged_ns is None or self._ponged_ns is None:
            self._pinged_ns = self._ponged_ns = monotonic_ns
        if monotonic_ns - self._ponged_ns >= self.pong_timeout * NS_PER_SECOND:
            raise PolicyViolation(1003, "ping check expired, session: 0228d8f7-ec75-4352-b043-c6bbd1a61542")
        interval_ns = PING_NS if self._ponged_ns >= self._pinged_ns else IMPATIENT_PING_NS
        if monotonic_ns - self._pinged_ns < interval_ns:
            return []
        self._pinged_ns = monotonic_ns
        return [packed(b'{"ping":%d}' % (now_ns // NS_PER_MS))]

    def receive(self, text: bytes, now_ns: int) -> list[bytes]:
        request = decode_object(text)
        if request is None:
            answers = [_error({}, now_ns, "not json, is not json string")]
        elif "pong" in request:
            self._ponged_ns = self._heard_ns
            answers = []
        else:
            answers = self._answers(request, now_ns)
        return [packed(answer) for answer in answers]

    def stream_of(self, topic: str, request: dict[str, Any]) -> tuple[str, str]:
        """Return (channel, symbol) of a topic; what is none has no symbol."""
        found = _TOPIC.fullmatch(topic)
        return (found[2], found[1]) if found is not None else (topic, "")

    def requested(self, topic: str, now_ns: int) -> bytes | None:
        """Return what the reply to a request for a topic ends with; None where nothing can be requested."""
        return None

    def problem(self, topic: str, symbol: str) -> str:
        """Say why a topic is refused."""
        return f"invalid topic {topic}"

    def confirmation(self, request_id: object, done: str, topic: str, ts: int) -> bytes:
        """Write that a topic is `subbed` or `unsubbed`."""
        return msgspec.json.encode({"id": request_id, "status": "ok", done: topic, "ts": ts})

    def _answers(self, request: dict[str, Any], now_ns: int) -> list[bytes]:
        for verb in ("sub", "unsub", "req"):
            topic = request.get(verb)
            if isinstance(topic, str):
                break
        else:
            return []  # such as a ping of the client
        channel, symbol = self.stream_of(topic, request)
        if verb == "unsub":
            if self.unsubscribe(channel, symbol):
                return [self.confirmation(request.get("id", ""), "unsubbed", topic, now_ns // NS_PER_MS)]
            return [_error(request, now_ns, "unsub with not subbed topic")]
        if verb == "sub" and (first := self.subscribe(channel, symbol, now_ns)) is not None:
            return [self.confirmation(request.get("id", ""), "subbed", topic, now_ns // NS_PER_MS), *first]
        if verb == "req" and (found := self.requested(topic, now_ns)) is not None:
            head = {"id": request.get("id", ""), "rep": topic, "status": "ok"}
            return [msgspec.json.encode(head)[:-1] + b"," + found]
        return [_error(request, now_ns, self.problem(topic, symbol))]


class HtxSpotSession(HtxSession):
    def subscribe(self, channel: str, symbol: str, now_ns: int) -> list[bytes] | None:
        if (channel in MBP_PERIODS_MS) != (self.path == FEED):
            return None
        first = super().subscribe(channel, symbol, now_ns)
        return first if first is None or self.path != FEED else []  # the snapshot is to be requested

    def requested(self, topic: str, now_ns: int) -> bytes | None:
        channel, symbol = self.stream_of(topic, {})
        if channel not in MBP_PERIODS_MS or self.path != FEED or symbol not in self.exchange.markets:
            return None
        key, source = f"{channel}:{symbol}", self.exchange.source
        source.subscribe(self, key, now_ns)  # nobody else may be
        found: bytes = source.first(key, now_ns)[0]
        source.unsubscribe(self, key)
        return found

    def problem(self, topic: str, symbol: str) -> str:
        is_unknown = symbol and symbol not in self.exchange.markets
        return f"invalid symbol {symbol}" if is_unknown else super().problem(topic, symbol)


class HtxExchange(GeneratedExchange):
    """What spot and swaps have in common."""

    enum_field = "direction"

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.last_trades: dict[str, bytes] = {}  # the newest message by symbol, sent to whoever was there

    def unknown_event(self, now_ns: int) -> Message:
        data = b'{"op":"simulated","ts":%d,"x":[1,"two",null]}' % (now_ns // NS_PER_MS)
        return Message("simulated", "", "other", data, to_all=True)


class Htx(HtxExchange):
    name = "htx"
    session = HtxSpotSession
    paths = (MARKET, FEED)
    written = re.compile(r"[a-z0-9]+")
    default_symbols = ("btcusdt", "ethusdt", "solusdt")
    ghost = ("mbp.400", "ghostusdt")
    sequence_fields = ("prevSeqNum", "seqNum")

    def market(self, symbol: str) -> Market:
        return msgspec.structs.replace(plausible_market(symbol.upper()), symbol=symbol)

    def number_format(self, market: Market) -> Numbers:
        return Doubles(market)

    def stream(self, key: str, channel: str, symbol: str) -> Stream:
        if channel in MBP_PERIODS_MS:
            levels, period_ns = int(channel.removeprefix("mbp.")), MBP_PERIODS_MS[channel] * NS_PER_MS
            return BookStream(self, key, symbol, levels=levels, period_ns=period_ns)
        if channel in WHOLE_BOOKS:
            levels, ms = WHOLE_BOOKS[channel]
            return BookStream(self, key, symbol, levels=levels, period_ns=ms * NS_PER_MS, is_whole=True)
        if channel == "bbo":
            return QuoteStream(self, key, symbol)
        if channel == "trade.detail":
            return HtxTrades(self, key, symbol)
        raise KeyError(channel)

    def book(self, stream: BookStream, now_ns: int, bids: Levels, asks: Levels, *, is_snapshot: bool) -> str:
        topic, ts = f"market.{stream.symbol}.{stream.channel}", now_ns // NS_PER_MS
        sides = f'"bids":[{bare_levels(stream.numbers, bids)}],"asks":[{bare_levels(stream.numbers, asks)}]'
        if stream.kind == "delta":
            if is_snapshot:
                return f'"ts":{ts},"data":{{"seqNum":{stream.last_id},{sides}}}}}'
            return push(topic, ts, f'{{"seqNum":{stream.last_id},"prevSeqNum":{stream.previous_id},{sides}}}')
        if stream.channel == "depth.step0":
            return push(topic, ts, f'{{{sides},"version":{stream.last_id},"ts":{ts}}}')
        return push(topic, ts, f'{{"seqNum":{stream.last_id},{sides}}}')

    def quote(self, stream: QuoteStream, ts_event: int, top: Top, update_id: int) -> str:
        n, ts = stream.numbers, ts_event // NS_PER_MS
        tick = (
            f'{{"seqId":{update_id},"ask":{n.price(top.ask)},"askSize":{n.qty(top.ask_qty)},"bid":{n.price(top.bid)},'
            f'"bidSize":{n.qty(top.bid_qty)},"quoteTime":{ts},"symbol":"{stream.symbol}"}}'
        )
        return push(f"market.{stream.symbol}.bbo", ts, tick)

    def trades(self, stream: TradeStream, ts_event: int, fills: Sequence[Fill]) -> Sequence[str]:
        n, ts = stream.numbers, ts_event // NS_PER_MS
        tick_id = 100_000_000_000 + fills[0].trade_id
        data = ",".join(
            f'{{"id":{tick_id}{fill.trade_id:015d},"ts":{ts},"tradeId":{fill.trade_id},"amount":{n.qty(fill.qty)},'
            f'"price":{n.price(fill.price)},"direction":"{"sell" if fill.buyer_is_maker else "buy"}"}}'
            for fill in fills
        )
        return [push(f"market.{stream.symbol}.trade.detail", ts, f'{{"id":{tick_id},"ts":{ts},"data":[{data}]}}')]

    def get(self, path: str, query: dict[str, str], now_ns: int) -> object:
        if path != "/v1/common/symbols":
            return None
        return {"status": "ok", "data": [_symbol(market) for market in self.markets.values()]}


def push(topic: str, ts: int, tick: str) -> str:
    """Write a message of a topic, sent at `ts` (ms)."""
    return f'{{"ch":"{topic}","ts":{ts},"tick":{tick}}}'


def bare_levels(numbers: Numbers, levels: Levels) -> str:
    """Write levels without quotes: [[price,size],...]."""
    return ",".join([f"[{numbers.price(price)},{numbers.qty(qty)}]" for price, qty in levels])


def _error(request: dict[str, Any], now_ns: int, problem: str) -> bytes:
    answer = {"status": "error", "err-code": "bad-request", "err-msg": problem}
    return msgspec.json.encode(answer | {"id": request.get("id", ""), "ts": now_ns // NS_PER_MS})


def _symbol(market: Market) -> dict[str, Any]:
    return {
        "base-currency": market.base.lower(),
        "quote-currency": market.quote.lower(),
        "price-precision": market.price_decimals,
        "amount-precision": market.qty_decimals,
        "symbol-partition": "main",
        "symbol": market.symbol,
        "state": "online",
        "value-precision": 8,
        "api-trading": "enabled",
        "tags": "",
    }


SIMULATOR = Htx
