"""HTX swaps: linear (USDT) and coin-margined perpetuals, on two sockets, and two more for funding and liquidations.

https://www.htx.com/en-us/opend/newApiPages/

What is the same as on spot is in `htx`. Known from the reference: sockets, the books of changes and their rule, trades,
`bbo`, the topics of the notification sockets and their pings; `depth.step0`, trades and metadata are proven on traffic
of 2022. Not in the reference, and taken from traffic that others published: the fields of funding rates, liquidations
and candles. Not checked: that the direction of a liquidation is that of the order, that a book is unsubscribed without
`data_type`, and the fields of `detail`, of which only `close` is used.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import msgspec
from msgspec import Raw

from feeds.decoder import Resubscribe, Send
from feeds.exchange import Endpoints, Topic
from feeds.exchanges.htx import EMPTY, SIDES, Htx, HtxBaseDecoder, Message
from feeds.instrument import Instrument, Instruments
from feeds.sequencing import ContiguousSequence
from feeds.times import ms_ns

BOOK_CHANNEL = "depth.size_150.high_freq"  # the deepest of those of changes
_BOOK = re.compile(r"depth\.size_(\d+)\.high_freq")
_NAME = re.compile(r"([A-Z0-9]+)-(USDT|USD)")


# --- wire messages --------------------------------------------------------------------------------


class _Changes(msgspec.Struct, gc=False):
    """`depth.size_<levels>.high_freq`, in contracts. A side may be empty.

    {"event":"update","version":160,"bids":[[26.5766,50]],"asks":[],"ts":1645289384843}
    """

    event: str  # snapshot or update
    version: int  # +1 with every message of the topic
    bids: Raw = EMPTY
    asks: Raw = EMPTY
    ts: int = 0  # ms


class _Best(msgspec.Struct, gc=False):
    """`bbo`: price and contracts. {"bid":[31784.1,5911],"ask":[31784.2,4],"ts":1654031855127,"version":108746530167}"""

    bid: tuple[Raw, Raw] | None = None
    ask: tuple[Raw, Raw] | None = None
    ts: int = 0


class _Detail(msgspec.Struct, gc=False):
    """`detail`: the last day. {"id":1645289340,"open":26.1,"close":26.58,"high":27,"low":26,"vol":8312}"""

    close: Raw  # the last price


class _FundingRate(msgspec.Struct, gc=False):
    """`funding_rate`.

    {"symbol":"BTC","contract_code":"BTC-USDT","fee_asset":"USDT","funding_time":"1643960220000",
     "funding_rate":"0.000087224669991579","estimated_rate":"-0.000065319255924193","settlement_time":"1643961600000"}
    """

    contract_code: str
    funding_rate: str
    settlement_time: str  # ms: when it is paid
    estimated_rate: str | None = None  # the next one; not sent any more


class _Liquidation(msgspec.Struct, gc=False):
    """`liquidation_orders`.

    {"symbol":"ETH","contract_code":"ETH-USDT","direction":"buy","offset":"close","volume":500,"price":2446.26,
     "created_at":1789670297212,"amount":5,"trade_turnover":12231.3}
    """

    contract_code: str
    direction: str
    volume: Raw  # contracts
    price: Raw
    created_at: int


class _Entries(msgspec.Struct):
    data: list[Raw]


class _Entry(msgspec.Struct):
    """A contract of `swap_contract_info`: contracts of 100 or 10 USD, or of that many coins where they are linear.

    {"symbol":"BTC","contract_code":"BTC-USDT","contract_size":0.001000000000000000,"price_tick":0.100000000000000000,
     "contract_status":1}
    """

    contract_code: str
    contract_size: Raw
    price_tick: Raw


_decode_changes = msgspec.json.Decoder(_Changes).decode
_decode_best = msgspec.json.Decoder(_Best).decode
_decode_detail = msgspec.json.Decoder(_Detail).decode
_decode_funding_rates = msgspec.json.Decoder(list[_FundingRate]).decode
_decode_liquidations = msgspec.json.Decoder(list[_Liquidation]).decode
_decode_entries = msgspec.json.Decoder(_Entries).decode
_decode_entry = msgspec.json.Decoder(_Entry).decode


# --- decoder --------------------------------------------------------------------------------------


class HtxSwapDecoder(HtxBaseDecoder):
    """Decodes linear and coin-margined swaps."""

    silent_kinds: ClassVar[dict[str, str]] = HtxBaseDecoder.silent_kinds | {
        "other depth": "a second book topic of a contract: its ids are not those of the first, which keeps the book"
    }
    counts_contracts: ClassVar[bool] = True

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._books: dict[str, str] = {}  # raw symbol -> the channel that keeps its book

    def decode_channel(self, instrument: Instrument, channel: str, message: Message) -> None:
        if (match := _BOOK.fullmatch(channel)) is not None:
            self._decode_changes(instrument, channel, int(match[1]), message)
        elif channel == "bbo":
            best = _decode_best(message.tick)
            bid, ask = best.bid or (None, None), best.ask or (None, None)
            self.quote(instrument, *bid, *ask, ts_event=ms_ns(best.ts or message.ts))
        elif channel == "detail":
            self.ticker(instrument, last_price=_decode_detail(message.tick).close, ts_event=ms_ns(message.ts))
        elif not self.decode_common(instrument, channel, message):
            super().decode_channel(instrument, channel, message)

    def decode_operation(self, message: Message) -> None:
        if message.op == "notify":
            self._decode_notification(message)
        elif message.op == "ping":
            self.request(Send(msgspec.json.encode({"op": "pong", "ts": message.ts})))
            self.nothing("ping")
        elif message.op in ("sub", "unsub"):
            if message.err_code:
                self.refused(f"{message.err_code}: {message.err_msg}")
            else:
                self.nothing("ack")
        else:
            super().decode_operation(message)

    def request_snapshot(self, instrument: Instrument) -> None:
        name = instrument.raw_symbol
        topic = f"market.{name}.{self._books.get(name, BOOK_CHANNEL)}"
        messages = (msgspec.json.encode({"unsub": topic, "id": name}), _subscription(topic, name))
        self.request(Resubscribe(messages, name))

    def infer(self, raw_symbol: str) -> tuple[str | None, str]:
        return name_of(raw_symbol)

    def _decode_changes(self, instrument: Instrument, channel: str, depth: int, message: Message) -> None:
        if self._books.setdefault(instrument.raw_symbol, channel) != channel:
            self.nothing("other depth")
            return
        book = _decode_changes(message.tick)
        if book.event not in ("snapshot", "update"):
            raise self.error("bad_value", f"expected event snapshot or update, found {book.event!r}")
        self.book(
            instrument,
            book.bids,
            book.asks,
            is_snapshot=book.event == "snapshot",
            window=depth,
            first_id=book.version,
            last_id=book.version,
            ts_event=ms_ns(book.ts or message.ts),
        )

    def _decode_notification(self, message: Message) -> None:
        channel = message.topic.rpartition(".")[2]
        if channel == "funding_rate":
            for rate in _decode_funding_rates(message.data):
                if (instrument := self.find(rate.contract_code)) is not None:
                    self.funding(
                        instrument,
                        funding_rate=rate.funding_rate,
                        next_funding_rate=rate.estimated_rate,
                        next_funding_time=ms_ns(rate.settlement_time),
                        ts_event=ms_ns(message.ts),
                    )
        elif channel == "liquidation_orders":
            for order in _decode_liquidations(message.data):
                if (instrument := self.find(order.contract_code)) is not None:
                    self.liquidation(
                        instrument,
                        order.price,
                        order.volume,
                        side=SIDES[order.direction],
                        ts_event=ms_ns(order.created_at),
                    )
        else:
            raise self.error("unknown_message", f"expected a known topic, found {message.topic!r}")


def _subscription(topic: str, request_id: str) -> bytes:
    request = {"sub": topic, "id": request_id}
    return msgspec.json.encode(request | {"data_type": "incremental"} if "high_freq" in topic else request)


def name_of(raw_symbol: str) -> tuple[str | None, str]:
    """Return (our symbol, kind) of a swap: BTC-USDT, BTC-USD. None for what is dated."""
    if (match := _NAME.fullmatch(raw_symbol)) is None:
        return None, "unknown"
    return f"{match[1]}-{match[2]}-PERP", "perpetual"


# --- exchange -------------------------------------------------------------------------------------


class HtxSwap(Htx):
    """HTX swaps, linear and coin-margined."""

    id = "htx-swap"
    endpoints = Endpoints(ws="wss://api.hbdm.com", rest="https://api.hbdm.com")
    channels = ("book", "book_top", "quote", "trade", "ticker", "funding", "liquidation", "candle")
    decoder = HtxSwapDecoder
    new_sequence = ContiguousSequence
    instruments_urls = ("/linear-swap-api/v1/swap_contract_info", "/swap-api/v1/swap_contract_info")
    urls = re.compile(r"//api\.hbdm\.com/(linear-)?swap-(ws|notification|api)\b")
    messages = re.compile(
        rb'"ch": ?"market\.[A-Z0-9]+-USDT?\.(depth|trade|bbo|kline|detail)\b'
        rb'|"topic": ?"public\.[A-Z0-9*-]+\.(funding_rate|liquidation_orders)"'
    )

    def list_instruments(self, payload: bytes) -> Iterable[Any]:
        return _decode_entries(payload).data

    def add_instrument(self, entry: Any, instruments: Instruments) -> None:
        found = _decode_entry(entry)
        symbol, kind = name_of(found.contract_code)
        if symbol is None:
            raise ValueError(f"expected a swap like BTC-USDT, found {found.contract_code!r}")
        instruments.add(
            self.id,
            found.contract_code,
            symbol=symbol,
            kind=kind,
            tick_size=bytes(found.price_tick).decode(),
            lot_size="1",
            contract_size=bytes(found.contract_size).decode(),
        )

    def topics(self, instrument: Instrument, channel: str) -> Sequence[Topic]:
        name = instrument.raw_symbol
        family = "/linear-swap" if name.endswith("-USDT") else "/swap"
        if channel in ("funding", "liquidation"):
            topic = "funding_rate" if channel == "funding" else "liquidation_orders"
            return [Topic(f"{family}-notification", f"public.{name}.{topic}")]
        topic = {
            "book": BOOK_CHANNEL,
            "book_top": "depth.step0",
            "quote": "bbo",
            "trade": "trade.detail",
            "ticker": "detail",
            "candle": "kline.1min",
        }[channel]
        return [Topic(f"{family}-ws", f"market.{name}.{topic}")]

    def subscribe_message(self, path: str, args: Sequence[Any], number: int) -> bytes:
        if path.endswith("-notification"):
            return msgspec.json.encode({"op": "sub", "cid": str(number), "topic": args[0]})
        return _subscription(args[0], str(number))

    def unsubscribe_message(self, path: str, args: Sequence[Any], number: int) -> bytes:
        if path.endswith("-notification"):
            return msgspec.json.encode({"op": "unsub", "cid": str(number), "topic": args[0]})
        return super().unsubscribe_message(path, args, number)


EXCHANGE = HtxSwap()
