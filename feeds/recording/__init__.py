"""Recordings of what came off the wire: their format, writing and reading them, and reading those of others."""

from feeds.recording.errors import (
    Damage,
    NotARecording,
    RecordingDamaged,
    RecordingError,
    RecordingExists,
    UnsupportedVersion,
)
from feeds.recording.importers import CollectorReader, open_recording
from feeds.recording.message import DRAINED, LAST_IN_BATCH, Kind, RawMessage
from feeds.recording.reader import RawSource, RecordingReader
from feeds.recording.text_formats import CryptofeedReader, TardisReader
from feeds.recording.writer import RecordingWriter

__all__ = [
    "DRAINED",
    "LAST_IN_BATCH",
    "CollectorReader",
    "CryptofeedReader",
    "Damage",
    "Kind",
    "NotARecording",
    "RawMessage",
    "RawSource",
    "RecordingDamaged",
    "RecordingError",
    "RecordingExists",
    "RecordingReader",
    "RecordingWriter",
    "TardisReader",
    "UnsupportedVersion",
    "open_recording",
]
