"""Connections that break on request: TCP and TLS on loopback between a client and a simulated exchange."""

import asyncio
import random
import socket
import struct
from collections.abc import Coroutine, Sequence
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import msgspec

from feeds.simulator.certificates import BadCertificateKind, Certificates

_READ_SIZE = 64 * 1024
_SLICES = 20  # of a second, in which a slow connection passes bytes


class TransportFault(msgspec.Struct, frozen=True, kw_only=True, tag=True, forbid_unknown_fields=True):
    """When a fault of the transport strikes. It concerns every connection through the proxy."""

    at: float = 0.0  # seconds after the start, or after `inject`


class HalfOpen(TransportFault, frozen=True):
    """The connections stand, and nothing passes them any more, in either direction, not even their end."""


class Reset(TransportFault, frozen=True):
    """The connections are reset (RST)."""


class SlowDrain(TransportFault, frozen=True):
    """For a while each connection passes so many bytes a second to the client."""

    bytes_per_second: int
    seconds: float


class OneByteSegments(TransportFault, frozen=True):
    """The next `count` bytes to clients come each in a segment of its own."""

    count: int = 10_000


class Fragments(TransportFault, frozen=True):
    """The next `count` bytes to clients come in segments cut at random, of at most `largest` bytes."""

    count: int = 100_000
    largest: int = 64


class RefuseConnections(TransportFault, frozen=True):
    """For a while nobody listens: connections are refused. Those that stand are kept."""

    seconds: float


class BadCertificate(TransportFault, frozen=True):
    """For a while new connections are shown a certificate that a client must not accept."""

    kind: BadCertificateKind
    seconds: float


class CutHandshake(TransportFault, frozen=True):
    """For a while new connections end when the client has said its first bytes: its TLS hello, its upgrade."""

    seconds: float


AnyTransportFault = (
    HalfOpen | Reset | SlowDrain | OneByteSegments | Fragments | RefuseConnections | BadCertificate | CutHandshake
)


