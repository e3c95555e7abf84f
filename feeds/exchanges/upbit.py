"""Upbit: whole tops of books, trades, tickers and candles, in long names and short ones. `bithumb` shares the protocol.

https://docs.upbit.com/kr/reference/websocket-guide
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import msgspec
from msgspec import Raw

from feeds.events import Side
from feeds.exchange import Endpoints, Exchange, Heartbeat, RateLimit, Topic
from feeds.instrument import Instrument, Instruments
from feeds.levels import LevelShape
from feeds.message_decoder import MessageDecoder
from feeds.times import iso_ns, unix_ns

SIDES = {"BID": Side.BUY, "ASK": Side.SELL}  # the taker's
INTERVAL_UNITS = {"s": 1, "m": 60}


# --- wire messages --------------------------------------------------------------------------------

# Times are in ms, of some markets and times in us: `unix_ns` tells them by their size.


class _Error(msgspec.Struct):
    name: str = ""
    message: str = ""


class _Message(msgspec.Struct):
    """Whatever arrives, looked at to see what it is.

    {"type":"orderbook","code":"KRW-BTC",...} {"ty":"trade","cd":"KRW-LAMB",...} {"status":"UP"}
    {"error":{"name":"NO_TICKET","message":"..."}}
    """

    type: str = ""
    code: str = ""
    ty: str = ""
    cd: str = ""
    status: str = ""
    error: _Error | None = None


class _Book(msgspec.Struct, gc=False):
    """The best units of a book, the i-th of each side in one; those that are missing on one side have zeros.

    {"type":"orderbook","code":"KRW-BTC","timestamp":1790134742106,"total_ask_size":2.51469375,"total_bid_size":1.638,
     "orderbook_units":[{"ask_price":1.16539E8,"bid_price":1.16538E8,"ask_size":0.02054761,"bid_size":0.08120946}],
     "stream_type":"SNAPSHOT","level":0}
    """

    timestamp: int
    orderbook_units: Raw


class _SimpleBook(msgspec.Struct, gc=False, rename={"timestamp": "tms", "orderbook_units": "obu"}):
    """{"ty":"orderbook","cd":"KRW-LAMB","tms":1618678262640,"tas":25752275.5,"tbs":14407925.2,
    "obu":[{"ap":127.0,"bp":126.0,"as":280460.37885666,"bs":688682.44561413}],"st":"REALTIME"}"""

    timestamp: int
    orderbook_units: Raw


class _Trade(msgspec.Struct, gc=False):
    """A trade; of type SNAPSHOT where it is the last one before the subscription.

    {"type":"trade","code":"KRW-DOGE","timestamp":1614729599905,"trade_timestamp":1614729599000,"trade_price":58.4,
     "trade_volume":836.12040133,"ask_bid":"ASK","sequential_id":1614729599000000,"stream_type":"REALTIME"}
    """

    trade_timestamp: int
    trade_price: Raw
    trade_volume: Raw
    ask_bid: str
    sequential_id: int
    stream_type: str = ""


class _SimpleTrade(
    msgspec.Struct,
    gc=False,
    rename={
        "trade_timestamp": "ttms",
        "trade_price": "tp",
        "trade_volume": "tv",
        "ask_bid": "ab",
        "sequential_id": "sid",
        "stream_type": "st",
    },
):
    """{"ty":"trade","cd":"KRW-LAMB","tms":1618678262712,"ttms":1618678262000,"tp":127.0,"tv":46.48838371,"ab":"BID",
    "sid":1618678262000003,"st":"REALTIME"}"""

    trade_timestamp: int
    trade_price: Raw
    trade_volume: Raw
    ask_bid: str
    sequential_id: int
    stream_type: str = ""


class _Ticker(msgspec.Struct, gc=False):
    """{"type":"ticker","code":"KRW-BTC","trade_price":1.16538E8,"market_state":"ACTIVE","timestamp":1790134742106}"""

    trade_price: Raw
    timestamp: int


class _SimpleTicker(msgspec.Struct, gc=False, rename={"trade_price": "tp", "timestamp": "tms"}):
    """{"ty":"ticker","cd":"KRW-BTC","tp":1.16538E8,"tms":1790134742106}"""

    trade_price: Raw
    timestamp: int


class _Candle(msgspec.Struct, gc=False):
    """{"type":"candle.1m","code":"KRW-BTC","candle_date_time_utc":"2026-09-21T04:28:00","opening_price":1.16E8,
    "high_price":1.17E8,"low_price":1.15E8,"trade_price":1.16E8,"candle_acc_trade_volume":0.5,
    "candle_acc_trade_price":5.8E7,"timestamp":1790134742106,"stream_type":"REALTIME"}"""

    candle_date_time_utc: str
    opening_price: Raw
    high_price: Raw
    low_price: Raw
    trade_price: Raw
    candle_acc_trade_volume: Raw
    candle_acc_trade_price: Raw
    timestamp: int


class _SimpleCandle(
    msgspec.Struct,
    gc=False,
    rename={
        "candle_date_time_utc": "cdttmu",
        "opening_price": "op",
        "high_price": "hp",
        "low_price": "lp",
        "trade_price": "tp",
        "candle_acc_trade_volume": "catv",
        "candle_acc_trade_price": "catp",
        "timestamp": "tms",
    },
):
    """{"ty":"candle.1m","cd":"KRW-BTC","cdttmu":"2026-09-21T04:28:00","op":1.16E8,"hp":1.17E8,"lp":1.15E8,"tp":1.16E8,
    "catv":0.5,"catp":5.8E7,"tms":1790134742106,"st":"REALTIME"}"""

    candle_date_time_utc: str
    opening_price: Raw
    high_price: Raw
    low_price: Raw
    trade_price: Raw
    candle_acc_trade_volume: Raw
    candle_acc_trade_price: Raw
    timestamp: int


class _Market(msgspec.Struct):
    """An entry of `/v1/market/all`. {"market":"KRW-BTC","english_name":"Bitcoin"}"""

    market: str


_decode_message = msgspec.json.Decoder(_Message).decode
_decode_list = msgspec.json.Decoder(list[Raw]).decode
_decode_book = msgspec.json.Decoder(_Book).decode
_decode_simple_book = msgspec.json.Decoder(_SimpleBook).decode
_decode_trade = msgspec.json.Decoder(_Trade).decode
_decode_simple_trade = msgspec.json.Decoder(_SimpleTrade).decode
_decode_ticker = msgspec.json.Decoder(_Ticker).decode
_decode_simple_ticker = msgspec.json.Decoder(_SimpleTicker).decode
_decode_candle = msgspec.json.Decoder(_Candle).decode
_decode_simple_candle = msgspec.json.Decoder(_SimpleCandle).decode
_decode_units = msgspec.json.Decoder(list[Raw]).decode
_decode_market = msgspec.json.Decoder(_Market).decode

# Units without a price are padding; a level of size 0 at a price (dust, rounded away) is none.
_BIDS = LevelShape("bid_price", "bid_size", skip_zero_price=True)
_ASKS = LevelShape("ask_price", "ask_size", skip_zero_price=True)
_SIMPLE_BIDS = LevelShape("bp", "bs", skip_zero_price=True)
_SIMPLE_ASKS = LevelShape("ap", "as", skip_zero_price=True)


# --- decoder --------------------------------------------------------------------------------------


class UpbitDecoder(MessageDecoder):
    """Decodes the formats DEFAULT and SIMPLE, and lists of them."""

    supersede_keys = (
        b'{"type":"orderbook","code":"*",...}',
        b'{"ty":"orderbook","cd":"*",...}',
    )
    silent_kinds: ClassVar[dict[str, str]] = {"status": "the answer to our ping, every 10 s"}

    def decode_message(self, payload: bytes) -> None:
        for message in self.messages(payload):
            self._decode_object(message)

    def request_snapshot(self, instrument: Instrument) -> None:
        """The next message has the whole of what is shown."""

    def infer(self, raw_symbol: str) -> tuple[str | None, str]:
        return name_of(raw_symbol)

    def _decode_object(self, payload: bytes | Raw) -> None:
        message = _decode_message(payload)
        kind, is_simple = message.type or message.ty, not message.type
        if kind in ("orderbook", "trade", "ticker") or kind.startswith("candle."):
            if (instrument := self.find(message.code or message.cd)) is not None:
                self._decode_data(instrument, kind, payload, is_simple=is_simple)
        elif message.error is not None:
            self.refused(f"{message.error.name}: {message.error.message}")
        elif message.status == "UP":
            self.nothing("status")
        else:
            raise self.error("unknown_message", f"expected a known type, found {kind!r}")

    def _decode_data(self, instrument: Instrument, kind: str, payload: bytes | Raw, *, is_simple: bool) -> None:
        if kind == "orderbook":
            book = _decode_simple_book(payload) if is_simple else _decode_book(payload)
            units = book.orderbook_units
            self.book(
                instrument,
                ((units, _SIMPLE_BIDS if is_simple else _BIDS),),
                ((units, _SIMPLE_ASKS if is_simple else _ASKS),),
                is_snapshot=True,
                depth=max(len(_decode_units(units)), 1),
                ts_event=unix_ns(book.timestamp),
            )
        elif kind == "trade":
            trade = _decode_simple_trade(payload) if is_simple else _decode_trade(payload)
            self.trade(
                instrument,
                trade.trade_price,
                trade.trade_volume,
                side=SIDES[trade.ask_bid],
                id=trade.sequential_id,
                ts_event=unix_ns(trade.trade_timestamp),
                is_backlog=trade.stream_type == "SNAPSHOT",
            )
        elif kind == "ticker":
            ticker = _decode_simple_ticker(payload) if is_simple else _decode_ticker(payload)
            self.ticker(instrument, last_price=ticker.trade_price, ts_event=unix_ns(ticker.timestamp))
        else:
            candle = _decode_simple_candle(payload) if is_simple else _decode_candle(payload)
            self.candle(
                instrument,
                ts_open=iso_ns(f"{candle.candle_date_time_utc}Z"),
                interval=int(kind[7:-1]) * INTERVAL_UNITS[kind[-1]],
                open=candle.opening_price,
                high=candle.high_price,
                low=candle.low_price,
                close=candle.trade_price,
                volume=candle.candle_acc_trade_volume,
                quote_volume=candle.candle_acc_trade_price,
                ts_event=unix_ns(candle.timestamp),
            )


def name_of(raw_symbol: str) -> tuple[str | None, str]:
    """Return (our symbol, kind) of KRW-BTC: the quote currency is written first."""
    quote, _, base = raw_symbol.partition("-")
    return (f"{base}-{quote}", "spot") if base and quote else (None, "unknown")


# --- exchange -------------------------------------------------------------------------------------


class Upbit(Exchange):
    """Upbit, Korea. A request replaces the one before: all of a connection's subscriptions go in one message."""

    id = "upbit"
    endpoints = Endpoints(ws="wss://api.upbit.com", rest="https://api.upbit.com")
    channels: Sequence[str] = ("book", "trade", "ticker", "candle")
    decoder: type[MessageDecoder] = UpbitDecoder
    instruments_urls: Sequence[str] = ("/v1/market/all",)
    heartbeat = Heartbeat(20.0, b"PING")
    max_topics_per_connection = 1000
    connection_limits: Sequence[RateLimit] = (RateLimit(5, 1),)
    max_topics_per_message = 1000
    subscriptions_replace = True
    urls = re.compile(r"//((sg|id|th)-)?api\.upbit\.com\b")
    messages = re.compile(
        rb'^\{"ty":"(trade|orderbook|ticker)","cd":"|^\{"type":"orderbook","code":"[^"]+","timestamp":\d'
    )

    def list_instruments(self, payload: bytes) -> Iterable[Any]:
        entries = _decode_list(payload)
        if not entries:
            raise msgspec.DecodeError("expected markets, found none")
        return entries

    def add_instrument(self, entry: Any, instruments: Instruments) -> None:
        raw_symbol = _decode_market(entry).market
        symbol, kind = name_of(raw_symbol)
        instruments.add(self.id, raw_symbol, symbol=symbol, kind=kind)

    def topics(self, instrument: Instrument, channel: str) -> Sequence[Topic]:
        kind = {"book": "orderbook", "candle": "candle.1m"}.get(channel, channel)
        return [Topic("/websocket/v1", {"type": kind, "code": instrument.raw_symbol})]

    def subscribe_message(self, path: str, args: Sequence[Any], number: int) -> bytes:
        codes: dict[str, list[str]] = {}
        for arg in args:
            codes.setdefault(arg["type"], []).append(arg["code"])
        kinds = [{"type": kind, "codes": names} for kind, names in codes.items()]
        return msgspec.json.encode([{"ticket": str(uuid.uuid4())}, *kinds, {"format": "DEFAULT"}])


EXCHANGE = Upbit()
