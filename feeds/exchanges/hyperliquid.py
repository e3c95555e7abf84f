"""Hyperliquid: perpetuals of all dexes and spot, on one socket.

https://hyperliquid.gitbook.io/hyperliquid-docs/for-developers/api/websocket/subscriptions

There are no changes of books, only snapshots of the best levels: channel `book_top`. A coin that does not exist closes
the whole connection without a word, so names must be exact, case included.
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
from feeds.levels import LevelShape
from feeds.message_decoder import MessageDecoder
from feeds.times import ms_ns

EMPTY = Raw(b"")
DEPTH, FAST_DEPTH = 20, 5
SIDES = {"B": Side.BUY, "A": Side.SELL}  # the taker's: bid, ask
CANDLE_UNITS = {"m": 60, "h": 3600, "d": 86_400, "w": 604_800}


# --- wire messages --------------------------------------------------------------------------------


class _Message(msgspec.Struct):
    """{"channel":"trades","data":[...]}  {"channel":"error","data":"..."}  {"channel":"pong"}"""

    channel: str
    data: Raw = EMPTY


class _Book(msgspec.Struct, gc=False):
    """`l2Book`: 20 levels about every 5 s, or with `fast` 5 levels about every 0.5 s.

    {"coin":"BANANA","time":1730160007687,"levels":[[{"px":"59.8","sz":"3.4","n":1}],[{"px":"59.811","sz":"2.9","n":1}]]}
    """

    coin: str
    time: int
    levels: tuple[Raw, Raw]  # bids, asks
    fast: bool = False


class _Level(msgspec.Struct, gc=False):
    px: str
    sz: str


class _Quote(msgspec.Struct, gc=False):
    """`bbo`: [bid, ask]. A side that is missing is null, or the array is shorter.

    {"coin":"BTC","time":1750948919838,"bbo":[{"px":"107575.0","sz":"3.87947","n":17},null]}
    """

    coin: str
    time: int
    bbo: list[_Level | None]


class _Trade(msgspec.Struct, gc=False):
    """`trades`.

    {"coin":"BTC","side":"B","px":"69997.0","sz":"0.38111","time":1730160006192,"hash":"0x40d1","tid":1016375172059570}
    """

    coin: str
    side: str
    px: str
    sz: str
    time: int
    tid: int


class _Context(msgspec.Struct, gc=False):
    """{"funding":"0.0000125","openInterest":"29505.06","oraclePx":"69990.0","markPx":"69996.0","midPx":null}"""

    markPx: str | None = None
    oraclePx: str | None = None
    openInterest: str | None = None
    funding: str | None = None  # of an hour


class _AssetContext(msgspec.Struct, gc=False):
    """`activeAssetCtx`, `activeSpotAssetCtx`: without a time. {"coin":"BTC","ctx":{...}}"""

    coin: str
    ctx: _Context


class _Candle(msgspec.Struct, gc=False):
    """`candle`.

    {"t":1730160000000,"T":1730160059999,"s":"BTC","i":"1m","o":"69990.0","c":"69997.0","h":"70001.0","l":"69985.0",
     "v":"12.3","n":189}
    """

    t: int
    s: str
    i: str
    o: str
    c: str
    h: str
    l: str  # noqa: E741  # as the exchange names it
    v: str


class _Perpetual(msgspec.Struct):
    """{"name":"BTC","szDecimals":5,"maxLeverage":40}"""

    name: str
    szDecimals: int
    isDelisted: bool = False


class _Token(msgspec.Struct):
    """{"name":"PURR","szDecimals":0,"index":1}"""

    name: str
    szDecimals: int
    index: int


class _Pair(msgspec.Struct):
    """{"name":"@107","tokens":[150,0],"index":107}"""

    name: str
    tokens: tuple[int, int]  # base, quote


class _Meta(msgspec.Struct):
    """The reply to `spotMeta`; one of those in the reply to `allPerpMetas` has no tokens."""

    universe: list[Raw]
    tokens: list[_Token] = []


_decode_message = msgspec.json.Decoder(_Message).decode
_decode_book = msgspec.json.Decoder(_Book).decode
_decode_quote = msgspec.json.Decoder(_Quote).decode
_decode_trades = msgspec.json.Decoder(list[_Trade]).decode
_decode_context = msgspec.json.Decoder(_AssetContext).decode
_decode_candle = msgspec.json.Decoder(_Candle).decode
_decode_text = msgspec.json.Decoder(str).decode
_decode_meta = msgspec.json.Decoder(_Meta).decode
_decode_metas = msgspec.json.Decoder(list[_Meta]).decode
_decode_perpetual = msgspec.json.Decoder(_Perpetual).decode
_decode_pair = msgspec.json.Decoder(_Pair).decode


# --- decoder --------------------------------------------------------------------------------------


class HyperliquidDecoder(MessageDecoder):
    """Decodes what the socket sends."""

    supersede_keys = (
        b'{"channel":"bbo","data":{"coin":"*",...}}',
        b'{"channel":"l2Book","data":{"coin":"*",...}}',
    )
    silent_kinds: ClassVar[dict[str, str]] = {
        "pong": "the answer to our ping",
        "subscriptionResponse": "a subscription is confirmed",
    }
    levels = LevelShape("px", "sz")

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._traded: set[str] = set()  # coins whose backlog has come

    def decode_message(self, payload: bytes) -> None:
        message = _decode_message(payload)
        channel, data = message.channel, message.data
        if channel == "l2Book":
            self._decode_book(data)
        elif channel == "bbo":
            self._decode_quote(data)
        elif channel == "trades":
            self._decode_trades(data)
        elif channel in ("activeAssetCtx", "activeSpotAssetCtx"):
            context = _decode_context(data)
            if (instrument := self.find(context.coin)) is not None:
                self.ticker(
                    instrument,
                    mark_price=context.ctx.markPx,
                    index_price=context.ctx.oraclePx,
                    open_interest=context.ctx.openInterest,
                    funding_rate=context.ctx.funding,
                )
        elif channel == "candle":
            self._decode_candle(data)
        elif channel in self.silent_kinds:
            self.nothing(channel)
        elif channel == "error":
            self.refused(_decode_text(data))
        else:
            raise self.error("unknown_message", f"expected a known channel, found {channel!r}")

    def infer(self, raw_symbol: str) -> tuple[str | None, str]:
        return name_of(raw_symbol)

    def _decode_book(self, data: Raw) -> None:
        book = _decode_book(data)
        if (instrument := self.find(book.coin)) is not None:
            bids, asks = book.levels
            depth = FAST_DEPTH if book.fast else DEPTH
            self.book(instrument, bids, asks, is_snapshot=True, depth=depth, ts_event=ms_ns(book.time))

    def _decode_quote(self, data: Raw) -> None:
        quote = _decode_quote(data)
        if (instrument := self.find(quote.coin)) is not None:
            bid, ask, *_ = [*quote.bbo, None, None]
            self.quote(
                instrument,
                bid.px if bid else None,
                bid.sz if bid else None,
                ask.px if ask else None,
                ask.sz if ask else None,
                ts_event=ms_ns(quote.time),
            )

    def _decode_trades(self, data: Raw) -> None:
        trades = _decode_trades(data)
        for trade in trades:
            if (instrument := self.find(trade.coin)) is not None:
                self.trade(
                    instrument,
                    trade.px,
                    trade.sz,
                    side=SIDES[trade.side],
                    id=trade.tid,
                    ts_event=ms_ns(trade.time),
                    is_backlog=trade.coin not in self._traded,
                )
        self._traded.update(trade.coin for trade in trades)

    def _decode_candle(self, data: Raw) -> None:
        candle = _decode_candle(data)
        if (instrument := self.find(candle.s)) is not None:
            self.candle(
                instrument,
                ts_open=ms_ns(candle.t),
                interval=int(candle.i[:-1]) * CANDLE_UNITS[candle.i[-1:]],
                open=candle.o,
                high=candle.h,
                low=candle.l,
                close=candle.c,
                volume=candle.v,
            )


def name_of(raw_symbol: str) -> tuple[str | None, str]:
    """Return (our symbol, kind): BTC and xyz:SP500 are perpetuals, PURR/USDC is spot; @107 does not say of what."""
    base, slash, quote = raw_symbol.partition("/")
    if slash:
        return (f"{base}-{quote}", "spot") if base and quote else (None, "unknown")
    if raw_symbol.startswith("@"):
        return None, "spot"
    if not raw_symbol or raw_symbol.startswith("#"):  # of an outcome
        return None, "unknown"
    return f"{raw_symbol}-USD-PERP", "perpetual"


# --- exchange -------------------------------------------------------------------------------------


class Hyperliquid(Exchange):
    """Hyperliquid. `fast` books are of 5 levels, ten times as often as those of 20: False for the deeper ones."""

    id = "hyperliquid"
    endpoints = Endpoints(ws="wss://api.hyperliquid.xyz", rest="https://api.hyperliquid.xyz")
    channels = ("book_top", "quote", "trade", "ticker", "candle")
    decoder = HyperliquidDecoder
    fast = True
    instruments_urls = (
        Fetch("/info", "allPerpMetas", b'{"type":"allPerpMetas"}'),
        Fetch("/info", "spotMeta", b'{"type":"spotMeta"}'),
    )
    heartbeat = Heartbeat(30.0, b'{"method":"ping"}')  # closed after 60 s in which nothing was sent to us
    message_interval = 0.05  # seconds; 2000 messages a minute are allowed
    max_topics_per_connection = 1000
    max_connections = 1  # it would allow 10, but no more than 1,000 topics on all of them
    connection_limits = (RateLimit(30, 60),)
    urls = re.compile(r"//api\.hyperliquid(-testnet)?\.xyz\b")
    messages = re.compile(rb'^\{"channel":"(l2Book|bbo|trades|activeAssetCtx|activeSpotAssetCtx|candle)","data":')

    def list_instruments(self, payload: bytes) -> Iterable[Any]:
        if payload.lstrip()[:1] == b"[":
            metas = _decode_metas(payload)
            if not metas:
                raise msgspec.DecodeError("no dex in the list")
            return [entry for meta in metas for entry in meta.universe]
        meta = _decode_meta(payload)
        tokens = {token.index: token for token in meta.tokens}
        return [(entry, tokens) for entry in meta.universe] if tokens else meta.universe

    def add_instrument(self, entry: Any, instruments: Instruments) -> None:
        # Prices have 5 significant digits: there is no tick.
        if isinstance(entry, tuple):
            pair = _decode_pair(entry[0])
            base, quote = (entry[1][token] for token in pair.tokens)
            instruments.add(
                self.id, pair.name, symbol=f"{base.name}-{quote.name}", kind="spot", lot_size=f"1e-{base.szDecimals}"
            )
            return
        found = _decode_perpetual(entry)
        if not found.isDelisted:
            symbol, kind = name_of(found.name)
            instruments.add(self.id, found.name, symbol=symbol, kind=kind, lot_size=f"1e-{found.szDecimals}")

    def topics(self, instrument: Instrument, channel: str) -> Sequence[Topic]:
        what: dict[str, dict[str, Any]] = {
            "book_top": {"type": "l2Book", "fast": True} if self.fast else {"type": "l2Book"},
            "quote": {"type": "bbo"},
            "trade": {"type": "trades"},
            "ticker": {"type": "activeAssetCtx"},
            "candle": {"type": "candle", "interval": "1m"},
        }
        return [Topic("/ws", what[channel] | {"coin": instrument.raw_symbol})]

    def subscribe_messages(self, path: str, args: Sequence[Any]) -> list[bytes]:
        return [msgspec.json.encode({"method": "subscribe", "subscription": arg}) for arg in args]

    def unsubscribe_messages(self, path: str, args: Sequence[Any]) -> list[bytes]:
        return [msgspec.json.encode({"method": "unsubscribe", "subscription": arg}) for arg in args]


EXCHANGE = Hyperliquid()