class FaultProxy:
    """Passes TCP connections on to servers, and breaks them on request.

    `async with FaultProxy(sim.ws_url, sim.rest_url) as proxy:` and a client that is pointed at `proxy.url(sim.ws_url)`
    and `proxy.url(sim.rest_url)`. With `certificates` it speaks TLS to clients, whose contexts are then
    `certificates.trusting`; faults cut and delay what TLS made of the messages.
    """

    def __init__(
        self,
        *targets: str,
        faults: Sequence[AnyTransportFault] = (),
        certificates: Certificates | None = None,
        seed: int = 1,
        host: str = "127.0.0.1",
        port: int = 0,
        max_connections: int = 100,
    ) -> None:
        """Configure; nothing is opened before `async with`.

        `targets` are URLs; each host and port among them gets a port here, `port` and those behind it, or any that
        are free for 0. `seed` is that of random cuts. More than `max_connections` are closed as they come.
        ValueError for a URL without a port, a fault that cannot be, and a certificate fault without certificates.
        """
        self._certificates = certificates
        self._rng = random.Random(seed)
        self._faults = list(faults)
        self._host = host
        self._max_connections = max_connections
        self._doors: dict[tuple[str, int], _Door] = {}
        for target in targets:
            place = _place(target)
            if place not in self._doors:
                own_port = port + len(self._doors) if port else 0
                self._doors[place] = _Door(self, place, own_port)
        for fault in faults:
            self._check(fault)

        self.accepted = 0  # connections, as far as nobody refused them
        self._links: set[_Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._timers: set[asyncio.TimerHandle] = set()
        self._slow = (0, 0.0)  # bytes per second, until which loop time
        self._pieces = (0, 0)  # bytes that are still cut, and the largest piece
        self._cut_until = 0.0
        self._shown: BadCertificate | None = None  # the last

    async def __aenter__(self) -> "FaultProxy":
        for door in self._doors.values():
            await door.open()
        for fault in self._faults:
            self.inject(fault)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for timer in self._timers:
            timer.cancel()
        for door in self._doors.values():
            door.close()
        for link in list(self._links):
            link.abort()
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks)
        await asyncio.sleep(0)  # in which what was aborted is closed

    def url(self, target: str) -> str:
        """Return where the proxy stands for a target's URL; KeyError for one that it does not serve."""
        parts = urlsplit(target)
        scheme = parts.scheme if self._certificates is None else {"ws": "wss", "http": "https"}[parts.scheme]
        return parts._replace(scheme=scheme, netloc=f"{self._host}:{self._doors[_place(target)].port}").geturl()

    @property
    def connections(self) -> int:
        """How many connections stand."""
        return len(self._links)

    def inject(self, fault: AnyTransportFault) -> None:
        """Have a fault strike now, or `at` seconds from now. ValueError as in the constructor."""
        self._check(fault)
        if not fault.at:
            self._strike(fault)
            return

        def strike() -> None:
            self._timers.discard(timer)
            self._strike(fault)

        timer = asyncio.get_running_loop().call_later(fault.at, strike)
        self._timers.add(timer)

    def _check(self, fault: AnyTransportFault) -> None:
        for name in set(fault.__struct_fields__) & {"bytes_per_second", "seconds", "count", "largest"}:
            if not getattr(fault, name) > 0:
                raise ValueError(f"expected {name} above 0, found {fault}")
        if fault.at < 0:
            raise ValueError(f"expected at not below 0, found {fault}")
        if isinstance(fault, BadCertificate) and self._certificates is None:
            raise ValueError("expected certificates for BadCertificate, found a proxy without TLS")

    def _strike(self, fault: AnyTransportFault) -> None:
        now = asyncio.get_running_loop().time()
        if isinstance(fault, HalfOpen):
            for link in self._links:
                link.is_mute = True
        elif isinstance(fault, Reset):
            for link in list(self._links):
                link.reset()
        elif isinstance(fault, SlowDrain):
            self._slow = (fault.bytes_per_second, now + fault.seconds)
        elif isinstance(fault, OneByteSegments):
            self._pieces = (fault.count, 1)
        elif isinstance(fault, Fragments):
            self._pieces = (fault.count, fault.largest)
        elif isinstance(fault, RefuseConnections):
            for door in self._doors.values():
                self._start(door.refuse(fault.seconds))
        elif isinstance(fault, CutHandshake):
            self._cut_until = now + fault.seconds
        else:
            self._start(self._show(fault))

    async def _show(self, fault: BadCertificate) -> None:
        assert self._certificates is not None
        self._certificates.show(fault.kind)
        self._shown = fault
        try:
            await asyncio.sleep(fault.seconds)
        finally:
            if self._shown is fault:  # and not a later one
                self._certificates.show("good")

    # --- connections --------------------------------------------------------------------------------------------------

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def accept(self, target: tuple[str, int], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A client has connected."""
        self._start(self._serve(target, reader, writer))

    async def _serve(self, target: tuple[str, int], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        if len(self._links) >= self._max_connections:
            writer.transport.abort()
            return
        if asyncio.get_running_loop().time() < self._cut_until:
            try:
                await reader.read(_READ_SIZE)
            except OSError:
                pass
            writer.transport.abort()
            return
        try:
            far_reader, far_writer = await asyncio.open_connection(*target)
        except OSError:
            writer.transport.abort()
            return
        link = _Link(writer, far_writer)
        self._links.add(link)
        try:
            await asyncio.gather(
                self._pump(link, reader, far_writer, is_to_client=False),
                self._pump(link, far_reader, writer, is_to_client=True),
            )
            if link.is_mute:
                await asyncio.Event().wait()  # neither side hears that the other has gone, until the proxy ends
        finally:
            self._links.discard(link)
            link.abort()

    async def _pump(
        self, link: "_Link", reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_to_client: bool
    ) -> None:
        try:
            while data := await reader.read(_READ_SIZE):
                if is_to_client:
                    await self._pass_to_client(link, data, writer)
                elif not link.is_mute:
                    writer.write(data)
                    await writer.drain()
            if not link.is_mute and not writer.is_closing():
                writer.write_eof()
        except OSError:
            if not link.is_mute:
                link.reset()  # what happens to the one side, the other sees

    async def _pass_to_client(self, link: "_Link", data: bytes, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        view, start = memoryview(data), 0
        while start < len(view) and not link.is_mute:
            size, pause = len(view) - start, None
            per_second, slow_until = self._slow
            left, largest = self._pieces
            if loop.time() < slow_until:
                size = min(size, max(1, per_second // _SLICES))
                pause = size / per_second
            elif left:
                size = min(size, left, self._rng.randint(1, largest))
                self._pieces = (left - size, largest)
                pause = 0.0
            if writer.is_closing():
                raise ConnectionResetError  # which asyncio's own loop says in `drain`; uvloop's refuses to write
            writer.write(view[start : start + size])
            await writer.drain()
            if pause is not None:
                await asyncio.sleep(pause)
                await asyncio.sleep(0)  # a second turn of the loop, in which a client of the same loop has read it
            start += size


class _Link:
    """One client's connection and the one to its server."""

    def __init__(self, near: asyncio.StreamWriter, far: asyncio.StreamWriter) -> None:
        self._writers = (near, far)
        self.is_mute = False

    def abort(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    def reset(self) -> None:
        for writer in self._writers:
            if not writer.is_closing():
                # Linger on, for zero seconds: close() discards what is unsent and resets.
                linger = struct.pack("ii", 1, 0)
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.abort()


class _Door:
    """The port for one target. Where the proxy speaks TLS, a server of ours behind the port does: faults cut TLS."""

    def __init__(self, proxy: FaultProxy, target: tuple[str, int], port: int) -> None:
        self.port = port
        self._proxy = proxy
        self._target = target
        self._server: asyncio.Server | None = None
        self._secure: asyncio.Server | None = None
        self._reserved: socket.socket | None = None  # keeps the port while connections are refused
        self._refused_until = 0.0

    async def open(self) -> None:
        certificates = self._proxy._certificates
        if certificates is not None:
            server = await asyncio.start_server(self._on_secure, "127.0.0.1", 0, ssl=certificates.serving)
            self._secure = server
        await self._listen(self._bind())

    def close(self) -> None:
        for server in (self._server, self._secure, self._reserved):
            if server is not None:
                server.close()

    async def refuse(self, seconds: float) -> None:
        """Close the port, and open it again."""
        loop = asyncio.get_running_loop()
        self._refused_until = max(self._refused_until, loop.time() + seconds)
        if self._server is None:
            return
        self._server.close()
        self._server = None
        await asyncio.sleep(0)  # in which the port is closed
        # Bound and not listening: connections are refused, and nobody else gets the port.
        self._reserved = self._bind()
        while (wait := self._refused_until - loop.time()) > 0:  # noqa: ASYNC110 - further faults prolong it
            await asyncio.sleep(wait)
        reserved, self._reserved = self._reserved, None
        await self._listen(reserved)

    async def _listen(self, listener: socket.socket) -> None:
        target = self._target if self._secure is None else self._secure.sockets[0].getsockname()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self._proxy.accept(target, reader, writer)

        self._server = await asyncio.start_server(accept, sock=listener)

    def _bind(self) -> socket.socket:
        bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # named, for TCP_NODELAY
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind((self._proxy._host, self.port))
        except OSError:
            bound.close()
            raise
        self.port = bound.getsockname()[1]
        return bound

    def _on_secure(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._proxy._start(self._decrypt(reader, writer))

    async def _decrypt(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass on what TLS carries."""
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()
            return

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            try:
                while data := await source.read(_READ_SIZE):
                    sink.write(data)
                    await sink.drain()
            except OSError:
                sink.transport.abort()
            finally:
                sink.close()

        try:
            await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))
        finally:
            writer.transport.abort()
            far_writer.transport.abort()


def _place(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    if parts.hostname is None or parts.port is None or parts.scheme not in ("ws", "http"):
        raise ValueError(f"expected an address such as ws://127.0.0.1:9443, found {url!r}")
    return parts.hostname, parts.port
