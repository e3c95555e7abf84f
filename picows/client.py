"""Opening a WebSocket as a client."""

from __future__ import annotations

import asyncio
import inspect
import ssl
from collections.abc import Callable
from typing import Any, cast

from picows.dial import Dialer, SocketFactory
from picows.errors import WSHandshakeError, WSInvalidStatusError
from picows.handshake import (
    MAX_BODY_SIZE,
    MAX_HEADER_SIZE,
    ClientHandshake,
    HeadersLike,
    WSUpgradeRequest,
    WSUpgradeResponse,
    header_pairs,
    reserved_bits,
)
from picows.keepalive import keepalive_factory
from picows.listener import WSListener
from picows.logger import PICOWS_DEBUG_LL, LoggerLike, connection_logger
from picows.negotiation import WSDeflateConfig, deflate_config
from picows.network import network
from picows.protocol import WSProtocol
from picows.redirect import headers_for, is_redirect, redirect_target
from picows.resets import ResetWatch, watch_resets
from picows.socket_reader import busy_poller
from picows.transport import WSAutoPingStrategy, WSTransport
from picows.url import WSParsedURL, parse_url

__all__ = ["ws_connect"]

ListenerFactory = Callable[[], WSListener] | Callable[[WSUpgradeRequest, WSUpgradeResponse], WSListener]


