"""The types of picows in one module, as Python users import and Cython users cimport them."""

from picows.frame import WSCloseCode, WSFrame, WSMsgType
from picows.frame import make_frame as _make_test_ws_frame
from picows.listener import WSListener
from picows.transport import WSAutoPingStrategy, WSTransport

__all__ = [
    "WSAutoPingStrategy",
    "WSCloseCode",
    "WSFrame",
    "WSListener",
    "WSMsgType",
    "WSTransport",
    "_make_test_ws_frame",
]
