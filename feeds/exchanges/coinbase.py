"""Coinbase Exchange: the feed of the spot market. `coinbase-advanced` is another protocol of the same market.

https://docs.cdp.coinbase.com/exchange/websocket-feed/channels
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import msgspec
from msgspec import Raw

from feeds.decoder import Resubscribe
from feeds.events import Side
from feeds.exchange import Endpoints, Exchange, RateLimit, Topic
from feeds.instrument import Instrument, Instruments
from feeds.levels import LevelShape
from feeds.message_decoder import MessageDecoder
from feeds.times import iso_ns

EMPTY = Raw(b"")
BOOK = "level2_batch"  # what `level2` has, every 50 ms: that needs a login since August 2023
SIDES = {"buy": Side.BUY, "sell": Side.SELL}
AGGRESSORS = {"buy": Side.SELL, "sell": Side.BUY}  # of a match, which names the maker's side


# --- wire messages --------------------------------------------------------------------------------


class _Channel(msgspec.Struct, gc=False):
    name: str


class _Message(msgspec.Struct, gc=False):
    """Whatever arrives: all kinds are flat objects.

    {"type":"snapshot","product_id":"BAND-GBP","asks":[["14.8024","12.77"]],"bids":[["14.7550","3.1"]],"time":"2023-..."}
    {"type":"l2update","product_id":"SKL-BTC","changes":[["sell","0.00001306","660.5"]],
     "time":"2021-04-17T16:43:37.075687Z"}
    {"type":"match","trade_id":280232,"side":"sell","size":"985","price":"0.00001305","product_id":"SKL-BTC",
     "sequence":177100030,"time":"2021-04-17T16:43:37.089723Z"}
    {"type":"ticker","sequence":333938798,"product_id":"BAND-GBP","price":"14.7775","best_bid":"14.7550",
     "best_bid_size":"1.5","best_ask":"14.8060","best_ask_size":"2","time":"2021-04-17T16:43:30.244075Z"}
    {"type":"subscriptions","channels":[{"name":"level2_batch","product_ids":["BTC-USD"]}]}
    {"type":"error","message":"Failed to subscribe","reason":"..."}
    """

    type: str
    product_id: str = ""
    time: str = ""  # not in snapshots before 2023 and in some first tickers
    bids: Raw = EMPTY
    asks: Raw = EMPTY
    changes: Raw = EMPTY
    trade_id: int = -1
    side: str = ""
    size: str = ""
    price: str = ""
    best_bid: str = ""
    best_bid_size: str | None = None  # since the end of 2022
    best_ask: str = ""
    best_ask_size: str | None = None
    channels: Raw = EMPTY
    message: str = ""
    reason: str = ""


class _Product(msgspec.Struct):
    """An entry of `/products`."""

    id: str
    base_currency: str
    quote_currency: str
    quote_increment: str
    base_increment: str


_decode_message = msgspec.json.Decoder(_Message).decode
_decode_channels = msgspec.json.Decoder(list[_Channel]).decode
_decode_products = msgspec.json.Decoder(list[Raw]).decode
_decode_product = msgspec.json.Decoder(_Product).decode


# --- decoder --------------------------------------------------------------------------------------


class CoinbaseDecoder(MessageDecoder):
    """Decodes the feed. Quotes are those of tickers: one with each match, not with each change of the best prices."""

    unnumbered = re.compile(rb'^\{"type":"(snapshot|l2update)"')
    supersede_keys = (b'{"type":"ticker","sequence":#,"product_id":"*",...}',)
    silent_kinds: ClassVar[dict[str, str]] = {
        "subscriptions": "what is subscribed, told after each change",
        "heartbeat": "sent every second: the numbers of the last message and the last trade",
        "status": "all products and currencies, which we take from REST",
        "order": "orders one by one, which need a login; what they do is in the book and the matches",
        "auction": "the state of an auction",
        "rfq_match": "traded on request, not in the book",
    }
    _CHANGES = LevelShape(1, 2, side=0, bid="buy", ask="sell")
    # Sizes that are negative, or no numbers, were seen.
    _SNAPSHOT = LevelShape(negative_removes=True, skip_qty=("NaN", "Infinity"))
    large_arrays = (("asks", _SNAPSHOT), ("bids", _SNAPSHOT))

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._book_channel = BOOK

    def decode_message(self, payload: bytes) -> None:
        message = _decode_message(payload)
        kind = message.type
        if kind == "l2update":
            self._decode_book(message, is_snapshot=False)
        elif kind in ("match", "last_match"):
            self._decode_match(message)
        elif kind == "ticker":
            self._decode_ticker(message)
        elif kind == "snapshot":
            self._decode_book(message, is_snapshot=True)
        elif kind == "subscriptions":
            names = {channel.name for channel in _decode_channels(message.channels)}
            self._book_channel = "level2" if "level2" in names else BOOK
            self.nothing("subscriptions")
        elif kind in ("heartbeat", "status", "rfq_match"):
            self.nothing(kind)
        elif kind in ("received", "open", "done", "change", "activate"):
            self.nothing("order")
        elif kind == "auction":
            self.nothing("auction")
        elif kind == "error":
            self.refused(": ".join(part for part in (message.message, message.reason) if part))
        else:
            raise self.error("unknown_message", f"expected a known type, found {kind!r}")

    def request_snapshot(self, instrument: Instrument) -> None:
        args = [(self._book_channel, instrument.raw_symbol)]
        self.request(Resubscribe((_request("unsubscribe", args), _request("subscribe", args)), instrument.raw_symbol))

    def infer(self, raw_symbol: str) -> tuple[str | None, str]:
        base, _, quote = raw_symbol.partition("-")
        return (raw_symbol, "spot") if base and quote and "-" not in quote else (None, "unknown")

    def _decode_book(self, message: _Message, *, is_snapshot: bool) -> None:
        instrument = self.find(message.product_id)
        if instrument is None:
            return
        ts = _time(message)
        if is_snapshot:
            self.book(instrument, message.bids, message.asks, shape=self._SNAPSHOT, is_snapshot=True, ts_event=ts)
        elif not message.changes:
            raise self.error("missing_field", f"expected 'changes' in a book message of {message.product_id}")
        else:
            self.book(instrument, message.changes, None, shape=self._CHANGES, ts_event=ts)

    def _decode_match(self, message: _Message) -> None:
        if (instrument := self.find(message.product_id)) is not None:
            self.trade(
                instrument,
                message.price,
                message.size,
                side=AGGRESSORS[message.side],
                id=message.trade_id,
                ts_event=_time(message),
                is_backlog=message.type == "last_match",
            )

    def _decode_ticker(self, message: _Message) -> None:
        instrument = self.find(message.product_id)
        if instrument is None:
            return
        ts = _time(message)
        self.quote(
            instrument,
            message.best_bid,
            message.best_bid_size,
            message.best_ask,
            message.best_ask_size,
            ts_event=ts,
        )
        self.ticker(instrument, last_price=message.price, ts_event=ts)


def _time(message: _Message) -> int:
    """Return the time; 0, unknown, where there is none or it is of the year 1, which was seen."""
    return iso_ns(message.time) if message.time else 0


def _request(kind: str, args: Iterable[tuple[str, str]]) -> bytes:
    products: dict[str, list[str]] = {}
    for channel, product in args:
        products.setdefault(channel, []).append(product)
    channels = [{"name": name, "product_ids": ids} for name, ids in products.items()]
    return msgspec.json.encode({"type": kind, "channels": channels})


# --- exchange -------------------------------------------------------------------------------------


class Coinbase(Exchange):
    """Coinbase Exchange. Its books have no numbers: that a message was missed cannot be seen."""

    id = "coinbase"
    connection_limits = (RateLimit(8, 1),)
    endpoints = Endpoints(ws="wss://ws-feed.exchange.coinbase.com", rest="https://api.exchange.coinbase.com")
    channels = ("book", "quote", "trade", "ticker")
    decoder = CoinbaseDecoder
    resnapshot_interval = 900.0
    instruments_urls = ("/products",)
    urls = re.compile(r"//(ws-feed|ws-direct|api)\.(exchange|pro)\.coinbase\.com\b")
    messages = re.compile(
        rb'^\{"type":"((snapshot|l2update)","product_id"|(ticker|match|last_match)","(sequence|trade_id)")'
    )

    def list_instruments(self, payload: bytes) -> Iterable[Any]:
        products = _decode_products(payload)
        if not products:
            raise msgspec.DecodeError("no product")
        return products

    def add_instrument(self, entry: Any, instruments: Instruments) -> None:
        found = _decode_product(entry)
        instruments.add(
            self.id,
            found.id,
            symbol=f"{found.base_currency}-{found.quote_currency}",
            kind="spot",
            tick_size=found.quote_increment,
            lot_size=found.base_increment,
        )

    def topics(self, instrument: Instrument, channel: str) -> Sequence[Topic]:
        name = {"book": BOOK, "quote": "ticker", "trade": "matches", "ticker": "ticker"}[channel]
        return [Topic("", (name, instrument.raw_symbol))]

    def subscribe_message(self, path: str, args: Sequence[Any], number: int) -> bytes:
        return _request("subscribe", args)

    def unsubscribe_message(self, path: str, args: Sequence[Any], number: int) -> bytes:
        return _request("unsubscribe", args)


EXCHANGE = Coinbase()
