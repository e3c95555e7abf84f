"""The pipeline: messages of one connection in, events out, through the same code live and in replay."""

from feeds.book_builder import BookBuilder
from feeds.decoder import Decoder
from feeds.events import EventHandler
from feeds.exchange import Exchange
from feeds.instrument import Instruments
from feeds.large import LargeMessage
from feeds.latency import Latency

__all__ = ["Pipeline", "Problem"]

MAX_PROBLEM_KINDS: int

class Problem:
    """Messages of one kind that could not be decoded: how many, and the first of them in words."""

    __slots__ = ("count", "first", "kind")
    kind: str
    first: str
    count: int
    def __init__(self, kind: str, first: str) -> None: ...

class Pipeline:
    """Runs the messages of one connection through a decoder and its books into `downstream`.

    `skip_superseded` is for a `downstream` that conflates.
    """

    def __init__(
        self,
        exchange: Exchange,
        instruments: Instruments,
        downstream: EventHandler,
        *,
        source: int = 0,
        reference: bool = False,
        skip_superseded: bool = False,
        max_held_bytes: int = 262_144,
        latency: Latency | None = None,
    ) -> None: ...
    @property
    def decoder(self) -> Decoder:
        """New on every connect."""
    @property
    def books(self) -> BookBuilder:
        """The head of the chain."""
    @property
    def latency(self) -> Latency | None: ...
    @property
    def exchange(self) -> str: ...
    @property
    def source(self) -> int: ...
    @property
    def messages(self) -> int: ...
    @property
    def payload_bytes(self) -> int: ...
    @property
    def batches(self) -> int: ...
    @property
    def superseded(self) -> int:
        """Of `messages`, those that were not decoded, because a newer one of the batch says all that they said."""
    @property
    def skip_superseded(self) -> bool: ...
    @property
    def problems(self) -> dict[str, Problem]: ...
    @property
    def silent_subscriptions(self) -> list[str]:
        """In words, the subscriptions that the live feed found silent: no data within `first_data_timeout`."""
    def on_message(self, payload: bytes, ts_recv: int, last_in_batch: bool, large: LargeMessage | None = None) -> None:
        """Take one whole WebSocket message; `last_in_batch` ends the batch and lets conflated events out."""
    def on_reply(self, tag: str, payload: bytes, ts_recv: int, large: LargeMessage | None = None) -> None:
        """Take the reply to a `Fetch` with this tag. It is a batch of its own."""
    def on_tick(self, ts_recv: int) -> None:
        """Time has come to `ts_recv` without a message: it ends the batch, or is an empty one, for timers."""
    def on_connected(self, reason: str, ts_recv: int) -> None: ...
    def on_disconnected(self, reason: str, ts_recv: int) -> None: ...
    def on_status(self, status: str, reason: str, ts_recv: int) -> None:
        """Pass on what the live shell has found out about the connection."""
    def on_resnapshot(self, symbol: str, ts_recv: int) -> None:
        """A snapshot is due of a book that is LIVE, by the exchange's symbol: a status tells where it is asked for."""
    def on_subscribed(self, symbol: str, channels: str, ts_recv: int) -> None:
        """Channels ("book, trade") of an instrument, by the exchange's symbol, are subscribed from now on."""
    def on_unsubscribed(self, symbol: str, channels: str, ts_recv: int) -> None:
        """Channels of an instrument are not wanted any more. Its book is dropped where it is among them."""
    def on_fetch_failed(self, tag: str, ts_recv: int, reason: str) -> None:
        """A `Fetch` will not be answered: whoever waits for it may ask again."""
