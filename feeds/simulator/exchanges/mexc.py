"""MEXC: spot, which is protobuf, and futures, which are JSON on a socket of their own; books joined by REST to both.

Spot streams write JSON with the fields of the protobuf messages, of which sessions send what `protobuf` makes.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

import msgspec

from feeds.simulator.generated import (
    NS_PER_MS,
    BookStream,
    GeneratedExchange,
    GeneratedSession,
    Levels,
    PeriodicQuoteStream,
    QuoteStream,
    Stream,
    TradeStream,
    decode_object,
    json_reply,
)
from feeds.simulator.markets import Market, plausible_market
from feeds.simulator.numbers import Numbers, decimal, shortest
from feeds.simulator.order_flow import NS_PER_SECOND, Book, Fill, Top, Update
from feeds.simulator.protocol import Message, PolicyViolation

SPOT, FUTURES = "/ws", ("/edge", "/contract.mexc.com/edge")
MAX_TOPICS = 30  # of a connection
UNUSED_NS = 30 * NS_PER_SECOND  # after which a connection without subscriptions ends
FUTURES_CHANNELS = {"depth", "depth.full", "deal", "ticker"}
_TOPIC = re.compile(
    r"spot@public\.(?:(aggre\.(?:depth|deals|bookTicker))\.v3\.api\.pb@(10ms|100ms)@([^@]+)"
    r"|(limit\.depth)\.v3\.api\.pb@([^@]+)@(5|10|20))"
)
_FUTURES_BOOK = re.compile(r"/api/v1/contract/depth/([^/?]+)")


# --- protobuf -----------------------------------------------------------------------------------------------------

# Name of a field -> its number, and the fields of the message that it is.
# https://github.com/mexcdevelop/websocket-proto
_Fields = dict[str, tuple[int, Any]]

_LEVEL: _Fields = {"price": (1, None), "quantity": (2, None)}
_DEPTHS: _Fields = {"asks": (1, _LEVEL), "bids": (2, _LEVEL), "eventType": (3, None)}
_DEAL: _Fields = _LEVEL | {"tradeType": (3, None), "time": (4, None), "tradeId": (5, None)}
_TICKER: _Fields = {
    "bidPrice": (1, None),
    "bidQuantity": (2, None),
    "askPrice": (3, None),
    "askQuantity": (4, None),
    "version": (5, None),
}
_WRAPPER: _Fields = {
    "channel": (1, None),
    "symbol": (3, None),
    "sendTime": (6, None),
    "publicLimitDepths": (303, _DEPTHS | {"version": (4, None)}),
    "publicAggreDepths": (313, _DEPTHS | {"fromVersion": (4, None), "toVersion": (5, None)}),
    "publicAggreDeals": (314, {"deals": (1, _DEAL), "eventType": (2, None)}),
    "publicAggreBookTicker": (315, _TICKER),
    "publicSimulated": (399, {}),
}
_NEW_FIELD = 15  # the number of a field that is in none of these
_TRADE_TYPES = {"1": 1, "2": 2}  # bought and sold
_UNKNOWN_TRADE_TYPE = 3


def protobuf(fields: Mapping[str, Any], numbers: _Fields = _WRAPPER) -> bytes:
    """Write a protobuf message: texts, integers that are not negative, messages and lists of messages."""
    out = bytearray()
    for name, value in fields.items():
        number, inner = numbers.get(name, (_NEW_FIELD, {}))
        if name == "tradeType":  # a word, for the fault that replaces words
            value = _TRADE_TYPES.get(value, _UNKNOWN_TRADE_TYPE)
        for one in value if isinstance(value, list) else (value,):
            if isinstance(one, int):
                out += _varint(number << 3) + _varint(one)
            else:
                data = one.encode() if isinstance(one, str) else protobuf(one or {}, inner)
                out += _varint(number << 3 | 2) + _varint(len(data)) + data
    return bytes(out)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _cut_off(topic: str) -> bytes:
    """Write a message that ends where its body would begin."""
    return protobuf({"channel": topic}) + _varint(313 << 3 | 2) + _varint(1000)


# --- streams ------------------------------------------------------------------------------------------------------


class _Binary(Stream):
    """What is sent at the end of a period, in binary messages."""

    def on_tick(self, now_ns: int, out: list[Message]) -> None:
        made: list[Message] = []
        super().on_tick(now_ns, made)
        out += map(_binary, made)


class _Books(_Binary, BookStream):
    pass


class _Tickers(_Binary, PeriodicQuoteStream):
    pass


class _Deals(TradeStream):
    """All fills of a period in one message."""

    def __init__(self, exchange: GeneratedExchange, key: str, symbol: str, period_ns: int) -> None:
        super().__init__(exchange, key, symbol)
        self.period_ns = period_ns
        self._deals: list[str] = []

    def on_update(self, update: Update, out: list[Message]) -> None:
        self._deals += [_deal(self.numbers, update.ts_event, fill) for fill in update.fills]

    def on_tick(self, now_ns: int, out: list[Message]) -> None:
        if self._deals:
            body = f'"publicAggreDeals":{{"deals":[{",".join(self._deals)}],"eventType":"{_event_type(self)}"}}'
            self._deals.clear()
            out.append(_binary(Message(self.key, self.symbol, self.kind, _push(self, now_ns, body).encode())))


def _binary(message: Message) -> Message:
    return msgspec.structs.replace(message, is_binary=True)


# --- clients ------------------------------------------------------------------------------------------------------


class MexcSession(GeneratedSession):
    """Spot. Topics that there are not are named in an answer whose code is no error's."""

    idle_timeout = 60.0
    data_keeps_alive = True
    _unused_ns: int | None = None  # since when there is no subscription

    def encode(self, message: Message) -> bytes | None:
        return None if super().encode(message) is None else self.exchange.wire(message)

    def beat(self, monotonic_ns: int, now_ns: int) -> list[bytes]:
        if self._names:
            self._unused_ns = None
        elif self._unused_ns is None:
            self._unused_ns = monotonic_ns
        elif monotonic_ns - self._unused_ns >= UNUSED_NS:
            raise PolicyViolation(1000, "no subscription")
        return super().beat(monotonic_ns, now_ns)

    def receive(self, text: bytes, now_ns: int) -> list[bytes]:
        request = decode_object(text)
        method = None if request is None else request.get("method")
        if method == "PING":
            return [_answer("PONG")]
        topics = None if request is None else request.get("params")
        if method not in ("SUBSCRIPTION", "UNSUBSCRIPTION") or not isinstance(topics, list):
            return [_answer("msg format invalid")]
        good, bad = list[str](), list[str]()
        for topic in map(str, topics):
            (good if self._change(method, topic, now_ns) else bad).append(topic)
        answers = [_answer(",".join(good))] if good else []
        if bad:
            answers.append(
                _answer(f"Not Subscribed successfully! [{','.join(bad)}].  Reason\N{FULLWIDTH COLON} Blocked! ")
            )
        return answers

    def _change(self, method: str, topic: str, now_ns: int) -> bool:
        match = _TOPIC.fullmatch(topic)
        if match is None:
            return False
        channel, symbol = (f"{match[1]}@{match[2]}", match[3]) if match[1] else (f"{match[4]}@{match[6]}", match[5])
        if method == "UNSUBSCRIPTION":
            return self.unsubscribe(channel, symbol)
        has_room = len(self._names) < MAX_TOPICS and not _is_futures(symbol)
        return has_room and self.subscribe(channel, symbol, now_ns) is not None


