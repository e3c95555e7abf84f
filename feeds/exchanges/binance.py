"""Binance spot. The futures modules (`binance_futures`, `binance_delivery`) share its protocol and change what differs.

https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

import msgspec
import orjson
from msgspec import Raw

from feeds.decoder import Decoder, Fetch, Reconnect, Refused
from feeds.errors import DecodeError, excerpt, keys_text
from feeds.events import BookDelta, Candle, Event, EventHandler, FeedStatus, Quote, Ticker, Trade
from feeds.exchange import Endpoints, Exchange, RateLimit, Topic
from feeds.instrument import Instrument, Instruments
from feeds.message_decoder import PRICE_QTY
from feeds.sequencing import ContiguousSequence
from feeds.sequencing import Sequence as SequenceRule
from feeds.times import unix_ns
from feeds.wire import Wire

MAX_STREAMS_PER_CONNECTION = 200  # documented: 1024; the futures' older limit serves all three
MAX_STREAMS_PER_MESSAGE = 100
EMPTY = Raw(b"")
INTERVAL_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800, "M": 2_592_000}  # a month counts 30 days


# --- wire messages --------------------------------------------------------------------------------

# In the order of the message, fields included that we have no use for (Raw, or EMPTY where they are missing): what
# comes as it is declared is read without a search.


class _Depth(msgspec.Struct, gc=False, kw_only=True):
    """Book changes, `<symbol>@depth[@100ms]`.

    {"e":"depthUpdate","E":1723161255208,"s":"BTCUSDT","U":50093239189,"u":50093239202,
     "b":[["61737.63000000","0.00000000"]],"a":[["61837.64000000","1.54698000"]]}
    """

    e: Raw = EMPTY
    E: int  # publish time; spot depth has no matching-engine time
    s: str
    U: int  # first and last update id in this message
    u: int
    b: Raw
    a: Raw


class _PartialDepth(msgspec.Struct, gc=False):
    """The top of the book, `<symbol>@depth5|10|20[@100ms]`, and the REST snapshot `/api/v3/depth`. No symbol, no time.

    {"lastUpdateId":160,"bids":[["0.0024","10"]],"asks":[["0.0026","100"]]}
    """

    lastUpdateId: int
    bids: Raw
    asks: Raw


class _BookTicker(msgspec.Struct, gc=False):
    """Best bid and offer, `<symbol>@bookTicker`. Spot sends neither event type nor time.

    {"u":50093239212,"s":"BTCUSDT","b":"61837.63000000","B":"3.78826000","a":"61837.64000000","A":"1.54698000"}
    """

    u: int  # in the number space of the depth ids
    s: str
    b: str
    B: str
    a: str
    A: str


class _Trade(msgspec.Struct, gc=False, kw_only=True):
    """One fill, `<symbol>@trade`.

    {"e":"trade","E":1723161255343,"s":"BTCUSDT","t":3735683259,"p":"61837.63000000","q":"0.02000000",
     "T":1723161255342,"m":true,"M":true}
    """

    e: Raw = EMPTY
    E: Raw = EMPTY
    s: str
    t: int
    p: str
    q: str
    T: int
    m: bool  # the buyer is the maker: the aggressor sold
    M: Raw = EMPTY


class _AggTrade(msgspec.Struct, gc=False, kw_only=True):
    """The fills of one taker order at one price, `<symbol>@aggTrade`.

    {"e":"aggTrade","E":1633998523963,"s":"NKNUSDT","a":15683430,"p":"0.35280000","q":"58.00000000","f":19862790,
     "l":19862790,"T":1633998523963,"m":false,"M":true}
    """

    e: Raw = EMPTY
    E: Raw = EMPTY
    s: str
    a: int
    p: str
    q: str
    f: Raw = EMPTY
    l: Raw = EMPTY  # noqa: E741 - the exchange's name
    T: int
    m: bool
    M: Raw = EMPTY


class Record(msgspec.Struct):
    """A message of a kind that no wire reads: those that come a few times a second at most."""

    st: int = 0  # futures, since 2026: whose it is, 1 = USD-M, 2 = COIN-M

    @property
    def raw_symbol(self) -> str:
        """The exchange's name of whom it tells."""
        raise NotImplementedError

    def event(self, instrument: Instrument, ts_recv: int) -> Event:
        """Return what it tells; ValueError where a number is none."""
        raise NotImplementedError


