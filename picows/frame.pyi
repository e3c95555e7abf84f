from enum import IntEnum

class WSMsgType(IntEnum):
    """What a frame is (RFC 6455 section 5.2)."""

    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10

class WSCloseCode(IntEnum):
    """Why a connection ends (RFC 6455 section 7.4). Other codes, such as 4000, make members without a name."""

    NO_INFO = 0
    OK = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    UNSUPPORTED_DATA = 1003
    ABNORMAL_CLOSURE = 1006
    INVALID_TEXT = 1007
    POLICY_VIOLATION = 1008
    MESSAGE_TOO_BIG = 1009
    MANDATORY_EXTENSION = 1010
    INTERNAL_ERROR = 1011
    SERVICE_RESTART = 1012
    TRY_AGAIN_LATER = 1013
    BAD_GATEWAY = 1014

class WSFrame:
    """One frame of a WebSocket connection; valid only until `on_ws_frame` returns.

    The payload is a part of the receive buffer: take a copy of what has to live longer.
    """

    @property
    def msg_type(self) -> WSMsgType: ...
    @property
    def fin(self) -> int:
        """1 for the last, or only, frame of a message, else 0."""

    @property
    def rsv1(self) -> int: ...
    @property
    def rsv2(self) -> int: ...
    @property
    def rsv3(self) -> int: ...
    @property
    def payload_size(self) -> int:
        """Bytes."""

    @property
    def tail_size(self) -> int:
        """Bytes in the receive buffer behind this frame, whether they make complete frames or not."""

    @property
    def last_in_buffer(self) -> int:
        """1 if no further complete frame that the listener will see follows in the receive buffer, else 0."""

    @property
    def kernel_time_ns(self) -> int:
        """When the kernel received the last byte of the read that completed this frame, in ns since the epoch.

        0 where it is not known: unless `kernel_time` of ws_connect() asked for it, and until the kernel begins with it.
        """

    def get_payload_as_bytes(self) -> bytes:
        """Return a copy of the payload."""

    def get_payload_as_utf8_text(self) -> str:
        """Return the payload decoded as UTF-8; UnicodeDecodeError if it is none."""

    def get_payload_as_ascii_text(self) -> str:
        """Return the payload decoded as ASCII; UnicodeDecodeError if it is none."""

    def get_payload_as_memoryview(self) -> memoryview:
        """Return a read-only view of the payload, without a copy.

        It may be kept longer than the frame; the connection then reads into new memory, so keep few of them.
        """

    def get_close_code(self) -> WSCloseCode:
        """Return the code of a CLOSE frame, NO_INFO if it has none; ValueError for another kind of frame."""

    def get_close_message(self) -> bytes | None:
        """Return the reason of a CLOSE frame as bytes, None if it has none; ValueError for another kind of frame."""

    def get_close_reason(self) -> str | None:
        """Return the reason of a CLOSE frame, None if it has none; ValueError for another kind of frame."""

def make_frame(msg_type: int, payload: bytes | bytearray | memoryview, fin: bool = True, rsv1: bool = False) -> WSFrame:
    """Return a frame that owns a copy of `payload`, as if it had arrived alone: for tests of listeners."""