async def ws_connect(
    ws_listener_factory: ListenerFactory,
    url: str,
    *,
    ssl_context: ssl.SSLContext | None = None,
    disconnect_on_exception: bool = True,
    websocket_handshake_timeout: float | None = 5,
    websocket_close_timeout: float | None = 10,
    logger_name: str | LoggerLike | None = None,
    enable_auto_ping: bool = False,
    auto_ping_idle_timeout: float = 10,
    auto_ping_reply_timeout: float = 10,
    auto_ping_strategy: WSAutoPingStrategy = WSAutoPingStrategy.PING_WHEN_IDLE,
    enable_auto_pong: bool = True,
    max_frame_size: int = 10 * 1024 * 1024,
    extra_headers: HeadersLike | None = None,
    max_redirects: int = 5,
    proxy: str | None = None,
    proxy_ssl_context: ssl.SSLContext | None = None,
    read_buffer_init_size: int = 16 * 1024,
    socket_factory: SocketFactory | None = None,
    use_aiofastnet: bool | None = None,
    read_until_drained: int = 0,
    kernel_time: bool = False,
    max_response_header_size: int = MAX_HEADER_SIZE,
    max_response_body_size: int = MAX_BODY_SIZE,
    permessage_deflate: WSDeflateConfig | bool | None = None,
    **kwargs: Any,
) -> tuple[WSTransport, WSListener]:
    """Open a WebSocket at `url` and return its transport and listener.

    ws_listener_factory -- makes the listener once the server has agreed: called with the request and the response if it
        takes two arguments, else with none.
    ssl_context -- for wss; by default the server's certificate and name are verified against the system's authorities.
    disconnect_on_exception -- close with INTERNAL_ERROR when the listener raises; otherwise it is only logged.
    websocket_handshake_timeout -- seconds from connected to upgraded; as many for the way through a proxy and, unless
        kwargs have `ssl_handshake_timeout`, for TLS. None: no limit, and a minute for TLS.
    websocket_close_timeout -- seconds from our CLOSE, or disconnect(), to a forced end; None: no limit.
    logger_name -- what follows "picows." in the logger's name, or a logger.
    enable_auto_ping -- ping after `auto_ping_idle_timeout` seconds, by `auto_ping_strategy`, and close the connection
        if `auto_ping_reply_timeout` seconds later no pong has come.
    enable_auto_pong -- answer PING frames; they do not reach the listener then.
    max_frame_size -- bytes of payload; a longer frame closes the connection with MESSAGE_TOO_BIG.
    extra_headers -- for the upgrade request; Host and Authorization replace ours.
    max_redirects -- how many redirects (301, 302, 303, 307, 308) are followed, never one from wss to ws; 0: none.
        Another host gets neither the URL's credentials nor extra_headers, except for Origin, User-Agent,
        Accept-Language, Sec-WebSocket-Extensions and Sec-WebSocket-Protocol.
    proxy -- URL of a proxy, with credentials if it wants them: http, https, socks4 or socks5. A SOCKS 4 proxy is given
        the server's address, the others its name. wss through an https proxy on the loop of asyncio needs Python 3.11.
    proxy_ssl_context -- for an https proxy; by default its certificate and name are verified like a server's.
    read_buffer_init_size -- bytes; the buffer grows for larger frames and shrinks to this again.
    socket_factory -- called with the parsed URL, or with the proxy's, for each connection; returns, or is a coroutine
        that returns, a socket, connected or not, or None: then it is made as without a factory. The socket is ours
        from then on.
    use_aiofastnet -- carry the connection by aiofastnet's transports instead of the event loop's own. None: where they
        are faster, which is everywhere; False leaves TLS to Python's ssl module.
    read_until_drained -- after a read of the event loop, read up to so many times more, and so many times
        `read_buffer_init_size` bytes, while the kernel holds more, before the frames are delivered: `last_in_buffer`
        and `tail_size` then speak of all that has arrived. Without effect under TLS, whose layer alone may read the
        socket; WSTransport.is_drained() tells there, too.
    kernel_time -- have the kernel note when it receives (SO_TIMESTAMPNS; Linux), and WSFrame.kernel_time_ns tell it,
        under TLS too. With `read_until_drained` it is of the last of these reads. 0 for the few milliseconds that the
        kernel may take to begin.
    max_response_header_size -- bytes of the server's response up to its empty line; more is a WSInvalidMessageError.
    max_response_body_size -- bytes that are kept of the body of a response that refuses.
    permessage_deflate -- True or a WSDeflateConfig: offer compression (RFC 7692). If the server accepts, messages are
        compressed when sent, and frames have been inflated when they reach the listener. `max_frame_size` then limits
        what is on the wire, `max_message_size` of the config what it inflates to.
    kwargs -- go to `loop.create_connection`: `family`, `local_addr`, `server_hostname`, `ssl_handshake_timeout` and the
        like. TypeError for those that we set ourselves.

    Raises WSInvalidURL, WSHandshakeError (see its subclasses) for an answer that is no WebSocket, WSProxyError,
    TimeoutError, and what the network raises.
    """
    for name in ("ssl", "sock", "all_errors", "protocol_factory", "host", "port"):
        if name in kwargs:
            raise TypeError(f"ws_connect() sets {name!r} of loop.create_connection() itself")
    parsed = parse_url(url)
    headers = header_pairs(extra_headers)
    deflate = deflate_config(permessage_deflate)
    logger = connection_logger(logger_name, "client")
    make_keepalive = keepalive_factory(
        enable_auto_ping, auto_ping_idle_timeout, auto_ping_reply_timeout, auto_ping_strategy
    )
    if (kernel_time or busy_poller() is not None) and use_aiofastnet is False:
        raise ValueError(
            "kernel_time and busy polling need aiofastnet: expected use_aiofastnet of True or None, found False"
        )
    dialer = Dialer(
        ssl_context=ssl_context,
        socket_factory=socket_factory,
        proxy=proxy,
        proxy_ssl_context=proxy_ssl_context,
        timeout=websocket_handshake_timeout,
        network=network(use_aiofastnet),
        kernel_time=kernel_time,
        kwargs=kwargs,
    )
    redirects = 0
    while True:
        # Made before the connection: what is wrong with an argument leaves nothing behind.
        protocol = _ClientProtocol(
            ClientHandshake(
                parsed,
                headers,
                max_header_size=max_response_header_size,
                max_body_size=max_response_body_size,
                deflate=deflate,
            ),
            ws_listener_factory,
            close_timeout=websocket_close_timeout,
            is_client_side=True,
            disconnect_on_exception=disconnect_on_exception,
            enable_auto_pong=enable_auto_pong,
            max_frame_size=max_frame_size,
            read_buffer_init_size=read_buffer_init_size,
            logger=logger,
            make_keepalive=make_keepalive,
            read_until_drained=read_until_drained,
        )
        try:
            await dialer.dial(protocol, parsed)
            await _upgraded(protocol, parsed, websocket_handshake_timeout)
        except WSInvalidStatusError as refusal:
            if redirects >= max_redirects or not is_redirect(refusal):
                raise
            target = redirect_target(parsed, refusal)
            logger.info("redirected to %s:%s", target.host, target.port)
            headers = headers_for(target, parsed, headers)
            parsed = target
            redirects += 1
            continue
        except BaseException:
            protocol.abort()
            raise
        return protocol.transport, protocol.listener