class _DayTicker(Record, kw_only=True):
    """`<symbol>@ticker`, `@miniTicker`, `@ticker_1h|4h|1d`, arrays of them: `!miniTicker@arr`, `!ticker_1h@arr`.

    {"e":"24hrTicker","E":1672515782136,"s":"BNBBTC","p":"0.0015","P":"250.00","c":"0.0025","Q":"10","b":"0.0024"}
    """

    E: int
    s: str
    c: str  # price of the last trade

    @property
    def raw_symbol(self) -> str:
        return self.s

    def event(self, instrument: Instrument, ts_recv: int) -> Event:
        return Ticker(instrument, last_price=self.c, ts_event=unix_ns(self.E), ts_recv=ts_recv)


class _Candle(msgspec.Struct):
    t: int  # ms, of the first instant
    i: str
    o: str
    c: str
    h: str
    l: str  # noqa: E741 - the exchange's name
    v: str
    q: str
    x: bool  # closed


class Kline(Record, kw_only=True):
    """`<symbol>@kline_<interval>`.

    {"e":"kline","E":1633998523963,"s":"NKNUSDT","k":{"t":1633998480000,"T":1633998539999,"s":"NKNUSDT","i":"1m",
     "f":19862761,"L":19862790,"o":"0.35270000","c":"0.35280000","h":"0.35280000","l":"0.35220000",
     "v":"25877.00000000","n":30,"x":false,"q":"9116.04600000","V":"58.00000000","Q":"20.46240000","B":"0"}}
    """

    E: int
    s: str
    k: _Candle

    @property
    def raw_symbol(self) -> str:
        return self.s

    @property
    def quote_volume(self) -> str | None:
        """The volume in the quote currency."""
        return self.k.q

    def event(self, instrument: Instrument, ts_recv: int) -> Event:
        candle = self.k
        if candle.i[-1:] not in INTERVAL_UNITS:
            raise ValueError(f"expected an interval with a unit among {''.join(INTERVAL_UNITS)}, found {candle.i!r}")
        return Candle(
            instrument,
            ts_open=unix_ns(candle.t),
            interval=int(candle.i[:-1]) * INTERVAL_UNITS[candle.i[-1]],
            open=candle.o,
            high=candle.h,
            low=candle.l,
            close=candle.c,
            volume=candle.v,
            quote_volume=self.quote_volume,
            is_closed=candle.x,
            ts_event=unix_ns(self.E),
            ts_recv=ts_recv,
        )


class _Message(msgspec.Struct):
    """Whatever arrives, looked at just closely enough to see what it is."""

    stream: str = ""
    data: Raw = EMPTY
    e: str = ""
    s: str = ""
    B: Raw = EMPTY  # with A and without e: a bare spot bookTicker
    A: Raw = EMPTY
    result: Raw = EMPTY
    id: int | str | None = None
    error: Any = None  # {"code":2,"msg":"..."}: the newer shape of an error
    code: int | None = None  # the older one
    msg: str = ""


DEPTH = Wire(_Depth, BookDelta, first_id="U", last_id="u", bids="b", asks="a", ts_event="E")
SNAPSHOT = Wire(_PartialDepth, BookDelta, last_id="lastUpdateId", bids="bids", asks="asks", is_snapshot=True)
BOOK_TICKER = Wire(_BookTicker, Quote, sequence="u", bid_price="b", bid_qty="B", ask_price="a", ask_qty="A")
TRADE = Wire(_Trade, Trade, trade_id="t", price="p", qty="q", ts_event="T", buyer_is_maker="m")
AGG_TRADE = Wire(_AggTrade, Trade, trade_id="a", price="p", qty="q", ts_event="T", buyer_is_maker="m")


def partial_depths(make: Callable[[int], Wire]) -> dict[str, Wire]:
    """Return the wires of the three partial depth streams."""
    return {f"depth{n}": make(n) for n in (5, 10, 20)}


_PARTIAL = partial_depths(
    lambda n: Wire(
        _PartialDepth, BookDelta, last_id="lastUpdateId", bids="bids", asks="asks", is_snapshot=True, depth=n
    )
)


# --- decoder --------------------------------------------------------------------------------------


