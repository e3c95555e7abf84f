"""Does a listener know when it has seen everything that has arrived?"""

from __future__ import annotations

import asyncio
import socket
import ssl
import sys
import threading
import time
from contextlib import suppress
from itertools import pairwise

import pytest

from picows import ws_connect
from tests.picows.recorder import Recorder
from tests.picows.test_network import is_asyncio_loop
from tests.picows.test_protocol import client
from tests.picows.test_tls import authority, trusting  # noqa: F401 - fixtures
from tests.picows.wire import BINARY, TEXT, frame, response_101

INIT_SIZE = 16 * 1024  # default of read_buffer_init_size


class Reads(Recorder):
    """`batches`: for each last_in_buffer frame, how many frames have been delivered with it, and is_drained()."""

    def __init__(self):
        super().__init__()
        self.batches = []
        self.count = 0

    def on_ws_frame(self, transport, frame):
        super().on_ws_frame(transport, frame)
        self.count += 1
        if frame.last_in_buffer:
            self.batches.append((self.count, transport.is_drained()))


async def until(is_true):
    """Let the event loop run until what it does has come about."""
    while not is_true():  # noqa: ASYNC110 - the kernel sets no event
        await asyncio.sleep(0)


async def receive_backlog(transport, listener, peer, frames):
    """`frames`, all of them in the kernel's buffer before the client reads the first."""
    transport.underlying_transport.pause_reading()
    peer.send(b"".join(frames))
    await until(lambda: transport.unread_size() == sum(map(len, frames)))
    transport.underlying_transport.resume_reading()
    for _ in frames:
        await listener.next_frame()
    assert transport.unread_size() == 0


FRAMES = [frame(TEXT, b"%07d" % i) for i in range(8000)]  # of 9 bytes


@pytest.mark.parametrize("use_aiofastnet", [False, True])
async def test_only_the_last_frame_of_a_backlog_is_drained(use_aiofastnet):
    async with client(Reads, use_aiofastnet=use_aiofastnet) as (transport, listener, peer):
        await receive_backlog(transport, listener, peer, FRAMES)
        # The buffer grows while reads fill it.
        assert 1 < len(listener.batches) < -(-len(FRAMES) * 9 // INIT_SIZE)
        assert [drained for _, drained in listener.batches] == [False] * (len(listener.batches) - 1) + [True]


@pytest.mark.parametrize("use_aiofastnet", [False, True])
async def test_reading_until_drained_makes_one_batch_of_it(use_aiofastnet):
    arguments = {"use_aiofastnet": use_aiofastnet, "read_until_drained": 10}
    async with client(Reads, **arguments) as (transport, listener, peer):
        await receive_backlog(transport, listener, peer, FRAMES)
        assert listener.batches == [(len(FRAMES), True)]
        assert [payload for payload, _, _ in listener.last_flags] == [b"%07d" % i for i in range(len(FRAMES))]
        await receive_backlog(transport, listener, peer, FRAMES[:1])
        assert listener.batches == [(len(FRAMES), True), (len(FRAMES) + 1, True)]


@pytest.mark.parametrize("reads", [1, 2])
async def test_reading_on_is_bounded(reads):
    async with client(Reads, use_aiofastnet=True, read_until_drained=reads) as (transport, listener, peer):
        await receive_backlog(transport, listener, peer, FRAMES)
        limit = (reads + 1) * INIT_SIZE
        counts = [0, *(count for count, _ in listener.batches)]
        sizes = [9 * (after - before) for before, after in pairwise(counts)]
        assert all(limit - 9 <= size <= limit + 9 for size in sizes[:-1])
        assert [drained for _, drained in listener.batches] == [False] * (len(sizes) - 1) + [True]


async def test_a_frame_larger_than_the_bound_arrives_whole():
    payload = bytes(range(256)) * 2000
    async with client(Reads, read_until_drained=1) as (_, listener, peer):
        peer.send(frame(TEXT, payload) + frame(TEXT, b"x"))
        assert (await listener.next_frame())[1] == payload
        assert (await listener.next_frame())[1] == b"x"
        assert listener.batches[-1] == (2, True)


async def test_the_end_of_the_stream_is_not_swallowed():
    async with client(Reads, read_until_drained=5) as (transport, listener, peer):
        transport.underlying_transport.pause_reading()
        peer.send(frame(TEXT, b"last words"))
        await peer.close()
        await until(lambda: transport.unread_size() == 12)
        transport.underlying_transport.resume_reading()
        assert (await listener.next_frame())[1] == b"last words"
        await transport.wait_disconnected()
        assert listener.events[-1] == "disconnected"
        assert transport.unread_size() == 0
        assert transport.is_drained()


def serve_tls(listening, context, frames, go, done):
    """Upgrade one client, wait for `go`, send each frame by itself, and stay until the client leaves."""
    sock, _ = listening.accept()
    with suppress(OSError), context.wrap_socket(sock, server_side=True) as tls:
        request = b""
        while not request.endswith(b"\r\n\r\n"):
            request += tls.recv(4096)
        tls.sendall(response_101(request))
        go.wait(10)
        for data in frames:
            tls.sendall(data)
        done.set()
        tls.recv(100)


@pytest.mark.parametrize("use_aiofastnet", [False, True])
@pytest.mark.parametrize(("size", "count"), [(10, 300), (1000, 30), (16_000, 2), (35_000, 1)])
async def test_under_tls_drained_is_the_last_frame_too(size, count, use_aiofastnet, authority, trusting):  # noqa: F811
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    go, done = threading.Event(), threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        frames = [frame(BINARY, bytes(size))] * count
        server = threading.Thread(target=serve_tls, args=(listening, context, frames, go, done), daemon=True)
        server.start()
        transport, listener = await ws_connect(
            Reads,
            f"wss://127.0.0.1:{listening.getsockname()[1]}/",
            ssl_context=trusting,
            use_aiofastnet=use_aiofastnet,
            read_until_drained=10,
        )
        try:
            # The event loop stands still here, so that nothing is read before everything has arrived: less than what
            # a new connection's window takes.
            go.set()
            assert done.wait(10)
            while transport.unread_size() < count * size:
                time.sleep(0.001)  # noqa: ASYNC251 - for that very reason
            for _ in range(count):
                await listener.next_frame()
            # asyncio's TLS of Python 3.10 hands out records one by one: it cannot be known there, and is never claimed.
            is_known = use_aiofastnet or sys.version_info >= (3, 11) or not is_asyncio_loop()
            assert [seen for seen, is_drained in listener.batches if is_drained] == ([count] if is_known else [])
        finally:
            transport.disconnect(graceful=False)
            await transport.wait_disconnected()
            server.join(10)


async def test_a_negative_bound():
    with pytest.raises(ValueError, match="read_until_drained of 0 or more, found -1"):
        await ws_connect(Recorder, "ws://127.0.0.1:1/", read_until_drained=-1)
