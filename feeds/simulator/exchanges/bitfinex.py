"""Bitfinex, API v2: arrays on channels with numbers, all messages of a connection counted, checksums of books.

Streams write `{"data":...,"seq":0,"ts":...}`, or "te", "tu" and "cs" for "data", which each session makes an array of:
with the channel's number, the connection's count and the time as its client asked for them.
"""

import re
import zlib
from collections import deque
from collections.abc import Sequence
from itertools import chain, count, zip_longest
from typing import Any

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
from feeds.simulator.numbers import Numbers
from feeds.simulator.order_flow import NS_PER_SECOND, Fill, Top, Update
from feeds.simulator.protocol import Message

TIMESTAMP, SEQ_ALL, OB_CHECKSUM = 32_768, 65_536, 131_072
MAX_CHANNELS = 30  # of a connection
HEARTBEAT_NS = 15 * NS_PER_SECOND  # of a channel without news
CHECKSUM_LEVELS = 25
CHECKSUM_EVERY = 10  # changes of a book
TU_NS = NS_PER_SECOND  # between a trade's `te` and its `tu`
LISTS = {"pub:list:pair:exchange": False, "pub:list:pair:futures": True}  # and whether they are of perpetuals
UNKNOWN_CHANNEL = 1
_BOOK = re.compile(r"book-(1|25|100|250)\.(F0|F1)")
_INNER = re.compile(rb'\{"(\w+)":(.*?)(?:,"seq":(0))?,"ts":(\d+)(,"simulated":.*)?\}')


class _Trades(RecentTradeStream):
    """Every fill, and once more a second later."""

    def __init__(self, exchange: GeneratedExchange, key: str, symbol: str) -> None:
        super().__init__(exchange, key, symbol)
        self.period_ns = 100 * NS_PER_MS
        self._again: deque[tuple[int, Fill]] = deque()

    def on_update(self, update: Update, out: list[Message]) -> None:
        super().on_update(update, out)
        self._again.extend((update.ts_event, fill) for fill in update.fills)

    def on_tick(self, now_ns: int, out: list[Message]) -> None:
        while self._again and now_ns - self._again[0][0] >= TU_NS:
            ts_event, fill = self._again.popleft()
            data = _inner("tu", _trade(self.numbers, ts_event, fill), now_ns).encode()
            out.append(Message(self.key, self.symbol, self.kind, data))