class MexcFuturesSession(GeneratedSession):
    """Futures. One symbol a message; answers do not name it, and methods that there are not get none.

    The messages that no client can know, and of symbols that are not listed, are those of spot.
    """

    idle_timeout = 60.0

    def encode(self, message: Message) -> bytes | None:
        return None if message.is_binary else super().encode(message)

    def receive(self, text: bytes, now_ns: int) -> list[bytes]:
        request = decode_object(text)
        method = str(request.get("method")) if request is not None else ""
        ts = now_ns // NS_PER_MS
        if method == "ping":
            return [msgspec.json.encode({"channel": "pong", "data": ts, "ts": ts})]
        kind, _, channel = method.partition(".")
        param = request.get("param") if request is not None else None
        if kind not in ("sub", "unsub") or channel not in FUTURES_CHANNELS or not isinstance(param, dict):
            return []
        symbol = str(param.get("symbol"))
        if channel == "depth.full":
            channel += f"@{param.get('limit', 20)}"
        first: list[bytes] | None = None
        if kind == "unsub":
            self.unsubscribe(channel, symbol)
            first = []
        elif _is_futures(symbol):
            first = self.subscribe(channel, symbol, now_ns)
        if first is None:
            return [msgspec.json.encode({"channel": "rs.error", "data": f"Contract [{symbol}] not exists", "ts": ts})]
        return [msgspec.json.encode({"channel": f"rs.{method}", "data": "success", "ts": ts}), *first]


