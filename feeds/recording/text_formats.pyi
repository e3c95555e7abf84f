"""Readers of text recordings of other software: of cryptofeed and of tardis.dev."""

import os
from typing import Any, BinaryIO

from feeds.recording.importers import CollectorReader

__all__ = ["CryptofeedReader", "TardisReader"]

class TextReader(CollectorReader):
    """Base of the readers here."""

class CryptofeedReader(TextReader):
    """Read what cryptofeed saves of a connection (NAME.ws.N.0) or of REST (NAME.http.0.0, NAME.0).

    Lines: `URL <-> TIME` (connected), `URL <- TIME: TEXT` (sent), `URL -> TIME: TEXT` (REST reply), `TIME: TEXT`
    (received; binary messages as a bytes literal of Python), `configuration: JSON`; TIME in seconds with a fraction.
    Every connection becomes a source with its URL, which tells the exchange. REST replies that are snapshots become
    `Kind.REPLY` with the tag under which the exchange's decoder takes them; those of the NAME.http.0.0 beside a
    NAME.ws.N.0 (or of `replies`) are read with it, in the order of time. Damage is treated as by `CollectorReader`,
    whose limits are accepted.

    Raises NotARecording, RecordingError where the exchange cannot be told, OSError; RecordingDamaged when `strict`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | BinaryIO,
        *,
        exchange: str | None = None,
        replies: str | os.PathLike[str] | BinaryIO | None = None,
        **limits: Any,
    ) -> None: ...

class TardisReader(CollectorReader):
    """Read what tardis.dev has recorded, a message a line: its raw files, `ISO-TIME MESSAGE`, and what tardis-machine
    streams from its HTTP endpoint `/replay`, `{"localTimestamp":"ISO-TIME","message":MESSAGE}`.

    An empty line means that the recorder was disconnected. tardis-machine writes that one at once and messages 32 at a
    time, so that in its stream it may stand up to 31 messages early. What its WebSocket endpoint `/ws-replay` sends has
    no receive times, and cannot be read. Snapshots of Binance's books, which tardis.dev fetches and puts among the
    messages (`STREAM@depthSnapshot`), become `Kind.REPLY`. The exchange is recognised by its messages where only one
    sends such. Damage is treated as by `CollectorReader`, whose limits are accepted; raises as `CryptofeedReader` does.
    """

    def __init__(
        self, path: str | os.PathLike[str] | BinaryIO, *, exchange: str | None = None, **limits: Any
    ) -> None: ...