class BitfinexSession(GeneratedSession):
    """Numbers its channels and its messages, and says so where a channel has no news."""

    def __init__(self, exchange: GeneratedExchange, path: str) -> None:
        super().__init__(exchange, path)
        self._flags = 0
        self._number = 0  # of the newest message
        self._channels: dict[str, int] = {}  # stream -> its number
        self._quiet: dict[str, int | None] = {}  # since when nothing came of a stream; None: something has just come

    def open(self, now_ns: int) -> list[bytes]:
        server = "083bd8d4-aca7-4690-a573-eabfc8103de8"
        return [msgspec.json.encode({"event": "info", "version": 2, "serverId": server, "platform": {"status": 1}})]

    def encode(self, message: Message) -> bytes | None:
        data = super().encode(message)
        if data is None or data.startswith(b'{"event":'):
            return data
        if data.startswith(b'{"cs":') and not self._flags & OB_CHECKSUM:
            return None
        key = message.stream or ""
        if key in self._channels:
            self._quiet[key] = None
        return self._array(key, data)

    def beat(self, monotonic_ns: int, now_ns: int) -> list[bytes]:
        beats = []
        for key in self._channels:
            since_ns = self._quiet.get(key)
            if since_ns is None:
                self._quiet[key] = monotonic_ns
            elif monotonic_ns - since_ns >= HEARTBEAT_NS:
                self._quiet[key] = monotonic_ns
                beats.append(self._array(key, _inner("data", '"hb"', now_ns).encode()))
        return beats

    def receive(self, text: bytes, now_ns: int) -> list[bytes]:
        request = decode_object(text)
        event = None if request is None else request.get("event")
        if request is None or event not in ("ping", "conf", "subscribe", "unsubscribe"):
            return [_error("event: invalid", 10000)]
        if event == "ping":
            return [msgspec.json.encode({"event": "pong", "ts": now_ns // NS_PER_MS, "cid": request.get("cid")})]
        if event == "conf":
            flags = request.get("flags")
            self._flags = flags if isinstance(flags, int) else 0
            return [msgspec.json.encode({"event": "conf", "status": "OK", "flags": self._flags})]
        return self._unsubscribe(request) if event == "unsubscribe" else self._subscribe(request, now_ns)

    def _subscribe(self, request: dict[str, Any], now_ns: int) -> list[bytes]:
        name, symbol = request.get("channel"), request.get("symbol")
        asked: dict[str, Any] = {"channel": name, "symbol": symbol}
        channel = str(name)
        if name == "book":
            defaults = {"prec": "P0", "freq": "F0", "len": "25"}
            asked |= {option: str(request.get(option, default)) for option, default in defaults.items()}
            channel = f"book-{asked['len']}.{asked['freq']}"
            if asked["prec"] != "P0" or not _BOOK.fullmatch(channel):
                return [_error("book: invalid", 10300, **asked)]
        elif name not in ("trades", "ticker"):
            return [_error("channel: unknown", 10302, **asked)]
        if not isinstance(symbol, str) or symbol not in self.exchange.markets:
            return [_error("symbol: invalid", 10300, **asked)]
        if self.has(channel, symbol):
            return [_error("subscribe: dup", 10301, **asked)]
        if len(self._channels) >= MAX_CHANNELS:
            return [_error("channel: limit", 10305, **asked)]
        first = self.subscribe(channel, symbol, now_ns)
        if first is None:
            return [_error("symbol: invalid", 10300, **asked)]
        key = f"{channel}:{symbol}"
        number = self._channels[key] = next(self.exchange.channel_numbers)
        answer = {"event": "subscribed", "channel": name, "chanId": number} | asked | {"pair": symbol[1:]}
        if "subId" in request:
            answer["subId"] = request["subId"]
        return [msgspec.json.encode(answer), *(self._array(key, data) for data in first)]

    def _unsubscribe(self, request: dict[str, Any]) -> list[bytes]:
        number = request.get("chanId")
        key = next((key for key, found in self._channels.items() if found == number), None)
        if key is None:
            return [_error("unsubscribe: invalid", 10400, chanId=number)]
        del self._channels[key]
        self._quiet.pop(key, None)
        self.unsubscribe(*key.split(":", 1))
        return [msgspec.json.encode({"event": "unsubscribed", "status": "OK", "chanId": number})]

    def _array(self, key: str, inner: bytes) -> bytes:
        """Return the message; one that a fault has cut off ends in the middle."""
        channel = self._channels.get(key, UNKNOWN_CHANNEL)
        self._number += 1
        match = _INNER.fullmatch(inner)
        if match is None:
            return b"[%d,%b" % (channel, inner.partition(b":")[2].partition(b',"seq"')[0])
        kind, data, has_number, ts, is_longer = match.groups()
        if is_longer:  # a new field of an array is at its end
            data = data.removesuffix(b"]") + (b",null]" if data.endswith(b"]") else b",null")
        parts = [b"%d" % channel, data]
        if kind != b"data":
            parts.insert(1, b'"%b"' % kind)
        if self._flags & SEQ_ALL and has_number:
            parts.append(b"%d" % self._number)
        if self._flags & TIMESTAMP:
            parts.append(ts)
        return b"[%b]" % b",".join(parts)


class Bitfinex(GeneratedExchange):
    name = "bitfinex"
    session = BitfinexSession
    paths = ("/ws/2",)
    written = re.compile(r"t([A-Z0-9]{6}|[A-Z0-9]+:[A-Z0-9]+)")
    default_symbols = ("tBTCUSD", "tETHUSD", "tBTCF0:USTF0")
    ghost = ("book-250.F0", "tGSTUSD")
    checksum_field = "cs"
    backlog_size = 30

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.channel_numbers = count(204_928)  # of all connections: the same channel has another one on each

    def market(self, symbol: str) -> Market:
        base, colon, quote = symbol[1:].partition(":")
        if not colon:
            base, quote = base[:3], base[3:]
        quote = quote.removesuffix("F0")
        like = plausible_market(f"{base.removesuffix('F0')}-{'USDT' if quote == 'UST' else quote}")
        return msgspec.structs.replace(like, symbol=symbol)  # prices have five digits, as those that are made up

    def number_format(self, market: Market) -> Numbers:
        return Numbers(market, is_short=True)

    def stream(self, key: str, channel: str, symbol: str) -> Stream:
        if channel == "trades":
            return _Trades(self, key, symbol)
        if channel == "ticker":
            return PeriodicQuoteStream(self, key, symbol, NS_PER_SECOND)
        match = _BOOK.fullmatch(channel)
        if match is None:
            raise KeyError(channel)
        period_ns = 2 * NS_PER_SECOND if match[2] == "F1" else 0
        return BookStream(self, key, symbol, levels=int(match[1]), period_ns=period_ns)

    def book(self, stream: BookStream, now_ns: int, bids: Levels, asks: Levels, *, is_snapshot: bool) -> Sequence[str]:
        n = stream.numbers
        if is_snapshot:
            rows = [_level(n, price, qty) for price, qty in bids] + [_level(n, price, -qty) for price, qty in asks]
            return [_inner("data", f"[{','.join(rows)}]", now_ns)]
        # What is gone comes first: no book is crossed on the way to the next.
        changes = [_gone(n, price, "1") for price, qty in bids if not qty and price in stream.before[0]]
        changes += [_gone(n, price, "-1") for price, qty in asks if not qty and price in stream.before[1]]
        changes += [_level(n, price, qty) for price, qty in bids if qty]
        changes += [_level(n, price, -qty) for price, qty in asks if qty]
        messages = [_inner("data", change, now_ns) for change in changes]
        if stream.number % CHECKSUM_EVERY == 0:
            messages.append(_inner("cs", str(checksum(stream)), now_ns))
        return messages

    def quote(self, stream: QuoteStream, ts_event: int, top: Top, update_id: int) -> str:
        n = stream.numbers
        book = self.source.flow.book(stream.symbol, levels=CHECKSUM_LEVELS)
        bid_qty, ask_qty = (_js(n.qty(sum(qty for _, qty in side))) for side in (book.bids, book.asks))
        bid, ask = _js(n.price(top.bid)), _js(n.price(top.ask))
        return _inner("data", f"[{bid},{bid_qty},{ask},{ask_qty},0,0,{bid},0,{ask},{bid},null]", ts_event)

    def trades(self, stream: TradeStream, ts_event: int, fills: Sequence[Fill]) -> Sequence[str]:
        return [_inner("te", _trade(stream.numbers, ts_event, fill), ts_event) for fill in fills]

    def backlog(self, stream: TradeStream, now_ns: int, trades: Sequence[tuple[int, Fill]]) -> Sequence[str]:
        rows = [_trade(stream.numbers, ts_event, fill) for ts_event, fill in trades]
        return [_inner("data", f"[{','.join(rows)}]", now_ns)]

    def get(self, path: str, query: dict[str, str], now_ns: int) -> object:
        names = path.removeprefix("/v2/conf/").split(",")
        if not set(names) <= set(LISTS):
            return None
        pairs = [symbol[1:] for symbol in self.markets]
        return [[pair for pair in pairs if pair.endswith("F0") == LISTS[name]] for name in names]

    def unknown_event(self, now_ns: int) -> Message:
        return Message("simulated", "", "other", b'{"event":"simulated","x":[1,"two",null]}', to_all=True)


def checksum(stream: BookStream) -> int:
    """CRC-32, signed, of price and amount of the 25 best levels: a bid, an ask, the next bid and so on."""
    n = stream.numbers
    bids, asks = stream.best(CHECKSUM_LEVELS)
    texts = (
        [f"{_js(n.price(price))}:{_js(n.qty(qty))}" for price, qty in bids],
        [f"{_js(n.price(price))}:-{_js(n.qty(qty))}" for price, qty in asks],
    )
    crc = zlib.crc32(":".join(level for level in chain(*zip_longest(*texts)) if level is not None).encode())
    return crc - 2**32 if crc >= 2**31 else crc


def _js(text: str) -> str:
    """Write a number, as short as it can be, as JavaScript does: 1.2e-7 below a millionth."""
    if not text.startswith("0.000000"):
        return text
    digits = text[2:].lstrip("0")
    more = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{digits[0]}{more}e-{len(text) - 1 - len(digits)}"


def _level(numbers: Numbers, price: int, amount: int) -> str:
    sign = "-" if amount < 0 else ""
    return f"[{_js(numbers.price(price))},1,{sign}{_js(numbers.qty(abs(amount)))}]"


def _gone(numbers: Numbers, price: int, amount: str) -> str:
    return f"[{_js(numbers.price(price))},0,{amount}]"


def _trade(numbers: Numbers, ts_event: int, fill: Fill) -> str:
    amount = f"{'-' if fill.buyer_is_maker else ''}{_js(numbers.qty(fill.qty))}"
    return f"[{fill.trade_id},{ts_event // NS_PER_MS},{amount},{_js(numbers.price(fill.price))}]"


def _inner(kind: str, data: str, ts: int) -> str:
    return f'{{"{kind}":{data},"seq":0,"ts":{ts // NS_PER_MS}}}'


def _error(msg: str, code: int, **asked: Any) -> bytes:
    return msgspec.json.encode({"event": "error", "msg": msg, "code": code} | asked)


SIMULATOR = Bitfinex
