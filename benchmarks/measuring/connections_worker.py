"""One side of `benchmarks/connections.py`: a server or a client of one library, under the Python that has that library.

    python connections_worker.py server|client OPTIONS       OPTIONS: JSON

A command per line on stdin, a line of JSON on stdout when it is done. A server first says where it listens.

    client: open N         N more connections
            echo SIZE      a message of SIZE bytes on every connection, and its echo
            send SIZE      the same on the first connection only
    both:   collect        gc.collect(); says how many connections there are
"""

from __future__ import annotations

import asyncio
import gc
import json
import resource
import ssl
import sys
from collections.abc import Awaitable, Callable, Iterator
from itertools import cycle, islice
from typing import Any

import uvloop

AT_ONCE = 100  # connections that are opened, or echo, at the same time
ECHOED = 64 * 1024  # bytes; a longer message is answered with two
MAX_SIZE = 128 * 1024 * 1024

Address = tuple[str, int]


class Side:
    """What a library does here. `connections` are the open ones."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.deflate = options["deflate"]
        self.scheme = "wss" if options["certificate"] else "ws"
        self.server_tls = self.client_tls = None
        if options["certificate"]:
            self.server_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.server_tls.load_cert_chain(options["certificate"])
            self.client_tls = ssl.create_default_context(cafile=options["authority"])
        self.connections: list[Any] = []

    async def serve(self, hosts: list[str]) -> Any:
        raise NotImplementedError

    async def open(self, address: Address) -> None:
        raise NotImplementedError

    async def echo(self, connection: Any, message: bytes) -> int:
        """Send and return the size of the answer."""
        raise NotImplementedError


def picows_side(options: dict[str, Any]) -> Side:
    """Ours and picows 2.3.1, whichever this Python has: the API is the same."""
    from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect, ws_create_server

    class Served(WSListener):
        __slots__ = ("all",)

        def __init__(self, connections: list[Any]) -> None:
            self.all = connections

        def on_ws_connected(self, transport: WSTransport) -> None:
            self.all.append(transport)

        def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
            if frame.msg_type == WSMsgType.BINARY:
                transport.send(
                    WSMsgType.BINARY, frame.get_payload_as_bytes() if frame.payload_size <= ECHOED else b"ok"
                )

        def on_ws_disconnected(self, transport: WSTransport) -> None:
            self.all.remove(transport)

    class Asking(WSListener):
        __slots__ = ("answer",)

        def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
            if frame.msg_type == WSMsgType.BINARY:
                self.answer.set_result(frame.payload_size)

    class Picows(Side):
        def arguments(self) -> dict[str, Any]:
            return {"max_frame_size": MAX_SIZE, **({"permessage_deflate": True} if self.deflate else {})}

        async def serve(self, hosts: list[str]) -> Any:
            return await ws_create_server(
                lambda _: Served(self.connections), hosts, 0, ssl=self.server_tls, backlog=1000, **self.arguments()
            )

        async def open(self, address: Address) -> None:
            url = f"{self.scheme}://{address[0]}:{address[1]}/"
            self.connections.append(await ws_connect(Asking, url, ssl_context=self.client_tls, **self.arguments()))

        async def echo(self, connection: Any, message: bytes) -> int:
            transport, listener = connection
            listener.answer = asyncio.get_running_loop().create_future()
            transport.send(WSMsgType.BINARY, message)
            size: int = await listener.answer
            del listener.answer
            return size

    return Picows(options)


def websockets_side(options: dict[str, Any]) -> Side:
    from websockets.asyncio.client import connect
    from websockets.asyncio.server import ServerConnection, serve

    class Websockets(Side):
        def arguments(self) -> dict[str, Any]:
            return {
                "compression": "deflate" if self.deflate else None,
                "ping_interval": None,  # as by default with the others
                "max_size": MAX_SIZE,
            }

        async def serve(self, hosts: list[str]) -> Any:
            async def handle(connection: ServerConnection) -> None:
                self.connections.append(connection)
                try:
                    async for message in connection:
                        await connection.send(message if len(message) <= ECHOED else b"ok")
                        message = b""
                finally:
                    self.connections.remove(connection)

            return await serve(handle, hosts, 0, ssl=self.server_tls, backlog=1000, **self.arguments())

        async def open(self, address: Address) -> None:
            url = f"{self.scheme}://{address[0]}:{address[1]}/"
            self.connections.append(await connect(url, ssl=self.client_tls, **self.arguments()))

        async def echo(self, connection: Any, message: bytes) -> int:
            await connection.send(message)
            return len(await connection.recv())

    return Websockets(options)


SIDES: dict[str, Callable[[dict[str, Any]], Side]] = {"picows": picows_side, "websockets": websockets_side}


async def in_batches(awaitables: Iterator[Awaitable[Any]]) -> None:
    """Await them all, AT_ONCE at a time; they are made when it is their turn."""
    while batch := list(islice(awaitables, AT_ONCE)):
        await asyncio.gather(*batch)


async def commands(side: Side, addresses: list[Address]) -> None:
    """Do what stdin says until it ends."""
    targets = cycle(addresses)

    async def echo(connection: Any, message: bytes) -> None:
        expected = len(message) if len(message) <= ECHOED else 2
        found = await side.echo(connection, message)
        if found != expected:
            raise SystemExit(f"expected an answer of {expected} bytes, found {found}")

    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        name, *numbers = line.decode().split()
        if name == "open":
            await in_batches(side.open(next(targets)) for _ in range(int(numbers[0])))
        elif name in ("echo", "send"):
            message = bytes(int(numbers[0]))
            await in_batches(echo(c, message) for c in side.connections[: 1 if name == "send" else None])
        elif name != "collect":
            raise SystemExit(f"expected a command, found {line!r}")
        gc.collect()
        print(json.dumps({"connections": len(side.connections)}), flush=True)


async def main() -> None:
    role, options = sys.argv[1], json.loads(sys.argv[2])
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    side = SIDES[options["library"]](options)
    addresses = [(host, port) for host, port in options["addresses"]]
    if role == "server":
        server = await side.serve(options["hosts"])
        addresses = [sock.getsockname()[:2] for sock in server.sockets]
        print(json.dumps({"addresses": addresses}), flush=True)
    await commands(side, addresses)


if __name__ == "__main__":
    uvloop.run(main())