class BinanceDecoder(Decoder):
    """Decodes combined streams (`{"stream":NAME,"data":{...}}`) and bare ones (`/ws`) that say what they are.

    A bare spot partial depth does not: it has neither type nor symbol, and needs its stream name.
    """

    envelope = (b'{"stream":"', b'","data":', b"}")
    wires: ClassVar[dict[str, Wire]] = {
        "depth": DEPTH,
        "bookTicker": BOOK_TICKER,
        "trade": TRADE,
        "aggTrade": AGG_TRADE,
    }
    wires |= _PARTIAL
    # By the `e` of a bare message.
    wires_by_event: ClassVar[dict[str, Wire]] = {"depthUpdate": DEPTH, "trade": TRADE, "aggTrade": AGG_TRADE}
    # By the `e` of a message, or of one in an array.
    records: ClassVar[dict[str, type[Record]]] = {
        "24hrTicker": _DayTicker,
        "24hrMiniTicker": _DayTicker,
        "1hTicker": _DayTicker,
        "4hTicker": _DayTicker,
        "1dTicker": _DayTicker,
        "kline": Kline,
    }
    st = 0  # of our market's records; futures send those of the other too where they send all symbols
    snapshot: ClassVar[Wire] = SNAPSHOT
    large_arrays = (("bids", PRICE_QTY), ("asks", PRICE_QTY))
    snapshot_url = "/api/v3/depth?symbol={symbol}&limit=1000"
    _decode_message = msgspec.json.Decoder(_Message).decode

    def __init__(
        self,
        instruments: Instruments,
        downstream: EventHandler,
        *,
        exchange: str = "binance",
        reference: bool = False,
    ) -> None:
        super().__init__(instruments, downstream, exchange=exchange, reference=reference)
        self.acknowledged = 0  # subscriptions, by answers with "result":null

    def decode_other(self, payload: bytes, ts_recv: int) -> None:
        if payload[:1] == b"[":
            self._decode_records(payload, payload, ts_recv)
            return
        message = self._parse(payload)
        if message.stream:
            self._decode_stream(message, payload, ts_recv)
        elif message.e in self.wires_by_event:
            instrument = self._instrument(message.s, payload)
            self.decode_as(self.wires_by_event[message.e], instrument, payload, ts_recv)
        elif message.e in self.records:
            self._decode_records(payload, payload, ts_recv)
        elif message.e == "serverShutdown":
            self._shut_down(ts_recv)
        elif message.error is not None or message.code is not None:
            self._refuse(message, payload, ts_recv)
        elif message.result:
            self.acknowledged += 1
        elif not message.e and message.B and message.A:
            self.decode_as(self.wires["bookTicker"], self._instrument(message.s, payload), payload, ts_recv)
        else:
            expected = f"a stream, one of {sorted([*self.wires_by_event, *self.records])}, or an answer"
            found = f"event '{message.e}'" if message.e else f"keys {keys_text(payload)}"
            raise self._error(f"expected {expected}, found {found}", "unknown_event", payload)

    def decode_reply(self, tag: str, payload: bytes, ts_recv: int) -> None:
        self.decode_whole(self.snapshot, self._instrument(tag, payload), payload, ts_recv)

    def request_snapshot(self, instrument: Instrument) -> None:
        self.request(Fetch(self.snapshot_url.format(symbol=instrument.raw_symbol), instrument.raw_symbol))

    def _parse(self, data: bytes, payload: bytes | None = None) -> _Message:
        payload = data if payload is None else payload
        try:
            return BinanceDecoder._decode_message(data)
        except msgspec.ValidationError as error:
            raise self._error(f"expected an object, found: {error}", "wrong_type", payload) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise self._error(f"expected JSON, found: {error}", "not_json", payload) from None

    def _decode_stream(self, message: _Message, payload: bytes, ts_recv: int) -> None:
        symbol, _, channel = message.stream.partition("@")
        wire = self.wires.get(channel.partition("@")[0])
        if wire is None:
            if b'"serverShutdown"' in bytes(message.data):
                self._shut_down(ts_recv)
                return
            self._decode_records(message.data, payload, ts_recv)
            return
        instrument = self._instrument(symbol.upper(), payload)
        self.add_route(message.stream, wire, instrument)
        self.decode_as(wire, instrument, message.data, ts_recv)

    def _decode_records(self, data: bytes | Raw, payload: bytes, ts_recv: int) -> None:
        """Decode a record, or an array of records: of those that are not as they should be the first is told of."""
        data = bytes(data)
        events, problem = [], None
        for record in self._split(data, payload) if data[:1] == b"[" else [data]:
            try:
                event = self._decode_record(record, payload, ts_recv)
            except DecodeError as error:
                problem = problem or error
            else:
                events += [event] if event is not None else []
        for event in events:
            event.dispatch(self.downstream)
        if problem is not None:
            raise problem

    def _split(self, data: bytes, payload: bytes) -> list[bytes]:
        try:
            records = [bytes(record) for record in _decode_array(data)]
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise self._error(f"expected JSON, found: {error}", "not_json", payload) from None
        if not records:
            raise self._error("expected an object, found an empty array", "wrong_type", payload)
        return records

    def _decode_record(self, data: bytes, payload: bytes, ts_recv: int) -> Event | None:
        kind = self._parse(data, payload).e
        if kind not in self.records:
            raise self._error(
                f"expected a stream among {sorted(self.wires)} or an event among {sorted(self.records)}, found event "
                f"{kind!r} in {excerpt(payload)!r}",
                "unknown_event",
                payload,
            )
        try:
            record = msgspec.json.decode(data, type=self.records[kind])
        except msgspec.ValidationError as error:
            missing = "missing required field" in str(error)
            raise self._error(f"{kind}: {error}", "missing_field" if missing else "wrong_type", payload) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise self._error(f"expected JSON, found: {error}", "not_json", payload) from None
        if record.st and self.st and record.st != self.st:
            return None
        instrument = self._instrument(record.raw_symbol, payload)
        try:
            return record.event(instrument, ts_recv)
        except (ArithmeticError, ValueError) as error:
            raise self._error(f"{kind}: {error}", "bad_value", payload) from None

    def _instrument(self, raw_symbol: str, payload: bytes) -> Instrument:
        instrument = self.instruments.find(self.exchange, raw_symbol)
        if instrument is None:
            raise self._error(f"expected a known symbol, found {raw_symbol!r}", "unknown_symbol", payload)
        return instrument

    def _refuse(self, message: _Message, payload: bytes, ts_recv: int) -> None:
        error = message.error if isinstance(message.error, dict) else {"code": message.code, "msg": message.msg}
        reason = excerpt(f"request {message.id}: code {error.get('code')}: {error.get('msg')}".encode())
        self.request(Refused(reason))
        self.downstream.on_feed_status(FeedStatus(self.exchange, "refused", reason, ts_recv=ts_recv))

    def _shut_down(self, ts_recv: int) -> None:
        reason = "the exchange announced that it will close this connection"
        self.request(Reconnect(reason))
        self.downstream.on_feed_status(FeedStatus(self.exchange, "shutdown", reason, ts_recv=ts_recv))

    def _error(self, text: str, kind: str, payload: bytes) -> DecodeError:
        return DecodeError(f"{self.exchange}: {text}", kind=kind, payload=payload)


