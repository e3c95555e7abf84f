"""Kraken Futures: perpetuals and dated futures, once Crypto Facilities.

https://docs.kraken.com/api/docs/futures-api/websocket/book
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import msgspec
from msgspec import Raw

from feeds.bare_numbers import given
from feeds.decoder import Resubscribe
from feeds.events import Side
from feeds.exchange import Endpoints, Exchange, Topic
from feeds.instrument import Instrument, Instruments
from feeds.levels import LevelShape
from feeds.message_decoder import MessageDecoder
from feeds.sequencing import ContiguousSequence
from feeds.times import ms_ns

EMPTY = Raw(b"")
SIDES = {"buy": Side.BUY, "sell": Side.SELL}
OUR_CURRENCIES = {"XBT": "BTC", "XDG": "DOGE"}


# --- wire messages --------------------------------------------------------------------------------


class _Message(msgspec.Struct, gc=False):
    """Whatever arrives: all kinds are flat objects.

    {"feed":"book_snapshot","product_id":"FI_BCHUSD_210730","timestamp":1626994925378,"seq":91192,
     "bids":[{"price":439.3,"qty":20108.0}],"asks":[...]}
    {"feed":"book","product_id":"PI_ETHUSD","side":"sell","seq":26660860,"price":2004.85,"qty":4787.0,
     "timestamp":1626994927744}
    {"feed":"trade","product_id":"PI_LTCUSD","uid":"e2429e31-...","side":"buy","type":"fill","seq":5956,
     "time":1626994929946,"qty":320.0,"price":119.44}
    {"feed":"trade_snapshot","product_id":"PI_LTCUSD","trades":[...]}
    {"event":"subscribed","feed":"book","product_ids":["PI_XBTUSD"]}   {"event":"error","message":"Invalid product id"}
    """

    feed: str = ""
    event: str = ""
    message: str = ""
    product_id: str = ""
    side: str = ""
    type: str = ""
    uid: str | None = None
    seq: int = -1
    price: Raw = EMPTY
    qty: Raw = EMPTY
    time: int = 0
    timestamp: int = 0
    bids: Raw = EMPTY
    asks: Raw = EMPTY
    trades: Raw = EMPTY


class _Ticker(msgspec.Struct, gc=False):
    """`ticker`, at most once a second, and `ticker_lite`, without sizes and time.

    {"feed":"ticker","product_id":"PF_XBTUSD","bid":34832.5,"ask":34847.5,"bid_size":42864,"ask_size":2300,"last":34840,
     "time":1612270825253,"funding_rate":0.39,"relative_funding_rate":1.1e-05,"next_funding_rate_time":1612281600000,
     "index":34803.45,"markPrice":34844.25,"openInterest":1.5E2}
    """

    product_id: str
    bid: Raw
    ask: Raw
    bid_size: Raw = EMPTY
    ask_size: Raw = EMPTY
    last: Raw = EMPTY
    markPrice: Raw = EMPTY
    index: Raw = EMPTY
    openInterest: Raw = EMPTY
    funding_rate: Raw = EMPTY  # absolute: quote currency per contract
    relative_funding_rate: Raw = EMPTY
    next_funding_rate_time: int | None = None
    time: int = 0


class _Reply(msgspec.Struct):
    """The reply of `/derivatives/api/v3/instruments`."""

    instruments: list[Raw]


class _Entry(msgspec.Struct):
    symbol: str  # lower case in 2021
    tickSize: Raw = EMPTY  # indices have none
    contractSize: Raw = EMPTY
    contractValueTradePrecision: int = 0


_decode_message = msgspec.json.Decoder(_Message).decode
_decode_trades = msgspec.json.Decoder(list[_Message]).decode
_decode_ticker = msgspec.json.Decoder(_Ticker).decode
_decode_reply = msgspec.json.Decoder(_Reply).decode
_decode_entry = msgspec.json.Decoder(_Entry).decode


# --- decoder --------------------------------------------------------------------------------------


class KrakenFuturesDecoder(MessageDecoder):
    """Decodes the public feeds. Funding rates are the relative ones: the absolute are in the quote currency."""

    silent_kinds: ClassVar[dict[str, str]] = {
        "info": "the greeting",
        "ack": "a subscription is confirmed",
        "heartbeat": "sent every second",
        "off the book": "a trade that is no print of the market: assignment, termination, block",
    }
    levels = LevelShape("price", "qty", negative_removes=True)
    large_arrays = (("bids", levels), ("asks", levels))

    def decode_message(self, payload: bytes) -> None:
        message = _decode_message(payload)
        feed = message.feed
        if message.event:
            self._decode_event(message)
        elif feed == "book":
            self._decode_book(message)
        elif feed == "trade":
            self._decode_trade(message, is_backlog=False)
        elif feed in ("ticker", "ticker_lite"):
            self._decode_ticker(payload)
        elif feed == "book_snapshot":
            self._decode_snapshot(message)
        elif feed == "trade_snapshot":
            for trade in reversed(_decode_trades(message.trades)):  # they come newest first
                self._decode_trade(trade, is_backlog=True)
        elif feed == "heartbeat":
            self.nothing("heartbeat")
        else:
            raise self.error("unknown_message", f"expected a known feed, found {feed!r}")

    def request_snapshot(self, instrument: Instrument) -> None:
        names = [instrument.raw_symbol]
        messages = (_request("unsubscribe", "book", names), _request("subscribe", "book", names))
        self.request(Resubscribe(messages, instrument.raw_symbol))

    def infer(self, raw_symbol: str) -> tuple[str | None, str]:
        return name_of(raw_symbol)

    def _decode_event(self, message: _Message) -> None:
        if message.event in ("subscribed", "unsubscribed"):
            self.nothing("ack")
        elif message.event == "info":
            self.nothing("info")
        elif message.event in ("error", "alert"):
            self.refused(message.message)
        else:
            raise self.error("unknown_message", f"expected a known event, found {message.event!r}")

    def _decode_book(self, message: _Message) -> None:
        instrument = self.find(message.product_id)
        if instrument is None:
            return
        self._check_number(message)
        level = b'[{"price":%b,"qty":%b}]' % (bytes(message.price), bytes(message.qty))
        side = SIDES[message.side]
        self.book(
            instrument,
            level if side is Side.BUY else None,
            level if side is Side.SELL else None,
            first_id=message.seq,
            last_id=message.seq,
            ts_event=ms_ns(message.timestamp),
        )

    def _decode_snapshot(self, message: _Message) -> None:
        if (instrument := self.find(message.product_id)) is not None:
            self._check_number(message)
            self.book(
                instrument,
                message.bids,
                message.asks,
                is_snapshot=True,
                last_id=message.seq,
                ts_event=ms_ns(message.timestamp),
            )

    def _check_number(self, message: _Message) -> None:
        if message.seq < 0:
            raise self.error("missing_field", f"expected 'seq' in a {message.feed}")

    def _decode_trade(self, trade: _Message, *, is_backlog: bool) -> None:
        instrument = self.find(trade.product_id)
        if instrument is None:
            return
        if trade.type not in ("fill", "liquidation"):
            self.nothing("off the book")
            return
        side, number, ts = SIDES[trade.side], trade.uid or trade.seq, ms_ns(trade.time)
        self.trade(instrument, trade.price, trade.qty, side=side, id=number, ts_event=ts, is_backlog=is_backlog)
        if trade.type == "liquidation" and not is_backlog:
            self.liquidation(instrument, trade.price, trade.qty, side=side, id=number, ts_event=ts)

    def _decode_ticker(self, payload: bytes) -> None:
        ticker = _decode_ticker(payload)
        instrument = self.find(ticker.product_id)
        if instrument is None:
            return
        ts, due = ms_ns(ticker.time), ticker.next_funding_rate_time
        sizes = given(ticker.bid_size), given(ticker.ask_size)
        self.quote(instrument, given(ticker.bid), sizes[0], given(ticker.ask), sizes[1], ts_event=ts)
        rate = ticker.relative_funding_rate if EXCHANGE.relative_funding else ticker.funding_rate
        self.ticker(
            instrument,
            last_price=given(ticker.last),
            mark_price=given(ticker.markPrice),
            index_price=given(ticker.index),
            open_interest=given(ticker.openInterest),
            funding_rate=given(rate),
            next_funding_time=ms_ns(due) if due else None,
            ts_event=ts,
        )


def _request(event: str, feed: str, products: Sequence[str] = ()) -> bytes:
    request: dict[str, Any] = {"event": event, "feed": feed}
    if products:
        request["product_ids"] = list(products)
    return msgspec.json.encode(request)


def name_of(raw_symbol: str) -> tuple[str | None, str]:
    """Return (our symbol, kind) of PF_XBTUSD, FF_XBTUSD_260925 and, settled in the base currency, PI_ and FI_."""
    prefix, _, rest = raw_symbol.partition("_")
    pair, _, date = rest.partition("_")
    base = pair.removesuffix("USD")
    if prefix not in ("PF", "PI", "FF", "FI") or not base or base == pair:
        return None, "unknown"
    base = OUR_CURRENCIES.get(base, base)
    settled = f"-{base}" if prefix.endswith("I") else ""  # besides the linear contract of the same name
    if prefix.startswith("P") and not date:
        return f"{base}-USD-PERP{settled}", "perpetual"
    if prefix.startswith("F") and len(date) == 6 and date.isdecimal():
        return f"{base}-USD-20{date}{settled}", "future"
    return None, "unknown"


# --- exchange -------------------------------------------------------------------------------------


class KrakenFutures(Exchange):
    """Kraken Futures. Sources read one of two funding rates: `relative_funding` False takes the absolute one."""

    id = "kraken-futures"
    endpoints = Endpoints(ws="wss://futures.kraken.com", rest="https://futures.kraken.com")
    channels = ("book", "quote", "trade", "ticker", "liquidation")
    decoder = KrakenFuturesDecoder
    new_sequence = ContiguousSequence
    relative_funding = True
    instruments_urls = ("/derivatives/api/v3/instruments",)
    urls = re.compile(r"//(demo-)?futures\.kraken\.com\b")
    messages = re.compile(rb'^\{"feed":"(book|book_snapshot|trade|trade_snapshot|ticker|ticker_lite)","product_id":"')

    def list_instruments(self, payload: bytes) -> Iterable[Any]:
        return _decode_reply(payload).instruments

    def add_instrument(self, entry: Any, instruments: Instruments) -> None:
        found = _decode_entry(entry)
        raw_symbol = found.symbol.upper()
        symbol, kind = name_of(raw_symbol)
        tick, size = given(found.tickSize), given(found.contractSize)
        if tick is None or symbol is None:  # indices
            return
        instruments.add(
            self.id,
            raw_symbol,
            symbol=symbol,
            kind=kind,
            tick_size=bytes(tick).decode(),
            lot_size=f"1e{-found.contractValueTradePrecision}",
            contract_size=None if size is None else bytes(size).decode(),
        )

    def topics(self, instrument: Instrument, channel: str) -> Sequence[Topic]:
        feed = {"book": "book", "quote": "ticker", "ticker": "ticker"}.get(channel, "trade")
        return [Topic("/ws/v1", (feed, instrument.raw_symbol))]

    def subscribe_messages(self, path: str, args: Sequence[Any]) -> list[bytes]:
        """Return one message per feed, and one for heartbeats: quiet contracts send nothing."""
        return [_request("subscribe", "heartbeat"), *_requests("subscribe", args)]

    def unsubscribe_messages(self, path: str, args: Sequence[Any]) -> list[bytes]:
        return _requests("unsubscribe", args)


def _requests(event: str, args: Sequence[Any]) -> list[bytes]:
    """Return one message per feed."""
    products: dict[str, list[str]] = {}
    for feed, product in args:
        products.setdefault(feed, []).append(product)
    return [_request(event, feed, names) for feed, names in products.items()]


EXCHANGE = KrakenFutures()
