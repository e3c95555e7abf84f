from __future__ import annotations

import asyncio
import socket
import ssl

import pytest

from picows import (
    WSHandshakeError,
    WSInvalidStatusError,
    WSInvalidURL,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
    parse_url,
    ws_connect,
    ws_create_server,
)
from picows.redirect import headers_for, redirect_target
from tests.picows.recorder import Recorder
from tests.picows.test_server import serving
from tests.picows.test_tls import authority, tls_echo, trusting  # noqa: F401 - fixtures
from tests.picows.wire import raw_server


def refusal(location, status=302):
    headers = {} if location is None else {"Location": location}
    response = WSUpgradeResponse.create_error_response(404, None, headers)
    response.status = status
    return WSInvalidStatusError("expected status 101", b"head", b"body", response)


@pytest.mark.parametrize(
    ("url", "location", "expected"),
    [
        ("ws://a/feed?x=1", "/new", "ws://a/new"),
        ("ws://a/v1/feed", "other?y=2", "ws://a/v1/other?y=2"),
        ("ws://a/feed", "?y=2", "ws://a/feed?y=2"),
        ("ws://a/feed", "ws://b:81/", "ws://b:81/"),
        ("ws://a/feed", "//b/feed", "ws://b/feed"),
        ("ws://a/", "wss://a/", "wss://a/"),
        ("ws://a/", "http://b/x", "ws://b/x"),
        ("ws://a/", "HTTPS://b/x", "wss://b/x"),
        ("wss://a/", "https://b/x", "wss://b/x"),
        ("ws://a/", "/x#top", "ws://a/x"),
        ("ws://[::1]:9/", "/x", "ws://[::1]:9/x"),
    ],
)
def test_where_a_location_leads(url, location, expected):
    target = redirect_target(parse_url(url), refusal(location))
    assert target == parse_url(expected)


def test_credentials_stay_with_their_origin():
    url = parse_url("ws://me:secret@a/feed")
    assert redirect_target(url, refusal("/new")).user_info == ("me", "secret")
    assert redirect_target(url, refusal("ws://a:80/new")).user_info == ("me", "secret")
    assert redirect_target(url, refusal("ws://you:own@a/new")).user_info == ("you", "own")
    for other in ("ws://b/", "ws://a:81/", "wss://a/", "ws://a.b/"):
        assert redirect_target(url, refusal(other)).user_info is None


def test_header_fields_stay_with_their_origin():
    url = parse_url("ws://a/")
    headers = [("Host", "x"), ("Authorization", "k"), ("X-MBX-APIKEY", "k"), ("cookie", "k"), ("user-agent", "me")]
    assert headers_for(parse_url("ws://a/new"), url, headers) == headers
    assert headers_for(parse_url("ws://b/"), url, headers) == [("user-agent", "me")]
    assert headers_for(parse_url("wss://a/"), url, headers) == [("user-agent", "me")]


@pytest.mark.parametrize("location", ["ws://a/", "http://a/", "ws://b:443/"])
def test_never_from_wss_to_ws(location):
    with pytest.raises(WSHandshakeError, match="redirects from wss to ws") as info:
        redirect_target(parse_url("wss://a/"), refusal(location))
    assert (info.value.raw_header, info.value.raw_body, info.value.response.status) == (b"head", b"body", 302)


def test_no_location():
    with pytest.raises(WSHandshakeError, match="expected a Location with status 307, found none") as info:
        redirect_target(parse_url("ws://a/"), refusal(None, 307))
    assert type(info.value) is WSHandshakeError


@pytest.mark.parametrize("location", ["ftp://b/", "ws://:1/", "ws://b:70000/", "javascript:x"])
def test_a_location_that_is_no_websocket_url(location):
    with pytest.raises(WSInvalidURL):
        redirect_target(parse_url("ws://a/"), refusal(location))


