"""Bybit v5: linear and inverse perpetuals and futures; the protocol of `bybit_spot` too. And what it spoke before v5.

https://bybit-exchange.github.io/docs/v5/websocket/public/orderbook
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlencode, urlsplit

import msgspec
from msgspec import Raw

from feeds.decoder import Resubscribe
from feeds.events import Side
from feeds.exchange import Endpoints, Exchange, Heartbeat, Older, RateLimit, Topic
from feeds.instrument import Instrument, Instruments
from feeds.levels import LevelShape
from feeds.message_decoder import MessageDecoder
from feeds.sequencing import ContiguousSequence
from feeds.sequencing import Sequence as SequenceRule
from feeds.times import iso_ns, ms_ns, us_ns

EMPTY = Raw(b"")
DEPTH = 1000  # of the book that we subscribe to: the deepest
SIDES = {"Buy": Side.BUY, "Sell": Side.SELL}
# In liquidations the side is the position's: closing a long is a sell.
CLOSING_SIDES = {"Buy": Side.SELL, "Sell": Side.BUY}
INTERVALS = {"D": 86_400, "W": 604_800}  # others are in minutes


# --- wire messages --------------------------------------------------------------------------------


class _Message(msgspec.Struct):
    """Whatever arrives: data of a topic, or the answer to a request.

    {"topic":"orderbook.50.BTCUSDT","type":"snapshot","ts":1709891679000,"data":{...},"cts":1709891678995}
    {"success":false,"ret_msg":"error:handler not found,topic:...","conn_id":"...","op":"subscribe"}
    {"success":true,"ret_msg":"pong","conn_id":"...","req_id":"","op":"ping"}
    """

    topic: str = ""
    type: str = ""
    ts: int = 0  # sent, ms
    cts: int = 0  # made by the matching engine, ms
    data: Raw = EMPTY
    op: str = ""
    success: bool = True
    ret_msg: str = ""


class _Book(msgspec.Struct, gc=False):
    """`orderbook.<depth>.<symbol>`. {"s":"BTCUSDT","b":[["27450.00","0.500"]],"a":[],"u":123456789,"seq":987654321}"""

    s: str
    b: Raw
    a: Raw
    u: int  # +1 with every message of the topic; 1 after a restart


class _Trade(msgspec.Struct, gc=False):
    """`publicTrade.<symbol>`.

    {"T":1672304486865,"s":"BTCUSDT","S":"Buy","v":"0.001","p":"16578.50","L":"PlusTick",
     "i":"20f43950-d8dd-5b31-9112-a178eb6023af","BT":false}
    """

    T: int
    s: str
    S: str  # the taker's
    v: str
    p: str
    i: str


class _Ticker(msgspec.Struct, gc=False):
    """`tickers.<symbol>`: a snapshot, then for derivatives only what has changed. "" is not available.

    {"symbol":"BTCUSDT","lastPrice":"17216.00","markPrice":"17217.33","indexPrice":"17227.36","openInterest":"68744.761",
     "fundingRate":"-0.000212","nextFundingTime":"1673280000000"}
    """

    symbol: str
    lastPrice: str | None = None
    markPrice: str | None = None
    indexPrice: str | None = None
    openInterest: str | None = None
    fundingRate: str | None = None
    nextFundingTime: str | None = None


class _Candle(msgspec.Struct, gc=False):
    """`kline.<interval>.<symbol>`.

    {"start":1672324800000,"end":1672325099999,"interval":"5","open":"16649.5","close":"16677","high":"16677",
     "low":"16608","volume":"2.081","turnover":"34666.4005","confirm":false,"timestamp":1672324988882}
    """

    start: int
    interval: str
    open: str
    high: str
    low: str
    close: str
    volume: str
    turnover: str
    confirm: bool
    timestamp: int


class _Liquidation(msgspec.Struct, gc=False):
    """`allLiquidation.<symbol>`. {"T":1739502303204,"s":"ROSEUSDT","S":"Sell","v":"20000","p":"0.04499"}"""

    T: int
    s: str
    S: str  # the position's
    v: str
    p: str


class _OldMessage(msgspec.Struct):
    """Whatever arrived before v5.

    {"topic":"orderBookL2_25.BTCUSD","type":"delta","data":{...},"cross_seq":5938954547,"timestamp_e6":1618677785397906}
    {"success":true,"ret_msg":"","conn_id":"95a3336b","request":{"op":"subscribe","args":["trade.EOSUSD"]}}
    """

    topic: str = ""
    type: str = ""
    data: Raw = EMPTY
    cross_seq: int | str = -1
    timestamp_e6: int | str = 0  # text on linear
    success: bool | None = None
    ret_msg: str = ""


class _OldDelta(msgspec.Struct, gc=False):
    """`orderBookL2_25`. Rows that are deleted have no size.

    {"delete":[],"update":[{"price":"7.971","symbol":"EOSUSD","id":79710,"side":"Buy","size":47766}],"insert":[]}
    """

    delete: Raw
    update: Raw
    insert: Raw


class _OldSnapshot(msgspec.Struct, gc=False):
    """The snapshot of linear; that of inverse is the array itself."""

    order_book: Raw


class _OldTrade(msgspec.Struct, gc=False):
    """`trade`.

    {"trade_time_ms":1618677786614,"timestamp":"2021-04-17T16:43:06.000Z","symbol":"BTCUSD","side":"Sell","size":4,
     "price":60621.5,"tick_direction":"PlusTick","trade_id":"5ffb8b77-900c-507d-97a2-0922557ffe54"}
    """

    symbol: str
    side: str
    size: Raw
    price: Raw  # text on linear
    trade_time_ms: int | str
    trade_id: str


class _Page(msgspec.Struct):
    entries: list[Raw] = msgspec.field(name="list")
    nextPageCursor: str = ""


class _Reply(msgspec.Struct):
    """A reply of `/v5/market/instruments-info`."""

    result: _Page


class _PriceFilter(msgspec.Struct):
    tickSize: str


class _LotFilter(msgspec.Struct):
    qtyStep: str = ""
    basePrecision: str = ""  # spot


class _Entry(msgspec.Struct):
    symbol: str
    baseCoin: str
    quoteCoin: str
    priceFilter: _PriceFilter
    lotSizeFilter: _LotFilter
    contractType: str = ""  # LinearPerpetual, LinearFutures, InversePerpetual, InverseFutures; "" on spot
    deliveryTime: str = "0"  # ms


_decode_message = msgspec.json.Decoder(_Message).decode
_decode_book = msgspec.json.Decoder(_Book).decode
_decode_trades = msgspec.json.Decoder(list[_Trade]).decode
_decode_ticker = msgspec.json.Decoder(_Ticker).decode
_decode_candles = msgspec.json.Decoder(list[_Candle]).decode
_decode_liquidations = msgspec.json.Decoder(list[_Liquidation]).decode
_decode_rows = msgspec.json.Decoder(list[list[str]]).decode
_decode_old_message = msgspec.json.Decoder(_OldMessage).decode
_decode_old_delta = msgspec.json.Decoder(_OldDelta).decode
_decode_old_snapshot = msgspec.json.Decoder(_OldSnapshot).decode
_decode_old_trades = msgspec.json.Decoder(list[_OldTrade]).decode
_decode_reply = msgspec.json.Decoder(_Reply).decode
_decode_entry = msgspec.json.Decoder(_Entry).decode

_SILENT = {"pong": "the answer to our ping", "ack": "a subscription is confirmed"}


# --- decoder --------------------------------------------------------------------------------------


class BybitDecoder(MessageDecoder):
    """Decodes v5."""

    supersede_keys = (
        b'{"topic":"orderbook.1.*","type":"snapshot","ts":#,"data":{...}',
        b'{"topic":"orderbook.1.*","ts":#,"type":"snapshot","data":{...}',
    )
    silent_kinds: ClassVar[dict[str, str]] = _SILENT | {
        "other depth": "a second book topic of a symbol: its ids are not those of the first, which keeps the book"
    }

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._book_topics: dict[str, str] = {}  # raw symbol -> the topic that keeps its book
        self._tops: dict[
            str, tuple[dict[str, str], dict[str, str]]
        ] = {}  # raw symbol -> {price: size} of bids and asks

    def decode_message(self, payload: bytes) -> None:
        message = _decode_message(payload)
        channel, _, rest = message.topic.partition(".")
        if channel == "orderbook":
            depth, _, symbol = rest.partition(".")
            if depth == "1":
                self._decode_quote(message)
            else:
                self._decode_book(message, int(depth), symbol)
        elif channel == "publicTrade":
            for trade in _decode_trades(message.data):
                if (instrument := self.find(trade.s)) is not None:
                    self.trade(instrument, trade.p, trade.v, side=SIDES[trade.S], id=trade.i, ts_event=ms_ns(trade.T))
        elif channel == "tickers":
            self._decode_ticker(message)
        elif channel == "kline":
            self._decode_candles(message.data, rest.partition(".")[2])
        elif channel == "allLiquidation":
            for one in _decode_liquidations(message.data):
                if (instrument := self.find(one.s)) is not None:
                    self.liquidation(instrument, one.p, one.v, side=CLOSING_SIDES[one.S], ts_event=ms_ns(one.T))
        elif message.op == "pong" or message.ret_msg == "pong":
            self.nothing("pong")
        elif message.op in ("subscribe", "unsubscribe"):
            if message.success:
                self.nothing("ack")
            else:
                self.refused(message.ret_msg)
        else:
            raise self.error("unknown_message", f"expected a known topic, found {message.topic or message.op!r}")

    def request_snapshot(self, instrument: Instrument) -> None:
        name = instrument.raw_symbol
        args = [self._book_topics.get(name, f"orderbook.{DEPTH}.{name}")]
        self.request(Resubscribe((_request("unsubscribe", args), _request("subscribe", args)), name))

    def infer(self, raw_symbol: str) -> tuple[str | None, str]:
        return name_of(raw_symbol)

    def _decode_book(self, message: _Message, depth: int, symbol: str) -> None:
        instrument = self.find(symbol)
        if instrument is None:
            return
        if self._book_topics.setdefault(symbol, message.topic) != message.topic:
            self.nothing("other depth")
            return
        book = _decode_book(message.data)
        self.book(
            instrument,
            book.b,
            book.a,
            is_snapshot=message.type == "snapshot" or book.u == 1,
            window=depth,
            first_id=book.u,
            last_id=book.u,
            ts_event=ms_ns(message.cts or message.ts),
        )

    def _decode_quote(self, message: _Message) -> None:
        """Depth 1: snapshots, since 2025; before, deltas too."""
        book = _decode_book(message.data)
        instrument = self.find(book.s)
        if instrument is None:
            return
        sides = self._tops.setdefault(book.s, ({}, {}))
        for side, levels in zip(sides, (book.b, book.a), strict=True):
            if message.type == "snapshot" or book.u == 1:
                side.clear()
            for price, size in _decode_rows(levels):
                if float(size):
                    side[price] = size
                else:
                    side.pop(price, None)
        bid, ask = max(sides[0], key=float, default=""), min(sides[1], key=float, default="")
        self.quote(
            instrument, bid, sides[0].get(bid), ask, sides[1].get(ask), ts_event=ms_ns(message.cts or message.ts)
        )

    def _decode_ticker(self, message: _Message) -> None:
        ticker = _decode_ticker(message.data)
        instrument = self.find(ticker.symbol)
        if instrument is None:
            return
        due = ticker.nextFundingTime
        self.ticker(
            instrument,
            merge=True,
            last_price=ticker.lastPrice,
            mark_price=ticker.markPrice,
            index_price=ticker.indexPrice,
            open_interest=ticker.openInterest,
            funding_rate=ticker.fundingRate,
            next_funding_time=None if due is None else ms_ns(due or 0),
            ts_event=ms_ns(message.ts),
        )

    def _decode_candles(self, data: Raw, symbol: str) -> None:
        instrument = self.find(symbol)
        if instrument is None:
            return
        for candle in _decode_candles(data):
            interval = INTERVALS.get(candle.interval)
            self.candle(
                instrument,
                ts_open=ms_ns(candle.start),
                interval=int(candle.interval) * 60 if interval is None else interval,
                open=candle.open,
                high=candle.high,
                low=candle.low,
                close=candle.close,
                volume=candle.volume,
                quote_volume=candle.turnover,
                is_closed=candle.confirm,
                ts_event=ms_ns(candle.timestamp),
            )


class BybitOldDecoder(MessageDecoder):
    """Decodes what `realtime` (inverse) and `realtime_public` (linear) sent: API v2, until 2023."""

    silent_kinds: ClassVar[dict[str, str]] = _SILENT
    levels = LevelShape("price", "size", side="side", bid="Buy", ask="Sell")
    _DELETED = LevelShape("price", None, side="side", bid="Buy", ask="Sell")

    def decode_message(self, payload: bytes) -> None:
        message = _decode_old_message(payload)
        channel, _, symbol = message.topic.partition(".")
        if channel in ("orderBookL2_25", "orderBook_200"):
            self._decode_book(message, symbol.rpartition(".")[2])
        elif channel == "trade":
            for trade in _decode_old_trades(message.data):
                if (instrument := self.find(trade.symbol)) is not None:
                    self.trade(
                        instrument,
                        trade.price,
                        trade.size,
                        side=SIDES[trade.side],
                        id=trade.trade_id,
                        ts_event=ms_ns(trade.trade_time_ms),
                    )
        elif message.success is None:
            raise self.error("unknown_message", f"expected a known topic, found {message.topic!r}")
        elif message.ret_msg == "pong":
            self.nothing("pong")
        elif message.success:
            self.nothing("ack")
        else:
            self.refused(message.ret_msg)

    def request_snapshot(self, instrument: Instrument) -> None:
        args = [f"orderBookL2_25.{instrument.raw_symbol}"]
        self.request(Resubscribe((_request("unsubscribe", args), _request("subscribe", args)), instrument.raw_symbol))

    def infer(self, raw_symbol: str) -> tuple[str | None, str]:
        return name_of(raw_symbol)

    def _decode_book(self, message: _OldMessage, symbol: str) -> None:
        instrument = self.find(symbol)
        if instrument is None:
            return
        levels: Raw | tuple[tuple[Raw, LevelShape], ...]
        if message.type == "snapshot":
            data = message.data
            levels = _decode_old_snapshot(data).order_book if bytes(data).startswith(b"{") else data
        elif message.type == "delta":
            delta = _decode_old_delta(message.data)
            levels = ((delta.delete, self._DELETED), (delta.update, self.levels), (delta.insert, self.levels))
        else:
            raise self.error("bad_value", f"expected type snapshot or delta, found {message.type!r}")
        self.book(
            instrument,
            levels,
            None,
            is_snapshot=message.type == "snapshot",
            last_id=int(message.cross_seq),
            ts_event=us_ns(message.timestamp_e6),
        )


def _request(op: str, args: Sequence[Any]) -> bytes:
    return msgspec.json.encode({"op": op, "args": args})


def _dated(base: str, quote: str, date: str) -> tuple[str | None, str]:
    try:
        return f"{base}-{quote}-{datetime.strptime(date, '%d%b%y'):%Y%m%d}", "future"
    except ValueError:
        return None, "unknown"


def name_of(raw_symbol: str) -> tuple[str | None, str]:
    """Return (our symbol, kind) of a linear or inverse contract: BTCUSDT, BTCPERP (USDC), BTCUSD, BTC[USDT]-26SEP25.

    None where the name does not say: the quarterly inverse futures BTCUSDU25 name a month, not a day.
    """
    name, _, date = raw_symbol.partition("-")
    if date:
        base = name.removesuffix("USDT")
        return _dated(base, "USDT" if base != name else "USDC", date)
    for suffix, quote in (("USDT", "USDT"), ("PERP", "USDC"), ("USD", "USD")):
        if name.endswith(suffix) and name != suffix:
            return f"{name.removesuffix(suffix)}-{quote}-PERP", "perpetual"
    return None, "unknown"


# --- exchange -------------------------------------------------------------------------------------


class Bybit(Exchange):
    """Bybit linear and inverse."""

    id = "bybit"
    endpoints = Endpoints(ws="wss://stream.bybit.com", rest="https://api.bybit.com")
    channels: Sequence[str] = ("book", "quote", "trade", "ticker", "liquidation", "candle")
    decoder: type[MessageDecoder] = BybitDecoder
    new_sequence: type[SequenceRule] = ContiguousSequence
    instruments_urls: Sequence[str] = (
        "/v5/market/instruments-info?category=linear&limit=1000",
        "/v5/market/instruments-info?category=inverse&limit=1000",
    )
    heartbeat = Heartbeat(20.0, b'{"op":"ping"}')
    copies_differ: str | None = None
    answers = (b'{"success":',)
    # Trades and best prices are "snapshots" all the time.
    opening_snapshots = (b'{"topic":"orderbook.%d.*"type":"snapshot"' % DEPTH, b'{"topic":"tickers.*"type":"snapshot"')
    max_topics_per_message = 10  # one bad topic fails all of its message
    max_topics_per_connection = 200
    connection_limits = (RateLimit(500, 300),)
    urls = re.compile(r"//(stream|api)\.bybit\.com(?!/v5/public/spot)")
    messages: re.Pattern[bytes] | None = re.compile(
        rb'^\{"topic":"(orderBookL2_25|orderbook\.\d+|publicTrade|tickers|allLiquidation)\.'
    )

    def list_instruments(self, payload: bytes) -> Iterable[Any]:
        return _decode_reply(payload).result.entries

    def next_page(self, url: str, payload: bytes) -> str | None:
        cursor = _decode_reply(payload).result.nextPageCursor
        parts = urlsplit(url)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()} | {"cursor": cursor}
        return f"{parts.path}?{urlencode(query)}" if cursor else None

    def add_instrument(self, entry: Any, instruments: Instruments) -> None:
        found = _decode_entry(entry)
        name = f"{found.baseCoin}-{found.quoteCoin}"
        if not found.contractType:
            symbol, kind = name, "spot"
        elif found.contractType.endswith("Perpetual"):
            symbol, kind = f"{name}-PERP", "perpetual"
        else:
            day = datetime.fromtimestamp(int(found.deliveryTime) / 1000, timezone.utc)
            symbol, kind = f"{name}-{day:%Y%m%d}", "future"
        lot = found.lotSizeFilter
        instruments.add(
            self.id,
            found.symbol,
            symbol=symbol,
            kind=kind,
            tick_size=found.priceFilter.tickSize,
            lot_size=lot.qtyStep or lot.basePrecision or None,
            contract_size="1" if found.contractType.startswith("Inverse") else None,  # USD
        )

    def topics(self, instrument: Instrument, channel: str) -> Sequence[Topic]:
        topic = {
            "book": f"orderbook.{DEPTH}",
            "quote": "orderbook.1",
            "trade": "publicTrade",
            "ticker": "tickers",
            "liquidation": "allLiquidation",
            "candle": "kline.1",
        }[channel]
        return [Topic(self.path(instrument), f"{topic}.{instrument.raw_symbol}")]

    def path(self, instrument: Instrument) -> str:
        """Return the path of the socket that serves the instrument: contracts on USD are inverse."""
        is_inverse = instrument.symbol is not None and instrument.symbol.split("-")[1] == "USD"
        return "/v5/public/inverse" if is_inverse else "/v5/public/linear"

    def subscribe_message(self, path: str, args: Sequence[Any], number: int) -> bytes:
        return _request("subscribe", args)

    def unsubscribe_message(self, path: str, args: Sequence[Any], number: int) -> bytes:
        return _request("unsubscribe", args)


class BybitOld(Bybit):
    """Bybit before v5: for recordings."""

    decoder = BybitOldDecoder
    new_sequence = SequenceRule  # cross_seq grows by any amount


EXCHANGE = Bybit()
EXCHANGE.older = (
    Older(BybitOld(), until=iso_ns("2022-11-01T00:00:00Z"), url=re.compile(r"//stream\.\w+\.com/realtime(_public)?\b")),
)
