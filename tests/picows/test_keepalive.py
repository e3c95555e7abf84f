from __future__ import annotations

import asyncio

import pytest

from picows import WSAutoPingStrategy
from picows.keepalive import Keepalive
from tests.picows.recorder import Recorder
from tests.picows.test_protocol import Raiser, client
from tests.picows.wire import CLOSE, PING, PONG, TEXT, frame

AUTO_PING = {"enable_auto_ping": True, "auto_ping_idle_timeout": 0.02, "auto_ping_reply_timeout": 5}
SILENT = {**AUTO_PING, "auto_ping_reply_timeout": 0.02}


async def test_an_idle_connection_is_pinged_again_and_again():
    async with client(**AUTO_PING) as (transport, listener, peer):
        for _ in range(3):
            assert (await peer.read_frame()).opcode == PING
            peer.send(frame(PONG))
        peer.send(frame(TEXT, b"x"))
        assert await listener.next_frame() == (TEXT, b"x")
        assert not transport.is_disconnected
        assert listener.events == ["connected", (TEXT, b"x")]


async def test_a_peer_without_pong_is_disconnected():
    async with client(**SILENT) as (transport, listener, peer):
        assert (await peer.read_frame()).opcode == PING
        sent = await peer.read_frame()
        assert (sent.opcode, sent.payload) == (CLOSE, b"\x03\xe9no pong")
        assert await peer.read_to_end() == b""
        await transport.wait_disconnected()
        assert listener.events == ["connected", "disconnected"]


async def test_data_counts_as_life_but_not_as_the_pong():
    async with client(**SILENT) as (transport, _, peer):
        assert (await peer.read_frame()).opcode == PING
        peer.send(frame(TEXT, b"not a pong"))
        assert (await peer.read_frame()).opcode == CLOSE
        await transport.wait_disconnected()


class FakeConnection:
    """A protocol and its transport, for as much as a Keepalive asks of them."""

    def __init__(self, idle_times):
        self.transport = self
        self.idle_times = iter(idle_times)
        self.asked = 0
        self.pinged = asyncio.Event()

    def idle_seconds(self):
        self.asked += 1
        return next(self.idle_times)

    def ping_once(self):
        self.pinged.set()
        return asyncio.get_running_loop().create_future()


async def test_incoming_data_keeps_ping_when_idle_quiet():
    connection = FakeConnection([0.0, 0.0005, 0.0, 0.0009, 0.5])
    keepalive = Keepalive(connection, 0.001, 5, WSAutoPingStrategy.PING_WHEN_IDLE)
    await connection.pinged.wait()
    assert connection.asked == 5
    keepalive.stop()


async def test_ping_periodically_does_not_ask():
    connection = FakeConnection([])
    keepalive = Keepalive(connection, 0.001, 5, WSAutoPingStrategy.PING_PERIODICALLY)
    await connection.pinged.wait()
    assert connection.asked == 0
    keepalive.stop()


async def test_every_read_ends_the_idle_time():
    async with client(**{**AUTO_PING, "auto_ping_idle_timeout": 60}) as (transport, listener, peer):
        protocol = transport.underlying_transport.get_protocol()
        before = protocol.last_read_ns
        peer.send(frame(TEXT, b"x"))
        await listener.next_frame()
        assert protocol.last_read_ns > before > 0
        assert 0 <= protocol.idle_seconds() < 60


async def test_ping_periodically_pings_in_spite_of_data():
    async with client(auto_ping_strategy=WSAutoPingStrategy.PING_PERIODICALLY, **AUTO_PING) as (_, _listener, peer):
        for _ in range(3):
            assert (await peer.read_frame()).opcode == PING
            peer.send(frame(TEXT, b"tick") + frame(PONG))


async def test_a_user_specific_ping_is_used():
    class Asking(Recorder):
        def send_user_specific_ping(self, transport):
            transport.send(1, b'{"op":"ping"}')

        def is_user_specific_pong(self, frame):
            return frame.get_payload_as_bytes() == b'{"op":"pong"}'

    async with client(Asking, **AUTO_PING) as (_, listener, peer):
        for _ in range(2):
            assert (await peer.read_frame()).payload == b'{"op":"ping"}'
            peer.send(frame(TEXT, b'{"op":"pong"}'))
        assert listener.events == ["connected"]


async def test_a_ping_that_raises_is_a_failure_of_the_listener():
    async with client(lambda: Raiser("send_user_specific_ping", LookupError("x")), **AUTO_PING) as (transport, _, peer):
        assert (await peer.read_frame()).payload == b"\x03\xf3"
        with pytest.raises(LookupError):
            await transport.wait_disconnected()


async def test_a_measurement_shares_the_pong():
    async with client(**AUTO_PING) as (transport, _, peer):
        assert (await peer.read_frame()).opcode == PING
        measuring = asyncio.ensure_future(transport.measure_roundtrip_time(1))
        await asyncio.sleep(0)
        peer.send(frame(PONG))
        assert (await peer.read_frame()).opcode == PING
        peer.send(frame(PONG))
        assert len(await measuring) == 1
