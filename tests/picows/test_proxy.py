from __future__ import annotations

import asyncio
import errno
import logging
import socket
import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from picows import WSInvalidStatusError, WSInvalidURL, WSMsgType, WSProxyError, parse_url, ws_connect
from picows.proxy import HttpTunnel, parse_proxy_url
from tests.picows import proxies
from tests.picows.recorder import Echo, Recorder
from tests.picows.test_redirect import redirecting
from tests.picows.test_server import serving
from tests.picows.test_tls import authority, tls_echo, trusting  # noqa: F401 - fixtures
from tests.picows.wire import BINARY, raw_server

HANDLERS = {"http": proxies.http, "https": proxies.http, "socks4": proxies.socks4, "socks5": proxies.socks5}


@pytest.fixture
def proxy_context(authority):  # noqa: F811
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


def running(scheme, proxy_context):
    return proxies.proxy(HANDLERS[scheme], proxy_context if scheme == "https" else None)


async def check_echo(transport, listener):
    for payload in (b"hello", bytes(range(256)) * 1000):
        transport.send(WSMsgType.BINARY, payload)
        assert await listener.next_frame() == (BINARY, payload)
    transport.disconnect()
    await transport.wait_disconnected()


# ---- every kind of proxy --------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", HANDLERS)
async def test_ws(scheme, proxy_context, trusting):  # noqa: F811
    echo = Echo()
    async with serving(lambda _: echo) as port, running(scheme, proxy_context) as proxy:
        transport, listener = await ws_connect(
            Recorder,
            f"ws://127.0.0.1:{port}/",
            proxy=f"{scheme}://127.0.0.1:{proxy.port}",
            proxy_ssl_context=trusting,
        )
        assert proxy.asked == [("127.0.0.1", port)]
        assert proxy.credentials in ([], [b""])
        assert not transport.is_secure  # beyond the proxy nothing is encrypted, whatever the way to it
        await check_echo(transport, listener)
        await echo.transport.wait_disconnected()


@pytest.mark.parametrize("scheme", HANDLERS)
async def test_wss(scheme, authority, proxy_context, trusting):  # noqa: F811
    async with tls_echo(authority) as (port, echo), running(scheme, proxy_context) as proxy:
        transport, listener = await ws_connect(
            Recorder,
            f"wss://127.0.0.1:{port}/",
            ssl_context=trusting,
            proxy=f"{scheme}://127.0.0.1:{proxy.port}/",
            proxy_ssl_context=trusting,
        )
        assert proxy.asked == [("127.0.0.1", port)]
        assert transport.is_secure
        await check_echo(transport, listener)
        await echo.transport.wait_disconnected()


@pytest.mark.parametrize(
    ("scheme", "sent"),
    [
        ("http", b"Proxy-Authorization: Basic bWU6cEB3"),
        ("https", b"Proxy-Authorization: Basic bWU6cEB3"),
        ("socks4", b"me"),
        ("socks5", b"me:p@w"),
    ],
)
async def test_credentials(scheme, sent, proxy_context, trusting, caplog):  # noqa: F811
    caplog.set_level(logging.DEBUG)
    async with serving(lambda _: Echo()) as port, running(scheme, proxy_context) as proxy:
        transport, listener = await ws_connect(
            Recorder,
            f"ws://127.0.0.1:{port}/",
            proxy=f"{scheme}://me:p%40w@127.0.0.1:{proxy.port}",
            proxy_ssl_context=trusting,
        )
        await check_echo(transport, listener)
        assert proxy.credentials == [sent]
    assert "p%40w" not in caplog.text


@pytest.mark.parametrize("scheme", ["http", "https", "socks5"])
async def test_the_proxy_resolves_the_name(scheme, proxy_context, trusting):  # noqa: F811
    async with serving(lambda _: Echo()) as port, running(scheme, proxy_context) as proxy:
        transport, listener = await ws_connect(
            Recorder,
            f"ws://only-the-proxy-knows.invalid:{port}/",
            proxy=f"{scheme}://127.0.0.1:{proxy.port}",
            proxy_ssl_context=trusting,
        )
        assert proxy.asked == [("only-the-proxy-knows.invalid", port)]
        assert transport.request.headers["Host"] == f"only-the-proxy-knows.invalid:{port}"
        await check_echo(transport, listener)


