from __future__ import annotations

from http import HTTPStatus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from picows import (
    WSHandshakeError,
    WSInvalidHeaderError,
    WSInvalidMessageError,
    WSInvalidStatusError,
    WSInvalidUpgradeError,
    WSListener,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
    parse_url,
)
from picows.handshake import ClientHandshake, ServerHandshake, accept_key, reserved_bits
from tests.picows.wire import request, response_101


def client(url="ws://example.com/feed?x=1", headers=None, **limits):
    return ClientHandshake(parse_url(url), headers, **limits)


def answer(handshake, extra=b"", **changes):
    """A right 101 to `handshake`; changes={b"old": b"new"} then spoil it."""
    response = response_101(handshake.request_bytes(), extra)
    for old, new in changes.get("spoil", {}).items():
        assert old in response
        response = response.replace(old, new)
    return response


def parse_head(data):
    """`(first line, fields)` of one HTTP header block."""
    first, *lines = data.split(b"\r\n\r\n")[0].split(b"\r\n")
    return first, [tuple(line.split(b": ", 1)) for line in lines]


def test_accept_key_of_the_rfc():
    # RFC 6455 section 1.3
    assert accept_key("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


# ---- the client's request -------------------------------------------------------------------------


def test_request():
    handshake = client("ws://example.com:8080/feed?x=1")
    first, fields = parse_head(handshake.request_bytes())
    fields = dict(fields)
    key = fields.pop(b"Sec-WebSocket-Key")
    assert first == b"GET /feed?x=1 HTTP/1.1"
    assert fields == {
        b"Host": b"example.com:8080",
        b"Upgrade": b"websocket",
        b"Connection": b"Upgrade",
        b"Sec-WebSocket-Version": b"13",
    }
    assert len(key) == 24
    assert key != dict(parse_head(client().request_bytes())[1])[b"Sec-WebSocket-Key"]


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("ws://h/", b"h"),
        ("wss://h/", b"h"),
        ("wss://h:80/", b"h:80"),
        ("ws://[::1]/", b"[::1]"),
        ("ws://[::1]:9/", b"[::1]:9"),
    ],
)
def test_host(url, host):
    assert dict(parse_head(client(url).request_bytes())[1])[b"Host"] == host


def test_extra_headers_add_and_host_replaces():
    fields = parse_head(client(headers=[("X-A", "1"), ("X-A", "2"), ("host", "other")]).request_bytes())[1]
    assert [value for name, value in fields if name == b"X-A"] == [b"1", b"2"]
    assert [value for name, value in fields if name.lower() == b"host"] == [b"other"]


def test_user_info_becomes_basic_authorization():
    fields = dict(parse_head(client("ws://me:p%40ss@h/").request_bytes())[1])
    assert fields[b"Authorization"] == b"Basic bWU6cEBzcw=="
    fields = dict(parse_head(client("ws://me:x@h/", {"Authorization": "Bearer t"}).request_bytes())[1])
    assert fields[b"Authorization"] == b"Bearer t"


@pytest.mark.parametrize("headers", [{"X": 1}, {1: "x"}, [("X", None)]])
def test_headers_that_are_not_str(headers):
    with pytest.raises(TypeError, match="type str"):
        client(headers=headers)


@pytest.mark.parametrize("headers", [{"X": "a\r\nY: b"}, {"X\n": "a"}, {"X": "€"}])
def test_headers_that_http_does_not_allow(headers):
    with pytest.raises(ValueError, match="HTTP does not allow"):
        client(headers=headers).request_bytes()


# ---- the server's answer, at the client -----------------------------------------------------------


def test_a_right_answer_in_one_piece_with_frames_behind():
    handshake = client()
    response = handshake.receive(answer(handshake) + b"\x81\x00")
    assert response.status == HTTPStatus.SWITCHING_PROTOCOLS
    assert response.headers["upgrade"] == "websocket"
    assert handshake.trailing == b"\x81\x00"


def test_a_right_answer_byte_by_byte():
    handshake = client()
    data = answer(handshake)
    results = [handshake.receive(bytes([byte])) for byte in data]
    assert results[:-1] == [None] * (len(data) - 1)
    assert results[-1].status == 101
    assert handshake.trailing == b""


def test_an_informational_response_before_the_answer_is_skipped():
    handshake = client()
    assert handshake.receive(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + answer(handshake)).status == 101


