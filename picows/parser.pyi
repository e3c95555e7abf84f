from typing import final

from picows.buffer import ReadBuffer
from picows.deflate import Inflater
from picows.frame import WSFrame

@final
class FrameParser:
    """Cuts the byte stream of one direction of a connection into frames.

    expects_masked -- True for a server: RFC 6455 section 5.1 has clients mask every frame and servers none.
    max_frame_size -- a longer payload is rejected with MESSAGE_TOO_BIG, by its header alone.
    buffer_size -- what the read buffer holds while frames are small, in bytes.
    reserved_bits -- which of RSV1 (0x40), RSV2 (0x20) and RSV3 (0x10) a negotiated extension uses. RSV1 alone is
        permessage-deflate's, which sets it in the first frame of a message only.
    inflater -- inflates compressed messages, frame by frame: they look as if they had been sent uncompressed.
    """

    def __init__(
        self,
        expects_masked: bool,
        max_frame_size: int = 10485760,
        buffer_size: int = 16384,
        reserved_bits: int = 0,
        inflater: Inflater | None = None,
    ) -> None: ...
    @property
    def buffer(self) -> ReadBuffer: ...
    @property
    def frame(self) -> WSFrame: ...
    @property
    def ahead(self) -> WSFrame: ...
    @property
    def is_closed(self) -> bool:
        """True from the moment a CLOSE was returned: whatever follows it is discarded."""

    @property
    def max_frame_size(self) -> int: ...
    @property
    def expects_masked(self) -> bool: ...
    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Commit `data`, as if it had been read from a socket. What next_frame_or_none() returned is dead after it."""

    def next_frame_or_none(self) -> WSFrame | None:
        """The next frame, in an object that the next call reuses, or None until more bytes arrive.

        Raises WSProtocolError, then and ever after, where the peer broke RFC 6455.
        """

    def read_size(self) -> int:
        """How many bytes may be read into the buffer now."""

def is_close_code_allowed(code: int) -> bool:
    """True for a code that may stand in a CLOSE frame (RFC 6455 section 7.4, and the registry of close codes)."""
