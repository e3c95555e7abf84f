"""Connections whose socket is read by us: with kernel receive times, and by busy polling."""

from __future__ import annotations

import asyncio
import selectors
import socket
import ssl
import struct
import sys
import time

import pytest

from picows import WSListener, WSMsgType, start_busy_polling, ws_connect
from picows.socket_reader import SocketReader, busy_poller
from tests.picows.recorder import Echo, Recorder
from tests.picows.test_protocol import client
from tests.picows.test_proxy import HANDLERS, proxy_context, running, serving  # noqa: F401
from tests.picows.test_tls import authority, tls_echo, trusting  # noqa: F401
from tests.picows.wire import BINARY, TEXT, frame, raw_server

LARGE = bytes(range(256)) * 4000
linux = pytest.mark.skipif(sys.platform != "linux", reason="kernel receive times are Linux's")


@pytest.fixture(params=[pytest.param("kernel_time", marks=linux), "busy", pytest.param("both", marks=linux)])
async def how(request):
    """Arguments for ws_connect(); with "busy" and "both" the event loop polls."""
    poller = None if request.param == "kernel_time" else start_busy_polling()
    yield {} if request.param == "busy" else {"kernel_time": True}
    if poller is not None:
        poller.stop()


async def test_echo(how):
    async with client(**how) as (transport, listener, peer):
        assert isinstance(transport.underlying_transport, SocketReader)
        assert transport.underlying_transport.is_reading()
        for payload in (b"", b"small", LARGE):
            transport.send(WSMsgType.BINARY, payload)
            assert (await peer.read_frame()).payload == payload
            peer.send(frame(BINARY, payload))
            assert await listener.next_frame() == (BINARY, payload)
        transport.send_close(1000)
        await peer.read_frame()
        peer.writer.close()
        await transport.wait_disconnected()
        assert listener.events[-1] == "disconnected"
        assert listener.events.count("disconnected") == 1
        assert not transport.underlying_transport.is_reading()


async def test_echo_under_tls(how, authority, trusting):  # noqa: F811
    async with tls_echo(authority) as (port, echo):
        transport, listener = await ws_connect(Recorder, f"wss://127.0.0.1:{port}/", ssl_context=trusting, **how)
        for payload in (b"", b"small", LARGE, b"small again"):
            transport.send(WSMsgType.BINARY, payload)
            assert await listener.next_frame() == (BINARY, payload)
        transport.send_close(1000)
        await transport.wait_disconnected()
        await echo.transport.wait_disconnected()
        assert listener.events[-1] == echo.events[-1] == "disconnected"


@pytest.mark.parametrize("scheme", HANDLERS)
@pytest.mark.parametrize("secure", [False, True])
async def test_through_a_proxy(how, secure, scheme, authority, proxy_context, trusting):  # noqa: F811
    async with running(scheme, proxy_context) as proxy, tls_echo(authority) as (port, echo):
        if not secure:
            async with serving(lambda _: Echo()) as plain_port:
                await check_through(proxy, scheme, f"ws://127.0.0.1:{plain_port}/", trusting, how)
            return
        await check_through(proxy, scheme, f"wss://127.0.0.1:{port}/", trusting, how)
        await echo.transport.wait_disconnected()


async def check_through(proxy, scheme, url, context, how):
    transport, listener = await ws_connect(
        Recorder, url, ssl_context=context, proxy=f"{scheme}://127.0.0.1:{proxy.port}", proxy_ssl_context=context, **how
    )
    transport.send(WSMsgType.BINARY, b"x" * 1000)
    assert await listener.next_frame() == (BINARY, b"x" * 1000)
    transport.disconnect()
    await transport.wait_disconnected()


