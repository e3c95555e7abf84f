from __future__ import annotations

import asyncio
import logging
import socket

import pytest

from picows import (
    WSCloseCode,
    WSHandshakeError,
    WSInvalidMessageError,
    WSInvalidStatusError,
    WSInvalidUpgradeError,
    WSInvalidURL,
    parse_url,
    ws_connect,
)
from tests.picows.recorder import Recorder
from tests.picows.wire import BINARY, CLOSE, TEXT, frame, raw_server, response_101


async def test_connects_and_exchanges_frames():
    async with raw_server() as server:
        peer_task = asyncio.ensure_future(server.upgraded_peer())
        transport, listener = await ws_connect(Recorder, f"ws://127.0.0.1:{server.port}/feed?x=1")
        peer = await peer_task
        assert peer.request.startswith(b"GET /feed?x=1 HTTP/1.1\r\n")
        peer.send(frame(TEXT, b"hello"))
        assert await listener.next_frame() == (TEXT, b"hello")
        transport.send(BINARY, b"abc")
        sent = await peer.read_frame()
        assert (sent.opcode, sent.fin, sent.payload) == (BINARY, True, b"abc")
        assert (transport.is_client_side, transport.is_secure, transport.is_disconnected) == (True, False, False)
        assert (transport.request.path, transport.response.status) == (b"/feed?x=1", 101)
        assert listener.transport is transport
        transport.disconnect()
        await transport.wait_disconnected()
        assert listener.events == ["connected", (TEXT, b"hello"), "disconnected"]
        assert transport.is_disconnected


async def test_frames_in_the_segment_of_the_101_come_after_on_ws_connected():
    async with raw_server() as server:
        then = frame(TEXT, b"a") + frame(TEXT, b"b") + frame(CLOSE, b"\x03\xe8")
        peer_task = asyncio.ensure_future(server.upgraded_peer(then=then))
        transport, listener = await ws_connect(Recorder, f"ws://127.0.0.1:{server.port}/")
        await (await peer_task).answer_close()
        await transport.wait_disconnected()
        assert listener.events == ["connected", (TEXT, b"a"), (TEXT, b"b"), (CLOSE, b"\x03\xe8"), "disconnected"]
        assert listener.last_flags == [(b"a", False, 7), (b"b", False, 4), (b"\x03\xe8", True, 0)]


async def test_a_factory_may_take_the_request_and_the_response():
    seen = []

    def factory(request, response):
        seen.append((request.path, response.headers["x-feed"]))
        return Recorder()

    async with raw_server() as server:
        peer_task = asyncio.ensure_future(server.upgraded_peer(extra=b"X-Feed: 7\r\n"))
        transport, _ = await ws_connect(factory, f"ws://127.0.0.1:{server.port}/p")
        await peer_task
        transport.disconnect(graceful=False)
        await transport.wait_disconnected()
    assert seen == [(b"/p", "7")]


@pytest.mark.parametrize("factory", [lambda: Recorder(), lambda *_args: Recorder(), lambda _a=None: Recorder()])
async def test_a_factory_that_needs_no_arguments_gets_none(factory):
    async with raw_server() as server:
        peer_task = asyncio.ensure_future(server.upgraded_peer())
        transport, listener = await ws_connect(factory, f"ws://127.0.0.1:{server.port}/")
        await peer_task
        assert isinstance(listener, Recorder)
        transport.disconnect()
        await transport.wait_disconnected()


async def test_what_the_factory_raises_comes_out_of_ws_connect():
    def factory():
        raise LookupError("no such book")

    async with raw_server() as server:
        peer_task = asyncio.ensure_future(server.upgraded_peer())
        with pytest.raises(LookupError, match="no such book"):
            await ws_connect(factory, f"ws://127.0.0.1:{server.port}/")
        assert await (await peer_task).read_to_end() == b""


async def test_a_factory_must_return_a_listener():
    async with raw_server() as server:
        peer_task = asyncio.ensure_future(server.upgraded_peer())
        with pytest.raises(TypeError, match="to return a WSListener, found 5"):
            await ws_connect(lambda: 5, f"ws://127.0.0.1:{server.port}/")
        await peer_task


# ---- refusals -------------------------------------------------------------------------------------


