"""Kraken spot: WebSocket API v2, and v1 for recordings of it.

https://docs.kraken.com/api/docs/websocket-v2/book
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import msgspec
from msgspec import Raw

from feeds.checksum import NumberText, SideBySideChecksum
from feeds.decoder import Resubscribe
from feeds.events import Side
from feeds.exchange import Endpoints, Exchange, Heartbeat, Older, RateLimit, Topic
from feeds.instrument import Instrument, Instruments
from feeds.levels import LevelShape
from feeds.message_decoder import MessageDecoder
from feeds.times import iso_ns, seconds_ns

EMPTY = Raw(b"")
DEPTHS = (10, 25, 100, 500, 1000)
DEPTH = 1000  # of the book that we subscribe to: the deepest
SIDES = {"buy": Side.BUY, "sell": Side.SELL, "b": Side.BUY, "s": Side.SELL}
OUR_CURRENCIES = {"XBT": "BTC", "XDG": "DOGE"}  # v1 and REST have older names


# --- wire messages --------------------------------------------------------------------------------


class _Result(msgspec.Struct):
    channel: str = ""
    symbol: str = ""
    depth: int = 0


class _Message(msgspec.Struct):
    """Whatever arrives on v2: data of a channel, or the answer to a request.

    {"channel":"book","type":"update","data":[...]}
    {"method":"subscribe","result":{"channel":"book","symbol":"BTC/USD","depth":10,"snapshot":true},"success":true}
    {"method":"subscribe","error":"Currency pair not supported XXX/USD","success":false,"symbol":"XXX/USD"}
    """

    channel: str = ""
    type: str = ""
    data: Raw = EMPTY
    method: str = ""
    success: bool = True
    error: str = ""
    result: _Result = msgspec.field(default_factory=_Result)


class _Book(msgspec.Struct, gc=False):
    """`book`. Numbers are JSON numbers; levels beyond the subscribed depth leave without a word.

    {"symbol":"MATIC/USD","bids":[{"price":0.5657,"qty":1098.3947558}],"asks":[],"checksum":2114181697,
     "timestamp":"2023-10-06T17:35:55.440295Z"}
    """

    symbol: str
    bids: Raw
    asks: Raw
    checksum: int
    timestamp: str = ""  # not in snapshots of 2023


class _Trade(msgspec.Struct, gc=False):
    """`trade`.

    {"symbol":"BTC/USD","side":"buy","price":105944.20,"qty":0.00027625,"ord_type":"limit","trade_id":10218208,
     "timestamp":"2023-10-06T17:35:55.440295Z"}
    """

    symbol: str
    side: str  # the taker's
    price: Raw
    qty: Raw
    trade_id: int
    timestamp: str


class _Ticker(msgspec.Struct, gc=False):
    """`ticker`: with every change of the best bid or offer when subscribed with the trigger `bbo`.

    {"symbol":"ALGO/USD","bid":0.10025,"bid_qty":740.0,"ask":0.10036,"ask_qty":1361.44813783,"last":0.10035}
    """

    symbol: str
    bid: Raw
    bid_qty: Raw
    ask: Raw
    ask_qty: Raw
    last: Raw
    timestamp: str = ""  # since 2026


class _Candle(msgspec.Struct, gc=False):
    """`ohlc`; `interval` in minutes, `volume` in the base currency.

    {"symbol":"ALGO/USD","open":0.1,"high":0.11,"low":0.1,"close":0.11,"trades":6,"volume":138.5,"vwap":0.1,
     "interval_begin":"2023-10-04T16:25:00.000000000Z","interval":5,"timestamp":"2023-10-04T16:30:00.000000Z"}
    """

    symbol: str
    open: Raw
    high: Raw
    low: Raw
    close: Raw
    volume: Raw
    interval_begin: str
    interval: int


class _V1Event(msgspec.Struct):
    """What is no data on v1.

    {"channelID":1664,"channelName":"book-1000","event":"subscriptionStatus","pair":"WAVES/EUR","status":"subscribed"}
    """

    event: str
    status: str = ""
    pair: str = ""
    errorMessage: str = ""


class _V1Book(msgspec.Struct, gc=False, rename={"as_": "as"}):
    """One object of a v1 book message, which may have two: one with asks, one with bids.

    [992,{"b":[["354.15000000","5.00000000","1618678133.365913"]],"c":"2583817756"},"book-1000","XMR/USD"]
    """

    as_: Raw = EMPTY  # snapshot
    bs: Raw = EMPTY
    a: Raw = EMPTY  # update
    b: Raw = EMPTY
    c: str = ""  # checksum, in the last object of an update


class _V1Ticker(msgspec.Struct, gc=False):
    """{"a":["13.253900",35,"35.72892241"],"b":["13.232900",185,"185.18432037"],"c":["13.253900","3.71672000"],...}"""

    a: tuple[str, Raw, str]  # price, whole lots, lots
    b: tuple[str, Raw, str]
    c: tuple[str, str]  # last price, lots


class _Pair(msgspec.Struct):
    """A pair of `/0/public/AssetPairs`; those without `wsname` have no market data."""

    pair_decimals: int
    lot_decimals: int
    wsname: str = ""
    tick_size: str | None = None


class _Pairs(msgspec.Struct):
    result: dict[str, Raw]


_decode_message = msgspec.json.Decoder(_Message).decode
_decode_books = msgspec.json.Decoder(list[_Book]).decode
_decode_trades = msgspec.json.Decoder(list[_Trade]).decode
_decode_tickers = msgspec.json.Decoder(list[_Ticker]).decode
_decode_candles = msgspec.json.Decoder(list[_Candle]).decode
_decode_pairs = msgspec.json.Decoder(_Pairs).decode
_decode_pair = msgspec.json.Decoder(_Pair).decode
_decode_parts = msgspec.json.Decoder(list[Raw]).decode
_decode_text = msgspec.json.Decoder(str).decode
_decode_rows = msgspec.json.Decoder(list[list[str]]).decode
_decode_row = msgspec.json.Decoder(list[str | int]).decode
_decode_v1_event = msgspec.json.Decoder(_V1Event).decode
_decode_v1_book = msgspec.json.Decoder(_V1Book).decode
_decode_v1_ticker = msgspec.json.Decoder(_V1Ticker).decode

_SILENT = {
    "ack": "a subscription is confirmed",
    "heartbeat": "sent every second without data",
    "pong": "the answer to our ping",
    "status": "the exchange's state, told after connecting",
}


# --- decoder --------------------------------------------------------------------------------------


class KrakenDecoder(MessageDecoder):
    """Decodes v2."""

    unnumbered = re.compile(rb'^\{"channel":"book"')  # and checksums are of ten levels only
    supersede_keys = (b'{"channel":"ticker","type":"update","data":[{"symbol":"*",...}]}',)
    silent_kinds: ClassVar[dict[str, str]] = _SILENT | {
        "instrument": "metadata, which we take from REST",
        "never traded": "a ticker of zeros, of 1970",
    }
    levels = LevelShape("price", "qty")

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._depths: dict[str, int] = {}  # raw symbol -> levels of each side that the subscribed book has

    def decode_message(self, payload: bytes) -> None:
        message = _decode_message(payload)
        channel = message.channel
        if channel == "book":
            self._decode_books(message)
        elif channel == "trade":
            for trade in _decode_trades(message.data):
                if (instrument := self.find(trade.symbol)) is not None:
                    self.trade(
                        instrument,
                        trade.price,
                        trade.qty,
                        side=SIDES[trade.side],
                        id=trade.trade_id,
                        ts_event=iso_ns(trade.timestamp),
                        is_backlog=message.type == "snapshot",
                    )
        elif channel == "ticker":
            self._decode_tickers(message.data)
        elif channel == "ohlc":
            self._decode_candles(message.data)
        elif channel in ("heartbeat", "status", "instrument"):
            self.nothing(channel)
        elif message.method == "pong":
            self.nothing("pong")
        elif message.method in ("subscribe", "unsubscribe"):
            self._decode_answer(message)
        else:
            raise self.error("unknown_message", f"expected a channel or a method, found {channel or message.method!r}")

    def request_snapshot(self, instrument: Instrument) -> None:
        name = instrument.raw_symbol
        params = {"channel": "book", "symbol": [name], "depth": self._depths.get(name, DEPTH)}
        self.request(Resubscribe((_request("unsubscribe", params), _request("subscribe", params)), name))

    def infer(self, raw_symbol: str) -> tuple[str | None, str]:
        return name_of(raw_symbol)

    def _decode_answer(self, message: _Message) -> None:
        if not message.success:
            self.refused(message.error)
            return
        if message.result.channel == "book" and message.result.depth:
            self._depths[message.result.symbol] = message.result.depth
        self.nothing("ack")

    def _decode_books(self, message: _Message) -> None:
        is_snapshot = message.type == "snapshot"
        for book in _decode_books(message.data):
            instrument = self.find(book.symbol)
            if instrument is None:
                continue
            if is_snapshot and book.symbol not in self._depths:  # the answer that says so may come later
                longer = max(bytes(book.bids).count(b"{"), bytes(book.asks).count(b"{"))
                self._depths[book.symbol] = next((depth for depth in DEPTHS if longer <= depth), DEPTH)
            self.book(
                instrument,
                book.bids,
                book.asks,
                is_snapshot=is_snapshot,
                window=self._depths.get(book.symbol, DEPTH),
                checksum=book.checksum,
                ts_event=iso_ns(book.timestamp) if book.timestamp else 0,
            )

    def _decode_tickers(self, data: Raw) -> None:
        for ticker in _decode_tickers(data):
            instrument = self.find(ticker.symbol)
            if instrument is None:
                continue
            if ticker.timestamp.startswith("1970"):
                self.nothing("never traded")
                continue
            ts = iso_ns(ticker.timestamp) if ticker.timestamp else 0
            self.quote(instrument, ticker.bid, ticker.bid_qty, ticker.ask, ticker.ask_qty, ts_event=ts)
            self.ticker(instrument, last_price=ticker.last, ts_event=ts)

    def _decode_candles(self, data: Raw) -> None:
        for candle in _decode_candles(data):
            if (instrument := self.find(candle.symbol)) is not None:
                self.candle(
                    instrument,
                    ts_open=iso_ns(candle.interval_begin),
                    interval=candle.interval * 60,
                    open=candle.open,
                    high=candle.high,
                    low=candle.low,
                    close=candle.close,
                    volume=candle.volume,
                )


class KrakenV1Decoder(MessageDecoder):
    """Decodes v1: arrays [channel id, payload, ..., channel name, pair], and objects with an `event`."""

    silent_kinds: ClassVar[dict[str, str]] = _SILENT
    levels = LevelShape(padded=True)  # the checksum is of the numbers as they stand in the message
    padded = True
    _TIME = re.compile(rb'"(\d{10}\.\d{6})"')  # of a level

    def decode_message(self, payload: bytes) -> None:
        if payload[:1] != b"[":
            self._decode_event(payload)
            return
        _, *payloads, channel_text, pair_text = _decode_parts(payload)
        channel, _, argument = _decode_text(channel_text).partition("-")
        instrument = self.find(_decode_text(pair_text))
        if instrument is None:
            return
        if channel == "book":
            self._decode_book(instrument, payloads, int(argument))
        elif channel == "trade":
            for price, qty, time, side, *_ in _decode_rows(payloads[0]):
                ts = seconds_ns(time)
                backlog = self.is_backlog(instrument, ts)
                self.trade(instrument, price, qty, side=SIDES[side], ts_event=ts, is_backlog=backlog)
        elif channel == "ticker":
            ticker = _decode_v1_ticker(payloads[0])
            self.quote(instrument, ticker.b[0], ticker.b[2], ticker.a[0], ticker.a[2])
            self.ticker(instrument, last_price=ticker.c[0])
        elif channel == "spread":
            bid, ask, time, bid_qty, ask_qty = msgspec.json.decode(payloads[0], type=tuple[str, str, str, str, str])
            self.quote(instrument, bid, bid_qty, ask, ask_qty, ts_event=seconds_ns(time))
        elif channel == "ohlc":
            _, end, open_, high, low, close, _, volume, *_ = _decode_row(payloads[0])
            interval = int(argument) * 60
            self.candle(
                instrument,
                ts_open=seconds_ns(str(end)) - interval * 1_000_000_000,
                interval=interval,
                open=open_,
                high=high,
                low=low,
                close=close,
                volume=volume,
            )
        else:
            raise self.error("unknown_message", f"expected a known channel, found {channel!r}")

    def request_snapshot(self, instrument: Instrument) -> None:
        name = instrument.raw_symbol
        messages = [
            msgspec.json.encode(
                {
                    "event": event,
                    "pair": [name],
                    "subscription": {"name": "book", "depth": self._depths.get(name, DEPTH)},
                }
            )
            for event in ("unsubscribe", "subscribe")
        ]
        self.request(Resubscribe(tuple(messages), name))

    def infer(self, raw_symbol: str) -> tuple[str | None, str]:
        return name_of(raw_symbol)

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._depths: dict[str, int] = {}

    def _decode_event(self, payload: bytes) -> None:
        event = _decode_v1_event(payload)
        if event.status == "error":
            self.refused(f"{event.pair}: {event.errorMessage}")
        elif event.event == "subscriptionStatus":
            self.nothing("ack")
        elif event.event == "systemStatus":
            self.nothing("status")
        elif event.event in ("heartbeat", "pong"):
            self.nothing(event.event)
        else:
            raise self.error("unknown_message", f"expected a known event, found {event.event!r}")

    def _decode_book(self, instrument: Instrument, payloads: list[Raw], depth: int) -> None:
        self._depths[instrument.raw_symbol] = depth
        bids: Raw = EMPTY
        asks: Raw = EMPTY
        checksum = ""
        is_snapshot = False
        for payload in payloads:
            part = _decode_v1_book(payload)
            is_snapshot = is_snapshot or bool(part.as_) or bool(part.bs)
            bids = part.bs or part.b or bids
            asks = part.as_ or part.a or asks
            checksum = part.c or checksum
        # A message has no time of its own: the newest of its levels.
        times = self._TIME.findall(bytes(bids) + bytes(asks))
        self.book(
            instrument,
            bids,
            asks,
            is_snapshot=is_snapshot,
            window=depth,
            checksum=int(checksum) if checksum else None,
            ts_event=seconds_ns(max(times).decode()) if times else 0,
        )


def _request(method: str, params: dict[str, Any]) -> bytes:
    return msgspec.json.encode({"method": method, "params": params})


def name_of(raw_symbol: str) -> tuple[str | None, str]:
    """Return (our symbol, kind) of BTC/USD or, as v1 has it, XBT/USD. Case matters: AAPLx/USD."""
    base, _, quote = raw_symbol.partition("/")
    if not base or not quote:
        return None, "unknown"
    return f"{OUR_CURRENCIES.get(base, base)}-{OUR_CURRENCIES.get(quote, quote)}", "spot"


# --- exchange -------------------------------------------------------------------------------------


class Kraken(Exchange):
    """Kraken spot."""

    id = "kraken"
    connection_limits = (RateLimit(150, 600),)  # unconfirmed
    endpoints = Endpoints(ws="wss://ws.kraken.com", rest="https://api.kraken.com")
    channels = ("book", "quote", "trade", "ticker", "candle")
    decoder: type[MessageDecoder] = KrakenDecoder
    checksum = SideBySideChecksum(levels=10, number_text=NumberText.DIGITS)
    instruments_urls = ("/0/public/AssetPairs",)
    heartbeat = Heartbeat(30.0, b'{"method":"ping"}')
    copies_differ = None
    answers = (b'{"method":', b'{"error":', b'{"channel":"heartbeat"', b'{"channel":"status"')
    opening_snapshots = (b'{"channel":*"type":"snapshot"',)
    urls = re.compile(r"//(ws|beta-ws|ws-l3|api)\.kraken\.com\b")
    messages = re.compile(
        rb'^\{"channel":"(book|trade|ticker|ohlc)","type":"(snapshot|update)","data":\[\{"symbol":"[^"]+/'
        rb'|^\[\d+,.*,"(book-\d+|trade|ticker|spread|ohlc-\d+)","[^"/]+/[^"/]+"\]$',
        re.DOTALL,
    )

    def list_instruments(self, payload: bytes) -> Iterable[Any]:
        # Names with ".d" are dark pools.
        return [pair for key, pair in _decode_pairs(payload).result.items() if not key.endswith(".d")]

    def add_instrument(self, entry: Any, instruments: Instruments) -> None:
        pair = _decode_pair(entry)
        if not pair.wsname:
            return
        raw_symbol = self.raw_symbol(pair.wsname)
        symbol, kind = name_of(raw_symbol)
        # The checksum needs the exchange's decimals, which are not those of the tick.
        instruments.add(
            self.id,
            raw_symbol,
            symbol=symbol,
            kind=kind,
            price_decimals=pair.pair_decimals,
            qty_decimals=pair.lot_decimals,
            tick_size=pair.tick_size or f"1e-{pair.pair_decimals}",
        )

    def raw_symbol(self, wsname: str) -> str:
        """Return the symbol on the socket of a pair that REST calls `wsname`."""
        return "/".join(OUR_CURRENCIES.get(part, part) for part in wsname.split("/"))

    def topics(self, instrument: Instrument, channel: str) -> Sequence[Topic]:
        ticker = {"channel": "ticker", "event_trigger": "bbo"}  # one subscription serves quotes and tickers
        params: dict[str, dict[str, Any]] = {
            "book": {"channel": "book", "depth": DEPTH},
            "quote": ticker,
            "ticker": ticker,
            "trade": {"channel": "trade"},
            "candle": {"channel": "ohlc", "interval": 1},
        }
        return [Topic("/v2", params[channel] | {"symbol": [instrument.raw_symbol]})]

    def subscribe_messages(self, path: str, args: Sequence[Any]) -> list[bytes]:
        return _requests("subscribe", args)

    def unsubscribe_messages(self, path: str, args: Sequence[Any]) -> list[bytes]:
        return _requests("unsubscribe", args)


def _requests(method: str, args: Sequence[Any]) -> list[bytes]:
    """Return one message for all symbols that are subscribed alike."""
    together: dict[bytes, dict[str, Any]] = {}
    for arg in args:
        alike = msgspec.json.encode({key: value for key, value in arg.items() if key != "symbol"})
        params = together.setdefault(alike, arg | {"symbol": []})
        params["symbol"] += arg["symbol"]
    return [_request(method, params) for params in together.values()]


class KrakenV1(Kraken):
    """Kraken spot as its API v1 speaks: for recordings."""

    decoder = KrakenV1Decoder

    def raw_symbol(self, wsname: str) -> str:
        return wsname


EXCHANGE = Kraken()
# v1 is served to this day; what tells is the address. Recordings without one are of v1 before v2 was documented.
EXCHANGE.older = (
    Older(KrakenV1(), until=iso_ns("2023-10-01T00:00:00Z"), url=re.compile(r"//(beta-)?ws\.kraken\.com/?$")),
)
