"""Frames between a connection and its listener: delivery, closing, failures."""

from __future__ import annotations

import asyncio
import logging
import struct
from contextlib import asynccontextmanager

import pytest

from picows import WSCloseCode, WSMsgType, WSProtocolError, serialize_frame, ws_connect, ws_create_server
from tests.picows.recorder import Echo, Recorder, read_buffer_capacity
from tests.picows.wire import BINARY, CLOSE, PING, PONG, TEXT, frame, raw_server, upgraded_client

MASK = b"\x0a\x0b\x0c\x0d"


@asynccontextmanager
async def client(listener_factory=Recorder, **kwargs):
    """`(transport, listener, peer)` of a client connected to a server that the test plays."""
    async with raw_server() as server:
        peer_task = asyncio.ensure_future(server.upgraded_peer())
        transport, listener = await ws_connect(listener_factory, f"ws://127.0.0.1:{server.port}/", **kwargs)
        try:
            yield transport, listener, await peer_task
        finally:
            transport.disconnect(graceful=False)


@asynccontextmanager
async def pair(server_listener, client_factory=Recorder, **kwargs):
    """`(transport, listener)` of our client, connected to our server that has `server_listener`."""
    server = await ws_create_server(lambda _: server_listener, "127.0.0.1", 0, **kwargs)
    port = server.sockets[0].getsockname()[1]
    transport, listener = await ws_connect(client_factory, f"ws://127.0.0.1:{port}/", **kwargs)
    try:
        yield transport, listener
    finally:
        transport.disconnect(graceful=False)
        await server_listener.transport.wait_disconnected()
        server.close()


# ---- delivery -------------------------------------------------------------------------------------


async def test_several_frames_in_one_segment_know_which_is_last():
    async with client() as (_, listener, peer):
        peer.send(b"".join(serialize_frame(TEXT, b"%d" % i) for i in range(5)))
        for i in range(5):
            assert await listener.next_frame() == (TEXT, b"%d" % i)
        assert listener.last_flags == [(b"%d" % i, i == 4, 3 * (4 - i)) for i in range(5)]


@pytest.mark.parametrize("control", [frame(PING, b"hi"), frame(PING) + frame(PING, b"hi")])
async def test_a_ping_behind_does_not_hide_that_a_frame_is_last(control):
    async with client() as (_, listener, peer):
        peer.send(frame(TEXT, b"a") + control + frame(TEXT, b"b") + control)
        await listener.next_frame()
        await listener.next_frame()
        assert [(payload, last) for payload, last, _ in listener.last_flags] == [(b"a", False), (b"b", True)]
        pongs = [await peer.read_frame() for _ in range(2 * control.count(b"\x89"))]
        assert {pong.opcode for pong in pongs} == {PONG}
        assert [pong.payload for pong in pongs if pong.payload] == [b"hi", b"hi"]
        assert [event for event in listener.events if event[0] == PING] == []


async def test_without_auto_pong_a_ping_is_the_listeners():
    async with client(enable_auto_pong=False) as (transport, listener, peer):
        peer.send(frame(TEXT, b"a") + frame(PING, b"hi"))
        await listener.next_frame()
        assert await listener.next_frame() == (PING, b"hi")
        assert [last for _, last, _ in listener.last_flags] == [False, True]
        transport.send_pong(b"own")
        assert (await peer.read_frame()).payload == b"own"


async def test_a_pong_that_nobody_waits_for_is_the_listeners():
    async with client() as (_, listener, peer):
        peer.send(frame(PONG, b"x"))
        assert await listener.next_frame() == (PONG, b"x")


@pytest.mark.parametrize("size", [0, 125, 126, 65535, 65536, 300_000])
async def test_round_trip_of_every_length_form(size):
    payload = bytes(i * 7 % 256 for i in range(size))
    async with pair(Echo()) as (transport, listener):
        transport.send(WSMsgType.BINARY, payload)
        assert await listener.next_frame() == (BINARY, payload)