async def connect_to(answer, **kwargs):
    """ws_connect() to a server that sends `answer(request)` and closes, or None: keeps silent."""
    async with raw_server() as server:
        connecting = asyncio.ensure_future(ws_connect(Recorder, f"ws://127.0.0.1:{server.port}/", **kwargs))
        peer = await server.peer()
        if answer is not None:
            peer.send(answer(peer.request))
            await peer.close()
        return await connecting


async def test_another_status():
    with pytest.raises(WSInvalidStatusError) as info:
        await connect_to(lambda _: b"HTTP/1.1 403 Forbidden\r\nContent-Length: 3\r\n\r\nkey")
    assert (info.value.response.status, info.value.response.body) == (403, b"key")


async def test_another_status_with_a_body_up_to_the_end():
    with pytest.raises(WSInvalidStatusError) as info:
        await connect_to(lambda _: b"HTTP/1.1 403 Forbidden\r\n\r\nkey")
    assert info.value.raw_body == b"key"


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (lambda _: b"", WSHandshakeError),
        (lambda _: b"\x00\x01\x02\r\n\r\n", WSInvalidMessageError),
        (lambda _: b"X" * 30_000, WSInvalidMessageError),
        (lambda request: response_101(request).replace(b"Upgrade: websocket", b"X: y"), WSInvalidUpgradeError),
        (lambda request: response_101(request)[:-10], WSHandshakeError),
    ],
)
async def test_answers_that_are_no_handshake(answer, error):
    with pytest.raises(WSHandshakeError) as info:
        await connect_to(answer)
    assert type(info.value) is error


async def test_a_server_that_says_nothing():
    with pytest.raises(TimeoutError, match=r"no WebSocket handshake with 127.0.0.1:\d+ within 0.05 seconds"):
        await connect_to(None, websocket_handshake_timeout=0.05)


async def test_cancelling_ws_connect_closes_the_connection():
    async with raw_server() as server:
        connecting = asyncio.ensure_future(
            ws_connect(Recorder, f"ws://127.0.0.1:{server.port}/", websocket_handshake_timeout=None)
        )
        peer = await server.peer()
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting
        assert await peer.read_to_end() == b""


async def test_nobody_listens():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        with pytest.raises(OSError):  # noqa: PT011 - event loops word it differently
            await ws_connect(Recorder, f"ws://127.0.0.1:{sock.getsockname()[1]}/")


async def test_the_limits_of_a_response_are_arguments():
    with pytest.raises(WSInvalidMessageError, match="at most 100 bytes of HTTP header"):
        await connect_to(lambda _: b"HTTP/1.1 403 Forbidden\r\nX: " + b"x" * 100, max_response_header_size=100)
    with pytest.raises(WSInvalidStatusError) as info:
        await connect_to(lambda _: b"HTTP/1.1 403 No\r\n\r\n" + b"x" * 100, max_response_body_size=7)
    assert info.value.response.body == info.value.raw_body == b"x" * 7


@pytest.mark.parametrize("use_aiofastnet", [False, True])
async def test_a_server_that_never_speaks_tls(use_aiofastnet):
    async with raw_server() as server:
        with pytest.raises((ConnectionError, TimeoutError)):
            await ws_connect(
                Recorder,
                f"wss://127.0.0.1:{server.port}/",
                websocket_handshake_timeout=0.05,
                use_aiofastnet=use_aiofastnet,
            )


# ---- arguments ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ssl", "sock", "all_errors"])
async def test_arguments_of_create_connection_that_are_ours(name):
    with pytest.raises(TypeError, match=f"sets '{name}'"):
        await ws_connect(Recorder, "ws://127.0.0.1:1/", **{name: None})


async def test_a_bad_url():
    with pytest.raises(WSInvalidURL):
        await ws_connect(Recorder, "http://127.0.0.1:1/")


@pytest.mark.parametrize(
    "kwargs",
    [
        {"max_frame_size": 0},
        {"max_response_header_size": 0},
        {"read_buffer_init_size": 0},
        {"enable_auto_ping": True, "auto_ping_idle_timeout": 0},
        {"enable_auto_ping": True, "auto_ping_reply_timeout": -1},
        {"enable_auto_ping": True, "auto_ping_strategy": 7},
        {"extra_headers": {"X": "a\nb"}},
    ],
)
async def test_arguments_that_make_no_sense(kwargs):
    async with raw_server() as server:
        with pytest.raises(ValueError):  # noqa: PT011 - each has its own words, tested where they are written
            await ws_connect(Recorder, f"ws://127.0.0.1:{server.port}/", **kwargs)