# --- exchange -----------------------------------------------------------------------------------------------------


class Mexc(GeneratedExchange):
    name = "mexc"
    session = MexcSession
    paths = (SPOT,)
    written = re.compile(r"[A-Z0-9]+(_[A-Z0-9]+)?")
    default_symbols = ("BTCUSDT", "ETHUSDT", "BTC_USDT")
    precisions: ClassVar = {"BTCUSDT": (2, 1, 6, 1), "ETHUSDT": (2, 1, 5, 1)}
    ghost = ("aggre.depth@10ms", "GHOSTUSDT")
    sequence_fields = ("fromVersion", "toVersion", "begin", "end", "version")
    enum_field = "tradeType"

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._wire: tuple[Message | None, bytes] = (None, b"")  # what was sent last, for the next client

    def connect(self, target: str) -> GeneratedSession:
        path = urlsplit(target).path
        return MexcFuturesSession(self, path) if path in FUTURES else super().connect(target)

    def wire(self, message: Message) -> bytes:
        """Return a message of spot as it is sent; one that a fault has cut off ends in the middle."""
        if self._wire[0] is not message:
            fields = decode_object(message.data)
            data = _cut_off(_topic(message.stream or "")) if fields is None else protobuf(fields)
            self._wire = (message, data)
        return self._wire[1]

    def market(self, symbol: str) -> Market:
        market = super().market(symbol)
        return msgspec.structs.replace(market, qty_decimals=0, lot=1) if _is_futures(symbol) else market

    def number_format(self, market: Market) -> Numbers:
        return Numbers(market, is_short=_is_futures(market.symbol))

    def stream(self, key: str, channel: str, symbol: str) -> Stream:
        name, _, option = channel.partition("@")
        if _is_futures(symbol):
            return self._futures_stream(key, name, option, symbol)
        if name == "limit.depth":
            whole = {"levels": int(option), "is_whole": True}
            return _Books(self, key, symbol, period_ns=100 * NS_PER_MS, has_snapshot=False, **whole)  # type: ignore[arg-type]
        period_ns = int(option.removesuffix("ms")) * NS_PER_MS
        if name == "aggre.depth":
            return _Books(self, key, symbol, period_ns=period_ns, has_snapshot=False)
        if name == "aggre.deals":
            return _Deals(self, key, symbol, period_ns)
        return _Tickers(self, key, symbol, period_ns)

    def _futures_stream(self, key: str, name: str, option: str, symbol: str) -> Stream:
        if name == "deal":
            return TradeStream(self, key, symbol)
        if name == "ticker":
            return PeriodicQuoteStream(self, key, symbol, NS_PER_SECOND)
        if name == "depth":
            return BookStream(self, key, symbol, period_ns=200 * NS_PER_MS, has_snapshot=False)
        if option not in ("5", "10", "20"):
            raise KeyError(option)
        return BookStream(self, key, symbol, levels=int(option), period_ns=300 * NS_PER_MS, is_whole=True)

    def book(self, stream: BookStream, now_ns: int, bids: Levels, asks: Levels, *, is_snapshot: bool) -> str:
        n, first, last = stream.numbers, stream.previous_id + 1, stream.last_id
        if _is_futures(stream.symbol):
            sides = f'"asks":[{_rows(n, asks)}],"bids":[{_rows(n, bids)}]'
            numbers = f'"version":{last}' if is_snapshot else f'"begin":{first},"end":{last},"version":{last}'
            channel = "depth.full" if is_snapshot else "depth"
            return _futures_push(stream, channel, f'{{{sides},{numbers},"cts":{now_ns // NS_PER_MS}}}', now_ns)
        sides = f'"asks":[{_levels(n, asks)}],"bids":[{_levels(n, bids)}],"eventType":"{_event_type(stream)}"'
        if is_snapshot:
            return _push(stream, now_ns, f'"publicLimitDepths":{{{sides},"version":"{last}"}}')
        body = f'"publicAggreDepths":{{{sides},"fromVersion":"{first}","toVersion":"{last}"}}'
        return _push(stream, now_ns, body)

    def quote(self, stream: QuoteStream, ts_event: int, top: Top, update_id: int) -> str:
        n = stream.numbers
        bid, ask = n.price(top.bid), n.price(top.ask)
        if _is_futures(stream.symbol):
            data = (
                f'{{"symbol":"{stream.symbol}","lastPrice":{bid},"bid1":{bid},"ask1":{ask},"holdVol":0,"fairPrice":{bid},'
                f'"indexPrice":{bid},"fundingRate":0,"timestamp":{ts_event // NS_PER_MS}}}'
            )
            return _futures_push(stream, "ticker", data, ts_event)
        body = (
            f'"publicAggreBookTicker":{{"bidPrice":"{bid}","bidQuantity":"{n.qty(top.bid_qty)}",'
            f'"askPrice":"{ask}","askQuantity":"{n.qty(top.ask_qty)}","version":"{update_id}"}}'
        )
        return _push(stream, ts_event, body)

    def trades(self, stream: TradeStream, ts_event: int, fills: Sequence[Fill]) -> Sequence[str]:
        n, ts = stream.numbers, ts_event // NS_PER_MS
        deals = ",".join(
            f'{{"p":{n.price(fill.price)},"v":{n.qty(fill.qty)},"T":{2 if fill.buyer_is_maker else 1},"O":3,"M":2,'
            f'"t":{ts},"i":"{fill.trade_id}","cts":"{ts}"}}'
            for fill in fills
        )
        return [_futures_push(stream, "deal", f"[{deals}]", ts_event)]

    def get(self, path: str, query: dict[str, str], now_ns: int) -> object:
        if path == "/api/v3/exchangeInfo":
            listed = [_symbol(market) for market in self.markets.values() if not _is_futures(market.symbol)]
            return {"timezone": "CST", "serverTime": now_ns // NS_PER_MS, "rateLimits": [], "symbols": listed}
        if path == "/api/v1/contract/detail":
            listed = [_contract(market) for market in self.markets.values() if _is_futures(market.symbol)]
            return {"success": True, "code": 0, "data": listed}
        if path == "/api/v3/depth":
            return json_reply(400, {"code": -1121, "msg": "Invalid symbol."})
        if _FUTURES_BOOK.fullmatch(path):
            return {"success": False, "code": 1001, "message": "contract not exists"}
        return None

    def snapshot_symbol(self, target: str) -> str | None:
        parts = urlsplit(target)
        if match := _FUTURES_BOOK.fullmatch(parts.path):
            return match[1] if _is_futures(match[1]) else None
        symbol = parse_qs(parts.query).get("symbol", [""])[0] if parts.path == "/api/v3/depth" else ""
        return symbol if symbol and not _is_futures(symbol) else None

    def snapshot_levels(self, query: dict[str, str]) -> int:
        limit = query.get("limit", "100")
        return min(int(limit), 5000) if limit.isdecimal() and int(limit) else 100

    def rest_book(self, book: Book, numbers: Numbers, now_ns: int) -> bytes:
        if not _is_futures(book.symbol):
            return (
                f'{{"lastUpdateId":{book.update_id},"bids":[{numbers.levels(book.bids)}],'
                f'"asks":[{numbers.levels(book.asks)}]}}'
            ).encode()
        sides = f'"asks":[{_rows(numbers, book.asks)}],"bids":[{_rows(numbers, book.bids)}]'
        data = f'{{{sides},"version":{book.update_id},"timestamp":{book.ts_event // NS_PER_MS}}}'
        return f'{{"success":true,"code":0,"data":{data}}}'.encode()

    def unknown_event(self, now_ns: int) -> Message:
        data = b'{"channel":"spot@public.simulated.v3.api.pb@BTCUSDT","symbol":"BTCUSDT","publicSimulated":{}}'
        return Message("simulated", "", "other", data, to_all=True, is_binary=True)

    def unknown_symbol(self, now_ns: int) -> Message:
        return _binary(super().unknown_symbol(now_ns))


def _is_futures(symbol: str) -> bool:
    return "_" in symbol


def _topic(key: str) -> str:
    """Return what the exchange calls a stream of spot."""
    channel, _, symbol = key.partition(":")
    name, _, option = channel.partition("@")
    places = f"{symbol}@{option}" if name == "limit.depth" else f"{option}@{symbol}"
    return f"spot@public.{name}.v3.api.pb@{places}"


def _event_type(stream: Stream) -> str:
    return _topic(stream.key).removesuffix(f"@{stream.symbol}")


def _push(stream: Stream, now_ns: int, body: str) -> str:
    topic, ts = _topic(stream.key), now_ns // NS_PER_MS
    return f'{{"channel":"{topic}",{body},"symbol":"{stream.symbol}","sendTime":{ts}}}'


def _futures_push(stream: Stream, channel: str, data: str, now_ns: int) -> str:
    ts = now_ns // NS_PER_MS
    return f'{{"channel":"push.{channel}","data":{data},"symbol":"{stream.symbol}","ts":{ts}}}'


def _levels(numbers: Numbers, levels: Levels) -> str:
    return ",".join([f'{{"price":"{numbers.price(price)}","quantity":"{numbers.qty(qty)}"}}' for price, qty in levels])


def _rows(numbers: Numbers, levels: Levels) -> str:
    return ",".join([f"[{numbers.price(price)},{numbers.qty(qty)},{1 if qty else 0}]" for price, qty in levels])


def _deal(numbers: Numbers, ts_event: int, fill: Fill) -> str:
    return (
        f'{{"price":"{numbers.price(fill.price)}","quantity":"{numbers.qty(fill.qty)}",'
        f'"tradeType":"{2 if fill.buyer_is_maker else 1}","time":{ts_event // NS_PER_MS},'
        f'"tradeId":"{fill.trade_id}X0_{fill.trade_id + 1}X0"}}'
    )


def _answer(msg: str) -> bytes:
    return msgspec.json.encode({"id": 0, "code": 0, "msg": msg})


def _step(mantissa: int, decimals: int) -> str:
    return shortest(decimal(mantissa, decimals, decimals))


def _symbol(market: Market) -> dict[str, Any]:
    return {
        "symbol": market.symbol,
        "status": "1",
        "baseAsset": market.base,
        "baseAssetPrecision": market.qty_decimals,
        "quoteAsset": market.quote,
        "quotePrecision": market.price_decimals,
        "quoteAssetPrecision": market.price_decimals,
        "baseSizePrecision": _step(market.lot, market.qty_decimals),
        "isSpotTradingAllowed": True,
    }


def _contract(market: Market) -> dict[str, Any]:
    contract_size = _step(1, plausible_market(market.symbol).qty_decimals)
    return {
        "symbol": market.symbol,
        "baseCoin": market.base,
        "quoteCoin": market.quote,
        "contractSize": msgspec.Raw(contract_size.encode()),
        "priceUnit": msgspec.Raw(_step(market.tick, market.price_decimals).encode()),
        "volUnit": 1,
        "minVol": 1,
        "state": 0,
    }


SIMULATOR = Mexc
