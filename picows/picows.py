"""The types of picows in one module, as Python users import and Cython users cimport them."""

from picows.close_handshake import WSCloseHandshake, WSCloseInfo
from picows.errors import (
    WSHandshakeError,
    WSInvalidHeaderError,
    WSInvalidMessageError,
    WSInvalidStatusError,
    WSInvalidUpgradeError,
    WSProtocolError,
)
from picows.frame import WSCloseCode, WSFrame, WSMsgType
from picows.frame import make_frame as _make_test_ws_frame
from picows.handshake import WSUpgradeRequest, WSUpgradeResponse, WSUpgradeResponseWithListener
from picows.listener import WSListener
from picows.logger import PICOWS_DEBUG_LL
from picows.transport import WSAutoPingStrategy, WSTransport

__all__ = [
    "PICOWS_DEBUG_LL",
    "WSAutoPingStrategy",
    "WSCloseCode",
    "WSCloseHandshake",
    "WSCloseInfo",
    "WSFrame",
    "WSHandshakeError",
    "WSInvalidHeaderError",
    "WSInvalidMessageError",
    "WSInvalidStatusError",
    "WSInvalidUpgradeError",
    "WSListener",
    "WSMsgType",
    "WSProtocolError",
    "WSTransport",
    "WSUpgradeRequest",
    "WSUpgradeResponse",
    "WSUpgradeResponseWithListener",
    "_make_test_ws_frame",
]