async def test_kwargs_go_to_create_connection():
    async with raw_server() as server:
        peer_task = asyncio.ensure_future(server.upgraded_peer())
        transport, _ = await ws_connect(
            Recorder, f"ws://127.0.0.1:{server.port}/", local_addr=("127.0.0.1", 0), family=socket.AF_INET
        )
        await peer_task
        transport.disconnect()
        await transport.wait_disconnected()


def unconnected(_url):
    return socket.socket()


async def unconnected_later(_url):
    return socket.socket()


def connected(url):
    return socket.create_connection((url.host, url.port))


def none(_url):
    return None


@pytest.mark.parametrize("factory", [unconnected, unconnected_later, connected, none])
async def test_socket_factory(factory):
    async with raw_server() as server:
        peer_task = asyncio.ensure_future(server.upgraded_peer())
        transport, listener = await ws_connect(
            Recorder, f"ws://127.0.0.1:{server.port}/", socket_factory=factory
        )  # fmt: skip
        (await peer_task).send(frame(TEXT, b"x"))
        assert await listener.next_frame() == (TEXT, b"x")
        transport.disconnect()
        await transport.wait_disconnected()


async def test_a_socket_factory_must_return_a_socket():
    with pytest.raises(TypeError, match="to return a socket or None, found 5"):
        await ws_connect(Recorder, "ws://127.0.0.1:1/", socket_factory=lambda _: 5)


async def test_a_socket_factory_sees_the_parsed_url_and_may_raise():
    seen = []

    async def factory(url):
        seen.append(url)
        raise LookupError("no interface")

    with pytest.raises(LookupError, match="no interface"):
        await ws_connect(Recorder, "ws://127.0.0.1:1/x", socket_factory=factory)
    assert seen == [parse_url("ws://127.0.0.1:1/x")]


async def test_a_blocking_socket_does_not_block_the_loop():
    async with raw_server() as server:
        peer_task = asyncio.ensure_future(server.upgraded_peer())
        made = socket.socket()
        made.settimeout(30)
        transport, _ = await ws_connect(
            Recorder, f"ws://127.0.0.1:{server.port}/", socket_factory=lambda _: made
        )  # fmt: skip
        await peer_task
        assert made.gettimeout() == 0
        transport.disconnect()
        await transport.wait_disconnected()
        assert made.fileno() == -1


async def test_a_socket_that_cannot_connect_is_closed():
    made = []

    def factory(_url):
        made.append(socket.socket())
        return made[0]

    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        with pytest.raises(OSError):  # noqa: PT011 - event loops word it differently
            await ws_connect(Recorder, f"ws://127.0.0.1:{sock.getsockname()[1]}/", socket_factory=factory)
    assert made[0].fileno() == -1


@pytest.mark.parametrize(
    ("logger_name", "expected"),
    [(None, "picows.client"), ("binance", "picows.binance"), (logging.getLogger("mine"), "mine")],
)
async def test_logger(logger_name, expected, caplog):
    caplog.set_level(logging.DEBUG)
    async with raw_server() as server:
        peer_task = asyncio.ensure_future(server.upgraded_peer())
        transport, _ = await ws_connect(Recorder, f"ws://127.0.0.1:{server.port}/", logger_name=logger_name)
        await peer_task
        transport.disconnect()
        await transport.wait_disconnected()
    assert {record.name for record in caplog.records} - {"asyncio"} == {expected}


async def test_a_client_closes_with_a_code():
    async with raw_server() as server:
        peer_task = asyncio.ensure_future(server.upgraded_peer())
        transport, _ = await ws_connect(Recorder, f"ws://127.0.0.1:{server.port}/")
        peer = await peer_task
        transport.send_close(WSCloseCode.GOING_AWAY, b"bye")
        assert (await peer.read_frame()).payload == b"\x03\xe9bye"
        peer.send(frame(CLOSE, b"\x03\xe9"))
        await peer.close()
        await transport.wait_disconnected()
        assert transport.close_handshake.sent == (WSCloseCode.GOING_AWAY, "bye")
        assert transport.close_handshake.recv == (WSCloseCode.GOING_AWAY, None)
        assert not transport.close_handshake.recv_then_sent
