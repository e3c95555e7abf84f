"""What each fault does to a connection, seen by a plain TCP client."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvloop

from feeds.simulator.certificates import Certificates
from feeds.simulator.proxy import (
    BadCertificate,
    CutHandshake,
    FaultProxy,
    Fragments,
    HalfOpen,
    OneByteSegments,
    RefuseConnections,
    Reset,
    SlowDrain,
)

TEXT = bytes(range(256)) * 4


class Echo:
    """A server that answers with what it was sent."""

    def __init__(self) -> None:
        self.url = ""
        self.clients = 0

    @asynccontextmanager
    async def run(self, *faults: Any, **options: Any) -> AsyncIterator[FaultProxy]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with server, FaultProxy(self.url, faults=faults, **options) as proxy:
            yield proxy

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.clients += 1
        try:
            while data := await reader.read(65536):
                writer.write(data)
        except OSError:
            pass
        self.clients -= 1
        writer.close()


@pytest.fixture
def echo() -> Echo:
    return Echo()


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def said(self, data: bytes = b"hello") -> bytes:
        """Say something, and return as much as comes back."""
        self.writer.write(data)
        return await self.reader.readexactly(len(data))


class Pieces(asyncio.Protocol):
    """Keeps the sizes of what comes in one read each."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.more = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        self.sizes.append(len(data))
        self.more.set()


async def pieces(echo: Echo, proxy: FaultProxy, data: bytes) -> list[int]:
    """Say something, and return in which pieces it comes back."""
    port = int(proxy.url(echo.url).rpartition(":")[2])
    transport, protocol = await asyncio.get_running_loop().create_connection(Pieces, "127.0.0.1", port)
    transport.write(data)
    while sum(protocol.sizes) < len(data):
        protocol.more.clear()
        await protocol.more.wait()
    transport.abort()
    return protocol.sizes


@asynccontextmanager
async def connected(
    echo: Echo, proxy: FaultProxy, trusting: ssl.SSLContext | None = None, name: str = "127.0.0.1"
) -> AsyncIterator[Client]:
    port = int(proxy.url(echo.url).rpartition(":")[2])
    options: dict[str, Any] = {} if trusting is None else {"ssl": trusting, "server_hostname": name}
    reader, writer = await asyncio.open_connection("127.0.0.1", port, **options)
    try:
        yield Client(reader, writer)
    finally:
        writer.transport.abort()


async def test_without_faults_bytes_and_ends_pass(echo: Echo) -> None:
    async with echo.run() as proxy, connected(echo, proxy) as client:
        assert await client.said(TEXT * 1000) == TEXT * 1000
        assert (proxy.accepted, proxy.connections) == (1, 1)
        client.writer.write_eof()
        assert await client.reader.read() == b""


async def test_half_open_connections_stand_and_say_nothing_while_new_ones_work(echo: Echo) -> None:
    async with echo.run() as proxy, connected(echo, proxy) as client:
        await client.said()
        proxy.inject(HalfOpen())
        client.writer.write(b"anybody?")
        client.writer.write_eof()
        answer = asyncio.ensure_future(client.reader.read())
        async with connected(echo, proxy) as second:
            for _ in range(20):
                await second.said()
        while proxy.connections > 1:  # noqa: ASYNC110
            await asyncio.sleep(0)
        assert not answer.done()
        answer.cancel()


async def test_reset(echo: Echo) -> None:
    async with echo.run() as proxy, connected(echo, proxy) as client:
        await client.said()
        proxy.inject(Reset())
        with pytest.raises(ConnectionResetError):
            await client.reader.read()


async def test_a_fault_strikes_at_its_time(echo: Echo) -> None:
    async with echo.run(Reset(at=0.05)) as proxy, connected(echo, proxy) as client:
        assert await client.said() == b"hello"
        with pytest.raises(ConnectionResetError):
            await client.reader.read()


async def test_a_slow_connection_passes_so_many_bytes_a_second(echo: Echo) -> None:
    async with echo.run(SlowDrain(bytes_per_second=1000, seconds=60)) as proxy:
        assert await pieces(echo, proxy, TEXT[:200]) == [50] * 4  # a twentieth of a second each


