"""Connections carried by the event loop's transports and by aiofastnet's."""

from __future__ import annotations

import asyncio
import socket
import ssl
import sys
from contextlib import asynccontextmanager

import pytest

from picows import WSMsgType, ws_connect, ws_create_server
from tests.picows.recorder import Echo, Recorder, read_buffer_capacity
from tests.picows.test_proxy import HANDLERS, check_echo, proxy_context, running  # noqa: F401 - fixture
from tests.picows.test_tls import authority, trusting  # noqa: F401 - fixtures
from tests.picows.wire import BINARY, raw_client

LARGE = bytes(range(256)) * (2 * 1024 * 1024 // 256)


def is_fast(transport):
    return type(transport.underlying_transport).__module__.startswith("aiofastnet.")


@asynccontextmanager
async def echo_server(use_aiofastnet, context=None):
    echo = Echo()
    server = await ws_create_server(lambda _: echo, "127.0.0.1", 0, use_aiofastnet=use_aiofastnet, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1], echo
    finally:
        server.close()
        await server.wait_closed()


@pytest.fixture
def server_context(authority):  # noqa: F811
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


@pytest.mark.parametrize("secure", [False, True])
async def test_the_choice_for_a_server(secure, server_context, trusting):  # noqa: F811
    async with echo_server(None, server_context if secure else None) as (port, echo):
        transport, _ = await ws_connect(
            Recorder, f"{'wss' if secure else 'ws'}://127.0.0.1:{port}/", ssl_context=trusting
        )  # fmt: skip
        assert is_fast(echo.transport) == (not secure)
        transport.disconnect()
        await echo.transport.wait_disconnected()


@pytest.mark.parametrize("hello", [b"", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01"])
async def test_who_hangs_up_during_the_tls_handshake_is_no_event(hello, server_context, trusting, caplog):  # noqa: F811
    reported = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    async with echo_server(None, server_context) as (port, echo):
        async with raw_client(port) as peer:
            peer.send(hello)
            if hello:
                peer.writer.write_eof()
                await peer.read_to_end()
        # Whoever came before has been dealt with when the next one is served.
        transport, listener = await ws_connect(Recorder, f"wss://127.0.0.1:{port}/", ssl_context=trusting)
        await check_echo(transport, listener)
        await echo.transport.wait_disconnected()
    assert reported == []
    assert [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")] == []


@pytest.mark.parametrize("client_fast", [False, None])
@pytest.mark.parametrize("server_fast", [False, True])
@pytest.mark.parametrize("secure", [False, True])
async def test_echo(secure, server_fast, client_fast, server_context, trusting):  # noqa: F811
    async with echo_server(server_fast, server_context if secure else None) as (port, echo):
        transport, listener = await ws_connect(
            Recorder,
            f"{'wss' if secure else 'ws'}://127.0.0.1:{port}/",
            ssl_context=trusting,
            use_aiofastnet=client_fast,
        )
        assert (is_fast(transport), is_fast(echo.transport)) == (client_fast is None, server_fast)
        assert transport.is_secure == echo.transport.is_secure == secure
        for payload in (b"", b"small", LARGE, b"small again"):
            transport.send(WSMsgType.BINARY, payload)
            assert await listener.next_frame() == (BINARY, payload)
        assert read_buffer_capacity(transport) == 16 * 1024
        transport.send_close(1000)
        await transport.wait_disconnected()
        await echo.transport.wait_disconnected()
        assert listener.events[-1] == echo.events[-1] == "disconnected"


def is_asyncio_loop() -> bool:
    return type(asyncio.get_running_loop()).__module__.startswith("asyncio")


@pytest.mark.parametrize("use_aiofastnet", [False, True])
@pytest.mark.parametrize("scheme", HANDLERS)
@pytest.mark.parametrize("secure", [False, True])
async def test_through_a_proxy(secure, scheme, use_aiofastnet, server_context, proxy_context, trusting):  # noqa: F811
    async with (
        echo_server(True, server_context if secure else None) as (port, echo),
        running(scheme, proxy_context) as proxy,
    ):
        if sys.version_info < (3, 11) and secure and scheme == "https" and not use_aiofastnet and is_asyncio_loop():
            with pytest.raises(TypeError, match="not supported by start_tls"):  # as ws_connect() documents
                await ws_connect(
                    Recorder,
                    f"wss://127.0.0.1:{port}/",
                    ssl_context=trusting,
                    proxy=f"https://127.0.0.1:{proxy.port}",
                    proxy_ssl_context=trusting,
                    use_aiofastnet=False,
                )
            return
        transport, listener = await ws_connect(
            Recorder,
            f"{'wss' if secure else 'ws'}://127.0.0.1:{port}/",
            ssl_context=trusting,
            proxy=f"{scheme}://127.0.0.1:{proxy.port}",
            proxy_ssl_context=trusting,
            use_aiofastnet=use_aiofastnet,
        )
        assert is_fast(transport) == use_aiofastnet
        await check_echo(transport, listener)
        await echo.transport.wait_disconnected()


@pytest.mark.parametrize("use_aiofastnet", [False, True])
async def test_a_slow_reader_pauses_the_writer(use_aiofastnet):
    class Flood(Recorder):
        def __init__(self):
            super().__init__()
            self.paused = asyncio.Event()
            self.resumed = asyncio.Event()

        def pause_writing(self):
            self.paused.set()

        def resume_writing(self):
            self.resumed.set()

    flood = Flood()
    server = await ws_create_server(lambda _: flood, "127.0.0.1", 0, use_aiofastnet=use_aiofastnet)
    port = server.sockets[0].getsockname()[1]
    transport, listener = await ws_connect(Recorder, f"ws://127.0.0.1:{port}/", use_aiofastnet=use_aiofastnet)
    transport.underlying_transport.pause_reading()
    sent = 0
    while not flood.paused.is_set():
        flood.transport.send(WSMsgType.BINARY, bytes(100_000))
        sent += 1
    assert flood.transport.underlying_transport.get_write_buffer_size() > 0
    transport.underlying_transport.resume_reading()
    await flood.resumed.wait()
    for _ in range(sent):
        assert await listener.next_frame() == (BINARY, bytes(100_000))
    transport.disconnect()
    await flood.transport.wait_disconnected()
    server.close()


@pytest.mark.parametrize("use_aiofastnet", [False, True])
async def test_a_reset_ends_both_sides(use_aiofastnet):
    async with echo_server(use_aiofastnet) as (port, echo):
        sock = socket.create_connection(("127.0.0.1", port))
        transport, listener = await ws_connect(
            Recorder, f"ws://127.0.0.1:{port}/", socket_factory=lambda _: sock, use_aiofastnet=use_aiofastnet
        )
        transport.disconnect(graceful=False)
        await transport.wait_disconnected()
        await echo.transport.wait_disconnected()
        assert listener.events == echo.events == ["connected", "disconnected"]
        assert sock.fileno() == -1
