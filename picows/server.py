"""Serving WebSockets, and plain HTTP answers on the same port."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, cast

from picows.errors import WSHandshakeError
from picows.handshake import (
    MAX_HEADER_SIZE,
    ServerHandshake,
    WSUpgradeRequest,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
    refusal,
    reserved_bits,
)
from picows.keepalive import keepalive_factory
from picows.listener import WSListener
from picows.logger import LoggerLike, connection_logger
from picows.negotiation import WSDeflateConfig, deflate_config
from picows.network import network
from picows.protocol import WSProtocol
from picows.resets import ResetWatch, watch_resets
from picows.transport import WSAutoPingStrategy, WSTransport

__all__ = ["ws_create_server"]

ListenerFactory = Callable[[WSUpgradeRequest], WSListener | WSUpgradeResponseWithListener | None]


async def ws_create_server(
    ws_listener_factory: ListenerFactory,
    host: Any = None,
    port: int | None = None,
    *,
    disconnect_on_exception: bool = True,
    websocket_handshake_timeout: float | None = 5,
    websocket_close_timeout: float | None = 10,
    logger_name: str | LoggerLike | None = None,
    enable_auto_ping: bool = False,
    auto_ping_idle_timeout: float = 20,
    auto_ping_reply_timeout: float = 20,
    auto_ping_strategy: WSAutoPingStrategy = WSAutoPingStrategy.PING_WHEN_IDLE,
    enable_auto_pong: bool = True,
    max_frame_size: int = 10 * 1024 * 1024,
    read_buffer_init_size: int = 16 * 1024,
    use_aiofastnet: bool | None = None,
    read_until_drained: int = 0,
    max_request_header_size: int = MAX_HEADER_SIZE,
    permessage_deflate: WSDeflateConfig | bool | None = None,
    **kwargs: Any,
) -> asyncio.Server:
    """Serve WebSockets on `host` and `port` and return the asyncio.Server.

    ws_listener_factory -- called with each request; routes by it. Returns a listener to open a WebSocket, a
        WSUpgradeResponseWithListener to choose the response (headers of a 101, or another status with a body: it sees
        requests that ask for no WebSocket too), or None for a 404. If it raises, the client gets a 500.
    websocket_handshake_timeout -- seconds from connected to a complete request and, unless kwargs have
        `ssl_handshake_timeout`, for TLS; None: no limit, and a minute for TLS.
    use_aiofastnet -- as for ws_connect(), but None leaves TLS to the event loop: with True, a client that hangs up
        during the TLS handshake is reported to the loop's exception handler.
    max_request_header_size -- bytes of a request up to its empty line; more is answered with status 431.
    permessage_deflate -- True or a WSDeflateConfig: compress for clients that offer it (RFC 7692).
    kwargs -- go to `loop.create_server`: `ssl`, `sock`, `reuse_port` and the like.

    The rest is as for ws_connect(). Exceptions of a listener are logged as errors. Closing the server ends no
    connection.
    """
    logger = connection_logger(logger_name, "server")
    make_keepalive = keepalive_factory(
        enable_auto_ping, auto_ping_idle_timeout, auto_ping_reply_timeout, auto_ping_strategy
    )

    deflate = deflate_config(permessage_deflate)

    def make_protocol() -> _ServerProtocol:
        return _ServerProtocol(
            ws_listener_factory,
            handshake_timeout=websocket_handshake_timeout,
            deflate=deflate,
            close_timeout=websocket_close_timeout,
            max_header_size=max_request_header_size,
            is_client_side=False,
            disconnect_on_exception=disconnect_on_exception,
            enable_auto_pong=enable_auto_pong,
            max_frame_size=max_frame_size,
            read_buffer_init_size=read_buffer_init_size,
            logger=logger,
            make_keepalive=make_keepalive,
            read_until_drained=read_until_drained,
        )

    if kwargs.get("ssl") is not None and websocket_handshake_timeout is not None:
        kwargs.setdefault("ssl_handshake_timeout", websocket_handshake_timeout)
    make_protocol()  # what is wrong with the arguments is better said now than to every client
    net = network(use_aiofastnet, serves_tls=bool(kwargs.get("ssl")))
    server = await net.create_server(make_protocol, host, port, **kwargs)
    return cast(asyncio.Server, server)


class _ServerProtocol(WSProtocol):
    def __init__(
        self,
        listener_factory: ListenerFactory,
        *,
        handshake_timeout: float | None,
        deflate: WSDeflateConfig | None,
        close_timeout: float | None,
        max_header_size: int,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._listener_factory = listener_factory
        self._handshake_timeout = handshake_timeout
        self._close_timeout = close_timeout
        self._handshake = ServerHandshake(max_header_size=max_header_size, deflate=deflate)
        self._loop = asyncio.get_running_loop()
        self._stream: asyncio.Transport | None = None
        self._resets: ResetWatch | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._is_answered = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._stream = cast(asyncio.Transport, transport)
        self._resets = watch_resets(transport)
        if self._handshake_timeout is not None:
            self._timer = self._loop.call_later(self._handshake_timeout, self._stream.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._resets is not None:
            self._resets.stop()
        super().connection_lost(exc)

    def handshake_received(self, data: bytes) -> None:
        if self._is_answered:
            return
        listener = request = None
        try:
            request = self._handshake.receive(data)
            if request is None:
                return
            answer = self._listener_factory(request)
            if answer is not None and not isinstance(answer, WSListener | WSUpgradeResponseWithListener):
                raise TypeError(
                    f"expected ws_listener_factory to return a listener, response or None, found {answer!r}"
                )
            response, listener = self._handshake.respond(request, answer)
            encoded = response.to_bytes()
        except WSHandshakeError as exc:
            self.logger.info("request refused: %s", exc)
            response = cast(WSUpgradeResponse, exc.response)
            encoded = response.to_bytes()
        except Exception:
            self.logger.exception("ws_listener_factory raised; answering 500")
            listener = None
            response = refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "internal server error")
            encoded = response.to_bytes()
        self._is_answered = True
        assert self._stream is not None
        self._stream.write(encoded)
        if listener is None:
            # The handshake timer goes on: it ends a client that does not read the response.
            self._stream.close()
            return
        self._stop_timer()
        transport = WSTransport(self._loop, self._stream, listener, request, response, self._close_timeout, False)
        trailing, agreed = self._handshake.trailing, self._handshake.agreed_deflate
        del self._handshake  # several KiB that an open connection does not need
        self.open(transport, listener, reserved_bits(response), trailing, agreed)

    def handshake_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        if self._stream is not None:
            # The TLS transport of Python 3.10 takes itself for open until it is told.
            self._stream.close()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
