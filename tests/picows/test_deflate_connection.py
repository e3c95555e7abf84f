"""permessage-deflate on a connection: what a listener sees, and what is on the wire."""

from __future__ import annotations

import asyncio
import zlib
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from picows import (
    WSDeflateConfig,
    WSInvalidHeaderError,
    WSListener,
    WSMsgType,
    WSProtocolError,
    ws_connect,
    ws_create_server,
)
from picows.assembler import MessageAssembler
from picows.deflate import Deflater, Inflater
from picows.parser import FrameParser
from tests.picows.recorder import Echo, Recorder
from tests.picows.wire import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, frame, raw_client, raw_server, request

MASK = b"\x0a\x0b\x0c\x0d"
AGREED = b"Sec-WebSocket-Extensions: permessage-deflate\r\n"
RSV1 = 4


@asynccontextmanager
async def client(listener_factory=Recorder, *, extra=AGREED, permessage_deflate=True, **kwargs):
    """`(transport, listener, peer)` of a client that has agreed on permessage-deflate with a peer by hand."""
    async with raw_server() as server:
        peer_task = asyncio.ensure_future(server.upgraded_peer(extra=extra))
        url = f"ws://127.0.0.1:{server.port}/"
        transport, listener = await ws_connect(listener_factory, url, permessage_deflate=permessage_deflate, **kwargs)
        try:
            yield transport, listener, await peer_task
        finally:
            transport.disconnect(graceful=False)


@asynccontextmanager
async def pair(server_option, client_option, listener=None):
    """`(transport, listener)` of our client, connected to our echo server."""
    echo = Echo() if listener is None else listener
    server = await ws_create_server(lambda _: echo, "127.0.0.1", 0, permessage_deflate=server_option)
    port = server.sockets[0].getsockname()[1]
    transport, received = await ws_connect(Recorder, f"ws://127.0.0.1:{port}/", permessage_deflate=client_option)
    try:
        yield transport, received
    finally:
        transport.disconnect(graceful=False)
        await echo.transport.wait_disconnected()
        server.close()


# ---- the parser -----------------------------------------------------------------------------------


def compressed_stream(messages, **options):
    """`messages`, each a list of fragments, as a server sends them; a ping between any two frames."""
    deflater = Deflater(**options)
    stream = b""
    for fragments in messages:
        for i, fragment in enumerate(fragments):
            fin = i == len(fragments) - 1
            payload = deflater.deflate(fragment, i == 0, fin)
            rsv = 0 if payload is None or i else RSV1
            stream += frame(CONTINUATION if i else BINARY, fragment if payload is None else payload, fin=fin, rsv=rsv)
            stream += frame(PING, b"p")
    return stream


def shown(parser):
    frames = []
    while (found := parser.next_frame_or_none()) is not None:
        assert (found.rsv1, found.rsv2, found.rsv3) == (0, 0, 0)
        frames.append((int(found.msg_type), bool(found.fin), found.get_payload_as_bytes()))
    return frames


def expected_frames(messages):
    frames = []
    for fragments in messages:
        for i, fragment in enumerate(fragments):
            frames.append((CONTINUATION if i else BINARY, i == len(fragments) - 1, fragment))
            frames.append((PING, True, b"p"))
    return frames


MESSAGES = [[b"abc" * 50], [b""], [b"x"], [b"abc" * 40, b"", b"def" * 2000], [b"abc" * 50]]


def test_frames_are_shown_as_if_they_had_been_sent_uncompressed():
    parser = FrameParser(False, reserved_bits=0x40, inflater=Inflater())
    parser.feed(compressed_stream(MESSAGES, threshold=10))
    assert shown(parser) == expected_frames(MESSAGES)


@pytest.mark.parametrize("cut", range(len(compressed_stream(MESSAGES))))
def test_the_parser_does_not_care_where_reads_end(cut):
    stream = compressed_stream(MESSAGES)
    parser = FrameParser(False, buffer_size=256, reserved_bits=0x40, inflater=Inflater())
    parser.feed(stream[:cut])
    frames = shown(parser)
    parser.feed(stream[cut:])
    assert frames + shown(parser) == expected_frames(MESSAGES)


@given(st.lists(st.lists(st.binary(max_size=600), min_size=1, max_size=4), max_size=6), st.booleans())
def test_any_messages_come_out(messages, keeps_context):
    parser = FrameParser(False, reserved_bits=0x40, inflater=Inflater(keeps_context=keeps_context))
    parser.feed(compressed_stream(messages, keeps_context=keeps_context, threshold=20))
    assert shown(parser) == expected_frames(messages)


