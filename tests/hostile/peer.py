"""A peer that keeps to no rules, on a bare socket, and the listener that it torments."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import ssl
import struct
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from picows import WSFrame, WSListener, WSMsgType, WSTransport
from picows.handshake import ClientHandshake, ServerHandshake
from picows.parser import FrameParser
from picows.protocol import WSProtocol
from tests.picows.wire import CLOSE, TEXT, SlowFrame, frame, request, response_101, slow_frames

MASK = b"\x0a\x0b\x0c\x0d"
BLOCK = bytes(100_000)


class Victim(WSListener):
    """Echoes, counts, and does what a TEXT frame of the peer tells it: so the peer can bring it into every state."""

    def __init__(self) -> None:
        self.connected = 0
        self.disconnected = 0
        self.frames = 0
        self.transport: WSTransport | None = None
        self.writing_paused = asyncio.Event()
        self.reading_paused = asyncio.Event()
        self.gone = asyncio.Event()

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.connected += 1
        self.transport = transport

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        self.frames += 1
        command = (
            frame.get_payload_as_bytes() if frame.msg_type == TEXT and frame.fin and frame.payload_size < 20 else b""
        )
        if command == b"flood":
            for _ in range(1000):
                if self.writing_paused.is_set():
                    break
                transport.send(WSMsgType.BINARY, BLOCK)
        elif command == b"pause":
            transport.underlying_transport.pause_reading()  # type: ignore[attr-defined]
            self.reading_paused.set()
        elif command == b"close":
            transport.send_close(1000)
        elif command == b"disconnect":
            transport.disconnect()
        elif command == b"echo":
            transport.send(WSMsgType.TEXT, command)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self.disconnected += 1
        self.gone.set()

    def pause_writing(self) -> None:
        self.writing_paused.set()

    def resume_writing(self) -> None:
        self.writing_paused.clear()

    def resume_reading(self) -> None:
        """Undo what the command "pause" did."""
        if self.transport is not None and self.reading_paused.is_set():
            self.reading_paused.clear()
            self.transport.underlying_transport.resume_reading()  # type: ignore[attr-defined]


class Peer:
    """One end of a connection whose other end is ours. `is_client` says which: clients mask."""

    def __init__(self, sock: socket.socket, is_client: bool) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = sock
        self.is_client = is_client
        self._loop = asyncio.get_running_loop()
        self._unread = b""

    async def send(self, data: bytes) -> None:
        await self._loop.sock_sendall(self.sock, data)

    async def receive(self) -> bytes:
        return await self._loop.sock_recv(self.sock, 65536)

    async def read_until(self, end: bytes) -> bytes:
        while end not in self._unread:
            await self._read_more()
        head, _, self._unread = self._unread.partition(end)
        return head + end

    async def read_frame(self) -> SlowFrame:
        while not (frames := slow_frames(self._unread)):
            await self._read_more()
        self._unread = self._unread[frames[0].end :]
        return frames[0]

    async def read_close(self) -> SlowFrame:
        """Read up to a CLOSE, and return that."""
        while (received := await self.read_frame()).opcode != CLOSE:
            pass
        return received

    async def read_to_end(self) -> bytes:
        """Everything up to the end of the connection, however it ends."""
        received, self._unread = [self._unread], b""
        with suppress(ConnectionError):
            while data := await self.receive():
                received.append(data)
        return b"".join(received)

    async def _read_more(self) -> None:
        data = await self.receive()
        if not data:
            raise ConnectionResetError("the connection ended")
        self._unread += data

    def frame(self, opcode: int, payload: bytes = b"", *, fin: bool = True) -> bytes:
        return frame(opcode, payload, fin=fin, mask=MASK if self.is_client else None)

    def header(self, opcode: int, size: int) -> bytes:
        """The header of a frame that claims `size` bytes, 64 bits long."""
        return struct.pack(">BBQ", 0x80 | opcode, 0x80 * self.is_client | 127, size) + MASK * self.is_client

    async def command(self, name: bytes) -> None:
        await self.send(self.frame(TEXT, name))

    async def upgrade(self, path: bytes = b"/") -> None:
        """The opening handshake, done right."""
        if self.is_client:
            await self.send(request(path))
            answer = await self.read_until(b"\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 101 "), answer
        else:
            await self.send(response_101(await self.read_until(b"\r\n\r\n")))

    def close(self) -> None:
        self.sock.close()

    def reset(self) -> None:
        """End the connection with a RST, here and now."""
        with suppress(OSError):  # closed by then
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


class TlsPeer(Peer):
    """A Peer whose TLS can be stopped anywhere."""

    def __init__(self, sock: socket.socket, is_client: bool, context: ssl.SSLContext) -> None:
        super().__init__(sock, is_client)
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._in, self._out, server_side=not is_client, server_hostname="127.0.0.1" if is_client else None
        )

    def flight(self) -> bytes:
        """What is to be sent as the next step of the TLS handshake."""
        with suppress(ssl.SSLWantReadError):
            self._tls.do_handshake()
        return self._out.read()

    async def receive_flight(self) -> None:
        self._in.write(await super().receive())

    async def shake_hands(self) -> None:
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await super().send(self._out.read())
                data = await super().receive()
                if not data:
                    raise ConnectionResetError("the connection ended") from None
                self._in.write(data)
            else:
                await super().send(self._out.read())
                return

    def encrypted(self, data: bytes) -> bytes:
        """The record that carries `data`."""
        self._tls.write(data)
        return self._out.read()

    async def send(self, data: bytes) -> None:
        await super().send(self.encrypted(data))

    async def send_raw(self, data: bytes) -> None:
        """Bytes below TLS."""
        await super().send(data)

    async def receive(self) -> bytes:
        while True:
            try:
                return self._tls.read(65536)
            except ssl.SSLWantReadError:
                data = await super().receive()
                if not data:
                    return b""
                self._in.write(data)
            except ssl.SSLZeroReturnError:
                return b""


async def connect(port: int) -> Peer:
    """A peer that is a client of the server under test."""
    return Peer(await _connected(port), is_client=True)


async def connect_tls(port: int, context: ssl.SSLContext) -> TlsPeer:
    return TlsPeer(await _connected(port), True, context)


async def _connected(port: int) -> socket.socket:
    sock = socket.socket()
    sock.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    except BaseException:
        sock.close()
        raise
    return sock


class Listening:
    """Where clients under test connect to."""

    def __init__(self) -> None:
        self._sock = socket.create_server(("127.0.0.1", 0))
        self._sock.setblocking(False)
        self.port: int = self._sock.getsockname()[1]

    async def accept(self) -> Peer:
        sock, _ = await asyncio.get_running_loop().sock_accept(self._sock)
        return Peer(sock, is_client=False)

    async def accept_tls(self, context: ssl.SSLContext) -> TlsPeer:
        sock, _ = await asyncio.get_running_loop().sock_accept(self._sock)
        return TlsPeer(sock, False, context)

    def close(self) -> None:
        self._sock.close()


@asynccontextmanager
async def listening() -> AsyncIterator[Listening]:
    place = Listening()
    try:
        yield place
    finally:
        place.close()


def living() -> Counter[str]:
    """How many objects of connections there are, by type."""
    gc.collect()
    kinds = (WSTransport, WSProtocol, FrameParser, ServerHandshake, ClientHandshake)
    return Counter(type(found).__name__ for found in gc.get_objects() if isinstance(found, kinds))


def open_files() -> int:
    return len(os.listdir("/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"))
