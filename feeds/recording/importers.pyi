"""Readers of recordings that other software made, and the choice among all formats."""

import os
from typing import BinaryIO, Literal

from feeds.recording.reader import RawSource

__all__ = ["CollectorReader", "open_recording"]

class CollectorReader(RawSource):
    """Read a file of the "collector" format, as hftbacktest's collector writes for Binance; plain text or gzip.

    A line is `<receive time, ns since the epoch> <JSON>`. It becomes a `Kind.TEXT` message that is a batch of its own;
    a bare `{"lastUpdateId": ...}`, a REST snapshot of the book, becomes a `Kind.REPLY` whose tag is the exchange's
    symbol: its own `symbol`, or that of the stream before it (the first stream of the file if there is none).
    The first message declares source 1, with `exchange` and an unknown (empty) `url`.

    Without `exchange`, the first book change of the first MiB of text decides: with `ps` it is binance-delivery, with
    `pu` binance-futures, otherwise binance. Malformed lines, and lines longer than `max_line_size` bytes, are in
    `damages` with their number and offset in the text, and are skipped; so is the rest of a gzip file that is damaged
    (which gzip may notice late, after text that is wrong).

    Raises NotARecording if no line looks as it should, RecordingError if the exchange cannot be told, OSError;
    RecordingDamaged when `strict`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | BinaryIO,
        *,
        exchange: str | None = None,
        strict: bool = False,
        max_line_size: int = 16777216,
        max_damages: int = 1000,
    ) -> None: ...
    @property
    def exchange(self) -> str: ...
    @property
    def max_line_size(self) -> int: ...
    @property
    def lines(self) -> int:
        """Lines read so far, malformed ones included."""

def open_recording(
    path: str | os.PathLike[str] | BinaryIO,
    *,
    format: Literal["auto", "native", "collector", "cryptofeed", "tardis"] = "auto",
    exchange: str | None = None,
    strict: bool = False,
) -> RawSource:
    """Open a recording of any format that we read; "auto" finds out which, by content.

    `exchange` is for formats that do not say; a native recording does. Raises as the readers do; `NotARecording` for a
    file of no known format.
    """
