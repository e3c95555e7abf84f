"""HTX (Huobi) spot; and what its swaps (`htx_swap`) speak too: gzip around every message, topics, pings, trades.

https://www.htx.com/en-us/opend/newApiPages/

Known from the reference: framing, pings, subscribing, `mbp` and how its snapshots are joined, `depth.step0`, trades,
`bbo`; `depth.step0`, trades, pings and metadata are proven on traffic of 2021. Not in the reference, and taken from
traffic that others published: the fields of `ticker`, and of `kline` besides its id. Not checked: how many topics a
connection may have, whether `mbp` tells of levels that leave its window (they are trimmed, which is right either way),
and whether the id of `bbo` counts what the ids of `mbp` count (they are not compared).

Some amounts have the 17 digits of a double. A message with 13 decimals beside millions fits no int64: it is refused and
counted, and a book of top levels stays what it was before it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import msgspec
from msgspec import Raw

from feeds.decoder import Resubscribe, Send
from feeds.errors import DecodeError
from feeds.events import Side
from feeds.exchange import Endpoints, Exchange, Topic
from feeds.instrument import Instrument, Instruments
from feeds.message_decoder import MessageDecoder, inflate
from feeds.sequencing import LinkedSequence
from feeds.sequencing import Sequence as SequenceRule
from feeds.times import ms_ns

EMPTY = Raw(b"")
GZIP = b"\x1f\x8b"
MARKET, FEED = "/ws", "/feed"  # `mbp` has a socket of its own
SIDES = {"buy": Side.BUY, "sell": Side.SELL}
STEP0_DEPTH = 150  # levels of `depth.step0`, at most
BOOK_DEPTH = 400  # of the book that we subscribe to: the deepest
TOP_DEPTH = 20
SNAPSHOT_ID = "snapshot "  # our requests for books are named so, with the symbol
INTERVALS = {
    "1min": 60,
    "5min": 300,
    "15min": 900,
    "30min": 1800,
    "60min": 3600,
    "4hour": 14_400,
    "1day": 86_400,
    "1week": 604_800,
}


# --- wire messages --------------------------------------------------------------------------------


class Message(msgspec.Struct):
    """Whatever arrives; the last three on the notification sockets of swaps.

    {"ch":"market.trioeth.depth.step0","ts":1618678069870,"tick":{...}}
    {"id":"1","rep":"market.btcusdt.mbp.400","status":"ok","ts":1573199608679,"data":{...}}
    {"id":"1","status":"ok","subbed":"market.trioeth.depth.step0","ts":1618678070653}
    {"status":"error","err-code":"bad-request","err-msg":"invalid symbol xxx","id":"1","ts":1618678070653}
    {"ping":1618678073643}
    {"op":"notify","topic":"public.BTC-USDT.funding_rate","ts":1643960260995,"data":[{...}]}
    {"op":"sub","cid":"1","topic":"public.BTC-USDT.funding_rate","ts":1670903745088,"err-code":0}
    {"op":"ping","ts":"1492420473058"}
    """

    ch: str = ""
    ts: int | str = 0  # sent, ms
    tick: Raw = EMPTY
    rep: str = ""
    data: Raw = EMPTY
    subbed: str = ""
    unsubbed: str = ""
    status: str = ""
    id: int | str = ""
    ping: int | None = None
    op: str = ""
    topic: str = ""
    err_code: int | str = msgspec.field(name="err-code", default=0)
    err_msg: str = msgspec.field(name="err-msg", default="")


class _Changes(msgspec.Struct, gc=False):
    """`mbp.<levels>`: changes; also the snapshot that was requested. A side may be missing or null.

    {"seqNum":100020146795,"prevSeqNum":100020146794,"bids":[],"asks":[[645.14,26.75597]]}
    """

    seqNum: int
    prevSeqNum: int = -1
    bids: Raw = EMPTY
    asks: Raw = EMPTY


class _Book(msgspec.Struct, gc=False):
    """`depth.step0`, `mbp.refresh.<levels>`. Delisted symbols have neither side.

    {"bids":[[9.121E-7,92730.24]],"asks":[[9.2E-7,13463.35]],"version":100179,"ts":1618678069870}
    """

    bids: Raw = EMPTY
    asks: Raw = EMPTY
    ts: int = 0  # ms


class _Trade(msgspec.Struct, gc=False):
    """An entry of `trade.detail`. `amount` is in contracts on swaps, which have no `tradeId`.

    {"id":100182534526255757567432481,"ts":1618678027940,"tradeId":100045088885,"amount":20995.88,"price":9.2E-7,
     "direction":"buy"}
    """

    id: int  # up to 27 digits
    ts: int
    amount: Raw
    price: Raw
    direction: str  # the taker's
    tradeId: int | None = None


class _Trades(msgspec.Struct, gc=False):
    data: list[_Trade]


class _Best(msgspec.Struct, gc=False):
    """`bbo`.

    {"seqId":157,"ask":62382.57,"askSize":0.0955,"bid":62382.56,"bidSize":0.0795,"quoteTime":1782208005090,
     "symbol":"btcusdt"}
    """

    bid: Raw = EMPTY
    bidSize: Raw = EMPTY
    ask: Raw = EMPTY
    askSize: Raw = EMPTY
    quoteTime: int = 0  # ms


class _Ticker(msgspec.Struct, gc=False):
    """`ticker`. {"open":27516.87,"close":26274.0,"bid":26275.21,"ask":26275.22,"lastPrice":26274.0}"""

    lastPrice: Raw


class _Candle(msgspec.Struct, gc=False):
    """`kline.<interval>`. Swaps count contracts in `vol`, and linear ones have `trade_turnover`.

    {"id":1619586180,"open":54907.85,"close":54840.82,"low":54835.5,"high":54917.74,"amount":13.815438084125795,
     "vol":758023.92393986,"count":404}
    """

    id: int  # its start, s
    open: Raw
    high: Raw
    low: Raw
    close: Raw
    amount: Raw  # coins
    vol: Raw  # money
    trade_turnover: Raw = EMPTY


class _Entries(msgspec.Struct):
    data: list[Raw]


class _Entry(msgspec.Struct, rename="kebab"):
    """A symbol of `/v1/common/symbols`.

    {"base-currency":"yee","quote-currency":"btc","price-precision":10,"amount-precision":2,"symbol":"yeebtc",
     "state":"online"}
    """

    symbol: str
    base_currency: str
    quote_currency: str
    price_precision: int
    amount_precision: int
    state: str = ""


_decode_message = msgspec.json.Decoder(Message).decode
_decode_changes = msgspec.json.Decoder(_Changes).decode
_decode_book = msgspec.json.Decoder(_Book).decode
_decode_trades = msgspec.json.Decoder(_Trades).decode
_decode_best = msgspec.json.Decoder(_Best).decode
_decode_ticker = msgspec.json.Decoder(_Ticker).decode
_decode_candle = msgspec.json.Decoder(_Candle).decode
_decode_entries = msgspec.json.Decoder(_Entries).decode
_decode_entry = msgspec.json.Decoder(_Entry).decode


# --- decoders -------------------------------------------------------------------------------------


class HtxBaseDecoder(MessageDecoder):
    """What spot and swaps share. A subclass decodes its channels in `decode_channel`."""

    silent_kinds: ClassVar[dict[str, str]] = {
        "ping": "answered",
        "ack": "a subscription is confirmed, or ended",
        "no levels": "a book without sides, of a symbol that is not traded any more",
        "no snapshot": "the reply to a request for a book that is not there yet: asked for again",
    }

    counts_contracts: ClassVar[bool] = False

    def decode_other(self, payload: bytes, ts_recv: int) -> None:
        """Decode one message, gzip or the text in it: errors then show the text."""
        if payload.startswith(GZIP):
            try:
                payload = inflate(payload)
            except ValueError as error:
                raise DecodeError(f"{self.exchange}: {error}", kind="bad_value", payload=payload) from None
        super().decode_other(payload, ts_recv)

    def decode_message(self, payload: bytes) -> None:
        message = _decode_message(payload)
        if message.ch:
            market, _, rest = message.ch.partition(".")
            symbol, _, channel = rest.partition(".")
            if market != "market" or not channel:
                raise self.error("unknown_message", f"expected market.<symbol>.<channel>, found {message.ch!r}")
            if (instrument := self.find(symbol)) is not None:
                self.decode_channel(instrument, channel, message)
        elif message.ping is not None:
            self.request(Send(b'{"pong":%d}' % message.ping))
            self.nothing("ping")
        elif message.status == "error":
            self._decode_error(message)
        elif message.rep:
            self._decode_reply(message)
        elif message.subbed or message.unsubbed:
            self.nothing("ack")
        else:
            self.decode_operation(message)

    def decode_channel(self, instrument: Instrument, channel: str, message: Message) -> None:
        """Decode a message of a channel that only the subclass has."""
        raise self.error("unknown_message", f"expected a known channel, found {channel!r}")

    def decode_operation(self, message: Message) -> None:
        """Decode a message that is of no channel and no reply."""
        raise self.error("unknown_message", "expected a channel, a reply or a ping")

    def decode_snapshot_reply(self, instrument: Instrument, message: Message) -> None:
        """Decode the reply to a request for a book."""
        raise self.error("unknown_message", f"expected no reply, found one of {message.rep!r}")

    def decode_common(self, instrument: Instrument, channel: str, message: Message) -> bool:
        """Decode a message of a channel that spot and swaps have; False for another one."""
        if channel == "depth.step0":
            self.decode_top(instrument, message, STEP0_DEPTH)
        elif channel == "trade.detail":
            for trade in _decode_trades(message.tick).data:
                ts = ms_ns(trade.ts)
                self.trade(
                    instrument,
                    trade.price,
                    trade.amount,
                    side=SIDES[trade.direction],
                    id=trade.id if trade.tradeId is None else trade.tradeId,
                    ts_event=ts,
                    is_backlog=self.is_backlog(instrument, ts),
                )
        elif channel.startswith("kline."):
            self._decode_candle(instrument, channel.removeprefix("kline."), message)
        else:
            return False
        return True

    def decode_top(self, instrument: Instrument, message: Message, depth: int) -> None:
        """Decode a book of the best levels."""
        book = _decode_book(message.tick)
        if not book.bids and not book.asks:
            self.nothing("no levels")
            return
        ts = ms_ns(book.ts or message.ts)
        self.book(instrument, book.bids, book.asks, is_snapshot=True, depth=depth, ts_event=ts)

    def _decode_candle(self, instrument: Instrument, interval: str, message: Message) -> None:
        candle = _decode_candle(message.tick)
        self.candle(
            instrument,
            ts_open=ms_ns(candle.id * 1000),
            interval=INTERVALS[interval],
            open=candle.open,
            high=candle.high,
            low=candle.low,
            close=candle.close,
            volume=candle.vol if self.counts_contracts else candle.amount,
            quote_volume=_known(candle.trade_turnover) if self.counts_contracts else candle.vol,
            ts_event=ms_ns(message.ts),
        )

    def _decode_error(self, message: Message) -> None:
        reason = f"{message.err_code}: {message.err_msg}"
        name = str(message.id)
        if name.startswith(
            SNAPSHOT_ID
        ):  # the subscription stands: the book is asked for again when this one does not come
            raise self.error("unknown_reply", f"expected the book of {name.removeprefix(SNAPSHOT_ID)}, found {reason}")
        self.refused(reason)

    def _decode_reply(self, message: Message) -> None:
        instrument = self.find(message.rep.split(".")[1])
        if instrument is not None:
            self.decode_snapshot_reply(instrument, message)


class HtxDecoder(HtxBaseDecoder):
    """Decodes spot.

    The snapshot of a book is requested on the socket of its changes; it is joined with those by their ids.
    """

    silent_kinds: ClassVar[dict[str, str]] = HtxBaseDecoder.silent_kinds | {
        "other depth": "a second book topic of a symbol: its ids are not those of the first, which keeps the book"
    }

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._depths: dict[str, int] = {}  # raw symbol -> levels of the mbp that keeps its book

    def decode_channel(self, instrument: Instrument, channel: str, message: Message) -> None:
        if channel.startswith("mbp.refresh."):
            self.decode_top(instrument, message, int(channel.removeprefix("mbp.refresh.")))
        elif channel.startswith("mbp."):
            self._decode_changes(instrument, int(channel.removeprefix("mbp.")), message)
        elif channel == "bbo":
            best = _decode_best(message.tick)
            ts = ms_ns(best.quoteTime or message.ts)
            sides = [_known(value) for value in (best.bid, best.bidSize, best.ask, best.askSize)]
            self.quote(instrument, *sides, ts_event=ts)
        elif channel == "ticker":
            self.ticker(instrument, last_price=_decode_ticker(message.tick).lastPrice, ts_event=ms_ns(message.ts))
        elif not self.decode_common(instrument, channel, message):
            super().decode_channel(instrument, channel, message)

    def decode_snapshot_reply(self, instrument: Instrument, message: Message) -> None:
        depth = int(message.rep.partition(".mbp.")[2])
        if _known(message.data) is None:
            self.nothing("no snapshot")
            self.request_snapshot(instrument)
            return
        book = _decode_changes(message.data)
        self.book(
            instrument,
            book.bids,
            book.asks,
            is_snapshot=True,
            starts_over=False,
            window=depth,
            last_id=book.seqNum,
            ts_event=ms_ns(message.ts),
        )

    def request_snapshot(self, instrument: Instrument) -> None:
        name = instrument.raw_symbol
        topic = f"market.{name}.mbp.{self._depths.get(name, BOOK_DEPTH)}"
        self.request(Resubscribe((msgspec.json.encode({"req": topic, "id": f"{SNAPSHOT_ID}{name}"}),), name))

    def infer(self, raw_symbol: str) -> tuple[str | None, str]:
        return None, "spot"  # where the base ends and the quote begins only metadata tell

    def _decode_changes(self, instrument: Instrument, depth: int, message: Message) -> None:
        if self._depths.setdefault(instrument.raw_symbol, depth) != depth:
            self.nothing("other depth")
            return
        book = _decode_changes(message.tick)
        self.book(
            instrument,
            book.bids,
            book.asks,
            window=depth,
            first_id=book.seqNum,  # one that began before the snapshot and ends after it does not continue it
            last_id=book.seqNum,
            previous_id=book.prevSeqNum,
            ts_event=ms_ns(message.ts),
        )


def _known(value: Raw) -> Raw | None:
    return None if bytes(value) in (b"", b"null") else value


# --- exchange -------------------------------------------------------------------------------------


class Htx(Exchange):
    """HTX spot. The exchange pings every five seconds and ends connections that do not answer."""

    id = "htx"
    copies_differ = "its pings are answered by the decoder, which knows of one connection"
    endpoints = Endpoints(ws="wss://api.huobi.pro", rest="https://api.huobi.pro")
    channels: Sequence[str] = ("book", "book_top", "quote", "trade", "ticker", "candle")
    decoder: type[MessageDecoder] = HtxDecoder
    new_sequence: type[SequenceRule] = LinkedSequence
    instruments_urls: Sequence[str] = ("/v1/common/symbols",)
    message_interval = 0.1  # seconds; some 50 requests a second are said to be allowed
    max_topics_per_message = 1
    urls = re.compile(r"//api(-aws)?\.(huobi\.pro|htx\.com)\b")
    messages = re.compile(rb'"ch": ?"market\.[a-z0-9]+\.(mbp|depth|trade|bbo|kline|ticker)\b')

    def list_instruments(self, payload: bytes) -> Iterable[Any]:
        return _decode_entries(payload).data

    def add_instrument(self, entry: Any, instruments: Instruments) -> None:
        found = _decode_entry(entry)
        if found.state == "offline":
            return
        instruments.add(
            self.id,
            found.symbol,
            symbol=f"{found.base_currency}-{found.quote_currency}".upper(),
            kind="spot",
            tick_size=f"1e-{found.price_precision}",
            lot_size=f"1e-{found.amount_precision}",
        )

    def topics(self, instrument: Instrument, channel: str) -> Sequence[Topic]:
        topic = {
            "book": f"mbp.{BOOK_DEPTH}",
            "book_top": f"mbp.refresh.{TOP_DEPTH}",
            "quote": "bbo",
            "trade": "trade.detail",
            "ticker": "ticker",
            "candle": "kline.1min",
        }[channel]
        return [Topic(FEED if channel == "book" else MARKET, f"market.{instrument.raw_symbol}.{topic}")]

    def subscribe_message(self, path: str, args: Sequence[Any], number: int) -> bytes:
        return msgspec.json.encode({"sub": args[0], "id": str(number)})

    def unsubscribe_message(self, path: str, args: Sequence[Any], number: int) -> bytes:
        return msgspec.json.encode({"unsub": args[0], "id": str(number)})


EXCHANGE = Htx()
