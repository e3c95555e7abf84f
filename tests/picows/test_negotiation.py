"""permessage-deflate in the opening handshake: RFC 7692 section 7.1."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from picows import WSDeflateConfig, WSInvalidHeaderError
from picows.handshake import ClientHandshake, ServerHandshake, WSUpgradeResponse, WSUpgradeResponseWithListener
from picows.negotiation import accept_offer, check_response, deflate_config, offer, parse_extensions
from picows.url import parse_url
from tests.picows.recorder import Recorder
from tests.picows.wire import request, response_101

NAME = "permessage-deflate"


# ---- the field ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], []),
        (["", " , ,"], []),
        (["foo"], [("foo", [])]),
        (["Foo;Bar"], [("foo", [("bar", None)])]),
        (["foo; bar; baz=2"], [("foo", [("bar", None), ("baz", "2")])]),
        (['foo ; bar = "2" , foo'], [("foo", [("bar", "2")]), ("foo", [])]),
        (["foo,", "bar;x=y"], [("foo", []), ("bar", [("x", "y")])]),
        ([r'foo; bar="\1\0"'], [("foo", [("bar", "10")])]),
    ],
)
def test_the_grammar_of_extensions(values, expected):
    assert parse_extensions(values) == expected


@pytest.mark.parametrize(
    "value",
    [
        "foo bar",
        "foo;",
        "foo;;bar",
        "foo; bar=",
        'foo; bar="',
        'foo; bar=""',
        'foo; bar="a b"',
        ";foo",
        "foo=1",
        "fo\x00o",
    ],
)
def test_what_is_not_in_the_grammar(value):
    with pytest.raises(ValueError, match="expected"):
        parse_extensions([value])


@given(st.lists(st.text(st.sampled_from('fo;=,"\\ \t10_é\x00'), max_size=30), max_size=3))
def test_any_field_is_parsed_or_refused(values):
    try:
        found = parse_extensions(values)
    except ValueError:
        return
    rebuilt = ["; ".join([name, *(f"{n}={v}" if v is not None else n for n, v in params)]) for name, params in found]
    assert parse_extensions(rebuilt) == found


# ---- the server's side ----------------------------------------------------------------------------

ALL = "; server_no_context_takeover; client_no_context_takeover; server_max_window_bits={}; client_max_window_bits={}"


@pytest.mark.parametrize(
    ("offered", "config", "answer"),
    [
        ("", {}, ""),
        ("; client_max_window_bits", {}, ""),
        ("; client_max_window_bits=15", {}, ""),
        ("; client_max_window_bits=10", {}, "; client_max_window_bits=10"),
        ("; client_max_window_bits=8", {}, "; client_max_window_bits=8"),
        ("; client_max_window_bits", {"client_max_window_bits": 9}, "; client_max_window_bits=9"),
        ("; client_max_window_bits=12", {"client_max_window_bits": 13}, "; client_max_window_bits=12"),
        ("", {"client_max_window_bits": 9}, ""),
        ("; server_max_window_bits=15", {}, "; server_max_window_bits=15"),
        ("; server_max_window_bits=8", {}, "; server_max_window_bits=8"),
        ("; server_max_window_bits=12", {"server_max_window_bits": 10}, "; server_max_window_bits=10"),
        ("; server_max_window_bits=9", {"server_max_window_bits": 10}, "; server_max_window_bits=9"),
        ("", {"server_max_window_bits": 10}, "; server_max_window_bits=10"),
        ("; server_no_context_takeover", {}, "; server_no_context_takeover"),
        ("; client_no_context_takeover", {}, "; client_no_context_takeover"),
        ("", {"server_no_context_takeover": True}, "; server_no_context_takeover"),
        ("", {"client_no_context_takeover": True}, "; client_no_context_takeover"),
        ('; server_max_window_bits="11"', {}, "; server_max_window_bits=11"),
        (ALL.format(9, 9), {}, ALL.format(9, 9)),
    ],
)
def test_what_a_server_answers_to_an_offer(offered, config, answer):
    accepted = accept_offer([NAME + offered], WSDeflateConfig(**config))
    assert accepted is not None
    assert accepted[1] == NAME + answer


BAD_PARAMETERS = [
    "; window=9",
    "; server_no_context_takeover; server_no_context_takeover",
    "; server_no_context_takeover=1",
    "; client_no_context_takeover=true",
    "; server_max_window_bits",
    "; server_max_window_bits=7",
    "; server_max_window_bits=16",
    "; server_max_window_bits=08",
    "; server_max_window_bits=x",
    "; client_max_window_bits=0",
    "; client_max_window_bits=9; client_max_window_bits=9",
]


@pytest.mark.parametrize("bad", BAD_PARAMETERS)
def test_an_offer_with_a_bad_parameter_is_passed_over(bad):
    config = WSDeflateConfig()
    assert accept_offer([NAME + bad], config) is None
    accepted = accept_offer([f"{NAME}{bad}, other, {NAME}; server_max_window_bits=9", NAME], config)
    assert accepted is not None
    assert accepted[1] == f"{NAME}; server_max_window_bits=9"


def test_other_extensions_are_left_alone():
    assert accept_offer(["x-webkit-deflate-frame, bbf-usp-protocol; x"], WSDeflateConfig()) is None
    assert accept_offer([], WSDeflateConfig()) is None


def server_response(value, config=None, headers=None):
    """`(response, agreed)` of a server that is asked with Sec-WebSocket-Extensions: `value`."""
    handshake = ServerHandshake(deflate=WSDeflateConfig() if config is None else config)
    received = handshake.receive(request(Sec_WebSocket_Extensions=value))
    answer = WSUpgradeResponseWithListener(WSUpgradeResponse.create_101_response(headers), Recorder())
    response, _ = handshake.respond(received, answer)
    return response, handshake.agreed_deflate


def test_a_server_handshake_agrees():
    response, agreed = server_response(b"permessage-deflate; client_max_window_bits; server_max_window_bits=10")
    assert response.headers["Sec-WebSocket-Extensions"] == "permessage-deflate; server_max_window_bits=10"
    assert (agreed.server_max_window_bits, agreed.client_max_window_bits) == (10, 15)


def test_a_server_handshake_declines_in_silence():
    response, agreed = server_response(b"permessage-deflate; window=9")
    assert response.status == 101
    assert "Sec-WebSocket-Extensions" not in response.headers
    assert agreed is None


def test_a_field_against_the_grammar_is_a_bad_request():
    response, agreed = server_response(b"permessage-deflate; = 9")
    assert (response.status, agreed) == (400, None)
    assert response.body.startswith(b"Sec-WebSocket-Extensions: expected a parameter")


def test_extensions_that_the_listener_factory_agreed_to_are_its_own():
    response, agreed = server_response(b"permessage-deflate", headers={"Sec-WebSocket-Extensions": "x-own"})
    assert response.headers.getall("Sec-WebSocket-Extensions") == ["x-own"]
    assert agreed is None


# ---- the client's side ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "value"),
    [
        ({}, "; client_max_window_bits"),
        ({"client_max_window_bits": 9}, "; client_max_window_bits=9"),
        (
            {"server_no_context_takeover": True, "client_no_context_takeover": True, "server_max_window_bits": 11},
            "; server_no_context_takeover; client_no_context_takeover"
            "; server_max_window_bits=11; client_max_window_bits",
        ),
    ],
)
def test_what_a_client_offers(config, value):
    assert offer(WSDeflateConfig(**config)) == NAME + value


def agreed_values(agreed):
    return (
        agreed.server_max_window_bits,
        agreed.client_max_window_bits,
        agreed.server_no_context_takeover,
        agreed.client_no_context_takeover,
    )


@pytest.mark.parametrize(
    ("response", "config", "expected"),
    [
        ("", {}, (15, 15, False, False)),
        ("; server_max_window_bits=9", {}, (9, 15, False, False)),
        ("; client_max_window_bits=8", {}, (15, 8, False, False)),
        ("; server_no_context_takeover", {}, (15, 15, True, False)),
        ("; client_no_context_takeover", {}, (15, 15, False, True)),
        ("", {"client_max_window_bits": 10, "client_no_context_takeover": True}, (15, 10, False, True)),
        ("; client_max_window_bits=9", {"client_max_window_bits": 10}, (15, 9, False, False)),
        ("; server_max_window_bits=10", {"server_max_window_bits": 10}, (10, 15, False, False)),
    ],
)
def test_what_a_client_makes_of_the_response(response, config, expected):
    agreed = check_response([NAME + response], WSDeflateConfig(**config))
    assert agreed_values(agreed) == expected


def test_a_server_may_decline():
    assert check_response([], WSDeflateConfig()) is None


@pytest.mark.parametrize(
    ("response", "config"),
    [
        *((NAME + bad, {}) for bad in BAD_PARAMETERS),
        (f"{NAME}; client_max_window_bits", {}),
        (f"{NAME}, {NAME}", {}),
        (f"{NAME};", {}),
        (NAME, {"server_no_context_takeover": True}),
        (NAME, {"server_max_window_bits": 10}),
        (f"{NAME}; server_max_window_bits=11", {"server_max_window_bits": 10}),
        (f"{NAME}; client_max_window_bits=11", {"client_max_window_bits": 10}),
    ],
)
def test_a_response_that_a_client_may_not_accept(response, config):
    with pytest.raises(ValueError, match=r"expected|unknown parameter"):
        check_response([response], WSDeflateConfig(**config))


def test_a_client_handshake_agrees():
    handshake = ClientHandshake(parse_url("ws://host/"), deflate=WSDeflateConfig())
    sent = handshake.request_bytes()
    assert b"\r\nSec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n" in sent
    handshake.receive(
        response_101(sent, b"Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=12\r\n")
    )
    assert agreed_values(handshake.agreed_deflate) == (12, 15, False, False)


@pytest.mark.parametrize("value", [b"permessage-deflate; window=9", b"permessage-deflate;", b"x-own"])
def test_a_client_handshake_fails(value):
    handshake = ClientHandshake(parse_url("ws://host/"), deflate=WSDeflateConfig())
    with pytest.raises(WSInvalidHeaderError) as info:
        handshake.receive(response_101(handshake.request_bytes(), b"Sec-WebSocket-Extensions: " + value + b"\r\n"))
    assert (info.value.name, info.value.value) == ("Sec-WebSocket-Extensions", value.decode())
    assert handshake.agreed_deflate is None


def test_without_an_offer_the_extension_is_not_accepted():
    handshake = ClientHandshake(parse_url("ws://host/"))
    with pytest.raises(WSInvalidHeaderError, match=r"a selection of \[\]"):
        handshake.receive(response_101(handshake.request_bytes(), b"Sec-WebSocket-Extensions: permessage-deflate\r\n"))


CONFIGS = st.builds(
    WSDeflateConfig,
    server_max_window_bits=st.integers(9, 15),
    client_max_window_bits=st.integers(9, 15),
    server_no_context_takeover=st.booleans(),
    client_no_context_takeover=st.booleans(),
)


@given(CONFIGS, CONFIGS)
def test_both_sides_understand_the_same(client, server):
    accepted = accept_offer([offer(client)], server)
    assert accepted is not None
    at_server, response = accepted
    at_client = check_response([response], client)
    assert agreed_values(at_client) == agreed_values(at_server)
    for mine, theirs in zip(at_client.machines(), reversed(at_server.machines()), strict=True):
        assert (mine.window_bits, mine.keeps_context) == (theirs.window_bits, theirs.keeps_context)
    assert at_server.server_max_window_bits <= min(client.server_max_window_bits, server.server_max_window_bits)
    assert at_server.client_max_window_bits <= min(client.client_max_window_bits, server.client_max_window_bits)


# ---- the option -----------------------------------------------------------------------------------


def test_the_values_of_the_option():
    config = WSDeflateConfig(threshold=5)
    assert deflate_config(None) is None
    assert deflate_config(False) is None
    assert deflate_config(True) == WSDeflateConfig()
    assert deflate_config(config) is config
    with pytest.raises(TypeError, match="expected permessage_deflate to be a bool, None or WSDeflateConfig, found 5"):
        deflate_config(5)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("threshold", -1, "of at least 0"),
        ("max_message_size", 0, "of at least 1"),
        ("level", 10, "from -1 to 9"),
        ("memory_level", 0, "from 1 to 9"),
        ("server_max_window_bits", 8, "from 9 to 15"),
        ("client_max_window_bits", 16, "from 9 to 15"),
    ],
)
def test_a_config_that_makes_no_sense(name, value, expected):
    with pytest.raises(ValueError, match=f"expected a {name} {expected}, found {value}"):
        WSDeflateConfig(**{name: value})


def test_the_user_cannot_offer_extensions_beside_ours():
    with pytest.raises(ValueError, match="Sec-WebSocket-Extensions"):
        ClientHandshake(parse_url("ws://host/"), {"Sec-WebSocket-Extensions": "x-own"}, deflate=WSDeflateConfig())