async def test_a_large_frame_passes_and_its_memory_is_given_back():
    payload = bytes(range(256)) * (8 * 1024 * 1024 // 256)
    echo = Echo()
    async with pair(echo) as (transport, listener):
        transport.send(WSMsgType.BINARY, payload)
        msg_type, received = await listener.next_frame()
        assert msg_type == BINARY
        assert received == payload
        # At once: the next read may be hours away. What a flood takes (this began like one) a small read gives back.
        assert read_buffer_capacity(transport) <= 64 * 1024
        assert read_buffer_capacity(echo.transport) <= 64 * 1024
        transport.send(WSMsgType.TEXT, b"small")
        assert await listener.next_frame() == (TEXT, b"small")
        await asyncio.sleep(0)
        assert read_buffer_capacity(transport) == 16 * 1024
        assert read_buffer_capacity(echo.transport) == 16 * 1024


async def test_read_buffer_init_size():
    async with pair(Echo(), read_buffer_init_size=1024) as (transport, listener):
        transport.send(WSMsgType.BINARY, bytes(5000))
        assert await listener.next_frame() == (BINARY, bytes(5000))
        transport.send(WSMsgType.BINARY, b"")
        await listener.next_frame()
        transport.send(WSMsgType.BINARY, b"")
        await listener.next_frame()
        assert read_buffer_capacity(transport) == 1024


async def test_a_listener_may_change_its_method_on_the_way():
    class Swapping(Recorder):
        def on_ws_frame(self, transport, frame):
            super().on_ws_frame(transport, frame)
            self.on_ws_frame = self.other

        def other(self, transport, frame):
            self.frames.put_nowait(("other", frame.get_payload_as_bytes()))

    async with client(Swapping) as (_, listener, peer):
        peer.send(frame(TEXT, b"a") + frame(TEXT, b"b"))
        assert await listener.next_frame() == (TEXT, b"a")
        assert await listener.next_frame() == ("other", b"b")


@pytest.mark.parametrize("use_aiofastnet", [False, True])
async def test_what_waits_to_be_sent_arrives_in_order_and_whole(use_aiofastnet):
    payloads = [bytes([i % 256]) * (i * 997 % 70_000) for i in range(300)]  # more than the kernel takes at once
    async with client(use_aiofastnet=use_aiofastnet) as (transport, _, peer):
        buffer = bytearray(14 + 70_000)
        for i, payload in enumerate(payloads):
            if i % 3:
                transport.send(WSMsgType.BINARY, payload)
            else:
                reused = bytearray(14) + payload
                transport.send_reuse_external_bytearray(WSMsgType.BINARY, reused, 14)
                reused[14:] = bytes(len(payload))
        assert transport.underlying_transport.get_write_buffer_size() > 0
        for payload in payloads:
            assert (await peer.read_frame()).payload == payload
        transport.send(WSMsgType.BINARY, buffer)
        assert (await peer.read_frame()).payload == buffer


@pytest.mark.parametrize("use_aiofastnet", [False, True])
async def test_a_server_sends_large_frames_in_order_and_whole(use_aiofastnet):
    payloads = [bytes([i % 256]) * (i * 997 % 70_000) for i in range(300)]
    listener = Recorder()
    server = await ws_create_server(lambda _: listener, "127.0.0.1", 0, use_aiofastnet=use_aiofastnet)
    async with upgraded_client(server.sockets[0].getsockname()[1]) as peer:
        for payload in payloads:
            listener.transport.send(WSMsgType.BINARY, payload)
        assert listener.transport.underlying_transport.get_write_buffer_size() > 0
        for payload in payloads:
            assert (await peer.read_frame()).payload == payload
    server.close()
    await listener.transport.wait_disconnected()


# ---- closing --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payload", "answer", "code", "reason"),
    [
        (b"\x03\xe9bye", b"\x03\xe9", WSCloseCode.GOING_AWAY, "bye"),
        (b"\x0f\xa0", b"\x0f\xa0", 4000, None),
        (b"", b"", WSCloseCode.NO_INFO, None),
    ],
)
async def test_a_close_that_the_listener_leaves_alone_is_answered(payload, answer, code, reason):
    async with client() as (transport, listener, peer):
        peer.send(frame(CLOSE, payload) + frame(TEXT, b"too late"))
        sent = await peer.answer_close()
        assert sent.payload == answer
        await transport.wait_disconnected()
        assert listener.events == ["connected", (CLOSE, payload), "disconnected"]
        assert transport.close_handshake.recv == (code, reason)
        assert transport.close_handshake.sent == (code, None)
        assert transport.close_handshake.recv_then_sent


async def test_a_server_disconnects_when_the_closing_handshake_is_done():
    listener = Recorder()
    server = await ws_create_server(lambda _: listener, "127.0.0.1", 0, websocket_close_timeout=None)
    async with upgraded_client(server.sockets[0].getsockname()[1]) as peer:
        peer.send(frame(CLOSE, b"\x03\xe8", mask=MASK))
        assert await peer.read_to_end() == frame(CLOSE, b"\x03\xe8")
        await listener.transport.wait_disconnected()
    server.close()