def test_names_and_tokens_ignore_case():
    handshake = client()
    spoil = {b"Upgrade: websocket": b"UPGRADE: WebSocket", b"Connection: Upgrade": b"connection: keep-alive, upgrade"}
    assert handshake.receive(answer(handshake, spoil=spoil)).status == 101


@pytest.mark.parametrize(
    ("spoil", "error", "name", "value"),
    [
        ({b"Upgrade: websocket": b"X: y"}, WSInvalidUpgradeError, "Upgrade", None),
        ({b"Upgrade: websocket": b"Upgrade: h2c"}, WSInvalidUpgradeError, "Upgrade", "h2c"),
        ({b"Connection: Upgrade": b"X: y"}, WSInvalidUpgradeError, "Connection", None),
        ({b"Connection: Upgrade": b"Connection: close"}, WSInvalidUpgradeError, "Connection", "close"),
        ({b"Sec-WebSocket-Accept": b"X"}, WSInvalidHeaderError, "Sec-WebSocket-Accept", None),
        ({b"Accept: ": b"Accept: x"}, WSInvalidHeaderError, "Sec-WebSocket-Accept", ...),
    ],
)
def test_a_wrong_answer(spoil, error, name, value):
    handshake = client()
    data = answer(handshake, spoil=spoil)
    with pytest.raises(error) as info:
        handshake.receive(data)
    exc = info.value
    assert type(exc) is error
    assert exc.name == name
    assert exc.value == value if value is not ... else exc.value.startswith("x")
    assert exc.response.status == 101
    assert exc.raw_header == data[:-4]


@pytest.mark.parametrize(
    ("asked", "granted"),
    [
        ({}, b"Sec-WebSocket-Extensions: permessage-deflate\r\n"),
        ({"Sec-WebSocket-Extensions": "permessage-deflate"}, b"Sec-WebSocket-Extensions: x-other\r\n"),
        ({}, b"Sec-WebSocket-Protocol: a\r\n"),
        ({"Sec-WebSocket-Protocol": "a, b"}, b"Sec-WebSocket-Protocol: c\r\n"),
        ({"Sec-WebSocket-Protocol": "a, b"}, b"Sec-WebSocket-Protocol: a\r\nSec-WebSocket-Protocol: b\r\n"),
    ],
)
def test_a_server_may_not_choose_what_was_not_offered(asked, granted):
    handshake = client(headers=asked)
    with pytest.raises(WSInvalidHeaderError):
        handshake.receive(answer(handshake, granted))


def test_what_was_offered_may_be_chosen_and_decides_the_reserved_bits():
    handshake = client(headers={"Sec-WebSocket-Extensions": "permessage-deflate", "Sec-WebSocket-Protocol": "a, b"})
    granted = (
        b"Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover\r\nSec-WebSocket-Protocol: b\r\n"
    )
    assert reserved_bits(handshake.receive(answer(handshake, granted))) == 0x40
    handshake = client(headers={"Sec-WebSocket-Extensions": "x-own"})
    assert reserved_bits(handshake.receive(answer(handshake, b"Sec-WebSocket-Extensions: x-own\r\n"))) == 0x70
    handshake = client()
    assert reserved_bits(handshake.receive(answer(handshake))) == 0