@linux
@pytest.mark.parametrize("secure", [False, True])
async def test_kernel_times(secure, authority, trusting):  # noqa: F811
    class Times(Recorder):
        def on_ws_frame(self, transport, frame):
            super().on_ws_frame(transport, frame)
            times.append((frame.kernel_time_ns, time.time_ns()))

    async def exchange(how, is_enough):
        times.clear()
        async with tls_echo(authority) if secure else serving(lambda _: Echo()) as server:
            port = server[0] if secure else server
            url = f"{'wss' if secure else 'ws'}://127.0.0.1:{port}/"
            transport, listener = await ws_connect(Times, url, ssl_context=trusting, **how)
            while not is_enough():
                transport.send(WSMsgType.TEXT, b"x")
                await listener.next_frame()
            transport.disconnect(graceful=False)
            await transport.wait_disconnected()

    times = []
    began = time.time_ns()
    # The kernel takes its time to begin with it; from then on every read has one.
    await exchange({"kernel_time": True}, lambda: len(times) > 20 and times[-20][0] > 0)
    kernel_times = [kernel for kernel, _ in times]
    kernel_times = kernel_times[kernel_times.count(0) :]
    assert began < kernel_times[0]
    assert kernel_times == sorted(kernel_times)
    assert all(kernel < callback < kernel + 1_000_000_000 for kernel, callback in times[-20:])
    await exchange({}, lambda: len(times) == 20)
    assert [kernel for kernel, _ in times] == [0] * 20


async def test_one_time_for_all_frames_of_a_read(how):
    class Times(Recorder):
        def on_ws_frame(self, transport, frame):
            super().on_ws_frame(transport, frame)
            self.events.append(frame.kernel_time_ns)

    async with client(Times, **how) as (_, listener, peer):
        peer.send(frame(TEXT, b"a") + frame(TEXT, b"b"))
        await listener.next_frame()
        await listener.next_frame()
        first, second = listener.events[2::2]
        assert first == second
        assert first == 0 or "kernel_time" in how


async def test_pausing(how):
    async with client(**how) as (transport, listener, peer):
        transport.underlying_transport.pause_reading()
        peer.send(frame(TEXT, b"a"))
        while transport.unread_size() < 3:  # noqa: ASYNC110 - the kernel sets no event
            await asyncio.sleep(0)
        for _ in range(10):
            await asyncio.sleep(0)
        assert listener.frames.empty()
        assert not transport.underlying_transport.is_reading()
        transport.underlying_transport.resume_reading()
        assert await listener.next_frame() == (TEXT, b"a")


async def test_a_listener_that_pauses_gets_the_rest_of_its_read_only(how):
    class Pausing(Recorder):
        def on_ws_frame(self, transport, frame):
            super().on_ws_frame(transport, frame)
            transport.underlying_transport.pause_reading()

    async with client(Pausing, **how) as (transport, listener, peer):
        for name in (b"a", b"b"):
            peer.send(frame(TEXT, name))
            assert await listener.next_frame() == (TEXT, name)
            assert not transport.underlying_transport.is_reading()
            transport.underlying_transport.resume_reading()


async def test_a_peer_that_resets(how):
    async with client(**how) as (transport, listener, peer):
        sock = peer.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.writer.transport.abort()
        await transport.wait_disconnected()
        assert listener.events == ["connected", "disconnected"]


async def test_a_peer_that_resets_behind_what_it_said(how):
    async with client(**how) as (transport, listener, peer):
        sock = peer.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.underlying_transport.pause_reading()
        peer.send(frame(TEXT, b"last words"))
        while transport.unread_size() < 12:  # noqa: ASYNC110 - the kernel sets no event
            await asyncio.sleep(0)
        peer.writer.transport.abort()
        await asyncio.sleep(0)
        transport.underlying_transport.resume_reading()
        await asyncio.wait_for(transport.wait_disconnected(), 5)
        assert listener.events in (
            ["connected", "disconnected"],  # a reset may discard what came before it
            ["connected", (TEXT, b"last words"), "disconnected"],
        )


async def test_the_reset_is_named_in_the_log(how, caplog):
    caplog.set_level("INFO", logger="picows")
    async with client(**how) as (transport, _, peer):
        peer.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.writer.transport.abort()
        await transport.wait_disconnected()
    assert "disconnected (ConnectionResetError(104" in caplog.text


