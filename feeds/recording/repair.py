"""Recovering what is whole in a damaged recording: `feeds repair`."""

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field

from feeds.recording.blocks import BlockWriter, pack_metadata
from feeds.recording.errors import Damage
from feeds.recording.reader import RawSource, RecordingReader

__all__ = ["Repaired", "repair"]


@dataclass
class Repaired:
    """What `repair` found and saved."""

    messages: int = 0
    blocks: int = 0
    lost_bytes: int = 0
    """Bytes of the damaged file that yielded no message."""
    was_complete: bool = False
    """Whether the recording had been closed."""
    damage_count: int = 0
    damages: list[Damage] = field(default_factory=list)
    """The first thousand of them, in the order of the file."""


def repair(
    path: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    compression_level: int = 3,
    progress: Callable[[RawSource], None] | None = None,
) -> Repaired:
    """Copy every whole block of a recording in our format, and of a malformed block what stands before the mistake.

    `output` is a new file: closed, with an index, with the metadata of the old one and `repaired`, its name, and the
    same segments. Works on any file in which a block of ours is left. Raises NotARecording where there is none,
    RecordingExists where `output` is already, OSError.
    """
    found = Repaired()
    with RecordingReader(path, salvage=True) as reader:
        described = reader.metadata | {"repaired": os.fsdecode(path)}
        writer = BlockWriter(output, pack_metadata(described), level=compression_level)
        try:
            current = reader.run
            for run, metadata, content, messages, first, last, declares in reader.whole_blocks():
                if run != current:
                    writer.write_segment(pack_metadata(metadata))
                    current = run
                writer.write_messages(content, messages, first, last, declares=declares)
                found.messages += messages
                if progress is not None:
                    progress(reader)
            writer.finish()
            writer.sync()
        except BaseException:
            writer.close()
            with contextlib.suppress(OSError):
                os.unlink(output)
            raise
        writer.close()
        found.blocks = writer.blocks
        found.was_complete = reader.complete
        found.damages, found.damage_count = reader.damages, reader.damage_count
        found.lost_bytes = reader.lost_bytes
    return found
