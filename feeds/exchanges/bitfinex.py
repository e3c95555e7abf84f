"""Bitfinex, API v2: arrays, on channels that `subscribed` numbers anew on each connection.

https://docs.bitfinex.com/docs/ws-public
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Raw

from feeds.bare_numbers import given
from feeds.checksum import InterleavedChecksum, NumberText
from feeds.decoder import Resubscribe
from feeds.events import Side
from feeds.exchange import Endpoints, Exchange, RateLimit, Topic
from feeds.instrument import Instrument, Instruments
from feeds.levels import LevelShape
from feeds.message_decoder import MessageDecoder
from feeds.sequencing import ConnectionCounter
from feeds.times import ms_ns

TIMESTAMP, SEQ_ALL, OB_CHECKSUM, BULK_UPDATES = 32_768, 65_536, 131_072, 536_870_912
FLAGS = TIMESTAMP + SEQ_ALL + OB_CHECKSUM
DEPTH = "250"
OUR_CURRENCIES = {
    "UST": "USDT", "BCHN": "BCH", "ALG": "ALGO", "DSH": "DASH", "IOT": "IOTA", "QTM": "QTUM", "DAT": "DATA",
}  # fmt: skip
INTERVALS = {"m": 60, "h": 3600, "D": 86_400, "W": 604_800}
RECONNECT_CODES = {20051: "the server restarts", 20061: "maintenance is over"}
REPEATED_CODES = (10301, 10400)  # subscribed already, unsubscribed already: a repair that was repeated


# --- wire messages --------------------------------------------------------------------------------


class _Event(msgspec.Struct):
    """What is no data.

    {"event":"subscribed","channel":"book","chanId":232955,"symbol":"tIOTETH","prec":"P0","freq":"F0","len":"100"}
    {"event":"info","version":2,"serverId":"...","platform":{"status":1}}   {"event":"info","code":20051,"msg":"..."}
    {"event":"conf","status":"OK","flags":229376}   {"event":"error","msg":"symbol: invalid","code":10300}
    """

    event: str
    channel: str = ""
    chanId: int = -1
    symbol: str = ""
    key: str = ""  # candles, status
    prec: str = ""
    freq: str = ""
    len: str | int = ""
    code: int = 0
    msg: str = ""
    flags: int = 0
    status: str = ""


class _Channel(msgspec.Struct):
    """A channel as it was subscribed."""

    id: int
    event: _Event
    has_snapshot: bool = False


_decode_event = msgspec.json.Decoder(_Event).decode
_decode_parts = msgspec.json.Decoder(list[Raw]).decode
_decode_rows = msgspec.json.Decoder(list[list[Raw]]).decode
_decode_int = msgspec.json.Decoder(int).decode
_decode_text = msgspec.json.Decoder(str).decode
_decode_lists = msgspec.json.Decoder(Annotated[list[list[Any]], msgspec.Meta(min_length=1)]).decode


# --- decoder --------------------------------------------------------------------------------------


class BitfinexDecoder(MessageDecoder):
    """Decodes the public socket, with whichever of the flags TIMESTAMP, SEQ_ALL and OB_CHECKSUM were set.

    Quotes are those of tickers, without sizes: a ticker has the sums of 25 levels.
    """

    silent_kinds: ClassVar[dict[str, str]] = {
        "info": "the greeting, or maintenance begins",
        "ack": "flags are set, a subscription ended, our ping is answered",
        "subscribed": "the number of a channel",
        "already": "a subscription that stands, or has ended, was asked for again",
        "heartbeat": "a channel without news for 15 s",
        "tu": "a trade once more, a second after its `te`",
        "repeated": "its number is not above that of the message before: it was decoded already",
        "ended": "of a channel that was unsubscribed",
        "other book": "a second book channel of a symbol: the first keeps the book",
        "raw book": "orders one by one (R0), not levels",
        "funding currency": "of the market for loans",
        "liquidation match": "a trade of a liquidation that was told when it began",
        "foreign": "liquidations come for all instruments",
    }
    levels = LevelShape(0, 2, signed=True, removal=(1, 0))  # the amount of a removed level is 1 or -1

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._flags = 0
        self._counter = ConnectionCounter()
        self._channels: dict[int, _Channel] = {}
        self._ended: set[int] = set()
        self._books: dict[str, _Channel] = {}  # raw symbol -> the channel that keeps its book

    def decode_message(self, payload: bytes) -> None:
        if payload[:1] != b"[":
            self._decode_event(_decode_event(payload))
            return
        number, *parts = _decode_parts(payload)
        ts = ms_ns(_decode_int(parts.pop())) if self._flags & TIMESTAMP else 0
        if self._flags & SEQ_ALL:
            sequence, repeated = _decode_int(parts.pop()), self._counter.repeated
            if not self._counter.follows(sequence):
                self.lost(f"messages are missing before sequence number {sequence}")
            if self._counter.repeated > repeated:
                self.nothing("repeated")
                return
        head = bytes(parts[0])
        channel = self._channels.get(_decode_int(number))
        if head == b'"hb"':
            self.nothing("heartbeat")
        elif channel is None and _decode_int(number) in self._ended:
            self.nothing("ended")
        elif channel is None:
            raise self.error("unknown_channel", f"expected a channel that was subscribed, found {bytes(number)!r}")
        else:
            self._decode_data(channel, head, parts, ts)

    def request_snapshot(self, instrument: Instrument) -> None:
        name = instrument.raw_symbol
        channel = self._books.get(name)
        if channel is None:
            self.request(Resubscribe((_subscribe("book", name),), name))
            return
        event = channel.event
        again = {"symbol": name, "prec": event.prec, "freq": event.freq, "len": str(event.len)}
        messages = (
            msgspec.json.encode({"event": "unsubscribe", "chanId": channel.id}),
            msgspec.json.encode({"event": "subscribe", "channel": "book"} | again),
        )
        self.request(Resubscribe(messages, name))

    def infer(self, raw_symbol: str) -> tuple[str | None, str]:
        return name_of(raw_symbol)

    def _decode_event(self, event: _Event) -> None:
        if event.event == "subscribed":
            channel = _Channel(event.chanId, event)
            self._channels[event.chanId] = channel
            self._ended.discard(event.chanId)
            if event.channel == "book" and event.prec != "R0":
                kept = self._books.get(event.symbol)
                if kept is None or kept.id in self._ended:
                    self._books[event.symbol] = channel
            self.nothing("subscribed")
        elif event.event == "unsubscribed":
            if self._channels.pop(event.chanId, None) is not None:
                self._ended.add(event.chanId)
            self.nothing("ack")
        elif event.event == "conf":
            self._flags = event.flags
            self.nothing("ack")
        elif event.event == "error":
            if event.code in REPEATED_CODES:
                self.nothing("already")
            else:
                self.refused(f"code {event.code}: {event.msg}")
        elif event.event == "info":
            if event.code in RECONNECT_CODES:
                self.reconnect(f"code {event.code}: {RECONNECT_CODES[event.code]}")
            self.nothing("info")
        elif event.event == "pong":
            self.nothing("ack")
        else:
            raise self.error("unknown_message", f"expected a known event, found {event.event!r}")

    def _decode_data(self, channel: _Channel, head: bytes, parts: list[Raw], ts: int) -> None:
        kind, event = channel.event.channel, channel.event
        if kind == "status" and event.key.startswith("liq:"):
            self._decode_liquidations(parts[0])
            return
        symbol = event.symbol or event.key.rpartition(":t")[2]
        symbol = symbol if symbol.startswith(("t", "f")) else f"t{symbol}"
        if symbol.startswith("f"):
            self.nothing("funding currency")
            return
        instrument = self.find(symbol)
        if instrument is None:
            return
        if kind == "book":
            self._decode_book(channel, instrument, head, parts, ts)
        elif kind == "trades":
            self._decode_trades(instrument, head, parts)
        elif kind == "ticker":
            ticker = _decode_parts(parts[0])
            self.quote(instrument, given(ticker[0]), None, given(ticker[2]), None, ts_event=ts)
            self.ticker(instrument, last_price=given(ticker[6]), ts_event=ts)
        elif kind == "candles":
            self._decode_candles(instrument, head, parts[0], event.key.split(":")[1], ts)
        elif kind == "status":
            row = _decode_parts(parts[0])
            due = given(row[7])
            self.ticker(
                instrument,
                last_price=given(row[2]),
                index_price=given(row[3]),
                mark_price=given(row[14]),
                open_interest=given(row[17]),
                funding_rate=given(row[11]),
                next_funding_time=None if due is None else ms_ns(_decode_int(due)),
                ts_event=ms_ns(_decode_int(row[0])),
            )
        else:
            raise self.error("unknown_message", f"expected a known channel, found {kind!r}")

    def _decode_book(self, channel: _Channel, instrument: Instrument, head: bytes, parts: list[Raw], ts: int) -> None:
        if channel.event.prec == "R0":
            self.nothing("raw book")
        elif self._books[channel.event.symbol] is not channel:
            self.nothing("other book")
        elif head == b'"cs"':
            self.book(instrument, None, None, checksum=_decode_int(parts[1]), ts_event=ts)
        else:
            # Several levels are the snapshot; with BULK_UPDATES the first time only.
            is_list = head.startswith(b"[[") or head == b"[]"
            is_snapshot = is_list and not (self._flags & BULK_UPDATES and channel.has_snapshot)
            channel.has_snapshot = channel.has_snapshot or is_snapshot
            levels = head if is_list else b"[" + head + b"]"
            self.book(instrument, levels, None, is_snapshot=is_snapshot, ts_event=ts)

    def _decode_trades(self, instrument: Instrument, head: bytes, parts: list[Raw]) -> None:
        if head == b'"tu"':
            self.nothing("tu")
            return
        is_backlog = head != b'"te"'
        rows = _decode_rows(parts[0])[::-1] if is_backlog else [_decode_parts(parts[1])]  # the backlog newest first
        for number, time, amount, price, *_ in rows:
            text = bytes(amount).decode()
            self.trade(
                instrument,
                price,
                text.removeprefix("-"),
                side=Side.SELL if text.startswith("-") else Side.BUY,
                id=_decode_int(number),
                ts_event=ms_ns(_decode_int(time)),
                is_backlog=is_backlog,
            )

    def _decode_candles(self, instrument: Instrument, head: bytes, data: Raw, unit: str, ts: int) -> None:
        is_list = head.startswith(b"[[") or head == b"[]"
        for start, open_, close, high, low, volume, *_ in (
            _decode_rows(data)[::-1] if is_list else [_decode_parts(data)]
        ):
            self.candle(
                instrument,
                ts_open=ms_ns(_decode_int(start)),
                interval=int(unit[:-1]) * INTERVALS[unit[-1]],
                open=open_,
                high=high,
                low=low,
                close=close,
                volume=volume,
                ts_event=ts,
            )

    def _decode_liquidations(self, data: Raw) -> None:
        """["pos",id,ms,null,symbol,amount,base price,null,is match,...]: a short one has a negative amount."""
        for row in _decode_rows(data):
            if _decode_int(row[8]) != 0:
                self.nothing("liquidation match")
                continue
            symbol, amount = _decode_text(row[4]), bytes(row[5]).decode()
            known = self.instruments.known(self.exchange, symbol)
            if known is None and not self.instruments.infers(self.exchange):
                self.nothing("foreign")
            elif (instrument := self.find(symbol)) is not None:
                self.liquidation(
                    instrument,
                    row[6],
                    amount.removeprefix("-"),
                    side=Side.BUY if amount.startswith("-") else Side.SELL,
                    id=_decode_int(row[1]),
                    ts_event=ms_ns(_decode_int(row[2])),
                )


def _subscribe(channel: str, argument: str) -> bytes:
    request = {"event": "subscribe", "channel": channel}
    request["key" if channel in ("candles", "status") else "symbol"] = argument
    if channel == "book":
        request |= {"prec": "P0", "freq": "F0", "len": DEPTH}
    return msgspec.json.encode(request)


def name_of(raw_symbol: str) -> tuple[str | None, str]:
    """Return (our symbol, kind) of tBTCUSD, tAVAX:USD or tBTCF0:USTF0."""
    pair = raw_symbol[1:]
    base, colon, quote = pair.partition(":")
    if not colon:
        base, quote = pair[:3], pair[3:]
    if not raw_symbol.startswith("t") or not base or (len(pair) != 6 and not colon) or not quote:
        return None, "unknown"
    is_perpetual = base.endswith("F0") and quote.endswith("F0")
    parts = [part.removesuffix("F0") if is_perpetual else part for part in (base, quote)]
    name = "-".join(OUR_CURRENCIES.get(part, part) for part in parts)
    return (f"{name}-PERP", "perpetual") if is_perpetual else (name, "spot")


# --- exchange -------------------------------------------------------------------------------------


class Bitfinex(Exchange):
    """Bitfinex. Sources name 20 to 30 channels for a connection: 25 is safe."""

    id = "bitfinex"
    copies_differ = "channels have other ids, and messages other numbers, on each connection"
    endpoints = Endpoints(ws="wss://api-pub.bitfinex.com", rest="https://api-pub.bitfinex.com")
    channels = ("book", "quote", "trade", "ticker", "liquidation", "candle")
    decoder = BitfinexDecoder
    checksum = InterleavedChecksum(levels=25, number_text=NumberText.JAVASCRIPT, asks_negative=True)
    instruments_urls = ("/v2/conf/pub:list:pair:exchange,pub:list:pair:futures",)
    max_topics_per_message = 1
    max_topics_per_connection = 25
    connection_limits = (RateLimit(20, 60),)  # unconfirmed
    urls = re.compile(r"//api(-pub)?\.bitfinex\.com\b")
    messages = re.compile(rb'^\[\d+,"(hb|te|tu|cs)",|^\{"event":"subscribed","channel":"\w+","chanId":')

    def list_instruments(self, payload: bytes) -> Iterable[Any]:
        return [pair for pairs in _decode_lists(payload) for pair in pairs if pair != "AAABBB"]  # a test pair

    def add_instrument(self, entry: Any, instruments: Instruments) -> None:
        symbol, kind = name_of(f"t{entry}")
        instruments.add(self.id, f"t{entry}", symbol=symbol, kind=kind)

    def topics(self, instrument: Instrument, channel: str) -> Sequence[Topic]:
        name, is_perpetual = instrument.raw_symbol, instrument.kind == "perpetual"
        topics = {
            "book": [("book", name)],
            "quote": [("ticker", name)],
            "trade": [("trades", name)],
            "ticker": [("ticker", name), *([("status", f"deriv:{name}")] if is_perpetual else [])],
            "liquidation": [("status", "liq:global")] if is_perpetual else [],
            "candle": [("candles", f"trade:1m:{name}")],
        }
        return [Topic("/ws/2", topic) for topic in topics[channel]]

    def subscribe_message(self, path: str, args: Sequence[Any], number: int) -> bytes:
        return _subscribe(*args[0])

    def subscribe_messages(self, path: str, args: Sequence[Any]) -> Sequence[bytes | Callable[[int], bytes]]:
        """Return the flags, which have to be set before, and one message per channel."""
        return [msgspec.json.encode({"event": "conf", "flags": FLAGS}), *super().subscribe_messages(path, args)]


EXCHANGE = Bitfinex()
