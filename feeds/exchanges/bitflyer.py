"""bitFlyer Lightning, JSON-RPC: books of changes and of snapshots every five seconds, executions, tickers.

https://bf-lightning-api.readme.io/docs/realtime-api
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, ClassVar

import msgspec
from msgspec import Raw

from feeds.events import Side
from feeds.exchange import Endpoints, Exchange, Topic
from feeds.instrument import Instrument, Instruments
from feeds.levels import LevelShape
from feeds.message_decoder import MessageDecoder
from feeds.times import iso_ns

EMPTY = Raw(b"")
SIDES = {"BUY": Side.BUY, "SELL": Side.SELL, "": Side.UNKNOWN}  # "": of an auction
ALREADY_SUBSCRIBED = -32009


# --- wire messages --------------------------------------------------------------------------------


class _Params(msgspec.Struct):
    channel: str = ""
    message: Raw = EMPTY


class _Error(msgspec.Struct):
    code: int = 0
    message: str = ""


class _Message(msgspec.Struct):
    """Whatever arrives: data of a channel, or the answer to a request.

    {"jsonrpc":"2.0","method":"channelMessage","params":{"channel":"lightning_board_BTC_JPY","message":{...}}}
    {"jsonrpc":"2.0","id":1,"result":true}
    {"jsonrpc":"2.0","id":2,"error":{"code":-32602,"message":"invalid channel"}}
    """

    method: str = ""
    params: _Params = msgspec.field(default_factory=_Params)
    result: bool | None = None
    error: _Error | None = None
    id: int | str | None = None


class _Board(msgspec.Struct, gc=False):
    """`lightning_board_<code>`, and with up to 300 levels a side `lightning_board_snapshot_<code>`. No time, no id.

    {"mid_price":13634496.0,"bids":[{"price":13632097.0,"size":0.0160328}],"asks":[{"price":13637308.0,"size":0.0}]}
    """

    bids: Raw
    asks: Raw


class _Execution(msgspec.Struct, gc=False):
    """`lightning_executions_<code>`.

    {"id":2284079807,"side":"BUY","price":5860832.0,"size":0.01,"exec_date":"2021-12-12T23:05:29.9692063Z",
     "buy_child_order_acceptance_id":"JRF20211212-230529-223057","sell_child_order_acceptance_id":"JRF20211212-2305"}
    """

    id: int
    side: str  # the taker's
    price: Raw
    size: Raw
    exec_date: str


class _Ticker(msgspec.Struct, gc=False):
    """`lightning_ticker_<code>`, twice a second at most.

    {"product_code":"FX_BTC_JPY","state":"RUNNING","timestamp":"2021-12-12T23:05:30.1371457Z","tick_id":127090247,
     "best_bid":5859870.0,"best_ask":5862038.0,"best_bid_size":0.04,"best_ask_size":0.02,"ltp":5861000.0}
    """

    timestamp: str
    best_bid: Raw
    best_ask: Raw
    best_bid_size: Raw
    best_ask_size: Raw
    ltp: Raw


class _Market(msgspec.Struct):
    """An entry of `/v1/getmarkets`. {"product_code":"FX_BTC_JPY","market_type":"FX"}"""

    product_code: str
    market_type: str = ""


_decode_message = msgspec.json.Decoder(_Message).decode
_decode_list = msgspec.json.Decoder(list[Raw]).decode
_decode_board = msgspec.json.Decoder(_Board).decode
_decode_executions = msgspec.json.Decoder(list[_Execution]).decode
_decode_ticker = msgspec.json.Decoder(_Ticker).decode
_decode_market = msgspec.json.Decoder(_Market).decode

_CHANNEL = re.compile(r"lightning_(board_snapshot|board|executions|ticker)_(.+)")
_DATED = re.compile(r"([A-Z]{3})([A-Z]{3})(\d{2}[A-Z]{3}\d{4})")


# --- decoder --------------------------------------------------------------------------------------


class BitflyerDecoder(MessageDecoder):
    """Decodes the channels of Lightning.

    Changes of a book are known to miss removals: every snapshot of the stream replaces it, so a book that is wrong is
    right again after five seconds. Changes before the first snapshot have nothing to change.
    """

    # What names no other channel.
    unnumbered = re.compile(rb'"method":"channelMessage"(?!.*"channel":"(?!lightning_board_(?!snapshot_)))', re.DOTALL)
    supersede_keys = (
        b'{"jsonrpc":"2.0","method":"channelMessage","params":{"channel":"lightning_ticker_*","message":{...}}}',
    )
    silent_kinds: ClassVar[dict[str, str]] = {"ack": "a subscription is confirmed, or stands already"}
    levels = LevelShape("price", "size", skip_zero_price=True)  # at 0: market orders in an auction

    def decode_message(self, payload: bytes) -> None:
        for message in self.messages(payload):  # a batch of requests is answered by an array
            self._decode_one(message)

    def request_snapshot(self, instrument: Instrument) -> None:
        """One comes every five seconds."""

    def infer(self, raw_symbol: str) -> tuple[str | None, str]:
        return name_of(raw_symbol)

    def _decode_one(self, payload: bytes | Raw) -> None:
        message = _decode_message(payload)
        if message.method == "channelMessage":
            self._decode_channel(message.params)
        elif message.error is not None and message.error.code != ALREADY_SUBSCRIBED:
            self.refused(f"request {message.id}: code {message.error.code}: {message.error.message}")
        elif message.error is not None or message.result:
            self.nothing("ack")
        else:
            raise self.error("unknown_message", f"expected a message of a channel, found {message.method!r}")

    def _decode_channel(self, params: _Params) -> None:
        found = _CHANNEL.fullmatch(params.channel)
        if found is None:
            raise self.error("unknown_message", f"expected a known channel, found {params.channel!r}")
        channel, name = found.groups()
        instrument = self.find(name)
        if instrument is None:
            return
        if channel in ("board", "board_snapshot"):
            board = _decode_board(params.message)
            self.book(instrument, board.bids, board.asks, is_snapshot=channel == "board_snapshot")
        elif channel == "executions":
            for one in _decode_executions(params.message):
                self.trade(
                    instrument, one.price, one.size, side=SIDES[one.side], id=one.id, ts_event=iso_ns(one.exec_date)
                )
        else:
            ticker = _decode_ticker(params.message)
            ts = iso_ns(ticker.timestamp)
            self.quote(
                instrument, ticker.best_bid, ticker.best_bid_size, ticker.best_ask, ticker.best_ask_size, ts_event=ts
            )
            self.ticker(instrument, last_price=ticker.ltp, ts_event=ts)


def name_of(raw_symbol: str) -> tuple[str | None, str]:
    """Return (our symbol, kind) of a product code: BTC_JPY, FX_BTC_JPY (the perpetual CFD), BTCJPY24DEC2021."""
    if found := _DATED.fullmatch(raw_symbol):
        base, quote, date = found.groups()
        try:
            return f"{base}-{quote}-{datetime.strptime(date, '%d%b%Y'):%Y%m%d}", "future"
        except ValueError:
            return None, "unknown"
    name = raw_symbol.removeprefix("FX_")
    base, _, quote = name.partition("_")
    if not base or not quote:
        return None, "unknown"
    return (f"{base}-{quote}", "spot") if name == raw_symbol else (f"{base}-{quote}-PERP", "perpetual")


# --- exchange -------------------------------------------------------------------------------------


class Bitflyer(Exchange):
    """bitFlyer, Japan, and its markets in Europe and the USA."""

    id = "bitflyer"
    endpoints = Endpoints(ws="wss://ws.lightstream.bitflyer.com", rest="https://api.bitflyer.com")
    channels = ("book", "quote", "trade", "ticker")
    decoder = BitflyerDecoder
    # The lists overlap.
    instruments_urls = ("/v1/getmarkets", "/v1/getmarkets/usa", "/v1/getmarkets/eu")
    max_topics_per_message = 1
    message_interval = 0.05
    urls = re.compile(r"//(ws\.lightstream|api)\.bitflyer\.(com|jp)\b")
    messages = re.compile(rb'"method":"channelMessage","params":\{"channel":"lightning_')

    def list_instruments(self, payload: bytes) -> Iterable[Any]:
        entries = _decode_list(payload)
        if not entries:
            raise msgspec.DecodeError("expected markets, found none")
        return entries

    def add_instrument(self, entry: Any, instruments: Instruments) -> None:
        raw_symbol = _decode_market(entry).product_code
        symbol, kind = name_of(raw_symbol)
        instruments.add(self.id, raw_symbol, symbol=symbol, kind=kind)

    def topics(self, instrument: Instrument, channel: str) -> Sequence[Topic]:
        names = {
            "book": ("board", "board_snapshot"),  # or the first snapshot lacks what changes until there are changes
            "quote": ("ticker",),
            "ticker": ("ticker",),
            "trade": ("executions",),
        }[channel]
        return [Topic("/json-rpc", f"lightning_{name}_{instrument.raw_symbol}") for name in names]

    def subscribe_message(self, path: str, args: Sequence[Any], number: int) -> bytes:
        return _request("subscribe", args[0], number)

    def unsubscribe_message(self, path: str, args: Sequence[Any], number: int) -> bytes:
        return _request("unsubscribe", args[0], number)


def _request(method: str, channel: str, number: int) -> bytes:
    return msgspec.json.encode({"jsonrpc": "2.0", "method": method, "params": {"channel": channel}, "id": number})


EXCHANGE = Bitflyer()
