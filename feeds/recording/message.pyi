"""The unit of recording and replay: one message, as it came off the wire."""

import enum
from typing import Final, final

__all__ = ["DRAINED", "LAST_IN_BATCH", "Kind", "RawMessage"]

LAST_IN_BATCH: Final = 0x100
"""Bit of `RawMessage.flags`: the last complete message in the receive buffer."""
DRAINED: Final = 0x200
"""Bit of `RawMessage.flags`: the socket had no more to read."""

class Kind(enum.IntEnum):
    """What a message is: the low 8 bits of `RawMessage.flags`."""

    SOURCE = 0
    """Declares the source that it names, before the source's first message. Payload: a JSON object with `exchange`,
    `url`, and what else the recorder knew."""
    TEXT = 1
    """A WebSocket text message that we received, whole and inflated."""
    BINARY = 2
    """A WebSocket binary message that we received."""
    SENT = 3
    """A message that we sent."""
    REQUEST = 4
    """A REST request that we made. Payload: its URL."""
    REPLY = 5
    """The reply to one. Payload: its body; the tag says what it is for."""
    CONNECTED = 6
    DISCONNECTED = 7
    """Payload: the reason, as text."""
    STATUS = 8
    """A feed status that the live feed decided. Payload: JSON."""
    TICK = 9
    """Time passed without a message."""
    NOTE = 10
    """JSON under a tag. Ours: `dropped`, `stopped` (see `RecordingWriter`)."""

@final
class RawMessage:
    """One thing that happened, and when.

    Equal to another with the same values, and hashable. Not ordered: the order of a recording is the order of
    its messages, of which two may have the same `ts_recv`.
    """

    def __init__(
        self, ts_recv: int, source: int, flags: int, tag: str = "", payload: bytes = b"", extension: bytes = b""
    ) -> None: ...
    @property
    def ts_recv(self) -> int:
        """When we received it, ns since the epoch; 0 = unknown."""
    @property
    def source(self) -> int:
        """Number of the connection (or REST client) inside its recording; 0 is the recording itself."""
    @property
    def flags(self) -> int:
        """The kind in the low 8 bits, then bits. Unknown ones are kept as they are."""
    @property
    def tag(self) -> str: ...
    @property
    def payload(self) -> bytes: ...
    @property
    def kind(self) -> Kind | int:
        """The kind; a plain int when a newer writer used one that we do not know."""
    @property
    def last_in_batch(self) -> bool: ...
    @property
    def drained(self) -> bool:
        """Whether the socket had no more to read."""
    @property
    def extension(self) -> bytes:
        """What else is known, encoded as in the file (docs/recording-format.md); empty for most."""
    @property
    def ts_kernel(self) -> int:
        """When the kernel received it, ns since the epoch; 0 = unknown."""
    @property
    def frame_sizes(self) -> tuple[int, ...] | None:
        """Sizes of the frames that it came in, their payloads inflated; None = one frame, or unknown."""
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...
