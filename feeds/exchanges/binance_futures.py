"""Binance USD-M futures: the protocol of `binance` with linked update ids, engine times and routes.

https://developers.binance.com/docs/derivatives/usds-margined-futures/websocket-market-streams
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar

import msgspec
from msgspec import Raw

from feeds.events import BookDelta, Event, Liquidation, Quote, Side, Ticker, Trade
from feeds.exchange import Endpoints, RateLimit
from feeds.exchanges.binance import AGG_TRADE, EMPTY, Binance, BinanceDecoder, Record, Symbol, partial_depths
from feeds.instrument import Instrument
from feeds.sequencing import LinkedSequence
from feeds.times import unix_ns
from feeds.wire import Wire

SIDES = {"BUY": Side.BUY, "SELL": Side.SELL}


class _FuturesDepth(msgspec.Struct, gc=False, kw_only=True):
    """Book changes, `<symbol>@depth[@0ms|@100ms|@500ms]`; partial depth has the same shape. Ids are exchange-global.

    {"e":"depthUpdate","E":1723161256299,"T":1723161256298,"s":"BTCUSDT","U":5123107832006,"u":5123107837557,
     "pu":5123107831937,"b":[["58710.20","0.014"]],"a":[["61800.30","2.510"]]}
    """

    e: Raw = EMPTY
    E: int
    T: int = 0  # matching-engine time
    s: str
    U: int
    u: int
    pu: int  # u of the previous message of this stream
    b: Raw
    a: Raw


class _FuturesBookTicker(msgspec.Struct, gc=False, kw_only=True):
    """Best bid and offer, `<symbol>@bookTicker`. COIN-M sends `u` first.

    {"e":"bookTicker","u":5123107839020,"s":"BTCUSDT","b":"61800.20","B":"2.507","a":"61800.30","A":"2.510",
     "T":1723161256313,"E":1723161256313}
    """

    e: Raw = EMPTY
    u: int
    s: str
    b: str
    B: str
    a: str
    A: str
    T: int = 0
    E: int = 0


class _FuturesTrade(msgspec.Struct, gc=False, kw_only=True):
    """One fill, `<symbol>@trade`, undocumented. Insurance fund and ADL fills are marked in `X` and are not trades.

    {"e":"trade","E":1723161256322,"T":1723161256322,"s":"BTCUSDT","t":5266583935,"p":"61800.30","q":"0.006",
     "X":"MARKET","m":false}
    """

    e: Raw = EMPTY
    E: Raw = EMPTY
    T: int
    s: str
    t: int
    p: str
    q: str
    X: str = "MARKET"
    m: bool


class _FuturesSnapshot(msgspec.Struct, gc=False):
    """The REST snapshot, `/fapi/v1/depth` and `/dapi/v1/depth`.

    {"lastUpdateId":5123107852948,"E":1723161256501,"T":1723161256493,"bids":[["61800.20","2.909"]],"asks":[]}
    """

    lastUpdateId: int
    bids: Raw
    asks: Raw
    E: int = 0
    T: int = 0


class _MarkPrice(Record, kw_only=True):
    """`<symbol>@markPrice[@1s]`, `!markPrice@arr[@1s]`. Contracts with a delivery day have no funding: `T` is 0.

    {"e":"markPriceUpdate","E":1562305380000,"s":"BTCUSDT","p":"11794.15000000","i":"11784.62659091",
     "P":"11784.25641265","r":"0.00038167","T":1562306400000}
    """

    E: int
    s: str
    p: str
    i: str | None = None  # index price: not on COIN-M, nor on USD-M of old
    r: str = ""
    T: int = 0

    @property
    def raw_symbol(self) -> str:
        return self.s

    def event(self, instrument: Instrument, ts_recv: int) -> Event:
        return Ticker(
            instrument,
            mark_price=self.p,
            index_price=self.i or None,
            funding_rate=self.r if self.r and self.T else None,
            next_funding_time=unix_ns(self.T),
            ts_event=unix_ns(self.E),
            ts_recv=ts_recv,
        )


class _Order(msgspec.Struct):
    s: str
    S: str
    q: str
    p: str
    T: int


class _ForceOrder(Record, kw_only=True):
    """`<symbol>@forceOrder`, `!forceOrder@arr`: the order that closes the position. At most one per symbol and second.

    {"e":"forceOrder","E":1568014460893,"o":{"s":"BTCUSDT","S":"SELL","o":"LIMIT","f":"IOC","q":"0.014","p":"9910",
     "ap":"9910","X":"FILLED","l":"0.014","z":"0.014","T":1568014460893}}
    """

    o: _Order

    @property
    def raw_symbol(self) -> str:
        return self.o.s

    def event(self, instrument: Instrument, ts_recv: int) -> Event:
        order = self.o
        if order.S not in SIDES:
            raise ValueError(f"expected a side among {', '.join(SIDES)}, found {order.S!r}")
        return Liquidation(
            instrument, price=order.p, qty=order.q, side=SIDES[order.S], ts_event=unix_ns(order.T), ts_recv=ts_recv
        )


def _depth(*, is_snapshot: bool = False, depth: int = 0) -> Wire:
    return Wire(
        _FuturesDepth,
        BookDelta,
        ts_publish="E",
        ts_event="T",
        first_id="U",
        last_id="u",
        previous_id="pu",
        bids="b",
        asks="a",
        is_snapshot=is_snapshot,
        depth=depth,
    )


DEPTH = _depth()
BOOK_TICKER = Wire(
    _FuturesBookTicker,
    Quote,
    sequence="u",
    bid_price="b",
    bid_qty="B",
    ask_price="a",
    ask_qty="A",
    ts_event="T",
    ts_publish="E",
)
TRADE = Wire(
    _FuturesTrade,
    Trade,
    ts_event="T",
    trade_id="t",
    price="p",
    qty="q",
    only=("X", "MARKET"),
    buyer_is_maker="m",
)
SNAPSHOT = Wire(
    _FuturesSnapshot,
    BookDelta,
    last_id="lastUpdateId",
    ts_publish="E",
    ts_event="T",
    bids="bids",
    asks="asks",
    is_snapshot=True,
)


class BinanceFuturesDecoder(BinanceDecoder):
    """Decodes what USD-M and COIN-M send."""

    wires: ClassVar[dict[str, Wire]] = {
        "depth": DEPTH,
        "bookTicker": BOOK_TICKER,
        "trade": TRADE,
        "aggTrade": AGG_TRADE,
    }
    wires |= partial_depths(lambda n: _depth(is_snapshot=True, depth=n))
    wires_by_event: ClassVar[dict[str, Wire]] = {
        "depthUpdate": DEPTH,
        "bookTicker": BOOK_TICKER,
        "trade": TRADE,
        "aggTrade": AGG_TRADE,
    }
    records: ClassVar[dict[str, type[Record]]] = BinanceDecoder.records | {
        "markPriceUpdate": _MarkPrice,
        "forceOrder": _ForceOrder,
    }
    st = 1
    snapshot: ClassVar[Wire] = SNAPSHOT
    snapshot_url = "/fapi/v1/depth?symbol={symbol}&limit=1000"


class BinanceFutures(Binance):
    """Binance USD-M futures."""

    id = "binance-futures"
    endpoints = Endpoints(ws="wss://fstream.binance.com", rest="https://fapi.binance.com")
    instruments_urls = ("/fapi/v1/exchangeInfo",)
    urls = re.compile(r"//(fstream|fapi)\.binance\.com\b")
    new_sequence = LinkedSequence
    decoder = BinanceFuturesDecoder
    channels = ("book", "book_top", "quote", "trade", "agg_trade", "ticker", "liquidation", "candle")
    streams_of: ClassVar[dict[str, tuple[str, ...]]] = {
        "book": ("depth@0ms",),
        "book_top": ("depth20@100ms",),
        "quote": ("bookTicker",),
        "trade": ("aggTrade",),  # @trade is undocumented here and was seen silent; recordings of it are decoded
        "agg_trade": ("aggTrade",),
        "ticker": ("ticker", "markPrice@1s"),
        "liquidation": ("forceOrder",),
        "candle": ("kline_1m",),
    }
    # Since 2026: a subscription on the wrong route is acknowledged and stays silent.
    path_of: ClassVar[dict[str, str]] = {
        "book": "/public/stream",
        "book_top": "/public/stream",
        "quote": "/public/stream",
        "trade": "/market/stream",
        "agg_trade": "/market/stream",
        "ticker": "/market/stream",
        "liquidation": "/market/stream",
        "candle": "/market/stream",
    }
    message_interval = 0.125  # seconds: 10 client messages per second are allowed
    request_limits = (RateLimit(2400, 60),)  # USD-M and COIN-M together
    depth_weights: Sequence[tuple[int, float]] = ((50, 2), (100, 5), (500, 10), (1000, 20))
    list_weight = 1.0

    def name(self, symbol: Symbol) -> tuple[str, str]:
        name = f"{symbol.baseAsset}-{symbol.quoteAsset}"
        _, _, delivery = symbol.symbol.partition("_")
        if delivery and delivery != "PERP":
            return "future", f"{name}-{delivery}"
        return "perpetual", f"{name}-PERP"


EXCHANGE = BinanceFutures()
