from __future__ import annotations

import asyncio
import gc
import logging
import ssl
from contextlib import asynccontextmanager

import pytest

from picows import (
    WSInvalidStatusError,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
    ws_connect,
    ws_create_server,
)
from picows.handshake import ClientHandshake, ServerHandshake
from tests.picows.recorder import Echo, Recorder
from tests.picows.test_tls import authority  # noqa: F401 - fixture
from tests.picows.wire import BINARY, TEXT, frame, raw_client, request, upgraded_client

MASK = b"\x0a\x0b\x0c\x0d"


@asynccontextmanager
async def serving(factory, **kwargs):
    """The port of a server on loopback."""
    server = await ws_create_server(factory, "127.0.0.1", 0, **kwargs)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def exchange(port, data):
    """Everything that the server says to `data` until it closes."""
    async with raw_client(port) as peer:
        peer.send(data)
        return await peer.read_to_end()


async def test_echo():
    listener = Echo()
    async with serving(lambda _: listener) as port, upgraded_client(port) as peer:
        peer.send(frame(TEXT, b"hello", mask=MASK))
        answer = await peer.read_frame()
        assert (answer.opcode, answer.payload) == (TEXT, b"hello")
        assert not listener.transport.is_client_side
        peer.writer.close()
        await listener.transport.wait_disconnected()
        assert listener.events == ["connected", (TEXT, b"hello"), "disconnected"]


async def test_frames_in_the_segment_of_the_request_are_delivered():
    listener = Recorder()
    then = frame(TEXT, b"a", mask=MASK) + frame(BINARY, b"b", mask=MASK)
    async with serving(lambda _: listener) as port, upgraded_client(port, then=then):
        assert await listener.next_frame() == (TEXT, b"a")
        assert await listener.next_frame() == (BINARY, b"b")
        assert listener.events[0] == "connected"
        assert [last for _, last, _ in listener.last_flags] == [False, True]
    await listener.transport.wait_disconnected()


async def test_routes_by_path():
    def route(upgrade):
        return Recorder() if upgrade.path == b"/feed" else None

    async with serving(route) as port:
        transport, _ = await ws_connect(Recorder, f"ws://127.0.0.1:{port}/feed")
        transport.disconnect()
        await transport.wait_disconnected()
        with pytest.raises(WSInvalidStatusError) as info:
            await ws_connect(Recorder, f"ws://127.0.0.1:{port}/other")
        assert info.value.response.status == 404


async def test_plain_http_on_the_same_port():
    def route(upgrade):
        if upgrade.path == b"/health":
            return WSUpgradeResponseWithListener(WSUpgradeResponse.create_ok_response(b"fine"))
        return Recorder()

    async with serving(route) as port:
        answer = await exchange(port, b"GET /health HTTP/1.1\r\nHost: h\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert answer.endswith(b"\r\n\r\nfine")
        answer = await exchange(port, b"GET /feed HTTP/1.1\r\nHost: h\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 426 Upgrade Required\r\n")


async def test_a_large_body_arrives_whole():
    body = bytes(2_000_000)
    answer = WSUpgradeResponseWithListener(WSUpgradeResponse.create_ok_response(body))
    async with serving(lambda _: answer) as port:
        assert (await exchange(port, request())).endswith(b"\r\n\r\n" + body)


async def test_own_headers_in_a_101():
    def route(upgrade):
        return WSUpgradeResponseWithListener(WSUpgradeResponse.create_101_response({"X-Feed": "7"}), Recorder())

    async with serving(route) as port:
        transport, _ = await ws_connect(Recorder, f"ws://127.0.0.1:{port}/")
        assert transport.response.headers["X-Feed"] == "7"
        transport.disconnect()
        await transport.wait_disconnected()


@pytest.mark.parametrize(
    "answer",
    [
        5,
        WSUpgradeResponse.create_ok_response(b"naked"),
        WSUpgradeResponseWithListener(WSUpgradeResponse.create_101_response()),
        WSUpgradeResponseWithListener(WSUpgradeResponse.create_ok_response(b"", {"X": "a\nb"})),
        ValueError("secret"),
    ],
)
async def test_a_factory_that_fails_is_a_500_and_a_log_entry(answer, caplog):
    def route(_):
        if isinstance(answer, Exception):
            raise answer
        return answer

    async with serving(route) as port:
        response = await exchange(port, request())
    assert response.startswith(b"HTTP/1.1 500 ")
    assert b"secret" not in response
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [record.name for record in errors] == ["picows.server"]
    assert errors[0].exc_info is not None


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x16\x03\x01\x00\r\n\r\n", 400),
        (request().replace(b"GET", b"PUT"), 405),
        (request(Sec_WebSocket_Version=b"8"), 426),
        (request(Sec_WebSocket_Key=b"short"), 400),
    ],
)
async def test_requests_that_are_refused(data, status):
    async with serving(lambda _: Recorder()) as port:
        assert (await exchange(port, data)).startswith(b"HTTP/1.1 %d " % status)


