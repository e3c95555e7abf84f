"""KuCoin: spot and futures on the sockets that need a token. Books of the newer ones (UTA, `obu`) are decoded too.

https://www.kucoin.com/docs-new/3470221w0
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from typing import Annotated, Any, ClassVar
from urllib.parse import parse_qs, urlsplit

import msgspec
from msgspec import Raw

from feeds.decoder import Fetch, Resubscribe
from feeds.errors import DecodeError
from feeds.events import Side
from feeds.exchange import ConnectionPlan, Endpoints, Exchange, Heartbeat, RateLimit, Topic
from feeds.instrument import Instrument, Instruments
from feeds.levels import LevelShape
from feeds.message_decoder import MessageDecoder
from feeds.sequencing import ContiguousSequence
from feeds.times import ms_ns, unix_ns

EMPTY = Raw(b"")
SPOT, FUTURES = "/spot", "/futures"  # instead of paths: the address comes with the token
FUTURES_REST = "https://api-futures.kucoin.com"
SIDES = {"buy": Side.BUY, "sell": Side.SELL}
OUR_CURRENCIES = {"XBT": "BTC", "BCHSV": "BSV"}
CANDLE_UNITS = {"min": 60, "hour": 3600, "day": 86_400, "week": 604_800}
STATE_TOPICS = (
    b"/spotMarket/level1",
    b"/spotMarket/level2Depth5",
    b"/spotMarket/level2Depth50",
    b"/contractMarket/tickerV2",
    b"/contractMarket/level2Depth5",
    b"/contractMarket/level2Depth50",
)


# --- wire messages --------------------------------------------------------------------------------


class _Message(msgspec.Struct):
    """Whatever arrives.

    {"type":"message","topic":"/market/level2:BCHSV-USDT","subject":"trade.l2update","data":{...}}
    {"id":"1","type":"ack"}  {"id":"feeds","type":"welcome"}  {"id":"1","type":"error","code":404,"data":"topic ..."}
    {"T":"obu.FUTURES","dp":"increment@10ms","t":"delta","P":1790000000000000000,"d":{...}}
    {"id":"p18","result":false,"message":"invalid request data"}
    """

    type: str = ""
    topic: str = ""
    subject: str = ""
    data: Raw = EMPTY
    code: int = 0
    channel: str = msgspec.field(name="T", default="")  # of UTA, as are the rest
    dp: str = ""
    t: str = ""
    d: Raw = EMPTY
    result: bool | None = None
    message: str = ""


class _Changes(msgspec.Struct, gc=False):
    """{"asks":[["0","0","1613277183874"]],"bids":[["242.5","1.25","1613277183875"]]}: price, size, sequence"""

    asks: Raw
    bids: Raw


class _Update(msgspec.Struct, gc=False):
    """`/market/level2`. A price of 0 is a filler: only its sequence counts.

    {"sequenceStart":1613277183874,"sequenceEnd":1613277183875,"symbol":"BCHSV-USDT","time":1545913818099,"changes":{...}}
    """

    symbol: str
    sequenceStart: int
    sequenceEnd: int
    changes: _Changes
    time: int = 0  # ms; none before 2023


class _FuturesUpdate(msgspec.Struct, gc=False):
    """`/contractMarket/level2`: one level. {"sequence":18,"change":"5000.0,sell,83","timestamp":1551770400000}"""

    sequence: int
    change: str
    timestamp: int


class _Top(msgspec.Struct, gc=False):
    """`level2Depth5`, `level2Depth50`; the symbol is in the topic. Sizes of futures are numbers.

    {"asks":[["9989","8"]],"bids":[["9988","8"]],"timestamp":1586948108193}
    """

    asks: Raw
    bids: Raw
    timestamp: int


class _Level1(msgspec.Struct, gc=False):
    """`/spotMarket/level1`.

    {"asks":["68145.8","0.51987471"],"bids":["68145.7","1.29267802"],"timestamp":1729816058766}
    """

    asks: list[str]
    bids: list[str]
    timestamp: int


class _Match(msgspec.Struct, gc=False):
    """`/market/match`.

    {"symbol":"DAPPT-BTC","sequence":"1612701563869","side":"buy","size":"81.8814","price":"0.0000001117",
     "time":"1619378327739050725","type":"match","tradeId":"6085c09769bc506996295e36"}
    """

    symbol: str
    side: str  # the taker's
    size: str
    price: str
    time: str  # ns
    tradeId: str


class _Execution(msgspec.Struct, gc=False):
    """`/contractMarket/execution`, in contracts.

    {"symbol":"XBTUSDTM","sequence":1794100537695,"side":"buy","size":2,"price":"62550.4","tradeId":"1794100537695",
     "ts":1729822542000000000}
    """

    symbol: str
    side: str
    price: Raw
    tradeId: str
    ts: int  # ns
    size: Raw = EMPTY
    matchSize: Raw = EMPTY


class _Ticker(msgspec.Struct, gc=False):
    """`/market/ticker`. Its best bid and offer are left to `level1`, which is ten times as fast.

    {"sequence":"1612844051653","bestAsk":"0.00028717","bestBid":"0.00028678","price":"0.00028676","size":"0.01745248",
     "time":1619378326323}
    """

    price: str
    time: int  # ms


class _TickerV2(msgspec.Struct, gc=False):
    """`/contractMarket/tickerV2`.

    {"symbol":"XBTUSDTM","sequence":1794100537695,"bestBidSize":2,"bestBidPrice":"62550.3","bestAskPrice":"62550.4",
     "bestAskSize":721,"ts":1729822542000000000}
    """

    symbol: str
    sequence: int
    bestBidPrice: str
    bestBidSize: Raw
    bestAskPrice: str
    bestAskSize: Raw
    ts: int  # ns


class _Candles(msgspec.Struct, gc=False):
    """`/market/candles`: start (s), open, close, high, low, volume, turnover.

    {"symbol":"DAPPT-BTC","candles":["1619378280","0.0000001117","0.0000001123","0.0000001123","0.0000001117",
     "3437.9375","0.00038556424505"],"time":1619378328806720268}
    """

    symbol: str
    candles: tuple[str, str, str, str, str, str, str]
    time: int  # ns


class _MarkIndex(msgspec.Struct, gc=False):
    """`/contract/instrument`, mark.index.price.

    {"granularity":1000,"indexPrice":4000.23,"markPrice":4010.52,"timestamp":1551770400000}
    """

    markPrice: Raw
    indexPrice: Raw
    timestamp: int


class _FundingRate(msgspec.Struct, gc=False):
    """`/contract/instrument`, funding.rate. {"granularity":60000,"fundingRate":-0.002966,"timestamp":1551770400000}"""

    fundingRate: Raw
    timestamp: int


class _Obu(msgspec.Struct, gc=False):
    """`obu` of UTA. {"s":"XBTUSDTM","O":101,"C":105,"M":1790000000000000000,"b":[["86198","166"]],"a":[]}"""

    s: str
    C: int
    O: int = -1  # noqa: E741  # as the exchange names it
    M: int = 0  # matched, ns
    b: Raw = EMPTY
    a: Raw = EMPTY


class _Book(msgspec.Struct):
    """A book of REST. That of futures has times in ns and a number as sequence.

    {"time":1619378326628,"sequence":"1613277183892","bids":[["242.649","5"]],"asks":[]}
    """

    sequence: int | str
    bids: Raw
    asks: Raw
    time: int = 0
    ts: int = 0


class _Reply(msgspec.Struct):
    code: str
    data: Raw = EMPTY
    msg: str = ""


class _Server(msgspec.Struct):
    endpoint: str


class _Token(msgspec.Struct):
    """{"token":"2neAiuYvAU61...","instanceServers":[{"endpoint":"wss://ws-api-spot.kucoin.com/","pingInterval":18000}]}"""

    token: str
    instanceServers: Annotated[list[_Server], msgspec.Meta(min_length=1)]


class _Ticket(msgspec.Struct):
    data: _Token


class _Entries(msgspec.Struct):
    data: list[Raw]


class _Entry(msgspec.Struct):
    """A symbol of `/api/v2/symbols`, or a contract of `/api/v1/contracts/active`, whose sizes are numbers."""

    symbol: str
    baseCurrency: str
    quoteCurrency: str
    priceIncrement: str = ""
    baseIncrement: str = ""
    tickSize: Raw = EMPTY
    lotSize: Raw = EMPTY
    multiplier: Raw = EMPTY  # coins of a contract; below 0: it is of that many USD
    expireDate: int | None = None  # ms; null for perpetuals


_decode_message = msgspec.json.Decoder(_Message).decode
_decode_update = msgspec.json.Decoder(_Update).decode
_decode_futures_update = msgspec.json.Decoder(_FuturesUpdate).decode
_decode_top = msgspec.json.Decoder(_Top).decode
_decode_level1 = msgspec.json.Decoder(_Level1).decode
_decode_match = msgspec.json.Decoder(_Match).decode
_decode_execution = msgspec.json.Decoder(_Execution).decode
_decode_ticker = msgspec.json.Decoder(_Ticker).decode
_decode_ticker_v2 = msgspec.json.Decoder(_TickerV2).decode
_decode_candles = msgspec.json.Decoder(_Candles).decode
_decode_mark_index = msgspec.json.Decoder(_MarkIndex).decode
_decode_funding_rate = msgspec.json.Decoder(_FundingRate).decode
_decode_obu = msgspec.json.Decoder(_Obu).decode
_decode_rows = msgspec.json.Decoder(list[list[str]]).decode
_decode_book = msgspec.json.Decoder(_Book).decode
_decode_reply = msgspec.json.Decoder(_Reply).decode
_decode_ticket = msgspec.json.Decoder(_Ticket).decode
_decode_entries = msgspec.json.Decoder(_Entries).decode
_decode_entry = msgspec.json.Decoder(_Entry).decode


# --- decoder --------------------------------------------------------------------------------------


class KucoinDecoder(MessageDecoder):
    """Decodes spot and futures."""

    silent_kinds: ClassVar[dict[str, str]] = {
        "welcome": "the connection stands",
        "pong": "the answer to our ping",
        "ack": "a subscription is confirmed",
    }
    levels = LevelShape(skip_zero_price=True)
    large_arrays = (("bids", levels), ("asks", levels))
    supersede_keys = (
        *(b'{"type":"message","topic":"%s:*",...}' % topic for topic in STATE_TOPICS),
        *(b'{"topic":"%s:*","type":"message",...}' % topic for topic in STATE_TOPICS),
    )

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._obu: dict[str, tuple[str, str]] = {}  # raw symbol -> (trade type, depth) of the obu that keeps its book

    def decode_message(self, payload: bytes) -> None:
        message = _decode_message(payload)
        if message.type == "message":
            self._decode_data(message)
        elif message.channel.startswith("obu."):
            self._decode_obu(message)
        elif message.type in ("welcome", "pong", "ack"):
            self.nothing(message.type)
        elif message.type == "error":
            self.refused(f"code {message.code}: {bytes(message.data).decode()}")
        elif message.result is not None:
            if message.result:
                self.nothing("ack")
            else:
                self.refused(message.message)
        else:
            raise self.error("unknown_message", f"expected a known type, found {message.type or message.channel!r}")

    def decode_snapshot(self, tag: str, payload: bytes) -> None:
        reply = _decode_reply(payload)
        if reply.code != "200000":
            raise self.error("unknown_reply", f"expected the book of {tag}, found code {reply.code}: {reply.msg}")
        book = _decode_book(reply.data)
        if bytes(book.bids) == bytes(book.asks) == b"[]":  # futures have sent such
            raise self.error("unknown_reply", f"expected the book of {tag}, found an empty one")
        if (instrument := self.find(tag)) is not None:
            ts = book.time or book.ts
            self.book(
                instrument,
                book.bids,
                book.asks,
                is_snapshot=True,
                last_id=int(book.sequence),
                ts_event=unix_ns(ts) if ts else 0,
            )

    def request_snapshot(self, instrument: Instrument) -> None:
        """Get one by REST (100 levels of spot: those beyond are not known), but subscribe anew to `obu`."""
        name = instrument.raw_symbol
        obu = self._obu.get(name)
        if obu is None:
            spot, futures = "/api/v1/market/orderbook/level2_100", f"{FUTURES_REST}/api/v1/level2/snapshot"
            self.request(Fetch(f"{spot if '-' in name else futures}?symbol={name}", name))
            return
        arg = {"channel": "obu", "tradeType": obu[0], "symbol": name, "depth": obu[1]}
        messages = tuple(
            msgspec.json.encode({"id": name, "action": action} | arg) for action in ("UNSUBSCRIBE", "SUBSCRIBE")
        )
        self.request(Resubscribe(messages, name))

    def infer(self, raw_symbol: str) -> tuple[str | None, str]:
        return name_of(raw_symbol)

    def _decode_data(self, message: _Message) -> None:
        channel, _, names = message.topic.partition(":")
        data = message.data
        if channel == "/market/level2":
            self._decode_update(data)
        elif channel == "/contractMarket/level2":
            self._decode_futures_update(names, data)
        elif channel.endswith(("/level2Depth5", "/level2Depth50")):
            top = _decode_top(data)
            if (instrument := self.find(names)) is not None:
                self.book(
                    instrument,
                    top.bids,
                    top.asks,
                    is_snapshot=True,
                    depth=int(channel.partition("Depth")[2]),
                    ts_event=ms_ns(top.timestamp),
                )
        elif channel == "/spotMarket/level1":
            best = _decode_level1(data)
            if (instrument := self.find(names)) is not None:
                bid, ask = (side[:2] if side else ("", "") for side in (best.bids, best.asks))
                self.quote(instrument, *bid, *ask, ts_event=ms_ns(best.timestamp))
        elif channel == "/market/match":
            match = _decode_match(data)
            if (instrument := self.find(match.symbol)) is not None:
                self.trade(
                    instrument,
                    match.price,
                    match.size,
                    side=SIDES[match.side],
                    id=match.tradeId,
                    ts_event=unix_ns(match.time),
                )
        elif channel == "/contractMarket/execution":
            fill = _decode_execution(data)
            if (instrument := self.find(fill.symbol)) is not None:
                self.trade(
                    instrument,
                    fill.price,
                    fill.size or fill.matchSize,
                    side=SIDES[fill.side],
                    id=fill.tradeId,
                    ts_event=unix_ns(fill.ts),
                )
        elif channel == "/market/ticker":
            ticker = _decode_ticker(data)
            name = message.subject if names == "all" else names
            if (instrument := self.find(name)) is not None:
                self.ticker(instrument, last_price=ticker.price, ts_event=ms_ns(ticker.time))
        elif channel == "/contractMarket/tickerV2":
            self._decode_ticker_v2(data)
        elif channel == "/market/candles":
            self._decode_candles(names, data)
        elif channel == "/contract/instrument":
            self._decode_instrument(message.subject, names, data)
        else:
            raise self.error("unknown_message", f"expected a known topic, found {message.topic!r}")

    def _decode_update(self, data: Raw) -> None:
        update = _decode_update(data)
        if (instrument := self.find(update.symbol)) is not None:
            self.book(
                instrument,
                update.changes.bids,
                update.changes.asks,
                first_id=update.sequenceStart,
                last_id=update.sequenceEnd,
                ts_event=ms_ns(update.time),
            )

    def _decode_futures_update(self, name: str, data: Raw) -> None:
        update = _decode_futures_update(data)
        price, side, size = update.change.split(",")
        if (instrument := self.find(name)) is not None:
            level = [(price, size)]
            is_bid = SIDES[side] is Side.BUY
            self.book(
                instrument,
                level if is_bid else [],
                [] if is_bid else level,
                first_id=update.sequence,
                last_id=update.sequence,
                ts_event=ms_ns(update.timestamp),
            )

    def _decode_ticker_v2(self, data: Raw) -> None:
        ticker = _decode_ticker_v2(data)
        if (instrument := self.find(ticker.symbol)) is not None:
            self.quote(
                instrument,
                ticker.bestBidPrice,
                ticker.bestBidSize,
                ticker.bestAskPrice,
                ticker.bestAskSize,
                sequence=ticker.sequence,
                ts_event=unix_ns(ticker.ts),
            )

    def _decode_candles(self, names: str, data: Raw) -> None:
        candles = _decode_candles(data)
        length = re.fullmatch(r"(\d+)(\w+)", names.rpartition("_")[2])
        if length is None:
            raise self.error("bad_value", f"expected <symbol>_<interval>, found {names!r}")
        if (instrument := self.find(candles.symbol)) is not None:
            start, open_, close, high, low, volume, turnover = candles.candles
            self.candle(
                instrument,
                ts_open=unix_ns(start),
                interval=int(length[1]) * CANDLE_UNITS[length[2]],
                open=open_,
                high=high,
                low=low,
                close=close,
                volume=volume,
                quote_volume=turnover,
                ts_event=unix_ns(candles.time),
            )

    def _decode_instrument(self, subject: str, name: str, data: Raw) -> None:
        if subject == "mark.index.price":
            prices = _decode_mark_index(data)
            if (instrument := self.find(name)) is not None:
                self.ticker(
                    instrument,
                    mark_price=prices.markPrice,
                    index_price=prices.indexPrice,
                    ts_event=ms_ns(prices.timestamp),
                )
        elif subject == "funding.rate":
            rate = _decode_funding_rate(data)
            if (instrument := self.find(name)) is not None:
                self.funding(instrument, funding_rate=rate.fundingRate, ts_event=ms_ns(rate.timestamp))
        else:
            raise self.error("unknown_message", f"expected a known subject, found {subject!r}")

    def _decode_obu(self, message: _Message) -> None:
        if message.t not in ("snapshot", "delta"):
            raise self.error("bad_value", f"expected t snapshot or delta, found {message.t!r}")
        book = _decode_obu(message.d)
        if message.t == "delta" and book.O < 0:
            raise self.error("missing_field", "expected 'O' in a delta")
        instrument = self.find(book.s)
        if instrument is None:
            return
        ts = unix_ns(book.M) if book.M else 0
        if message.dp == "1":
            bids, asks = (_decode_rows(side or b"[]") for side in (book.b, book.a))
            bid, ask = (side[0][:2] if side else ("", "") for side in (bids, asks))
            self.quote(instrument, *bid, *ask, sequence=book.C, ts_event=ts)
            return
        depth = int(message.dp) if message.dp.isdecimal() else 0
        if not depth:
            self._obu[book.s] = (message.channel.partition(".")[2], message.dp)
        self.book(
            instrument,
            book.b,
            book.a,
            is_snapshot=depth > 0 or message.t == "snapshot",
            depth=depth,
            first_id=book.O,
            last_id=book.C,
            ts_event=ts,
        )


def name_of(raw_symbol: str) -> tuple[str | None, str]:
    """Return (our symbol, kind) of BTC-USDT or a perpetual, XBTUSDTM, XBTUSDM. Dated futures name no day."""
    base, dash, quote = raw_symbol.partition("-")
    if dash and base and quote:
        return f"{_ours(base)}-{_ours(quote)}", "spot"
    for suffix, quote in (("USDTM", "USDT"), ("USDCM", "USDC"), ("USDM", "USD")):
        if not dash and raw_symbol.endswith(suffix) and raw_symbol != suffix:
            return f"{_ours(raw_symbol.removesuffix(suffix))}-{quote}-PERP", "perpetual"
    return None, "unknown"


def _ours(currency: str) -> str:
    return OUR_CURRENCIES.get(currency, currency)


# --- exchange -------------------------------------------------------------------------------------


class Kucoin(Exchange):
    """KuCoin."""

    id = "kucoin"
    endpoints = Endpoints(ws="wss://ws-api-spot.kucoin.com", rest="https://api.kucoin.com")
    channels = ("book", "book_top", "quote", "trade", "ticker", "funding", "candle")
    decoder = KucoinDecoder
    new_sequence = ContiguousSequence
    instruments_urls = ("/api/v2/symbols", f"{FUTURES_REST}/api/v1/contracts/active")
    heartbeat = Heartbeat(18.0, b'{"id":"ping","type":"ping"}')  # closed after 60 s without, even while data flow
    max_topics_per_connection = 300
    max_connections = 800
    connection_limits = (RateLimit(250, 300),)
    request_limits = (RateLimit(500, 30),)  # unconfirmed: 2000 of public weight, of which a snapshot takes up to 4
    max_topics_per_message = 100
    urls = re.compile(r"//(push-private|ws-api-(spot|futures)|x-push-(spot|futures)|api|api-futures)\.kucoin\.com\b")
    messages = re.compile(
        rb'"topic":"/((spot|contract)?[mM]arket/(level[12]|ticker|match|candles|execution)|contract/instrument)'
        rb'|^\{"T":"obu\.'
    )

    def reply_tag(self, url: str) -> str | None:
        parts = urlsplit(url)
        is_book = re.search(r"/(orderbook/level2(_100)?|level2/snapshot)$", parts.path)
        return parse_qs(parts.query).get("symbol", [None])[0] if is_book else None

    def list_instruments(self, payload: bytes) -> Iterable[Any]:
        return _decode_entries(payload).data

    def add_instrument(self, entry: Any, instruments: Instruments) -> None:
        found = _decode_entry(entry)
        name = f"{_ours(found.baseCurrency)}-{_ours(found.quoteCurrency)}"
        if not found.multiplier:
            instruments.add(
                self.id,
                found.symbol,
                symbol=name,
                kind="spot",
                tick_size=found.priceIncrement,
                lot_size=found.baseIncrement,
            )
            return
        symbol, kind = f"{name}-PERP", "perpetual"
        if found.expireDate:
            day = datetime.fromtimestamp(found.expireDate / 1000, timezone.utc)
            symbol, kind = f"{name}-{day:%Y%m%d}", "future"
        instruments.add(
            self.id,
            found.symbol,
            symbol=symbol,
            kind=kind,
            tick_size=bytes(found.tickSize).decode(),
            lot_size=bytes(found.lotSize).decode(),
            contract_size=bytes(found.multiplier).decode().lstrip("-"),
        )

    def topics(self, instrument: Instrument, channel: str) -> Sequence[Topic]:
        name = instrument.raw_symbol
        if instrument.kind == "spot":
            topics = {
                "book": "/market/level2",
                "book_top": "/spotMarket/level2Depth50",
                "quote": "/spotMarket/level1",
                "trade": "/market/match",
                "ticker": "/market/ticker",
                "candle": "/market/candles",
            }
            asked = f"{name}_1min" if channel == "candle" else name
            return [Topic(SPOT, f"{topics[channel]}:{asked}")] if channel in topics else []
        topics = {
            "book": "/contractMarket/level2",
            "book_top": "/contractMarket/level2Depth50",
            "quote": "/contractMarket/tickerV2",
            "trade": "/contractMarket/execution",
            "ticker": "/contract/instrument",
            "funding": "/contract/instrument",
        }
        return [Topic(FUTURES, f"{topics[channel]}:{name}")] if channel in topics else []

    def subscribe_messages(self, path: str, args: Sequence[Any]) -> list[bytes]:
        return self._requests("subscribe", args)

    def unsubscribe_messages(self, path: str, args: Sequence[Any]) -> list[bytes]:
        return self._requests("unsubscribe", args)

    def _requests(self, kind: str, args: Sequence[Any]) -> list[bytes]:
        names: dict[str, list[str]] = {}
        for arg in args:
            channel, _, name = arg.partition(":")
            names.setdefault(channel, []).append(name)
        topics = [
            f"{channel}:{','.join(found[at : at + self.max_topics_per_message])}"
            for channel, found in names.items()
            for at in range(0, len(found), self.max_topics_per_message)
        ]
        return [
            msgspec.json.encode(
                {"id": str(number), "type": kind, "topic": topic, "privateChannel": False, "response": True}
            )
            for number, topic in enumerate(topics, 1)
        ]

    def connection(self, path: str, args: Sequence[Any]) -> ConnectionPlan:
        host = FUTURES_REST if path == FUTURES else ""
        ticket = Fetch(f"{host}/api/v1/bullet-public", "ticket", b"{}")
        return msgspec.structs.replace(super().connection(path, args), ticket=ticket, awaits_greeting=True)

    def ticket_url(self, plan: ConnectionPlan, reply: bytes) -> str:
        try:
            token = _decode_ticket(reply).data
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise DecodeError(f"{self.id}: expected a token: {error}", kind="wrong_type", payload=reply) from None
        return f"{token.instanceServers[0].endpoint}?token={token.token}&connectId=feeds"


EXCHANGE = Kucoin()
