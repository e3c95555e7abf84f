"""Crypto.com Exchange v1: spot, perpetuals and futures on one socket.

https://exchange-docs.crypto.com/exchange/v1/rest-ws/index.html#websocket-subscriptions

`cs` of books is no checksum that anybody could reproduce: it is ignored.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from typing import Any, ClassVar

import msgspec
from msgspec import Raw

from feeds.decoder import Resubscribe, Send
from feeds.events import Side
from feeds.exchange import ConnectionPlan, Endpoints, Exchange, Topic
from feeds.instrument import Instrument, Instruments
from feeds.message_decoder import MessageDecoder
from feeds.sequencing import LinkedSequence
from feeds.times import ms_ns

PATH = "/exchange/v1/market"
EMPTY = Raw(b"")
DEPTH = 50  # the deepest that comes as changes
SIDES = {"BUY": Side.BUY, "SELL": Side.SELL}
CANDLE_UNITS = {"m": 60, "h": 3600, "D": 86_400}


# --- wire messages --------------------------------------------------------------------------------


class _Result(msgspec.Struct):
    instrument_name: str = ""
    subscription: str = ""
    channel: str = ""
    depth: int = 0
    data: Raw = EMPTY


class _Message(msgspec.Struct):
    """Whatever arrives.

    {"id":-1,"code":0,"method":"subscribe","result":{"instrument_name":"DOGE_USDT","subscription":"book.DOGE_USDT.50",
     "channel":"book.update","depth":50,"data":[...]}}
    {"id":1,"code":40003,"method":"subscribe","message":"Invalid request"}
    {"id":1587523073344,"method":"public/heartbeat","code":0}
    """

    method: str
    id: int = -1
    code: int = 0
    message: str = ""
    result: _Result | None = None


class _Sides(msgspec.Struct, gc=False):
    bids: Raw
    asks: Raw


class _Book(msgspec.Struct, gc=False):
    """A snapshot, or changes in `update`. Levels are [price, size, order count].

    {"bids":[["0.0621","300","1"]],"asks":[["0.0622","10","1"]],"t":1654784123465,"tt":1654784123460,"u":542048017824,"cs":1}
    {"update":{"bids":[["0.0621","0","0"]],"asks":[]},"t":1654784123565,"tt":1654784123560,"u":542048017920,
     "pu":542048017824,"cs":2}
    """

    u: int
    t: int  # ms
    tt: int = 0  # ms, of the last change
    pu: int = -1
    bids: Raw = EMPTY
    asks: Raw = EMPTY
    update: _Sides | None = None


class _Trade(msgspec.Struct, gc=False):
    """`trade`, newest first.

    {"d":"1613600000000000","t":1654784123465,"p":"0.062","q":"300","s":"BUY","i":"DOGE_USDT"}
    """

    d: str | int  # several fills may share one
    t: int
    p: Raw
    q: Raw
    s: str  # the taker's
    i: str


class _Ticker(msgspec.Struct, gc=False):
    """`ticker`. Any may be null.

    {"i":"BTCUSD-PERP","b":"30120.1","bs":"0.2","k":"30120.2","ks":"0.3","a":"30120.1","oi":"100.5","t":1654784123465}
    """

    i: str
    t: int
    b: Raw = EMPTY  # best bid
    bs: Raw = EMPTY
    k: Raw = EMPTY  # best ask
    ks: Raw = EMPTY
    a: Raw = EMPTY  # last price
    oi: Raw = EMPTY


class _Value(msgspec.Struct, gc=False):
    """`mark`, `index`, `funding`, `estimatedfunding`. {"v":"30123.5","t":1654784123465}"""

    v: Raw
    t: int


class _Candle(msgspec.Struct, gc=False):
    """`candlestick`. {"o":"30120","h":"30121","l":"30119","c":"30120.5","v":"1.2","t":1654784100000}"""

    o: Raw
    h: Raw
    l: Raw  # noqa: E741  # as the exchange names it
    c: Raw
    v: Raw
    t: int  # start, ms


class _Listed(msgspec.Struct):
    data: list[Raw]


class _Reply(msgspec.Struct):
    """The reply to `public/get-instruments`."""

    result: _Listed


class _Entry(msgspec.Struct):
    """{"symbol":"BTCUSD-PERP","inst_type":"PERPETUAL_SWAP","base_ccy":"BTC","quote_ccy":"USD","price_tick_size":"0.1",
    "qty_tick_size":"0.0001","expiry_timestamp_ms":0}"""

    symbol: str
    inst_type: str
    base_ccy: str
    quote_ccy: str
    price_tick_size: str
    qty_tick_size: str
    expiry_timestamp_ms: int = 0


_decode_message = msgspec.json.Decoder(_Message).decode
_decode_books = msgspec.json.Decoder(list[_Book]).decode
_decode_trades = msgspec.json.Decoder(list[_Trade]).decode
_decode_tickers = msgspec.json.Decoder(list[_Ticker]).decode
_decode_values = msgspec.json.Decoder(list[_Value]).decode
_decode_candles = msgspec.json.Decoder(list[_Candle]).decode
_decode_reply = msgspec.json.Decoder(_Reply).decode
_decode_entry = msgspec.json.Decoder(_Entry).decode


# --- decoder --------------------------------------------------------------------------------------


class CryptoComDecoder(MessageDecoder):
    """Decodes what the market socket sends."""

    silent_kinds: ClassVar[dict[str, str]] = {
        "ack": "a subscription is confirmed",
        "heartbeat": "the exchange's ping, which is answered",
        "settlement": "settlement prices, of which there are no events",
    }

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._traded: set[str] = set()  # names whose backlog has come

    def decode_message(self, payload: bytes) -> None:
        message = _decode_message(payload)
        if message.method == "public/heartbeat":
            self.request(Send(b'{"id":%d,"method":"public/respond-heartbeat"}' % message.id))
            self.nothing("heartbeat")
        elif message.method not in ("subscribe", "unsubscribe"):
            raise self.error("unknown_message", f"expected a known method, found {message.method!r}")
        elif message.code:
            self.refused(f"code {message.code}: {message.message}")
        elif message.result is None or not message.result.channel:
            self.nothing("ack")
        else:
            self._decode_data(message.result)

    def request_snapshot(self, instrument: Instrument) -> None:
        topics = [f"book.{instrument.raw_symbol}.{DEPTH}"]
        messages = (_request("unsubscribe", topics, 1), _request("subscribe", topics, 2))
        self.request(Resubscribe(messages, instrument.raw_symbol))

    def infer(self, raw_symbol: str) -> tuple[str | None, str]:
        return name_of(raw_symbol)

    def _decode_data(self, result: _Result) -> None:
        channel, data = result.channel, result.data
        if channel == "settlement":
            self.nothing("settlement")
            return
        # An index has the name BTCUSD-INDEX: an instrument of its own.
        instrument = self.find(result.instrument_name)
        if instrument is None:
            return
        if channel in ("book", "book.update"):
            self._decode_books(instrument, result)
        elif channel == "trade":
            self._decode_trades(data)
        elif channel == "ticker":
            for ticker in _decode_tickers(data):
                ts = ms_ns(ticker.t)
                bid, bid_qty, ask, ask_qty = (_value(raw) for raw in (ticker.b, ticker.bs, ticker.k, ticker.ks))
                self.quote(instrument, bid, bid_qty, ask, ask_qty, ts_event=ts)
                last, interest = _value(ticker.a), _value(ticker.oi)
                self.ticker(instrument, last_price=last, open_interest=interest, ts_event=ts)
        elif channel in ("mark", "index"):
            for value in _decode_values(data):
                price = {f"{channel}_price": value.v}
                self.ticker(instrument, **price, ts_event=ms_ns(value.t))  # type: ignore[arg-type]
        elif channel == "funding":
            for value in _decode_values(data):
                self.funding(instrument, funding_rate=value.v, ts_event=ms_ns(value.t))
        elif channel == "estimatedfunding":
            for value in _decode_values(data):
                self.funding(instrument, funding_rate=None, next_funding_rate=value.v, ts_event=ms_ns(value.t))
        elif channel == "candlestick":
            interval = result.subscription.split(".")[1]
            seconds = int(interval[:-1]) * CANDLE_UNITS[interval[-1:]]
            for candle in _decode_candles(data):
                self.candle(
                    instrument,
                    ts_open=ms_ns(candle.t),
                    interval=seconds,
                    open=candle.o,
                    high=candle.h,
                    low=candle.l,
                    close=candle.c,
                    volume=candle.v,
                )
        else:
            raise self.error("unknown_message", f"expected a known channel, found {channel!r}")

    def _decode_books(self, instrument: Instrument, result: _Result) -> None:
        is_snapshot = result.channel == "book"
        for book in _decode_books(result.data):
            sides = book if is_snapshot else book.update
            if sides is None:
                raise self.error("missing_field", "expected 'update' in a change of a book")
            self.book(
                instrument,
                sides.bids,
                sides.asks,
                is_snapshot=is_snapshot,
                first_id=book.u,
                last_id=book.u,
                previous_id=book.pu,
                ts_event=ms_ns(book.tt or book.t),
            )

    def _decode_trades(self, data: Raw) -> None:
        trades = _decode_trades(data)
        for trade in reversed(trades):
            if (instrument := self.find(trade.i)) is not None:
                self.trade(
                    instrument,
                    trade.p,
                    trade.q,
                    side=SIDES[trade.s],
                    id=trade.d,
                    ts_event=ms_ns(trade.t),
                    is_backlog=trade.i not in self._traded,
                )
        self._traded.update(trade.i for trade in trades)


def _value(raw: Raw) -> Raw | None:
    """Return a number that may be null or missing."""
    return None if bytes(raw) in (b"", b"null") else raw


def _request(method: str, topics: Sequence[str], number: int) -> bytes:
    params: dict[str, Any] = {"channels": topics}
    if method == "subscribe":
        params |= {"book_subscription_type": "SNAPSHOT_AND_UPDATE", "book_update_frequency": 10}
    return msgspec.json.encode({"id": number, "method": method, "params": params})


def name_of(raw_symbol: str) -> tuple[str | None, str]:
    """Return (our symbol, kind) of BTC_USDT or a perpetual, BTCUSD-PERP."""
    base, _, quote = raw_symbol.partition("_")
    if base and quote and "-" not in raw_symbol:
        return f"{base}-{quote}", "spot"
    name = raw_symbol.removesuffix("USD-PERP")
    if name != raw_symbol and name:
        return f"{name}-USD-PERP", "perpetual"
    return None, "unknown"


# --- exchange -------------------------------------------------------------------------------------


class CryptoCom(Exchange):
    """Crypto.com Exchange."""

    id = "crypto-com"
    copies_differ = "its pings are answered by the decoder, which knows of one connection"
    endpoints = Endpoints(ws="wss://stream.crypto.com", rest="https://api.crypto.com")
    channels = ("book", "quote", "trade", "ticker", "funding", "candle")
    decoder = CryptoComDecoder
    new_sequence = LinkedSequence
    instruments_urls = ("/exchange/v1/public/get-instruments",)
    max_topics_per_connection = 400
    subscribe_after = 1.0  # seconds: what a connection may send counts from when it is made
    urls = re.compile(r"//(stream|api)\.crypto\.com\b")
    messages = re.compile(rb'"method":"subscribe".*"subscription":"(book|trade|ticker|mark|funding|candlestick)\.')

    def list_instruments(self, payload: bytes) -> Iterable[Any]:
        return _decode_reply(payload).result.data

    def add_instrument(self, entry: Any, instruments: Instruments) -> None:
        found = _decode_entry(entry)
        name = f"{found.base_ccy}-{found.quote_ccy}"
        if found.inst_type == "CCY_PAIR":
            symbol, kind = name, "spot"
        elif found.inst_type == "PERPETUAL_SWAP":
            symbol, kind = f"{name}-PERP", "perpetual"
        elif found.inst_type == "FUTURE":
            day = datetime.fromtimestamp(found.expiry_timestamp_ms / 1000, timezone.utc)
            symbol, kind = f"{name}-{day:%Y%m%d}", "future"
        else:
            return
        instruments.add(
            self.id,
            found.symbol,
            symbol=symbol,
            kind=kind,
            tick_size=found.price_tick_size,
            lot_size=found.qty_tick_size,
        )

    def topics(self, instrument: Instrument, channel: str) -> Sequence[Topic]:
        name, is_spot = instrument.raw_symbol, instrument.kind == "spot"
        names = {
            "book": [f"book.{name}.{DEPTH}"],
            "quote": [f"ticker.{name}"],
            "trade": [f"trade.{name}"],
            "ticker": [f"ticker.{name}"] if is_spot else [f"ticker.{name}", f"mark.{name}"],
            "funding": [f"funding.{name}", f"estimatedfunding.{name}"] if instrument.kind == "perpetual" else [],
            "candle": [f"candlestick.1m.{name}"],
        }
        return [Topic(PATH, topic) for topic in names[channel]]

    def subscribe_message(self, path: str, args: Sequence[Any], number: int) -> bytes:
        return _request("subscribe", args, number)

    def unsubscribe_message(self, path: str, args: Sequence[Any], number: int) -> bytes:
        return _request("unsubscribe", args, number)

    def connection(self, path: str, args: Sequence[Any]) -> ConnectionPlan:
        return msgspec.structs.replace(super().connection(path, args), subscribe_after=self.subscribe_after)


EXCHANGE = CryptoCom()
