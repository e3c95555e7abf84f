"""Coinbase Advanced Trade: the socket of 2023 for the market that `coinbase` serves too.

https://docs.cdp.coinbase.com/coinbase-app/advanced-trade-apis/websocket/websocket-channels
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, ClassVar

import msgspec
from msgspec import Raw

from feeds.decoder import Decoder, Resubscribe
from feeds.events import EventHandler, Side
from feeds.exchange import Endpoints, Exchange, RateLimit, Topic
from feeds.instrument import Instrument, Instruments
from feeds.large import LargeMessage
from feeds.levels import LevelShape
from feeds.message_decoder import MessageDecoder
from feeds.sequencing import ConnectionCounter
from feeds.times import iso_ns, seconds_ns

EMPTY = Raw(b"")
HEAD = 400  # bytes in which a message of one book says of which type it is
SIDES = {"BUY": Side.BUY, "SELL": Side.SELL}
OPPOSITE = {"BUY": Side.SELL, "SELL": Side.BUY}
CANDLE_INTERVAL = 300  # seconds: there are no others


# --- wire messages --------------------------------------------------------------------------------


class _Message(msgspec.Struct):
    """Whatever arrives. `sequence_num` counts all messages of the connection.

    {"channel":"l2_data","client_id":"","timestamp":"2026-04-07T14:30:00.123456Z","sequence_num":0,"events":[...]}
    {"type":"error","message":"..."}
    """

    channel: str = ""
    timestamp: str = ""
    sequence_num: int = -1
    events: Raw = EMPTY
    type: str = ""
    message: str = ""


class _Book(msgspec.Struct, gc=False):
    """`l2_data`, subscribed as `level2`.

    {"type":"update","product_id":"BTC-USD","updates":[{"side":"bid","event_time":"2026-04-07T14:30:01.456789Z",
     "price_level":"68900.00","new_quantity":"2.00000000"},{"side":"offer",...}]}
    """

    type: str
    product_id: str
    updates: Raw


class _Trade(msgspec.Struct, gc=False):
    trade_id: str
    product_id: str
    price: str
    size: str
    side: str
    time: str


class _Trades(msgspec.Struct, gc=False):
    """`market_trades`.

    {"type":"update","trades":[{"trade_id":"1","product_id":"ETH-USD","price":"1260.01","size":"0.3","side":"BUY",
     "time":"2019-08-14T20:42:27.265Z"}]}
    """

    type: str
    trades: list[_Trade]


class _Ticker(msgspec.Struct, gc=False):
    product_id: str
    price: str
    best_bid: str = ""  # not in `ticker_batch`
    best_bid_quantity: str | None = None
    best_ask: str = ""
    best_ask_quantity: str | None = None


class _Tickers(msgspec.Struct, gc=False):
    """`ticker` and, every 5 s, `ticker_batch`.

    {"type":"update","tickers":[{"product_id":"BTC-USD","price":"21932.98","best_bid":"21931.98",
     "best_bid_quantity":"8000.21","best_ask":"21933.98","best_ask_quantity":"8038.07"}]}
    """

    tickers: list[_Ticker]


class _Candle(msgspec.Struct, gc=False):
    product_id: str
    start: str  # seconds
    open: str
    high: str
    low: str
    close: str
    volume: str


class _Candles(msgspec.Struct, gc=False):
    """`candles`.

    {"type":"snapshot","candles":[{"start":"1688998200","high":"1867.72","low":"1865.63","open":"1867.38",
     "close":"1866.81","volume":"0.20269406","product_id":"ETH-USD"}]}
    """

    candles: list[_Candle]


class _Products(msgspec.Struct):
    """The reply of `/api/v3/brokerage/market/products`."""

    products: list[Raw]


class _Product(msgspec.Struct):
    product_id: str
    base_increment: str
    price_increment: str = ""
    quote_increment: str = ""
    alias: str = ""  # BTC-USDC is the market BTC-USD, and data of it name that


_decode_message = msgspec.json.Decoder(_Message).decode
_decode_books = msgspec.json.Decoder(list[_Book]).decode
_decode_trades = msgspec.json.Decoder(list[_Trades]).decode
_decode_tickers = msgspec.json.Decoder(list[_Tickers]).decode
_decode_candles = msgspec.json.Decoder(list[_Candles]).decode
_decode_products = msgspec.json.Decoder(_Products).decode
_decode_product = msgspec.json.Decoder(_Product).decode


# --- decoder --------------------------------------------------------------------------------------


class CoinbaseAdvancedDecoder(MessageDecoder):
    """Decodes the market data socket. Whose side the side of a trade is, `names_maker` says."""

    silent_kinds: ClassVar[dict[str, str]] = {
        "subscriptions": "what is subscribed, told after each change",
        "heartbeats": "sent every second; its number is one of the connection's",
        "status": "products, which we take from REST",
        "repeated": "its number is not above that of the message before: it was decoded already",
    }
    levels = LevelShape("price_level", "new_quantity", side="side", bid="bid", ask=("offer", "ask"))
    large_arrays = (("updates", levels),)
    _TIME = re.compile(rb'"event_time"\s*:\s*"([^"]+)"')

    def __init__(self, *arguments: Any, names_maker: bool = True, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._counter = ConnectionCounter()
        self._aggressors = OPPOSITE if names_maker else SIDES

    def decode_message(self, payload: bytes) -> None:
        message = _decode_message(payload)
        if message.sequence_num >= 0:
            repeated = self._counter.repeated
            if not self._counter.follows(message.sequence_num):
                self.lost(f"messages are missing before sequence_num {message.sequence_num}")
            if self._counter.repeated > repeated:
                self.nothing("repeated")
                return
        channel = message.channel
        if channel == "l2_data":
            self._decode_books(message)
        elif channel == "market_trades":
            self._decode_trades(message.events)
        elif channel in ("ticker", "ticker_batch"):
            self._decode_tickers(message)
        elif channel == "candles":
            self._decode_candles(message)
        elif channel in ("heartbeats", "subscriptions", "status"):
            self.nothing(channel)
        elif message.type == "error":
            self.refused(message.message)
        else:
            raise self.error("unknown_message", f"expected a known channel, found {channel or message.type!r}")

    def take_apart(self, payload: bytes) -> LargeMessage | None:
        # The time of an update is that of its newest level.
        return super().take_apart(payload) if b'"type":"snapshot"' in payload[:HEAD] else None

    def request_snapshot(self, instrument: Instrument) -> None:
        names = [instrument.raw_symbol]
        messages = (_request("unsubscribe", "level2", names), _request("subscribe", "level2", names))
        self.request(Resubscribe(messages, instrument.raw_symbol))

    def infer(self, raw_symbol: str) -> tuple[str | None, str]:
        return name_of(raw_symbol)

    def _decode_books(self, message: _Message) -> None:
        for book in _decode_books(message.events):
            if book.type not in ("snapshot", "update"):
                raise self.error("bad_value", f"expected type snapshot or update, found {book.type!r}")
            instrument = self.find(book.product_id)
            if instrument is None:
                continue
            is_snapshot = book.type == "snapshot"
            ts = 0 if is_snapshot else self._newest(book.updates)  # in snapshots of the levels, or of 1970
            self.book(instrument, book.updates, None, is_snapshot=is_snapshot, ts_event=ts or iso_ns(message.timestamp))

    def _newest(self, updates: Raw) -> int:
        return max((iso_ns(time.decode()) for time in self._TIME.findall(updates)), default=0)

    def _decode_trades(self, events: Raw) -> None:
        for event in _decode_trades(events):
            for trade in _oldest_first(event.trades):
                if (instrument := self.find(trade.product_id)) is not None:
                    self.trade(
                        instrument,
                        trade.price,
                        trade.size,
                        side=self._aggressors[trade.side],
                        id=trade.trade_id,
                        ts_event=iso_ns(trade.time),
                        is_backlog=event.type == "snapshot",
                    )

    def _decode_tickers(self, message: _Message) -> None:
        ts = iso_ns(message.timestamp)
        for event in _decode_tickers(message.events):
            for ticker in event.tickers:
                if (instrument := self.find(ticker.product_id)) is None:
                    continue
                if message.channel == "ticker":
                    self.quote(
                        instrument,
                        ticker.best_bid,
                        ticker.best_bid_quantity,
                        ticker.best_ask,
                        ticker.best_ask_quantity,
                        ts_event=ts,
                    )
                self.ticker(instrument, last_price=ticker.price, ts_event=ts)

    def _decode_candles(self, message: _Message) -> None:
        ts = iso_ns(message.timestamp)
        for event in _decode_candles(message.events):
            for candle in event.candles:
                if (instrument := self.find(candle.product_id)) is not None:
                    self.candle(
                        instrument,
                        ts_open=seconds_ns(candle.start),
                        interval=CANDLE_INTERVAL,
                        open=candle.open,
                        high=candle.high,
                        low=candle.low,
                        close=candle.close,
                        volume=candle.volume,
                        ts_event=ts,
                    )


def _oldest_first(trades: list[_Trade]) -> list[_Trade]:
    """Return trades in the order of time: those after a subscription come newest first."""
    is_reversed = len(trades) > 1 and iso_ns(trades[0].time) > iso_ns(trades[-1].time)
    return trades[::-1] if is_reversed else trades


def _request(kind: str, channel: str, products: Sequence[str] = ()) -> bytes:
    request: dict[str, Any] = {"type": kind, "channel": channel}
    if products:
        request["product_ids"] = list(products)
    return msgspec.json.encode(request)


def name_of(raw_symbol: str) -> tuple[str | None, str]:
    """Return (our symbol, kind) of BTC-USD, BTC-PERP-INTX (on USDC) or BIT-25SEP26-CDE (on USD, with its own code)."""
    match raw_symbol.split("-"):
        case [base, quote] if base and quote:
            return raw_symbol, "spot"
        case [base, "PERP", "INTX"] if base:
            return f"{base}-USDC-PERP", "perpetual"
        case [code, date, "CDE"] if code:
            try:
                return f"{code}-USD-{datetime.strptime(date, '%d%b%y'):%Y%m%d}", "future"
            except ValueError:
                pass
    return None, "unknown"


# --- exchange -------------------------------------------------------------------------------------


class CoinbaseAdvanced(Exchange):
    """Coinbase Advanced Trade.

    Sources disagree on whose side `market_trades` tells. `names_maker` True, the default, is what the other feed of
    this market measurably does; False takes it for the aggressor's.
    """

    id = "coinbase-advanced"
    copies_differ = "messages are numbered anew on each connection (sequence_num)"
    connection_limits = (RateLimit(8, 1),)
    endpoints = Endpoints(ws="wss://advanced-trade-ws.coinbase.com", rest="https://api.coinbase.com")
    channels = ("book", "quote", "trade", "ticker", "candle")
    decoder = CoinbaseAdvancedDecoder
    names_maker = True
    instruments_urls = ("/api/v3/brokerage/market/products",)
    urls = re.compile(r"//(advanced-trade-ws\.coinbase\.com\b|api\.coinbase\.com/api/v3/brokerage/)")
    messages = re.compile(
        rb'^\{"channel":"(l2_data|market_trades|ticker|ticker_batch|heartbeats)",("client_id":"[^"]*",)?"timestamp":"'
    )

    def new_decoder(self, instruments: Instruments, downstream: EventHandler, *, reference: bool = False) -> Decoder:
        return CoinbaseAdvancedDecoder(
            instruments, downstream, exchange=self.id, reference=reference, names_maker=self.names_maker
        )

    def list_instruments(self, payload: bytes) -> Iterable[Any]:
        return _decode_products(payload).products

    def add_instrument(self, entry: Any, instruments: Instruments) -> None:
        found = _decode_product(entry)
        if found.alias:  # no market of its own: subscribing to it brings data of the other
            return
        symbol, kind = name_of(found.product_id)
        instruments.add(
            self.id,
            found.product_id,
            symbol=symbol,
            kind=kind,
            tick_size=found.price_increment or found.quote_increment or None,
            lot_size=found.base_increment,
        )

    def topics(self, instrument: Instrument, channel: str) -> Sequence[Topic]:
        names = {
            "book": "level2",
            "quote": "ticker",
            "trade": "market_trades",
            "ticker": "ticker",
            "candle": "candles",
        }
        return [Topic("", (names[channel], instrument.raw_symbol))]

    def subscribe_messages(self, path: str, args: Sequence[Any]) -> list[bytes]:
        """Return one message per channel; heartbeats keep channels open on which nothing happens for a minute."""
        return [_request("subscribe", "heartbeats"), *_requests("subscribe", args)]

    def unsubscribe_messages(self, path: str, args: Sequence[Any]) -> list[bytes]:
        return _requests("unsubscribe", args)


def _requests(kind: str, args: Sequence[Any]) -> list[bytes]:
    """Return one message per channel."""
    products: dict[str, list[str]] = {}
    for channel, product in args:
        products.setdefault(channel, []).append(product)
    return [_request(kind, channel, names) for channel, names in products.items()]


EXCHANGE = CoinbaseAdvanced()
