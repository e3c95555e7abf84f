"""Gate.io perpetuals and dated futures, API v4: the protocol of `gateio` with sizes in contracts.

https://www.gate.com/docs/developers/futures/ws/en/

We ask for sizes as decimals (header `X-Gate-Size-Decimal`); without it they are whole numbers. Both are read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any, ClassVar

import msgspec
from msgspec import Raw

from feeds.events import Side
from feeds.exchange import ConnectionPlan, Endpoints, Heartbeat, Topic
from feeds.exchanges.gateio import Candle, Gateio, GateioDecoder, Message, fraction_ms_ns, topic_of
from feeds.instrument import Instrument, Instruments
from feeds.levels import LevelShape
from feeds.times import ms_ns

SETTLES = {"USD": "btc"}  # currency of quotes -> what is settled in, where that is another

# --- wire messages --------------------------------------------------------------------------------


class _Trade(msgspec.Struct, gc=False):
    """`futures.trades`.

    {"size":-108,"id":27753479,"create_time":1545136464,"create_time_ms":1545136464123,"price":"96.4","contract":"BTC_USD"}
    """

    size: Raw  # below 0 where the taker sold
    id: int
    create_time_ms: Raw
    price: str
    contract: str


class _Ticker(msgspec.Struct, gc=False):
    """`futures.tickers`.

    {"contract":"BTC_USD","last":"118.4","funding_rate":"-0.000114","mark_price":"118.35","index_price":"118.36",
     "total_size":"73648"}
    """

    contract: str
    last: str
    mark_price: str = ""
    index_price: str = ""
    funding_rate: str = ""
    total_size: str | int = ""  # open interest


class _Liquidation(msgspec.Struct, gc=False):
    """`futures.public_liquidates`. That `size` is the position's is what REST says of its own; unconfirmed here.

    {"price":"215.1","size":"-124","time_ms":1541486601123,"contract":"BTC_USD"}
    """

    price: Raw
    size: Raw  # of the position: above 0 a long is closed
    time_ms: int
    contract: str


class _Contract(msgspec.Struct):
    """A contract of `/api/v4/futures/usdt/contracts` or `/api/v4/delivery/usdt/contracts`."""

    name: str
    order_price_round: str
    type: str = ""  # direct, inverse
    quanto_multiplier: str = "0"  # what a contract is of the base; "0" for inverse ones, which are of 1 USD
    enable_decimal: bool = False  # sizes have fractions


_decode_trades = msgspec.json.Decoder(list[_Trade]).decode
_decode_tickers = msgspec.json.Decoder(list[_Ticker]).decode
_decode_candles = msgspec.json.Decoder(list[Candle]).decode
_decode_liquidations = msgspec.json.Decoder(list[_Liquidation]).decode
_decode_contracts = msgspec.json.Decoder(list[Raw]).decode
_decode_contract = msgspec.json.Decoder(_Contract).decode


# --- decoder --------------------------------------------------------------------------------------


class GateioFuturesDecoder(GateioDecoder):
    """Decodes futures: arrays of trades, tickers and candles, and levels that are objects."""

    supersede_keys = (
        b'{"time":#,"time_ms":#,"channel":"futures.book_ticker","event":"update","result":{"t":#,"u":#,"s":"*",...}}',
    )
    silent_kinds: ClassVar[dict[str, str]] = GateioDecoder.silent_kinds | {
        "change of order_book": "what `order_book` sent besides snapshots before there was `order_book_update`"
    }
    market = "futures"
    levels = LevelShape("p", "s")

    def snapshot_url(self, name: str) -> str:
        kind, settle = _market_of(name)
        return f"/api/v4/{kind}/{settle}/order_book?contract={name}&limit=100&with_id=true"

    def infer(self, raw_symbol: str) -> tuple[str | None, str]:
        return name_of(raw_symbol)

    def decode_trades(self, message: Message) -> None:
        for trade in _decode_trades(message.result):
            if (instrument := self.find(trade.contract)) is not None:
                side, size = _signed(trade.size)
                self.trade(
                    instrument,
                    trade.price,
                    size,
                    side=side,
                    id=trade.id,
                    ts_event=fraction_ms_ns(bytes(trade.create_time_ms).strip(b'"').decode()),
                )

    def decode_tickers(self, message: Message) -> None:
        for ticker in _decode_tickers(message.result):
            if (instrument := self.find(ticker.contract)) is not None:
                self.ticker(
                    instrument,
                    last_price=ticker.last,
                    mark_price=ticker.mark_price,
                    index_price=ticker.index_price,
                    open_interest=ticker.total_size,
                    funding_rate=ticker.funding_rate,
                    ts_event=message.ts,
                )

    def decode_candles(self, message: Message) -> None:
        for candle in _decode_candles(message.result):
            self.emit_candle(candle, volume=candle.v, quote_volume=None, ts_event=message.ts)

    def decode_top(self, message: Message) -> None:
        if message.event == "all":
            super().decode_top(message)
        else:
            self.nothing("change of order_book")

    def decode_more(self, channel: str, message: Message) -> None:
        if channel != "public_liquidates":
            super().decode_more(channel, message)
            return
        for one in _decode_liquidations(message.result):
            if (instrument := self.find(one.contract)) is not None:
                side, size = _signed(one.size)
                closing = Side.SELL if side is Side.BUY else Side.BUY
                self.liquidation(instrument, one.price, size, side=closing, ts_event=ms_ns(one.time_ms))


def _signed(size: Raw) -> tuple[Side, bytes]:
    """Return (side, size without sign): below 0 is a sell."""
    text = bytes(size).strip(b'"')
    return (Side.SELL, text[1:]) if text.startswith(b"-") else (Side.BUY, text)


def _market_of(name: str) -> tuple[str, str]:
    """Return (futures or delivery, what is settled in) of a contract."""
    quote, _, date = name.partition("_")[2].partition("_")
    return "delivery" if date else "futures", SETTLES.get(quote, quote.lower())


def name_of(raw_symbol: str) -> tuple[str | None, str]:
    """Return (our symbol, kind) of BTC_USDT, a perpetual, or BTC_USDT_20260925."""
    match raw_symbol.split("_"):
        case [base, quote] if base and quote:
            return f"{base}-{quote}-PERP", "perpetual"
        case [base, quote, date] if base and quote and len(date) == 8 and date.isdecimal():
            return f"{base}-{quote}-{date}", "future"
    return None, "unknown"


# --- exchange -------------------------------------------------------------------------------------


class GateioFutures(Gateio):
    """Gate.io futures."""

    id = "gateio-futures"
    endpoints = Endpoints(ws="wss://fx-ws.gateio.ws", rest="https://api.gateio.ws")
    channels = ("book", "book_top", "quote", "trade", "ticker", "liquidation", "candle")
    decoder = GateioFuturesDecoder
    instruments_urls = (
        "/api/v4/futures/usdt/contracts",
        "/api/v4/futures/btc/contracts",
        "/api/v4/delivery/usdt/contracts",
    )
    heartbeat = Heartbeat(15.0, lambda ts: b'{"time":%d,"channel":"futures.ping"}' % (ts // 1_000_000_000))
    market = "futures"
    urls = re.compile(r"//(fx-ws(-\w+)?\.gateio\.ws|(fx-)?api\.gateio\.ws/api/v4/(futures|delivery))\b")
    messages = re.compile(rb'^\{"time":\d+,("time_ms":\d+,)?("conn_id":"[^"]*",)?"channel":"futures\.')

    def list_instruments(self, payload: bytes) -> Iterable[Any]:
        entries: list[Raw] = _decode_contracts(payload)  # none of one kind is no reason to have none of the others
        return entries

    def add_instrument(self, entry: Any, instruments: Instruments) -> None:
        found = _decode_contract(entry)
        symbol, kind = name_of(found.name)
        multiplier = Decimal(found.quanto_multiplier)
        instruments.add(
            self.id,
            found.name,
            symbol=symbol,
            kind=kind,
            tick_size=found.order_price_round,
            lot_size=None if found.enable_decimal else "1",
            contract_size=multiplier or ("1" if found.type == "inverse" else None),
        )

    def topics(self, instrument: Instrument, channel: str) -> Sequence[Topic]:
        name = instrument.raw_symbol
        kind, settle = _market_of(name)
        is_dated = kind == "delivery"
        path = f"/v4/ws/delivery/{settle}" if is_dated else f"/v4/ws/{settle}"
        if channel == "liquidation":  # dated futures have none
            return [] if is_dated else [Topic(path, ["public_liquidates", name])]
        if channel == "book_top":
            return [Topic(path, ["order_book", name, "20", "0"])]
        if channel == "book" and is_dated:
            return [Topic(path, ["order_book_update", name, "100ms", "100"])]
        return [Topic(path, topic_of(name, channel))]

    def connection(self, path: str, args: Sequence[Any]) -> ConnectionPlan:
        plan = super().connection(path, args)
        return msgspec.structs.replace(plan, headers={"X-Gate-Size-Decimal": "1"})


EXCHANGE = GateioFutures()
