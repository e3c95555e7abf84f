"""How a client's protocol gets its connection: by itself, over a socket of the user's, or through a proxy."""

from __future__ import annotations

import asyncio
import inspect
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, cast

from picows.network import Network
from picows.protocol import WSProtocol
from picows.proxy import HttpTunnel, TunnelProtocol, name, parse_proxy_url, socks_socket
from picows.socket_reader import SocketReader, busy_poller
from picows.url import WSParsedURL

__all__ = ["Dialer", "SocketFactory"]

SocketFactory = Callable[[WSParsedURL], socket.socket | Awaitable[socket.socket | None] | None]

# Of the arguments of loop.create_connection(): what concerns TLS with the server. The others are about the TCP
# connection, which with a proxy is the proxy's.
_TLS_ARGUMENTS = ("server_hostname", "ssl_handshake_timeout", "ssl_shutdown_timeout")


class Dialer:
    """Connects protocols to URLs as the arguments of ws_connect() say.

    timeout -- seconds for the way through a proxy and, unless kwargs say otherwise, for TLS; None: no limit, and the
        event loop's for TLS.
    kernel_time -- have a SocketReader read, and ask the kernel for receive times. With a BusyPoller it reads, too.
    kwargs -- for loop.create_connection().
    """

    def __init__(
        self,
        *,
        ssl_context: ssl.SSLContext | None,
        socket_factory: SocketFactory | None,
        proxy: str | None,
        proxy_ssl_context: ssl.SSLContext | None,
        timeout: float | None,
        network: Network,
        kernel_time: bool,
        kwargs: dict[str, Any],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._network = network
        self._kernel_time = kernel_time
        self._poller = busy_poller()
        self._frames: WSProtocol | None = None
        self._ssl_context = ssl_context
        self._socket_factory = socket_factory
        self._proxy = None if proxy is None else parse_proxy_url(proxy)
        self._proxy_ssl_context = proxy_ssl_context
        self._timeout = timeout
        self._tls_arguments = {name: kwargs[name] for name in _TLS_ARGUMENTS if name in kwargs}
        self._tls_limits = {} if timeout is None else {"ssl_handshake_timeout": timeout}
        self._tcp_arguments = {name: kwargs[name] for name in kwargs if name not in _TLS_ARGUMENTS}
        if self._proxy is not None and self._proxy.scheme.startswith("socks"):
            unusable = sorted(set(self._tcp_arguments) - {"local_addr"})
            if unusable:
                raise TypeError(f"with a SOCKS proxy, {unusable} of loop.create_connection() cannot be set")

    async def dial(self, protocol: WSProtocol, url: WSParsedURL) -> None:
        """Connect `protocol` to the server of `url`, with TLS if the URL has it so."""
        self._frames = protocol
        if self._proxy is None:
            sock = await self._make_socket(url)
            await self._open(protocol, url, sock, self._context_for(url), self._tls_arguments)
        elif self._proxy.scheme.startswith("socks"):
            sock = await socks_socket(
                self._proxy,
                url,
                sock=await self._make_socket(self._proxy),
                local_addr=self._tcp_arguments.get("local_addr"),
                timeout=self._timeout,
            )
            await self._open(protocol, url, sock, self._context_for(url), self._tls_arguments)
        else:
            await self._dial_through_http(protocol, url, self._proxy)

    async def _dial_through_http(self, protocol: asyncio.BaseProtocol, url: WSParsedURL, proxy: WSParsedURL) -> None:
        context = None
        if proxy.scheme == "https":
            context = self._proxy_ssl_context = self._proxy_ssl_context or ssl.create_default_context()
        tunnel = TunnelProtocol(HttpTunnel(proxy, url))
        await self._open(tunnel, proxy, await self._make_socket(proxy), context, {})
        transport = cast(asyncio.Transport, tunnel.transport)
        try:
            await asyncio.wait_for(tunnel.opened, self._timeout)
            server_context = self._context_for(url)
            if server_context is None:
                transport.set_protocol(protocol)
                protocol.connection_made(transport)
                transport.resume_reading()
            else:
                arguments = {"server_hostname": url.host, **self._tls_limits, **self._tls_arguments}
                secured = await self._network.start_tls(transport, protocol, server_context, **arguments)
                protocol.connection_made(cast(asyncio.Transport, secured))
        except TypeError as exc:
            transport.abort()
            # The loop of asyncio in 3.11 stumbles over the TLS transport inside when TLS with the server fails.
            if isinstance(exc.__context__, ssl.SSLError):
                raise exc.__context__ from None
            raise
        except asyncio.TimeoutError:
            transport.abort()
            raise TimeoutError(f"no way through {name(proxy)} within {self._timeout} seconds") from None
        except BaseException:
            transport.abort()
            raise

    async def _open(
        self,
        protocol: asyncio.BaseProtocol,
        peer: WSParsedURL,
        sock: socket.socket | None,
        context: ssl.SSLContext | None,
        tls_arguments: dict[str, Any],
    ) -> None:
        """Connect `protocol` to `peer`, over `sock` if there is one: it belongs to the connection from then on."""
        arguments: dict[str, Any] = {}
        tls = {"server_hostname": peer.host, **self._tls_limits, **tls_arguments}
        if self._kernel_time or self._poller is not None:
            await self._open_with_reader(protocol, peer, sock, context, tls)
            return
        if context is not None:
            arguments = {"ssl": context, **tls}
        await self._connect(protocol, peer, sock, arguments)

    async def _open_with_reader(
        self,
        protocol: asyncio.BaseProtocol,
        peer: WSParsedURL,
        sock: socket.socket | None,
        context: ssl.SSLContext | None,
        tls: dict[str, Any],
    ) -> None:
        """The same, with a SocketReader between the socket and all that is above."""
        transport = await self._connect(asyncio.Protocol(), peer, sock, {})
        # The peer has not spoken: in TLS and in HTTP the client begins.
        transport.pause_reading()
        try:
            assert self._frames is not None
            reader = SocketReader(transport, self._frames, has_kernel_time=self._kernel_time, poller=self._poller)
            reader.set_protocol(protocol)
            if context is None:
                protocol.connection_made(cast(asyncio.Transport, reader))
                reader.resume_reading()
            else:
                protocol.connection_made(await self._network.start_tls(reader, protocol, context, **tls))
        except BaseException:
            transport.abort()
            raise

    async def _connect(
        self, protocol: asyncio.BaseProtocol, peer: WSParsedURL, sock: socket.socket | None, arguments: dict[str, Any]
    ) -> asyncio.Transport:
        if sock is None:
            arguments |= self._tcp_arguments
            transport, _ = await self._network.create_connection(lambda: protocol, peer.host, peer.port, **arguments)
            return cast(asyncio.Transport, transport)
        try:
            transport, _ = await self._network.create_connection(lambda: protocol, sock=sock, **arguments)
        except BaseException:
            sock.close()
            raise
        return cast(asyncio.Transport, transport)

    def _context_for(self, url: WSParsedURL) -> ssl.SSLContext | None:
        if not url.is_secure:
            return None
        if self._ssl_context is None:
            self._ssl_context = ssl.create_default_context()
        return self._ssl_context

    async def _make_socket(self, peer: WSParsedURL) -> socket.socket | None:
        """The user's socket, connected to `peer`; None if there is no factory, or it makes none."""
        if self._socket_factory is None:
            return None
        made = self._socket_factory(peer)
        sock = await made if inspect.isawaitable(made) else made
        if sock is None:
            return None
        if not isinstance(sock, socket.socket):
            raise TypeError(f"expected socket_factory to return a socket or None, found {sock!r}")
        try:
            sock.setblocking(False)
            if not _is_connected(sock):
                await self._connect_socket(sock, peer)
        except BaseException:
            sock.close()
            raise
        return sock

    async def _connect_socket(self, sock: socket.socket, peer: WSParsedURL) -> None:
        addresses = await self._loop.getaddrinfo(
            peer.host, peer.port, family=sock.family, type=sock.type, proto=sock.proto
        )
        # A socket that failed to connect cannot be tried again everywhere, and we were given only one.
        await self._loop.sock_connect(sock, addresses[0][4])


def _is_connected(sock: socket.socket) -> bool:
    try:
        sock.getpeername()
    except OSError:
        return False
    return True