async def test_one_byte_segments_end_after_so_many_bytes(echo: Echo) -> None:
    async with echo.run(OneByteSegments(count=40)) as proxy:
        assert await pieces(echo, proxy, TEXT[:50]) == [1] * 40 + [10]
        async with connected(echo, proxy) as client:
            assert await client.said(TEXT) == TEXT


async def test_fragments_are_cut_by_the_seed(echo: Echo) -> None:
    async def sizes(seed: int) -> list[int]:
        async with echo.run(Fragments(count=500, largest=20), seed=seed) as proxy:
            return await pieces(echo, proxy, TEXT[:500])

    found = await sizes(1)
    assert max(found) <= 20
    assert len(set(found)) > 5
    assert await sizes(1) == found != await sizes(2)


async def test_connections_are_refused_for_a_while_and_those_that_stand_are_kept(echo: Echo) -> None:
    async with echo.run() as proxy, connected(echo, proxy) as client:
        await client.said()
        proxy.inject(RefuseConnections(seconds=0.1))
        assert await client.said() == b"hello"
        refused = 0
        while True:
            try:
                async with connected(echo, proxy) as second:
                    assert await second.said() == b"hello"
            except ConnectionRefusedError:
                refused += 1
                await asyncio.sleep(0.01)
            else:
                break
        assert refused > 0


async def test_a_handshake_is_cut(echo: Echo) -> None:
    async with echo.run(CutHandshake(seconds=60)) as proxy, connected(echo, proxy) as client:
        client.writer.write(b"GET / HTTP/1.1\r\n")
        assert await client.reader.read() == b""
        assert echo.clients == 0


async def is_trusted(echo: Echo, proxy: FaultProxy, trusting: ssl.SSLContext) -> bool:
    try:
        async with connected(echo, proxy, trusting) as client:
            return await client.said() == b"hello"
    except ssl.SSLCertVerificationError:
        return False


async def test_bad_certificates_are_shown_for_a_while(echo: Echo) -> None:
    certificates = Certificates()
    trusting = certificates.trusting
    async with echo.run(certificates=certificates) as proxy:
        for kind, reason in (
            ("other_name", "IP address mismatch"),
            ("expired", "certificate has expired"),
            ("self_signed", "unable to get local issuer certificate"),
        ):
            proxy.inject(BadCertificate(kind=kind, seconds=0.1))  # type: ignore[arg-type]
            await asyncio.sleep(0)
            with pytest.raises(ssl.SSLCertVerificationError, match=reason):
                async with connected(echo, proxy, trusting):
                    pass
            while not await is_trusted(echo, proxy, trusting):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        proxy.inject(CutHandshake(seconds=60))
        with pytest.raises(OSError):  # noqa: PT011 - a reset, or an end in the handshake
            async with connected(echo, proxy, trusting):
                pass


async def test_what_cannot_be_is_refused(echo: Echo) -> None:
    async with echo.run() as proxy:
        with pytest.raises(ValueError, match="expected certificates for BadCertificate"):
            proxy.inject(BadCertificate(kind="expired", seconds=1))
        with pytest.raises(ValueError, match="expected seconds above 0"):
            proxy.inject(CutHandshake(seconds=0))
        with pytest.raises(KeyError):
            proxy.url("ws://127.0.0.1:1")
    with pytest.raises(ValueError, match="expected an address such as"):
        FaultProxy("ws://localhost")


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_a_client_that_goes_while_it_is_written_to_is_no_error(echo: Echo, run: Callable[..., None]) -> None:
    async def go() -> None:
        async with echo.run(SlowDrain(bytes_per_second=20_000, seconds=60)) as proxy, connected(echo, proxy) as client:
            client.writer.write(TEXT * 64)
            await client.reader.readexactly(1)
            (serving,) = proxy._tasks
            linger = struct.pack("ii", 1, 0)  # its end is a reset
            client.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            client.writer.transport.abort()
            await serving

    run(go())