@pytest.mark.parametrize("scheme", HANDLERS)
@pytest.mark.parametrize("is_connected", [False, True])
async def test_socket_factory_makes_the_socket_to_the_proxy(scheme, is_connected, proxy_context, trusting):  # noqa: F811
    asked = []

    async def factory(url):
        asked.append((url.scheme, url.port))
        return socket.create_connection((url.host, url.port)) if is_connected else socket.socket()

    async with serving(lambda _: Echo()) as port, running(scheme, proxy_context) as proxy:
        transport, listener = await ws_connect(
            Recorder,
            f"ws://127.0.0.1:{port}/",
            proxy=f"{scheme}://127.0.0.1:{proxy.port}",
            proxy_ssl_context=trusting,
            socket_factory=factory,
        )
        assert asked == [(scheme, proxy.port)]
        await check_echo(transport, listener)


async def test_a_redirect_goes_through_the_proxy_too(proxy_context):
    async with serving(redirecting(302, "/new", [])) as port, running("http", proxy_context) as proxy:
        transport, _ = await ws_connect(
            Recorder, f"ws://127.0.0.1:{port}/old", proxy=f"http://127.0.0.1:{proxy.port}"
        )  # fmt: skip
        assert proxy.asked == [("127.0.0.1", port)] * 2
        transport.disconnect()
        await transport.wait_disconnected()


async def test_a_refusal_of_the_server_is_not_the_proxys(proxy_context):
    async with serving(lambda _: None) as port, running("http", proxy_context) as proxy:
        with pytest.raises(WSInvalidStatusError, match="404"):
            await ws_connect(Recorder, f"ws://127.0.0.1:{port}/", proxy=f"http://127.0.0.1:{proxy.port}")


# ---- certificates ---------------------------------------------------------------------------------


async def test_the_proxys_certificate_is_verified_by_default(proxy_context):
    async with running("https", proxy_context) as proxy:
        with pytest.raises(ssl.SSLCertVerificationError):
            await ws_connect(Recorder, "ws://127.0.0.1:1/", proxy=f"https://127.0.0.1:{proxy.port}")
        assert proxy.asked == []


@pytest.mark.parametrize("scheme", ["http", "https", "socks5"])
async def test_the_servers_certificate_is_verified_through_a_proxy(scheme, authority, proxy_context, trusting):  # noqa: F811
    async with tls_echo(authority, "other.example") as (port, _), running(scheme, proxy_context) as proxy:
        with pytest.raises(ssl.SSLCertVerificationError):
            await ws_connect(
                Recorder,
                f"wss://127.0.0.1:{port}/",
                ssl_context=trusting,
                proxy=f"{scheme}://127.0.0.1:{proxy.port}",
                proxy_ssl_context=trusting,
            )


@pytest.mark.parametrize("scheme", ["http", "socks5"])
async def test_server_hostname_is_the_servers(scheme, authority, trusting):  # noqa: F811
    async with tls_echo(authority, "feed.example") as (port, echo), running(scheme, None) as proxy:
        transport, listener = await ws_connect(
            Recorder,
            f"wss://127.0.0.1:{port}/",
            ssl_context=trusting,
            proxy=f"{scheme}://127.0.0.1:{proxy.port}",
            server_hostname="feed.example",
        )
        await check_echo(transport, listener)
        await echo.transport.wait_disconnected()


# ---- proxies that refuse --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scheme", "handler", "message", "code"),
    [
        ("http", proxies.answering(b"HTTP/1.1 407 Who are you\r\nContent-Length: 0\r\n\r\n"), "found 407 Who are", 407),
        ("http", proxies.answering(b"HTTP/1.1 101 Switching Protocols\r\n\r\n"), "malformed HTTP response", None),
        ("http", proxies.answering(b""), "closed the connection before it answered", None),
        ("http", proxies.answering(b"SSH-2.0-OpenSSH\r\n\r\n"), "malformed HTTP response", None),
        ("http", proxies.answering(b"HTTP/1.1 200 OK\r\nX: " + b"a" * 20_000), "malformed HTTP response", None),
        ("http", proxies.answering(b"HTTP/1.1 200 OK\r\n\r\nsurprise"), "nothing behind the response, found 8", None),
        ("socks4", proxies.answering(b"\0\x5b" + bytes(6)), "rejected", 0x5B),
        ("socks4", proxies.answering(b"\0\x5a"), "socks4 proxy 127.0.0.1", None),
        ("socks5", proxies.answering(b"\5\xff"), "socks5 proxy 127.0.0.1", None),
        ("socks5", proxies.answering(b""), "socks5 proxy 127.0.0.1", None),
        ("socks5", proxies.answering(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "socks5 proxy 127.0.0.1", None),
        ("socks5", proxies.answering(b"\5\0\5\2\0\1" + bytes(6)), "not allowed", 2),
    ],
)  # fmt: skip
async def test_proxies_that_refuse(scheme, handler, message, code):
    async with proxies.proxy(handler) as proxy:
        with pytest.raises(WSProxyError, match=message) as info:
            await ws_connect(
                Recorder, "ws://127.0.0.1:1/", proxy=f"{scheme}://me:secret@127.0.0.1:{proxy.port}"
            )  # fmt: skip
    assert info.value.code == code
    assert f"{scheme} proxy 127.0.0.1:{proxy.port}: " in str(info.value)
    assert "secret" not in str(info.value)


