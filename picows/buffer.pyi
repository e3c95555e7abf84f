from typing import final

class Block:
    """The memory of a ReadBuffer, kept alive by memoryviews on it."""

@final
class ReadBuffer:
    """Bytes between the socket and the parser: written at the end, parsed at the front.

    Grows for a frame that does not fit and shrinks to `initial_capacity` (bytes, at least 256) afterwards.
    """

    def __init__(self, initial_capacity: int) -> None: ...
    @property
    def capacity(self) -> int: ...
    @property
    def read_pos(self) -> int: ...
    @property
    def write_pos(self) -> int: ...
    @property
    def initial_capacity(self) -> int: ...
    def append(self, data: bytes | bytearray | memoryview) -> None:
        """Copy `data` in, as if it had been read from the socket."""

    def take(self) -> bytes:
        """Return the unparsed bytes and drop them from the buffer."""
