"""Deribit: options, futures, perpetuals and spot by JSON-RPC 2.0.

https://docs.deribit.com/#subscriptions
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, ClassVar

import msgspec
from msgspec import Raw

from feeds.bare_numbers import given
from feeds.decoder import Resubscribe, Send
from feeds.events import Side
from feeds.exchange import Endpoints, Exchange, Topic
from feeds.instrument import Instrument, Instruments
from feeds.levels import LevelShape
from feeds.message_decoder import PRICE_QTY, MessageDecoder
from feeds.sequencing import LinkedSequence
from feeds.times import ms_ns

EMPTY = Raw(b"")
PATH = "/ws/api/v2"
SIDES = {"buy": Side.BUY, "sell": Side.SELL}
OPPOSITE = {"buy": Side.SELL, "sell": Side.BUY}
TOP_DEPTH = 20
HEARTBEAT = 30  # seconds; 10 at least
ASKED = 1000  # ids of subscriptions are a multiple of it, plus how many channels were asked for


# --- wire messages --------------------------------------------------------------------------------


class _Params(msgspec.Struct, gc=False):
    channel: str = ""
    data: Raw = EMPTY
    type: str = ""  # of a heartbeat


class _Error(msgspec.Struct):
    code: int = 0
    message: str = ""


class _Message(msgspec.Struct):
    """Whatever arrives: what was subscribed has a method, answers have a result or an error.

    {"jsonrpc":"2.0","method":"subscription","params":{"channel":"...","data":{...}}}
    {"jsonrpc":"2.0","method":"heartbeat","params":{"type":"test_request"}}
    {"jsonrpc":"2.0","id":1001,"result":["book.BTC-PERPETUAL.100ms"],"usIn":1699999999000000,"testnet":false}
    {"jsonrpc":"2.0","id":1001,"error":{"code":10028,"message":"too_many_requests","data":null}}
    """

    method: str = ""
    params: _Params = msgspec.field(default_factory=_Params)
    id: int = 0
    result: Raw = EMPTY
    error: _Error | None = None


class _Book(msgspec.Struct, gc=False):
    """`book.<instrument>.<interval>`, with levels [action, price, amount], and the top N of it, with [price, amount].

    {"type":"change","timestamp":1699999999500,"instrument_name":"BTC-PERPETUAL","change_id":123456790,
     "prev_change_id":123456789,"bids":[["change",42500.0,950.0]],"asks":[["delete",42501.0,0.0]]}
    """

    instrument_name: str
    timestamp: int
    change_id: int
    bids: Raw
    asks: Raw
    prev_change_id: int | None = None
    type: str = ""  # not before mid-2021


class _Trade(msgspec.Struct, gc=False):
    """`trades`: amounts of inverse contracts in USD, of others in the base currency.

    {"timestamp":1765531356452,"price":92294.5,"amount":10.0,"direction":"sell","instrument_name":"BTC-PERPETUAL",
     "trade_seq":271252854,"contracts":1.0,"trade_id":"403691824","liquidation":"T"}
    """

    instrument_name: str
    timestamp: int
    price: Raw
    amount: Raw
    direction: str  # the taker's
    trade_id: str
    liquidation: str = ""  # who is liquidated: M(aker), T(aker), MT


class _Quote(msgspec.Struct, gc=False):
    """`quote.<instrument>`; a price of 0 or null: no such side.

    {"timestamp":1550658624149,"instrument_name":"BTC-PERPETUAL","best_bid_price":3914.97,"best_bid_amount":40,
     "best_ask_price":3996.61,"best_ask_amount":50}
    """

    instrument_name: str
    timestamp: int
    best_bid_price: Raw
    best_bid_amount: Raw
    best_ask_price: Raw
    best_ask_amount: Raw


class _Ticker(msgspec.Struct, gc=False):
    """`ticker` and, with what changed, `incremental_ticker`. Its best prices are left to `quote`.

    {"timestamp":1626993723632,"open_interest":12685.0,"mark_price":0.001972,"last_price":0.002,
     "instrument_name":"ETH-30JUL21-2800-C","index_price":2006.72,"current_funding":0.0001}
    """

    instrument_name: str
    timestamp: int
    last_price: Raw = EMPTY
    mark_price: Raw = EMPTY
    index_price: Raw = EMPTY
    open_interest: Raw = EMPTY
    current_funding: Raw = EMPTY  # perpetuals


class _Perpetual(msgspec.Struct, gc=False):
    """`perpetual`. {"timestamp":1571386349530,"interest":0.004999511380756577,"index_price":7872.88}"""

    timestamp: int
    interest: Raw


class _Candle(msgspec.Struct, gc=False):
    """`chart.trades`: volume in the base currency, cost in the quote currency.

    {"volume":0.05219351,"tick":1573645080000,"open":8869.79,"low":8788.25,"high":8870.31,"cost":460,"close":8791.25}
    """

    tick: int
    open: Raw
    high: Raw
    low: Raw
    close: Raw
    volume: Raw
    cost: Raw = EMPTY


class _Reply(msgspec.Struct):
    """The reply of `get_instruments`."""

    result: list[Raw]


class _Entry(msgspec.Struct):
    instrument_name: str
    kind: str  # spot, future, option, future_combo, option_combo
    tick_size: Raw  # the smallest: those of options grow with the price
    min_trade_amount: Raw
    contract_size: Raw = EMPTY


_decode_message = msgspec.json.Decoder(_Message).decode
_decode_book = msgspec.json.Decoder(_Book).decode
_decode_trades = msgspec.json.Decoder(list[_Trade]).decode
_decode_quote = msgspec.json.Decoder(_Quote).decode
_decode_ticker = msgspec.json.Decoder(_Ticker).decode
_decode_perpetual = msgspec.json.Decoder(_Perpetual).decode
_decode_candle = msgspec.json.Decoder(_Candle).decode
_decode_reply = msgspec.json.Decoder(_Reply).decode
_decode_entry = msgspec.json.Decoder(_Entry).decode
_decode_names = msgspec.json.Decoder(list[str]).decode


# --- decoder --------------------------------------------------------------------------------------


class DeribitDecoder(MessageDecoder):
    """Decodes what the public socket sends."""

    # Of books only those that are top-N snapshots get routes.
    supersede_keys = (
        b'{"jsonrpc":"2.0","method":"subscription","params":{"channel":"quote.*","data":{...}}}',
        b'{"jsonrpc":"2.0","method":"subscription","params":{"channel":"book.*","data":{...}}}',
    )
    silent_kinds: ClassVar[dict[str, str]] = {
        "ack": "a request is answered",
        "heartbeat": "asked for; those that want an answer get one",
        "other book": "a second book channel of an instrument: the ids are not those of the first, which keeps it",
        "grouped": "a book of rounded prices",
        "market": "of an index, a currency or the platform, not of an instrument",
    }
    levels = LevelShape(1, 2, removal=(0, "delete"))
    large_arrays = (("bids", levels), ("asks", levels))

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._book_channels: dict[str, str] = {}  # raw symbol -> the channel that keeps its book

    def decode_message(self, payload: bytes) -> None:
        message = _decode_message(payload)
        if message.method == "subscription":
            self._decode_data(message.params.channel, message.params.data)
        elif message.method == "heartbeat":
            if message.params.type == "test_request":
                self.request(Send(_request(0, "public/test", {})))
            self.nothing("heartbeat")
        elif message.error is not None:
            self.refused(f"code {message.error.code}: {message.error.message}")
        elif message.result:
            self._decode_answer(message)
        else:
            raise self.error("unknown_message", f"expected a known method or a result, found {message.method!r}")

    def request_snapshot(self, instrument: Instrument) -> None:
        name = instrument.raw_symbol
        params = {"channels": [self._book_channels.get(name, f"book.{name}.{EXCHANGE.interval}")]}
        messages = (_request(0, "public/unsubscribe", params), _request(0, "public/subscribe", params))
        self.request(Resubscribe(messages, name))

    def infer(self, raw_symbol: str) -> tuple[str | None, str]:
        return name_of(raw_symbol)

    def _decode_data(self, channel: str, data: Raw) -> None:
        kind, *rest = channel.split(".")
        if kind == "book" and len(rest) == 2:
            self._decode_book(channel, data)
        elif kind == "book" and len(rest) == 4:
            self._decode_top(data, rest[1], int(rest[2]))
        elif kind == "trades":
            self._decode_trades(data)
        elif kind == "quote":
            self._decode_quote(data)
        elif kind in ("ticker", "incremental_ticker"):
            self._decode_ticker(data, is_part=kind == "incremental_ticker")
        elif kind == "perpetual" and len(rest) == 2:
            if (instrument := self.find(rest[0])) is not None:
                rate = _decode_perpetual(data)
                self.funding(instrument, funding_rate=rate.interest, ts_event=ms_ns(rate.timestamp))
        elif kind == "chart" and len(rest) == 3:
            self._decode_candle(data, rest[1], rest[2])
        elif kind in MARKET_CHANNELS:
            self.nothing("market")
        else:
            raise self.error("unknown_message", f"expected a known channel, found {channel!r}")

    def _decode_answer(self, message: _Message) -> None:
        """The answer to a subscription names the channels that were accepted; others are left out without a word."""
        asked = message.id % ASKED if message.id >= ASKED else 0
        accepted = _decode_names(message.result) if asked or bytes(message.result) == b"[]" else []
        if len(accepted) < asked or bytes(message.result) == b"[]":
            self.refused(f"{len(accepted)} of {asked or 'the'} channels accepted: {', '.join(accepted) or 'none'}")
        else:
            self.nothing("ack")

    def _decode_book(self, channel: str, data: Raw) -> None:
        book = _decode_book(data)
        instrument = self.find(book.instrument_name)
        if instrument is None:
            return
        if self._book_channels.setdefault(book.instrument_name, channel) != channel:
            self.nothing("other book")
            return
        is_snapshot = book.type == "snapshot" or not book.prev_change_id
        self.book(
            instrument,
            book.bids,
            book.asks,
            is_snapshot=is_snapshot,
            last_id=book.change_id,
            previous_id=book.prev_change_id or -1,
            ts_event=ms_ns(book.timestamp),
        )

    def _decode_top(self, data: Raw, group: str, depth: int) -> None:
        book = _decode_book(data)
        instrument = self.find(book.instrument_name)
        if instrument is None:
            return
        if group != "none":
            self.nothing("grouped")
            return
        self.book(
            instrument,
            book.bids,
            book.asks,
            shape=PRICE_QTY,
            is_snapshot=True,
            depth=depth,
            last_id=book.change_id,
            ts_event=ms_ns(book.timestamp),
        )

    def _decode_trades(self, data: Raw) -> None:
        for trade in _decode_trades(data):
            instrument = self.find(trade.instrument_name)
            if instrument is None:
                continue
            side, ts = SIDES[trade.direction], ms_ns(trade.timestamp)
            self.trade(instrument, trade.price, trade.amount, side=side, id=trade.trade_id, ts_event=ts)
            for role, closing in (("M", OPPOSITE), ("T", SIDES)):
                if role in trade.liquidation:
                    self.liquidation(
                        instrument,
                        trade.price,
                        trade.amount,
                        side=closing[trade.direction],
                        id=trade.trade_id,
                        ts_event=ts,
                    )

    def _decode_quote(self, data: Raw) -> None:
        quote = _decode_quote(data)
        if (instrument := self.find(quote.instrument_name)) is not None:
            self.quote(
                instrument,
                given(quote.best_bid_price),
                given(quote.best_bid_amount),
                given(quote.best_ask_price),
                given(quote.best_ask_amount),
                ts_event=ms_ns(quote.timestamp),
            )

    def _decode_ticker(self, data: Raw, *, is_part: bool) -> None:
        ticker = _decode_ticker(data)
        instrument = self.find(ticker.instrument_name)
        if instrument is None:
            return

        def field(number: Raw) -> Raw | str | None:
            found = given(number)
            return "" if found is None and number else found  # null: known to be none

        self.ticker(
            instrument,
            merge=is_part,
            last_price=field(ticker.last_price),
            mark_price=field(ticker.mark_price),
            index_price=field(ticker.index_price),
            open_interest=field(ticker.open_interest),
            funding_rate=field(ticker.current_funding),
            ts_event=ms_ns(ticker.timestamp),
        )

    def _decode_candle(self, data: Raw, raw_symbol: str, resolution: str) -> None:
        if (instrument := self.find(raw_symbol)) is not None:
            candle = _decode_candle(data)
            self.candle(
                instrument,
                ts_open=ms_ns(candle.tick),
                interval=86_400 if resolution == "1D" else int(resolution) * 60,
                open=candle.open,
                high=candle.high,
                low=candle.low,
                close=candle.close,
                volume=candle.volume,
                quote_volume=given(candle.cost),
            )


MARKET_CHANNELS = (
    "deribit_price_index",
    "deribit_price_ranking",
    "deribit_price_statistics",
    "deribit_volatility_index",
    "estimated_expiration_price",
    "instrument",
    "markprice",
    "platform_state",
)


def _request(number: int, method: str, params: dict[str, Any]) -> bytes:
    return msgspec.json.encode({"jsonrpc": "2.0", "id": number, "method": method, "params": params})


def name_of(raw_symbol: str) -> tuple[str | None, str]:
    """Return (our symbol, kind).

    BTC-PERPETUAL, ETH_USDC-PERPETUAL, BTC-25SEP26, BTC-25SEP26-60000-C, XRP_USDC-30JUN26-0d625-C, BTC_USDC;
    combinations (BTC-FS-25SEP26_PERP) have no name of ours.
    """
    pair, *rest = raw_symbol.split("-")
    base, _, quote = pair.partition("_")
    name = f"{base}-{quote or 'USD'}"
    if not base:
        return None, "unknown"
    match rest:
        case [] if quote:
            return name, "spot"
        case ["PERPETUAL"]:
            return f"{name}-PERP", "perpetual"
        case [date] if (day := _day(date)) is not None:
            return f"{name}-{day}", "future"
        case [date, strike, ("C" | "P") as right] if (day := _day(date)) is not None:
            return f"{name}-{day}-{strike.replace('d', '.')}-{right}", "option"
    return None, "unknown"


def _day(date: str) -> str | None:
    try:
        return f"{datetime.strptime(date, '%d%b%y'):%Y%m%d}"
    except ValueError:
        return None


# --- exchange -------------------------------------------------------------------------------------


class Deribit(Exchange):
    """Deribit. `interval` of books and trades: `raw` needs a login, `agg2` is once a second."""

    id = "deribit"
    copies_differ = "its pings are answered by the decoder, which knows of one connection"
    endpoints = Endpoints(ws="wss://www.deribit.com", rest="https://www.deribit.com")
    channels = ("book", "book_top", "quote", "trade", "ticker", "funding", "liquidation", "candle")
    decoder = DeribitDecoder
    new_sequence = LinkedSequence
    interval = "100ms"
    instruments_urls = ("/api/v2/public/get_instruments?currency=any",)
    message_interval = 0.35  # seconds: about three requests a second
    max_topics_per_message = 250
    max_topics_per_connection = 500
    urls = re.compile(r"//(www|streams|test)\.deribit\.com\b")
    messages = re.compile(rb'^\{"jsonrpc":"2\.0","method":"subscription","params":\{"channel":"')

    def list_instruments(self, payload: bytes) -> Iterable[Any]:
        return _decode_reply(payload).result

    def add_instrument(self, entry: Any, instruments: Instruments) -> None:
        found = _decode_entry(entry)
        symbol, kind = name_of(found.instrument_name)
        size = given(found.contract_size)
        instruments.add(
            self.id,
            found.instrument_name,
            symbol=symbol,
            kind=found.kind if symbol is None else kind,
            tick_size=bytes(found.tick_size).decode(),
            lot_size=bytes(found.min_trade_amount).decode(),
            contract_size=None if size is None else bytes(size).decode(),
        )

    def topics(self, instrument: Instrument, channel: str) -> Sequence[Topic]:
        name, kind = instrument.raw_symbol, instrument.kind
        if channel == "funding" and kind != "perpetual":
            return []
        if channel == "liquidation" and kind == "spot":
            return []
        trades = f"trades.{name}.{self.interval}"
        topics = {
            "book": f"book.{name}.{self.interval}",
            "book_top": f"book.{name}.none.{TOP_DEPTH}.100ms",
            "quote": f"quote.{name}",
            "trade": trades,
            "ticker": f"ticker.{name}.100ms",
            "funding": f"perpetual.{name}.100ms",
            "liquidation": trades,  # trades tell who was liquidated
            "candle": f"chart.trades.{name}.1",
        }
        return [Topic(PATH, topics[channel])]

    def subscribe_message(self, path: str, args: Sequence[Any], number: int) -> bytes:
        return _request(number * ASKED + len(args), "public/subscribe", {"channels": list(args)})

    def unsubscribe_message(self, path: str, args: Sequence[Any], number: int) -> bytes:
        return _request(0, "public/unsubscribe", {"channels": list(args)})

    def subscribe_messages(self, path: str, args: Sequence[Any]) -> Sequence[bytes | Callable[[int], bytes]]:
        heartbeat = _request(0, "public/set_heartbeat", {"interval": HEARTBEAT})
        return [heartbeat, *super().subscribe_messages(path, args)]


EXCHANGE = Deribit()
