"""BitMEX: tables of which a `partial` gives the rows and other messages what became of them.

https://www.bitmex.com/app/wsAPI
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any, ClassVar

import msgspec
from msgspec import Raw

from feeds.bare_numbers import given
from feeds.decoder import Resubscribe
from feeds.events import Side
from feeds.exchange import Endpoints, Exchange, Heartbeat, RateLimit, Topic
from feeds.instrument import Instrument, Instruments
from feeds.message_decoder import MessageDecoder
from feeds.times import iso_ns

EMPTY = Raw(b"")
SIDES = {"Buy": Side.BUY, "Sell": Side.SELL}
OUR_CURRENCIES = {"XBT": "BTC"}
TOP_DEPTH = 10
BINS = {"tradeBin1m": 60, "tradeBin5m": 300, "tradeBin1h": 3600, "tradeBin1d": 86_400}
NO_ID = "00000000-0000-0000-0000-000000000000"


# --- wire messages --------------------------------------------------------------------------------


class _Filter(msgspec.Struct):
    symbol: str = ""


class _Message(msgspec.Struct):
    """Whatever arrives.

    {"table":"orderBookL2","action":"partial","keys":["symbol","id","side"],"filter":{"symbol":"XBTUSD"},"data":[...]}
    {"success":true,"subscribe":"orderBookL2:XRPU21","request":{...}}
    {"status":400,"error":"...","meta":{},"request":{...}}
    {"info":"Welcome to the BitMEX Realtime API.","version":"...","limit":{"remaining":39}}
    """

    table: str = ""
    action: str = ""
    data: Raw = EMPTY
    filter: _Filter | None = None
    success: bool | None = None
    error: str = ""
    info: str = ""


class _Named(msgspec.Struct, gc=False):
    symbol: str


class _Level(msgspec.Struct, gc=False):
    """`orderBookL2`, `orderBookL2_25`: a level has an id.

    {"symbol":"SOLUSDT","id":54899972480,"side":"Sell","size":991,"price":27.52}
    """

    symbol: str
    id: int
    side: str
    size: Raw = EMPTY  # not in deletions
    price: Raw = EMPTY  # in updates and deletions not in 2021
    timestamp: str = ""  # not in 2021


class _Top(msgspec.Struct, gc=False):
    """`orderBook10`. {"symbol":"XBTUSD","bids":[[32186.5,100]],"asks":[[32187,36000]],"timestamp":"..."}"""

    symbol: str
    bids: Raw
    asks: Raw
    timestamp: str


class _Trade(msgspec.Struct, gc=False):
    """`trade`. Those of indices have no size.

    {"timestamp":"2021-07-22T22:36:10.014Z","symbol":"UNIUSDT","side":"Buy","size":52,"price":17.297,
     "trdMatchID":"39744121-1f2c-4dbb-8b2b-d5b1a3c5e3f1","trdType":"Regular"}
    """

    symbol: str
    timestamp: str
    price: Raw
    size: Raw = EMPTY
    side: str | None = None  # the taker's
    trdMatchID: str | None = None


class _Quote(msgspec.Struct, gc=False):
    """`quote`.

    {"timestamp":"2021-07-22T22:35:53.978Z","symbol":"XRPU21","bidSize":15,"bidPrice":0.00001814,"askPrice":0.00001819,
     "askSize":1703}
    """

    symbol: str
    timestamp: str
    bidPrice: Raw = EMPTY
    bidSize: Raw = EMPTY
    askPrice: Raw = EMPTY
    askSize: Raw = EMPTY


class _Instrument(msgspec.Struct, gc=False):
    """`instrument`: what changed of it.

    {"symbol":"XBTUSD","markPrice":32191.3,"indicativeSettlePrice":32190.1,"fundingRate":0.0001,
     "fundingTimestamp":"2021-07-23T04:00:00.000Z","openInterest":512000,"timestamp":"2021-07-22T22:36:05.000Z"}
    """

    symbol: str
    timestamp: str = ""
    lastPrice: Raw = EMPTY
    markPrice: Raw = EMPTY
    indicativeSettlePrice: Raw = EMPTY
    openInterest: Raw = EMPTY
    fundingRate: Raw = EMPTY
    fundingTimestamp: str | None = ""


class _Funding(msgspec.Struct, gc=False):
    """`funding`: what was paid. {"timestamp":"2021-07-22T20:00:00.000Z","symbol":"XBTUSD","fundingRate":0.0001}"""

    symbol: str
    timestamp: str
    fundingRate: Raw


class _Liquidation(msgspec.Struct, gc=False):
    """`liquidation`. {"orderID":"...","symbol":"XBTUSD","side":"Sell","price":32100,"leavesQty":100}"""

    symbol: str
    orderID: str
    side: str
    price: Raw
    leavesQty: Raw


class _Bin(msgspec.Struct, gc=False):
    """`tradeBin1m`: `timestamp` is the end.

    {"timestamp":"2021-07-22T22:36:00.000Z","symbol":"XBTUSD","open":32190,"high":32195,"low":32190,"close":32191,...}
    """

    symbol: str
    timestamp: str
    open: Raw
    high: Raw
    low: Raw
    close: Raw
    volume: Raw


class _Entry(msgspec.Struct):
    """An instrument of `/api/v1/instrument/active`."""

    symbol: str
    typ: str
    underlying: str
    quoteCurrency: str
    tickSize: Raw
    lotSize: Raw
    expiry: str | None = None
    isInverse: bool = False
    underlyingToPositionMultiplier: int | None = None


_decode_message = msgspec.json.Decoder(_Message).decode
_decode_named = msgspec.json.Decoder(list[_Named]).decode
_decode_levels = msgspec.json.Decoder(list[_Level]).decode
_decode_tops = msgspec.json.Decoder(list[_Top]).decode
_decode_trades = msgspec.json.Decoder(list[_Trade]).decode
_decode_quotes = msgspec.json.Decoder(list[_Quote]).decode
_decode_instruments = msgspec.json.Decoder(list[_Instrument]).decode
_decode_fundings = msgspec.json.Decoder(list[_Funding]).decode
_decode_liquidations = msgspec.json.Decoder(list[_Liquidation]).decode
_decode_bins = msgspec.json.Decoder(list[_Bin]).decode
_decode_entries = msgspec.json.Decoder(list[Raw]).decode
_decode_entry = msgspec.json.Decoder(_Entry).decode


# --- decoder --------------------------------------------------------------------------------------


class BitmexDecoder(MessageDecoder):
    """Decodes the tables. Of each level of a book it knows the price: messages may name the level by its id alone.

    At most `max_levels` levels are known per book; a message with more is refused.
    """

    unnumbered = re.compile(rb'^\{"table":"orderBookL2')
    silent_kinds: ClassVar[dict[str, str]] = {
        "pong": "the answer to our ping",
        "ack": "a subscription is confirmed",
        "welcome": "the greeting",
        "early": "of a table whose rows have not come yet",
        "unknown id": "a change of a level that is not there",
        "other table": "a second book table of a symbol: the first keeps the book",
        "index": "an index, which is not traded",
        "no change": "an instrument whose prices, funding and open interest did not change",
        "liquidation order": "a liquidation that was told before: it changed, ended or stood when we subscribed",
        "no trade": "a candle without a trade",
        "other": "tables about no market",
    }
    max_levels = 200_000

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._begun: set[tuple[str, str]] = set()  # (table, symbol or "" for all) whose partial has come
        self._book_tables: dict[str, str] = {}
        self._prices: dict[str, dict[tuple[int, str], str]] = {}  # symbol -> (id, side) -> price

    def decode_message(self, payload: bytes) -> None:
        if payload == b"pong":
            self.nothing("pong")
            return
        message = _decode_message(payload)
        if message.table:
            self._decode_table(message)
        elif message.error:
            self.refused(message.error)
        elif message.success is not None:
            self.nothing("ack")
        elif message.info:
            self.nothing("welcome")
        else:
            raise self.error("unknown_message", "expected a table, an answer or the greeting")

    def request_snapshot(self, instrument: Instrument) -> None:
        name = instrument.raw_symbol
        args = [f"{self._book_tables.get(name, 'orderBookL2')}:{name}"]
        self.request(Resubscribe((_request("unsubscribe", args), _request("subscribe", args)), name))

    def infer(self, raw_symbol: str) -> tuple[str | None, str]:
        return name_of(raw_symbol)

    def _decode_table(self, message: _Message) -> None:
        table = message.table
        if message.action not in ("partial", "insert", "update", "delete"):
            raise self.error("bad_value", f"expected a known action, found {message.action!r}")
        if message.action == "partial":
            self._begun.add((table, message.filter.symbol if message.filter is not None else ""))
        elif not self._has_begun(message):
            self.nothing("early")
            return
        if table in ("orderBookL2", "orderBookL2_25"):
            self._decode_book(message)
        elif table == "trade":
            self._decode_trades(message)
        elif table == "quote":
            self._decode_quotes(message.data)
        elif table == "orderBook10":
            self._decode_tops(message.data)
        elif table == "instrument":
            self._decode_instruments(message.data)
        elif table == "funding":
            for paid in _decode_fundings(message.data):
                if (instrument := self.find(paid.symbol)) is not None:
                    ts = iso_ns(paid.timestamp)
                    self.funding(instrument, funding_rate=paid.fundingRate, next_funding_time=ts, ts_event=ts)
        elif table == "liquidation":
            self._decode_liquidations(message)
        elif table in BINS:
            self._decode_bins(message.data, BINS[table])
        elif table.startswith("quoteBin") or table in ("settlement", "chat", "connected", "announcement", "insurance"):
            self.nothing("other")
        else:
            raise self.error("unknown_message", f"expected a known table, found {table!r}")

    def _has_begun(self, message: _Message) -> bool:
        """Whether the partial of what a message is about has come."""
        table = message.table
        if (table, "") in self._begun:
            return True
        return all((table, row.symbol) in self._begun for row in _decode_named(message.data))

    def _decode_book(self, message: _Message) -> None:
        rows: dict[str, list[_Level]] = {}
        if message.action == "partial" and message.filter is not None and message.filter.symbol:
            rows[message.filter.symbol] = []  # an empty book has no row
        for row in _decode_levels(message.data):
            rows.setdefault(row.symbol, []).append(row)
        for symbol, levels in rows.items():
            instrument = self.find(symbol)
            if instrument is None:
                continue
            if self._book_tables.setdefault(symbol, message.table) != message.table:
                self.nothing("other table")
                continue
            if message.action == "partial":
                self._prices[symbol] = {}
            bids, asks = self._changes(levels, message.action, self._prices.setdefault(symbol, {}))
            ts = max((iso_ns(row.timestamp) for row in levels if row.timestamp), default=0)
            if bids or asks or message.action == "partial":
                self.book(instrument, bids, asks, is_snapshot=message.action == "partial", ts_event=ts)

    def _changes(
        self, levels: list[_Level], action: str, prices: dict[tuple[int, str], str]
    ) -> tuple[list[tuple[str, Any]], list[tuple[str, Any]]]:
        """Return what becomes of bids and asks: (price, size), 0 for a level that is no more."""
        sides: dict[str, list[tuple[str, Any]]] = {"Buy": [], "Sell": []}
        for row in levels:
            changes, key = sides[row.side], (row.id, row.side)
            known, told = prices.get(key), given(row.price)
            if action == "delete":
                price = prices.pop(key, None)
                if price is not None:
                    changes.append((price, "0"))
                else:
                    self.nothing("unknown id")
                continue
            price = known if told is None else bytes(told).decode()
            if price is None or (action == "update" and known is None):
                if action != "update":
                    raise self.error("missing_field", f"expected 'price' in a new level of {row.symbol}")
                self.nothing("unknown id")
                continue
            if known is not None and known != price:
                changes.append((known, "0"))
            if known is None and len(prices) >= self.max_levels:
                raise self.error("too_many_levels", f"expected at most {self.max_levels} levels of {row.symbol}")
            prices[key] = price
            if (size := given(row.size)) is not None:
                changes.append((price, size))
            elif action != "update" or known != price:
                raise self.error("missing_field", f"expected 'size' in a level of {row.symbol}")
        return sides["Buy"], sides["Sell"]

    def _decode_tops(self, data: Raw) -> None:
        for top in _decode_tops(data):
            if (instrument := self.find(top.symbol)) is not None:
                ts = iso_ns(top.timestamp)
                self.book(instrument, top.bids, top.asks, is_snapshot=True, depth=TOP_DEPTH, ts_event=ts)

    def _decode_trades(self, message: _Message) -> None:
        for trade in _decode_trades(message.data):
            instrument = self.find(trade.symbol)
            if instrument is None:
                continue
            size = given(trade.size)
            if size is None or trade.symbol.startswith("."):
                self.nothing("index")
                continue
            self.trade(
                instrument,
                trade.price,
                size,
                side=SIDES[trade.side] if trade.side else Side.UNKNOWN,
                id=None if trade.trdMatchID == NO_ID else trade.trdMatchID,
                ts_event=iso_ns(trade.timestamp),
                is_backlog=message.action == "partial",
            )

    def _decode_quotes(self, data: Raw) -> None:
        for quote in _decode_quotes(data):
            if (instrument := self.find(quote.symbol)) is not None:
                self.quote(
                    instrument,
                    given(quote.bidPrice),
                    given(quote.bidSize),
                    given(quote.askPrice),
                    given(quote.askSize),
                    ts_event=iso_ns(quote.timestamp),
                )

    def _decode_instruments(self, data: Raw) -> None:
        for row in _decode_instruments(data):
            instrument = self.find(row.symbol)
            if instrument is None:
                continue
            numbers = (row.lastPrice, row.markPrice, row.indicativeSettlePrice, row.openInterest, row.fundingRate)
            if not any(numbers) and row.fundingTimestamp == "":
                self.nothing("no change")
                continue
            # What is missing has not changed; null is known to be none.
            last, mark, index, interest, rate = (
                None if not number else "" if given(number) is None else number for number in numbers
            )
            due = row.fundingTimestamp
            self.ticker(
                instrument,
                merge=True,
                last_price=last,
                mark_price=mark,
                index_price=index,
                open_interest=interest,
                funding_rate=rate,
                next_funding_time=None if due == "" else iso_ns(due) if due else 0,
                ts_event=iso_ns(row.timestamp) if row.timestamp else 0,
            )

    def _decode_liquidations(self, message: _Message) -> None:
        if message.action != "insert":
            self.nothing("liquidation order")
            return
        for order in _decode_liquidations(message.data):
            if (instrument := self.find(order.symbol)) is not None:
                self.liquidation(instrument, order.price, order.leavesQty, side=SIDES[order.side], id=order.orderID)

    def _decode_bins(self, data: Raw, interval: int) -> None:
        for row in _decode_bins(data):
            instrument = self.find(row.symbol)
            if instrument is None:
                continue
            if any(given(number) is None for number in (row.open, row.high, row.low, row.close)):
                self.nothing("no trade")
                continue
            end = iso_ns(row.timestamp)
            self.candle(
                instrument,
                ts_open=end - interval * 1_000_000_000,
                interval=interval,
                open=row.open,
                high=row.high,
                low=row.low,
                close=row.close,
                volume=given(row.volume),
                is_closed=True,
                ts_event=end,
            )


def _request(op: str, args: Sequence[str]) -> bytes:
    return msgspec.json.encode({"op": op, "args": args})


def name_of(raw_symbol: str) -> tuple[str | None, str]:
    """Return (our symbol, kind) of a perpetual, XBTUSD, or a pair of the spot market, XBT_USDT.

    None where the name does not say: XBTM26 names a month, not a day, and ETHUSD_ETH what it is settled in.
    """
    base, underscore, quote = raw_symbol.partition("_")
    if underscore:
        if quote in ("USDT", "USDC") and not base.endswith("USD") and base.isalnum() and len(base) > 1:
            return f"{OUR_CURRENCIES.get(base, base)}-{quote}", "spot"
        return None, "unknown"
    for quote in ("USDT", "USDC", "USD", "EUR"):
        base = raw_symbol.removesuffix(quote)
        if base and base != raw_symbol and base.isalnum():
            return f"{OUR_CURRENCIES.get(base, base)}-{quote}-PERP", "perpetual"
    return None, "unknown"


# --- exchange -------------------------------------------------------------------------------------


class Bitmex(Exchange):
    """BitMEX."""

    id = "bitmex"
    endpoints = Endpoints(ws="wss://ws.bitmex.com", rest="https://www.bitmex.com")
    channels = ("book", "book_top", "quote", "trade", "ticker", "funding", "liquidation", "candle")
    decoder = BitmexDecoder
    resnapshot_interval = 900.0
    instruments_urls = ("/api/v1/instrument/active",)
    heartbeat = Heartbeat(5.0, b"ping")
    max_topics_per_message = 10
    connection_limits = (RateLimit(3, 1), RateLimit(40, 3600))  # an hour allows more today, unconfirmed how many
    urls = re.compile(r"//(ws|www|ws\.testnet|testnet)\.bitmex\.com\b")
    messages = re.compile(rb'^\{"table":"\w+","action":"(partial|insert|update|delete)"')

    def list_instruments(self, payload: bytes) -> Iterable[Any]:
        entries = _decode_entries(payload)
        if not entries:
            raise msgspec.DecodeError("no instrument")
        return entries

    def add_instrument(self, entry: Any, instruments: Instruments) -> None:
        found = _decode_entry(entry)
        base, quote = (OUR_CURRENCIES.get(name, name) for name in (found.underlying, found.quoteCurrency))
        name: str | None = f"{base}-{quote}"
        settled = found.symbol.partition("_")[2]  # in what: ETHUSD_ETH, besides ETHUSD
        if found.typ == "IFXXXP":
            kind = "spot"
        elif found.typ.startswith("FFW"):
            name, kind = f"{name}-PERP" + (f"-{settled}" if settled else ""), "perpetual"
        elif found.typ.startswith("FFC") and found.expiry:
            date = found.expiry[:10].replace("-", "")
            name, kind = f"{name}-{date}" + (f"-{settled}" if settled else ""), "future"
        else:  # indices, prediction markets
            name, kind = None, "unknown"
        per_unit = found.underlyingToPositionMultiplier
        instruments.add(
            self.id,
            found.symbol,
            symbol=name,
            kind=kind,
            tick_size=bytes(found.tickSize).decode(),
            lot_size=bytes(found.lotSize).decode(),
            contract_size="1" if found.isInverse else Decimal(1) / per_unit if per_unit else None,
        )

    def topics(self, instrument: Instrument, channel: str) -> Sequence[Topic]:
        if instrument.kind == "spot" and channel in ("funding", "liquidation"):
            return []
        table = {
            "book": "orderBookL2",
            "book_top": "orderBook10",
            "quote": "quote",
            "trade": "trade",
            "ticker": "instrument",
            "funding": "funding",
            "liquidation": "liquidation",
            "candle": "tradeBin1m",
        }[channel]
        return [Topic("/realtime", f"{table}:{instrument.raw_symbol}")]

    def subscribe_message(self, path: str, args: Sequence[Any], number: int) -> bytes:
        return _request("subscribe", args)

    def unsubscribe_message(self, path: str, args: Sequence[Any], number: int) -> bytes:
        return _request("unsubscribe", args)


EXCHANGE = Bitmex()
