"""Getting to a server through a proxy: CONNECT over HTTP (RFC 9110 section 9.3.6), SOCKS 4 and 5."""

from __future__ import annotations

import asyncio
import base64
import socket
from dataclasses import replace
from typing import Any, cast
from urllib.parse import urlsplit

import h11
import python_socks
import python_socks.async_.asyncio as socks

from picows.errors import WSProxyError
from picows.url import WSParsedURL, parse_url

__all__ = ["HttpTunnel", "TunnelProtocol", "parse_proxy_url", "socks_socket"]

_SOCKS = {"socks4": python_socks.ProxyType.SOCKS4, "socks5": python_socks.ProxyType.SOCKS5}
_SCHEMES = ("http", "https", *_SOCKS)

MAX_HEADER_SIZE = 16 * 1024
# python-socks has a limit of its own where none is given; seconds.
_A_YEAR = 365 * 86400.0


def parse_proxy_url(url: str) -> WSParsedURL:
    """Take the URL of a proxy apart; ValueError for a scheme other than http, https, socks4 and socks5."""
    parsed = parse_url(url, check_scheme=False)
    if parsed.scheme not in _SCHEMES:
        raise ValueError(f"expected a proxy with one of the schemes {', '.join(_SCHEMES)}, found {parsed.scheme!r}")
    if parsed.scheme in _SOCKS and urlsplit(url).port is None:
        parsed = replace(parsed, port=1080)  # RFC 1928 section 3
    return parsed


def name(proxy: WSParsedURL) -> str:
    """The proxy without its credentials, for messages."""
    return f"{proxy.scheme} proxy {proxy.host}:{proxy.port}"


class HttpTunnel:
    """Asks an HTTP proxy for a tunnel to `target`: bytes in, bytes out.

    1. Send request_bytes().
    2. receive() what arrives until it returns True; from then on the bytes are the server's.
    """

    def __init__(self, proxy: WSParsedURL, target: WSParsedURL) -> None:
        self._name = name(proxy)
        host = f"[{target.host}]" if ":" in target.host else target.host
        self._authority = f"{host}:{target.port}".encode("ascii")
        self._credentials: bytes | None = None
        if proxy.username is not None:
            self._credentials = base64.b64encode(f"{proxy.username}:{proxy.password or ''}".encode())
        self._connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEADER_SIZE)

    def request_bytes(self) -> bytes:
        """The CONNECT request as it goes on the wire."""
        headers = [(b"Host", self._authority)]
        if self._credentials is not None:
            headers.append((b"Proxy-Authorization", b"Basic " + self._credentials))
        request = h11.Request(method=b"CONNECT", target=self._authority, headers=headers)
        return (self._connection.send(request) or b"") + (self._connection.send(h11.EndOfMessage()) or b"")

    def receive(self, data: bytes) -> bool:
        """Take received bytes; True once the tunnel is open. WSProxyError for any other answer than a 2xx."""
        self._connection.receive_data(data)
        while True:
            try:
                event = self._connection.next_event()
            except h11.RemoteProtocolError as exc:
                raise WSProxyError(f"{self._name}: malformed HTTP response: {exc}") from exc
            if event is h11.NEED_DATA:
                return False
            if isinstance(event, h11.InformationalResponse):
                continue
            if not isinstance(event, h11.Response):
                raise WSProxyError(f"{self._name}: expected an HTTP response, found {event!r}")
            if not 200 <= event.status_code < 300:
                reason = event.reason.decode("latin-1")
                raise WSProxyError(
                    f"{self._name}: expected status 200, found {event.status_code} {reason}".rstrip(),
                    event.status_code,
                )
            stray, _ = self._connection.trailing_data
            if stray:
                # The server cannot have spoken: in TLS and in HTTP the client begins.
                raise WSProxyError(f"{self._name}: expected nothing behind the response, found {len(stray)} bytes")
            return True

    def receive_eof(self) -> WSProxyError:
        """The proxy closed the connection before the tunnel was open."""
        return WSProxyError(f"{self._name}: closed the connection before it answered")


class TunnelProtocol(asyncio.Protocol):
    """Runs an HttpTunnel on a transport. When `opened` is done, the transport is paused and waits for its next user."""

    def __init__(self, tunnel: HttpTunnel) -> None:
        self._tunnel = tunnel
        self.transport: asyncio.Transport | None = None
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(self._tunnel.request_bytes())

    def data_received(self, data: bytes) -> None:
        if self.opened.done():
            return
        assert self.transport is not None
        try:
            if self._tunnel.receive(data):
                self.transport.pause_reading()
                self.opened.set_result(None)
        except WSProxyError as exc:
            self.opened.set_exception(exc)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.opened.done():
            error = self._tunnel.receive_eof()
            error.__cause__ = exc
            self.opened.set_exception(error)


class _Given:
    """What python-socks takes for a proxy in front of the proxy: it hands over a socket that is connected already."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    async def connect(self, dest_host: str, dest_port: int, timeout: float | None) -> socket.socket:
        return self._sock


async def socks_socket(
    proxy: WSParsedURL,
    target: WSParsedURL,
    *,
    sock: socket.socket | None,
    local_addr: tuple[str, int] | None,
    timeout: float | None,
) -> socket.socket:
    """Return a socket connected to `target` through `proxy`; `sock`, if given, is connected to the proxy and is used.

    A SOCKS 5 proxy resolves the target's name. With SOCKS 4, which has no names, we do.
    """
    forward: Any = None if sock is None else _Given(sock)
    client = socks.Proxy(
        _SOCKS[proxy.scheme], proxy.host, proxy.port, proxy.username, proxy.password, forward=forward
    )  # fmt: skip
    try:
        return await client.connect(
            target.host, target.port, timeout=_A_YEAR if timeout is None else timeout, local_addr=local_addr
        )
    except python_socks.ProxyError as exc:
        raise WSProxyError(f"{name(proxy)}: {exc}", exc.error_code) from exc
    except python_socks.ProxyTimeoutError as exc:
        raise TimeoutError(f"no way through {name(proxy)} within {timeout} seconds") from exc
    except python_socks.ProxyConnectionError as exc:
        raise OSError(
            exc.errno, exc.strerror
        ) from exc  # the OSError that fits the number, such as ConnectionRefusedError
