"""Phemex: spot and coin-margined contracts in scaled integers, USDT- and USDC-margined contracts (`_p`) in text.

https://phemex-docs.github.io/
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any, ClassVar

import msgspec
from msgspec import Raw

from feeds.decoder import Resubscribe
from feeds.events import Side
from feeds.exchange import Endpoints, Exchange, Heartbeat, RateLimit, Topic
from feeds.instrument import Instrument, Instruments
from feeds.message_decoder import MessageDecoder
from feeds.sequencing import NonDecreasingSequence

EMPTY = Raw(b"")
SIDES = {"Buy": Side.BUY, "Sell": Side.SELL}
CONTRACT_SCALE = 4  # of prices of coin-margined contracts, which count contracts
SPOT_SCALE = 8  # of prices and quantities
RATE_SCALE = 8
SECOND = 1_000_000_000
# What the rows of `perp_market24h_pack_p.update` have, where the message does not say.
PACK_FIELDS = (
    "symbol",
    "openRp",
    "highRp",
    "lowRp",
    "lastRp",
    "volumeRq",
    "turnoverRv",
    "openInterestRv",
    "indexRp",
    "markRp",
    "fundingRateRr",
    "predFundingRateRr",
)


# --- wire messages --------------------------------------------------------------------------------


class _Error(msgspec.Struct):
    code: int = 0
    message: str = ""


class _Book(msgspec.Struct, gc=False):
    """{"asks":[["2763.87","0.06"]],"bids":[]} or, scaled, {"asks":[],"bids":[[345475000,14340]]}"""

    asks: Raw
    bids: Raw


class _Message(msgspec.Struct):
    """Whatever arrives: the key says what it is.

    {"book":{...},"depth":30,"sequence":9047872983,"symbol":"BTCUSD","timestamp":1625329629283990943,"type":"incremental"}
    {"depth":30,"dts":1790133513685489850,"mts":1790133513662974773,"orderbook_p":{...},"sequence":68604886383,
     "symbol":"ETHUSDT","timestamp":1790133513660305085,"type":"snapshot"}
    {"sequence":146074875,"symbol":"sSUSHIUSDT","trades":[[1625342244127840967,"Buy",769100000,168200000]],
     "type":"incremental"}
    {"kline":[[1625342220,60,329365000,329915000,329915000,329915000,329915000,133,4387869]],"sequence":17652788205,
     "symbol":"YFIUSD","type":"incremental"}
    {"error":{"code":6001,"message":"invalid argument"},"id":106,"result":null}
    """

    symbol: str = ""
    type: str = ""
    sequence: int = -1
    timestamp: int = 0  # ns, of the matching engine
    depth: int = 0  # levels of each side, 0: all
    book: _Book | None = None
    orderbook_p: _Book | None = None
    trades: Raw = EMPTY
    trades_p: Raw = EMPTY
    kline: Raw = EMPTY
    kline_p: Raw = EMPTY
    market24h: Raw = EMPTY
    spot_market24h: Raw = EMPTY
    tick: Raw = EMPTY
    tick_p: Raw = EMPTY
    method: str = ""
    fields: tuple[str, ...] = PACK_FIELDS
    data: Raw = EMPTY
    error: _Error | None = None
    result: Raw = EMPTY
    id: int | None = None


class _DayTicker(msgspec.Struct, gc=False):
    """`market24h`, scaled.

    {"close":345500000,"fundingRate":10000,"indexPrice":345400000,"markPrice":345450000,"openInterest":8137204,
     "predFundingRate":10000,"symbol":"BTCUSD"}
    """

    symbol: str
    close: int
    markPrice: int
    indexPrice: int
    openInterest: Raw
    fundingRate: int


class _SpotTicker(msgspec.Struct, gc=False):
    """`spot_market24h`, scaled. {"symbol":"sBTCUSDT","lastEp":3455000000000,"bidEp":1,"askEp":2}"""

    symbol: str
    lastEp: int


class _Product(msgspec.Struct):
    """A product. Sizes are numbers or text, some with their currency: "0.01 USDT"."""

    symbol: str
    type: str  # Perpetual, PerpetualV2, Spot; others have no market data
    status: str = ""
    baseCurrency: str = ""  # spot
    quoteCurrency: str = ""
    tickSize: Raw = EMPTY
    lotSize: Raw = EMPTY
    qtyStepSize: Raw = EMPTY
    contractSize: Raw = EMPTY
    quoteTickSize: Raw = EMPTY
    baseTickSize: Raw = EMPTY


class _Products(msgspec.Struct):
    products: list[Raw]
    perpProductsV2: list[Raw] = []


class _Listing(msgspec.Struct):
    """A reply of `/public/products`."""

    data: _Products


_decode_message = msgspec.json.Decoder(_Message).decode
_decode_trades = msgspec.json.Decoder(list[tuple[int, str, Raw, Raw]]).decode
_decode_candles = msgspec.json.Decoder(list[tuple[int, int, Raw, Raw, Raw, Raw, Raw, Raw, Raw]]).decode
_decode_texts = msgspec.json.Decoder(list[list[str]]).decode
_decode_day_ticker = msgspec.json.Decoder(_DayTicker).decode
_decode_spot_ticker = msgspec.json.Decoder(_SpotTicker).decode
_decode_listing = msgspec.json.Decoder(_Listing).decode
_decode_product = msgspec.json.Decoder(_Product).decode


# --- decoder --------------------------------------------------------------------------------------


class PhemexDecoder(MessageDecoder):
    """Decodes both families of channels."""

    unnumbered = re.compile(rb'^\{"(book|depth)":')  # `sequence` has holes
    silent_kinds: ClassVar[dict[str, str]] = {
        "ack": "a subscription is confirmed",
        "pong": "the answer to our ping",
        "tick": "an index by itself: tickers have mark and index price",
    }

    def decode_message(self, payload: bytes) -> None:
        message = _decode_message(payload)
        if message.symbol and not message.method:
            if (instrument := self.find(message.symbol)) is not None:
                self._decode_data(instrument, message)
        elif message.market24h:
            ticker = _decode_day_ticker(message.market24h)
            if (instrument := self.find(ticker.symbol)) is not None:
                self.ticker(
                    instrument,
                    last_price=_unscaled(ticker.close, CONTRACT_SCALE),
                    mark_price=_unscaled(ticker.markPrice, CONTRACT_SCALE),
                    index_price=_unscaled(ticker.indexPrice, CONTRACT_SCALE),
                    open_interest=ticker.openInterest,
                    funding_rate=_unscaled(ticker.fundingRate, RATE_SCALE),
                    ts_event=message.timestamp,
                )
        elif message.spot_market24h:
            spot = _decode_spot_ticker(message.spot_market24h)
            if (instrument := self.find(spot.symbol)) is not None:
                last = _unscaled(spot.lastEp, SPOT_SCALE)
                self.ticker(instrument, last_price=last, ts_event=message.timestamp)
        elif message.method == "perp_market24h_pack_p.update":
            self._decode_pack(message)
        elif message.tick or message.tick_p:
            self.nothing("tick")
        elif message.error is not None:
            self.refused(f"request {message.id}: code {message.error.code}: {message.error.message}")
        elif bytes(message.result) == b'"pong"':
            self.nothing("pong")
        elif message.result:
            self.nothing("ack")
        else:
            raise self.error("unknown_message", f"expected known keys, found method {message.method!r}")

    def request_snapshot(self, instrument: Instrument) -> None:
        """Subscribe again: to unsubscribe would end the books of all symbols."""
        name = instrument.raw_symbol
        self.request(Resubscribe((_request(*book_topic(name), 0),), name))

    def infer(self, raw_symbol: str) -> tuple[str | None, str]:
        return name_of(raw_symbol)

    def _decode_data(self, instrument: Instrument, message: _Message) -> None:
        price_scale, qty_scale = scales_of(instrument.raw_symbol)
        is_snapshot = message.type == "snapshot"
        if message.type not in ("snapshot", "incremental"):
            raise self.error("bad_value", f"expected type snapshot or incremental, found {message.type!r}")
        if (book := message.book or message.orderbook_p) is not None:
            self.book(
                instrument,
                book.bids,
                book.asks,
                is_snapshot=is_snapshot,
                window=message.depth,
                last_id=message.sequence,
                ts_event=message.timestamp,
                price_scale=price_scale,
                qty_scale=qty_scale,
            )
        elif rows := message.trades or message.trades_p:
            trades = _decode_trades(rows)
            for ts, side, price, qty in reversed(trades) if is_snapshot else trades:  # a snapshot: newest first
                self.trade(
                    instrument,
                    _text(price),
                    _text(qty),
                    side=SIDES[side],
                    ts_event=ts,
                    is_backlog=is_snapshot,
                    price_scale=price_scale,
                    qty_scale=qty_scale,
                )
        elif rows := message.kline or message.kline_p:
            self._decode_candles(instrument, rows, price_scale, qty_scale)
        else:
            raise self.error("unknown_message", "expected a book, trades or candles of a symbol")

    def _decode_candles(self, instrument: Instrument, rows: Raw, price_scale: int, qty_scale: int) -> None:
        for start, interval, _, *prices, volume, turnover in sorted(_decode_candles(rows), key=lambda row: row[0]):
            open_, high, low, close = (_unscaled(_text(price), price_scale) for price in prices)
            self.candle(
                instrument,
                ts_open=start * SECOND,
                interval=interval,
                open=open_,
                high=high,
                low=low,
                close=close,
                volume=_unscaled(_text(volume), qty_scale),
                # Of coin-margined contracts it is in the currency that they are settled in.
                quote_volume=None if price_scale == CONTRACT_SCALE else _unscaled(_text(turnover), qty_scale),
            )

    def _decode_pack(self, message: _Message) -> None:
        at = {name: index for index, name in enumerate(message.fields)}
        for row in _decode_texts(message.data):
            if (instrument := self.find(row[at["symbol"]])) is not None:
                self.ticker(
                    instrument,
                    last_price=row[at["lastRp"]],
                    mark_price=row[at["markRp"]],
                    index_price=row[at["indexRp"]],
                    open_interest=row[at["openInterestRv"]],
                    funding_rate=row[at["fundingRateRr"]],
                    ts_event=message.timestamp,
                )


def _text(value: Raw) -> str:
    """Return a JSON number or text as text."""
    return bytes(value).decode().strip('"')


def _unscaled(value: int | str, scale: int) -> int | str:
    """Return an integer in units of 10**-scale as a decimal number."""
    return f"{Decimal(value).scaleb(-scale):f}" if scale else value


def scales_of(raw_symbol: str) -> tuple[int, int]:
    """Return the scales of prices and quantities: of spot, coin-margined contracts, and those of the `_p` family."""
    if raw_symbol.startswith("s"):
        return SPOT_SCALE, SPOT_SCALE
    return (CONTRACT_SCALE, 0) if raw_symbol.endswith("USD") else (0, 0)


def book_topic(raw_symbol: str) -> tuple[str, list[Any]]:
    """Return what to subscribe for the whole book."""
    return _method("orderbook", raw_symbol), [raw_symbol, True]


def _method(channel: str, raw_symbol: str) -> str:
    return f"{channel}{'' if scales_of(raw_symbol)[0] else '_p'}.subscribe"


def _request(method: str, params: list[Any], number: int) -> bytes:
    return msgspec.json.encode({"id": number, "method": method, "params": params})


def name_of(raw_symbol: str) -> tuple[str | None, str]:
    """Return (our symbol, kind) of sBTCUSDT (spot), BTCUSD, cETHUSD, BTCUSDT, u1000PEPEUSDT. Case matters."""
    for quote in ("USDT", "USDC", "USD"):
        name = raw_symbol.removesuffix(quote)
        if name in (raw_symbol, ""):
            continue
        if name[0] == "s":
            return (f"{name[1:]}-{quote}", "spot") if name[1:] and quote != "USD" else (None, "unknown")
        if name[0] in "cu" and name[1:]:
            name = name[1:]
        return f"{name}-{quote}-PERP", "perpetual"
    return None, "unknown"


# --- exchange -------------------------------------------------------------------------------------


class Phemex(Exchange):
    """Phemex. Of the 20 subscriptions that a connection may have by the documentation 101 were seen to be served."""

    id = "phemex"
    endpoints = Endpoints(ws="wss://ws.phemex.com", rest="https://api.phemex.com")
    channels = ("book", "trade", "ticker", "candle")
    decoder = PhemexDecoder
    new_sequence = NonDecreasingSequence
    instruments_urls = ("/public/products",)
    heartbeat = Heartbeat(5.0, b'{"id":0,"method":"server.ping","params":[]}')
    message_interval = 0.1
    max_topics_per_connection = 20
    max_connections = 5
    connection_limits = (RateLimit(200, 300),)
    max_topics_per_message = 1  # a second symbol would be read as another parameter
    urls = re.compile(r"//((ws|vapi|api|testnet-api)\.)?phemex\.com\b")
    messages = re.compile(
        rb'^\{"(book|kline|kline_p)":.*"sequence":\d+,"symbol":"[^"]+"'
        rb'|^\{("depth":\d+,"dts":.*"orderbook_p":.*)?"sequence":\d+,"symbol":"[^"]+","(timestamp|trades|trades_p)":',
        re.DOTALL,
    )

    def list_instruments(self, payload: bytes) -> Iterable[Any]:
        found = _decode_listing(payload).data
        return [*found.products, *found.perpProductsV2]

    def add_instrument(self, entry: Any, instruments: Instruments) -> None:
        product = _decode_product(entry)
        if product.type not in ("Perpetual", "PerpetualV2", "Spot") or product.status not in ("", "Listed"):
            return
        symbol, kind = name_of(product.symbol)
        if product.type == "Spot":
            symbol, kind = f"{product.baseCurrency}-{product.quoteCurrency}", "spot"
        instruments.add(
            self.id,
            product.symbol,
            symbol=symbol,
            kind=kind,
            tick_size=_size(product.quoteTickSize or product.tickSize),
            lot_size=_size(product.baseTickSize or product.qtyStepSize or product.lotSize),
            contract_size=_size(product.contractSize),
        )

    def topics(self, instrument: Instrument, channel: str) -> Sequence[Topic]:
        name = instrument.raw_symbol
        tickers = {SPOT_SCALE: "spot_market24h", CONTRACT_SCALE: "market24h", 0: "perp_market24h_pack_p"}
        method, params = {
            "book": book_topic(name),
            "trade": (_method("trade", name), [name]),
            "candle": (_method("kline", name), [name, 60]),
            "ticker": (f"{tickers[scales_of(name)[0]]}.subscribe", []),
        }[channel]
        return [Topic("", [method, params])]

    def subscribe_message(self, path: str, args: Sequence[Any], number: int) -> bytes:
        method, params = args[0]
        return _request(method, params, number)


def _size(value: Raw) -> str | None:
    """Return the number of "0.01 USDT", 0.5 or "0.1"."""
    return _text(value).partition(" ")[0] or None


EXCHANGE = Phemex()
