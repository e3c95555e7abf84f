from typing import final

class Block:
    """Memory of at least `capacity` bytes, kept alive by memoryviews on it."""

    def __init__(self, capacity: int) -> None: ...

def limit_spare_memory(size: int) -> None:
    """Let the process keep up to `size` bytes, 8 MiB by default, of large buffers that no connection uses now.

    They serve the next large frame. What exceeds the new limit is given back to the system at once.
    """

def spare_memory() -> int:
    """Bytes that limit_spare_memory() speaks of."""

@final
class ReadBuffer:
    """Bytes between the socket and the parser: written at the end, parsed at the front.

    Grows for a frame that does not fit and shrinks to `initial_capacity` (bytes, at least 256) afterwards. While
    reads fill it, it keeps up to 64 KiB.
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