def test_a_memoryview_outlives_the_frame():
    parser = FrameParser(False, reserved_bits=0x40, inflater=Inflater())
    parser.feed(compressed_stream([[b"first" * 20], [b"other" * 20]]))
    view = parser.next_frame_or_none().get_payload_as_memoryview()
    assert [payload for _, _, payload in shown(parser)] == [b"p", b"other" * 20, b"p"]
    assert bytes(view) == b"first" * 20


def test_a_broken_message_stops_the_parser_behind_what_was_right():
    parser = FrameParser(False, reserved_bits=0x40, inflater=Inflater())
    parser.feed(frame(TEXT, b"good") + frame(TEXT, b"\xff\xff", rsv=RSV1) + frame(TEXT, b"never seen"))
    assert parser.next_frame_or_none().get_payload_as_bytes() == b"good"
    for _ in range(2):
        with pytest.raises(WSProtocolError, match="not DEFLATE data"):
            parser.next_frame_or_none()


@pytest.mark.parametrize(
    "stream",
    [
        frame(PING, b"", rsv=RSV1),
        frame(CLOSE, b"", rsv=RSV1),
        frame(TEXT, b"\x00", fin=False, rsv=RSV1) + frame(CONTINUATION, b"", rsv=RSV1),
        frame(TEXT, b"", fin=False) + frame(CONTINUATION, b"", rsv=RSV1),
        frame(TEXT, b"\x00", rsv=RSV1 | 2),
        frame(TEXT, b"\x00", rsv=1),
    ],
)
def test_where_rsv1_may_not_be_set(stream):
    parser = FrameParser(False, reserved_bits=0x40, inflater=Inflater())
    parser.feed(stream)
    with pytest.raises(WSProtocolError, match="reserved bits") as info:
        shown(parser)
    assert info.value.code == 1002


# ---- receiving ------------------------------------------------------------------------------------


async def test_compressed_and_other_frames_reach_the_listener_alike():
    class Flags(Recorder):
        def on_ws_frame(self, transport, frame):
            super().on_ws_frame(transport, frame)
            self.events.append((bool(frame.fin), frame.rsv1, frame.last_in_buffer))

    async with client(Flags) as (_, listener, peer):
        deflater = Deflater()
        peer.send(
            frame(TEXT, deflater.deflate(b"a" * 100), rsv=RSV1)
            + frame(TEXT, b"plain")
            + frame(TEXT, deflater.deflate(b"a" * 60, True, False), fin=False, rsv=RSV1)
            + frame(PING, b"")
            + frame(CONTINUATION, deflater.deflate(b"b", False, True))
        )
        for _ in range(4):
            await listener.next_frame()
        assert listener.events[1:] == [
            (TEXT, b"a" * 100), (True, 0, 0), (TEXT, b"plain"), (True, 0, 0),
            (TEXT, b"a" * 60), (False, 0, 0), (CONTINUATION, b"b"), (True, 0, 1),
        ]  # fmt: skip


async def test_a_pong_of_the_users_may_be_compressed():
    class Exchange(Recorder):
        def send_user_specific_ping(self, transport):
            transport.send(WSMsgType.TEXT, b'{"op":"ping"}')

        def is_user_specific_pong(self, frame):
            return frame.msg_type == TEXT and frame.get_payload_as_bytes() == b'{"op":"pong"}'

    async with client(Exchange) as (transport, listener, peer):
        deflater = Deflater()

        def message(payload):
            return frame(TEXT, deflater.deflate(payload), rsv=RSV1)

        for _ in range(3):
            measuring = asyncio.ensure_future(transport.measure_roundtrip_time(1))
            await peer.read_frame()
            book, pong = b'{"bids":[1,2,3]}', b'{"op":"pong"}'
            peer.send(message(book) + message(pong) + message(book) + message(book + b"\n"))
            assert [await listener.next_frame() for _ in range(3)] == [(TEXT, book), (TEXT, book), (TEXT, book + b"\n")]
            assert len(await measuring) == 1
        measuring = asyncio.ensure_future(transport.measure_roundtrip_time(1))
        await peer.read_frame()
        peer.send(message(b"waiting") + message(b"still") + message(pong) + message(pong))
        assert [await listener.next_frame() for _ in range(3)] == [(TEXT, b"waiting"), (TEXT, b"still"), (TEXT, pong)]
        assert [last for _, last, _ in listener.last_flags[-3:]] == [False, False, True]
        await measuring


