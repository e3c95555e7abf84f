"""dYdX v4, as its Indexer tells of the chain's perpetuals; and v3, the exchange before it, for recordings.

https://docs.dydx.xyz/indexer-client/websockets
"""

from __future__ import annotations

import re
from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence
from decimal import Decimal
from operator import attrgetter
from typing import Any, ClassVar

import msgspec
from msgspec import Raw

from feeds.decoder import Resubscribe
from feeds.errors import DecodeError
from feeds.events import Side
from feeds.exchange import ConnectionPlan, Endpoints, Exchange, Older, Topic
from feeds.instrument import Instrument, Instruments
from feeds.message_decoder import MessageDecoder
from feeds.sequencing import ReorderedCounter
from feeds.times import iso_ns

EMPTY = Raw(b"")
SIDES = {"BUY": Side.BUY, "SELL": Side.SELL}
INTERVALS = {
    "1MIN": 60,
    "5MINS": 300,
    "15MINS": 900,
    "30MINS": 1800,
    "1HOUR": 3600,
    "4HOURS": 14_400,
    "1DAY": 86_400,
}
# So many messages after the answer to a subscription may be in another order than they are numbered in: 14 were seen.
SETTLING = 64


# --- wire messages --------------------------------------------------------------------------------


class _Message(msgspec.Struct):
    """Whatever arrives. `message_id` counts the messages of the connection, whatever they are.

    {"type":"channel_data","connection_id":"8605..","message_id":5814,"id":"GRT-USD","channel":"v4_orderbook",
     "version":"1.0.0","contents":{"bids":[["11.21","0"]]}}
    {"type":"error","message":"Invalid subscription: ...","connection_id":"8605..","message_id":1}
    """

    type: str
    message_id: int = -1
    channel: str = ""
    id: str = ""
    contents: Raw = EMPTY
    message: str = ""


class _Level(msgspec.Struct, gc=False):
    """A level of a snapshot. {"price":"0.1547","size":"35520"} {"size":"6.2","offset":"2693487298","price":"1"}"""

    price: str
    size: str
    offset: str = "0"  # v3


class _Snapshot(msgspec.Struct, gc=False):
    bids: list[_Level] = []
    asks: list[_Level] = []


class _Changes(msgspec.Struct, gc=False):
    """Levels that changed; a side without any may be missing. {"bids":[["11.21","0"]]}"""

    bids: list[tuple[str, str]] = []
    asks: list[tuple[str, str]] = []
    offset: str = "0"  # v3


class _Trade(msgspec.Struct, gc=False):
    """{"id":"00ab","size":"0.1","price":"4215.6","side":"BUY","createdAt":"2026-09-21T18:03:51.833Z","type":"LIMIT"}"""

    side: str  # the taker's
    size: str
    price: str
    createdAt: str
    id: str | None = None
    type: str = ""
    createdAtHeight: str = "0"


class _Trades(msgspec.Struct, gc=False):
    trades: list[_Trade]


class _Market(msgspec.Struct, gc=False):
    """What is sent of a market: after the snapshot only what has changed.

    {"ticker":"BTC-USD","oraclePrice":"61077.75","openInterest":"5885.4242","nextFundingRate":"0.0000191279"}
    """

    oraclePrice: str | None = None
    openInterest: str | None = None
    nextFundingRate: str | None = None
    effectiveAt: str = ""  # of an oracle price


class _Markets(msgspec.Struct, gc=False):
    """{"markets":{ID:{...}}}, later {"trading":{ID:{...}},"oraclePrices":{ID:{...}}}."""

    markets: dict[str, _Market] = {}
    trading: dict[str, _Market] = {}
    oraclePrices: dict[str, _Market] = {}


class _Candle(msgspec.Struct, gc=False):
    """{"startedAt":"2026-09-21T18:03:00.000Z","ticker":"BTC-USD","resolution":"1MIN","low":"1","high":"3","open":"1",
    "close":"2","baseTokenVolume":"0.5","usdVolume":"1.5","trades":2,"startingOpenInterest":"4"}"""

    startedAt: str
    resolution: str
    open: str
    high: str
    low: str
    close: str
    baseTokenVolume: str
    usdVolume: str


class _Candles(msgspec.Struct, gc=False):
    candles: list[_Candle]


class _Listed(msgspec.Struct):
    """A market of `/v4/perpetualMarkets`. {"ticker":"BTC-USD","tickSize":"1","stepSize":"0.0001","status":"ACTIVE"}"""

    tickSize: str
    stepSize: str


