"""Recordings of what came off the wire: their format, writing and reading them, and reading those of others."""

from feeds.recording.config import RecordingConfig
from feeds.recording.errors import (
    Damage,
    NotARecording,
    RecordingDamaged,
    RecordingError,
    RecordingExists,
    UnsupportedVersion,
)
from feeds.recording.importers import CollectorReader, open_recording
from feeds.recording.merging import MergedSource, open_session, session_files
from feeds.recording.message import DRAINED, LAST_IN_BATCH, Kind, RawMessage
from feeds.recording.reader import RawSource, RecordingReader
from feeds.recording.repair import Repaired, repair
from feeds.recording.text_formats import CryptofeedReader, TardisReader
from feeds.recording.writer import RecordingWriter

__all__ = [
    "DRAINED",
    "LAST_IN_BATCH",
    "CollectorReader",
    "CryptofeedReader",
    "Damage",
    "Kind",
    "MergedSource",
    "NotARecording",
    "RawMessage",
    "RawSource",
    "RecordingConfig",
    "RecordingDamaged",
    "RecordingError",
    "RecordingExists",
    "RecordingReader",
    "RecordingWriter",
    "Repaired",
    "TardisReader",
    "UnsupportedVersion",
    "open_recording",
    "open_session",
    "repair",
    "session_files",
]
