"""The interface of picows 2.3.1, found by inspection: every name, argument and default; and that ours has it."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from http import HTTPStatus
from inspect import Parameter
from typing import Any

import pytest

import picows
from picows import (
    WSAutoPingStrategy,
    WSCloseCode,
    WSError,
    WSFrame,
    WSHandshakeError,
    WSInvalidHeaderError,
    WSInvalidMessageError,
    WSInvalidStatusError,
    WSInvalidUpgradeError,
    WSInvalidURL,
    WSListener,
    WSMsgType,
    WSParsedURL,
    WSProtocolError,
    WSTransport,
    WSUpgradeRequest,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
    ws_connect,
    ws_create_server,
)
from picows.picows import WSCloseHandshake, WSCloseInfo, _make_test_ws_frame
from tests.picows.recorder import Echo, Recorder
from tests.picows.test_server import serving

NONE = Parameter.empty
MIB = 1024 * 1024

# ---- names ----------------------------------------------------------------------------------------

NAMES = {
    "picows": {
        "PICOWS_DEBUG_LL", "WSAutoPingStrategy", "WSCloseCode", "WSError", "WSFrame", "WSHandshakeError",
        "WSInvalidHeaderError", "WSInvalidMessageError", "WSInvalidStatusError", "WSInvalidURL",
        "WSInvalidUpgradeError", "WSListener", "WSMsgType", "WSParsedURL", "WSProtocolError", "WSTransport",
        "WSUpgradeRequest", "WSUpgradeResponse", "WSUpgradeResponseWithListener", "ws_connect", "ws_create_server",
    },
    "picows.picows": {
        "PICOWS_DEBUG_LL", "WSAutoPingStrategy", "WSCloseCode", "WSCloseHandshake", "WSCloseInfo", "WSFrame",
        "WSHandshakeError", "WSInvalidHeaderError", "WSInvalidMessageError", "WSInvalidStatusError",
        "WSInvalidUpgradeError", "WSListener", "WSMsgType", "WSProtocolError", "WSTransport", "WSUpgradeRequest",
        "WSUpgradeResponse", "WSUpgradeResponseWithListener", "_make_test_ws_frame",
    },
    "picows.url": {"WSInvalidURL", "WSParsedURL", "parse_url"},
}  # fmt: skip


@pytest.mark.parametrize("module", NAMES)
def test_names(module):
    assert NAMES[module] - set(dir(importlib.import_module(module))) == set()


MEMBERS = {
    WSFrame: {
        "fin", "get_close_code", "get_close_message", "get_close_reason", "get_payload_as_ascii_text",
        "get_payload_as_bytes", "get_payload_as_memoryview", "get_payload_as_utf8_text", "last_in_buffer", "msg_type",
        "payload_size", "rsv1", "rsv2", "rsv3", "tail_size",
    },
    WSListener: {
        "is_user_specific_pong", "on_ws_connected", "on_ws_disconnected", "on_ws_frame", "pause_writing",
        "resume_writing", "send_user_specific_ping",
    },
    WSTransport: {
        "close_handshake", "disconnect", "is_client_side", "is_close_frame_sent", "is_disconnected", "is_secure",
        "measure_roundtrip_time", "notify_user_specific_pong_received", "request", "response", "send", "send_close",
        "send_ping", "send_pong", "send_reuse_external_bytearray", "underlying_transport", "wait_disconnected",
    },
    WSUpgradeResponse: {
        "create_101_response", "create_error_response", "create_ok_response", "create_redirect_response", "to_bytes",
    },
    WSParsedURL: {"password", "resource_name", "user_info", "username"},
}  # fmt: skip


@pytest.mark.parametrize("owner", MEMBERS, ids=lambda owner: owner.__name__)
def test_members(owner):
    assert MEMBERS[owner] - set(dir(owner)) == set()


def test_attributes_of_requests_and_responses():
    request, response = WSUpgradeRequest(), WSUpgradeResponse()
    request.method, request.path, request.version = b"GET", b"/x", b"HTTP/1.1"
    assert request.headers.__class__.__name__ == response.headers.__class__.__name__ == "CIMultiDict"
    response.version, response.status, response.body = b"HTTP/1.1", HTTPStatus.OK, None
    listener = Recorder()
    both = WSUpgradeResponseWithListener(response, listener)
    assert (both.response, both.listener) == (response, listener)
    assert WSUpgradeResponseWithListener(response, None).listener is None


# ---- arguments and defaults -----------------------------------------------------------------------

SERVER_AND_CLIENT = {
    "disconnect_on_exception": True,
    "websocket_handshake_timeout": 5,
    "logger_name": None,
    "enable_auto_ping": False,
    "auto_ping_strategy": WSAutoPingStrategy.PING_WHEN_IDLE,
    "enable_auto_pong": True,
    "max_frame_size": 10 * MIB,
    "read_buffer_init_size": 16 * 1024,
    "use_aiofastnet": None,
}

KEYWORDS: dict[Any, dict[str, Any]] = {
    ws_connect: {
        **SERVER_AND_CLIENT,
        "ssl_context": None,
        "auto_ping_idle_timeout": 10,
        "auto_ping_reply_timeout": 10,
        "extra_headers": None,
        "max_redirects": 5,
        "proxy": None,
        "proxy_ssl_context": None,
        "socket_factory": None,
    },
    ws_create_server: {**SERVER_AND_CLIENT, "auto_ping_idle_timeout": 20, "auto_ping_reply_timeout": 20},
}

FLAGS = {"fin": True, "rsv1": False, "rsv2": False, "rsv3": False}

# Arguments that may be given by position, in order.
POSITIONAL: list[tuple[Any, dict[str, Any]]] = [
    (ws_connect, {"ws_listener_factory": NONE, "url": NONE}),
    (ws_create_server, {"ws_listener_factory": NONE, "host": None, "port": None}),
    (WSTransport.send, {"msg_type": NONE, "message": NONE, **FLAGS}),
    (WSTransport.send_reuse_external_bytearray, {"msg_type": NONE, "buffer": NONE, "msg_offset": NONE, **FLAGS}),
    (WSTransport.send_ping, {"message": None}),
    (WSTransport.send_pong, {"message": None}),
    (WSTransport.send_close, {"close_code": WSCloseCode.NO_INFO, "close_message": None}),
    (WSTransport.disconnect, {"graceful": True}),
    (WSTransport.measure_roundtrip_time, {"rounds": NONE}),
    (WSTransport.notify_user_specific_pong_received, {}),
    (WSTransport.wait_disconnected, {}),
    (WSListener.on_ws_connected, {"transport": NONE}),
    (WSListener.on_ws_frame, {"transport": NONE, "frame": NONE}),
    (WSListener.on_ws_disconnected, {"transport": NONE}),
    (WSListener.send_user_specific_ping, {"transport": NONE}),
    (WSListener.is_user_specific_pong, {"frame": NONE}),
    (WSListener.pause_writing, {}),
    (WSListener.resume_writing, {}),
    (WSFrame.get_payload_as_bytes, {}),
    (WSFrame.get_payload_as_utf8_text, {}),
    (WSFrame.get_payload_as_ascii_text, {}),
    (WSFrame.get_payload_as_memoryview, {}),
    (WSFrame.get_close_code, {}),
    (WSFrame.get_close_message, {}),
    (WSFrame.get_close_reason, {}),
    (WSUpgradeResponse.create_101_response, {"extra_headers": None}),
    (WSUpgradeResponse.create_ok_response, {"body": None, "extra_headers": None}),
    (WSUpgradeResponse.create_error_response, {"status": NONE, "body": None, "extra_headers": None}),
    (WSUpgradeResponse.create_redirect_response, {"status": NONE, "location": NONE, "extra_headers": None}),
    (WSUpgradeResponse.to_bytes, {}),
    (WSHandshakeError.__init__, {"description": NONE, "raw_header": None, "raw_body": None, "response": None}),
    (
        WSInvalidHeaderError.__init__,
        {"description": NONE, "name": NONE, "value": None, "raw_header": None, "raw_body": None, "response": None},
    ),
    (picows.parse_url, {"url": NONE, "check_scheme": True}),
]


@pytest.mark.parametrize("function", KEYWORDS, ids=lambda function: function.__name__)
def test_keyword_arguments(function):
    parameters = inspect.signature(function).parameters
    for name, default in KEYWORDS[function].items():
        assert parameters[name].kind is Parameter.KEYWORD_ONLY
        assert parameters[name].default == default, name
        assert type(parameters[name].default) is type(default), name
    assert parameters["kwargs"].kind is Parameter.VAR_KEYWORD


@pytest.mark.parametrize(("function", "arguments"), POSITIONAL, ids=lambda value: getattr(value, "__qualname__", ""))
def test_positional_arguments(function, arguments):
    parameters = [
        (parameter.name, parameter.default)
        for parameter in inspect.signature(function).parameters.values()
        if parameter.kind is Parameter.POSITIONAL_OR_KEYWORD and parameter.name != "self"
    ]
    assert parameters[: len(arguments)] == list(arguments.items())
    assert all(default is not NONE for _, default in parameters[len(arguments) :])


@pytest.mark.parametrize("function", [ws_connect, ws_create_server], ids=lambda function: function.__name__)
def test_every_argument_is_explained(function):
    explained = inspect.getdoc(function) + inspect.getdoc(ws_connect)
    for name in inspect.signature(function).parameters:
        if name not in ("url", "host", "port"):
            assert f"\n{name} -- " in explained or f"`{name}`" in explained, name


def test_fields_of_a_parsed_url():
    assert dataclasses.is_dataclass(WSParsedURL)
    assert [(field.name, field.default is not dataclasses.MISSING) for field in dataclasses.fields(WSParsedURL)] == [
        ("url", False), ("scheme", False), ("is_secure", False), ("netloc", False), ("host", False), ("port", False),
        ("path", False), ("query", False), ("username", True), ("password", True),
    ]  # fmt: skip
    url = picows.parse_url("ws://u:p@h/p?q")
    assert (url.netloc, url.user_info, url.resource_name) == ("u:p@h", ("u", "p"), "/p?q")
    assert picows.parse_url("ws://h").path == ""
    with pytest.raises(dataclasses.FrozenInstanceError):
        url.port = 1


# ---- types ----------------------------------------------------------------------------------------

BASES = {
    WSError: Exception,
    WSHandshakeError: WSError,
    WSInvalidMessageError: WSHandshakeError,
    WSInvalidStatusError: WSHandshakeError,
    WSInvalidHeaderError: WSHandshakeError,
    WSInvalidUpgradeError: WSInvalidHeaderError,
    WSProtocolError: WSError,
    WSInvalidURL: WSError,
}


@pytest.mark.parametrize("error", BASES, ids=lambda error: error.__name__)
def test_bases_of_errors(error):
    assert error.__bases__ == (BASES[error],)


def test_attributes_of_errors():
    response = WSUpgradeResponse()
    error = WSHandshakeError("text", b"head", b"body", response)
    assert (str(error), error.args) == ("text", ("text",))
    assert (error.raw_header, error.raw_body, error.response) == (b"head", b"body", response)
    header = WSInvalidHeaderError("text", "Name", "value")
    assert (str(header), header.name, header.value, header.response) == ("text", "Name", "value", None)
    protocol = WSProtocolError(1002, "why")
    assert (str(protocol), protocol.args, protocol.code) == ("why", (1002, "why"), WSCloseCode.PROTOCOL_ERROR)
    assert WSInvalidURL("u", "why").url == "u"


def test_enumerations_are_integers():
    assert WSMsgType(1) is WSMsgType.TEXT
    assert WSMsgType.TEXT == 1
    assert WSCloseCode(1000) is WSCloseCode.OK
    assert WSAutoPingStrategy(2) is WSAutoPingStrategy.PING_PERIODICALLY
    for enumeration in (WSMsgType, WSCloseCode, WSAutoPingStrategy):
        assert issubclass(enumeration, int)


def test_values_of_a_frame():
    frame = _make_test_ws_frame(WSMsgType.TEXT, b"abc", True, False)
    assert (frame.msg_type, type(frame.msg_type)) == (WSMsgType.TEXT, WSMsgType)
    assert (frame.fin, frame.rsv1, frame.last_in_buffer, frame.payload_size, frame.tail_size) == (1, 0, 1, 3, 0)
    for text in ("TEXT", "fin=True", "rsv1=False", "last_in_buffer=True"):
        assert text in str(frame)


@pytest.mark.parametrize("flag", [True, False])
def test_what_cannot_be_created_is_refused(flag):
    status = 399 if flag else 200
    with pytest.raises(ValueError, match=str(status)):
        if flag:
            WSUpgradeResponse.create_error_response(status)
        else:
            WSUpgradeResponse.create_redirect_response(status, "/x")


# ---- values of a connection -----------------------------------------------------------------------


async def test_values_of_a_connection():
    echo = Echo()
    async with serving(lambda _: echo) as port:
        transport, _ = await ws_connect(Recorder, f"ws://127.0.0.1:{port}/x")
        assert isinstance(transport, WSTransport)
        assert transport.close_handshake is None
        assert (transport.is_client_side, echo.transport.is_client_side) == (True, False)
        assert not transport.is_secure
        assert not transport.is_disconnected
        assert not transport.is_close_frame_sent
        assert isinstance(transport.request, WSUpgradeRequest)
        assert (transport.request.method, transport.request.path) == (b"GET", b"/x")
        assert transport.request.version == transport.response.version == b"HTTP/1.1"
        assert list(transport.request.headers) == [
            "Host", "Upgrade", "Connection", "Sec-WebSocket-Version", "Sec-WebSocket-Key",
        ]  # fmt: skip
        assert (type(transport.response), transport.response.status) == (WSUpgradeResponse, 101)
        transport.send_close(WSCloseCode.OK, "bye")
        assert transport.is_close_frame_sent
        handshake = transport.close_handshake
        assert isinstance(handshake, WSCloseHandshake)
        assert (handshake.sent.code, handshake.sent.reason, handshake.recv) == (WSCloseCode.OK, "bye", None)
        await transport.wait_disconnected()
        assert transport.is_disconnected
        assert isinstance(handshake.recv, WSCloseInfo)
        assert (type(handshake.recv.code), handshake.recv.code, handshake.recv_then_sent) == (WSCloseCode, 1000, False)
        await echo.transport.wait_disconnected()
        theirs = echo.transport.close_handshake
        assert (theirs.recv.code, theirs.recv.reason, theirs.recv_then_sent) == (WSCloseCode.OK, "bye", True)
