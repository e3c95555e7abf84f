"""Bithumb: the protocol of `upbit`; and the socket it had before, for recordings.

https://apidocs.bithumb.com/v2.1.5/reference/websocket-guide
"""

from __future__ import annotations

import re
from typing import ClassVar

import msgspec
from msgspec import Raw

from feeds.events import Side
from feeds.exchange import Endpoints, Older, RateLimit
from feeds.exchanges.upbit import Upbit, UpbitDecoder
from feeds.instrument import Instrument
from feeds.message_decoder import MessageDecoder
from feeds.times import iso_ns, us_ns

OLD_SIDES = {"1": Side.SELL, "2": Side.BUY}
KOREAN_TIME = 9 * 3600 * 1_000_000_000  # ns before UTC
EMPTY = Raw(b"")


class _OldMessage(msgspec.Struct):
    """Whatever arrived on the socket of old.

    {"status":"0000","resmsg":"Filter Registered Successfully"}
    {"type":"transaction","content":{"list":[...]}}
    """

    type: str = ""
    content: Raw = EMPTY
    status: str = ""
    resmsg: str = ""


class _OldTrade(msgspec.Struct, gc=False):
    """{"buySellGb":"2","contPrice":"3.908","contQty":"12365.191","contAmt":"48323.166",
    "contDtm":"2021-06-02 08:43:34.555058","updn":"dn","symbol":"CON_KRW"}"""

    buySellGb: str  # the taker's: 1 sold, 2 bought
    contPrice: str
    contQty: str
    contDtm: str  # Korean time
    symbol: str


class _OldTrades(msgspec.Struct):
    trades: list[_OldTrade] = msgspec.field(name="list")


class _OldBook(msgspec.Struct, gc=False):
    """`orderbooksnapshot`: 30 levels.

    {"symbol":"BTC_KRW","datetime":"1622591015093842","bids":[["43232000","0.1"]],"asks":[["43240000","0.2"]]}
    """

    symbol: str
    datetime: str  # us
    bids: Raw
    asks: Raw


class _OldTicker(msgspec.Struct, gc=False):
    """{"symbol":"BTC_KRW","tickType":"24H","date":"20200129","time":"121844","closePrice":"10405000"}"""

    symbol: str
    date: str  # Korean time
    time: str
    closePrice: str


_decode_old_message = msgspec.json.Decoder(_OldMessage).decode
_decode_old_trades = msgspec.json.Decoder(_OldTrades).decode
_decode_old_book = msgspec.json.Decoder(_OldBook).decode
_decode_old_ticker = msgspec.json.Decoder(_OldTicker).decode


class BithumbDecoder(UpbitDecoder):
    """Decodes what Upbit's protocol is here: times of books in us, levels whose size is rounded to 0."""


class BithumbOldDecoder(MessageDecoder):
    """Decodes the socket before: `pub/ws`."""

    silent_kinds: ClassVar[dict[str, str]] = {
        "status": "connected, or a subscription is confirmed",
        "changes of a book": "without a snapshot to begin from, nor ids: of no use",
    }

    def decode_message(self, payload: bytes) -> None:
        message = _decode_old_message(payload)
        if message.type == "transaction":
            for trade in _decode_old_trades(message.content).trades:
                if (instrument := self.find(trade.symbol)) is not None:
                    ts = iso_ns(f"{trade.contDtm.replace(' ', 'T')}Z") - KOREAN_TIME
                    self.trade(instrument, trade.contPrice, trade.contQty, side=OLD_SIDES[trade.buySellGb], ts_event=ts)
        elif message.type == "orderbooksnapshot":
            book = _decode_old_book(message.content)
            if (instrument := self.find(book.symbol)) is not None:
                ts = us_ns(book.datetime)
                self.book(instrument, book.bids, book.asks, is_snapshot=True, depth=30, ts_event=ts)
        elif message.type == "ticker":
            ticker = _decode_old_ticker(message.content)
            if (instrument := self.find(ticker.symbol)) is not None:
                day, time = ticker.date, ticker.time
                text = f"{day[:4]}-{day[4:6]}-{day[6:]}T{time[:2]}:{time[2:4]}:{time[4:]}Z"
                self.ticker(instrument, last_price=ticker.closePrice, ts_event=iso_ns(text) - KOREAN_TIME)
        elif message.type == "orderbookdepth":
            self.nothing("changes of a book")
        elif message.status == "0000":
            self.nothing("status")
        elif message.status:
            self.refused(f"{message.status}: {message.resmsg}")
        else:
            raise self.error("unknown_message", f"expected a known type, found {message.type!r}")

    def request_snapshot(self, instrument: Instrument) -> None:
        """The next message has the whole of what is shown."""

    def infer(self, raw_symbol: str) -> tuple[str | None, str]:
        base, _, quote = raw_symbol.partition("_")
        return (f"{base}-{quote}", "spot") if base and quote else (None, "unknown")


class Bithumb(Upbit):
    """Bithumb, Korea."""

    id = "bithumb"
    endpoints = Endpoints(ws="wss://ws-api.bithumb.com", rest="https://api.bithumb.com")
    channels = ("book", "trade", "ticker")
    decoder: type[MessageDecoder] = BithumbDecoder
    max_topics_per_connection = 1000
    connection_limits = (RateLimit(10, 1),)
    urls = re.compile(r"//(ws-api|api|pubwss)\.bithumb\.com\b")
    messages = re.compile(rb'^\{"type":"transaction","content":|^\{"type":"orderbook","code":"[^"]+","total_ask_size":')


class BithumbOld(Bithumb):
    """Bithumb on `pub/ws`: for recordings."""

    decoder = BithumbOldDecoder


EXCHANGE = Bithumb()
EXCHANGE.older = (
    Older(BithumbOld(), until=iso_ns("2024-01-01T00:00:00Z"), url=re.compile(r"//pubwss\.bithumb\.com/pub/ws\b")),
)
