"""When each book of an exchange gets its snapshot: one scheduler for all connections of a feed."""

from __future__ import annotations

import asyncio
import enum
from typing import Protocol

import msgspec

from feeds.decoder import Fetch
from feeds.errors import FetchError
from feeds.live.http import RestClient

__all__ = ["Need", "PendingSnapshot", "SnapshotQueue", "SnapshotScheduler"]


class Need(enum.IntEnum):
    """How much a book needs its snapshot; the least goes first."""

    REPAIR = 0  # it is not LIVE without
    RENEWAL = 1  # it is LIVE, and shall stay right


class Asker(Protocol):
    """A connection: what becomes of the snapshots that it asks for."""

    def requested(self, url: str, tag: str) -> None: ...
    def came(self, tag: str, reply: bytes) -> None: ...
    def failed(self, tag: str, reason: str) -> None: ...


class PendingSnapshot(msgspec.Struct, frozen=True):
    """A snapshot that has been asked for, and is not under way. Times are those of the event loop's clock."""

    asker: Asker
    request: Fetch
    need: Need
    since: float  # when the book asked first
    due: float  # not before then, because one has just come and was no use

    @property
    def symbol(self) -> str:
        """The exchange's symbol of the book."""
        return self.request.tag


_Key = tuple[Asker, str]


class SnapshotQueue:
    """Which snapshot is the next: the greatest need, then the longest wait. Of each book one at a time is under way.

    A snapshot that follows another of the same book, because that one was too old or the book has gaps, waits for
    `interval` seconds, and twice as long each further time, up to 16 times that; it is due at once when the book has
    been quiet for twice the longest wait. What waits is at most one per book.
    """

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._waiting: dict[_Key, PendingSnapshot] = {}
        self._under_way: set[_Key] = set()
        self._last: dict[_Key, tuple[float, float]] = {}  # when the last one was due, and how long it had waited

    def pace(self, asker: Asker, symbol: str, now: float) -> float:
        """Return the seconds to wait for a snapshot of a book that asks now, and remember that it did."""
        last, wait = self._last.get((asker, symbol), (-1e9, 0.0))
        longest = self._interval * 16
        wait = min(max(wait * 2, self._interval), longest) if now - last < longest * 2 else 0.0
        self._last[asker, symbol] = (now + wait, wait)
        return wait

    def ask(self, asker: Asker, request: Fetch, need: Need, now: float) -> None:
        """Have a snapshot wait; one that waits already keeps its turn, or gets that of the greater need."""
        key = (asker, request.tag)
        known = self._waiting.get(key)
        if known is None:
            due = now + self.pace(asker, request.tag, now)
            self._waiting[key] = PendingSnapshot(asker, request, need, now, due)
        else:
            self._waiting[key] = msgspec.structs.replace(known, request=request, need=min(need, known.need))

    def forget(self, asker: Asker, symbol: str | None = None) -> None:
        """Drop what waits for a book, or all books of a connection."""
        for key in {*self._waiting, *self._last}:
            if key[0] is asker and symbol in (None, key[1]):
                self._waiting.pop(key, None)
                self._last.pop(key, None)

    @property
    def waiting(self) -> list[PendingSnapshot]:
        """What waits, the next first."""
        return sorted(self._waiting.values(), key=lambda one: (one.need, one.since))

    def next(self, now: float) -> PendingSnapshot | None:
        """Return what is the next of those that are due, which still waits."""
        ready = (one for key, one in self._waiting.items() if one.due <= now and key not in self._under_way)
        return min(ready, key=lambda one: (one.need, one.since), default=None)

    def next_due(self) -> float | None:
        """Return when the first becomes due of those whose book has none under way."""
        return min((one.due for key, one in self._waiting.items() if key not in self._under_way), default=None)

    def begin(self, pending: PendingSnapshot) -> None:
        """It waits no more."""
        key = (pending.asker, pending.symbol)
        del self._waiting[key]
        self._under_way.add(key)

    def end(self, pending: PendingSnapshot) -> None:
        """It is under way no more."""
        self._under_way.discard((pending.asker, pending.symbol))


class SnapshotScheduler:
    """Fetches the snapshots of all connections of an exchange, `max_concurrent` at a time, as `SnapshotQueue` orders.

    A request begins when the exchange's limits allow it and no 429 or 418 forbids it (`RestClient.delay`), and only
    then is chosen which: a book that breaks meanwhile goes before those that only want to be renewed.
    """

    def __init__(self, rest: RestClient, *, interval: float, max_concurrent: int) -> None:
        self._rest = rest
        self._max_concurrent = max_concurrent
        self._queue = SnapshotQueue(interval)
        self._under_way: dict[asyncio.Task[None], PendingSnapshot] = {}
        self._changed = asyncio.Event()

    @property
    def pending(self) -> list[PendingSnapshot]:
        """What waits, the next first."""
        return self._queue.waiting

    @property
    def under_way(self) -> list[PendingSnapshot]:
        """What has been requested and has not come."""
        return list(self._under_way.values())

    def ask(self, asker: Asker, request: Fetch, need: Need) -> None:
        """Have a snapshot fetched; `asker` is told when the request is made, and how it ends."""
        self._queue.ask(asker, request, need, asyncio.get_running_loop().time())
        self._changed.set()

    def pace(self, asker: Asker, symbol: str) -> float:
        """Return the seconds to wait for a snapshot that comes by other ways, by the same rule."""
        return self._queue.pace(asker, symbol, asyncio.get_running_loop().time())

    def forget(self, asker: Asker, symbol: str | None = None) -> None:
        """Drop what was asked for, for a book or all of a connection; nothing is told of it any more."""
        self._queue.forget(asker, symbol)
        for task, pending in self._under_way.items():
            if pending.asker is asker and symbol in (None, pending.symbol):
                task.cancel()

    async def run(self) -> None:
        """Serve until cancelled."""
        try:
            while True:
                self._changed.clear()
                wait = self._begin_next(asyncio.get_running_loop().time())
                if wait == 0.0:
                    await asyncio.sleep(0)  # so that its request is counted before the next is chosen
                    continue
                try:
                    await asyncio.wait_for(self._changed.wait(), wait)
                except asyncio.TimeoutError:
                    pass
        finally:
            for task in self._under_way:
                task.cancel()

    def _begin_next(self, now: float) -> float | None:
        """Begin a request and return 0.0; or return how long there is none to begin, None: until something changes."""
        if len(self._under_way) >= self._max_concurrent:
            return None
        pending = self._queue.next(now)
        if pending is None:
            due = self._queue.next_due()
            return None if due is None else max(due - now, 0.001)
        if (delay := self._rest.delay(pending.request.url)) > 0:
            return delay
        self._queue.begin(pending)
        task = asyncio.ensure_future(self._fetch(pending))
        self._under_way[task] = pending
        task.add_done_callback(self._ended)
        return 0.0

    async def _fetch(self, pending: PendingSnapshot) -> None:
        request = pending.request
        pending.asker.requested(request.url, request.tag)
        try:
            reply = await self._rest.get(request.url, request.body)
        except FetchError as error:
            pending.asker.failed(request.tag, str(error))
        else:
            pending.asker.came(request.tag, reply)

    def _ended(self, task: asyncio.Task[None]) -> None:
        pending = self._under_way.pop(task)
        self._queue.end(pending)
        self._changed.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            pending.asker.failed(pending.symbol, f"{type(error).__name__}: {error}")