class _Listing(msgspec.Struct):
    markets: dict[str, Raw]


_decode_message = msgspec.json.Decoder(_Message).decode
_decode_snapshot = msgspec.json.Decoder(_Snapshot).decode
_decode_changes = msgspec.json.Decoder(_Changes).decode
_decode_trades = msgspec.json.Decoder(_Trades).decode
_decode_markets = msgspec.json.Decoder(_Markets).decode
_decode_candle = msgspec.json.Decoder(_Candle).decode
_decode_candles = msgspec.json.Decoder(_Candles).decode
_decode_batch = msgspec.json.Decoder(list[Raw]).decode
_decode_listing = msgspec.json.Decoder(_Listing).decode
_decode_listed = msgspec.json.Decoder(_Listed).decode

_number = attrgetter("message_id")
_Pairs = list[tuple[str, str]]
# A message of a channel, cut off or not.
_DATA = re.compile(rb'^\{"type":"(subscribed|channel_data|channel_batch_data)"')
_SILENT = {
    "connected": "the greeting",
    "unsubscribed": "a subscription is ended",
}


# --- levels ---------------------------------------------------------------------------------------


class _Side:
    """The levels of one side with the stamp of the message that changed each, and their prices in order."""

    def __init__(self) -> None:
        self.levels: dict[Decimal, tuple[Decimal, int]] = {}  # price -> (size, stamp)
        self.prices: list[Decimal] = []

    def set(self, price: Decimal, size: Decimal, stamp: int) -> None:
        """Set a level; a size of 0 removes it."""
        if size:
            if price not in self.levels:
                insort(self.prices, price)
            self.levels[price] = size, stamp
        elif self.levels.pop(price, None) is not None:
            del self.prices[bisect_left(self.prices, price)]


class Uncrossing:
    """What a book needs to be uncrossed: validators see orders at different times, and the Indexer tells of them all.

    While the best bid is not below the best ask, of these two levels

    1. the one that was changed longer ago, by the number of the message, is removed;
    2. where one message changed both, the smaller one is removed and its size taken off the other, or both are.

    https://docs.dydx.xyz/interaction/data/watch-orderbook
    """

    def __init__(self) -> None:
        self.bids, self.asks = _Side(), _Side()

    def apply(self, bids: _Pairs, asks: _Pairs, stamp: int) -> tuple[_Pairs, _Pairs]:
        """Take levels of the message `stamp`; return them followed by those that uncrossing changes."""
        bids, asks = list(bids), list(asks)
        sides = [(self.bids, _numbers(bids)), (self.asks, _numbers(asks))]  # all are read before any is set
        for side, levels in sides:
            for price, size in levels:
                side.set(price, size, stamp)
        while self.bids.prices and self.asks.prices and self.bids.prices[-1] >= self.asks.prices[0]:
            bid, ask = self.bids.prices[-1], self.asks.prices[0]
            (bid_size, bid_stamp), (ask_size, ask_stamp) = self.bids.levels[bid], self.asks.levels[ask]
            bid_left = ask_left = Decimal(0)
            if bid_stamp > ask_stamp:
                bid_left = bid_size
            elif ask_stamp > bid_stamp:
                ask_left = ask_size
            else:
                bid_left, ask_left = max(bid_size - ask_size, bid_left), max(ask_size - bid_size, ask_left)
            self.bids.set(bid, bid_left, bid_stamp)
            self.asks.set(ask, ask_left, ask_stamp)
            bids.append((f"{bid:f}", f"{bid_left:f}"))
            asks.append((f"{ask:f}", f"{ask_left:f}"))
        return bids, asks


def _numbers(pairs: _Pairs) -> list[tuple[Decimal, Decimal]]:
    levels = [(Decimal(price), Decimal(size)) for price, size in pairs]
    if not all(price.is_finite() and size.is_finite() and size >= 0 for price, size in levels):
        raise ValueError("expected prices and sizes of at least 0 as levels")
    return levels


# --- decoder --------------------------------------------------------------------------------------


