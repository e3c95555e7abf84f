"""Decoders: messages in, events out; and what a decoder may ask for."""

from collections.abc import Sequence
from typing import ClassVar, TypeAlias

import msgspec

from feeds.events import EventHandler
from feeds.instrument import Instrument, Instruments
from feeds.large import LargeMessage
from feeds.levels import LevelShape
from feeds.wire import Wire

__all__ = ["Decoder", "Fetch", "Reconnect", "Refused", "Request", "Resubscribe", "Send"]

DEFAULT_MAX_ROUTES: int

class Send(msgspec.Struct, frozen=True, tag=True):
    """Send `payload` on the connection."""

    payload: bytes

class Fetch(msgspec.Struct, frozen=True, tag=True):
    """Get `url`, relative to the exchange's REST address, and give the reply to `decode_reply` under `tag`."""

    url: str
    tag: str
    body: bytes = b""

class Resubscribe(msgspec.Struct, frozen=True, tag=True):
    """Send `messages`, in order, so that a new snapshot comes; repeated for the same `tag` after a growing wait."""

    messages: tuple[bytes, ...]
    tag: str

class Reconnect(msgspec.Struct, frozen=True, tag=True):
    """The exchange says that it will end this connection: connect anew."""

    reason: str

class Refused(msgspec.Struct, frozen=True, tag=True):
    """The exchange refused a subscription: tell whoever asked for it."""

    reason: str

Request: TypeAlias = Send | Fetch | Resubscribe | Reconnect | Refused

class Holder: ...

class Decoder:
    """Turns the messages of one connection into events for `downstream`. It reads no clock and does no I/O."""

    envelope: ClassVar[tuple[bytes, bytes, bytes] | None]
    large_arrays: ClassVar[tuple[tuple[str, LevelShape], ...]]
    downstream: EventHandler
    reference: bool
    def __init__(
        self, instruments: Instruments, downstream: EventHandler, *, exchange: str, reference: bool = False
    ) -> None: ...
    @property
    def instruments(self) -> Instruments: ...
    @property
    def exchange(self) -> str: ...
    @property
    def scanned(self) -> int:
        """Messages that the hot engine decoded."""
    @property
    def referred(self) -> int:
        """Messages that went to `decode_other`."""
    @property
    def has_requests(self) -> bool: ...
    def take_requests(self) -> Sequence[Request]:
        """Return what the decoder has asked for since the last call, in order."""
    def request(self, request: Request) -> None:
        """Ask for something: for subclasses."""
    def add_route(self, name: str, wire: Wire, instrument: Instrument) -> None:
        """Send messages on the stream `name` through the hot engine from now on."""
    def decode(self, payload: bytes, ts_recv: int) -> None:
        """Decode one message; its events go to `downstream`. DecodeError for one that breaks the protocol."""
    def decode_other(self, payload: bytes, ts_recv: int) -> None:
        """Decode a message that no route takes."""
    def decode_reply(self, tag: str, payload: bytes, ts_recv: int) -> None:
        """Decode the reply to the `Fetch` that was asked for with `tag`."""
    def take_apart(self, payload: bytes) -> LargeMessage | None:
        """Read the large arrays of a message, in any thread. None: it has none, or is to be decoded as it is."""
    def decode_large(self, message: LargeMessage, tag: str | None, ts_recv: int) -> None:
        """Decode a message that was taken apart; with a `tag`, a reply."""
    def request_snapshot(self, instrument: Instrument) -> None:
        """Ask for a new snapshot of the instrument's book, in whichever way the exchange gives one."""
    def decode_whole(self, wire: Wire, instrument: Instrument, payload: bytes, ts_recv: int) -> None:
        """Decode a payload that is a message of the kind `wire` and nothing else: a reply, which may be large."""
    def decode_as(self, wire: Wire, instrument: Instrument, data: bytes | msgspec.Raw, ts_recv: int) -> None:
        """Decode `data`, the payload of a message of the kind `wire`, with the reference engine."""