async def test_a_listener_may_answer_a_close_itself():
    class Polite(Recorder):
        def on_ws_frame(self, transport, frame):
            super().on_ws_frame(transport, frame)
            assert transport.close_handshake.recv == (1000, "bye")
            transport.send_close(frame.get_close_code(), frame.get_close_message())
            transport.disconnect()

    async with client(Polite) as (transport, _, peer):
        peer.send(frame(CLOSE, b"\x03\xe8bye"))
        assert (await peer.read_frame()).payload == b"\x03\xe8bye"
        assert await peer.read_to_end() == b""
        await transport.wait_disconnected()
        assert transport.close_handshake.recv_then_sent


async def test_disconnecting_on_a_close_answers_it_first():
    class Curt(Recorder):
        def on_ws_frame(self, transport, frame):
            transport.disconnect()

    async with client(Curt) as (transport, _, peer):
        peer.send(frame(CLOSE, b"\x03\xe8bye"))
        assert (await peer.read_frame()).payload == b"\x03\xe8"
        await transport.wait_disconnected()


async def test_a_peer_that_does_not_answer_our_close_is_disconnected():
    async with client(websocket_close_timeout=0.05) as (transport, listener, peer):
        transport.send_close(WSCloseCode.OK)
        await transport.wait_disconnected()
        assert listener.events == ["connected", "disconnected"]
        assert transport.close_handshake.recv is None
        assert (await peer.read_frame()).payload == b"\x03\xe8"


async def test_a_peer_that_does_not_read_cannot_hold_up_a_disconnect():
    async with client(websocket_close_timeout=0.05) as (transport, _, _peer):
        transport.send(WSMsgType.BINARY, bytes(20_000_000))
        transport.disconnect()
        await transport.wait_disconnected()


async def test_a_lost_connection_raises_nothing():
    async with client() as (transport, listener, peer):
        peer.writer.transport.abort()
        await transport.wait_disconnected()
        await transport.wait_disconnected()
        assert listener.events == ["connected", "disconnected"]
        assert transport.close_handshake is None


async def test_cancelling_a_waiter_cancels_nothing_else():
    async with client() as (transport, listener, peer):
        waiting = asyncio.ensure_future(transport.wait_disconnected())
        other = asyncio.ensure_future(transport.wait_disconnected())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        peer.send(frame(TEXT, b"alive"))
        assert await listener.next_frame() == (TEXT, b"alive")
        transport.disconnect()
        await other


@pytest.mark.parametrize("graceful", [True, False])
async def test_disconnect_in_every_callback(graceful):
    class Leaver(Recorder):
        def __init__(self, where):
            super().__init__()
            self.where = where

        def on_ws_connected(self, transport):
            super().on_ws_connected(transport)
            if self.where == "connected":
                transport.disconnect(graceful)

        def on_ws_frame(self, transport, frame):
            super().on_ws_frame(transport, frame)
            transport.disconnect(graceful)
            transport.disconnect(graceful)

        def on_ws_disconnected(self, transport):
            super().on_ws_disconnected(transport)
            transport.disconnect(graceful)
            transport.send(WSMsgType.TEXT, b"nobody hears this")

    for where, expected in [
        ("connected", ["connected", "disconnected"]),
        ("frame", ["connected", (TEXT, b"a"), "disconnected"]),
    ]:
        async with raw_server() as server:
            then = frame(TEXT, b"a") + frame(TEXT, b"b")
            peer_task = asyncio.ensure_future(server.upgraded_peer(then=then))
            leaver = Leaver(where)
            transport, _ = await ws_connect(lambda leaver=leaver: leaver, f"ws://127.0.0.1:{server.port}/")
            await transport.wait_disconnected()
            await peer_task
            transport.disconnect(graceful)
            assert leaver.events == expected


