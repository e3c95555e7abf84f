"""The C program on the other side of the benchmarks speaks WebSocket: with our client and server, and with itself."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest

from picows import WSListener, WSMsgType, ws_connect, ws_create_server
from tests.benchmarks.websocket_peers.processes import limit_server, started
from tests.picows.recorder import Echo, Recorder
from tests.picows.wire import BINARY, CLOSE, PONG, TEXT

WAITING = pytest.mark.parametrize("flags", [[], ["--block"]], ids=["spinning", "blocking"])
CLOSED = (CLOSE, b"\x03\xe8")  # 1000


def flood_payload(size):
    return bytes(i * 131 + (i >> 8) & 255 for i in range(size))


class Flooded(Recorder):
    """Asks its peer for a flood."""

    def on_ws_connected(self, transport):
        super().on_ws_connected(transport)
        transport.send(WSMsgType.TEXT, b"0.001 now")


@asynccontextmanager
async def our_server(wire, listener):
    """`(port, listener)` of a server of ours with this one listener."""
    server = await ws_create_server(lambda _: listener, "127.0.0.1", 0, ssl=wire.server_context)
    try:
        yield server.sockets[0].getsockname()[1], listener
    finally:
        server.close()


@WAITING
async def test_it_echoes_what_our_client_sends(wire, flags):
    async with limit_server(wire, *flags) as (server, url):
        transport, listener = await ws_connect(Recorder, f"{url}/echo", ssl_context=wire.client_context)
        payloads = [flood_payload(size) for size in (0, 1, 125, 126, 65535, 65536, 1 << 20)]
        for payload in payloads:
            transport.send(WSMsgType.BINARY, payload)
            assert await listener.next_frame() == (BINARY, payload)
        transport.send_ping(b"there?")
        assert await listener.next_frame() == (PONG, b"there?")
        transport.send(WSMsgType.TEXT, "text stays text")
        assert await listener.next_frame() == (TEXT, b"text stays text")
        transport.send_close(1000)
        assert await listener.next_frame() == CLOSED
        assert await server.hear() == {"n": len(payloads) + 1}
        await transport.wait_disconnected()


@pytest.mark.parametrize("size", [0, 128, 1024, 70000])
async def test_it_floods_our_client_and_says_with_how_many(wire, size):
    async with limit_server(wire) as (server, url):
        transport, listener = await ws_connect(Flooded, f"{url}/flood/{size}", ssl_context=wire.client_context)
        sent = (await server.hear())["n"]
        await transport.wait_disconnected()
        assert sent > 0
        assert listener.events == ["connected", *[(BINARY, flood_payload(size))] * sent, CLOSED, "disconnected"]


async def test_one_server_serves_one_client_after_the_other(plain):
    async with limit_server(plain) as (server, url):
        for path in ("/flood/16", "/flood/16"):
            transport, _ = await ws_connect(Flooded, f"{url}{path}")
            assert (await server.hear())["n"] > 0
            await transport.wait_disconnected()
        # One that leaves without a word is no reason to end, either.
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        writer.close()
        await reader.read()
        transport, _ = await ws_connect(Flooded, f"{url}/flood/16")
        assert (await server.hear())["n"] > 0
        await transport.wait_disconnected()


@WAITING
@pytest.mark.parametrize("size", [0, 64, 70000])
async def test_it_measures_echoes_of_our_server(wire, flags, size):
    async with our_server(wire, Echo()) as (port, listener):
        command = [wire.limit, "client", "echo", port, size, "0.001", *wire.client_flags, *flags]
        async with started(*command) as client:
            result = await client.hear()
        await listener.transport.wait_disconnected()
    frames = [event for event in listener.events if isinstance(event, tuple)]
    assert 0 < result["n"] <= len(frames)
    assert set(frames) == {(BINARY, flood_payload(size))}
    assert result["seconds"] > 0
    assert result.keys() == {"n", "seconds", "user_ns", "cpu_ns"}


async def test_it_floods_our_server_and_says_with_how_many(wire):
    async with our_server(wire, Flooded()) as (port, listener):
        async with started(wire.limit, "client", "flood", port, 128, "0.001", *wire.client_flags) as client:
            sent = (await client.hear())["n"]
        await listener.transport.wait_disconnected()
    assert listener.events == ["connected", *[(BINARY, flood_payload(128))] * sent, CLOSED, "disconnected"]


@WAITING
async def test_it_counts_what_it_is_sent_by_itself(wire, flags):
    async with limit_server(wire, *flags) as (server, url):
        port = url.rpartition(":")[2]
        async with started(wire.limit, "client", "burst", port, 128, "0.001", *wire.client_flags, *flags) as client:
            received = await client.hear()
        assert received["n"] == (await server.hear())["n"] > 0
        async with started(wire.limit, "client", "flood", port, 128, "0.001", *wire.client_flags, *flags) as client:
            sent = await client.hear()
        received = await server.hear()
        assert received["n"] == sent["n"] > 0
        assert received["cpu_ns"] > 0


class Wrong(WSListener):
    """Answers with something of the same size."""

    def on_ws_frame(self, transport, frame):
        transport.send(WSMsgType.BINARY, bytes(frame.payload_size))


class Short(WSListener):
    def on_ws_frame(self, transport, frame):
        transport.send(WSMsgType.BINARY, b"short")


@pytest.mark.parametrize(
    ("listener", "reason"),
    [
        (Wrong, "expected the payload back, found another of the same size"),
        (Short, "expected 64 bytes of opcode 2, found 5 of 2"),
    ],
)
async def test_an_echo_that_is_none_is_found_out(plain, listener, reason):
    async with our_server(plain, listener()) as (port, _):
        async with started(plain.limit, "client", "echo", port, 64, "0.001") as client:
            status, errors = await client.ended()
    assert status == 1
    assert reason in errors


async def test_a_path_that_it_does_not_know_is_refused(plain):
    async with limit_server(plain) as (server, url):
        transport, _ = await ws_connect(Recorder, f"{url}/elsewhere")
        status, errors = await server.ended()
        await transport.wait_disconnected()
    assert status == 1
    assert "expected /echo, /flood/SIZE or /sink/SECONDS, found /elsewhere" in errors
