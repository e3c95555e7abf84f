"""Copying a recording of any format into a new one of ours."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import Any

from feeds.recording.errors import RecordingError
from feeds.recording.reader import RawSource
from feeds.recording.writer import RecordingWriter

__all__ = ["copy_recording"]

PROGRESS_RECORDS = 20_000  # between two calls of `progress`
MAX_PENDING_BLOCKS = 64
COMPRESSION_LEVEL = 6  # written once, read often: smaller, and faster to decompress, than at the level of live
_OF_THE_FILE = ("software", "created", "clock", "session", "part")  # which the new one has of its own
_NEVER = 1e9  # seconds: nothing but a full block is written


def copy_recording(
    source: RawSource,
    output: str | os.PathLike[str],
    *,
    progress: Callable[[RawSource], None] | None = None,
) -> int:
    """Write all that `source` has to a new recording, a segment for each run; return how many messages that were.

    The events of a replay are the same. The metadata is that of the original, and `converted`, its name. Raises
    RecordingExists where `output` is already, RecordingError for runs that go on at the same time, which no recording
    of ours can hold, and OSError.
    """
    first: RecordingWriter | None = None
    with contextlib.ExitStack() as open_writer:
        writer: Any = None
        run, messages = 0, 0
        for message in source:
            if writer is None or source.run != run:
                if source.run < run:
                    raise RecordingError(
                        f"{source.path}: expected recordings that follow one another, found two of the same time"
                    )
                open_writer.close()
                run = source.run
                writer = open_writer.enter_context(_writer(source, output, append=first is not None))
                first = first or writer
            if writer.pending_blocks >= MAX_PENDING_BLOCKS // 2:
                writer.flush(wait=True)
            writer.write(message)
            messages += 1
            if progress is not None and messages % PROGRESS_RECORDS == 0:
                progress(source)
        if writer is None:
            open_writer.enter_context(_writer(source, output, append=False))
    return messages


def _writer(source: RawSource, output: str | os.PathLike[str], *, append: bool) -> RecordingWriter:
    described = {key: value for key, value in source.metadata.items() if key not in _OF_THE_FILE}
    return RecordingWriter(
        output,
        metadata=described | {"converted": source.path},
        flush_interval=_NEVER,
        compression_level=COMPRESSION_LEVEL,
        max_pending_blocks=MAX_PENDING_BLOCKS,
        on_full="stop",
        append=append,
    )