async def _upgraded(protocol: _ClientProtocol, url: WSParsedURL, timeout: float | None) -> None:
    try:
        await asyncio.wait_for(protocol.opened, timeout)
    except asyncio.TimeoutError:
        raise TimeoutError(f"no WebSocket handshake with {url.host}:{url.port} within {timeout} seconds") from None


def _wants_handshake(factory: ListenerFactory) -> bool:
    """True if `factory` has to be called with the request and the response."""
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):  # some types written in C have no signature
        return False
    required = [
        parameter
        for parameter in parameters
        if parameter.default is parameter.empty
        and parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]
    return len(required) == 2


class _ClientProtocol(WSProtocol):
    def __init__(
        self,
        handshake: ClientHandshake,
        listener_factory: ListenerFactory,
        *,
        close_timeout: float | None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._handshake = handshake
        self._request = handshake.request_bytes()
        self._listener_factory = listener_factory
        self._close_timeout = close_timeout
        self._loop = asyncio.get_running_loop()
        self._stream: asyncio.Transport | None = None
        self._resets: ResetWatch | None = None
        self.opened: asyncio.Future[None] = self._loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._stream = cast(asyncio.Transport, transport)
        self._resets = watch_resets(transport)
        self.logger.log(PICOWS_DEBUG_LL, "sending the upgrade request to %s", transport.get_extra_info("peername"))
        self._stream.write(self._request)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._resets is not None:
            self._resets.stop()
        super().connection_lost(exc)

    def abort(self) -> None:
        """Nobody waits for `opened` any more."""
        if not self.opened.cancel() and not self.opened.cancelled():
            self.opened.exception()
        if self._stream is not None:
            self._stream.abort()

    def handshake_received(self, data: bytes) -> None:
        if self.opened.done():
            return
        try:
            response = self._handshake.receive(data)
            if response is None:
                return
            if _wants_handshake(self._listener_factory):
                listener = self._listener_factory(self._handshake.request, response)  # type: ignore[call-arg]
            else:
                listener = self._listener_factory()  # type: ignore[call-arg]
            if not isinstance(listener, WSListener):
                raise TypeError(f"expected ws_listener_factory to return a WSListener, found {listener!r}")
        except Exception as exc:
            self._fail(exc)
            return
        stream = cast(asyncio.Transport, self._stream)
        transport = WSTransport(
            self._loop,
            stream,
            listener,
            self._handshake.request,
            response,
            self._close_timeout,
            True,
            self._handshake.url.is_secure,
        )
        # Not with the path: an exchange may have us put a secret key into it.
        self.logger.info("connected to %s", stream.get_extra_info("peername"))
        self.opened.set_result(None)
        trailing, agreed = self._handshake.trailing, self._handshake.agreed_deflate
        del self._handshake, self._request  # several KiB that an open connection does not need
        self.open(transport, listener, reserved_bits(response), trailing, agreed)

    def handshake_lost(self, exc: Exception | None) -> None:
        if self.opened.done():
            return
        try:
            self._handshake.receive_eof()
        except WSHandshakeError as error:
            error.__cause__ = exc
            self._fail(error)

    def _fail(self, exc: Exception) -> None:
        self.opened.set_exception(exc)
        self.abort()
