"""MEXC: spot, which is protobuf in binary messages, and futures, which are JSON on a socket of their own.

https://www.mexc.com/api-docs/spot-v3/websocket-market-streams
https://www.mexc.com/api-docs/futures/websocket-api
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import msgspec
from msgspec import Raw

from feeds.decoder import Fetch
from feeds.events import Side
from feeds.exchange import ConnectionPlan, Endpoints, Exchange, Heartbeat, RateLimit, Topic
from feeds.instrument import Instrument, Instruments
from feeds.message_decoder import MessageDecoder
from feeds.sequencing import ContiguousSequence
from feeds.times import ms_ns

EMPTY = Raw(b"")
SPOT_PATH = "/ws"
FUTURES_PATH = "wss://contract.mexc.com/edge"
SIDES = {1: Side.BUY, 2: Side.SELL}  # the taker's
INTERVAL_UNITS = {"Min": 60, "Hour": 3600, "Day": 86_400, "Week": 604_800, "Month": 2_592_000}  # a month has 30 days
SECOND = 1_000_000_000


# --- protobuf -------------------------------------------------------------------------------------

# Field number -> (name, what it is): text, int64, a message, or in a list: repeated. Others are skipped: new ones come.
# https://github.com/mexcdevelop/websocket-proto
_Table = Mapping[int, tuple[str, Any]]

_LEVEL: _Table = {1: ("price", str), 2: ("qty", str)}
_DEAL: _Table = {1: ("price", str), 2: ("qty", str), 3: ("type", int), 4: ("time", int), 5: ("id", str)}
_LIMIT_DEPTHS: _Table = {1: ("asks", [_LEVEL]), 2: ("bids", [_LEVEL]), 4: ("version", str)}
_AGGRE_DEPTHS: _Table = {1: ("asks", [_LEVEL]), 2: ("bids", [_LEVEL]), 4: ("from", str), 5: ("to", str)}
_AGGRE_DEALS: _Table = {1: ("deals", [_DEAL])}
_BOOK_TICKER: _Table = {1: ("bid_price", str), 2: ("bid_qty", str), 3: ("ask_price", str), 4: ("ask_qty", str)}
_CANDLE: _Table = {
    1: ("interval", str),
    2: ("start", int),  # s
    3: ("open", str),
    4: ("close", str),
    5: ("high", str),
    6: ("low", str),
    7: ("volume", str),
    8: ("amount", str),
}
_MINI_TICKER: _Table = {1: ("symbol", str), 2: ("price", str)}
_WRAPPER: _Table = {
    1: ("channel", str),
    3: ("symbol", str),
    6: ("sent", int),  # ms
    303: ("limit_depths", _LIMIT_DEPTHS),
    308: ("candle", _CANDLE),
    309: ("mini_ticker", _MINI_TICKER),
    313: ("aggre_depths", _AGGRE_DEPTHS),
    314: ("aggre_deals", _AGGRE_DEALS),
    315: ("book_ticker", _BOOK_TICKER),
}
FIRST_BODY = 300  # fields of the wrapper from here on are bodies


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise ValueError("expected a protobuf number, found one that is cut off")
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, at


def protobuf_fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield the fields of a protobuf message as (number, value); ValueError where it is none.

    Values are ints (as they are written, without a sign) and bytes. https://protobuf.dev/programming-guides/encoding
    """
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, wire = tag >> 3, tag & 7
        value: int | bytes
        if wire == 0:
            value, at = _varint(data, at)
        else:
            if wire == 2:
                size, at = _varint(data, at)
            elif wire in (1, 5):
                size = 8 if wire == 1 else 4
            else:
                raise ValueError(f"expected a protobuf wire type among 0, 1, 2 and 5, found {wire}")
            if size > len(data) - at:
                raise ValueError(f"expected {size} bytes in protobuf field {number}, found {len(data) - at}")
            value = data[at : at + size]
            at += size
        if number == 0:
            raise ValueError("expected protobuf field numbers from 1 on, found 0")
        yield number, value


def read_protobuf(data: bytes, table: _Table) -> dict[str, Any]:
    """Return the fields of a message that `table` names; ValueError where one is of another type."""
    found: dict[str, Any] = {}
    for number, value in protobuf_fields(data):
        if number not in table:
            if number >= FIRST_BODY and table is _WRAPPER:
                found["unknown_body"] = number
            continue
        name, kind = table[number]
        if (kind is int) != isinstance(value, int):
            raise ValueError(f"expected another type of {name}, found {value!r:.40}")
        if isinstance(value, int):
            found[name] = value - 2**64 if value >= 2**63 else value
        elif kind is str:
            found[name] = value.decode()
        elif isinstance(kind, list):
            found.setdefault(name, []).append(read_protobuf(value, kind[0]))
        else:
            found[name] = read_protobuf(value, kind)
    return found


