"""One library under measurement, in a process of its own: takes commands on stdin, answers each with a line of JSON.

    python worker.py LIBRARY client [--loop asyncio|uvloop|busy] [--core N] [--compiled FOLDER] [--ca FILE]
    python worker.py LIBRARY server [--loop ...] [--core N] [--compiled FOLDER] [--cert FILE --key FILE]
    python worker.py LIBRARY client --compile FOLDER      compile listeners.pyx against this environment's picows

LIBRARY is what this environment has: picows (ours or the one of that name), websockets, aiohttp, websocket_rs.
Commands:

    client:  echo LISTENER SIZE SECONDS PORT     burst LISTENER SIZE SECONDS PORT
    server:  echo LISTENER                       burst LISTENER SECONDS

The other side is `limit.c`. A server answers twice: with its port, and with the result once its client has come and
gone. LISTENER is python or cython. A measurement has a connection of its own; in `echo` a client makes round trips
for a while before those that count. In `burst` the program asks for so many seconds of frames; the clocks run from
there to the end of the connection. The peer ends it with a CLOSE, so that no listener has to look at what it counts;
"now" asks it to end the stream with it, because a listener that answers no CLOSE would wait. The coroutines of others
close by themselves.

Each library is used in the fastest style that its documentation shows, compression off, everything else by default.
Between commands the process sleeps in a read of stdin. The garbage collector is left as the program finds it.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import os
import resource
import ssl
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, Protocol, TypeVar

WARM_UP = 0.02  # seconds of round trips before those that count
PATIENCE = 60.0  # seconds that a measurement may take, whatever it was asked for

Result = dict[str, Any]
T = TypeVar("T")


def fill_payload(size: int) -> bytes:
    return bytes(i * 131 + (i >> 8) & 255 for i in range(size))


class Clocks:
    """Wall, user and total CPU time of this process, from now on."""

    def __init__(self) -> None:
        self._user = resource.getrusage(resource.RUSAGE_SELF).ru_utime
        self._cpu = time.process_time_ns()
        self._wall = time.perf_counter_ns()

    def read(self, n: int) -> Result:
        """Return the result of `n` round trips or frames."""
        wall = time.perf_counter_ns() - self._wall
        cpu = time.process_time_ns() - self._cpu
        user = resource.getrusage(resource.RUSAGE_SELF).ru_utime - self._user
        return {"n": n, "seconds": wall * 1e-9, "user_ns": round(user * 1e9), "cpu_ns": cpu}


class Pinger(Protocol):
    """A connection to an echo server."""

    async def ping(self, n: int) -> bytes:
        """Make so many round trips, one message outstanding; return what the last one brought back."""

    async def close(self) -> None: ...


async def measure_echo(pinger: Pinger, payload: bytes, seconds: float) -> Result:
    async def ping(n: int) -> None:
        found = await pinger.ping(n)
        if found != payload:
            raise ValueError(f"expected the {len(payload)} bytes back that were sent, found {len(found)}, or others")

    done, n = 0, 1
    start = time.perf_counter()
    while (elapsed := time.perf_counter() - start) < WARM_UP:
        await ping(n)
        done += n
        n *= 2
    n = int(seconds * done / elapsed) + 1
    clocks = Clocks()
    await ping(n)
    result = clocks.read(n)
    await pinger.close()
    return result


class Library(Protocol):
    """How a library is used. `url` has the path; `tls` is None for plain TCP."""

    async def open_pinger(self, url: str, tls: ssl.SSLContext | None, payload: bytes, listener: str) -> Pinger: ...

    async def count_frames(self, url: str, tls: ssl.SSLContext | None, seconds: bytes, listener: str) -> Result:
        """Ask for so many seconds of frames; return the result when the connection has ended."""

    async def serve_echo(self, tls: ssl.SSLContext | None, listener: str) -> Served:
        """Serve echoes until the first client has left."""

    async def serve_burst(self, tls: ssl.SSLContext | None, seconds: bytes, listener: str) -> Served:
        """Ask the first client for so many seconds of frames and count them."""


class Served:
    """A server that serves one client."""

    def __init__(self) -> None:
        self.result: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self.port = 0
        self.close: Callable[[], Awaitable[None]] = _nothing

    def finish(self, result: Result) -> None:
        if not self.result.done():
            self.result.set_result(result)

    def listens(self, server: Any, close: Callable[[], Awaitable[None]]) -> Served:
        self.port = server.sockets[0].getsockname()[1]
        self.close = close
        return self


async def _nothing() -> None:
    pass


# --- picows: ours, and the library of that name -----------------------------------------------------


def picows(options: argparse.Namespace) -> Library:
    from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect, ws_create_server

    BINARY = WSMsgType.BINARY
    TEXT = WSMsgType.TEXT

    class PythonPing(WSListener):
        def __init__(self, msg_type: WSMsgType, payload: bytes) -> None:
            self.payload = payload
            self.remaining = 0
            self.done: Any = None

        def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
            self.remaining -= 1
            if self.remaining > 0:
                transport.send(BINARY, self.payload)
            else:
                self.done(frame.get_payload_as_bytes())

    class PythonCount(WSListener):
        def __init__(self, ended: Callable[[], None]) -> None:
            self.count = 0
            self.ended = ended

        def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
            self.count += 1

        def on_ws_disconnected(self, transport: WSTransport) -> None:
            self.ended()

    class Echo(WSListener):
        def __init__(self, ended: Callable[[], None]) -> None:
            self.ended = ended

        def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
            transport.send(BINARY, frame.get_payload_as_memoryview())

        def on_ws_disconnected(self, transport: WSTransport) -> None:
            self.ended()

    def choose(listener: str) -> tuple[Any, Any]:
        if listener == "python":
            return PythonPing, PythonCount
        sys.path.insert(0, options.compiled)
        compiled = importlib.import_module("listeners")
        return compiled.PingListener, compiled.CountingListener

    class PicowsPinger:
        def __init__(self, transport: WSTransport, listener: Any) -> None:
            self.transport = transport
            self.listener = listener

        async def ping(self, n: int) -> bytes:
            future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
            self.listener.remaining = n
            self.listener.done = future.set_result
            self.transport.send(BINARY, self.listener.payload)
            return await future

        async def close(self) -> None:
            self.transport.disconnect()
            await self.transport.wait_disconnected()

    class Picows:
        async def open_pinger(self, url: str, tls: ssl.SSLContext | None, payload: bytes, listener: str) -> Pinger:
            make = choose(listener)[0]
            return PicowsPinger(*await ws_connect(lambda: make(BINARY, payload), url, ssl_context=tls))

        async def count_frames(self, url: str, tls: ssl.SSLContext | None, seconds: bytes, listener: str) -> Result:
            make = choose(listener)[1]
            future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()

            def ended() -> None:
                future.set_result(clocks.read(counter.count - 1))  # the CLOSE was counted too

            transport, counter = await ws_connect(lambda: make(ended), url, ssl_context=tls)
            clocks = Clocks()
            transport.send(TEXT, seconds + b" now")
            return await future

        async def serve_echo(self, tls: ssl.SSLContext | None, listener: str) -> Served:
            served = Served()
            clocks = Clocks()
            return await self._serve(served, lambda _: Echo(lambda: served.finish(clocks.read(0))), tls)

        async def serve_burst(self, tls: ssl.SSLContext | None, seconds: bytes, listener: str) -> Served:
            served = Served()

            class Counting(choose(listener)[1]):  # type: ignore[misc]  # only on_ws_connected is Python's
                def on_ws_connected(self, transport: WSTransport) -> None:
                    self.clocks = Clocks()
                    transport.send(TEXT, seconds + b" now")

            def make(request: Any) -> Any:
                counter = Counting(lambda: served.finish(counter.clocks.read(counter.count - 1)))
                return counter

            return await self._serve(served, make, tls)

        async def _serve(self, served: Served, factory: Callable[[Any], Any], tls: ssl.SSLContext | None) -> Served:
            # 2.3.1 serves TLS by aiofastnet by default, ours only when told to.
            server = await ws_create_server(factory, "127.0.0.1", 0, ssl=tls, use_aiofastnet=True)

            async def close() -> None:
                server.close()
                await server.wait_closed()

            return served.listens(server, close)

    return Picows()


# --- websockets -----------------------------------------------------------------------------------


def websockets(options: argparse.Namespace) -> Library:
    from websockets.asyncio.client import connect
    from websockets.asyncio.server import serve
    from websockets.exceptions import ConnectionClosedError

    class WebsocketsPinger:
        def __init__(self, connection: Any, payload: bytes) -> None:
            self.connection = connection
            self.payload = payload

        async def ping(self, n: int) -> bytes:
            connection, payload = self.connection, self.payload
            for _ in range(n):
                await connection.send(payload)
                message = await connection.recv()
            return bytes(message)

        async def close(self) -> None:
            await self.connection.close()

    async def count(connection: Any, seconds: bytes) -> Result:
        n = 0
        clocks = Clocks()
        await connection.send(seconds)
        async for _ in connection:
            n += 1
        return clocks.read(n)

    class Websockets:
        async def open_pinger(self, url: str, tls: ssl.SSLContext | None, payload: bytes, listener: str) -> Pinger:
            return WebsocketsPinger(await connect(url, ssl=tls, compression=None), payload)

        async def count_frames(self, url: str, tls: ssl.SSLContext | None, seconds: bytes, listener: str) -> Result:
            async with connect(url, ssl=tls, compression=None) as connection:
                return await count(connection, seconds)

        async def serve_echo(self, tls: ssl.SSLContext | None, listener: str) -> Served:
            served = Served()

            async def handler(connection: Any) -> None:
                clocks = Clocks()
                try:
                    async for message in connection:
                        await connection.send(message)
                except ConnectionClosedError:  # the peer closes without a CLOSE
                    pass
                served.finish(clocks.read(0))

            return await self._serve(served, handler, tls)

        async def serve_burst(self, tls: ssl.SSLContext | None, seconds: bytes, listener: str) -> Served:
            served = Served()

            async def handler(connection: Any) -> None:
                served.finish(await count(connection, seconds))

            return await self._serve(served, handler, tls)

        async def _serve(self, served: Served, handler: Any, tls: ssl.SSLContext | None) -> Served:
            server = await serve(handler, "127.0.0.1", 0, ssl=tls, compression=None)

            async def close() -> None:
                server.close()
                await server.wait_closed()

            return served.listens(server, close)

    return Websockets()


# --- aiohttp --------------------------------------------------------------------------------------


def aiohttp(options: argparse.Namespace) -> Library:
    from aiohttp import ClientSession, web

    class AiohttpPinger:
        def __init__(self, session: ClientSession, connection: Any, payload: bytes) -> None:
            self.session = session
            self.connection = connection
            self.payload = payload

        async def ping(self, n: int) -> bytes:
            connection, payload = self.connection, self.payload
            for _ in range(n):
                await connection.send_bytes(payload)
                message = await connection.receive()
            return bytes(message.data)

        async def close(self) -> None:
            await self.connection.close()
            await self.session.close()

    async def count(connection: Any, seconds: bytes) -> Result:
        n = 0
        clocks = Clocks()
        await connection.send_bytes(seconds)
        async for _ in connection:
            n += 1
        return clocks.read(n)

    class Aiohttp:
        async def open_pinger(self, url: str, tls: ssl.SSLContext | None, payload: bytes, listener: str) -> Pinger:
            session = ClientSession()
            return AiohttpPinger(session, await session.ws_connect(url, ssl=tls or True), payload)

        async def count_frames(self, url: str, tls: ssl.SSLContext | None, seconds: bytes, listener: str) -> Result:
            async with ClientSession() as session, session.ws_connect(url, ssl=tls or True) as connection:
                return await count(connection, seconds)

        async def serve_echo(self, tls: ssl.SSLContext | None, listener: str) -> Served:
            served = Served()

            async def handler(request: web.Request) -> web.WebSocketResponse:
                connection = web.WebSocketResponse(compress=False)
                await connection.prepare(request)
                clocks = Clocks()
                async for message in connection:
                    await connection.send_bytes(message.data)
                served.finish(clocks.read(0))
                return connection

            return await self._serve(served, handler, tls)

        async def serve_burst(self, tls: ssl.SSLContext | None, seconds: bytes, listener: str) -> Served:
            served = Served()

            async def handler(request: web.Request) -> web.WebSocketResponse:
                connection = web.WebSocketResponse(compress=False)
                await connection.prepare(request)
                served.finish(await count(connection, seconds))
                return connection

            return await self._serve(served, handler, tls)

        async def _serve(self, served: Served, handler: Any, tls: ssl.SSLContext | None) -> Served:
            application = web.Application()
            application.router.add_get("/{path:.*}", handler)
            runner = web.AppRunner(application)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
            await site.start()
            return served.listens(site._server, runner.cleanup)

    return Aiohttp()


# --- websocket-rs: a client only --------------------------------------------------------------------


def websocket_rs(options: argparse.Namespace) -> Library:
    from websocket_rs import connect

    class RsPinger:
        def __init__(self, payload: bytes) -> None:
            self.payload = payload
            self.remaining = 0
            self.done: Any = None
            self.connection: Any = None

        def on_message(self, message: Any) -> None:
            self.remaining -= 1
            if self.remaining > 0:
                self.connection.send(self.payload)
            else:
                self.done(bytes(message))

        async def ping(self, n: int) -> bytes:
            future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
            self.remaining = n
            self.done = future.set_result
            self.connection.send(self.payload)
            return await future

        async def close(self) -> None:
            self.connection.close()

    class WebsocketRs:
        async def open_pinger(self, url: str, tls: ssl.SSLContext | None, payload: bytes, listener: str) -> Pinger:
            pinger = RsPinger(payload)
            pinger.connection = await connect(url, ssl_context=tls, on_message=pinger.on_message)
            return pinger

        async def count_frames(self, url: str, tls: ssl.SSLContext | None, seconds: bytes, listener: str) -> Result:
            n = 0

            def on_message(message: Any) -> None:
                nonlocal n
                n += 1

            connection = await connect(url, ssl_context=tls, on_message=on_message)
            clocks = Clocks()
            connection.send(seconds + b" now")
            try:
                await connection.recv()  # brings no message beside on_message, and raises at the end
            except ConnectionError:
                pass
            return clocks.read(n)

        async def serve_echo(self, tls: ssl.SSLContext | None, listener: str) -> Served:
            raise NotImplementedError("websocket-rs is a client only")

        async def serve_burst(self, tls: ssl.SSLContext | None, seconds: bytes, listener: str) -> Served:
            raise NotImplementedError("websocket-rs is a client only")

    return WebsocketRs()


LIBRARIES: dict[str, Callable[[argparse.Namespace], Library]] = {
    "picows": picows,
    "websockets": websockets,
    "aiohttp": aiohttp,
    "websocket_rs": websocket_rs,
}


# --- event loops ------------------------------------------------------------------------------------


def asyncio_runner() -> Callable[[Coroutine[Any, Any, T]], T]:
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    return loop.run_until_complete


def uvloop_runner() -> Callable[[Coroutine[Any, Any, T]], T]:
    import uvloop

    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    return loop.run_until_complete


def busy_runner() -> Callable[[Coroutine[Any, Any, T]], T]:
    """Polls while it is measured, on uvloop."""
    import picows

    async def polling(coroutine: Coroutine[Any, Any, T]) -> T:
        poller = picows.start_busy_polling()
        try:
            return await coroutine
        finally:
            poller.stop()

    run = uvloop_runner()
    return lambda coroutine: run(polling(coroutine))


RUNNERS: dict[str, Callable[[], Callable[[Coroutine[Any, Any, Any]], Any]]] = {
    "asyncio": asyncio_runner,
    "uvloop": uvloop_runner,
    "busy": busy_runner,
}


# --- commands -------------------------------------------------------------------------------------


def answer(result: Result) -> None:
    sys.stdout.write(json.dumps(result) + "\n")
    sys.stdout.flush()


def client_context(ca: str | None) -> ssl.SSLContext | None:
    return ssl.create_default_context(cafile=ca) if ca else None


def server_context(cert: str | None, key: str | None) -> ssl.SSLContext | None:
    if cert is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    return context


async def as_client(library: Library, words: list[str], tls: ssl.SSLContext | None) -> Result:
    what, listener, size, seconds, port = words
    url = f"{'wss' if tls else 'ws'}://127.0.0.1:{port}"
    if what == "burst":
        return await library.count_frames(f"{url}/flood/{size}", tls, seconds.encode(), listener)
    payload = fill_payload(int(size))
    return await measure_echo(await library.open_pinger(f"{url}/echo", tls, payload, listener), payload, float(seconds))


async def as_server(library: Library, words: list[str], tls: ssl.SSLContext | None) -> Result:
    what, listener, *rest = words
    if what == "burst":
        served = await library.serve_burst(tls, rest[0].encode(), listener)
    else:
        served = await library.serve_echo(tls, listener)
    answer({"port": served.port})
    try:
        return await served.result
    finally:
        await served.close()


def compile_listeners(folder: str) -> None:
    from Cython.Build import cythonize
    from setuptools import Distribution, Extension

    package = importlib.import_module("picows").__file__
    assert package is not None
    extension = Extension("listeners", [str(Path(__file__).with_name("listeners.pyx"))], extra_compile_args=["-O3"])
    include = [str(Path(package).parents[1])]  # where its .pxd files are
    extensions = cythonize([extension], build_dir=folder, include_path=include, force=True, quiet=True)
    command = Distribution({"ext_modules": extensions}).get_command_obj("build_ext")
    command.build_lib = command.build_temp = folder
    command.force = True
    command.ensure_finalized()
    command.run()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("library", choices=LIBRARIES)
    parser.add_argument("role", choices=("client", "server"))
    parser.add_argument("--loop", choices=RUNNERS, default="asyncio")
    parser.add_argument("--core", type=int)
    parser.add_argument("--compiled", help="folder of the compiled listeners")
    parser.add_argument("--compile", metavar="FOLDER")
    parser.add_argument("--ca")
    parser.add_argument("--cert")
    parser.add_argument("--key")
    options = parser.parse_args()
    if options.compile:
        compile_listeners(options.compile)
        return
    if options.core is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {options.core})
    try:
        library = LIBRARIES[options.library](options)
        run = RUNNERS[options.loop]()
    except (ImportError, NotImplementedError) as error:
        answer({"error": str(error)})
        return
    is_client = options.role == "client"
    tls = client_context(options.ca) if is_client else server_context(options.cert, options.key)
    answer({"ready": True})
    for line in sys.stdin:
        words = line.split()
        work = as_client if is_client else as_server
        try:
            answer(run(asyncio.wait_for(work(library, words, tls), PATIENCE)))
        except Exception as error:
            answer({"error": f"{type(error).__name__}: {error}"})


if __name__ == "__main__":
    main()
