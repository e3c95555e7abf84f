"""WebSockets for asyncio: RFC 6455 in Cython, frames without a copy."""

from picows.client import ws_connect
from picows.errors import (
    WSError,
    WSHandshakeError,
    WSInvalidHeaderError,
    WSInvalidMessageError,
    WSInvalidStatusError,
    WSInvalidUpgradeError,
    WSInvalidURL,
    WSProtocolError,
    WSProxyError,
)
from picows.frame import WSCloseCode, WSFrame, WSMsgType
from picows.handshake import WSUpgradeRequest, WSUpgradeResponse, WSUpgradeResponseWithListener
from picows.listener import WSListener
from picows.logger import PICOWS_DEBUG_LL
from picows.negotiation import WSDeflateConfig
from picows.serializer import serialize_frame
from picows.server import ws_create_server
from picows.socket_reader import BusyPoller, start_busy_polling
from picows.transport import WSAutoPingStrategy, WSTransport
from picows.url import WSParsedURL, parse_url

__all__ = [
    "PICOWS_DEBUG_LL",
    "BusyPoller",
    "WSAutoPingStrategy",
    "WSCloseCode",
    "WSDeflateConfig",
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
    "WSProxyError",
    "WSTransport",
    "WSUpgradeRequest",
    "WSUpgradeResponse",
    "WSUpgradeResponseWithListener",
    "parse_url",
    "serialize_frame",
    "start_busy_polling",
    "ws_connect",
    "ws_create_server",
]
