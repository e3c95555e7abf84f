"""Where a redirected client goes next, and what it may tell the server there."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import urldefrag, urljoin

from picows.errors import WSHandshakeError, WSInvalidStatusError
from picows.url import WSParsedURL, parse_url

__all__ = ["headers_for", "is_redirect", "redirect_target"]

_STATUSES = (301, 302, 303, 307, 308)

# What another host is told of the user's header fields. The others may be keys, and only the user knows which are: an
# exchange's is in X-MBX-APIKEY or OK-ACCESS-KEY, not in Authorization.
_FOR_EVERY_HOST = ("accept-language", "origin", "user-agent", "sec-websocket-extensions", "sec-websocket-protocol")


def is_redirect(refusal: WSInvalidStatusError) -> bool:
    """True for a status that a client follows: 301, 302, 303, 307 and 308. The request is a GET with any of them."""
    return refusal.response is not None and refusal.response.status in _STATUSES


def redirect_target(url: WSParsedURL, refusal: WSInvalidStatusError) -> WSParsedURL:
    """Return the URL that a redirect received from `url` leads to.

    Location may be relative; http and https in it stand for ws and wss; a fragment is dropped. On the same origin the
    credentials of `url` stay. WSHandshakeError without a Location, or if it leads from wss to ws; WSInvalidURL.
    """
    response = refusal.response
    assert response is not None
    location = response.headers.get("Location")
    if location is None:
        raise WSHandshakeError(
            f"expected a Location with status {int(response.status)}, found none",
            refusal.raw_header,
            refusal.raw_body,
            response,
        )
    absolute, _ = urldefrag(urljoin(url.url, location))
    scheme, separator, rest = absolute.partition("://")
    target = parse_url({"http": "ws", "https": "wss"}.get(scheme.lower(), scheme) + separator + rest)
    if url.is_secure and not target.is_secure:
        raise WSHandshakeError(
            f"{url.host}:{url.port} redirects from wss to ws, at {target.host}:{target.port}",
            refusal.raw_header,
            refusal.raw_body,
            response,
        )
    if is_same_origin(url, target) and target.username is None:
        target = replace(target, username=url.username, password=url.password)
    return target


def headers_for(target: WSParsedURL, url: WSParsedURL, extra_headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """What of the header fields meant for `url` may go to `target`, to which it redirects."""
    if is_same_origin(url, target):
        return extra_headers
    return [(name, value) for name, value in extra_headers if name.lower() in _FOR_EVERY_HOST]


def is_same_origin(one: WSParsedURL, other: WSParsedURL) -> bool:
    """Scheme, host and port agree (RFC 6454 section 5)."""
    return (one.is_secure, one.host, one.port) == (other.is_secure, other.host, other.port)
