from __future__ import annotations

import asyncio
import weakref

import pytest

from picows import WSCloseCode, WSMsgType
from tests.picows.recorder import Recorder
from tests.picows.test_protocol import client
from tests.picows.wire import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, frame

# ---- send -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "payload"),
    [
        (b"abc", b"abc"),
        (bytearray(b"abc"), b"abc"),
        (memoryview(b"xabcx")[1:4], b"abc"),
        ("grün", "grün".encode()),
        ("", b""),
        (None, b""),
        (bytes(126), bytes(126)),
        (bytes(70_000), bytes(70_000)),
    ],
)
async def test_messages_of_every_type(message, payload):
    async with client() as (transport, _, peer):
        transport.send(WSMsgType.BINARY, message)
        sent = await peer.read_frame()
        assert (sent.opcode, sent.fin, sent.rsv, sent.payload) == (BINARY, True, 0, payload)


async def test_what_is_sent_is_a_copy():
    async with client() as (transport, _, peer):
        buffer = bytearray(b"before")
        transport.send(WSMsgType.TEXT, buffer)
        buffer[:] = b"after!"
        assert (await peer.read_frame()).payload == b"before"


async def test_a_client_masks_each_frame_anew():
    async with client() as (transport, _, peer):
        for _ in range(3):
            transport.send(WSMsgType.TEXT, bytes(8))
        raw = [await peer.reader.readexactly(14) for _ in range(3)]
        assert all(data[1] == 0x80 | 8 for data in raw)
        assert all(data[2:6] * 2 == data[6:] for data in raw)
        assert len({data[2:6] for data in raw}) == 3


async def test_fragments_and_flags():
    async with client() as (transport, _, peer):
        transport.send(WSMsgType.TEXT, b"a", fin=False, rsv1=True)
        transport.send(WSMsgType.CONTINUATION, b"b", rsv2=True, rsv3=True)
        first, second = await peer.read_frame(), await peer.read_frame()
        assert (first.opcode, first.fin, first.rsv) == (TEXT, False, 4)
        assert (second.opcode, second.fin, second.rsv) == (CONTINUATION, True, 3)


async def test_ping_and_pong():
    async with client() as (transport, _, peer):
        transport.send_ping()
        transport.send_ping("now")
        transport.send_pong(bytes(125))
        sent = [await peer.read_frame() for _ in range(3)]
        assert [(f.opcode, f.payload) for f in sent] == [(PING, b""), (PING, b"now"), (PONG, bytes(125))]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda t: t.send(WSMsgType.CLOSE, b"\x03\xe8"), ValueError, "send_close"),
        (lambda t: t.send(5, b""), ValueError, "expected a WSMsgType, found 5"),
        (lambda t: t.send(-1, b""), OverflowError, "negative"),
        (lambda t: t.send(16, b""), ValueError, "expected a WSMsgType, found 16"),
        (lambda t: t.send(WSMsgType.PING, b"", fin=False), ValueError, "cannot be fragmented"),
        (lambda t: t.send_ping(bytes(126)), ValueError, "at most 125 bytes in a control frame, found 126"),
        (lambda t: t.send_pong(bytearray(126)), ValueError, "at most 125 bytes in a control frame, found 126"),
        (lambda t: t.send(WSMsgType.TEXT, 5), TypeError, "bytes-like"),
        (lambda t: t.send(WSMsgType.TEXT, "\ud800"), UnicodeEncodeError, "surrogates"),
        (lambda t: t.send_close(WSCloseCode.ABNORMAL_CLOSURE), ValueError, "found 1006"),
        (lambda t: t.send_close(1005), ValueError, "found 1005"),
        (lambda t: t.send_close(999), ValueError, "found 999"),
        (lambda t: t.send_close(close_message=b"why"), ValueError, "without a code"),
        (lambda t: t.send_close(1000, bytes(124)), ValueError, "at most 123 bytes, found 124"),
        (lambda t: t.send_close(1000, b"\xff"), UnicodeDecodeError, "invalid start byte"),
        (
            lambda t: t.send_reuse_external_bytearray(WSMsgType.TEXT, bytearray(20), 13),
            ValueError,
            "expected 14 bytes or more in front of the message, found 13",
        ),
        (
            lambda t: t.send_reuse_external_bytearray(WSMsgType.TEXT, bytearray(20), 21),
            ValueError,
            "within 20 bytes, found it at offset 21",
        ),
        (lambda t: t.send_reuse_external_bytearray(WSMsgType.CLOSE, bytearray(20), 14), ValueError, "send_close"),
    ],
)
async def test_what_may_not_be_sent(call, error, message):
    async with client() as (transport, _, peer):
        with pytest.raises(error, match=message):
            call(transport)
        transport.send(WSMsgType.TEXT, b"nothing was sent before")
        assert (await peer.read_frame()).payload == b"nothing was sent before"
        assert not transport.is_close_frame_sent


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536])
async def test_a_reused_buffer(size):
    async with client() as (transport, _, peer):
        buffer = bytearray(20) + bytes(i % 256 for i in range(size))
        transport.send_reuse_external_bytearray(WSMsgType.BINARY, buffer, 20)
        buffer[:] = bytes(len(buffer))  # the next message, while the first may still wait
        sent = await peer.read_frame()
        assert (sent.opcode, sent.payload) == (BINARY, bytes(i % 256 for i in range(size)))