# --- JSON -----------------------------------------------------------------------------------------


class _Message(msgspec.Struct):
    """Whatever is JSON: the answers of spot, and all of futures.

    {"id":0,"code":0,"msg":"spot@public.aggre.depth.v3.api.pb@10ms@BTCUSDT"}
    {"channel":"push.deal","data":[...],"symbol":"BTC_USDT","ts":1790000000000}
    {"channel":"rs.error","data":"Contract [NOPE_USDT] not exists","ts":1790000000000}
    """

    channel: str = ""
    symbol: str = ""
    data: Raw = EMPTY
    ts: int = 0  # sent, ms
    code: int | None = None
    msg: str = ""


class _Depth(msgspec.Struct, gc=False):
    """`push.depth`, merged over 200 ms, and `push.depth.full`. Levels are [price, contracts, orders].

    {"asks":[[75481.5,10,2]],"bids":[[7.548E+4,0,0]],"begin":11,"end":13,"version":13,"cts":1790000000000}
    """

    asks: Raw
    bids: Raw
    version: int
    begin: int | None = None  # neither where changes are not merged
    end: int | None = None
    cts: int = 0  # made by the matching engine, ms
    timestamp: int = 0  # of REST


class _Deal(msgspec.Struct, gc=False):
    """{"p":75480.5,"v":26,"T":1,"O":3,"M":2,"t":1790000000000,"i":"87654","cts":"1790000000000"}"""

    p: Raw
    v: Raw
    T: int
    t: int
    i: str | int | None = None


class _Ticker(msgspec.Struct, gc=False):
    """`push.ticker`; `push.tickers` has several with fewer fields.

    {"symbol":"BTC_USDT","lastPrice":75480.5,"bid1":75480.4,"ask1":75480.5,"holdVol":8137204,"fairPrice":75481,
     "indexPrice":75482.1,"fundingRate":0.0001,"timestamp":1790000000000}
    """

    symbol: str
    lastPrice: Raw = EMPTY
    holdVol: Raw = EMPTY
    fairPrice: Raw = EMPTY
    indexPrice: Raw = EMPTY
    fundingRate: Raw = EMPTY
    timestamp: int = 0


class _Price(msgspec.Struct, gc=False):
    """`push.fair.price`, `push.index.price`. {"price":75481,"symbol":"BTC_USDT"}"""

    symbol: str
    price: Raw


class _Funding(msgspec.Struct, gc=False):
    """`push.funding.rate`. {"rate":0.0001,"symbol":"BTC_USDT","nextSettleTime":1790006400000}"""

    symbol: str
    rate: Raw
    nextSettleTime: int = 0


class _Candle(msgspec.Struct, gc=False):
    """`push.kline`. {"symbol":"BTC_USDT","interval":"Min1","t":1790000000,"o":1,"c":2,"h":3,"l":0.5,"a":20.5,"q":10}"""

    symbol: str
    interval: str
    t: int  # s
    o: Raw
    c: Raw
    h: Raw
    l: Raw  # noqa: E741 - the exchange's name
    a: Raw
    q: Raw


class _SpotSnapshot(msgspec.Struct, gc=False):
    """`/api/v3/depth`. {"lastUpdateId":74891313260,"bids":[["61759.73","0.1"]],"asks":[["61760.5","1"]]}"""

    lastUpdateId: int
    bids: Raw
    asks: Raw


class _FuturesSnapshot(msgspec.Struct, gc=False):
    """`/api/v1/contract/depth/BTC_USDT`. {"success":true,"code":0,"data":{"asks":[],"bids":[],"version":13}}"""

    data: _Depth


class _Symbol(msgspec.Struct):
    """An entry of `/api/v3/exchangeInfo`."""

    symbol: str
    baseAsset: str
    quoteAsset: str
    quotePrecision: int  # decimals of prices; there is no tick
    baseSizePrecision: str = ""


class _Contract(msgspec.Struct):
    """An entry of `/api/v1/contract/detail`."""

    symbol: str
    baseCoin: str
    quoteCoin: str
    priceUnit: Raw
    volUnit: Raw
    contractSize: Raw


class _Listing(msgspec.Struct):
    """The replies of both."""

    symbols: list[Raw] | None = None
    data: list[Raw] | None = None


