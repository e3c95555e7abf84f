"""Reading recordings: the cursor that every reader is, and the reader of our own format."""

import os
from collections.abc import Iterator
from types import TracebackType
from typing import Any, BinaryIO

from typing_extensions import Self

from feeds.recording.errors import Damage
from feeds.recording.format import IndexEntry
from feeds.recording.message import RawMessage

__all__ = ["RawSource", "RecordingReader"]

class RawSource:
    """A cursor over recorded messages: an iterator over `RawMessage`, and a context manager that closes the file.

    Cython code does not iterate; it calls `advance()` and reads the fields that `reader.pxd` describes.
    """

    @property
    def path(self) -> str: ...
    @property
    def metadata(self) -> dict[str, Any]:
        """What the file says of itself; empty where the format or the file says nothing."""
    @property
    def sources(self) -> dict[int, dict[str, Any]]:
        """What each source was declared to be (`exchange`, `url`, ...), as far as the file has been read."""
    @property
    def damages(self) -> list[Damage]:
        """What could not be read so far: the first `max_damages` of it, `damage_count` in all."""
    @property
    def damage_count(self) -> int: ...
    @property
    def lost_bytes(self) -> int:
        """Bytes that yielded no message because of damage, so far."""
    @property
    def max_damages(self) -> int: ...
    @property
    def strict(self) -> bool:
        """Whether damage raises `RecordingDamaged` instead."""
    @property
    def bytes_read(self) -> int:
        """Position in the file, of `total_bytes`: bytes on disk, compressed. For a progress display."""
    @property
    def total_bytes(self) -> int:
        """Size of the file when it was opened."""
    @property
    def run(self) -> int:
        """Number of the run that the current message is of, from 0: a later one declares its sources anew."""
    def seek(self, ts: int) -> bool:
        """Go to where messages received at `ts` (ns since the epoch) or later begin.

        What follows are the declarations of the sources, then every message from a place on that is before the first of
        those: some earlier ones come too. Before and behind the recording's span, that is its beginning and its last
        block. False, and nothing is done, in formats that can only be read from the beginning.
        """
    def message(self) -> RawMessage:
        """Return a copy of the current message. ValueError before the first and after the last."""
    def close(self) -> None:
        """Close the file, if it was opened here; a file object that was passed stays open. There is no next message."""
    def __iter__(self) -> Self: ...
    def __next__(self) -> RawMessage: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

class RecordingReader(RawSource):
    """Read a recording in our own format, docs/recording-format.md.

    Opens the file and reads its header; `path` may also be a seekable binary file, which stays its caller's. Damage is
    stepped over: every message in a whole block is returned, and `damages` says what was not, and where. A recording
    without its end (still being written, or its writer was killed) is read up to its last whole block.

    `max_block_size` bounds the memory, which is twice that; blocks that want more are damage. `salvage` takes a file
    whose first bytes are damaged for a recording if there is a block of one in it.

    With `read_ahead` a thread decompresses the next blocks, 2 MiB of them or one that is larger, while those before are
    read: the memory is up to 6 MiB more, or five times `max_block_size`. What is returned, and when damage is told,
    does not depend on it. By default that is done where there is a second processor. `close()` ends the thread.

    `metadata` is that of the segment being read: a file that was appended to has several, and `run` counts them.

    Raises `NotARecording`, `UnsupportedVersion`, OSError; `RecordingDamaged` at the first damage when `strict`, here
    for the file header and from the iteration for the rest.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | BinaryIO,
        *,
        strict: bool = False,
        max_block_size: int = ...,
        max_damages: int = 1000,
        salvage: bool = False,
        read_ahead: bool | None = None,
    ) -> None: ...
    @property
    def reads_ahead(self) -> bool: ...
    @property
    def index(self) -> list[IndexEntry]:
        """Where the blocks of messages and the segments are: from the file, or, where it has none, by reading it."""
    def whole_blocks(self) -> Iterator[tuple[int, dict[str, Any], bytes, int, int, int, bool]]:
        """Read on by blocks of messages: run, metadata, content, messages, first and last time, whether it declares.

        The content is records, decompressed, up to the first malformed one.
        """
    def skip_all(self) -> int:
        """Read on to the end; return the sequence number that another block would have."""
    @property
    def version(self) -> int:
        """Version of the format that the file is in."""
    @property
    def complete(self) -> bool:
        """True once the end mark has been read, which `RecordingWriter.close` writes."""
    @property
    def max_block_size(self) -> int: ...