# ---- broken rules ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stream", "code"),
    [
        (frame(3), 1002),
        (frame(TEXT, b"", rsv=4), 1002),
        (frame(TEXT, b"", mask=MASK), 1002),
        (frame(PING, bytes(126)), 1002),
        (frame(CLOSE, b"\x03\xed"), 1002),
        (frame(CLOSE, b"\x03\xe8\xff"), 1007),
        (frame(BINARY, bytes(1001)), 1009),
    ],
)
async def test_a_broken_rule_closes_with_its_code_and_reaches_the_waiter(stream, code, caplog):
    async with client(max_frame_size=1000) as (transport, listener, peer):
        peer.send(frame(TEXT, b"good") + stream + frame(TEXT, b"never seen"))
        sent = await peer.read_frame()
        assert sent.opcode == CLOSE
        assert struct.unpack(">H", sent.payload[:2]) == (code,)
        assert await peer.read_to_end() == b""
        with pytest.raises(WSProtocolError) as info:
            await transport.wait_disconnected()
        assert info.value.code == code
        assert sent.payload[2:].decode() == info.value.message
        assert listener.events == ["connected", (TEXT, b"good"), "disconnected"]
        assert listener.last_flags[0][1]
        assert transport.close_handshake.sent == (code, info.value.message)
        assert transport.close_handshake.recv is None
    assert [record.levelno for record in caplog.records if record.name == "picows.client"] == [logging.WARNING]


async def test_an_extension_of_the_user_may_use_reserved_bits():
    async with raw_server() as server:
        peer_task = asyncio.ensure_future(
            server.upgraded_peer(extra=b"Sec-WebSocket-Extensions: x-own\r\n", then=frame(TEXT, b"z", rsv=4))
        )
        transport, listener = await ws_connect(
            Recorder, f"ws://127.0.0.1:{server.port}/", extra_headers={"Sec-WebSocket-Extensions": "x-own"}
        )
        await peer_task
        assert await listener.next_frame() == (TEXT, b"z")
        transport.disconnect()
        await transport.wait_disconnected()


# ---- exceptions of the listener -------------------------------------------------------------------


class Raiser(Recorder):
    """Raises `error` in the method called `where`, after writing down the event."""

    def __init__(self, where, error):
        super().__init__()
        self.where = where
        self.error = error

    def raise_in(self, where):
        if self.where == where:
            raise self.error

    def on_ws_connected(self, transport):
        super().on_ws_connected(transport)
        self.raise_in("on_ws_connected")

    def on_ws_frame(self, transport, frame):
        super().on_ws_frame(transport, frame)
        self.raise_in("on_ws_frame")

    def on_ws_disconnected(self, transport):
        super().on_ws_disconnected(transport)
        self.raise_in("on_ws_disconnected")

    def is_user_specific_pong(self, frame):
        self.raise_in("is_user_specific_pong")
        return super().is_user_specific_pong(frame)

    def send_user_specific_ping(self, transport):
        self.raise_in("send_user_specific_ping")
        super().send_user_specific_ping(transport)

    def pause_writing(self):
        self.events.append("pause")
        self.raise_in("pause_writing")

    def resume_writing(self):
        self.events.append("resume")
        self.raise_in("resume_writing")


async def test_an_exception_in_on_ws_frame_closes_with_1011():
    error = LookupError("no such book")
    async with client(lambda: Raiser("on_ws_frame", error)) as (transport, listener, peer):
        peer.send(frame(TEXT, b"a") + frame(TEXT, b"b"))
        assert (await peer.read_frame()).payload == b"\x03\xf3"
        assert await peer.read_to_end() == b""
        with pytest.raises(LookupError) as info:
            await transport.wait_disconnected()
        assert info.value is error
        assert listener.events == ["connected", (TEXT, b"a"), "disconnected"]


async def test_an_exception_is_only_logged_without_disconnect_on_exception(caplog):
    error = LookupError("no such book")
    async with client(lambda: Raiser("on_ws_frame", error), disconnect_on_exception=False) as (
        transport,
        listener,
        peer,
    ):
        peer.send(frame(TEXT, b"a") + frame(TEXT, b"b"))
        await listener.next_frame()
        assert await listener.next_frame() == (TEXT, b"b")
        peer.send(frame(CLOSE, b"\x03\xe8"))
        assert (await peer.answer_close()).payload == b"\x03\xe8"
        await transport.wait_disconnected()
    logged = [record.exc_info[1] for record in caplog.records if record.levelno == logging.ERROR]
    assert logged == [error] * 3


@pytest.mark.parametrize("disconnect_on_exception", [True, False])
async def test_a_listener_may_choose_the_code(disconnect_on_exception):
    error = WSProtocolError(4001, "not subscribed")
    async with client(
        lambda: Raiser("on_ws_frame", error), disconnect_on_exception=disconnect_on_exception
    ) as (transport, _, peer):  # fmt: skip
        peer.send(frame(TEXT, b"a"))
        assert (await peer.read_frame()).payload == b"\x0f\xa1not subscribed"
        with pytest.raises(WSProtocolError) as info:
            await transport.wait_disconnected()
        assert info.value is error