async def test_a_client_that_sends_no_request_is_disconnected():
    async with serving(lambda _: Recorder(), websocket_handshake_timeout=0.05) as port:
        assert await exchange(port, b"GET / HT") == b""


@pytest.mark.parametrize("use_aiofastnet", [False, True])
async def test_a_client_that_never_speaks_tls_is_disconnected(use_aiofastnet, authority):  # noqa: F811
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    arguments = {"ssl": context, "websocket_handshake_timeout": 0.05, "use_aiofastnet": use_aiofastnet}
    async with serving(lambda _: Recorder(), **arguments) as port:
        assert await exchange(port, b"") == b""


async def test_the_limit_of_a_request_is_an_argument():
    async with serving(lambda _: Recorder(), max_request_header_size=100) as port:
        assert (await exchange(port, request(X=b"x" * 100))).startswith(b"HTTP/1.1 431 ")
    with pytest.raises(ValueError, match="limit"):
        await ws_create_server(lambda _: None, "127.0.0.1", 0, max_request_header_size=0)


async def test_the_handshake_timeout_ends_with_the_handshake():
    listener = Echo()
    async with serving(lambda _: listener, websocket_handshake_timeout=0.05) as port, upgraded_client(port) as peer:
        fired = asyncio.Event()
        asyncio.get_running_loop().call_later(0.1, fired.set)
        await fired.wait()
        peer.send(frame(TEXT, b"still here", mask=MASK))
        assert (await peer.read_frame()).payload == b"still here"


async def test_a_client_that_goes_away_during_the_handshake():
    seen = []
    async with serving(seen.append) as port:
        async with raw_client(port) as peer:
            peer.send(b"GET / HTTP/1.1\r\n")
        assert (await exchange(port, request())).startswith(b"HTTP/1.1 404 ")
    assert len(seen) == 1


async def test_arguments_that_make_no_sense_are_refused_at_once():
    with pytest.raises(ValueError, match="max_frame_size"):
        await ws_create_server(lambda _: None, "127.0.0.1", 0, max_frame_size=1)
    with pytest.raises(ValueError, match="auto ping"):
        await ws_create_server(lambda _: None, "127.0.0.1", 0, enable_auto_ping=True, auto_ping_idle_timeout=0)


async def test_exceptions_of_a_listener_are_logged_as_errors(caplog):
    class Broken(Recorder):
        def on_ws_frame(self, transport, frame):
            raise LookupError("no such book")

    listener = Broken()
    async with serving(lambda _: listener, logger_name="books") as port, upgraded_client(port) as peer:
        peer.send(frame(TEXT, b"x", mask=MASK))
        assert (await peer.read_frame()).payload == b"\x03\xf3"  # 1011
    with pytest.raises(LookupError):
        await listener.transport.wait_disconnected()
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [(record.name, type(record.exc_info[1])) for record in errors] == [("picows.books", LookupError)]


async def test_open_connections_keep_nothing_of_the_handshake_machines():
    def machines():
        gc.collect()
        return sum(isinstance(found, ServerHandshake | ClientHandshake) for found in gc.get_objects())

    before = machines()
    echo = Echo()
    async with serving(lambda _: echo, permessage_deflate=True) as port:
        transport, listener = await ws_connect(Recorder, f"ws://127.0.0.1:{port}/", permessage_deflate=True)
        transport.send(TEXT, b"open")
        assert await listener.next_frame() == (TEXT, b"open")
        assert machines() == before
        transport.disconnect()
        await echo.transport.wait_disconnected()
