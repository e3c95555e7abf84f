"""The seams of the simulator: what one exchange implements so that the server, playback and faults work for it.

Everything here is pure. A `Source` says what happens and when; an `ExchangeProtocol` owns one source, answers REST
requests and opens a `Session` for every client that connects; the server moves bytes and time between them.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import msgspec

from feeds.simulator.markets import Market
from feeds.simulator.order_flow import OrderFlow

# What a message means to the faults: a delta is cumulative and part of a sequence, a book or quote replaces the last.
Kind = Literal["delta", "book", "quote", "trade", "other"]


class Message(msgspec.Struct, frozen=True, gc=False):
    """One market data message before a session wraps it as its client asked."""

    stream: str | None  # None: recorded without its name
    symbol: str
    kind: Kind
    data: bytes
    to_all: bool = False  # even to clients that did not subscribe to the stream
    is_binary: bool = False
    is_lost: bool = False  # by a fault: a session numbers it, and nobody gets it


class Ending(msgspec.Struct, frozen=True):
    """The end of a connection: with a CLOSE frame, or without one where there is no code."""

    code: int | None = None
    reason: str = ""


class Batch(msgspec.Struct, frozen=True, gc=False):
    """Messages of one instant, which belong into one TCP segment."""

    ts_event: int  # ns of exchange time
    messages: list[Message]
    session: "Session | None" = None  # the only receiver; None: every subscriber
    ending: Ending | None = None  # behind the messages, the connection of `session` ends


class HttpReply(msgspec.Struct, frozen=True):
    status: int
    body: bytes
    headers: dict[str, str] = {}


class SimulatorError(Exception):
    """Root of the simulator's exceptions."""


class Refused(SimulatorError):
    """The exchange answers a WebSocket upgrade with something else than 101."""

    def __init__(self, reply: HttpReply) -> None:
        super().__init__(f"refused with HTTP {reply.status}: {reply.body.decode(errors='replace')}")
        self.reply = reply


class PolicyViolation(SimulatorError):
    """A client broke a rule for which the exchange disconnects, with 1006 without saying so."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{reason} (close code {code})")
        self.code = code
        self.reason = reason


class Session(ABC):
    """One client's connection: its subscriptions, its mode, its limits."""

    @property
    @abstractmethod
    def streams(self) -> list[str]:
        """Names of what the client subscribed to, in its order."""

    beat_interval = 0.0  # seconds between calls of `beat`; 0: none
    sends_binary = False  # all that it sends

    @abstractmethod
    def open(self, now_ns: int) -> list[bytes]:
        """Subscribe to what the request target named; return the greeting. Called once, when the connection stands."""

    @abstractmethod
    def count_frame(self, monotonic_ns: int) -> None:
        """Count a frame of the client, PING and PONG too, against its limits. PolicyViolation ends the connection."""

    @abstractmethod
    def receive(self, text: bytes, now_ns: int) -> list[bytes]:
        """Return the answers to a text message of the client."""

    def beat(self, monotonic_ns: int, now_ns: int) -> list[bytes]:
        """Return heartbeats that are due. PolicyViolation ends the connection of a client that owed one."""
        return []

    @abstractmethod
    def encode(self, message: Message) -> bytes | None:
        """Return the message as this client gets it, or None if it did not ask for it."""

    @abstractmethod
    def close(self) -> None:
        """Give up the subscriptions. Called once, after the client of an opened session has gone."""


class Source(ABC):
    """Where market data comes from: generated, or from a recording.

    `subscribe` and its opposite are balanced per session and stream; a source may use them to produce only what
    somebody wants, and to begin a recording when its reader is there.
    """

    skew_ns = 0  # how far the exchange's clock, which its messages tell, is ahead of the time at which things happen

    @property
    @abstractmethod
    def next_ns(self) -> int | None:
        """Exchange time of the next batch, as far as known; None while nothing is to come."""

    @abstractmethod
    def poll(self, until_ns: int) -> Iterator[Batch]:
        """Yield what happens up to and including `until_ns`, in the order of time.

        A batch may be empty: something happened that nobody asked for, and the caller decides whether to go on.
        """

    @abstractmethod
    def subscribe(self, session: Session, stream: str, now_ns: int) -> None: ...

    @abstractmethod
    def unsubscribe(self, session: Session, stream: str) -> None: ...

    @abstractmethod
    def detach(self, session: Session) -> None:
        """Forget a session that has gone. Its streams have been unsubscribed."""

    @abstractmethod
    def snapshot(self, symbol: str, limit: int, now_ns: int, *, stale: bool = False) -> bytes | None:
        """Return the body of a REST book snapshot; None if there is none. A stale one is too old to join any delta."""

    @property
    def flow(self) -> OrderFlow:
        """The order flow behind it. ValueError for a source that has none."""
        raise ValueError("expected generated order flow, found a recording")

    def burst(self, symbol: str, orders: int, now_ns: int) -> Batch:
        """Make `orders` orders at one instant. ValueError for a source that has no order flow."""
        raise ValueError("expected generated order flow, found a recording: it cannot make bursts")

    def pause(self, session: Session) -> None:  # noqa: B027  (only a source that waits for its readers cares)
        """A client does not read as fast as it is sent to."""

    def resume(self, session: Session) -> None:  # noqa: B027
        """It has caught up."""


class ExchangeProtocol(ABC):
    """One exchange's public protocol, without sockets and clocks."""

    name: str  # exchange id
    ping_interval: float  # seconds between the server's WebSocket PINGs
    pong_timeout: float  # seconds within which a PONG with the same payload must come
    source: Source
    markets: dict[str, Market]  # by symbol
    answers_posts = False  # REST on a port of its own, POST too
    # What faults break in its messages: integer fields of deltas, and a field of trades whose words are few.
    checksum_field: str | None = None
    sequence_fields: Sequence[str] = ()
    enum_field: str | None = None
    enum_front: str | None = None  # a pattern of what stands in front of such a word, where it has no name
    refuses_subscriptions = False
    refuses: Callable[[str, int], bool] = staticmethod(lambda symbol, now_ns: False)  # a subscription, by a fault
    ws_url = ""  # where clients reach the WebSockets, for replies that say so; whoever serves it sets this

    @abstractmethod
    def connect(self, target: str) -> Session:
        """Make the session for a WebSocket upgrade of this request target. Refused where the exchange would refuse."""

    @abstractmethod
    def rest(self, target: str, now_ns: int, *, stale: bool = False, body: bytes = b"") -> HttpReply:
        """Answer GET `target`, or a POST of `body`. `stale` asks for a book snapshot that is too old."""

    @abstractmethod
    def snapshot_symbol(self, target: str) -> str | None:
        """Return the symbol whose book snapshot this request asks for, None for any other request."""

    @abstractmethod
    def rest_limit_reply(self, status: int, retry_after: int, now_ns: int) -> HttpReply:
        """Return the exchange's own 429 or 418."""

    @abstractmethod
    def unknown_event(self, now_ns: int) -> Message:
        """Return a well-formed message of a type that no client can know."""

    @abstractmethod
    def unknown_symbol(self, now_ns: int) -> Message:
        """Return a well-formed message about a symbol that is not listed."""
