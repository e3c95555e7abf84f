"""WebSocket URLs (RFC 6455 section 3)."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote, unquote, urlsplit

from picows.errors import WSInvalidURL

__all__ = ["WSParsedURL", "parse_url"]

# What quote() leaves alone: the reserved characters of RFC 3986 and %, so that text which is already encoded stays.
_SAFE = "%:/?#[]@!$&'()*+,;="


@dataclass(frozen=True)
class WSParsedURL:
    """A WebSocket URL taken apart, every part ready to be put on the wire.

    `host` is lower-case, IDNA-encoded and without the brackets of an IPv6 literal; `port` is filled in from the scheme;
    `path` and `query` are percent-encoded ASCII and may be empty; `username` and `password` are decoded.
    """

    url: str
    scheme: str
    is_secure: bool
    netloc: str
    host: str
    port: int
    path: str
    query: str
    username: str | None = None
    password: str | None = None

    @property
    def resource_name(self) -> str:
        """The request target: path, "/" for an empty one, and query."""
        return f"{self.path or '/'}?{self.query}" if self.query else self.path or "/"

    @property
    def user_info(self) -> tuple[str, str] | None:
        """`(username, password)`, or None unless the URL has both."""
        if self.username is None or self.password is None:
            return None
        return self.username, self.password


def parse_url(url: str, check_scheme: bool = True) -> WSParsedURL:
    """Take `url` apart; raise WSInvalidURL for one that no WebSocket can be opened to.

    `check_scheme=False` admits schemes other than ws and wss: https and wss then count as secure, and the port is
    443 or 80 by that.
    """
    if any(c < " " or c == "\x7f" for c in url):  # urlsplit() would drop some of them in silence
        raise WSInvalidURL(url, "contains control characters")
    try:
        parts = urlsplit(url)
        port = parts.port
        host = parts.hostname
    except ValueError as exc:
        raise WSInvalidURL(url, str(exc)) from exc
    if check_scheme and parts.scheme not in ("ws", "wss"):
        raise WSInvalidURL(url, f"expected scheme ws or wss, found {parts.scheme!r}")
    if not host:
        raise WSInvalidURL(url, "has no host")
    if "#" in url:
        raise WSInvalidURL(url, "has a fragment, which RFC 6455 section 3 forbids")
    if not host.isascii():
        try:
            host = host.encode("idna").decode("ascii")
        except UnicodeError as exc:
            raise WSInvalidURL(url, f"host {host!r} cannot be IDNA-encoded: {exc}") from exc
    if " " in host:
        raise WSInvalidURL(url, f"host {host!r} contains a space")
    is_secure = parts.scheme in ("wss", "https")
    return WSParsedURL(
        url=url,
        scheme=parts.scheme,
        is_secure=is_secure,
        netloc=parts.netloc,
        host=host,
        port=(443 if is_secure else 80) if port is None else port,
        path=quote(parts.path, safe=_SAFE),
        query=quote(parts.query, safe=_SAFE),
        username=None if parts.username is None else unquote(parts.username),
        password=None if parts.password is None else unquote(parts.password),
    )
