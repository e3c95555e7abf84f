"""What can be wrong with a recording, and how it is described."""

from dataclasses import dataclass

from feeds.errors import FeedsError

__all__ = [
    "Damage",
    "NotARecording",
    "RecordingDamaged",
    "RecordingError",
    "RecordingExists",
    "UnsupportedVersion",
]


@dataclass(frozen=True, slots=True)
class Damage:
    """One place in a file that could not be read as it should be."""

    offset: int
    """Where it begins: bytes from the start of the file; of its text, in a compressed text file."""
    reason: str
    """What is wrong, in two or three words: `truncated`, `block checksum`, `malformed line`."""
    expected: str
    found: str
    lost_bytes: int
    """Bytes that yielded no message because of it."""
    line: int | None = None
    """Line number, from 1, in formats that have lines."""

    def __str__(self) -> str:
        where = f"offset {self.offset}" if self.line is None else f"line {self.line} (byte {self.offset})"
        return f"{where}: {self.reason}: expected {self.expected}, found {self.found}; {self.lost_bytes} bytes lost"


class RecordingError(FeedsError):
    """Something about a recording is not as promised. The message begins with the path."""


class RecordingExists(RecordingError, FileExistsError):
    """A recording was to be created where a file is already. Recordings are never overwritten."""


class NotARecording(RecordingError):
    """The file is in no format that we know, or not in the one that was asked for."""


class UnsupportedVersion(RecordingError):
    """The file is a recording of a newer format version than this software reads."""


class RecordingDamaged(RecordingError):
    """A strict reader met damage; `damage` says where and what."""

    def __init__(self, path: str, damage: Damage) -> None:
        super().__init__(f"{path}: {damage}")
        self.damage = damage