_decode_message = msgspec.json.Decoder(_Message).decode
_decode_depth = msgspec.json.Decoder(_Depth).decode
_decode_deals = msgspec.json.Decoder(list[_Deal]).decode
_decode_ticker = msgspec.json.Decoder(_Ticker).decode
_decode_tickers = msgspec.json.Decoder(list[_Ticker]).decode
_decode_price = msgspec.json.Decoder(_Price).decode
_decode_funding = msgspec.json.Decoder(_Funding).decode
_decode_candle = msgspec.json.Decoder(_Candle).decode
_decode_levels = msgspec.json.Decoder(list[Raw]).decode
_decode_spot_snapshot = msgspec.json.Decoder(_SpotSnapshot).decode
_decode_futures_snapshot = msgspec.json.Decoder(_FuturesSnapshot).decode
_decode_listing = msgspec.json.Decoder(_Listing).decode
_decode_symbol = msgspec.json.Decoder(_Symbol).decode
_decode_contract = msgspec.json.Decoder(_Contract).decode


# --- decoder --------------------------------------------------------------------------------------


class MexcDecoder(MessageDecoder):
    """Decodes spot and futures: a message that begins with `{` is JSON, any other protobuf."""

    silent_kinds: ClassVar[dict[str, str]] = {
        "ack": "a subscription is confirmed",
        "pong": "the answer to our ping",
        "nothing changed": "a message of a quiet symbol, without a body",
        "contract": "metadata, which we take from REST",
    }

    def decode_message(self, payload: bytes) -> None:
        if payload[:1] == b"{":
            self._decode_json(_decode_message(payload))
        else:
            self._decode_protobuf(read_protobuf(payload, _WRAPPER))

    def decode_snapshot(self, tag: str, payload: bytes) -> None:
        instrument = self.find(tag)
        if instrument is None:
            return
        if is_futures(tag):
            depth = _decode_futures_snapshot(payload).data
            self.book(
                instrument,
                depth.bids,
                depth.asks,
                is_snapshot=True,
                last_id=depth.version,
                ts_event=ms_ns(depth.cts or depth.timestamp),
            )
        else:
            book = _decode_spot_snapshot(payload)
            self.book(instrument, book.bids, book.asks, is_snapshot=True, last_id=book.lastUpdateId)

    def request_snapshot(self, instrument: Instrument) -> None:
        name = instrument.raw_symbol
        futures = f"/api/v1/contract/depth/{name}?limit=1000"
        self.request(Fetch(futures if is_futures(name) else f"/api/v3/depth?symbol={name}&limit=5000", name))

    def infer(self, raw_symbol: str) -> tuple[str | None, str]:
        return name_of(raw_symbol)

    # --- spot -----------------------------------------------------------------------------------

    def _decode_protobuf(self, message: dict[str, Any]) -> None:
        if not message.get("channel") or "unknown_body" in message:
            found = message.get("unknown_body", "no channel")
            raise self.error("unknown_message", f"expected a channel with a known body, found {found}")
        instrument = self.find(message.get("symbol", "") or message.get("mini_ticker", {}).get("symbol", ""))
        if instrument is None:
            return
        ts = ms_ns(message.get("sent", 0))
        if (body := message.get("aggre_depths")) is not None:
            self.book(
                instrument,
                _pairs(body, "bids"),
                _pairs(body, "asks"),
                first_id=int(body["from"]),
                last_id=int(body["to"]),
                ts_event=ts,
            )
        elif (body := message.get("limit_depths")) is not None:
            bids, asks = _pairs(body, "bids"), _pairs(body, "asks")
            depth = max(len(bids), len(asks), 1)
            self.book(instrument, bids, asks, is_snapshot=True, depth=depth, last_id=int(body["version"]), ts_event=ts)
        elif (body := message.get("aggre_deals")) is not None:
            for deal in body.get("deals", ()):
                self.trade(
                    instrument,
                    deal["price"],
                    deal["qty"],
                    side=SIDES[deal["type"]],
                    id=deal.get("id"),
                    ts_event=ms_ns(deal["time"]),
                )
        elif (body := message.get("book_ticker")) is not None:
            sides = (body.get(name, "") for name in ("bid_price", "bid_qty", "ask_price", "ask_qty"))
            self.quote(instrument, *sides, ts_event=ts)
        elif (body := message.get("mini_ticker")) is not None:
            self.ticker(instrument, last_price=body["price"], ts_event=ts)
        elif (body := message.get("candle")) is not None:
            self.candle(
                instrument,
                ts_open=body["start"] * SECOND,
                interval=_seconds(body["interval"]),
                open=body["open"],
                high=body["high"],
                low=body["low"],
                close=body["close"],
                volume=body["volume"],
                quote_volume=body["amount"],
                ts_event=ts,
            )
        else:
            self.nothing("nothing changed")

    # --- futures, and the answers of spot ---------------------------------------------------------

    def _decode_json(self, message: _Message) -> None:
        channel = message.channel
        if channel.startswith("push."):
            self._decode_push(channel[5:], message)
        elif channel == "pong" or message.msg == "PONG":
            self.nothing("pong")
        elif channel == "rs.error":
            self.refused(bytes(message.data).decode().strip('"'))
        elif channel.startswith(("rs.sub.", "rs.unsub.")) or (message.code == 0 and message.msg.startswith("spot@")):
            self.nothing("ack")
        elif message.code is not None:
            self.refused(f"code {message.code}: {message.msg}")
        else:
            raise self.error("unknown_message", f"expected a known channel, found {channel!r}")

    def _decode_push(self, kind: str, message: _Message) -> None:
        ts = ms_ns(message.ts)
        if kind in ("depth", "depth.full"):
            self._decode_depth(kind, message)
        elif kind == "deal":
            if (instrument := self.find(message.symbol)) is not None:
                for deal in _decode_deals(message.data):
                    self.trade(instrument, deal.p, deal.v, side=SIDES[deal.T], id=deal.i, ts_event=ms_ns(deal.t))
        elif kind in ("ticker", "tickers"):
            for ticker in _decode_tickers(message.data) if kind == "tickers" else [_decode_ticker(message.data)]:
                if (instrument := self.find(ticker.symbol)) is not None:
                    self.ticker(
                        instrument,
                        last_price=ticker.lastPrice or None,
                        mark_price=ticker.fairPrice or None,
                        index_price=ticker.indexPrice or None,
                        open_interest=ticker.holdVol or None,
                        funding_rate=ticker.fundingRate or None,
                        ts_event=ms_ns(ticker.timestamp or message.ts),
                    )
        elif kind in ("fair.price", "index.price"):
            price = _decode_price(message.data)
            if (instrument := self.find(price.symbol)) is not None:
                name = "mark_price" if kind == "fair.price" else "index_price"
                self.ticker(instrument, ts_event=ts, **{name: price.price})  # type: ignore[arg-type]
        elif kind == "funding.rate":
            funding = _decode_funding(message.data)
            if (instrument := self.find(funding.symbol)) is not None:
                due = ms_ns(funding.nextSettleTime)
                self.funding(instrument, funding_rate=funding.rate, next_funding_time=due, ts_event=ts)
        elif kind == "kline":
            candle = _decode_candle(message.data)
            if (instrument := self.find(candle.symbol)) is not None:
                self.candle(
                    instrument,
                    ts_open=candle.t * SECOND,
                    interval=_seconds(candle.interval),
                    open=candle.o,
                    high=candle.h,
                    low=candle.l,
                    close=candle.c,
                    volume=candle.q,
                    quote_volume=candle.a,
                    ts_event=ts,
                )
        elif kind == "contract":
            self.nothing("contract")
        else:
            raise self.error("unknown_message", f"expected a known channel, found {message.channel!r}")

    def _decode_depth(self, kind: str, message: _Message) -> None:
        instrument = self.find(message.symbol)
        if instrument is None:
            return
        depth = _decode_depth(message.data)
        is_full = kind == "depth.full"
        last = depth.end or depth.version
        self.book(
            instrument,
            depth.bids,
            depth.asks,
            is_snapshot=is_full,
            depth=max(len(_decode_levels(depth.bids)), len(_decode_levels(depth.asks)), 1) if is_full else 0,
            first_id=-1 if is_full else depth.begin or last,
            last_id=last,
            ts_event=ms_ns(depth.cts or message.ts),
        )


