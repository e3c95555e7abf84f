"""Several recordings, and folders of them, as one session in the order of receive times."""

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

from feeds.recording.reader import RawSource

__all__ = ["MergedSource", "open_session", "session_files"]

def session_files(paths: Iterable[str | os.PathLike[str]] | str | os.PathLike[str]) -> list[str]:
    """Return the files that `paths` name: a folder stands for the files in it, in the order of their names.

    NotARecording for a folder without a file.
    """

def open_session(
    paths: Iterable[str | os.PathLike[str]] | str | os.PathLike[str],
    *,
    format: Literal["auto", "native", "collector", "cryptofeed", "tardis"] = "auto",
    exchange: str | None = None,
    strict: bool = False,
) -> RawSource:
    """Open recordings as one: a file as it is, several files and folders merged. Takes what `open_recording` takes."""

class MergedSource(RawSource):
    """Recordings merged in the order of receive times; of equal times, the file that begins first goes first.

    The files that a rotating writer made in one run follow one another as one. A source keeps its number unless another
    run that goes on at the same time has it. Memory is that of the files whose spans overlap; `seek` is for before the
    first message. Opens every file once for its first time. Raises what `open_one`, which opens one, raises.
    """

    def __init__(self, files: Sequence[str], open_one: Callable[[str], RawSource]) -> None: ...
    @property
    def runs(self) -> int:
        """How many runs messages have come from so far."""
