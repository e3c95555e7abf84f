import asyncio
from enum import IntEnum

from picows.close_handshake import WSCloseHandshake
from picows.handshake import WSUpgradeRequest, WSUpgradeResponse
from picows.listener import WSListener

_Message = str | bytes | bytearray | memoryview | None

class WSAutoPingStrategy(IntEnum):
    """When auto ping pings: only without incoming data for the idle timeout, or every idle timeout."""

    PING_WHEN_IDLE = 1
    PING_PERIODICALLY = 2

class WSTransport:
    """Sends frames, closes, and says how the connection stands. picows makes it; users only call it.

    Every method must be called in the thread of the event loop; RuntimeError elsewhere. What is sent after a CLOSE
    frame, or after disconnect(), is dropped without a word, because the peer may no longer read it.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        underlying_transport: asyncio.Transport | None,
        listener: WSListener,
        request: WSUpgradeRequest | None,
        response: WSUpgradeResponse | None,
        close_timeout: float | None,
        is_client_side: bool,
        is_secure: bool | None = None,
    ) -> None: ...
    @property
    def underlying_transport(self) -> asyncio.Transport: ...
    @property
    def request(self) -> WSUpgradeRequest: ...
    @property
    def response(self) -> WSUpgradeResponse: ...
    @property
    def close_handshake(self) -> WSCloseHandshake | None:
        """The CLOSE frames that were exchanged, None before the first."""

    @property
    def is_client_side(self) -> bool: ...
    @property
    def is_secure(self) -> bool:
        """True if TLS reaches from here to the peer: not for ws through an https proxy."""

    @property
    def is_close_frame_sent(self) -> bool: ...
    @property
    def is_disconnected(self) -> bool:
        """True once the connection is gone; on_ws_disconnected sees it so already."""

    def send(
        self,
        msg_type: int,
        message: _Message,
        fin: bool = True,
        rsv1: bool = False,
        rsv2: bool = False,
        rsv3: bool = False,
    ) -> None:
        """Send one frame. `message` is bytes-like, str (sent as UTF-8) or None (empty), and is copied.

        ValueError for CLOSE (that is send_close()), an unknown type, and a control frame that is fragmented or longer
        than 125 bytes. Reserved bits belong to extensions: without a negotiated one the peer fails the connection.
        Where permessage-deflate was agreed, messages are compressed, and RSV1 is not the caller's to set: ValueError.
        """

    def send_reuse_external_bytearray(
        self,
        msg_type: int,
        buffer: bytearray,
        msg_offset: int,
        fin: bool = True,
        rsv1: bool = False,
        rsv2: bool = False,
        rsv3: bool = False,
    ) -> None:
        """Send `buffer[msg_offset:]`, using the 14 bytes in front of it for the header.

        On a client the message is masked in place: its content is lost. ValueError if there is less room in front, or
        `msg_offset` lies behind the end.
        """

    def send_ping(self, message: _Message = None) -> None:
        """Send a PING; `message` is None, str or bytes-like, at most 125 bytes."""

    def send_pong(self, message: _Message = None) -> None:
        """Send a PONG; `message` is None, str or bytes-like, at most 125 bytes."""

    def send_close(self, close_code: int = 0, close_message: _Message = None) -> None:
        """Send a CLOSE, once; later frames, and a second CLOSE, are dropped. Does not disconnect.

        A peer that answers nothing, or does not close, is disconnected after `websocket_close_timeout`. NO_INFO sends
        no code. ValueError for a code that may not be sent, a message without a code, more than 123 bytes, or no UTF-8.
        """

    def disconnect(self, graceful: bool = True) -> None:
        """Close the connection, after what is waiting to be sent if `graceful`, else at once.

        No frame is delivered any more. A CLOSE of the peer that nobody answered yet is answered first.
        """

    async def wait_disconnected(self) -> None:
        """Return when the connection is closed and on_ws_disconnected has run.

        Raises what a method of the listener raised, or the WSProtocolError by which the peer was found out. A peer that
        merely disconnects raises nothing.
        """

    async def measure_roundtrip_time(self, rounds: int) -> list[float]:
        """Ping the peer `rounds` times and return how long each pong took, in seconds.

        Uses the listener's user-specific ping. ConnectionResetError if the connection ends before the last pong.
        """

    def ping_once(self) -> asyncio.Future[float]:
        """Ping, unless a pong is awaited already; the future ends with the time.perf_counter() of the pong."""

    def unread_size(self) -> int:
        """Return how many bytes of this connection the kernel has received and nobody has read: FIONREAD.

        Under TLS they are encrypted and may turn out to be no frame. 0 on a closed connection.
        """

    def is_drained(self) -> bool:
        """Say whether everything that has arrived has been read: by a frame that is last_in_buffer, acted on as well.

        To be asked in on_ws_frame, at the end of a read. What a TLS layer holds is concluded: it fills the memory that
        it is offered as long as it has complete records, so that a read which left room has left nothing behind. After
        a read that filled it to the last byte the answer is False, because there may be more.

        On Python 3.10 with use_aiofastnet=False on the loop of asyncio the answer is always False under TLS, which
        hands out records one by one there and does not tell when it is empty.
        """

    def notify_user_specific_pong_received(self) -> None:
        """Say that the answer to the last user-specific ping has come, where no single frame says so."""
