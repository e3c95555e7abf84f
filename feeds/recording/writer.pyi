"""Writing recordings."""

import os
from collections.abc import Mapping
from types import TracebackType
from typing import Any, BinaryIO, Literal

from typing_extensions import Buffer, Self

from feeds.recording.message import RawMessage

__all__ = ["RecordingWriter"]

class RecordingWriter:
    """Write a recording in our own format, docs/recording-format.md.

    Creates the file and writes its header; `path` may also be a binary file object, which is flushed instead of synced
    and stays its caller's. To be used from one thread; Cython code calls `write_view`, see `writer.pxd`.

    With `rotate_bytes` or `rotate_interval`, `path` is a folder, made if need be, that gets a session of many files.
    Their names sort in the order of time, each can be read alone, and `open_session` reads them as one.

    `metadata`            what the recording should say of itself, beside `software`, `created` and `clock`
    `block_size`          bytes that are compressed together; the file is cut off at a whole block when we crash
    `flush_interval`      seconds, by the `ts_recv` of the messages, after which they are on their way to the disk at
                          the latest. Nothing happens without a message: let a timer call `flush_due()`
    `max_pending_blocks`  blocks that may wait for the disk: the memory is `block_size` times that
    `on_full`             what happens when so many wait, because the disk is too slow or full. "drop": messages are
                          dropped until there is room; then a `Kind.NOTE` with the tag "dropped" stands where they are
                          missing, a JSON object of `messages`, `bytes`, `first_ts_recv`, `last_ts_recv`. A full disk is
                          tried again twice a second. "stop": a note "stopped" ends the recording and RecordingError is
                          raised, then and at every later write; so does a full disk, without the note
    `append`              a file that is there gets a new segment, behind whatever it ends with; nothing else changes
    `rotate_bytes`        begin a new file when one has so many bytes, or some blocks more
    `rotate_interval`     seconds, of `ts_recv`: begin a new file at each multiple of it (86,400: midnight UTC)

    Raises RecordingExists where a file is already, RecordingError for a file that cannot be appended to or that
    somebody else is recording to, OSError, ValueError; TypeError for metadata that is not JSON. An error of the thread
    (a disk that breaks) is raised by the next write, flush or close, and by all after it but close.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | BinaryIO,
        *,
        metadata: Mapping[str, Any] | None = None,
        block_size: int = 262144,
        flush_interval: float = 1.0,
        compression_level: int = 1,
        max_pending_blocks: int = 64,
        on_full: Literal["drop", "stop"] = "drop",
        append: bool = False,
        rotate_bytes: int | None = None,
        rotate_interval: float | None = None,
    ) -> None: ...
    @property
    def path(self) -> str: ...
    @property
    def messages(self) -> int:
        """Messages recorded, declarations and notes included."""
    @property
    def payload_bytes(self) -> int:
        """Bytes of their payloads."""
    @property
    def dropped(self) -> int:
        """Messages dropped because the queue was full, or because the recording had failed or stopped."""
    @property
    def dropped_bytes(self) -> int: ...
    @property
    def pending_blocks(self) -> int:
        """Blocks that wait to be written, the one being written included."""
    @property
    def blocks_written(self) -> int: ...
    @property
    def bytes_written(self) -> int:
        """Size of the file so far; of all files of a session."""
    @property
    def problem(self) -> str | None:
        """Why nothing is being written: the recording has failed or stopped, or waits for room on a full disk."""
    def add_source(self, exchange: str, url: str, *, ts_recv: int | None = None, **more: Any) -> int:
        """Declare a connection or REST client; return the number that its messages are to be written under, from 1.

        `more` is recorded with it and must be JSON. `ts_recv` defaults to that of the message before. A declaration is
        never dropped.
        """
    def declare_again(self, source: int, exchange: str, url: str, **more: Any) -> None:
        """Declare a source anew, of which more is known by now; ValueError where it was not declared before."""
    def note(self, tag: str, obj: Any, *, ts_recv: int | None = None) -> None:
        """Record `obj`, which must be JSON, as a note of the recording itself (source 0)."""
    def write(self, message: RawMessage) -> bool:
        """Record a message. False if it was dropped.

        ValueError for a source that was not declared, by `add_source` or by a message of `Kind.SOURCE`; RecordingError
        once the recording is closed or has failed, and for a message that no block can hold (64 MiB).
        """
    def write_message(
        self, ts_recv: int, source: int, flags: int, payload: Buffer, tag: str = "", extension: bytes = b""
    ) -> bool:
        """The same, of a message in its parts."""
    def flush(self, *, wait: bool = False) -> None:
        """Send what has been recorded on its way to the disk; `wait` until it is there.

        Without `wait` this does not block, and does nothing while the queue is full.
        """
    def flush_due(self, now: int) -> None:
        """Flush, without blocking, if at `now` (ns since the epoch) a message has waited for `flush_interval`."""
    def close(self) -> None:
        """Write everything, and the mark that says so; close the file. Blocks until that is done; idempotent."""
    def __enter__(self) -> Self: ...
    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None: ...