async def test_every_call_from_another_thread_is_refused():
    def calls(transport):
        for call in (
            lambda: transport.send(WSMsgType.TEXT, b""),
            lambda: transport.send_reuse_external_bytearray(WSMsgType.TEXT, bytearray(14), 14),
            transport.send_ping,
            transport.send_pong,
            transport.send_close,
            transport.disconnect,
        ):
            with pytest.raises(RuntimeError, match="outside the thread of the event loop"):
                call()

    async with client() as (transport, _, peer):
        await asyncio.get_running_loop().run_in_executor(None, calls, transport)
        transport.send(WSMsgType.TEXT, b"unharmed")
        assert (await peer.read_frame()).payload == b"unharmed"


# ---- after a CLOSE, after a disconnect ------------------------------------------------------------


async def test_nothing_follows_a_close():
    async with client() as (transport, _, peer):
        transport.send_close(WSCloseCode.OK, "done")
        assert transport.is_close_frame_sent
        transport.send(WSMsgType.TEXT, b"late")
        transport.send_ping()
        transport.send_close(WSCloseCode.GOING_AWAY)
        transport.send_reuse_external_bytearray(WSMsgType.TEXT, bytearray(20), 14)
        transport.disconnect()
        assert (await peer.read_frame()).payload == b"\x03\xe8done"
        assert await peer.read_to_end() == b""
        assert transport.close_handshake.sent == (WSCloseCode.OK, "done")


async def test_a_close_without_a_code_has_no_payload():
    async with client() as (transport, _, peer):
        transport.send_close()
        sent = await peer.read_frame()
        assert (sent.opcode, sent.payload) == (CLOSE, b"")
        assert transport.close_handshake.sent == (WSCloseCode.NO_INFO, None)


async def test_frames_go_on_arriving_after_our_close():
    async with client() as (transport, listener, peer):
        transport.send_close(WSCloseCode.OK)
        peer.send(frame(TEXT, b"the rest") + frame(PING))
        assert await listener.next_frame() == (TEXT, b"the rest")
        peer.send(frame(CLOSE, b"\x03\xe8"))
        await peer.read_frame()
        await peer.close()
        await transport.wait_disconnected()


async def test_a_graceful_disconnect_sends_what_was_written():
    async with client() as (transport, _, peer):
        transport.send(WSMsgType.BINARY, bytes(5_000_000))
        transport.disconnect()
        transport.send(WSMsgType.TEXT, b"late")
        assert (await peer.read_frame()).payload == bytes(5_000_000)
        assert await peer.read_to_end() == b""
        await transport.wait_disconnected()


