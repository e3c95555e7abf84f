"""OKX, API v5: spot, perpetuals, futures and options on one socket. OKCoin spoke the same protocol.

https://www.okx.com/docs-v5/en/#order-book-trading-market-data
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

import msgspec
from msgspec import Raw

from feeds.checksum import InterleavedChecksum, NumberText
from feeds.decoder import Fetch, Resubscribe
from feeds.events import Side
from feeds.exchange import Endpoints, Exchange, Heartbeat, RateLimit, Topic
from feeds.instrument import Instrument, Instruments
from feeds.message_decoder import MessageDecoder
from feeds.sequencing import IdentitySequence
from feeds.times import ms_ns

PUBLIC = "/ws/v5/public"
BUSINESS = "/ws/v5/business"  # candles, and trades fill by fill
EMPTY = Raw(b"")
SIDES = {"buy": Side.BUY, "sell": Side.SELL}
TOP_DEPTHS = {"books5": 5}
CANDLE_UNITS = {"s": 1, "m": 60, "H": 3600, "D": 86_400, "W": 604_800}


# --- wire messages --------------------------------------------------------------------------------


class _Arg(msgspec.Struct, omit_defaults=True):
    """What a message is about, as it was subscribed."""

    channel: str = ""
    instId: str = ""
    instType: str = ""
    instFamily: str = ""


class _Message(msgspec.Struct):
    """Whatever arrives: data, or an event about the connection.

    {"arg":{"channel":"trades","instId":"BTC-USDT"},"data":[...]}
    {"event":"error","code":"60018","msg":"...channel doesn't exist","connId":"a4d3ae55"}
    """

    event: str = ""
    arg: _Arg = msgspec.field(default_factory=_Arg)
    action: str = ""  # books: snapshot, update
    data: Raw = EMPTY
    code: str = ""
    msg: str = ""


class _Book(msgspec.Struct, gc=False):
    """`books`, `books5`, `bbo-tbt`, and the REST reply. Levels are [price, size, "0", order count].

    {"asks":[["30249.4","0","0","0"]],"bids":[["30182.6","452","0","1"]],"ts":"1652459225464","checksum":-914047754,
     "prevSeqId":123456,"seqId":123457}
    """

    asks: Raw
    bids: Raw
    ts: str
    checksum: int = 0  # 0 since June 2026: not sent any more
    prevSeqId: int = -1  # none before 2023; -1 in a snapshot
    seqId: int = -1


class _Trade(msgspec.Struct, gc=False):
    """`trades` (fills of one order at one price added up) and `trades-all`.

    {"instId":"BTC-USD","tradeId":"130639474","px":"42219.9","sz":"0.12060306","side":"buy","ts":"1630048897897","count":"3"}
    """

    instId: str
    tradeId: str
    px: str
    sz: str
    side: str  # the taker's
    ts: str


class _Ticker(msgspec.Struct, gc=False):
    """`tickers`. Its best bid and offer are left to `bbo-tbt`, which is ten times as fast.

    {"instId":"UNI-USD-SWAP","last":"5.123","lastSz":"100","askPx":"5.142","bidPx":"5.134","ts":"1652459223143"}
    """

    instId: str
    last: str
    ts: str


class _MarkPrice(msgspec.Struct, gc=False):
    """`mark-price`. {"instType":"SWAP","instId":"BTC-USDT-SWAP","markPx":"42310.6","ts":"1630049139746"}"""

    instId: str
    markPx: str
    ts: str


class _IndexTicker(msgspec.Struct, gc=False):
    """`index-tickers`. {"instId":"BTC-USDT","idxPx":"0.1","ts":"1597026383085"}"""

    instId: str
    idxPx: str
    ts: str


class _FundingRate(msgspec.Struct, gc=False):
    """`funding-rate`: `fundingRate` is paid at `fundingTime`.

    {"fundingRate":"0.0001875","fundingTime":"1700726400000","instId":"BTC-USD-SWAP","nextFundingRate":"",
     "ts":"1700724675402"}
    """

    instId: str
    fundingRate: str
    fundingTime: str
    nextFundingRate: str = ""
    ts: str = "0"


class _OpenInterest(msgspec.Struct, gc=False):
    """`open-interest`, in contracts. {"instId":"LTC-USD-SWAP","oi":"5000","oiCcy":"555.55","ts":"1597026383085"}"""

    instId: str
    oi: str
    ts: str


class _LiquidationDetail(msgspec.Struct, gc=False):
    side: str  # of the order that closes the position
    bkPx: str
    sz: str
    ts: str


class _Liquidation(msgspec.Struct, gc=False):
    """`liquidation-orders`, of every instrument of a type.

    {"instId":"IOST-USDT-SWAP","details":[{"side":"buy","posSide":"short","bkPx":"0.007831","sz":"13","ts":"1692266434010"}]}
    """

    instId: str
    details: list[_LiquidationDetail]


class _Reply(msgspec.Struct):
    """A REST reply. {"code":"0","msg":"","data":[...]}"""

    data: list[Raw]
    code: str = "0"
    msg: str = ""


class _Entry(msgspec.Struct):
    """An instrument of `/api/v5/public/instruments`; what does not apply is ""."""

    instId: str
    instType: str
    tickSz: str
    lotSz: str
    ctVal: str = ""


_decode_message = msgspec.json.Decoder(_Message).decode
_decode_books = msgspec.json.Decoder(list[_Book]).decode
_decode_trades = msgspec.json.Decoder(list[_Trade]).decode
_decode_tickers = msgspec.json.Decoder(list[_Ticker]).decode
_decode_mark_prices = msgspec.json.Decoder(list[_MarkPrice]).decode
_decode_index_tickers = msgspec.json.Decoder(list[_IndexTicker]).decode
_decode_funding_rates = msgspec.json.Decoder(list[_FundingRate]).decode
_decode_open_interests = msgspec.json.Decoder(list[_OpenInterest]).decode
_decode_liquidations = msgspec.json.Decoder(list[_Liquidation]).decode
_decode_candles = msgspec.json.Decoder(list[list[str]]).decode
_decode_reply = msgspec.json.Decoder(_Reply).decode
_decode_entry = msgspec.json.Decoder(_Entry).decode


# --- decoder --------------------------------------------------------------------------------------


class OkxDecoder(MessageDecoder):
    """Decodes what the public and business sockets send."""

    supersede_keys = (
        b'{"arg":{"channel":"bbo-tbt","instId":"*"},"data":[{...}]}',
        b'{"arg":{"channel":"books5","instId":"*"},"data":[{...}]}',
    )
    silent_kinds: ClassVar[dict[str, str]] = {
        "pong": "the answer to our ping",
        "ack": "a subscription is confirmed",
        "channel-conn-count": "how many connections have a private channel",
        "foreign": "liquidations come for all instruments of a type",
    }

    def decode_message(self, payload: bytes) -> None:
        if payload == b"pong":
            self.nothing("pong")
            return
        message = _decode_message(payload)
        if message.event:
            self._decode_event(message)
            return
        channel, data = message.arg.channel, message.data
        if channel in ("books", "books-l2-tbt", "books50-l2-tbt"):
            self._decode_books(message)
        elif channel in TOP_DEPTHS:
            self._decode_top(message.arg, data)
        elif channel == "bbo-tbt":
            self._decode_quotes(message.arg, data)
        elif channel in ("trades", "trades-all"):
            self._decode_trades(data)
        elif channel == "tickers":
            for ticker in _decode_tickers(data):
                if (instrument := self.find(ticker.instId)) is not None:
                    self.ticker(instrument, last_price=ticker.last, ts_event=ms_ns(ticker.ts))
        elif channel == "mark-price":
            for mark in _decode_mark_prices(data):
                if (instrument := self.find(mark.instId)) is not None:
                    self.ticker(instrument, mark_price=_unless_zero(mark.markPx), ts_event=ms_ns(mark.ts))
        elif channel == "index-tickers":
            for index in _decode_index_tickers(data):
                if (instrument := self.find(index.instId)) is not None:
                    self.ticker(instrument, index_price=_unless_zero(index.idxPx), ts_event=ms_ns(index.ts))
        elif channel == "funding-rate":
            self._decode_funding(data)
        elif channel == "open-interest":
            for interest in _decode_open_interests(data):
                if (instrument := self.find(interest.instId)) is not None:
                    self.open_interest(instrument, interest.oi, ts_event=ms_ns(interest.ts))
        elif channel == "liquidation-orders":
            self._decode_liquidations(data)
        elif channel.startswith("candle"):
            self._decode_candles(message.arg, data)
        else:
            raise self.error("unknown_message", f"expected a known channel, found {channel!r}")

    def decode_snapshot(self, tag: str, payload: bytes) -> None:
        reply = _decode_reply(payload)
        if reply.code != "0" or len(reply.data) != 1:
            raise self.error("unknown_reply", f"expected one book of {tag}, found code {reply.code}: {reply.msg}")
        book = msgspec.json.decode(reply.data[0], type=_Book)
        if book.seqId < 0:
            raise self.error("missing_field", f"expected 'seqId' in the book of {tag}: deltas cannot be joined without")
        instrument = self.find(tag)
        if instrument is not None:
            self.book(instrument, book.bids, book.asks, is_snapshot=True, last_id=book.seqId, ts_event=ms_ns(book.ts))

    def request_snapshot(self, instrument: Instrument) -> None:
        """Subscribe anew where snapshots have come in the stream; else get one by REST.

        OKX has announced that the stream's snapshots will end: then the first message of a book is a delta.
        """
        name = instrument.raw_symbol
        arg = self._snapshot_args.get(name)
        if arg is None:
            self.request(Fetch(f"/api/v5/market/books?instId={name}&sz=400", name))
        else:
            self.request(Resubscribe((_request("unsubscribe", [arg]), _request("subscribe", [arg])), name))

    def infer(self, raw_symbol: str) -> tuple[str | None, str]:
        return name_of(raw_symbol)

    def _decode_event(self, message: _Message) -> None:
        if message.event in ("subscribe", "unsubscribe"):
            self.nothing("ack")
        elif message.event == "channel-conn-count":
            self.nothing("channel-conn-count")
        elif message.event == "error":
            self.refused(f"code {message.code}: {message.msg}")
        elif message.event == "notice":
            self.reconnect(f"notice {message.code}: {message.msg}")
        else:
            raise self.error("unknown_message", f"expected a known event, found {message.event!r}")

    def _decode_books(self, message: _Message) -> None:
        if message.action not in ("snapshot", "update"):
            raise self.error("bad_value", f"expected action snapshot or update, found {message.action!r}")
        is_snapshot = message.action == "snapshot"
        instrument = self.find(message.arg.instId)
        if instrument is None:
            return
        if is_snapshot:
            self._snapshot_args[message.arg.instId] = message.arg
        for book in _decode_books(message.data):
            self.book(
                instrument,
                book.bids,
                book.asks,
                is_snapshot=is_snapshot,
                first_id=book.seqId,
                last_id=book.seqId,
                previous_id=book.prevSeqId,
                checksum=book.checksum or None,
                ts_event=ms_ns(book.ts),
            )

    def _decode_top(self, arg: _Arg, data: Raw) -> None:
        instrument = self.find(arg.instId)
        if instrument is None:
            return
        depth = TOP_DEPTHS[arg.channel]
        for book in _decode_books(data):
            self.book(
                instrument,
                book.bids,
                book.asks,
                is_snapshot=True,
                depth=depth,
                last_id=book.seqId,
                ts_event=ms_ns(book.ts),
            )

    def _decode_quotes(self, arg: _Arg, data: Raw) -> None:
        instrument = self.find(arg.instId)
        if instrument is None:
            return
        for book in _decode_books(data):
            bids, asks = _decode_candles(book.bids), _decode_candles(book.asks)
            bid_price, bid_qty, *_ = bids[0] if bids else ("", "")
            ask_price, ask_qty, *_ = asks[0] if asks else ("", "")
            self.quote(
                instrument,
                bid_price,
                bid_qty,
                ask_price,
                ask_qty,
                sequence=max(book.seqId, 0),
                ts_event=ms_ns(book.ts),
            )

    def _decode_trades(self, data: Raw) -> None:
        for trade in _decode_trades(data):
            if (instrument := self.find(trade.instId)) is not None:
                ts = ms_ns(trade.ts)
                self.trade(
                    instrument,
                    trade.px,
                    trade.sz,
                    side=SIDES[trade.side],
                    id=trade.tradeId,
                    ts_event=ts,
                    is_backlog=self.is_backlog(instrument, ts),
                )

    def _decode_funding(self, data: Raw) -> None:
        for rate in _decode_funding_rates(data):
            if (instrument := self.find(rate.instId)) is not None:
                self.funding(
                    instrument,
                    funding_rate=rate.fundingRate,
                    next_funding_rate=rate.nextFundingRate,
                    next_funding_time=ms_ns(rate.fundingTime or 0),
                    ts_event=ms_ns(rate.ts),
                )

    def _decode_liquidations(self, data: Raw) -> None:
        for liquidation in _decode_liquidations(data):
            instrument = self.instruments.known(self.exchange, liquidation.instId)
            if instrument is None and not self.instruments.infers(self.exchange):
                self.nothing("foreign")
                continue
            instrument = self.find(liquidation.instId)
            if instrument is None:
                continue
            for detail in liquidation.details:
                self.liquidation(instrument, detail.bkPx, detail.sz, side=SIDES[detail.side], ts_event=ms_ns(detail.ts))

    def _decode_candles(self, arg: _Arg, data: Raw) -> None:
        instrument = self.find(arg.instId)
        if instrument is None:
            return
        interval = int(arg.channel[6:-1]) * CANDLE_UNITS[arg.channel[-1]]
        for ts, open_, high, low, close, volume, *rest in _decode_candles(data):
            self.candle(
                instrument,
                ts_open=ms_ns(ts),
                interval=interval,
                open=open_,
                high=high,
                low=low,
                close=close,
                volume=volume,
                quote_volume=rest[1] if len(rest) == 3 else None,  # [volCcy, volCcyQuote, confirm] since 2022
                is_closed=rest[2] == "1" if len(rest) == 3 else None,
            )

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._snapshot_args: dict[str, _Arg] = {}  # of books whose snapshots come in the stream


def _unless_zero(price: str) -> str | None:
    """Return a mark or index price; 0 was seen where there was none."""
    return None if float(price or 0) == 0 else price


def _request(op: str, args: Sequence[Any]) -> bytes:
    return msgspec.json.encode({"op": op, "args": args})


def name_of(raw_symbol: str) -> tuple[str | None, str]:
    """Return (our symbol, kind): the name says all. BTC-USDT, BTC-USD-SWAP, BTC-USD-260925, BTC-USD-260925-60000-C."""
    match raw_symbol.split("-"):
        case [base, quote]:
            return f"{base}-{quote}", "spot"
        case [base, quote, "SWAP"]:
            return f"{base}-{quote}-PERP", "perpetual"
        case [base, quote, date] if len(date) == 6 and date.isdecimal():
            return f"{base}-{quote}-20{date}", "future"
        case [base, quote, date, strike, ("C" | "P") as right] if len(date) == 6 and date.isdecimal():
            return f"{base}-{quote}-20{date}-{strike}-{right}", "option"
    return None, "unknown"


# --- exchange -------------------------------------------------------------------------------------


class Okx(Exchange):
    """OKX."""

    id = "okx"
    endpoints = Endpoints(ws="wss://ws.okx.com:8443", rest="https://www.okx.com")
    channels = (
        "book",
        "book_top",
        "quote",
        "trade",
        "agg_trade",
        "ticker",
        "funding",
        "open_interest",
        "liquidation",
        "candle",
    )
    decoder = OkxDecoder
    new_sequence = IdentitySequence
    checksum = InterleavedChecksum(levels=25, number_text=NumberText.SHORTEST)
    instruments_urls = (
        *(f"/api/v5/public/instruments?instType={kind}" for kind in ("SPOT", "SWAP", "FUTURES")),
        *(f"/api/v5/public/instruments?instType=OPTION&instFamily={family}" for family in ("BTC-USD", "ETH-USD")),
    )
    copies_differ = None
    answers = (b"pong", b'{"event":')
    opening_snapshots = (b'{"arg":*"action":"snapshot"',)
    heartbeat = Heartbeat(20.0, b"ping")  # the server closes what has been idle for 30 s
    message_interval = 0.1
    message_limits = (RateLimit(480, 3600),)
    max_topics_per_message = 100
    request_limits = (RateLimit(40, 2),)
    connection_limits = (RateLimit(3, 1),)
    max_topics_per_connection = 300
    urls = re.compile(r"//(ws|wseea|wsus|wspap|www|real)\.(okx|okcoin)\.com\b")
    messages = re.compile(rb'^\{"arg":\{"channel":"[\w-]+","inst(Id|Type|Family)":"')

    def reply_tag(self, url: str) -> str | None:
        parts = urlsplit(url)
        return parse_qs(parts.query).get("instId", [None])[0] if parts.path.endswith("/market/books") else None

    def list_instruments(self, payload: bytes) -> Iterable[Any]:
        return _decode_reply(payload).data

    def add_instrument(self, entry: Any, instruments: Instruments) -> None:
        found = _decode_entry(entry)
        symbol, kind = name_of(found.instId)
        instruments.add(
            self.id,
            found.instId,
            symbol=symbol,
            kind=kind,
            tick_size=found.tickSz or None,
            lot_size=found.lotSz or None,
            contract_size=found.ctVal or None,
        )

    def topics(self, instrument: Instrument, channel: str) -> Sequence[Topic]:
        name, kind = instrument.raw_symbol, instrument.kind

        def topic(channel: str, path: str = PUBLIC) -> Topic:
            return Topic(path, {"channel": channel, "instId": name})

        if channel == "trade":
            return [topic("trades-all", BUSINESS)]
        if channel == "candle":
            return [topic("candle1m", BUSINESS)]
        if channel == "ticker":
            return [topic("tickers")] if kind == "spot" else [topic("tickers"), topic("mark-price")]
        if channel == "funding":
            return [topic("funding-rate")] if kind == "perpetual" else []
        if channel == "open_interest":
            return [] if kind == "spot" else [topic("open-interest")]
        if channel == "liquidation":
            types = {"perpetual": "SWAP", "future": "FUTURES", "option": "OPTION"}
            return [Topic(PUBLIC, {"channel": "liquidation-orders", "instType": types[kind]})] if kind in types else []
        return [topic({"book": "books", "book_top": "books5", "quote": "bbo-tbt", "agg_trade": "trades"}[channel])]

    def subscribe_message(self, path: str, args: Sequence[Any], number: int) -> bytes:
        return _request("subscribe", args)

    def unsubscribe_message(self, path: str, args: Sequence[Any], number: int) -> bytes:
        return _request("unsubscribe", args)


EXCHANGE = Okx()