async def test_a_reason_too_long_for_a_close_frame_is_cut_between_characters():
    error = WSProtocolError(WSCloseCode.POLICY_VIOLATION, "ü" * 100)
    async with client(lambda: Raiser("on_ws_frame", error)) as (transport, _, peer):
        peer.send(frame(TEXT, b"a"))
        assert (await peer.read_frame()).payload == b"\x03\xf0" + "ü".encode() * 61
        with pytest.raises(WSProtocolError):
            await transport.wait_disconnected()


async def test_a_code_that_may_not_be_sent_becomes_1011():
    error = WSProtocolError(WSCloseCode.ABNORMAL_CLOSURE, "odd")
    async with client(lambda: Raiser("on_ws_frame", error)) as (transport, _, peer):
        peer.send(frame(TEXT, b"a"))
        assert (await peer.read_frame()).payload == b"\x03\xf3odd"
        with pytest.raises(WSProtocolError):
            await transport.wait_disconnected()


@pytest.mark.parametrize("disconnect_on_exception", [True, False])
async def test_an_exception_in_on_ws_connected_closes(disconnect_on_exception):
    async with client(
        lambda: Raiser("on_ws_connected", LookupError("x")), disconnect_on_exception=disconnect_on_exception
    ) as (transport, listener, peer):
        peer.send(frame(TEXT, b"a"))
        assert (await peer.read_frame()).payload == b"\x03\xf3"
        with pytest.raises(LookupError):
            await transport.wait_disconnected()
        assert listener.events == ["connected", "disconnected"]


async def test_an_exception_in_on_ws_disconnected_reaches_the_waiter():
    async with client(lambda: Raiser("on_ws_disconnected", LookupError("x"))) as (transport, _, peer):
        await peer.close()
        with pytest.raises(LookupError):
            await transport.wait_disconnected()


async def test_the_first_exception_is_the_one_that_is_raised():
    class Twice(Raiser):
        def on_ws_disconnected(self, transport):
            raise KeyError("second")

    async with client(lambda: Twice("on_ws_frame", LookupError("first"))) as (transport, _, peer):
        peer.send(frame(TEXT, b"a"))
        with pytest.raises(LookupError, match="first"):
            await transport.wait_disconnected()


async def test_a_frame_is_delivered_before_the_exception_about_the_one_behind_it():
    async with client(lambda: Raiser("is_user_specific_pong", LookupError("x"))) as (transport, listener, peer):
        measuring = asyncio.ensure_future(transport.measure_roundtrip_time(1))
        await peer.read_frame()
        listener.where = None
        peer.send(frame(TEXT, b"a"))
        await listener.next_frame()
        listener.where = "is_user_specific_pong"
        listener.is_asked_about_text = False
        peer.send(frame(PONG) + frame(TEXT, b"never seen"))
        with pytest.raises(ConnectionResetError):
            await measuring
        with pytest.raises(LookupError):
            await transport.wait_disconnected()
        assert listener.events == ["connected", (TEXT, b"a"), "disconnected"]


async def test_writing_pauses_and_resumes():
    async with client(lambda: Raiser(None, None)) as (transport, listener, peer):
        transport.send(WSMsgType.BINARY, bytes(9_000_000))
        transport.send(WSMsgType.BINARY, bytes(1_000_000))
        assert listener.events == ["connected", "pause"]
        await peer.read_frame()
        await peer.read_frame()
        peer.send(frame(TEXT, b"all read"))
        await listener.next_frame()
        assert listener.events[:3] == ["connected", "pause", "resume"]


async def test_pings_are_not_answered_without_end_to_a_peer_that_does_not_read():
    async with client(lambda: Raiser(None, None)) as (transport, listener, peer):
        transport.send(WSMsgType.BINARY, bytes(9_000_000))
        waiting = transport.underlying_transport.get_write_buffer_size()
        peer.send(frame(PING, bytes(125)) * 2000 + frame(TEXT, b"done"))
        await listener.next_frame()
        assert transport.underlying_transport.get_write_buffer_size() <= waiting


async def test_an_exception_in_pause_writing_closes():
    async with client(lambda: Raiser("pause_writing", LookupError("x"))) as (transport, _, peer):
        transport.send(WSMsgType.BINARY, bytes(9_000_000))
        assert (await peer.read_frame()).payload == bytes(9_000_000)
        assert (await peer.read_frame()).payload == b"\x03\xf3"
        with pytest.raises(LookupError):
            await transport.wait_disconnected()
