"""WebSocket by hand: frames, a slow parser, and peers that say exactly what a test tells them to."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
KEY = base64.b64encode(bytes(range(16)))

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


def frame(
    opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, mask: bytes | None = None, form: int = 0
) -> bytes:
    """One frame; `form` 16 or 64 forces that length field, however short the payload."""
    size = len(payload)
    form = form or (0 if size < 126 else 16 if size < 65536 else 64)
    masked = 0x80 if mask is not None else 0
    header = bytes([fin << 7 | rsv << 4 | opcode])
    if form == 16:
        header += bytes([masked | 126]) + struct.pack(">H", size)
    elif form == 64:
        header += bytes([masked | 127]) + struct.pack(">Q", size)
    else:
        header += bytes([masked | size])
    if mask is None:
        return header + payload
    return header + mask + bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))


@dataclass
class SlowFrame:
    opcode: int
    fin: bool
    rsv: int
    payload: bytes
    end: int


def slow_frames(stream: bytes) -> list[SlowFrame]:
    """All complete frames of `stream`, by the obvious reading of RFC 6455 section 5.2; checks nothing."""
    frames: list[SlowFrame] = []
    pos = 0
    while len(stream) - pos >= 2:
        first, second = stream[pos], stream[pos + 1]
        at = pos + 2
        size = second & 0x7F
        if size == 126:
            size = int.from_bytes(stream[at : at + 2], "big")
            at += 2
        elif size == 127:
            size = int.from_bytes(stream[at : at + 8], "big")
            at += 8
        mask = bytes(4)
        if second & 0x80:
            mask = stream[at : at + 4]
            at += 4
        if at + size > len(stream):
            break
        payload = bytes(byte ^ mask[i % 4] for i, byte in enumerate(stream[at : at + size]))
        pos = at + size
        frames.append(SlowFrame(first & 0x0F, bool(first & 0x80), first >> 4 & 7, payload, pos))
    return frames


def accept(key: bytes) -> bytes:
    return base64.b64encode(hashlib.sha1(key + GUID).digest())


def response_101(request: bytes, extra: bytes = b"") -> bytes:
    key = next(
        line.split(b":", 1)[1].strip()
        for line in request.split(b"\r\n")
        if line.lower().startswith(b"sec-websocket-key:")
    )
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept(key) + b"\r\n" + extra + b"\r\n"
    )


def request(path: bytes = b"/", **changes: bytes | None) -> bytes:
    """An upgrade request; keyword Upgrade=None leaves the field out, Upgrade=b"x" replaces its value."""
    fields: dict[str, bytes | None] = {
        "Host": b"localhost",
        "Upgrade": b"websocket",
        "Connection": b"keep-alive, Upgrade",
        "Sec_WebSocket_Version": b"13",
        "Sec_WebSocket_Key": KEY,
        **changes,
    }
    lines = [name.replace("_", "-").encode() + b": " + value for name, value in fields.items() if value is not None]
    return b"\r\n".join([b"GET " + path + b" HTTP/1.1", *lines, b"", b""])


class RawPeer:
    """One end of a TCP connection, read and written by the test."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.request = b""

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def read_frame(self) -> SlowFrame:
        """The next frame that the other side sent."""
        data = await self.reader.readexactly(2)
        size = data[1] & 0x7F
        if size >= 126:
            length = await self.reader.readexactly(2 if size == 126 else 8)
            size = int.from_bytes(length, "big")
            data += length
        data += await self.reader.readexactly(size + (4 if data[1] & 0x80 else 0))
        return slow_frames(data)[0]

    async def read_to_end(self) -> bytes:
        """Everything until the other side closes; resets count as closing."""
        received = b""
        with suppress(ConnectionError):
            while chunk := await self.reader.read(65536):
                received += chunk
        return received

    async def answer_close(self) -> SlowFrame:
        """Read up to the other side's CLOSE, then close; returns it."""
        while (received := await self.read_frame()).opcode != CLOSE:
            pass
        await self.close()
        return received

    async def close(self) -> None:
        self.writer.close()
        with suppress(ConnectionError):
            await self.writer.wait_closed()


class RawServer:
    """Accepts connections for a client under test. `port`; `await peer()` is the next one, its request read."""

    def __init__(self) -> None:
        self._peers: asyncio.Queue[RawPeer] = asyncio.Queue()
        self._all: list[RawPeer] = []
        self.port = 0

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = RawPeer(reader, writer)
        self._all.append(peer)
        try:
            peer.request = await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        self._peers.put_nowait(peer)

    async def peer(self) -> RawPeer:
        return await self._peers.get()

    async def upgraded_peer(self, *, then: bytes = b"", extra: bytes = b"") -> RawPeer:
        """The next peer, after a 101 response with `then` in the same segment."""
        peer = await self.peer()
        peer.send(response_101(peer.request, extra) + then)
        return peer


@asynccontextmanager
async def raw_server() -> AsyncIterator[RawServer]:
    raw = RawServer()
    server = await asyncio.start_server(raw._accept, "127.0.0.1", 0)
    raw.port = server.sockets[0].getsockname()[1]
    try:
        yield raw
    finally:
        server.close()
        for peer in raw._all:
            await peer.close()
        await server.wait_closed()


@asynccontextmanager
async def raw_client(port: int) -> AsyncIterator[RawPeer]:
    """A TCP connection to a server under test."""
    peer = RawPeer(*await asyncio.open_connection("127.0.0.1", port))
    try:
        yield peer
    finally:
        await peer.close()


@asynccontextmanager
async def upgraded_client(port: int, *, then: bytes = b"") -> AsyncIterator[RawPeer]:
    """A WebSocket client by hand; `then` travels in the same segment as the request."""
    async with raw_client(port) as peer:
        peer.send(request() + then)
        head = await peer.reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 "), head
        yield peer