async def test_a_refused_handshake_leaves_nothing_open(how):
    async with raw_server() as server:
        connecting = asyncio.ensure_future(ws_connect(Recorder, f"ws://127.0.0.1:{server.port}/", **how))
        peer = await server.peer()
        peer.send(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        with pytest.raises(Exception, match="404"):
            await connecting
        assert await peer.read_to_end() == b""


async def test_certificates_are_verified(how, authority):  # noqa: F811
    async with tls_echo(authority) as (port, _):
        with pytest.raises(ssl.SSLCertVerificationError):
            await ws_connect(Recorder, f"wss://127.0.0.1:{port}/", **how)


async def test_it_needs_aiofastnet(how):
    with pytest.raises(ValueError, match="need aiofastnet"):
        await ws_connect(Recorder, "ws://127.0.0.1:1/", use_aiofastnet=False, **how)


async def test_reading_until_drained(how):
    async with client(read_until_drained=10, **how) as (transport, listener, peer):
        transport.underlying_transport.pause_reading()
        frames = [frame(TEXT, b"%07d" % i) for i in range(8000)]
        peer.send(b"".join(frames))
        while transport.unread_size() < sum(map(len, frames)):  # noqa: ASYNC110 - the kernel sets no event
            await asyncio.sleep(0)
        transport.underlying_transport.resume_reading()
        for i in range(len(frames)):
            assert await listener.next_frame() == (TEXT, b"%07d" % i)
        assert sum(last for _, last, _ in listener.last_flags) == 1


# ---- the poller -------------------------------------------------------------------------------------


async def test_a_polling_loop_does_the_rest_of_its_work():
    poller = start_busy_polling()
    assert busy_poller() is poller
    async with client() as (_, listener, peer):
        order = []
        timer = asyncio.get_running_loop().call_later(0.01, order.append, "timer")
        await asyncio.wait_for(asyncio.sleep(0.02), 5)
        assert order == ["timer"]
        assert timer.cancelled() is False
        peer.send(frame(TEXT, b"a"))
        assert await listener.next_frame() == (TEXT, b"a")
    poller.stop()


async def test_connections_outlive_the_poller():
    poller = start_busy_polling()
    async with client() as (transport, listener, peer):
        peer.send(frame(TEXT, b"a"))
        assert await listener.next_frame() == (TEXT, b"a")
        poller.stop()
        poller.stop()
        assert not poller.is_running
        assert busy_poller() is None
        assert transport.underlying_transport.is_reading()
        peer.send(frame(TEXT, b"b"))
        assert await listener.next_frame() == (TEXT, b"b")


async def test_paused_connections_stay_paused_without_the_poller():
    poller = start_busy_polling()
    async with client() as (transport, listener, peer):
        transport.underlying_transport.pause_reading()
        poller.stop()
        assert not transport.underlying_transport.is_reading()
        transport.underlying_transport.resume_reading()
        peer.send(frame(TEXT, b"b"))
        assert await listener.next_frame() == (TEXT, b"b")


async def test_what_start_busy_polling_refuses():
    for turn in (-1e-9, 1.1, float("nan")):
        with pytest.raises(ValueError, match="turn of 0 to 1 seconds"):
            start_busy_polling(turn=turn)
    poller = start_busy_polling(turn=0)
    with pytest.raises(RuntimeError, match="polling already"):
        start_busy_polling()
    poller.stop()
    start_busy_polling().stop()


def test_start_busy_polling_without_a_loop():
    with pytest.raises(RuntimeError, match="no running event loop"):
        start_busy_polling()


class _SleepyListener(WSListener):
    pass


def test_the_loop_never_sleeps():
    """From the start to the stop every look at the selector is one that returns at once."""

    class Selector(selectors.DefaultSelector):
        def select(self, timeout=None):
            timeouts.append(timeout)
            return super().select(timeout)

    async def main():
        async with client(_SleepyListener) as (transport, _, peer):
            poller = start_busy_polling(turn=0)
            timeouts.clear()
            await asyncio.sleep(0.01)
            polled = list(timeouts)
            poller.stop()
            timeouts.clear()
            await asyncio.sleep(0.01)
            assert set(polled) == {0}
            assert len(polled) > 10
            assert any(timeout is None or timeout > 0 for timeout in timeouts)
            peer.writer.close()
            await transport.wait_disconnected()

    timeouts = []
    loop = asyncio.SelectorEventLoop(Selector())
    try:
        loop.run_until_complete(main())
    finally:
        loop.close()
