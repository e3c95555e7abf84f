"""Lists of instruments: fetched from an exchange, and kept on disk for the next start."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import zstandard

from feeds.decoder import Fetch
from feeds.errors import DecodeError, FeedsError
from feeds.exchange import Exchange
from feeds.instrument import Instruments
from feeds.live.http import RestClient

__all__ = ["InstrumentCache", "InstrumentList", "InstrumentLists", "InstrumentListsConfig", "cache_folder"]

FORMAT = "picows-feeds instruments 1"
MAX_CACHED_BYTES = 1024 * 1024 * 1024  # of one exchange's lists, before compression


class InstrumentListsConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where lists of instruments are kept between runs, and how old they may be; seconds.

    Lists are kept where they come from the exchange's own address: those of simulators are fetched every time.
    """

    cache_folder: str | None = None  # None: they are not kept
    max_age: float = 86_400.0
    refresh_interval: float = 3_600.0  # while feeds run

    def __post_init__(self) -> None:
        if not (self.max_age > 0 and self.refresh_interval > 0):
            raise ValueError(f"expected max_age and refresh_interval above 0, found {self}")


def cache_folder(environment: Mapping[str, str]) -> Path:
    """Return the folder of this program's caches, by the XDG Base Directory Specification."""
    base = environment.get("XDG_CACHE_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "picows-feeds"


class Reply(msgspec.Struct, frozen=True, array_like=True):
    """A request for a list, or a page of it, and its answer."""

    url: str
    body: bytes
    reply: bytes


class _Cached(msgspec.Struct, frozen=True, array_like=True):
    """What a cache file has in it, as compressed MessagePack."""

    format: str
    exchange: str
    fetched_at: float  # seconds since the epoch
    wanted: list[str]  # the first URL of each list, as the exchange module knew them then
    replies: list[Reply]


class InstrumentCache:
    """Keeps the lists of each exchange in a file of a folder, which is made when something is to be kept."""

    def __init__(self, folder: str | os.PathLike[str], *, max_age: float, now: Callable[[], float] = time.time) -> None:
        self._folder = Path(folder)
        self._max_age = max_age
        self._now = now

    def path(self, exchange: Exchange) -> Path:
        """Return where the lists of an exchange are."""
        return self._folder / f"{exchange.id}.instruments"

    def load(self, exchange: Exchange) -> list[Reply] | None:
        """Return the replies that are kept, None where there are none, or none so young.

        OSError where the file cannot be read; DecodeError where it is damaged, or another program's.
        """
        path = self.path(exchange)
        try:
            packed = path.read_bytes()
        except FileNotFoundError:
            return None
        try:
            if zstandard.frame_content_size(packed) not in range(MAX_CACHED_BYTES + 1):
                raise ValueError(f"expected at most {MAX_CACHED_BYTES} bytes")
            found = msgspec.msgpack.decode(zstandard.decompress(packed), type=_Cached)
            if (found.format, found.exchange) != (FORMAT, exchange.id):
                raise ValueError(f"found {found.format!r} of {found.exchange!r}")
        except (zstandard.ZstdError, msgspec.DecodeError, ValueError) as error:
            raise DecodeError(f"{path}: expected instruments of {exchange.id}: {error}", kind="bad_cache") from None
        is_young = 0 <= self._now() - found.fetched_at < self._max_age
        return found.replies if is_young and found.wanted == _wanted(exchange) else None

    def save(self, exchange: Exchange, replies: list[Reply]) -> None:
        """Keep the replies, instead of those before: whoever reads meanwhile finds the one or the other. OSError."""
        kept = _Cached(FORMAT, exchange.id, self._now(), _wanted(exchange), replies)
        packed = zstandard.ZstdCompressor(write_checksum=True).compress(msgspec.msgpack.encode(kept))
        self._folder.mkdir(parents=True, exist_ok=True)
        number, name = tempfile.mkstemp(dir=self._folder, prefix=f".{exchange.id}-")
        try:
            with open(number, "wb") as file:
                file.write(packed)
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, self.path(exchange))
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name)
            raise


def _wanted(exchange: Exchange) -> list[str]:
    return [_fetch(wanted).url for wanted in exchange.instruments_urls]


def _fetch(wanted: str | Fetch) -> Fetch:
    return wanted if isinstance(wanted, Fetch) else Fetch(wanted, "")


@dataclass
class InstrumentList:
    """All instruments of an exchange, and where they come from."""

    replies: list[Reply]
    is_cached: bool
    instruments: Instruments = field(default_factory=Instruments)
    problems: list[str] = field(default_factory=list)  # in words: entries that were skipped, a cache that failed


class InstrumentLists:
    """Gets the lists of one exchange, from its cache or by requests. Reading them is left to a thread."""

    def __init__(self, exchange: Exchange, rest: RestClient, cache: InstrumentCache | None, *, max_pages: int) -> None:
        self._exchange = exchange
        self._rest = rest
        self._cache = cache
        self._max_pages = max_pages

    async def load(self, *, fresh: bool = False) -> InstrumentList:
        """Return what the exchange lists, or with `fresh` what it lists now; FetchError, DecodeError."""
        problems = []
        if self._cache is not None and not fresh:
            try:
                replies = await asyncio.to_thread(self._cache.load, self._exchange)
                if replies is not None:
                    return await asyncio.to_thread(self._read, InstrumentList(replies, is_cached=True))
            except (OSError, FeedsError) as error:  # as if it was not there
                problems.append(f"cached instrument list ignored: {error}")
        found = await asyncio.to_thread(self._read, InstrumentList(await self._fetch(), is_cached=False))
        if self._cache is not None:
            try:
                await asyncio.to_thread(self._cache.save, self._exchange, found.replies)
            except OSError as error:
                problems.append(f"instrument list not cached: {error}")
        found.problems += problems
        return found

    async def _fetch(self) -> list[Reply]:
        """Get all pages of all lists."""
        replies = []
        for wanted in self._exchange.instruments_urls:
            fetch = _fetch(wanted)
            url: str | None = fetch.url
            for _ in range(self._max_pages):
                if url is None:
                    break
                reply = await self._rest.get(url, fetch.body)
                replies.append(Reply(url, fetch.body, reply))
                url = self._exchange.next_page(url, reply)
        return replies

    def _read(self, found: InstrumentList) -> InstrumentList:
        skipped: list[str] = []
        for reply in found.replies:
            skipped += self._exchange.load_instruments(reply.reply, found.instruments)
        if skipped:
            found.problems.append(f"{len(skipped)} entries of the instrument list skipped, the first: {skipped[0]}")
        return found