def test_another_status_waits_for_its_body():
    handshake = client()
    handshake.request_bytes()
    assert handshake.receive(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 6\r\n\r\nbad") is None
    with pytest.raises(WSInvalidStatusError, match="expected status 101, found 403 Forbidden") as info:
        handshake.receive(b"key")
    assert info.value.raw_header == b"HTTP/1.1 403 Forbidden\r\nContent-Length: 6"
    assert info.value.raw_body == b"badkey"
    assert (info.value.response.status, info.value.response.body) == (403, b"badkey")


def test_a_status_that_no_registry_knows():
    handshake = client()
    handshake.request_bytes()
    with pytest.raises(WSInvalidStatusError, match=r"expected status 101, found 520$") as info:
        handshake.receive(b"HTTP/1.1 520 Web Server Returned an Unknown Error\r\nContent-Length: 0\r\n\r\n")
    assert info.value.response.status == 520


def test_a_body_without_a_length_ends_with_the_connection():
    handshake = client()
    handshake.request_bytes()
    assert handshake.receive(b"HTTP/1.1 500 Oops\r\n\r\nab") is None
    assert handshake.receive(b"cd") is None
    with pytest.raises(WSInvalidStatusError) as info:
        handshake.receive_eof()
    assert info.value.response.body == b"abcd"


def test_a_chunked_body_is_joined():
    handshake = client()
    handshake.request_bytes()
    with pytest.raises(WSInvalidStatusError) as info:
        handshake.receive(
            b"HTTP/1.1 502 Bad Gateway\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n"
        )
    assert info.value.response.body == b"abcde"
    assert info.value.raw_body == b"2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n"


def test_a_body_is_kept_up_to_the_limit():
    handshake = client(max_body_size=10)
    handshake.request_bytes()
    with pytest.raises(WSInvalidStatusError) as info:
        handshake.receive(b"HTTP/1.1 500 Oops\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 100)
    assert (info.value.raw_body, info.value.response.body) == (b"x" * 10, b"x" * 10)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"\x16\x03\x01\x02garbage\r\n\r\n", "malformed"),
        (b"\x00\r\n\r\n", "malformed"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "malformed"),
        (b"HTTP/1.1 101\x00\r\n\r\n", "malformed"),
        (b"HTTP/1.1 101 X\r\nno colon\r\n\r\n", "malformed"),
        (b"HTTP/1.0 101 Switching Protocols\r\n\r\n", "HTTP/1.0"),
    ],
)
def test_an_answer_that_is_not_http(data, problem):
    handshake = client()
    handshake.request_bytes()
    with pytest.raises(WSInvalidMessageError, match=problem) as info:
        handshake.receive(data)
    assert info.value.raw_header == data[:-4]


@pytest.mark.parametrize("tail", [b"", b"\r\n\r\n"])
def test_a_header_that_is_too_long(tail):
    handshake = client(max_header_size=200)
    with pytest.raises(WSInvalidMessageError, match="at most 200 bytes of HTTP header"):
        handshake.receive(b"HTTP/1.1 101 Switching Protocols\r\nX: " + b"a" * 200 + tail)


def test_a_header_of_exactly_the_limit():
    handshake = client()
    size = len(answer(handshake)) - 4
    handshake = client(max_header_size=size)
    assert handshake.receive(answer(handshake)).status == 101
    handshake = client(max_header_size=size - 1)
    with pytest.raises(WSInvalidMessageError):
        handshake.receive(answer(handshake))


def test_a_connection_closed_before_the_answer():
    handshake = client()
    handshake.receive(b"HTTP/1.1 101 Swit")
    with pytest.raises(WSHandshakeError, match="closed the connection") as info:
        handshake.receive_eof()
    assert info.value.raw_header == b"HTTP/1.1 101 Swit"


@given(st.binary(max_size=200), st.integers(0, 200))
def test_no_answer_gets_through_but_the_right_one(garbage, cut):
    handshake = client()
    good = answer(handshake)
    data = good[:cut] + garbage + good[cut:] if garbage else garbage
    try:
        response = handshake.receive(data)
    except WSHandshakeError:
        return
    if response is not None:
        assert accept_key(handshake.request.headers["Sec-WebSocket-Key"]) in response.headers.getall(
            "Sec-WebSocket-Accept"
        )


# ---- the server -----------------------------------------------------------------------------------


def respond(data, listener=None):
    """`(response bytes, listener)` that a server gives to the request `data`."""
    handshake = ServerHandshake()
    response, listener = handshake.respond(handshake.receive(data), listener or WSListener())
    return response.to_bytes(), listener


def test_server_reads_the_request_byte_by_byte():
    handshake = ServerHandshake()
    data = request(b"/feed?x=1")
    for byte in data[:-1]:
        assert handshake.receive(bytes([byte])) is None
    received = handshake.receive(data[-1:])
    assert (received.method, received.path, received.version) == (b"GET", b"/feed?x=1", b"HTTP/1.1")
    assert received.headers["sec-websocket-VERSION"] == "13"


def test_server_keeps_what_follows_the_request():
    handshake = ServerHandshake()
    handshake.receive(request() + b"\x81\x80\0\0\0\0")
    assert handshake.trailing == b"\x81\x80\0\0\0\0"


def test_server_agrees():
    listener = WSListener()
    response, returned = respond(request(), listener)
    assert returned is listener
    assert parse_head(response) == (
        b"HTTP/1.1 101 Switching Protocols",
        [
            (b"Upgrade", b"websocket"),
            (b"Connection", b"Upgrade"),
            (b"Sec-WebSocket-Accept", accept_key("AAECAwQFBgcICQoLDA0ODw==").encode()),
        ],
    )
    assert response.endswith(b"\r\n\r\n")


