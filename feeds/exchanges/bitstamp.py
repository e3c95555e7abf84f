"""Bitstamp: spot and perpetuals on one socket, books joined with REST by their times.

https://www.bitstamp.net/websocket/v2/
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import msgspec
from msgspec import Raw

from feeds.decoder import Fetch
from feeds.events import Side
from feeds.exchange import Endpoints, Exchange, Heartbeat, RateLimit, Topic
from feeds.instrument import Instrument, Instruments
from feeds.message_decoder import MessageDecoder
from feeds.sequencing import GrowingSequence
from feeds.times import unix_ns, us_ns

EMPTY = Raw(b"")
SIDES = {0: Side.BUY, 1: Side.SELL}
TOP_DEPTH = 100
SECOND = 1_000_000  # of microtimestamps
MOST_BACK = 10 * SECOND  # of a message's time, behind that of the one before: more than messages are late


# --- wire messages --------------------------------------------------------------------------------


class _Message(msgspec.Struct):
    """Whatever arrives. {"data":{...},"channel":"diff_order_book_adaeur","event":"data"}"""

    event: str
    channel: str = ""
    data: Raw = EMPTY


class _Book(msgspec.Struct, gc=False):
    """`diff_order_book`, `order_book`, and the REST reply.

    {"timestamp":"1641343691","microtimestamp":"1641343691310202","bids":[],"asks":[["1.17438","853.01809477"]]}
    """

    timestamp: str
    bids: Raw
    asks: Raw
    microtimestamp: str = ""  # not in old replies


class _Trade(msgspec.Struct, gc=False):
    """`live_trades`. The bare numbers are doubles: those in text are right.

    {"id":216000477,"timestamp":"1641343699","amount":0.0792,"amount_str":"0.07920000","price":3805.44,
     "price_str":"3805.44","type":0,"microtimestamp":"1641343699596000"}
    """

    id: int
    amount_str: str
    price_str: str
    type: int  # the taker's: 0 buys
    microtimestamp: str


class _Funding(msgspec.Struct, gc=False):
    """`funding_rate`, of perpetuals.

    {"market":"btcusd-perp","mark_price":"77180.1","index_price":"77177.99","funding_rate":"0.000123",
     "timestamp":"1789457618","next_funding_time":"1789459200"}
    """

    timestamp: str
    mark_price: str | None = None
    index_price: str | None = None
    funding_rate: str | None = None
    next_funding_time: str | None = None


class _Error(msgspec.Struct):
    code: int | None = None
    message: str = ""


class _Entry(msgspec.Struct):
    """A market of `/api/v2/markets/`; before, `/api/v2/trading-pairs-info/` named it `url_symbol`."""

    name: str  # BTC/USD
    base_decimals: int
    counter_decimals: int
    market_symbol: str = ""
    url_symbol: str = ""


_decode_message = msgspec.json.Decoder(_Message).decode
_decode_book = msgspec.json.Decoder(_Book).decode
_decode_trade = msgspec.json.Decoder(_Trade).decode
_decode_funding = msgspec.json.Decoder(_Funding).decode
_decode_error = msgspec.json.Decoder(_Error).decode
_decode_entries = msgspec.json.Decoder(list[Raw]).decode
_decode_entry = msgspec.json.Decoder(_Entry).decode


# --- decoder --------------------------------------------------------------------------------------


class BitstampDecoder(MessageDecoder):
    """Decodes the public socket."""

    unnumbered = re.compile(rb'^\{"data": ?\{"(micro)?timestamp"|"diff_order_book_')
    silent_kinds: ClassVar[dict[str, str]] = {
        "ack": "a subscription is confirmed, or ended",
        "heartbeat": "the answer to ours",
        "order": "orders one by one, not levels",
    }

    def decode_message(self, payload: bytes) -> None:
        message = _decode_message(payload)
        event, channel = message.event, message.channel
        if event == "data" and channel.startswith("diff_order_book_"):
            self._decode_book(channel.removeprefix("diff_order_book_"), message.data, depth=0)
        elif event == "data" and channel.startswith("order_book_"):
            self._decode_book(channel.removeprefix("order_book_"), message.data, depth=TOP_DEPTH)
        elif event == "trade" and channel.startswith("live_trades_"):
            self._decode_trade(channel.removeprefix("live_trades_"), message.data)
        elif event == "funding_rate_saved" and channel.startswith("funding_rate_"):
            self._decode_funding(channel.removeprefix("funding_rate_"), message.data)
        elif channel.startswith(("detail_order_book_", "live_orders_")) and not event.startswith("bts:"):
            self.nothing("order")
        elif event in ("bts:subscription_succeeded", "bts:unsubscription_succeeded"):
            self.nothing("ack")
        elif event == "bts:heartbeat":
            self.nothing("heartbeat")
        elif event == "bts:request_reconnect":
            self.reconnect("the server asks for it")
        elif event == "bts:error":
            error = _decode_error(message.data)
            self.refused(f"code {error.code}: {error.message}")
        else:
            raise self.error("unknown_message", f"expected a known event, found {event!r} on {channel!r}")

    def decode_snapshot(self, tag: str, payload: bytes) -> None:
        book = _decode_book(payload)
        if (instrument := self.find(tag)) is not None:
            # Without microseconds, what came within the second is applied to it: levels are absolute.
            number = int(book.microtimestamp) if book.microtimestamp else int(book.timestamp) * SECOND - 1
            self.book(instrument, book.bids, book.asks, is_snapshot=True, last_id=number, ts_event=_time(book))

    def request_snapshot(self, instrument: Instrument) -> None:
        name = instrument.raw_symbol
        self.request(Fetch(f"/api/v2/order_book/{name}/?group=1", name))

    def infer(self, raw_symbol: str) -> tuple[str | None, str]:
        return None, "perpetual" if raw_symbol.endswith("-perp") else "spot"

    def _decode_book(self, name: str, data: Raw, *, depth: int) -> None:
        book = _decode_book(data)
        if (instrument := self.find(name)) is not None:
            number = int(book.microtimestamp) if book.microtimestamp else int(book.timestamp) * SECOND
            ts = _time(book)
            self.book(instrument, book.bids, book.asks, is_snapshot=depth > 0, depth=depth, last_id=number, ts_event=ts)

    def _decode_trade(self, name: str, data: Raw) -> None:
        trade = _decode_trade(data)
        if (instrument := self.find(name)) is not None:
            self.trade(
                instrument,
                trade.price_str,
                trade.amount_str,
                side=SIDES[trade.type],
                id=trade.id,
                ts_event=us_ns(trade.microtimestamp),
            )

    def _decode_funding(self, name: str, data: Raw) -> None:
        rate = _decode_funding(data)
        if (instrument := self.find(name)) is not None:
            due = rate.next_funding_time
            self.ticker(
                instrument,
                mark_price=rate.mark_price,
                index_price=rate.index_price,
                funding_rate=rate.funding_rate,
                next_funding_time=unix_ns(due) if due else None,
                ts_event=unix_ns(rate.timestamp),
            )


def _time(book: _Book) -> int:
    return us_ns(book.microtimestamp) if book.microtimestamp else unix_ns(book.timestamp)


# --- exchange -------------------------------------------------------------------------------------


class Bitstamp(Exchange):
    """Bitstamp. A change of a book that is lost cannot be seen; `book_top` is there to compare with."""

    id = "bitstamp"
    endpoints = Endpoints(ws="wss://ws.bitstamp.net", rest="https://www.bitstamp.net")
    channels = ("book", "book_top", "trade", "ticker")
    decoder = BitstampDecoder
    resnapshot_interval = 300.0
    instruments_urls = ("/api/v2/markets/",)
    heartbeat = Heartbeat(30.0, b'{"event":"bts:heartbeat"}')
    max_topics_per_message = 1
    request_limits = (RateLimit(400, 1), RateLimit(10_000, 600))
    max_topics_per_connection = 1024
    urls = re.compile(r"//(ws|www)\.bitstamp\.net\b")
    messages = re.compile(rb'"channel": ?"(diff_order_book|order_book|live_trades|funding_rate)_[a-z0-9-]+"')
    _BOOK = re.compile(r"/api/v2/order_book/([^/?]+)/?(\?|$)")

    @staticmethod
    def new_sequence() -> GrowingSequence:
        return GrowingSequence(MOST_BACK)

    def reply_tag(self, url: str) -> str | None:
        match = self._BOOK.search(url)
        return match[1] if match else None

    def list_instruments(self, payload: bytes) -> Iterable[Any]:
        entries = _decode_entries(payload)
        if not entries:
            raise msgspec.DecodeError("no market")
        return entries

    def add_instrument(self, entry: Any, instruments: Instruments) -> None:
        found = _decode_entry(entry)
        raw_symbol = found.market_symbol or found.url_symbol
        is_perpetual = raw_symbol.endswith("-perp")
        base, slash, counter = found.name.upper().removesuffix("-PERP").partition("/")
        if not raw_symbol or not base or not slash or not counter:
            raise ValueError(f"expected a market like BTC/USD, found {found.name!r}")
        instruments.add(
            self.id,
            raw_symbol,
            symbol=f"{base}-{counter}" + ("-PERP" if is_perpetual else ""),
            kind="perpetual" if is_perpetual else "spot",
            tick_size=f"1e-{found.counter_decimals}",
            lot_size=f"1e-{found.base_decimals}",
        )

    def topics(self, instrument: Instrument, channel: str) -> Sequence[Topic]:
        if channel == "ticker" and instrument.kind != "perpetual":
            return []
        names = {
            "book": "diff_order_book",
            "book_top": "order_book",
            "trade": "live_trades",
            "ticker": "funding_rate",
        }
        return [Topic("", f"{names[channel]}_{instrument.raw_symbol}")]

    def subscribe_message(self, path: str, args: Sequence[Any], number: int) -> bytes:
        return msgspec.json.encode({"event": "bts:subscribe", "data": {"channel": args[0]}})

    def unsubscribe_message(self, path: str, args: Sequence[Any], number: int) -> bytes:
        return msgspec.json.encode({"event": "bts:unsubscribe", "data": {"channel": args[0]}})


EXCHANGE = Bitstamp()
