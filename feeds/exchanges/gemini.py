"""Gemini: `ws.gemini.com`, spot and perpetuals on one socket. And Market Data v2, which it spoke before.

https://developer.gemini.com/websocket/streams

Known from the reference: books, trades, best bids and offers, partial books, replies, metadata of one symbol. No
traffic of today's protocol was at hand to check: how many streams a message and a connection may have (the limits are
guesses), that the ids of best bids and offers are in the number space of the books' ids, and the field `p` of mark
prices. The list of the details of all symbols (`/v1/symbols/details/all`) is not in the reference; its entries are
taken to be those of one symbol. v2 is proven on traffic of 2021.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import msgspec
from msgspec import Raw

from feeds.decoder import Resubscribe
from feeds.events import Side
from feeds.exchange import Endpoints, Exchange, Heartbeat, Older, RateLimit, Topic
from feeds.instrument import Instrument, Instruments
from feeds.levels import LevelShape
from feeds.message_decoder import MessageDecoder
from feeds.sequencing import OverlappingSequence
from feeds.sequencing import Sequence as SequenceRule
from feeds.times import iso_ns, ms_ns

EMPTY = Raw(b"")
PATH = "/?snapshot=-1"  # begin each book with a snapshot of all of it
TOP_DEPTH = 20
BOOK_STREAM = "depth@100ms"
V2_SIDES = {"buy": Side.BUY, "sell": Side.SELL, "block": Side.UNKNOWN}


# --- wire messages --------------------------------------------------------------------------------


class _Error(msgspec.Struct):
    code: int = 0
    msg: str = ""


class _Message(msgspec.Struct, gc=False):
    """Whatever arrives, told apart by its keys. Times are ns.

    {"e":"depthUpdate","E":1783981139947514400,"s":"wifusd","U":1764549594389289,"u":1764549594389676,
     "b":[["0.148800","11129.36421900"]],"a":[]}
    {"E":1783981140085684200,"s":"btcrlusd","t":2840141014190422,"p":"62145.38000","q":"0.0162522200","m":true}
    {"u":1764549594389752,"E":1783981140085684200,"s":"xrpgusd","b":"1.0614900","B":"958.69","a":"1.0615000","A":"38.39"}
    {"lastUpdateId":1764549594389752,"symbol":"trumpgusdperp","bids":[["2.1","3"]],"asks":[]}
    {"e":"markPrice","E":1789456746446652397,"s":"btcgusdperp","p":"77303.727","i":"7725880.833"}
    {"id":"1","status":200}
    {"id":4,"status":400,"error":{"code":-1013,"msg":"Invalid stream name: ..."}}
    """

    e: str = ""
    E: int = 0
    s: str = ""
    U: int = -1  # the book before the message had this id
    u: int = -1
    b: Raw = EMPTY  # levels, or the best bid
    a: Raw = EMPTY
    B: str = ""
    A: str = ""
    t: int = -1
    p: str = ""
    q: str = ""
    m: bool = False  # the buyer is the maker
    lastUpdateId: int = -1
    symbol: str = ""
    bids: Raw = EMPTY
    asks: Raw = EMPTY
    status: int | str = 0
    error: _Error | None = None


class _V2Trade(msgspec.Struct, gc=False):
    """{"type":"trade","symbol":"ANKRUSD","event_id":45465818387,"timestamp":1624493670759,"price":"0.07946",
    "quantity":"1020.482111","side":"buy"}
    """

    symbol: str
    event_id: int
    timestamp: int  # ms
    price: str
    quantity: str
    side: str  # the taker's


class _V2Message(msgspec.Struct):
    """Whatever arrived. The first `l2_updates` of a symbol is the whole book, and has trades and auction events.

    {"type":"l2_updates","symbol":"GRTUSD","changes":[["buy","0.6157","0"]]}
    {"type":"heartbeat","timestamp":1624493666869}
    """

    type: str
    symbol: str = ""
    changes: Raw = EMPTY
    trades: list[_V2Trade] | None = None
    auction_events: Raw = EMPTY


class _Entry(msgspec.Struct):
    """The details of a symbol.

    {"symbol":"BTCUSD","base_currency":"BTC","quote_currency":"USD","tick_size":1E-8,"quote_increment":0.01,
     "min_order_size":"0.00001","status":"open"}
    """

    symbol: str
    base_currency: str
    quote_currency: str
    tick_size: Raw  # of quantities
    quote_increment: Raw  # of prices


_decode_message = msgspec.json.Decoder(_Message).decode
_decode_v2_message = msgspec.json.Decoder(_V2Message).decode
_decode_v2_trade = msgspec.json.Decoder(_V2Trade).decode
_decode_entries = msgspec.json.Decoder(list[Raw]).decode
_decode_entry = msgspec.json.Decoder(_Entry).decode


# --- decoder --------------------------------------------------------------------------------------


class GeminiDecoder(MessageDecoder):
    """Decodes `ws.gemini.com`.

    A snapshot has no mark: it is the first message of a book after subscribing, and begins where it ends.
    """

    supersede_keys = (b'{"u":#,"E":#,"s":"*","b":...}',)
    silent_kinds: ClassVar[dict[str, str]] = {
        "ack": "a request is confirmed, or our ping answered",
        "no quote": "a best bid and offer without prices",
        "contractStatus": "the state of a contract",
        "fundingAmount": "an amount of money per contract, not a rate",
    }

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._begun: set[str] = set()  # raw symbols whose snapshot has come

    def decode_message(self, payload: bytes) -> None:
        message = _decode_message(payload)
        if message.e == "depthUpdate":
            self._decode_book(message)
        elif message.e == "markPrice":
            if (instrument := self.find(message.s)) is not None:
                self.ticker(instrument, mark_price=message.p, ts_event=message.E)
        elif message.e in ("contractStatus", "fundingAmount"):
            self.nothing(message.e)
        elif message.e:
            raise self.error("unknown_message", f"expected a known event, found {message.e!r}")
        elif message.t >= 0:
            if (instrument := self.find(message.s)) is not None:
                side = Side.SELL if message.m else Side.BUY
                self.trade(instrument, message.p, message.q, side=side, id=message.t, ts_event=message.E)
        elif message.u >= 0:
            self._decode_quote(message)
        elif message.lastUpdateId >= 0:
            if (instrument := self.find(message.symbol)) is not None:
                self.book(instrument, message.bids, message.asks, is_snapshot=True, depth=TOP_DEPTH)
        elif message.status == 200:
            self.nothing("ack")
        elif message.error is not None:
            self.refused(f"code {message.error.code}: {message.error.msg}")
        else:
            raise self.error("unknown_message", "expected an event, a best bid and offer, a trade or a reply")

    def request_snapshot(self, instrument: Instrument) -> None:
        name = instrument.raw_symbol
        self._begun.discard(name)
        streams = [f"{name}@{BOOK_STREAM}"]
        self.request(Resubscribe((_request(name, "UNSUBSCRIBE", streams), _request(name, "SUBSCRIBE", streams)), name))

    def infer(self, raw_symbol: str) -> tuple[str | None, str]:
        return None, "perpetual" if raw_symbol.endswith("perp") else "spot"

    def _decode_book(self, message: _Message) -> None:
        instrument = self.find(message.s)
        if instrument is None:
            return
        if message.U < 0 or message.u < 0:
            raise self.error("missing_field", f"expected 'U' and 'u' in a book, found {message.U} and {message.u}")
        is_snapshot = message.u == message.U and message.s not in self._begun
        if is_snapshot:
            self._begun.add(message.s)
        self.book(
            instrument,
            message.b,
            message.a,
            is_snapshot=is_snapshot,
            last_id=message.u,
            previous_id=message.U,
            ts_event=message.E,
        )

    def _decode_quote(self, message: _Message) -> None:
        instrument = self.find(message.s)
        if instrument is None:
            return
        if not message.b and not message.a:
            self.nothing("no quote")
            return
        self.quote(instrument, message.b, message.B, message.a, message.A, sequence=message.u, ts_event=message.E)


class GeminiV2Decoder(MessageDecoder):
    """Decodes Market Data v2. Its books have neither ids nor times: that a message was missed cannot be told."""

    silent_kinds: ClassVar[dict[str, str]] = {
        "heartbeat": "the connection lives",
        "auction": "auctions, before and after they take place",
        "other stream": "marks, funding and candles, in forms that no traffic at hand shows",
    }
    levels = LevelShape(1, 2, side=0, bid="buy", ask="sell")
    _KINDS: ClassVar[dict[str, str]] = {
        "heartbeat": "heartbeat",
        "auction_open": "auction",
        "auction_indicative": "auction",
        "auction_result": "auction",
        "mark_price_updates": "other stream",
        "funding_amount_updates": "other stream",
        "candles_1m_updates": "other stream",
    }

    def decode_message(self, payload: bytes) -> None:
        message = _decode_v2_message(payload)
        if message.type == "l2_updates":
            if (instrument := self.find(message.symbol.lower())) is not None:
                is_snapshot = message.trades is not None or bool(message.auction_events)
                self.book(instrument, message.changes, None, is_snapshot=is_snapshot)
                for trade in reversed(message.trades or ()):  # the newest comes first
                    self._decode_trade(instrument, trade, is_backlog=True)
        elif message.type == "trade":
            if (instrument := self.find(message.symbol.lower())) is not None:
                self._decode_trade(instrument, _decode_v2_trade(payload), is_backlog=False)
        elif message.type in self._KINDS:
            self.nothing(self._KINDS[message.type])
        else:
            raise self.error("unknown_message", f"expected a known type, found {message.type!r}")

    def request_snapshot(self, instrument: Instrument) -> None:
        args = [{"name": "l2", "symbols": [instrument.raw_symbol.upper()]}]
        messages = tuple(
            msgspec.json.encode({"type": kind, "subscriptions": args}) for kind in ("unsubscribe", "subscribe")
        )
        self.request(Resubscribe(messages, instrument.raw_symbol))

    def infer(self, raw_symbol: str) -> tuple[str | None, str]:
        return None, "perpetual" if raw_symbol.endswith("perp") else "spot"

    def _decode_trade(self, instrument: Instrument, trade: _V2Trade, *, is_backlog: bool) -> None:
        self.trade(
            instrument,
            trade.price,
            trade.quantity,
            side=V2_SIDES[trade.side],
            id=trade.event_id,
            ts_event=ms_ns(trade.timestamp),
            is_backlog=is_backlog,
        )


def _request(request_id: str, method: str, streams: Sequence[Any]) -> bytes:
    return msgspec.json.encode({"id": request_id, "method": method, "params": streams})


# --- exchange -------------------------------------------------------------------------------------


class Gemini(Exchange):
    """Gemini. A quiet book says nothing: the answers to our pings show that the connection lives."""

    id = "gemini"
    copies_differ = "messages are numbered anew on each connection (socket_sequence)"
    connection_limits = (RateLimit(300, 300),)
    endpoints = Endpoints(ws="wss://ws.gemini.com", rest="https://api.gemini.com")
    channels = ("book", "book_top", "quote", "trade", "ticker")
    decoder: type[MessageDecoder] = GeminiDecoder
    new_sequence: type[SequenceRule] = OverlappingSequence
    instruments_urls = ("/v1/symbols/details/all",)
    heartbeat = Heartbeat(20.0, b'{"id":"ping","method":"ping"}')
    urls = re.compile(r"//(ws|wsapi\.fast|api)\.gemini\.com\b")
    messages = re.compile(
        rb'^\{"e":"(depthUpdate|markPrice)","E":\d{19},"s":"[a-z0-9]+"|^\{"type":"l2_updates","symbol":"[A-Z0-9]+"'
    )

    def list_instruments(self, payload: bytes) -> Iterable[Any]:
        if payload.startswith(b"{"):  # of one symbol
            _decode_entry(payload)
            return [Raw(payload)]
        entries = _decode_entries(payload)
        if not entries:
            raise msgspec.DecodeError("no symbol")
        return entries

    def add_instrument(self, entry: Any, instruments: Instruments) -> None:
        found = _decode_entry(entry)
        is_perpetual = found.symbol.upper().endswith("PERP")
        instruments.add(
            self.id,
            found.symbol.lower(),
            symbol=f"{found.base_currency}-{found.quote_currency}{'-PERP' if is_perpetual else ''}",
            kind="perpetual" if is_perpetual else "spot",
            tick_size=bytes(found.quote_increment).decode(),
            lot_size=bytes(found.tick_size).decode(),
        )

    def topics(self, instrument: Instrument, channel: str) -> Sequence[Topic]:
        if channel == "ticker" and instrument.kind != "perpetual":
            return []
        streams = {
            "book": BOOK_STREAM,
            "book_top": f"depth{TOP_DEPTH}@100ms",
            "quote": "bookTicker",
            "trade": "trade",
            "ticker": "markPrice",
        }
        return [Topic(PATH, f"{instrument.raw_symbol}@{streams[channel]}")]

    def subscribe_message(self, path: str, args: Sequence[Any], number: int) -> bytes:
        return _request(str(number), "SUBSCRIBE", args)

    def unsubscribe_message(self, path: str, args: Sequence[Any], number: int) -> bytes:
        return _request(str(number), "UNSUBSCRIBE", args)


class GeminiV2(Gemini):
    """Gemini's Market Data v2: for recordings."""

    decoder = GeminiV2Decoder
    new_sequence = SequenceRule


EXCHANGE = Gemini()
EXCHANGE.older = (
    Older(GeminiV2(), until=iso_ns("2026-02-24T00:00:00Z"), url=re.compile(r"gemini\.com/v2/marketdata")),
)
