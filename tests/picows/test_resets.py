"""Resets that arrive together with data, which an event loop may see as one event."""

from __future__ import annotations

import asyncio
import socket

import pytest

from picows import WSTransport, resets, ws_create_server
from picows.resets import MAX_IDLE_READS, ResetWatch, watch_resets
from tests.hostile.peer import Victim, connect

fast_or_not = pytest.mark.parametrize("use_aiofastnet", [False, True])


class Unhurried(Victim):
    """Counts the bytes that it gets."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def on_ws_frame(self, transport, frame):
        super().on_ws_frame(transport, frame)
        self.bytes += frame.payload_size


async def reset_connection(victim, data, use_aiofastnet, after_reset=lambda: None):
    """A server's connection that gets `data` and a reset before the event loop has a chance to read any of it."""
    server = await ws_create_server(lambda _: victim, "127.0.0.1", 0, use_aiofastnet=use_aiofastnet)
    peer = await connect(server.sockets[0].getsockname()[1])
    await peer.upgrade()
    for frame in data:
        peer.sock.send(frame)
    peer.reset()
    after_reset()
    await asyncio.wait_for(victim.gone.wait(), 10)
    await victim.transport.wait_disconnected()
    server.close()
    await server.wait_closed()


@fast_or_not
@pytest.mark.parametrize("count", [0, 1, 10])
async def test_all_that_came_before_a_reset_is_delivered_and_then_the_connection_ends(count, use_aiofastnet):
    victim = Unhurried()
    frame = b"\x82\xfe\x13\x88\x00\x00\x00\x00" + bytes(5000)
    await reset_connection(victim, [frame] * count, use_aiofastnet)
    assert (victim.frames, victim.bytes) == (count, count * 5000)
    assert (victim.connected, victim.disconnected) == (1, 1)


@fast_or_not
async def test_a_reset_while_reading_is_paused_is_found_when_it_goes_on(use_aiofastnet):
    class Pausing(Unhurried):
        def on_ws_connected(self, transport: WSTransport) -> None:
            super().on_ws_connected(transport)
            transport.underlying_transport.pause_reading()
            self.reading_paused.set()

    victim = Pausing()

    def go_on():
        assert victim.frames == 0
        asyncio.get_running_loop().call_later(0.15, victim.resume_reading)

    await reset_connection(victim, [b"\x82\x84\x00\x00\x00\x00data"] * 3, use_aiofastnet, go_on)
    assert (victim.frames, victim.bytes) == (3, 12)


async def test_nothing_is_watched_when_all_connections_are_over():
    for _ in range(3):
        await reset_connection(Unhurried(), [], use_aiofastnet=True)
        assert asyncio.get_running_loop() not in resets._sockets


async def test_a_socket_may_be_closed_and_its_number_taken_before_the_watch_ends():
    class Stream:
        def __init__(self):
            self.near, self.far = socket.socketpair()

        def get_extra_info(self, _):
            return self.near

    Stream.__module__ = "aiofastnet.test"
    loop = asyncio.get_running_loop()
    first = Stream()
    watch = watch_resets(first)
    first.near.close()
    first.far.close()
    if watch is None:
        assert not type(loop).__module__.startswith("uvloop")
        return
    second = Stream()
    assert second.near.fileno() == watch._fd
    watch_of_second = watch_resets(second)
    watch.stop()
    assert dict(resets._sockets[loop]._watches) == {second.near.fileno(): watch_of_second}
    second.near.close()
    second.far.close()
    watch_of_second.stop()
    assert loop not in resets._sockets


async def test_transports_that_report_everything_are_not_watched():
    left, right = socket.socketpair()
    stream, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=left)
    assert watch_resets(stream) is None
    stream.close()
    right.close()


async def test_an_error_that_ends_nothing_is_let_be():
    calls = []

    class Alive:
        def is_closing(self):
            return False

        def is_reading(self):
            return True

        def pause_reading(self):
            calls.append("pause")

        def resume_reading(self):
            calls.append("resume")

    class Sockets:
        @staticmethod
        def is_readable(fd):
            return False

    watch = ResetWatch(Sockets(), Alive(), -1)
    watch.read_on()
    for _ in range(20):
        await asyncio.sleep(0)
    assert calls == ["pause", "resume"] * (MAX_IDLE_READS + 1)