def redirecting(status, location, seen):
    def route(request):
        seen.append(request)
        if request.path == b"/new":
            return Recorder()
        return WSUpgradeResponseWithListener(WSUpgradeResponse.create_redirect_response(status, location))

    return route


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_followed(status):
    seen = []
    async with serving(redirecting(status, "/new", seen)) as port:
        transport, _ = await ws_connect(
            Recorder, f"ws://me:pw@127.0.0.1:{port}/old", extra_headers=iter([("X-Key", "k")])
        )
        assert transport.request.path == b"/new"
        transport.disconnect()
        await transport.wait_disconnected()
    assert [request.path for request in seen] == [b"/old", b"/new"]
    assert {request.headers["X-Key"] for request in seen} == {"k"}
    assert len({request.headers["Authorization"] for request in seen}) == 1
    assert len({request.headers["Sec-WebSocket-Key"] for request in seen}) == 2


async def test_keys_are_not_sent_to_another_host():
    seen = []
    async with serving(redirecting(302, "unused", seen)) as other:
        async with serving(redirecting(302, f"ws://127.0.0.1:{other}/new", [])) as port:
            transport, _ = await ws_connect(
                Recorder, f"ws://me:pw@127.0.0.1:{port}/", extra_headers={"X-Key": "k", "Origin": "o", "Host": "h"}
            )
            transport.disconnect()
            await transport.wait_disconnected()
    (request,) = seen
    assert (request.headers["Host"], request.headers["Origin"]) == (f"127.0.0.1:{other}", "o")
    assert "X-Key" not in request.headers
    assert "Authorization" not in request.headers


@pytest.mark.parametrize(("limit", "requests"), [(0, 1), (1, 2), (3, 4)])
async def test_a_circle_ends_at_the_limit(limit, requests):
    seen = []
    async with serving(redirecting(302, "/again", seen)) as port:
        with pytest.raises(WSInvalidStatusError, match="found 302 Found") as info:
            await ws_connect(Recorder, f"ws://127.0.0.1:{port}/", max_redirects=limit)
        assert info.value.response.headers["Location"] == "/again"
    assert len(seen) == requests


@pytest.mark.parametrize("status", [300, 304, 305, 404])
async def test_other_statuses_lead_nowhere(status):
    async with raw_server() as server:
        connecting = asyncio.ensure_future(ws_connect(Recorder, f"ws://127.0.0.1:{server.port}/"))
        peer = await server.peer()
        peer.send(b"HTTP/1.1 %d X\r\nLocation: /new\r\nContent-Length: 0\r\n\r\n" % status)
        with pytest.raises(WSInvalidStatusError):
            await connecting
        assert await peer.read_to_end() == b""


async def test_a_redirect_without_location_closes_the_connection():
    async with raw_server() as server:
        connecting = asyncio.ensure_future(ws_connect(Recorder, f"ws://127.0.0.1:{server.port}/"))
        peer = await server.peer()
        peer.send(b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n")
        with pytest.raises(WSHandshakeError, match="expected a Location"):
            await connecting
        assert await peer.read_to_end() == b""


async def test_from_ws_to_wss_and_not_back(authority, trusting):  # noqa: F811
    async with tls_echo(authority) as (secure_port, echo):
        async with serving(redirecting(301, f"wss://127.0.0.1:{secure_port}/", [])) as port:
            transport, _ = await ws_connect(Recorder, f"ws://127.0.0.1:{port}/", ssl_context=trusting)
            assert transport.is_secure
            transport.disconnect()
            await transport.wait_disconnected()
            await echo.transport.wait_disconnected()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    downgrade = redirecting(301, "http://127.0.0.1:1/", [])
    server = await ws_create_server(downgrade, "127.0.0.1", 0, ssl=context)
    with pytest.raises(WSHandshakeError, match="from wss to ws"):
        await ws_connect(
            Recorder, f"wss://127.0.0.1:{server.sockets[0].getsockname()[1]}/", ssl_context=trusting
        )  # fmt: skip
    server.close()


async def test_the_socket_factory_is_asked_for_every_hop():
    asked = []

    def factory(url):
        asked.append(url.path)
        return socket.socket()

    async with serving(redirecting(302, "/new", [])) as port:
        transport, _ = await ws_connect(Recorder, f"ws://127.0.0.1:{port}/old", socket_factory=factory)
        transport.disconnect()
        await transport.wait_disconnected()
    assert asked == ["/old", "/new"]
