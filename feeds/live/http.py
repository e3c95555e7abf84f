"""REST requests: snapshots and instrument metadata."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Mapping
from types import TracebackType
from urllib.parse import urlsplit

import aiohttp
import msgspec

from feeds.errors import FetchError, excerpt
from feeds.live.limits import Budget

__all__ = ["RestClient", "RestConfig", "address", "retry_after"]


class RestConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Limits of REST requests."""

    timeout: float = 10.0  # seconds, of one attempt
    attempts: int = 5
    retry_wait: float = 0.5  # seconds before the second attempt, doubled for each further one
    max_wait: float = 300.0  # seconds; a Retry-After beyond it is a failure
    max_body_size: int = 128 * 1024 * 1024  # bytes; exchangeInfo of spot has about 20 MB
    max_concurrent: int = 4

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.max_concurrent < 1 or self.timeout <= 0:
            raise ValueError(f"expected attempts and max_concurrent >= 1 and timeout > 0, found {self}")


def address(base: str, own: str, path: str) -> str:
    """Return where a path of an exchange is found below `base`.

    A path with a scheme goes where it says, unless `base` is another than the exchange's `own`: that stands for all of
    its hosts, and finds the one that is meant in front of the path.
    """
    if "://" in path:
        if base == own or urlsplit(path).netloc == urlsplit(base).netloc:
            return path
        path = "/" + path.partition("://")[2]
    return base.rstrip("/") + path


_RETRIED = {418, 429, 500, 502, 503, 504}


class RestClient:
    """Gets from one exchange's REST address, with retries; an async context manager.

    Where the exchange answers 429 or 418 (too many requests, banned), `Retry-After` is obeyed, by all requests. They
    stay within `budget`, of which a path takes `weight(path)`, retries too.
    """

    def __init__(
        self,
        base_url: str,
        config: RestConfig,
        ssl_context: ssl.SSLContext | None = None,
        *,
        own_url: str | None = None,  # the exchange's, where `base_url` may be another
        budget: Budget | None = None,
        weight: Callable[[str], float] = lambda url: 1.0,
    ) -> None:
        self._base_url = base_url
        self._own_url = base_url if own_url is None else own_url
        self._config = config
        self._ssl = ssl_context if ssl_context is not None else True  # True: verify by the system's authorities
        self._slots = asyncio.Semaphore(config.max_concurrent)
        self._not_before = 0.0  # loop time
        self._weight = weight
        self._budget = budget or Budget(())
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> RestClient:
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=self._config.timeout))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def get(self, path: str, body: bytes = b"") -> bytes:
        """Return the body of a 200 reply; FetchError when it is refused, or when every attempt has failed.

        With a `body` the request is a POST of that JSON. `path` is resolved as `address` says.
        """
        url = address(self._base_url, self._own_url, path)
        async with self._slots:
            for attempt in range(self._config.attempts):
                while (delay := self.delay(path)) > 0:  # noqa: ASYNC110 - others spend, or are told to wait, meanwhile
                    await asyncio.sleep(delay)
                self._budget.spend(self._weight(path), asyncio.get_running_loop().time())
                wait = self._config.retry_wait * 2**attempt
                try:
                    status, headers, reply = await self._get_once(url, body)
                except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
                    failure = f"{type(error).__name__}: {error}"
                else:
                    if status == 200:
                        return reply
                    failure = f"status {status}: {excerpt(reply)}"
                    if status not in _RETRIED:
                        raise FetchError(f"{url}: expected status 200, found {failure}")
                    if status in (418, 429):
                        wait = max(wait, retry_after(headers))
                        if wait > self._config.max_wait:
                            raise FetchError(f"{url}: told to wait {wait:.0f} s, {failure}")
                        self._not_before = max(self._not_before, asyncio.get_running_loop().time() + wait)
                        continue
                if attempt + 1 < self._config.attempts:
                    await asyncio.sleep(min(wait, self._config.max_wait))
        raise FetchError(f"{url}: {self._config.attempts} attempts failed, the last with {failure}")

    async def _get_once(self, url: str, sent: bytes) -> tuple[int, Mapping[str, str], bytes]:
        assert self._session is not None, "used outside its context"
        method, headers = ("POST", {"Content-Type": "application/json"}) if sent else ("GET", {})
        async with self._session.request(
            method, url, data=sent or None, headers=headers, ssl=self._ssl, allow_redirects=False
        ) as reply:
            body = await reply.content.read(self._config.max_body_size + 1)
            while not reply.content.at_eof() and len(body) <= self._config.max_body_size:
                body += await reply.content.read(self._config.max_body_size + 1 - len(body))
            if len(body) > self._config.max_body_size:
                raise FetchError(f"{url}: expected at most {self._config.max_body_size} bytes, found more")
            return reply.status, reply.headers, body

    def delay(self, path: str) -> float:
        """Return the seconds until a request to `path` may be made, by the limits and by what the exchange has said."""
        now = asyncio.get_running_loop().time()
        return max(self._not_before - now, self._budget.delay(self._weight(path), now))


def retry_after(headers: Mapping[str, str]) -> float:
    """Return `Retry-After` in seconds, 0 where it is missing or a date, which exchanges do not send."""
    try:
        return max(0.0, float(headers.get("Retry-After") or 0))
    except ValueError:
        return 0.0
