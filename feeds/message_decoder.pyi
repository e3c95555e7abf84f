"""The base of decoders whose messages msgspec reads: numbers as text become events, errors `DecodeError`s."""

import re
from typing import Any, ClassVar, Final, TypeAlias

import msgspec

from feeds.decoder import Decoder
from feeds.errors import DecodeError
from feeds.instrument import Instrument
from feeds.levels import LevelShape

__all__ = ["PRICE_QTY", "MessageDecoder", "inflate"]

DEFAULT_MAX_INFLATED_SIZE: Final[int]

_Text: TypeAlias = str | int | bytes | msgspec.Raw
_Levels: TypeAlias = bytes | msgspec.Raw | list[tuple[Any, Any]] | tuple[tuple[Any, LevelShape], ...] | None

def inflate(payload: bytes, wbits: int = 31, max_size: int = ...) -> bytes:
    """Return what a compressed message holds, at most `max_size` bytes: `wbits` 31 for gzip, -15 for raw deflate.

    ValueError where it is not all of one compressed stream, or holds more.
    """

PRICE_QTY: Final[LevelShape]

class MessageDecoder(Decoder):
    """Decodes the messages of one connection that msgspec reads."""

    silent_kinds: ClassVar[dict[str, str]]
    levels: ClassVar[LevelShape]
    unnumbered: ClassVar[re.Pattern[bytes] | None]
    padded: ClassVar[bool]
    supersede_keys: ClassVar[tuple[bytes, ...]]
    @property
    def ts_recv(self) -> int:
        """Of the message being decoded."""
    @property
    def ts_began(self) -> int:
        """`ts_recv` of the connection's first message."""
    @property
    def silent(self) -> dict[str, int]:
        """Kind -> how many messages of it were understood and emitted nothing."""
    def decode_message(self, payload: bytes) -> None:
        """Decode one message: for subclasses."""
    def decode_snapshot(self, tag: str, payload: bytes) -> None:
        """Decode the reply to the `Fetch` with this tag: for subclasses that ask for any."""
    def infer(self, raw_symbol: str) -> tuple[str | None, str]:
        """Return (our symbol or None, kind) of a symbol that no metadata names: only what is certain."""
    def error(self, kind: str, text: str) -> DecodeError:
        """Return the exception to raise for the message being decoded."""
    def messages(self, payload: bytes) -> list[bytes | msgspec.Raw]:
        """Return the messages of a payload: itself, or those of an array. DecodeError where that is empty."""
    def nothing(self, kind: str) -> None:
        """Count a message that is understood and emits nothing; `silent_kinds` must name its kind."""
    def find(self, raw_symbol: str) -> Instrument | None:
        """Return the instrument, or None for an unknown symbol: counted when the message has been read."""
    def is_backlog(self, instrument: Instrument, ts_event: int) -> bool:
        """Whether a trade is from before this connection, by its time: until the first one that is not."""
    def defer(self, kind: str, text: str) -> None:
        """Count one record of the message as a problem; the others are decoded."""
    def refused(self, reason: str) -> None:
        """The exchange refused a subscription."""
    def reconnect(self, reason: str) -> None:
        """The exchange announced that it will close the connection, or it must be made anew."""
    def lost(self, reason: str) -> None:
        """A message of the connection was missed, nobody knows of which instrument: every book has a gap."""
    def trade(
        self,
        instrument: Instrument,
        price: _Text,
        qty: _Text,
        *,
        side: int = ...,
        id: int | str | None = None,
        ts_event: int = 0,
        is_backlog: bool = False,
        price_scale: int = 0,
        qty_scale: int = 0,
    ) -> None:
        """Emit a `Trade`. `id` is an int or text; `price_scale` and `qty_scale` as in `book`."""
    def quote(
        self,
        instrument: Instrument,
        bid_price: _Text | None,
        bid_qty: _Text | None,
        ask_price: _Text | None,
        ask_qty: _Text | None,
        *,
        sequence: int = 0,
        ts_event: int = 0,
        price_scale: int = 0,
        qty_scale: int = 0,
    ) -> None:
        """Emit a `Quote`. A side without price or with a quantity of 0 is missing; a quantity of None is not known."""
    def book(
        self,
        instrument: Instrument,
        bids: _Levels,
        asks: _Levels,
        *,
        shape: LevelShape | None = None,
        is_snapshot: bool = False,
        starts_over: bool | None = None,
        depth: int = 0,
        window: int = 0,
        first_id: int = -1,
        last_id: int = -1,
        previous_id: int = -1,
        checksum: int | None = None,
        ts_event: int = 0,
        price_scale: int = 0,
        qty_scale: int = 0,
    ) -> None:
        """Emit a `BookDelta`. A snapshot `starts_over` unless it is a reply of REST; scale n: in units of 10**-n."""
    def ticker(
        self,
        instrument: Instrument,
        *,
        merge: bool = False,
        ts_event: int = 0,
        last_price: _Text | None = None,
        mark_price: _Text | None = None,
        index_price: _Text | None = None,
        open_interest: _Text | None = None,
        funding_rate: _Text | None = None,
        next_funding_time: int | None = None,
    ) -> None:
        """Emit a `Ticker`. With `merge`, what the message does not have is as the messages before said."""
    def funding(
        self,
        instrument: Instrument,
        *,
        funding_rate: _Text | None,
        next_funding_rate: _Text | None = None,
        next_funding_time: int = 0,
        ts_event: int = 0,
    ) -> None:
        """Emit a `Funding`."""
    def open_interest(self, instrument: Instrument, open_interest: _Text | None, *, ts_event: int = 0) -> None:
        """Emit an `OpenInterest`."""
    def liquidation(
        self,
        instrument: Instrument,
        price: _Text | None,
        qty: _Text | None,
        *,
        side: int = ...,
        id: int | str | None = None,
        ts_event: int = 0,
    ) -> None:
        """Emit a `Liquidation`. `side` is that of the order that closes the position."""
    def candle(
        self,
        instrument: Instrument,
        *,
        ts_open: int,
        interval: int,
        open: _Text | None,
        high: _Text | None,
        low: _Text | None,
        close: _Text | None,
        volume: _Text | None = None,
        quote_volume: _Text | None = None,
        is_closed: bool | None = None,
        ts_event: int = 0,
    ) -> None:
        """Emit a `Candle`."""