class DydxDecoder(MessageDecoder):
    """Decodes v4.

    `uncrosses=False` hands out books as they are told, crossed at times: "crossed is what it is" instead of the remedy
    that dYdX describes.
    """

    # What cannot be read and names no other channel: where its number was read, no later message shows the loss.
    unnumbered = re.compile(_DATA.pattern + rb'(?!.*"channel":"v\d_(?!orderbook"))', re.DOTALL)
    silent_kinds: ClassVar[dict[str, str]] = _SILENT | {
        "held": "one that is numbered below it has not come",
        "block height": "the chain's height, which is no market data",
        "nothing changed": "a message of a book without contents",
    }
    prefix = "v4"
    keeps_order = True  # messages that overtook another wait for it: what is in between may be of their book

    def __init__(self, *arguments: Any, uncrosses: bool = True, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.uncrosses = uncrosses
        self.counter = ReorderedCounter()
        self._settling = SETTLING  # messages that are still to come until all have to be in order
        self._held: list[_Message] = []  # by their numbers, never more than SETTLING
        self._levels_of: dict[str, Uncrossing] = {}  # raw symbol -> levels

    def decode_message(self, payload: bytes) -> None:
        try:
            message = _decode_message(payload)
        except msgspec.DecodeError:
            if _DATA.match(payload):  # it is taken for the next one, which would be waited for
                self.counter.follows(self.counter.last + 1, SETTLING)
            raise
        self._count(message)
        if self.keeps_order and (self._held or self.counter.awaited):
            self._decode_in_order(message)
        else:
            self._decode_one(message)

    def request_snapshot(self, instrument: Instrument) -> None:
        name = instrument.raw_symbol
        self._settling = SETTLING
        topic = {"channel": f"{self.prefix}_orderbook", "id": name}
        self.request(Resubscribe((_request("unsubscribe", topic), _request("subscribe", topic)), name))

    def infer(self, raw_symbol: str) -> tuple[str | None, str]:
        return name_of(raw_symbol)

    def _decode_in_order(self, message: _Message) -> None:
        """Decode what has all messages before it, at last or because no more is awaited."""
        insort(self._held, message, key=_number)
        if len(self._held) > SETTLING:  # their numbers repeat
            self.lost(f"{len(self._held)} messages waited for those numbered {sorted(self.counter.awaited)}")
            self.counter.awaited.clear()
        awaited = min(self.counter.awaited, default=None)
        ready = len(self._held) if awaited is None else bisect_left(self._held, awaited, key=_number)
        due, self._held = self._held[:ready], self._held[ready:]
        if not due:
            self.nothing("held")
        for before, one in zip((None, *due), due, strict=False):
            if before is not None and one.message_id > before.message_id + 1:
                self.lost(f"messages are missing before message_id {one.message_id}")
            try:
                self._decode_one(one)
            except (ArithmeticError, DecodeError, LookupError, TypeError, ValueError) as error:
                self.lost("a message could not be read")
                self.defer("bad_value", f"message_id {one.message_id}: {error}")

    def _decode_one(self, message: _Message) -> None:
        if message.type == "subscribed":
            self._decode_contents(message, message.contents, is_first=True)
        elif message.type == "channel_data":
            self._decode_contents(message, message.contents, is_first=False)
        elif message.type == "channel_batch_data":
            for contents in _decode_batch(message.contents):
                self._decode_contents(message, contents, is_first=False)
        elif message.type in ("connected", "unsubscribed"):
            self.nothing(message.type)
        elif message.type == "error":
            self.refused(message.message)
        else:
            raise self.error("unknown_message", f"expected a known type, found {message.type!r}")

    def _count(self, message: _Message) -> None:
        """Compare the connection's counter, which all channels share."""
        if message.message_id < 0:
            return
        self._settling = SETTLING if message.type in ("connected", "subscribed") else max(self._settling - 1, 0)
        before = self.counter.missed
        if not self.counter.follows(message.message_id, SETTLING if self._settling else 0):
            self.lost(f"{self.counter.missed - before} messages before message_id {message.message_id} did not come")

    def _decode_contents(self, message: _Message, contents: Raw, *, is_first: bool) -> None:
        channel = message.channel
        if channel == "v4_orderbook":
            if (instrument := self.find(message.id)) is not None:
                self._decode_book(instrument, message, contents, is_first=is_first)
        elif channel == "v4_trades":
            if (instrument := self.find(message.id)) is not None:
                self._decode_trades(instrument, contents, is_backlog=is_first)
        elif channel == "v4_markets":
            self._decode_markets(contents)
        elif channel == "v4_candles":
            if (instrument := self.find(message.id.partition("/")[0])) is not None:
                self._decode_candles(instrument, contents, is_first=is_first)
        elif channel == "v4_block_height":
            self.nothing("block height")
        else:
            raise self.error("unknown_message", f"expected a known channel, found {channel!r}")

    def _decode_book(self, instrument: Instrument, message: _Message, contents: Raw, *, is_first: bool) -> None:
        bids: _Pairs
        asks: _Pairs
        if not contents:
            self.nothing("nothing changed")
            return
        if is_first:
            snapshot = _decode_snapshot(contents)
            bids, asks = ([(level.price, level.size) for level in side] for side in (snapshot.bids, snapshot.asks))
            self._levels_of.pop(message.id, None)
        else:
            changes = _decode_changes(contents)
            bids, asks = changes.bids, changes.asks
        if self.uncrosses:
            levels = self._levels_of.setdefault(message.id, Uncrossing())
            bids, asks = levels.apply(bids, asks, message.message_id)
        self.book(instrument, bids, asks, is_snapshot=is_first)

    def _decode_trades(self, instrument: Instrument, contents: Raw, *, is_backlog: bool) -> None:
        trades = _decode_trades(contents).trades
        if is_backlog:  # in no certain order
            trades.sort(key=lambda trade: (int(trade.createdAtHeight), trade.createdAt, trade.id or ""))
        for trade in trades:
            side, ts = SIDES[trade.side], iso_ns(trade.createdAt)
            self.trade(instrument, trade.price, trade.size, side=side, id=trade.id, ts_event=ts, is_backlog=is_backlog)
            if trade.type == "LIQUIDATED" and not is_backlog:
                self.liquidation(instrument, trade.price, trade.size, side=side, id=trade.id, ts_event=ts)

    def _decode_markets(self, contents: Raw) -> None:
        found = _decode_markets(contents)
        for markets in (found.markets, found.trading, found.oraclePrices):
            for name, market in markets.items():
                if market.oraclePrice is market.openInterest is market.nextFundingRate is None:
                    continue
                if (instrument := self.find(name)) is not None:
                    self.ticker(
                        instrument,
                        merge=True,
                        index_price=market.oraclePrice,
                        open_interest=market.openInterest,
                        funding_rate=market.nextFundingRate,
                        ts_event=iso_ns(market.effectiveAt) if market.effectiveAt else 0,
                    )

    def _decode_candles(self, instrument: Instrument, contents: Raw, *, is_first: bool) -> None:
        candles = _decode_candles(contents).candles if is_first else [_decode_candle(contents)]
        for candle in sorted(candles, key=lambda candle: candle.startedAt):
            self.candle(
                instrument,
                ts_open=iso_ns(candle.startedAt),
                interval=INTERVALS[candle.resolution],
                open=candle.open,
                high=candle.high,
                low=candle.low,
                close=candle.close,
                volume=candle.baseTokenVolume,
                quote_volume=candle.usdVolume,
            )


class DydxV3Decoder(DydxDecoder):
    """Decodes v3: a level has the offset of the message that changed it, and messages come in any order.

    A level is set only by a message whose offset is above that of the one before, which for removed levels is kept too.
    """

    prefix = "v3"
    keeps_order = False  # levels have it

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, uncrosses=False, **options)
        self._offsets: dict[str, tuple[dict[str, int], dict[str, int]]] = {}  # raw symbol -> price -> offset
        self.stale = 0  # levels that were newer already

    def _decode_contents(self, message: _Message, contents: Raw, *, is_first: bool) -> None:
        instrument = self.find(message.id)
        if instrument is None:
            return
        if message.channel == "v3_orderbook":
            self._decode_offsets(instrument, contents, is_first=is_first)
        elif message.channel == "v3_trades":
            self._decode_trades(instrument, contents, is_backlog=is_first)
        else:
            raise self.error("unknown_message", f"expected a known channel, found {message.channel!r}")

    def _decode_offsets(self, instrument: Instrument, contents: Raw, *, is_first: bool) -> None:
        if is_first:
            snapshot = _decode_snapshot(contents)
            sides = [
                [(one.price, one.size, int(one.offset)) for one in side] for side in (snapshot.bids, snapshot.asks)
            ]
            offsets = self._offsets[instrument.raw_symbol] = ({}, {})
        else:
            changes = _decode_changes(contents)
            offset = int(changes.offset)
            sides = [[(price, size, offset) for price, size in side] for side in (changes.bids, changes.asks)]
            offsets = self._offsets.setdefault(instrument.raw_symbol, ({}, {}))
        bids, asks = (self._newer(side, known) for side, known in zip(sides, offsets, strict=True))
        self.book(instrument, bids, asks, is_snapshot=is_first)

    def _newer(self, levels: list[tuple[str, str, int]], offsets: dict[str, int]) -> _Pairs:
        newer = []
        for price, size, offset in levels:
            if offset > offsets.get(price, -1):
                offsets[price] = offset
                newer.append((price, size))
            else:
                self.stale += 1
        return newer


