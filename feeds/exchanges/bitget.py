"""Bitget: spot and futures on one socket, v3 (UTA) for what it has, v2 for the rest. And the v1 of recordings.

https://www.bitget.com/api-doc/uta/websocket/public/Order-Book-Channel
https://www.bitget.com/api-doc/contract/websocket/public/Order-Book-Channel

The same name is traded as spot and as perpetual; what tells is the type. So a contract's raw symbol has it in front:
`BTCUSDT` is spot, `USDT-FUTURES:BTCUSDT` the perpetual.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any, ClassVar, TypeVar

import msgspec
from msgspec import Raw

from feeds.checksum import InterleavedChecksum, NumberText
from feeds.decoder import Resubscribe
from feeds.events import Side
from feeds.exchange import Endpoints, Exchange, Heartbeat, Older, RateLimit, Topic
from feeds.instrument import Instrument, Instruments
from feeds.levels import LevelShape
from feeds.message_decoder import MessageDecoder
from feeds.sequencing import RestartSequence
from feeds.times import iso_ns, ms_ns

V2 = "/v2/ws/public"
V3 = "/v3/ws/public"
EMPTY = Raw(b"")
SPOT = "SPOT"
COIN = "COIN-FUTURES"
COIN_SUFFIX = "_CM"  # of the names of coin-margined contracts on v3
SIDES = {"buy": Side.BUY, "sell": Side.SELL}
# In liquidations the side is the position's: closing a long is a sell.
CLOSING_SIDES = {"buy": Side.SELL, "sell": Side.BUY}
TOP_DEPTHS = {"books5": 5, "books15": 15, "books50": 50}
CANDLE_UNITS = {"m": 60, "H": 3600, "D": 86_400, "W": 604_800}
TYPES = {"USDT": "USDT-FUTURES", "USDC": "USDC-FUTURES", "USD": COIN}  # by the currency of quotes
V1_TYPES = {"SP": SPOT}  # v1 has one type for all contracts, MC


# --- wire messages --------------------------------------------------------------------------------


class _Arg(msgspec.Struct, omit_defaults=True):
    """What a message is about, as it was subscribed: `channel` and `instId` on v1, v2; `topic` and `symbol` on v3."""

    instType: str = ""
    channel: str = ""
    instId: str = ""
    topic: str = ""
    symbol: str = ""


class _Message(msgspec.Struct):
    """Whatever arrives: data, or an event about the connection.

    {"action":"snapshot","arg":{"instType":"USDT-FUTURES","channel":"books","instId":"MAVUSDT"},"data":[...],
     "ts":1789456511968}
    {"action":"update","arg":{"instType":"spot","topic":"books","symbol":"BTCUSDT"},"data":[...],"ts":1777358880013}
    {"event":"error","arg":{...},"code":30001,"msg":"..."}
    """

    event: str = ""
    action: str = ""  # snapshot, update
    arg: _Arg = msgspec.field(default_factory=_Arg)
    data: Raw = EMPTY
    code: int | str = 0
    msg: str = ""
    ts: int | str = 0  # sent, ms


class _Book(msgspec.Struct, gc=False):
    """`books` and its shorter kin. v2 calls the sides `bids` and `asks`, v3 `b` and `a`; v1 is v2 without ids.

    {"asks":[["0.01039","4499.23"]],"bids":[["0.01038","4311.15"]],"ts":"1789456510736","seq":427583461144,"pseq":0}
    {"a":[["76679.99","0"]],"b":[["76646.9","0.03914"]],"checksum":1153969492,"seq":451057502090,"pseq":451057497631,
     "ts":"1777358880011"}
    """

    ts: str
    bids: Raw = EMPTY
    asks: Raw = EMPTY
    b: Raw = EMPTY
    a: Raw = EMPTY
    seq: int = -1
    pseq: int = -1
    checksum: int = 0  # 0 in snapshots; gone by September 2026


class _Trade(msgspec.Struct, gc=False):
    """`trade` of v2. {"ts":"1695709835822","price":"26293.4","size":"0.0013","side":"buy","tradeId":"1000000000"}"""

    ts: str
    price: str
    size: str
    side: str  # the taker's
    tradeId: str


class _V3Trade(msgspec.Struct, gc=False):
    """`publicTrade` of v3. {"i":"1432912488536195072","p":"76671.22","v":"0.001367","S":"sell","T":"1777358880170"}"""

    T: str
    p: str
    v: str
    S: str  # the taker's
    i: str


class _Ticker(msgspec.Struct, gc=False):
    """`ticker` of v2. Its best bid and offer are left to `books1`, which is faster.

    {"instId":"BTCUSDT","lastPr":"87673.6","markPrice":"87673.7","indexPrice":"87714.7","fundingRate":"0.000005",
     "nextFundingTime":"1767628800000","holdingAmount":"29505.06","ts":"1767593899104"}
    """

    lastPr: str
    ts: str
    markPrice: str = ""
    indexPrice: str = ""
    fundingRate: str = ""
    nextFundingTime: str = "0"
    holdingAmount: str = ""


class _V3Ticker(msgspec.Struct, gc=False):
    """`ticker` of v3; its time is the message's.

    {"lastPrice":"87673.6","markPrice":"87673.7","indexPrice":"87714.7","fundingRate":"0.000005",
     "nextFundingTime":"1767628800000","openInterest":"29505.06"}
    """

    lastPrice: str
    markPrice: str = ""
    indexPrice: str = ""
    fundingRate: str = ""
    nextFundingTime: str = "0"
    openInterest: str = ""


class _V1Ticker(msgspec.Struct, gc=False):
    """`ticker` of v1. Its best bid and offer were rounded: they are no quote.

    {"instId":"DASHUSDT","last":"113.370","bestAsk":"113.41","bestBid":"113.36","capitalRate":"-0.000100",
     "nextSettleTime":1649314800000,"systemTime":1649290077309,"markPrice":"113.381","indexPrice":"113.427",
     "holding":"21957.17"}
    {"instId":"CULTUSDT","last":"0.00003511","bestBid":"0.000036","bestAsk":"0.000036","ts":1649290076193}
    """

    last: str
    ts: int = 0  # spot
    systemTime: int = 0  # contracts
    markPrice: str = ""
    indexPrice: str = ""
    holding: str = ""
    capitalRate: str = ""
    nextSettleTime: int | None = None


class _Liquidation(msgspec.Struct, gc=False):
    """`liquidation` of v3, of every instrument of a type.

    {"symbol":"BTCUSDT","side":"sell","price":"87600.1","amount":"0.5","ts":"1767593899104"}
    """

    symbol: str
    side: str  # the position's
    price: str
    amount: str
    ts: str


class _Reply(msgspec.Struct):
    """A REST reply. {"code":"00000","msg":"success","requestTime":1649290075822,"data":[...]}"""

    data: list[Raw]


class _Entry(msgspec.Struct):
    """A symbol of `/api/v2/spot/public/symbols`, which has precisions, or a contract of `/api/v2/mix/market/contracts`.

    {"symbol":"BTCUSDT","baseCoin":"BTC","quoteCoin":"USDT","pricePrecision":"2","quantityPrecision":"6"}
    {"symbol":"BTCUSDT","baseCoin":"BTC","quoteCoin":"USDT","symbolType":"perpetual","pricePlace":"1","priceEndStep":"1",
     "volumePlace":"3","sizeMultiplier":"0.001","deliveryTime":""}
    """

    symbol: str
    baseCoin: str
    quoteCoin: str
    pricePrecision: str = ""
    quantityPrecision: str = ""
    symbolType: str = ""
    pricePlace: str = ""
    priceEndStep: str = "1"
    sizeMultiplier: str | None = None
    deliveryTime: str = ""  # ms; "" for perpetuals


_decode_message = msgspec.json.Decoder(_Message).decode
_decode_books = msgspec.json.Decoder(list[_Book]).decode
_decode_trades = msgspec.json.Decoder(list[_Trade]).decode
_decode_v3_trades = msgspec.json.Decoder(list[_V3Trade]).decode
_decode_tickers = msgspec.json.Decoder(list[_Ticker]).decode
_decode_v3_tickers = msgspec.json.Decoder(list[_V3Ticker]).decode
_decode_v1_tickers = msgspec.json.Decoder(list[_V1Ticker]).decode
_decode_liquidations = msgspec.json.Decoder(list[_Liquidation]).decode
_decode_rows = msgspec.json.Decoder(list[list[str]]).decode
_decode_reply = msgspec.json.Decoder(_Reply).decode
_decode_entry = msgspec.json.Decoder(_Entry).decode

_T = TypeVar("_T")


# --- decoder --------------------------------------------------------------------------------------


class BitgetDecoder(MessageDecoder):
    """Decodes v2 and v3."""

    silent_kinds: ClassVar[dict[str, str]] = {
        "pong": "the answer to our ping",
        "ack": "a subscription is confirmed",
        "foreign": "liquidations come for all instruments of a type",
    }
    supersede_keys = tuple(
        form % channel
        for channel in (b"books1", b"books5", b"books15")
        for form in (
            b'{"action":"snapshot","arg":{"instType":"*","channel":"%s","instId":"*"},"data":[{...}',
            b'{"action":"snapshot","arg":{"instType":"*","topic":"%s","symbol":"*"},"data":[{...}',
        )
    )

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._book_args: dict[str, _Arg] = {}  # raw symbol -> how its book was subscribed

    def decode_message(self, payload: bytes) -> None:
        if payload == b"pong":
            self.nothing("pong")
            return
        message = _decode_message(payload)
        if message.event:
            self._decode_event(message)
            return
        if message.action not in ("snapshot", "update"):
            raise self.error("bad_value", f"expected action snapshot or update, found {message.action!r}")
        arg = message.arg
        channel = arg.channel or arg.topic
        if channel == "liquidation":
            self._decode_liquidations(arg, message.data)
            return
        if channel not in ("trade", "publicTrade", "ticker") and not channel.startswith(("books", "candle")):
            raise self.error("unknown_message", f"expected a known channel, found {channel!r}")
        instrument = self.find(self.raw_symbol(arg))
        if instrument is None:
            return
        if channel == "books":
            self._book_args[instrument.raw_symbol] = arg
            self._decode_books(instrument, message)
        elif channel == "books1":
            self._decode_quotes(instrument, message.data)
        elif channel in TOP_DEPTHS:
            self._decode_top(instrument, message.data, TOP_DEPTHS[channel])
        elif channel == "ticker":
            self.decode_tickers(instrument, message)
        elif channel.startswith("candle"):
            self._decode_candles(instrument, channel, message.data)
        elif channel in ("trade", "publicTrade"):
            self.decode_trades(instrument, message)
        else:
            raise self.error("unknown_message", f"expected a known channel, found {channel!r}")

    def request_snapshot(self, instrument: Instrument) -> None:
        name = instrument.raw_symbol
        arg = self._book_args.get(name) or _arg_of(instrument, "books")
        self.request(Resubscribe((_request("unsubscribe", [arg]), _request("subscribe", [arg])), name))

    def infer(self, raw_symbol: str) -> tuple[str | None, str]:
        return name_of(raw_symbol)

    def raw_symbol(self, arg: _Arg) -> str:
        """Return our raw symbol of what a message is about."""
        name, kind = arg.instId or arg.symbol, arg.instType.upper()
        return name if kind == SPOT else f"{kind}:{name.removesuffix(COIN_SUFFIX) if kind == COIN else name}"

    def decode_trades(self, instrument: Instrument, message: _Message) -> None:
        """Decode trades; those of a snapshot happened before the subscription."""
        rows: list[tuple[str, str, str, str, str]]
        if message.arg.topic:
            rows = [(t.T, t.p, t.v, t.S, t.i) for t in _decode_v3_trades(message.data)]
        else:
            rows = [(t.ts, t.price, t.size, t.side, t.tradeId) for t in _decode_trades(message.data)]
        for ts, price, qty, side, trade_id in _oldest_first(rows):
            self.trade(
                instrument,
                price,
                qty,
                side=SIDES[side],
                id=trade_id,
                ts_event=ms_ns(ts),
                is_backlog=message.action == "snapshot",
            )

    def decode_tickers(self, instrument: Instrument, message: _Message) -> None:
        """Decode tickers; spot has no more than the last price."""
        if message.arg.topic:
            for new in _decode_v3_tickers(message.data):
                self._ticker(
                    instrument,
                    new.lastPrice,
                    new.markPrice,
                    new.indexPrice,
                    new.openInterest,
                    new.fundingRate,
                    new.nextFundingTime,
                    message.ts,
                )
        else:
            for one in _decode_tickers(message.data):
                self._ticker(
                    instrument,
                    one.lastPr,
                    one.markPrice,
                    one.indexPrice,
                    one.holdingAmount,
                    one.fundingRate,
                    one.nextFundingTime,
                    one.ts,
                )

    def _ticker(
        self,
        instrument: Instrument,
        last: str,
        mark: str,
        index: str,
        interest: str,
        rate: str,
        due: str,
        ts: int | str,
    ) -> None:
        is_spot = instrument.kind == "spot" or ":" not in instrument.raw_symbol
        self.ticker(
            instrument,
            last_price=last,
            mark_price=None if is_spot else mark,
            index_price=None if is_spot else index,
            open_interest=None if is_spot else interest,
            funding_rate=None if is_spot else rate,
            next_funding_time=None if is_spot or due in ("", "0") else ms_ns(due),
            ts_event=ms_ns(ts),
        )

    def _decode_event(self, message: _Message) -> None:
        if message.event in ("subscribe", "unsubscribe"):
            self.nothing("ack")
        elif message.event == "error":
            arg = message.arg
            self.refused(
                f"code {message.code}: {message.msg} {arg.channel or arg.topic} {arg.instId or arg.symbol}".rstrip()
            )
        else:
            raise self.error("unknown_message", f"expected a known event, found {message.event!r}")

    def _decode_books(self, instrument: Instrument, message: _Message) -> None:
        for book in _decode_books(message.data):
            bids, asks = self._sides(book)
            self.book(
                instrument,
                bids,
                asks,
                is_snapshot=message.action == "snapshot",
                first_id=book.seq,
                last_id=book.seq,
                previous_id=book.pseq,
                checksum=book.checksum or None,
                ts_event=ms_ns(book.ts),
            )

    def _decode_top(self, instrument: Instrument, data: Raw, depth: int) -> None:
        for book in _decode_books(data):
            bids, asks = self._sides(book)
            self.book(instrument, bids, asks, is_snapshot=True, depth=depth, last_id=book.seq, ts_event=ms_ns(book.ts))

    def _decode_quotes(self, instrument: Instrument, data: Raw) -> None:
        for book in _decode_books(data):
            bids, asks = (_decode_rows(side) for side in self._sides(book))
            bid_price, bid_qty = bids[0][:2] if bids else ("", "")
            ask_price, ask_qty = asks[0][:2] if asks else ("", "")
            sequence = max(book.seq, 0)
            self.quote(instrument, bid_price, bid_qty, ask_price, ask_qty, sequence=sequence, ts_event=ms_ns(book.ts))

    def _sides(self, book: _Book) -> tuple[Raw, Raw]:
        bids, asks = book.bids or book.b, book.asks or book.a
        if not bids or not asks:
            raise self.error("missing_field", "expected bids and asks, or b and a, in a book")
        return bids, asks

    def _decode_liquidations(self, arg: _Arg, data: Raw) -> None:
        for one in _decode_liquidations(data):
            name = self.raw_symbol(_Arg(arg.instType, symbol=one.symbol))
            if self.instruments.known(self.exchange, name) is None and not self.instruments.infers(self.exchange):
                self.nothing("foreign")
            elif (instrument := self.find(name)) is not None:
                self.liquidation(
                    instrument, one.price, one.amount, side=CLOSING_SIDES[one.side], ts_event=ms_ns(one.ts)
                )

    def _decode_candles(self, instrument: Instrument, channel: str, data: Raw) -> None:
        interval = int(channel[6:-1]) * CANDLE_UNITS[channel[-1]]
        for ts, open_, high, low, close, volume, *rest in _decode_rows(data):
            self.candle(
                instrument,
                ts_open=ms_ns(ts),
                interval=interval,
                open=open_,
                high=high,
                low=low,
                close=close,
                volume=volume,
                quote_volume=rest[0] if rest else None,  # none on v1
            )


class BitgetV1Decoder(BitgetDecoder):
    """Decodes v1: books without ids, whose checksums are of the numbers as they stand in the message."""

    levels = LevelShape(padded=True)

    def raw_symbol(self, arg: _Arg) -> str:
        kind = arg.instType.upper()
        if kind == "SP":
            return arg.instId
        if kind != "MC":
            raise self.error("bad_value", f"expected instType sp or mc, found {arg.instType!r}")
        return f"{COIN if arg.instId.endswith('USD') else 'USDT-FUTURES'}:{arg.instId}"

    def decode_trades(self, instrument: Instrument, message: _Message) -> None:
        for ts, price, qty, side in _oldest_first([(row[0], *row[1:4]) for row in _decode_rows(message.data)]):
            self.trade(
                instrument,
                price,
                qty,
                side=SIDES[side],
                ts_event=ms_ns(ts),
                is_backlog=message.action == "snapshot",
            )

    def decode_tickers(self, instrument: Instrument, message: _Message) -> None:
        for one in _decode_v1_tickers(message.data):
            due = str(one.nextSettleTime or "")
            self._ticker(
                instrument,
                one.last,
                one.markPrice,
                one.indexPrice,
                one.holding,
                one.capitalRate,
                due,
                one.ts or one.systemTime,
            )


def _oldest_first(rows: list[_T]) -> list[_T]:
    """Return trades in the order in which they happened: a message has the newest first (measured on v1)."""
    return rows[::-1] if len(rows) > 1 and rows[0][0] > rows[-1][0] else rows  # type: ignore[index]


def _arg_of(instrument: Instrument, topic: str) -> _Arg:
    kind, _, name = instrument.raw_symbol.rpartition(":")
    return _Arg((kind or SPOT).lower(), topic=topic, symbol=name + COIN_SUFFIX if kind == COIN else name)


def _request(op: str, args: Sequence[Any]) -> bytes:
    return msgspec.json.encode({"op": op, "args": args})


def name_of(raw_symbol: str) -> tuple[str | None, str]:
    """Return (our symbol, kind): certain for perpetuals. Spot names do not say where the base ends."""
    kind, _, name = raw_symbol.rpartition(":")
    if not kind:
        return None, "spot"
    if not name.isalnum():
        return None, "unknown"
    for inst_type, suffix, quote in (
        ("USDT-FUTURES", "USDT", "USDT"),
        ("USDC-FUTURES", "PERP", "USDC"),
        (COIN, "USD", "USD"),
    ):
        if kind == inst_type and name.endswith(suffix) and name != suffix:
            return f"{name.removesuffix(suffix)}-{quote}-PERP", "perpetual"
    return None, "unknown"


# --- exchange -------------------------------------------------------------------------------------


class Bitget(Exchange):
    """Bitget."""

    id = "bitget"
    endpoints = Endpoints(ws="wss://ws.bitget.com", rest="https://api.bitget.com")
    channels = ("book", "book_top", "quote", "trade", "ticker", "liquidation", "candle")
    decoder: type[MessageDecoder] = BitgetDecoder
    new_sequence = RestartSequence
    checksum = InterleavedChecksum(levels=25, number_text=NumberText.SHORTEST)
    instruments_urls = (
        "/api/v2/spot/public/symbols",
        *(f"/api/v2/mix/market/contracts?productType={kind}" for kind in TYPES.values()),
    )
    heartbeat = Heartbeat(30.0, b"ping")  # closed after 2 minutes without, even while data flow
    max_topics_per_message = 10  # v3 drops messages with 25
    max_topics_per_connection = 50
    max_connections = 100
    message_limits = (RateLimit(240, 3600),)
    connection_limits = (RateLimit(300, 300),)
    urls = re.compile(r"//(ws|api)\.bitget\.com\b")
    messages = re.compile(rb'^\{"action":"(snapshot|update)","arg":\{"instType":"')

    def list_instruments(self, payload: bytes) -> Iterable[Any]:
        return _decode_reply(payload).data

    def add_instrument(self, entry: Any, instruments: Instruments) -> None:
        found = _decode_entry(entry)
        name = f"{found.baseCoin}-{found.quoteCoin}"
        if not found.symbolType:
            instruments.add(
                self.id,
                found.symbol,
                symbol=name,
                kind="spot",
                tick_size=f"1e-{int(found.pricePrecision)}",
                lot_size=f"1e-{int(found.quantityPrecision)}",
            )
            return
        if found.symbolType == "perpetual":
            symbol, kind = f"{name}-PERP", "perpetual"
        else:
            day = datetime.fromtimestamp(int(found.deliveryTime) / 1000, timezone.utc)
            symbol, kind = f"{name}-{day:%Y%m%d}", "future"
        instruments.add(
            self.id,
            f"{TYPES[found.quoteCoin]}:{found.symbol}",
            symbol=symbol,
            kind=kind,
            tick_size=Decimal(found.priceEndStep).scaleb(-int(found.pricePlace)),
            lot_size=found.sizeMultiplier or None,
        )

    def topics(self, instrument: Instrument, channel: str) -> Sequence[Topic]:
        kind, _, name = instrument.raw_symbol.rpartition(":")
        if channel == "candle":
            return [Topic(V2, _Arg(kind or SPOT, channel="candle1m", instId=name))]
        if channel == "liquidation":
            return [Topic(V3, _Arg(kind.lower(), topic="liquidation"))] if kind else []
        topics = {
            "book": "books",
            "book_top": "books5",
            "quote": "books1",
            "trade": "publicTrade",
            "ticker": "ticker",
        }
        return [Topic(V3, _arg_of(instrument, topics[channel]))]

    def subscribe_message(self, path: str, args: Sequence[Any], number: int) -> bytes:
        return _request("subscribe", args)

    def unsubscribe_message(self, path: str, args: Sequence[Any], number: int) -> bytes:
        return _request("unsubscribe", args)


class BitgetV1(Bitget):
    """Bitget as its API v1 spoke: for recordings."""

    decoder = BitgetV1Decoder
    checksum = InterleavedChecksum(levels=25, number_text=NumberText.PADDED)


EXCHANGE = Bitget()
EXCHANGE.older = (
    Older(BitgetV1(), until=iso_ns("2023-09-01T00:00:00Z"), url=re.compile(r"//ws\.bitget\.com/(spot|mix)/v1/stream")),
)
