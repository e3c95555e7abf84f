from __future__ import annotations

import socket
import ssl
from contextlib import asynccontextmanager

import pytest
import trustme

from picows import WSMsgType, ws_connect, ws_create_server
from tests.picows.recorder import Echo, Recorder, read_buffer_capacity
from tests.picows.wire import BINARY, TEXT


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@asynccontextmanager
async def tls_echo(authority, name="127.0.0.1"):
    """`(port, listener)` of an echo server with a certificate for `name`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    listener = Echo()
    server = await ws_create_server(lambda _: listener, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1], listener
    finally:
        server.close()


@pytest.fixture
def trusting(authority):
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


async def test_echo_over_tls(authority, trusting):
    async with tls_echo(authority) as (port, echo):
        transport, listener = await ws_connect(Recorder, f"wss://127.0.0.1:{port}/", ssl_context=trusting)
        assert transport.is_secure
        assert echo.transport.is_secure
        for payload in (b"", b"small", bytes(range(256)) * 4000):
            transport.send(WSMsgType.BINARY, payload)
            assert await listener.next_frame() == (BINARY, payload)
        transport.send_close(1000)
        await transport.wait_disconnected()
        await echo.transport.wait_disconnected()
        assert echo.events[-1] == listener.events[-1] == "disconnected"


async def test_a_large_frame_over_tls_and_its_memory(authority, trusting):
    payload = bytes(range(256)) * (8 * 1024 * 1024 // 256)
    async with tls_echo(authority) as (port, echo):
        transport, listener = await ws_connect(Recorder, f"wss://127.0.0.1:{port}/", ssl_context=trusting)
        transport.send(WSMsgType.BINARY, payload)
        assert (await listener.next_frame())[1] == payload
        for _ in range(3):
            transport.send(WSMsgType.TEXT, b"small")
            assert await listener.next_frame() == (TEXT, b"small")
        assert read_buffer_capacity(transport) == 16 * 1024
        transport.disconnect()
        await transport.wait_disconnected()
        await echo.transport.wait_disconnected()


async def test_certificates_are_verified_by_default(authority):
    async with tls_echo(authority) as (port, _):
        with pytest.raises(ssl.SSLCertVerificationError):
            await ws_connect(Recorder, f"wss://127.0.0.1:{port}/")


async def test_names_are_verified(authority, trusting):
    async with tls_echo(authority, "other.example") as (port, _):
        with pytest.raises(ssl.SSLCertVerificationError):
            await ws_connect(Recorder, f"wss://127.0.0.1:{port}/", ssl_context=trusting)


async def test_tls_over_a_socket_of_the_user(authority, trusting):
    async with tls_echo(authority) as (port, echo):
        transport, listener = await ws_connect(
            Recorder, f"wss://127.0.0.1:{port}/", ssl_context=trusting, socket_factory=lambda _: socket.socket()
        )
        transport.send(WSMsgType.TEXT, b"x")
        assert await listener.next_frame() == (TEXT, b"x")
        transport.disconnect()
        await transport.wait_disconnected()
        await echo.transport.wait_disconnected()
