"""A recording as a source: what an exchange once sent, sent again, to every client from the start."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, Protocol, TypeVar

from feeds.simulator.protocol import Batch, Message, Session, SimulatorError, Source

# The low byte of a recorded message's flags says what it is.
_KIND_MASK = 0xFF
_TEXT = 1
_REPLY = 5
MAX_BATCH = 1_000  # messages of one read; more of them become several batches


class Recorded(Protocol):
    """One entry of a recording, as `feeds.recording` reads it."""

    @property
    def ts_recv(self) -> int: ...  # ns
    @property
    def flags(self) -> int: ...
    @property
    def tag(self) -> str: ...  # of a REST reply: the symbol, as the exchange writes it
    @property
    def payload(self) -> bytes: ...


class PlaybackError(SimulatorError):
    """A recording cannot be played."""


class Playback:
    """A recording and the pace at which it is played.

    Every client that subscribes gets its streams from the recording's first message on, in the recorded order; messages
    with one receive time, which the recorder got in one read, are sent in one write. Answers to the recorder's own
    requests are left out: the client gets answers to its own. Once the recording has ended the connection is silent.

    The first request for a symbol's book snapshot is answered with the symbol's first recorded REST reply, the next
    with the second, and so on, the last one again when there are no more; a client that starts begins anew. That is
    what the recorder asked for and got, whatever the pace; it fits one client at a time.
    """

    def __init__(
        self,
        messages: Iterable[Recorded] | Callable[[], Iterable[Recorded]],
        *,
        speed: float = 1.0,
        max_snapshots: int = 1_000,
    ) -> None:
        """Take a recording as anything that can be iterated once per client, or a function that returns such a thing.

        A function may open a reader for each client: its `close`, if it has one, is called when the client has had
        everything or has gone. A plain iterator is kept in memory whole. `speed` is a factor of the recorded pace;
        `math.inf` sends as fast as the client reads. `max_snapshots` bounds the REST replies that are held; more of
        them are a PlaybackError.
        ValueError for a speed that is not positive.
        """
        if not speed > 0:
            raise ValueError(f"expected a speed above 0, found {speed}")
        self.speed = speed
        self.max_snapshots = max_snapshots
        self._messages = list(messages) if isinstance(messages, Iterator) else messages

    def __iter__(self) -> Iterator[Recorded]:
        messages = self._messages
        return iter(messages() if callable(messages) else messages)


def _close(entries: Iterator[Recorded]) -> None:
    close = getattr(entries, "close", None)
    if close is not None:
        close()


class Cursor(ABC):
    """How far one client has come in what is played to it."""

    def __init__(self, session: Session, start_ns: int) -> None:
        self.session = session
        self.paused = False
        self.taken = 0  # batches
        self.due_ns = start_ns  # when the next batch is to be sent

    @property
    @abstractmethod
    def is_ready(self) -> bool:
        """Whether there is a next batch that only its time keeps back."""

    @abstractmethod
    def take(self) -> Batch:
        """Return the next batch and move on. Only while ready."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the recording."""


_C = TypeVar("_C", bound=Cursor)


class CursorSource(Source, Generic[_C]):
    """A source that plays to every client by itself: what is due, as fast as the client reads."""

    def __init__(self) -> None:
        self._cursors: dict[Session, _C] = {}

    @property
    def next_ns(self) -> int | None:
        return min((cursor.due_ns for cursor in self._ready()), default=None)

    def poll(self, until_ns: int) -> Iterator[Batch]:
        while True:
            # Who has had fewest goes first, so that two clients without a pace share the line.
            cursor = min(self._ready(), key=lambda cursor: (cursor.due_ns, cursor.taken), default=None)
            if cursor is None or cursor.due_ns > until_ns:
                return
            yield cursor.take()

    def detach(self, session: Session) -> None:
        cursor = self._cursors.pop(session, None)
        if cursor is not None:
            cursor.close()

    def pause(self, session: Session) -> None:
        if session in self._cursors:
            self._cursors[session].paused = True

    def resume(self, session: Session) -> None:
        if session in self._cursors:
            self._cursors[session].paused = False

    def _ready(self) -> Iterator[_C]:
        return (cursor for cursor in self._cursors.values() if not cursor.paused and cursor.is_ready)


class _PlaybackCursor(Cursor):
    """The recorded market data, for a client that says itself what of it is to be sent."""

    def __init__(
        self, playback: Playback, session: Session, start_ns: int, recognise: Callable[[bytes], Message | None]
    ) -> None:
        super().__init__(session, start_ns)
        self._speed = playback.speed
        self._start_ns = start_ns
        self._recognise = recognise
        self._entries = iter(playback)
        self._ahead = self._next_text()
        self._first_ts = self._ahead.ts_recv if self._ahead is not None else 0

    @property
    def is_ready(self) -> bool:
        return self._ahead is not None

    def take(self) -> Batch:
        """Return the messages of the next receive time and move on."""
        entry = self._ahead
        assert entry is not None
        ts_recv, due_ns = entry.ts_recv, self.due_ns
        messages: list[Message] = []
        while entry is not None and entry.ts_recv == ts_recv and len(messages) < MAX_BATCH:
            message = self._recognise(entry.payload)
            if message is not None:
                messages.append(message)
            entry = self._next_text()
        self._ahead = entry
        self.taken += 1
        if entry is not None and self._speed != math.inf:
            # Receive times of merged recordings may step back; a client's time does not.
            self.due_ns = max(due_ns, self._start_ns + round((entry.ts_recv - self._first_ts) / self._speed))
        return Batch(due_ns, messages, self.session)

    def close(self) -> None:
        _close(self._entries)

    def _next_text(self) -> Recorded | None:
        for entry in self._entries:
            if entry.flags & _KIND_MASK == _TEXT:
                return entry
        self.close()
        return None


class PlaybackSource(CursorSource[_PlaybackCursor]):
    """A playback behind the seam that generated flow stands behind, too."""

    def __init__(self, playback: Playback, recognise: Callable[[bytes], Message | None]) -> None:
        """Read the recording once for its REST replies.

        `recognise` is the exchange's: it reads stream and symbol off a message, None for what is not market data.
        """
        super().__init__()
        self._playback = playback
        self._recognise = recognise
        self._snapshots: dict[str, list[bytes]] = {}
        self._asked: dict[str, int] = {}
        held = 0
        entries = iter(playback)
        try:
            for entry in entries:
                if entry.flags & _KIND_MASK == _REPLY:
                    held += 1
                    if held > playback.max_snapshots:
                        raise PlaybackError(
                            f"expected at most max_snapshots={playback.max_snapshots} REST replies, found more"
                        )
                    self._snapshots.setdefault(entry.tag, []).append(entry.payload)
        finally:
            _close(entries)

    def subscribe(self, session: Session, stream: str, now_ns: int) -> None:
        if session not in self._cursors:
            self._cursors[session] = _PlaybackCursor(self._playback, session, now_ns, self._recognise)
            self._asked.clear()

    def unsubscribe(self, session: Session, stream: str) -> None:
        pass

    def snapshot(self, symbol: str, limit: int, now_ns: int, *, stale: bool = False) -> bytes | None:
        """Return the symbol's next recorded reply; how many levels it has was decided when it was recorded.

        ValueError for a stale one: a recording has only what was recorded.
        """
        if stale:
            raise ValueError("expected generated order flow, found a recording: it has no stale snapshots")
        replies = self._snapshots.get(symbol)
        if replies is None:
            return None
        asked = self._asked.get(symbol, 0)
        self._asked[symbol] = asked + 1
        return replies[min(asked, len(replies) - 1)]