@pytest.mark.parametrize("is_ping_awaited", [False, True])
@pytest.mark.parametrize(
    ("payload", "code"),
    [(b"\xff\xff", 1007), (Deflater().deflate(bytes(100_001)), 1009), (b"\x03\x00" * 50, 1007)],
)
async def test_what_cannot_be_inflated_closes_the_connection(payload, code, is_ping_awaited):
    config = WSDeflateConfig(max_message_size=100_000)
    async with client(permessage_deflate=config) as (transport, listener, peer):
        if is_ping_awaited:  # then the parser is asked about the frame ahead
            measuring = asyncio.ensure_future(transport.measure_roundtrip_time(1))
            await peer.read_frame()
        peer.send(frame(TEXT, b"good") + frame(TEXT, payload, rsv=RSV1) + frame(TEXT, b"never seen"))
        sent = await peer.read_frame()
        assert (sent.opcode, sent.payload[:2]) == (CLOSE, code.to_bytes(2, "big"))
        assert await peer.read_to_end() == b""
        with pytest.raises(WSProtocolError) as info:
            await transport.wait_disconnected()
        assert info.value.code == code
        assert listener.events == ["connected", (TEXT, b"good"), "disconnected"]
        if is_ping_awaited:
            with pytest.raises(ConnectionResetError):
                await measuring


async def test_text_that_is_not_utf8_when_inflated_is_found_by_an_assembler():
    class Assembling(WSListener):
        def __init__(self):
            self.assembler = MessageAssembler()

        def on_ws_frame(self, transport, frame):
            self.assembler.add_frame(frame)

    async with client(Assembling) as (transport, _, peer):
        peer.send(frame(TEXT, Deflater().deflate(b"\xff" * 100), rsv=RSV1))
        assert (await peer.read_frame()).payload[:2] == b"\x03\xef"
        with pytest.raises(WSProtocolError):
            await transport.wait_disconnected()


async def test_without_agreement_rsv1_stays_forbidden():
    async with client(extra=b"") as (transport, _, peer):
        transport.send(WSMsgType.TEXT, b"a" * 1000)
        assert (await peer.read_frame()).rsv == 0
        peer.send(frame(TEXT, b"\x00", rsv=RSV1))
        assert (await peer.read_frame()).payload[:2] == b"\x03\xea"
        with pytest.raises(WSProtocolError):
            await transport.wait_disconnected()


async def test_a_user_may_still_speak_the_extension_without_us():
    headers = {"Sec-WebSocket-Extensions": "permessage-deflate"}
    async with client(extra_headers=headers, permessage_deflate=None) as (transport, listener, peer):
        payload = Deflater().deflate(b"a" * 100)
        peer.send(frame(TEXT, payload, rsv=RSV1))
        assert await listener.next_frame() == (TEXT, payload)
        transport.send(WSMsgType.TEXT, payload, rsv1=True)
        sent = await peer.read_frame()
        assert (sent.rsv, sent.payload) == (RSV1, payload)


async def test_a_response_that_goes_beyond_the_offer_fails_the_connection():
    with pytest.raises(WSInvalidHeaderError, match="expected server_max_window_bits up to 10, found 15"):
        async with client(permessage_deflate=WSDeflateConfig(server_max_window_bits=10)):
            pass


# ---- sending --------------------------------------------------------------------------------------


async def test_what_is_sent_is_compressed():
    async with client() as (transport, _, peer):
        inflater = Inflater()
        message = b'{"op":"subscribe"}' * 20
        buffer = bytearray(20) + message
        transport.send(WSMsgType.TEXT, message)
        transport.send_reuse_external_bytearray(WSMsgType.BINARY, buffer, 20)
        transport.send(WSMsgType.TEXT, b"short")
        transport.send(WSMsgType.TEXT, b"first ", fin=False)
        transport.send_ping(b"p" * 125)
        transport.send(WSMsgType.CONTINUATION, b"", fin=False)
        transport.send(WSMsgType.CONTINUATION, b"last")
        sent = [await peer.read_frame() for _ in range(7)]
        assert [(f.opcode, f.fin, f.rsv) for f in sent] == [
            (TEXT, True, RSV1), (BINARY, True, RSV1), (TEXT, True, 0), (TEXT, False, RSV1), (PING, True, 0),
            (CONTINUATION, False, 0), (CONTINUATION, True, 0),
        ]  # fmt: skip
        assert [inflater.inflate(sent[i].payload, sent[i].fin) for i in (0, 1, 3, 5, 6)] == [
            message, message, b"first ", b"", b"last",
        ]  # fmt: skip
        assert len(sent[1].payload) < len(sent[0].payload) < len(message)
        assert (sent[2].payload, sent[4].payload) == (b"short", b"p" * 125)


