"""Proxies by hand: HTTP CONNECT, SOCKS 4 and SOCKS 5 (RFC 1928, 1929), on loopback."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[tuple[str, int] | None]]


class Proxy:
    """`port`; `asked` has what clients sent to it: `(host, port)` of the target, and credentials where there were any.

    Every target is looked for on loopback, whatever its name: what a proxy can resolve, its client need not.
    """

    def __init__(self, handler: Callable[[Proxy], Handler]) -> None:
        self._handler = handler(self)
        self._writers: list[asyncio.StreamWriter] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self.asked: list[tuple[str, int]] = []
        self.credentials: list[bytes] = []
        self.port = 0

    def on_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        self._start(self._serve(reader, writer))

    def _start(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            target = await self._handler(reader, writer)
            if target is None:
                writer.close()
                return
            self.asked.append(target)
            behind_reader, behind = await asyncio.open_connection("127.0.0.1", target[1])
            self._writers.append(behind)
            self._start(relay(behind_reader, writer))
            await relay(reader, behind)

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self._writers:
            writer.transport.abort()


async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


@asynccontextmanager
async def proxy(handler: Callable[[Proxy], Handler], context: ssl.SSLContext | None = None) -> AsyncIterator[Proxy]:
    made = Proxy(handler)
    server = await asyncio.start_server(made.on_connection, "127.0.0.1", 0, ssl=context)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        await made.close()
        await server.wait_closed()


def http(made: Proxy) -> Handler:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[str, int]:
        first, *fields = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
        method, authority, version = first.split()
        assert (method, version) == (b"CONNECT", b"HTTP/1.1")
        assert b"Host: " + authority in fields
        made.credentials += [field for field in fields if field.startswith(b"Proxy-Authorization: ")]
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        host, _, port = authority.decode().rpartition(":")
        return host, int(port)

    return handle


def socks4(made: Proxy) -> Handler:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[str, int]:
        head = await reader.readexactly(8)
        assert head[:2] == b"\x04\x01"
        made.credentials.append((await reader.readuntil(b"\0"))[:-1])
        writer.write(b"\0\x5a" + head[2:])
        return ".".join(map(str, head[4:])), int.from_bytes(head[2:4], "big")

    return handle


def socks5(made: Proxy) -> Handler:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[str, int]:
        assert await reader.readexactly(1) == b"\x05"
        methods = await reader.readexactly((await reader.readexactly(1))[0])
        method = b"\2" if b"\2" in methods else b"\0"
        writer.write(b"\x05" + method)
        if method == b"\2":
            assert await reader.readexactly(1) == b"\1"
            user = await reader.readexactly((await reader.readexactly(1))[0])
            password = await reader.readexactly((await reader.readexactly(1))[0])
            made.credentials.append(user + b":" + password)
            writer.write(b"\1\0")
        assert await reader.readexactly(3) == b"\5\1\0"
        kind = (await reader.readexactly(1))[0]
        if kind == 3:
            host = (await reader.readexactly((await reader.readexactly(1))[0])).decode()
        else:
            assert kind == 1
            host = ".".join(map(str, await reader.readexactly(4)))
        port = int.from_bytes(await reader.readexactly(2), "big")
        writer.write(b"\5\0\0\1" + bytes(6))
        return host, port

    return handle


def answering(answer: bytes, size: int = 1) -> Callable[[Proxy], Handler]:
    """A proxy that reads `size` bytes, sends `answer` and closes."""

    def make(_: Proxy) -> Handler:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readexactly(size)
            writer.write(answer)

        return handle

    return make


def silent(_: Proxy) -> Handler:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    return handle
