"""What `import picows` promises."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

import picows

PACKAGE = Path(picows.__file__).parent

# The names that a program written against the picows API imports.
API = {
    "PICOWS_DEBUG_LL",
    "WSAutoPingStrategy",
    "WSCloseCode",
    "WSError",
    "WSFrame",
    "WSHandshakeError",
    "WSInvalidHeaderError",
    "WSInvalidMessageError",
    "WSInvalidStatusError",
    "WSInvalidURL",
    "WSInvalidUpgradeError",
    "WSListener",
    "WSMsgType",
    "WSParsedURL",
    "WSProtocolError",
    "WSTransport",
    "WSUpgradeRequest",
    "WSUpgradeResponse",
    "WSUpgradeResponseWithListener",
    "ws_connect",
    "ws_create_server",
}


def test_all_is_there_once():
    assert set(picows.__all__) >= API
    assert len(picows.__all__) == len(set(picows.__all__))
    for name in picows.__all__:
        assert getattr(picows, name) is not None


def test_values_of_the_enumerations():
    assert [(m.name, m.value) for m in picows.WSMsgType] == [
        ("CONTINUATION", 0), ("TEXT", 1), ("BINARY", 2), ("CLOSE", 8), ("PING", 9), ("PONG", 10),
    ]  # fmt: skip
    assert [(m.name, m.value) for m in picows.WSCloseCode] == [
        ("NO_INFO", 0), ("OK", 1000), ("GOING_AWAY", 1001), ("PROTOCOL_ERROR", 1002), ("UNSUPPORTED_DATA", 1003),
        ("ABNORMAL_CLOSURE", 1006), ("INVALID_TEXT", 1007), ("POLICY_VIOLATION", 1008), ("MESSAGE_TOO_BIG", 1009),
        ("MANDATORY_EXTENSION", 1010), ("INTERNAL_ERROR", 1011), ("SERVICE_RESTART", 1012),
        ("TRY_AGAIN_LATER", 1013), ("BAD_GATEWAY", 1014),
    ]  # fmt: skip
    assert [(m.name, m.value) for m in picows.WSAutoPingStrategy] == [("PING_WHEN_IDLE", 1), ("PING_PERIODICALLY", 2)]
    assert picows.PICOWS_DEBUG_LL == 9


def test_errors_form_one_tree():
    assert issubclass(picows.WSInvalidUpgradeError, picows.WSInvalidHeaderError)
    for error in (picows.WSInvalidHeaderError, picows.WSInvalidMessageError, picows.WSInvalidStatusError):
        assert issubclass(error, picows.WSHandshakeError)
    for error in (picows.WSHandshakeError, picows.WSProtocolError, picows.WSInvalidURL):
        assert issubclass(error, picows.WSError)


def test_a_cython_user_finds_the_same_types_in_picows_picows():
    module = importlib.import_module("picows.picows")
    for name in ("WSFrame", "WSTransport", "WSListener", "WSMsgType", "WSCloseCode"):
        assert getattr(module, name) is getattr(picows, name)


STUBS = sorted(path.stem for path in PACKAGE.glob("*.pyi"))


def test_every_extension_module_with_python_names_has_a_stub():
    assert sorted(path.stem for path in PACKAGE.glob("*.pyx")) == STUBS


@pytest.mark.parametrize("stem", STUBS)
def test_a_stub_names_what_its_module_has(stem):
    """Every class, method, property and function of the stub exists, and every public one of the module is in it."""
    module = importlib.import_module(f"picows.{stem}")
    tree = ast.parse((PACKAGE / f"{stem}.pyi").read_text())
    stubbed = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
    for name, node in stubbed.items():
        if name.startswith("_"):
            continue
        found = getattr(module, name)
        if isinstance(node, ast.ClassDef):
            for member in node.body:
                if isinstance(member, ast.FunctionDef | ast.AsyncFunctionDef):
                    assert hasattr(found, member.name), f"{name}.{member.name}"
            members = {m.name for m in node.body if isinstance(m, ast.FunctionDef | ast.AsyncFunctionDef)}
            if not issubclass(found, int):
                extra = {n for n in vars(found) if not n.startswith("_")} - members
                assert not extra, f"{name}: {extra}"
    own = {
        name for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    }  # fmt: skip
    assert own <= set(stubbed), own - set(stubbed)
