"""Gate.io spot, API v4; the protocol of `gateio_futures` too.

https://www.gate.com/docs/developers/apiv4/ws/en/

The book is `obu`, which has snapshots in the stream. `order_book_update`, which needs one of REST, is decoded too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any, ClassVar
from urllib.parse import parse_qs, urlsplit

import msgspec
from msgspec import Raw

from feeds.decoder import Fetch, Resubscribe
from feeds.events import Side
from feeds.exchange import Endpoints, Exchange, Heartbeat, RateLimit, Topic
from feeds.instrument import Instrument, Instruments
from feeds.levels import LevelShape
from feeds.message_decoder import PRICE_QTY, MessageDecoder
from feeds.sequencing import ContiguousSequence
from feeds.times import ms_ns, seconds_ns, unix_ns

EMPTY = Raw(b"")
DEPTH = 400  # of the book that we subscribe to: the deepest
TOP_DEPTHS = (5, 10, 20, 50, 100)
SIDES = {"buy": Side.BUY, "sell": Side.SELL}
CANDLE_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


# --- wire messages --------------------------------------------------------------------------------


class _Error(msgspec.Struct):
    """{"code":2,"message":"unknown currency pair: NOPE_USDT"}"""

    code: int = 0
    message: str = ""


class Message(msgspec.Struct):
    """Whatever arrives: data, or the answer to a request.

    {"time":1619093532,"time_ms":1619093532978,"channel":"spot.obu","event":"update","result":{...}}
    {"time":1619093532,"channel":"spot.trades","event":"subscribe","error":null,"result":{"status":"success"}}
    """

    channel: str
    event: str = ""
    time: int = 0  # s
    time_ms: int = 0  # 0 where it is not known
    error: _Error | None = None
    result: Raw = EMPTY

    @property
    def ts(self) -> int:
        """When it was sent, ns."""
        return unix_ns(self.time_ms or self.time)


class _Book(msgspec.Struct, gc=False):
    """`obu`: what is not changed is absent; `order_book_update`: a `full` one replaces the book too.

    {"t":1743673026995,"full":true,"s":"ob.BTC_USDT.50","u":79072179673,"b":[["83705.9","0.5"]],"a":[["83706.0","1"]]}
    {"t":1743673027017,"s":"ob.BTC_USDT.50","U":79072179674,"u":79072179680,"b":[["83705.9","0"]]}
    {"t":1619093532978,"e":"depthUpdate","E":1619093532,"s":"HAI_ETH","U":2691446,"u":2691446,"b":[],"a":[]}
    """

    s: str
    u: int
    t: int = 0  # ms; us were seen
    U: int = -1
    full: bool = False
    b: Raw = EMPTY
    a: Raw = EMPTY


class _Top(msgspec.Struct, gc=False):
    """`order_book`.

    {"t":1743673026995,"lastUpdateId":48776301,"s":"BTC_USDT","bids":[["19079.55","0.0195"]],"asks":[]}
    {"t":1743673026995,"id":93973511,"contract":"BTC_USDT","bids":[{"p":"97.1","s":2245}],"asks":[]}
    """

    t: int
    bids: Raw
    asks: Raw
    s: str = ""
    contract: str = ""
    lastUpdateId: int = -1
    id: int = -1


class _Quote(msgspec.Struct, gc=False):
    """`book_ticker`. Quantities of futures are numbers.

    {"t":1606293275123,"u":48733182,"s":"BTC_USDT","b":"19177.79","B":"0.0003341504","a":"19179.38","A":"0.09"}
    """

    t: int
    u: int
    s: str
    b: Raw
    B: Raw
    a: Raw
    A: Raw


class _Trade(msgspec.Struct, gc=False):
    """`spot.trades`.

    {"id":816995772,"create_time":1619093543,"create_time_ms":"1619093543708.2642","side":"sell","currency_pair":"DIS_USDT",
     "amount":"0.2010000000","price":"121.5800000000"}
    """

    id: int
    create_time_ms: str  # with a fraction
    side: str  # the taker's
    currency_pair: str
    amount: str
    price: str


class _Ticker(msgspec.Struct, gc=False):
    """`spot.tickers`. Its best bid and offer are left to `book_ticker`, which is faster.

    {"currency_pair":"NEO_BTC","last":"0.0018716","lowest_ask":"0.0018734","highest_bid":"0.0018697"}
    """

    currency_pair: str
    last: str


class Candle(msgspec.Struct, gc=False):
    """`candlesticks`. On spot `v` is in the quote currency and `a` in the base; on futures `v` counts contracts.

    {"t":"1619093520","v":"0","c":"120.92","h":"120.92","l":"120.92","o":"120.92","n":"1m_DIS_USDT","a":"0","w":false}
    {"t":1684930140,"v":0,"c":"0.1701","h":"0.1701","l":"0.1701","o":"0.1701","n":"1m_FRONT_USDT"}
    """

    t: str | int  # s
    v: Raw
    c: str
    h: str
    l: str  # noqa: E741  # as the exchange names it
    o: str
    n: str
    a: str | None = None  # none in 2021
    w: bool | None = None  # closed; none before 2022


class _Notice(msgspec.Struct):
    """`system`. {"type":"upgrade","msg":"the connection will be closed"}"""

    type: str = ""
    msg: str = ""


class _Reply(msgspec.Struct):
    """A book of REST; the times of futures are in seconds with a fraction.

    {"id":2691446,"current":1743673026995,"update":1743673026990,"asks":[["0.00010396","5876.967"]],"bids":[]}
    {"current":1684930166.384,"update":1684930166.35,"asks":[{"s":803,"p":"0.2974"}],"bids":[],"id":203083287}
    """

    asks: Raw
    bids: Raw
    id: int
    update: Raw = EMPTY  # none in 2021


class _Pair(msgspec.Struct):
    """A pair of `/api/v4/spot/currency_pairs`."""

    id: str
    base: str
    quote: str
    precision: int  # decimals of prices
    amount_precision: int


decode_message = msgspec.json.Decoder(Message).decode
_decode_book = msgspec.json.Decoder(_Book).decode
_decode_top = msgspec.json.Decoder(_Top).decode
_decode_quote = msgspec.json.Decoder(_Quote).decode
_decode_trade = msgspec.json.Decoder(_Trade).decode
_decode_ticker = msgspec.json.Decoder(_Ticker).decode
_decode_candle = msgspec.json.Decoder(Candle).decode
_decode_notice = msgspec.json.Decoder(_Notice).decode
_decode_reply = msgspec.json.Decoder(_Reply).decode
_decode_entries = msgspec.json.Decoder(Annotated[list[Raw], msgspec.Meta(min_length=1)]).decode
_decode_pair = msgspec.json.Decoder(_Pair).decode


# --- decoder --------------------------------------------------------------------------------------


class GateioDecoder(MessageDecoder):
    """Decodes spot; futures add what they have of their own."""

    supersede_keys = (
        b'{"time":#,"time_ms":#,"channel":"spot.book_ticker","event":"update","result":{"t":#,"u":#,"s":"*",...}}',
    )
    silent_kinds: ClassVar[dict[str, str]] = {
        "pong": "the answer to our ping",
        "ack": "a subscription is confirmed",
    }
    market = "spot"  # what the names of channels begin with

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._obu: dict[str, str] = {}  # raw symbol -> the obu topic that keeps its book
        self._depths: dict[str, int] = {}  # raw symbol -> levels of `order_book`

    def decode_message(self, payload: bytes) -> None:
        message = decode_message(payload)
        market, _, channel = message.channel.partition(".")
        if market != self.market:
            raise self.error("unknown_message", f"expected a channel of {self.market}, found {message.channel!r}")
        if message.error is not None:
            self.refused(f"{message.channel}: code {message.error.code}: {message.error.message}")
        elif message.event in ("subscribe", "unsubscribe"):
            self.nothing("ack")
        elif channel == "pong":
            self.nothing("pong")
        elif channel == "obu":
            self._decode_obu(message)
        elif channel == "order_book_update":
            self._decode_update(message)
        elif channel == "order_book":
            self.decode_top(message)
        elif channel == "book_ticker":
            self._decode_quote(message)
        elif channel == "trades":
            self.decode_trades(message)
        elif channel == "tickers":
            self.decode_tickers(message)
        elif channel == "candlesticks":
            self.decode_candles(message)
        elif channel == "system":
            notice = _decode_notice(message.result)
            self.reconnect(f"{notice.type}: {notice.msg}")
        else:
            self.decode_more(channel, message)

    def decode_snapshot(self, tag: str, payload: bytes) -> None:
        reply = _decode_reply(payload)
        if (instrument := self.find(tag)) is not None:
            update = bytes(reply.update).decode()
            ts = 0 if not update else seconds_ns(update) if "." in update else unix_ns(update)
            self.book(instrument, reply.bids, reply.asks, is_snapshot=True, last_id=reply.id, ts_event=ts)

    def request_snapshot(self, instrument: Instrument) -> None:
        """Subscribe anew where snapshots come in the stream; else get one by REST."""
        name = instrument.raw_symbol
        topic = self._obu.get(name)
        if topic is None:
            self.request(Fetch(self.snapshot_url(name), name))
            return
        seconds = self.ts_recv // 1_000_000_000
        channel = f"{self.market}.obu"
        messages = tuple(request(seconds, channel, event, [topic]) for event in ("unsubscribe", "subscribe"))
        self.request(Resubscribe(messages, name))

    def infer(self, raw_symbol: str) -> tuple[str | None, str]:
        return name_of(raw_symbol)

    def snapshot_url(self, name: str) -> str:
        """Return where REST has a book."""
        return f"/api/v4/spot/order_book?currency_pair={name}&limit=100&with_id=true"

    def decode_more(self, channel: str, message: Message) -> None:
        """Decode a channel that not every market has."""
        raise self.error("unknown_message", f"expected a known channel, found {message.channel!r}")

    def decode_trades(self, message: Message) -> None:
        """Decode `trades`."""
        trade = _decode_trade(message.result)
        if (instrument := self.find(trade.currency_pair)) is not None:
            self.trade(
                instrument,
                trade.price,
                trade.amount,
                side=SIDES[trade.side],
                id=trade.id,
                ts_event=fraction_ms_ns(trade.create_time_ms),
            )

    def decode_tickers(self, message: Message) -> None:
        """Decode `tickers`."""
        ticker = _decode_ticker(message.result)
        if (instrument := self.find(ticker.currency_pair)) is not None:
            self.ticker(instrument, last_price=ticker.last, ts_event=message.ts)

    def decode_candles(self, message: Message) -> None:
        """Decode `candlesticks`."""
        candle = _decode_candle(message.result)
        self.emit_candle(candle, volume=candle.a, quote_volume=candle.v, ts_event=message.ts)

    def emit_candle(self, candle: Candle, *, volume: Any, quote_volume: Any, ts_event: int) -> None:
        """Emit a candle, whose `n` says of what: 1m_BTC_USDT."""
        interval, _, name = candle.n.partition("_")
        if (instrument := self.find(name)) is not None:
            self.candle(
                instrument,
                ts_open=unix_ns(candle.t),
                interval=int(interval[:-1]) * CANDLE_UNITS[interval[-1:]],
                open=candle.o,
                high=candle.h,
                low=candle.l,
                close=candle.c,
                volume=volume,
                quote_volume=quote_volume,
                is_closed=candle.w,
                ts_event=ts_event,
            )

    def decode_top(self, message: Message) -> None:
        """Decode `order_book`: snapshots, which do not say of how many levels they are."""
        top = _decode_top(message.result)
        name = top.s or top.contract
        instrument = self.find(name)
        if instrument is None:
            return
        longest = max(_count(top.bids), _count(top.asks), self._depths.get(name, 0))
        depth = next((depth for depth in TOP_DEPTHS if longest <= depth), longest)
        self._depths[name] = depth
        last_id = max(top.lastUpdateId, top.id)
        self.book(
            instrument, top.bids, top.asks, is_snapshot=True, depth=depth, last_id=last_id, ts_event=unix_ns(top.t)
        )

    def _decode_obu(self, message: Message) -> None:
        book = _decode_book(message.result)
        prefix, _, rest = book.s.partition(".")
        name, _, depth = rest.rpartition(".")
        if prefix != "ob" or not depth.isdecimal():
            raise self.error("bad_value", f"expected ob.<symbol>.<levels>, found {book.s!r}")
        instrument = self.find(name)
        if instrument is not None:
            self._obu[name] = book.s
            self._emit_book(instrument, book, PRICE_QTY)

    def _decode_update(self, message: Message) -> None:
        book = _decode_book(message.result)
        if (instrument := self.find(book.s)) is not None:
            self._emit_book(instrument, book, self.levels)

    def _emit_book(self, instrument: Instrument, book: _Book, shape: LevelShape) -> None:
        if book.U < 0 and not book.full:
            raise self.error("missing_field", "expected 'U' in an update that is not full")
        self.book(
            instrument,
            book.b,
            book.a,
            shape=shape,
            is_snapshot=book.full,
            first_id=book.U,
            last_id=book.u,
            ts_event=unix_ns(book.t) if book.t else 0,
        )

    def _decode_quote(self, message: Message) -> None:
        quote = _decode_quote(message.result)
        if (instrument := self.find(quote.s)) is not None:
            self.quote(
                instrument, _text(quote.b), quote.B, _text(quote.a), quote.A, sequence=quote.u, ts_event=ms_ns(quote.t)
            )


def _text(price: Raw) -> bytes:
    """Return a price as text: it is quoted, and "" where a side is empty."""
    return bytes(price).strip(b'"')


def _count(levels: Raw) -> int:
    return len(msgspec.json.decode(levels, type=list[Raw]))


def fraction_ms_ns(text: str) -> int:
    """Return a time in milliseconds with a fraction, in ns: "1619093543708.2642"."""
    whole, _, fraction = text.partition(".")
    return ms_ns(whole) + (int(fraction[:6].ljust(6, "0")) if fraction.isdecimal() else 0)


def request(seconds: int, channel: str, event: str, payload: Sequence[str]) -> bytes:
    """Return the message that subscribes or unsubscribes, sent at a time (s)."""
    return msgspec.json.encode({"time": seconds, "channel": channel, "event": event, "payload": payload})


def name_of(raw_symbol: str) -> tuple[str | None, str]:
    """Return (our symbol, kind) of BTC_USDT."""
    base, _, quote = raw_symbol.rpartition("_")
    return (f"{base}-{quote}", "spot") if base and quote else (None, "unknown")


# --- exchange -------------------------------------------------------------------------------------


class Gateio(Exchange):
    """Gate.io spot."""

    id = "gateio"
    endpoints = Endpoints(ws="wss://api.gateio.ws", rest="https://api.gateio.ws")
    channels: Sequence[str] = ("book", "book_top", "quote", "trade", "ticker", "candle")
    decoder: type[MessageDecoder] = GateioDecoder
    new_sequence = ContiguousSequence
    instruments_urls: Sequence[str] = ("/api/v4/spot/currency_pairs",)
    heartbeat = Heartbeat(15.0, lambda ts: b'{"time":%d,"channel":"spot.ping"}' % (ts // 1_000_000_000))
    max_topics_per_connection = 150
    request_limits = (RateLimit(200, 10),)  # of each endpoint
    market = "spot"
    urls = re.compile(r"//(ws-)?api\.gateio\.ws/(ws/v4|api/v4/spot)\b")
    messages = re.compile(rb'^\{"time":\d+,("time_ms":\d+,)?("conn_id":"[^"]*",)?"channel":"spot\.')

    def reply_tag(self, url: str) -> str | None:
        parts = urlsplit(url)
        query = parse_qs(parts.query)
        names = query.get("currency_pair") or query.get("contract")
        return names[0] if names and parts.path.endswith("/order_book") else None

    def list_instruments(self, payload: bytes) -> Iterable[Any]:
        entries: list[Raw] = _decode_entries(payload)
        return entries

    def add_instrument(self, entry: Any, instruments: Instruments) -> None:
        pair = _decode_pair(entry)
        instruments.add(
            self.id,
            pair.id,
            symbol=f"{pair.base}-{pair.quote}",
            kind="spot",
            tick_size=f"1e-{pair.precision}",
            lot_size=f"1e-{pair.amount_precision}",
        )

    def topics(self, instrument: Instrument, channel: str) -> Sequence[Topic]:
        return [Topic("/ws/v4/", topic_of(instrument.raw_symbol, channel))]

    def subscribe_messages(self, path: str, args: Sequence[Any]) -> Sequence[Callable[[int], bytes]]:
        """One message a topic: of several in one, one that is unknown would fail all."""
        return [self._request(channel, "subscribe", payload) for channel, *payload in args]

    def unsubscribe_messages(self, path: str, args: Sequence[Any]) -> Sequence[Callable[[int], bytes]]:
        return [self._request(channel, "unsubscribe", payload) for channel, *payload in args]

    def _request(self, channel: str, event: str, payload: Sequence[str]) -> Callable[[int], bytes]:
        return lambda ts: request(ts // 1_000_000_000, f"{self.market}.{channel}", event, payload)


def topic_of(name: str, channel: str) -> list[str]:
    """Return [channel of the exchange, what to ask of it, ...]."""
    return {
        "book": ["obu", f"ob.{name}.{DEPTH}"],
        "book_top": ["order_book", name, "20", "100ms"],
        "quote": ["book_ticker", name],
        "trade": ["trades", name],
        "ticker": ["tickers", name],
        "candle": ["candlesticks", "1m", name],
    }[channel]


EXCHANGE = Gateio()