def _request(kind: str, topic: dict[str, Any]) -> bytes:
    return msgspec.json.encode({"type": kind, **topic})


def name_of(raw_symbol: str) -> tuple[str | None, str]:
    """Return (our symbol, kind): all are perpetuals. Ids of markets that anybody may list are taken as they are."""
    return f"{raw_symbol}-PERP", "perpetual"


# --- exchange -------------------------------------------------------------------------------------


class Dydx(Exchange):
    """dYdX v4. `uncrosses=False`: see `DydxDecoder`."""

    id = "dydx"
    copies_differ = "messages are numbered anew on each connection (message_id)"
    endpoints = Endpoints(ws="wss://indexer.dydx.trade", rest="https://indexer.dydx.trade")
    channels = ("book", "trade", "ticker", "liquidation", "candle")
    decoder: type[DydxDecoder] = DydxDecoder
    instruments_urls = ("/v4/perpetualMarkets",)
    max_topics_per_connection = 32  # of one channel; so few of all serves every mix
    max_topics_per_message = 1
    message_interval = 0.1
    resubscribe_interval = 1.0  # two subscriptions a second, the first one counted; a third ends the connection
    urls = re.compile(r"//(indexer\.dydx\.trade|indexer\.v4testnet\.dydx\.exchange|api\.dydx\.exchange)\b")
    messages = re.compile(rb'^\{"type":"(subscribed|channel_data|channel_batch_data)",.{0,120}"channel":"v[34]_')

    def __init__(self, *, uncrosses: bool = True) -> None:
        self.uncrosses = uncrosses

    def new_decoder(self, instruments: Instruments, downstream: Any, *, reference: bool = False) -> DydxDecoder:
        return self.decoder(instruments, downstream, exchange=self.id, reference=reference, uncrosses=self.uncrosses)

    def list_instruments(self, payload: bytes) -> Iterable[Any]:
        return _decode_listing(payload).markets.items()

    def add_instrument(self, entry: Any, instruments: Instruments) -> None:
        raw_symbol, market = entry
        listed = _decode_listed(market)
        symbol, kind = name_of(raw_symbol)
        instruments.add(
            self.id, raw_symbol, symbol=symbol, kind=kind, tick_size=listed.tickSize, lot_size=listed.stepSize
        )

    def topics(self, instrument: Instrument, channel: str) -> Sequence[Topic]:
        name = instrument.raw_symbol
        arg = {
            "book": {"channel": "v4_orderbook", "id": name},
            "trade": {"channel": "v4_trades", "id": name},
            "liquidation": {"channel": "v4_trades", "id": name},
            "ticker": {"channel": "v4_markets"},
            "candle": {"channel": "v4_candles", "id": f"{name}/1MIN"},
        }[channel]
        return [Topic("/v4/ws", arg)]

    def subscribe_message(self, path: str, args: Sequence[Any], number: int) -> bytes:
        return _request("subscribe", args[0])

    def unsubscribe_message(self, path: str, args: Sequence[Any], number: int) -> bytes:
        return _request("unsubscribe", args[0])

    def connection(self, path: str, args: Sequence[Any]) -> ConnectionPlan:
        return msgspec.structs.replace(super().connection(path, args), awaits_greeting=True)


class DydxV3(Dydx):
    """dYdX v3, the exchange on StarkEx: for recordings."""

    decoder = DydxV3Decoder

    def new_decoder(self, instruments: Instruments, downstream: Any, *, reference: bool = False) -> DydxDecoder:
        return self.decoder(instruments, downstream, exchange=self.id, reference=reference)


EXCHANGE = Dydx()
EXCHANGE.older = (
    Older(DydxV3(), until=iso_ns("2023-10-26T00:00:00Z"), url=re.compile(r"//api(\.stage)?\.dydx\.exchange/v3/ws\b")),
)