async def test_calls_on_a_dead_connection_do_nothing():
    async with client() as (transport, _, peer):
        await peer.close()
        await transport.wait_disconnected()
        transport.send(WSMsgType.TEXT, b"")
        transport.send_close(WSCloseCode.OK)
        transport.disconnect()
        transport.disconnect(graceful=False)
        transport.notify_user_specific_pong_received()
        assert not transport.is_close_frame_sent
        with pytest.raises(ConnectionResetError, match="the connection is closed"):
            await transport.measure_roundtrip_time(1)


# ---- roundtrip time -------------------------------------------------------------------------------


async def test_roundtrip_times_are_measured_and_their_pongs_consumed():
    async with client() as (transport, listener, peer):
        measuring = asyncio.ensure_future(transport.measure_roundtrip_time(3))
        for _ in range(3):
            assert (await peer.read_frame()).opcode == PING
            peer.send(frame(PONG) + frame(TEXT, b"data"))
        times = await measuring
        assert len(times) == 3
        assert all(0 < time < 10 for time in times)
        assert {await listener.next_frame() for _ in range(3)} == {(TEXT, b"data")}
        assert listener.frames.empty()


async def test_two_measurements_at_once_take_turns():
    async with client() as (transport, _, peer):
        both = asyncio.gather(transport.measure_roundtrip_time(2), transport.measure_roundtrip_time(2))
        for _ in range(4):
            assert (await peer.read_frame()).opcode == PING
            peer.send(frame(PONG))
        assert [len(times) for times in await both] == [2, 2]


async def test_a_user_specific_ping():
    class Asking(Recorder):
        def send_user_specific_ping(self, transport):
            transport.send(WSMsgType.TEXT, b"ping")

        def is_user_specific_pong(self, frame):
            return frame.get_payload_as_bytes() == b"pong"

    async with client(Asking) as (transport, listener, peer):
        peer.send(frame(TEXT, b"pong"))
        assert await listener.next_frame() == (TEXT, b"pong")  # nobody asked for it
        measuring = asyncio.ensure_future(transport.measure_roundtrip_time(1))
        assert (await peer.read_frame()).payload == b"ping"
        peer.send(frame(TEXT, b"data") + frame(TEXT, b"pong"))
        assert len(await measuring) == 1
        assert await listener.next_frame() == (TEXT, b"data")
        assert listener.last_flags[-1] == (b"data", True, 6)
        assert listener.frames.empty()


async def test_a_pong_that_no_single_frame_is():
    async with client() as (transport, _, peer):
        measuring = asyncio.ensure_future(transport.measure_roundtrip_time(1))
        await peer.read_frame()
        transport.notify_user_specific_pong_received()
        assert len(await measuring) == 1


async def test_a_measurement_ends_with_the_connection():
    async with client() as (transport, _, peer):
        measuring = asyncio.ensure_future(transport.measure_roundtrip_time(5))
        await peer.read_frame()
        await peer.close()
        with pytest.raises(ConnectionResetError, match="before the pong arrived"):
            await measuring
        await transport.wait_disconnected()


async def test_a_ping_that_cannot_be_sent_leaves_nothing_waiting():
    class Broken(Recorder):
        def send_user_specific_ping(self, transport):
            raise LookupError("no ping")

    async with client(Broken) as (transport, listener, peer):
        with pytest.raises(LookupError, match="no ping"):
            await transport.measure_roundtrip_time(1)
        peer.send(frame(PONG))
        assert await listener.next_frame() == (PONG, b"")


async def test_transports_and_listeners_can_be_referenced_weakly():
    async with client() as (transport, listener, _):
        assert weakref.ref(transport)() is transport
        assert weakref.ref(listener)() is listener