def _pairs(body: dict[str, Any], side: str) -> list[tuple[str, str]]:
    return [(level["price"], level["qty"]) for level in body.get(side, ())]


def _seconds(interval: str) -> int:
    """Return the length of Min1, Hour4, Day1."""
    unit = interval.rstrip("0123456789")
    return INTERVAL_UNITS[unit] * int(interval[len(unit) :])


def is_futures(raw_symbol: str) -> bool:
    """Whether a symbol is of futures: BTC_USDT; spot has BTCUSDT."""
    return "_" in raw_symbol


def name_of(raw_symbol: str) -> tuple[str | None, str]:
    """Return (our symbol, kind) of BTC_USDT (futures are perpetuals) or BTCUSDT."""
    if is_futures(raw_symbol):
        return f"{raw_symbol.replace('_', '-')}-PERP", "perpetual"
    for quote in ("USDT", "USDC"):
        if raw_symbol.endswith(quote) and raw_symbol != quote:
            return f"{raw_symbol.removesuffix(quote)}-{quote}", "spot"
    return None, "unknown"


# --- exchange -------------------------------------------------------------------------------------


class Mexc(Exchange):
    """MEXC, spot and futures on two sockets."""

    id = "mexc"
    max_connection_age = 24 * 3600
    endpoints = Endpoints(ws="wss://wbs-api.mexc.com", rest="https://api.mexc.com")
    channels = ("book", "book_top", "quote", "trade", "ticker", "funding", "candle")
    decoder = MexcDecoder
    new_sequence = ContiguousSequence
    instruments_urls = ("/api/v3/exchangeInfo", "/api/v1/contract/detail")
    heartbeat = Heartbeat(15.0, b'{"method":"PING"}')
    futures_heartbeat = Heartbeat(15.0, b'{"method":"ping"}')
    message_interval = 0.1
    max_topics_per_connection = 30
    request_limits = (RateLimit(20, 2),)  # of futures; spot allows 300 of weight in 10 s
    urls = re.compile(r"//(wbs|wbs-api|api|contract)\.mexc\.com\b")
    messages = re.compile(rb'^\n.spot@public\.|^\{"channel":"push\.(depth|deal|ticker|kline)', re.DOTALL)

    def list_instruments(self, payload: bytes) -> Iterable[Any]:
        found = _decode_listing(payload)
        if found.symbols is None and found.data is None:
            raise msgspec.DecodeError("expected symbols or contracts, found none")
        return [*(found.symbols or ()), *(found.data or ())]

    def add_instrument(self, entry: Any, instruments: Instruments) -> None:
        if b'"baseCoin"' in bytes(entry):
            contract = _decode_contract(entry)
            sizes = (bytes(size).decode() for size in (contract.priceUnit, contract.volUnit, contract.contractSize))
            tick, lot, size = sizes
            symbol, kind = name_of(contract.symbol)
            instruments.add(
                self.id, contract.symbol, symbol=symbol, kind=kind, tick_size=tick, lot_size=lot, contract_size=size
            )
        else:
            spot = _decode_symbol(entry)
            lot_size = spot.baseSizePrecision if spot.baseSizePrecision.strip("0.") else None
            symbol = f"{spot.baseAsset}-{spot.quoteAsset}"
            instruments.add(
                self.id, spot.symbol, symbol=symbol, kind="spot", price_decimals=spot.quotePrecision, lot_size=lot_size
            )

    def topics(self, instrument: Instrument, channel: str) -> Sequence[Topic]:
        name = instrument.raw_symbol
        if is_futures(name):
            symbol = {"symbol": name}
            futures: dict[str, tuple[str, dict[str, Any]]] = {
                "book": ("sub.depth", symbol),
                "book_top": ("sub.depth.full", symbol | {"limit": 20}),
                "trade": ("sub.deal", symbol),
                "ticker": ("sub.ticker", symbol),
                "funding": ("sub.funding.rate", symbol),
                "candle": ("sub.kline", symbol | {"interval": "Min1"}),
            }
            found = futures.get(channel)
            return [Topic(FUTURES_PATH, {"method": found[0], "param": found[1]})] if found else []
        spot = {
            "book": f"aggre.depth.v3.api.pb@10ms@{name}",
            "book_top": f"limit.depth.v3.api.pb@{name}@20",
            "quote": f"aggre.bookTicker.v3.api.pb@10ms@{name}",
            "trade": f"aggre.deals.v3.api.pb@10ms@{name}",
            "ticker": f"miniTicker.v3.api.pb@{name}@UTC+8",
            "candle": f"kline.v3.api.pb@{name}@Min1",
        }
        return [Topic(SPOT_PATH, f"spot@public.{spot[channel]}")] if channel in spot else []

    def subscribe_messages(self, path: str, args: Sequence[Any]) -> list[bytes]:
        if path == FUTURES_PATH:
            return [msgspec.json.encode(arg) for arg in args]
        return [msgspec.json.encode({"method": "SUBSCRIPTION", "params": args})]

    def unsubscribe_messages(self, path: str, args: Sequence[Any]) -> list[bytes]:
        if path == FUTURES_PATH:
            return [msgspec.json.encode(arg | {"method": f"un{arg['method']}"}) for arg in args]
        return [msgspec.json.encode({"method": "UNSUBSCRIPTION", "params": args})]

    def connection(self, path: str, args: Sequence[Any]) -> ConnectionPlan:
        plan = super().connection(path, args)
        return msgspec.structs.replace(plan, heartbeat=self.futures_heartbeat) if path == FUTURES_PATH else plan


EXCHANGE = Mexc()