async def test_rsv1_is_not_the_callers_to_set():
    async with client() as (transport, _, peer):
        with pytest.raises(ValueError, match="rsv1"):
            transport.send(WSMsgType.TEXT, b"x", rsv1=True)
        with pytest.raises(ValueError, match="rsv1"):
            transport.send_reuse_external_bytearray(WSMsgType.TEXT, bytearray(20), 14, rsv1=True)
        transport.send_pong(b"unharmed")
        assert (await peer.read_frame()).payload == b"unharmed"


async def test_the_parameters_of_the_response_are_kept():
    extra = b"Sec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover; client_max_window_bits=9\r\n"
    async with client(extra=extra) as (transport, _, peer):
        for _ in range(2):
            transport.send(WSMsgType.TEXT, b"0123456789abcdef" * 20)
        first, second = await peer.read_frame(), await peer.read_frame()
        assert first.payload == second.payload
        assert zlib.decompressobj(-9).decompress(first.payload + b"\x00\x00\xff\xff") == b"0123456789abcdef" * 20


async def test_nothing_is_compressed_behind_a_close():
    async with client() as (transport, _, peer):
        transport.send_close(1000)
        transport.send(WSMsgType.TEXT, b"too late" * 100)
        assert (await peer.read_frame()).opcode == CLOSE
        peer.send(frame(CLOSE, b"\x03\xe8"))
        await peer.close()
        await transport.wait_disconnected()


# ---- a server of ours -----------------------------------------------------------------------------


async def test_a_server_answers_an_offer_and_the_first_frames_behind_it():
    echo = Echo()
    option = WSDeflateConfig(threshold=0)
    server = await ws_create_server(lambda _: echo, "127.0.0.1", 0, permessage_deflate=option)
    async with raw_client(server.sockets[0].getsockname()[1]) as peer:
        first = frame(TEXT, Deflater().deflate(b"early" * 10), rsv=RSV1, mask=MASK)
        peer.send(request(Sec_WebSocket_Extensions=b"permessage-deflate; server_max_window_bits=10") + first)
        head = await peer.reader.readuntil(b"\r\n\r\n")
        assert b"\r\nSec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=10\r\n" in head
        sent = await peer.read_frame()
        assert sent.rsv == RSV1
        assert Inflater().inflate(sent.payload) == b"early" * 10
    await echo.transport.wait_disconnected()
    server.close()


OPTIONS = [
    None,
    True,
    WSDeflateConfig(server_max_window_bits=9, client_max_window_bits=9, memory_level=1),
    WSDeflateConfig(server_no_context_takeover=True, client_no_context_takeover=True, threshold=0),
]


@pytest.mark.parametrize("client_option", OPTIONS)
@pytest.mark.parametrize("server_option", OPTIONS)
async def test_round_trips_between_us_under_any_options(server_option, client_option):
    async with pair(server_option, client_option) as (transport, listener):
        agreed = "Sec-WebSocket-Extensions" in transport.response.headers
        assert agreed == (server_option is not None and client_option is not None)
        for payload in (b"", b"a" * 500, bytes(range(256)) * 300, b"a" * 500):
            transport.send(WSMsgType.BINARY, payload)
            assert await listener.next_frame() == (BINARY, payload)
            transport.send(WSMsgType.TEXT, payload[:100], fin=False)
            transport.send(WSMsgType.CONTINUATION, payload[100:])
            assert [await listener.next_frame() for _ in range(2)] == [
                (TEXT, payload[:100]), (CONTINUATION, payload[100:]),
            ]  # fmt: skip
        transport.send_ping(b"?")
        assert await listener.next_frame() == (PONG, b"?")


async def test_a_wrong_option_is_refused_at_once():
    with pytest.raises(TypeError, match="permessage_deflate"):
        await ws_create_server(lambda _: None, "127.0.0.1", 0, permessage_deflate="yes")
    with pytest.raises(TypeError, match="permessage_deflate"):
        await ws_connect(Recorder, "ws://127.0.0.1:1/", permessage_deflate=15)