@pytest.mark.parametrize("scheme", HANDLERS)
async def test_nobody_is_the_proxy(scheme):
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        with pytest.raises(ConnectionRefusedError):
            await ws_connect(
                Recorder, "ws://127.0.0.1:1/", proxy=f"{scheme}://127.0.0.1:{sock.getsockname()[1]}"
            )  # fmt: skip


@pytest.mark.parametrize("scheme", ["http", "socks4", "socks5"])
async def test_a_proxy_that_says_nothing(scheme):
    async with proxies.proxy(proxies.silent) as proxy:
        with pytest.raises(
            TimeoutError, match=rf"no way through {scheme} proxy 127.0.0.1:{proxy.port} within 0.05 sec"
        ):
            await ws_connect(
                Recorder,
                "ws://127.0.0.1:1/",
                proxy=f"{scheme}://127.0.0.1:{proxy.port}",
                websocket_handshake_timeout=0.05,
            )


async def test_cancelling_closes_the_connection_to_the_proxy():
    async with raw_server() as server:
        connecting = asyncio.ensure_future(
            ws_connect(
                Recorder,
                "ws://127.0.0.1:1/",
                proxy=f"http://127.0.0.1:{server.port}",
                websocket_handshake_timeout=None,
            )
        )
        peer = await server.peer()
        assert peer.request.startswith(b"CONNECT 127.0.0.1:1 ")
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting
        assert await peer.read_to_end() == b""


# ---- the tunnel without a network -----------------------------------------------------------------


def tunnel(url="ws://feed.example/", proxy="http://proxy.example:3128"):
    return HttpTunnel(parse_proxy_url(proxy), parse_url(url))


@pytest.mark.parametrize(
    ("url", "authority_form"),
    [
        ("ws://feed.example/x?y", b"feed.example:80"),
        ("wss://feed.example/", b"feed.example:443"),
        ("ws://[::1]:9/", b"[::1]:9"),
    ],
)
def test_request(url, authority_form):
    assert tunnel(url).request_bytes() == b"CONNECT %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (authority_form, authority_form)


@pytest.mark.parametrize("cut", range(1, 60))
def test_a_response_may_arrive_in_pieces(cut):
    response = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 Yes\r\nContent-Length: 7\r\n\r\n"
    opening = tunnel()
    opening.request_bytes()
    assert not opening.receive(response[:cut])
    assert opening.receive(response[cut:])


@given(st.binary(max_size=200), st.integers(0, 200))
def test_bytes_of_any_kind_open_nothing(data, cut):
    opening = tunnel()
    opening.request_bytes()
    try:
        assert not opening.receive(data[:cut])
        assert not opening.receive(data[cut:])
    except WSProxyError as exc:
        assert str(exc).startswith("http proxy proxy.example:3128: ")


@pytest.mark.parametrize(
    ("url", "port"),
    [
        ("http://p", 80),
        ("https://p", 443),
        ("socks4://p", 1080),
        ("socks5://p", 1080),
        ("socks5://p:80", 80),
    ],
)
def test_default_ports(url, port):
    assert parse_proxy_url(url).port == port


@pytest.mark.parametrize(
    ("url", "error", "message"),
    [
        ("ftp://p:1", ValueError, "http, https, socks4, socks5, found 'ftp'"),
        ("127.0.0.1:3128", ValueError, "expected a proxy"),
        ("http://", WSInvalidURL, "no host"),
    ],
)
async def test_urls_that_are_no_proxy(url, error, message):
    with pytest.raises((error, WSInvalidURL), match=message if error is ValueError and "://" in url else None):
        await ws_connect(Recorder, "ws://127.0.0.1:1/", proxy=url)


async def test_what_a_socks_proxy_cannot_be_told():
    with pytest.raises(TypeError, match=r"\['family'\] of loop.create_connection\(\) cannot be set"):
        await ws_connect(Recorder, "ws://127.0.0.1:1/", proxy="socks5://p", family=socket.AF_INET)


async def test_local_addr_reaches_a_socks_proxy():
    with pytest.raises(OSError) as info:  # noqa: PT011 - which of them, the next line says
        await ws_connect(
            Recorder, "ws://127.0.0.1:1/", proxy="socks5://127.0.0.1:1", local_addr=("192.0.2.1", 0)
        )  # fmt: skip
    assert info.value.errno == errno.EADDRNOTAVAIL