_decode_array = msgspec.json.Decoder(list[Raw]).decode


# --- exchange -------------------------------------------------------------------------------------


class _Filter(msgspec.Struct):
    filterType: str
    tickSize: str | None = None
    stepSize: str | None = None


class Symbol(msgspec.Struct):
    """One entry of `exchangeInfo`, spot or futures."""

    symbol: str
    baseAsset: str
    quoteAsset: str
    filters: list[_Filter]
    contractType: str = ""  # futures: PERPETUAL, CURRENT_QUARTER, ...
    contractSize: int | None = None  # COIN-M: USD per contract

    def filter(self, kind: str) -> _Filter | None:
        """Return the filter of this type: their order is not promised."""
        return next((f for f in self.filters if f.filterType == kind), None)


_decode_symbol = msgspec.json.Decoder(Symbol).decode


class ExchangeInfo(msgspec.Struct):
    """The reply of `exchangeInfo`, as far as it is used."""

    symbols: list[Raw]


class Binance(Exchange):
    """Binance spot."""

    id = "binance"
    endpoints = Endpoints(ws="wss://stream.binance.com:9443", rest="https://api.binance.com")
    channels: Sequence[str] = ("book", "book_top", "quote", "trade", "agg_trade", "ticker", "candle")
    instruments_urls: Sequence[str] = ("/api/v3/exchangeInfo",)
    new_sequence: Callable[[], SequenceRule] = ContiguousSequence
    decoder: type[BinanceDecoder] = BinanceDecoder
    streams_of: ClassVar[dict[str, tuple[str, ...]]] = {
        "book": ("depth@100ms",),
        "book_top": ("depth20@100ms",),
        "quote": ("bookTicker",),
        "trade": ("trade",),
        "agg_trade": ("aggTrade",),
        "ticker": ("ticker",),
        "candle": ("kline_1m",),
    }
    path_of: ClassVar[dict[str, str]] = {}  # channel -> path, where it is not /stream
    message_interval = 0.25  # seconds: 5 client messages per second are allowed, pongs count
    max_connection_age: float | None = 24 * 3600
    copies_differ = None
    answers: Sequence[bytes] = (
        b'{"result":',
        b'{"id":',
        b'{"error":',
        b'{"code":',
        b'{"e":"serverShutdown"',
        b'{"stream":*"e":"serverShutdown"',
    )
    max_topics_per_connection = MAX_STREAMS_PER_CONNECTION
    request_limits = (RateLimit(6000, 60),)
    connection_limits: Sequence[RateLimit] = (RateLimit(300, 300),)
    depth_weights: Sequence[tuple[int, float]] = ((100, 5), (500, 25), (1000, 50), (5000, 250))  # up to so many levels
    list_weight = 20.0
    max_topics_per_message = MAX_STREAMS_PER_MESSAGE
    urls = re.compile(r"//(stream|api|data-stream|data-api)\.binance\.(com|vision)\b")

    def new_decoder(self, instruments: Instruments, downstream: EventHandler, *, reference: bool = False) -> Decoder:
        return self.decoder(instruments, downstream, exchange=self.id, reference=reference)

    def reply_tag(self, url: str) -> str | None:
        parts = urlsplit(url)
        return parse_qs(parts.query).get("symbol", [None])[0] if parts.path.endswith("/depth") else None

    def request_weight(self, url: str) -> float:
        parts = urlsplit(url)
        if not parts.path.endswith("/depth"):
            return self.list_weight
        limit = int(parse_qs(parts.query).get("limit", ["100"])[0])
        return next((weight for most, weight in self.depth_weights if limit <= most), self.depth_weights[-1][1])

    def load_instruments(self, payload: bytes, instruments: Instruments) -> list[str]:
        skipped = []
        try:
            info = msgspec.json.decode(payload, type=ExchangeInfo)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise DecodeError(f"{self.id} exchangeInfo: {error}", kind="wrong_type", payload=payload) from None
        for entry in info.symbols:
            try:
                self._add(_decode_symbol(entry), instruments)
            except (ArithmeticError, ValueError) as error:  # a missing field, a size that is none, a name given twice
                skipped.append(f"{self.id} exchangeInfo: {error}: {excerpt(bytes(entry))}")
        return skipped

    def _add(self, symbol: Symbol, instruments: Instruments) -> None:
        price, lot = symbol.filter("PRICE_FILTER"), symbol.filter("LOT_SIZE")
        kind, name = self.name(symbol)
        instruments.add(
            self.id,
            symbol.symbol,
            symbol=name,
            kind=kind,
            tick_size=_positive(price.tickSize if price else None),
            lot_size=_positive(lot.stepSize if lot else None),
            contract_size=symbol.contractSize,
        )

    def name(self, symbol: Symbol) -> tuple[str, str]:
        """Return (kind, our symbol) of an entry of `exchangeInfo`."""
        return "spot", f"{symbol.baseAsset}-{symbol.quoteAsset}"

    def streams(self, instrument: Instrument, channel: str) -> list[str]:
        """Return the names of the streams that serve a channel of an instrument."""
        return [f"{instrument.raw_symbol.lower()}@{stream}" for stream in self.streams_of[channel]]

    def topics(self, instrument: Instrument, channel: str) -> list[Topic]:
        path = self.path_of.get(channel, "/stream")
        return [Topic(path, stream) for stream in self.streams(instrument, channel)]

    def subscribe_message(self, path: str, args: Sequence[str], number: int) -> bytes:
        return orjson.dumps({"method": "SUBSCRIBE", "params": args, "id": number})

    def unsubscribe_message(self, path: str, args: Sequence[str], number: int) -> bytes:
        return orjson.dumps({"method": "UNSUBSCRIBE", "params": args, "id": number})


def _positive(text: str | None) -> str | None:
    """Return a tick or lot size, None where the exchange says 0: it has none."""
    return text if text is not None and Decimal(text) > 0 else None


EXCHANGE = Binance()