def test_both_sides_agree_with_each_other():
    ours = client()
    theirs = ServerHandshake()
    response, _ = theirs.respond(theirs.receive(ours.request_bytes()), WSListener())
    assert ours.receive(response.to_bytes()).status == 101


def test_server_adds_headers_to_a_101():
    answer = WSUpgradeResponseWithListener(WSUpgradeResponse.create_101_response({"X-Feed": "1"}), WSListener())
    response, listener = respond(request(), answer)
    assert (b"X-Feed", b"1") in parse_head(response)[1]
    assert listener is answer.listener


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"Upgrade": None}, 426),
        ({"Upgrade": b"h2c"}, 426),
        ({"Connection": None}, 400),
        ({"Connection": b"close"}, 400),
        ({"Sec_WebSocket_Version": None}, 426),
        ({"Sec_WebSocket_Version": b"8"}, 426),
        ({"Sec_WebSocket_Key": None}, 400),
        ({"Sec_WebSocket_Key": b"AAECAwQFBgcICQoLDA0O"}, 400),
        ({"Sec_WebSocket_Key": b"?!"}, 400),
        ({"Sec_WebSocket_Key": b"\xff\xfe"}, 400),
    ],
)
def test_server_refuses_what_may_not_be_upgraded(changes, status):
    response, listener = respond(request(**changes))
    assert response.startswith(b"HTTP/1.1 %d " % status)
    assert listener is None
    if "Sec_WebSocket_Version" in changes:
        assert b"\r\nSec-WebSocket-Version: 13\r\n" in response


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x16\x03\x01\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (request().replace(b"HTTP/1.1", b"HTTP/1.0"), 505),
        (request().replace(b"GET", b"POST"), 405),
        (request(Content_Length=b"3") + b"abc", 400),
        (request(Transfer_Encoding=b"chunked"), 400),
        (request(X=b"a" * 20_000), 431),
        (b"G" * 20_000, 431),
    ],
)
def test_server_refuses_what_is_no_get(data, status):
    with pytest.raises(WSInvalidMessageError) as info:
        ServerHandshake().receive(data)
    assert info.value.response.status == status
    assert info.value.response.to_bytes().endswith(info.value.response.body)


def test_server_answers_plain_http():
    handshake = ServerHandshake()
    received = handshake.receive(b"GET /health HTTP/1.1\r\nHost: h\r\n\r\n")
    ok = WSUpgradeResponse.create_ok_response(b"fine", {"X-A": "1"})
    response, listener = handshake.respond(received, WSUpgradeResponseWithListener(ok))
    assert listener is None
    assert response.to_bytes() == (
        b"HTTP/1.1 200 OK\r\nX-A: 1\r\nConnection: close\r\nContent-Length: 4\r\n"
        b"Content-Type: text/plain; charset=utf-8\r\n\r\nfine"
    )


def test_server_knows_no_listener():
    handshake = ServerHandshake()
    response, listener = handshake.respond(handshake.receive(request()), None)
    assert (response.status, listener) == (404, None)


def test_a_101_without_a_listener():
    handshake = ServerHandshake()
    received = handshake.receive(request())
    with pytest.raises(ValueError, match="expected a listener with a 101"):
        handshake.respond(received, WSUpgradeResponseWithListener(WSUpgradeResponse.create_101_response()))


def test_constructors_of_responses():
    assert WSUpgradeResponse.create_error_response(503, b"later").status is HTTPStatus.SERVICE_UNAVAILABLE
    redirect = WSUpgradeResponse.create_redirect_response(302, "ws://other/", {"X": "y"})
    assert (redirect.status, redirect.headers["location"], redirect.headers["x"]) == (302, "ws://other/", "y")
    with pytest.raises(ValueError, match="400 or more, found 200"):
        WSUpgradeResponse.create_error_response(200)
    with pytest.raises(ValueError, match="300 to 399, found 404"):
        WSUpgradeResponse.create_redirect_response(404, "ws://other/")


def test_a_response_cannot_smuggle_a_header():
    with pytest.raises(ValueError, match="HTTP does not allow"):
        WSUpgradeResponse.create_ok_response(b"", {"X": "a\r\nSet-Cookie: b"}).to_bytes()
