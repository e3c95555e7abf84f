"""Recordings as other software wants them: `feeds convert`."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from feeds import session
from feeds.errors import ConfigError
from feeds.recording import RawSource, RecordingError, RecordingExists, open_session
from feeds.recording.copying import copy_recording
from feeds.session import Report

__all__ = ["TARGETS", "Converted", "convert"]

TARGETS = ("parquet", "tardis-csv", "hftbacktest", "native")
_BY_EXTENSION = {".parquet": "parquet", ".npz": "hftbacktest", ".feeds": "native"}


@dataclass
class Converted:
    """What `convert` has written."""

    path: Path
    target: str
    messages: int = 0
    size: int = 0
    """Bytes on disk."""
    remarks: list[str] = field(default_factory=list)
    """What a user should know of the data, as sentences."""
    report: Report | None = None
    """Of the replay; None for `native`, which decodes nothing."""


def convert(
    paths: Sequence[str | os.PathLike[str]] | str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    to: str | None = None,
    format: Literal["auto", "native", "collector", "cryptofeed", "tardis"] = "auto",
    exchange: str | None = None,
    progress: Callable[[RawSource], None] | None = None,
) -> Converted:
    """Write recordings, merged by receive time, to `output`, which must be new, in the format `to`, one of TARGETS.

    Without `to` the extension decides: .parquet, .npz, .feeds. parquet and tardis-csv make a folder; hftbacktest makes
    one, with a file per instrument, unless `output` ends with .npz; native is a recording of ours. See the sinks
    `Parquet`, `TardisCsv` and `Hftbacktest`, and `copy_recording`. What fails leaves nothing under the name `output`.
    Raises ConfigError, RecordingExists, RecordingError, OSError.
    """
    path = Path(output)
    target = to or _BY_EXTENSION.get(path.suffix)
    if target not in TARGETS:
        raise ConfigError(
            f"{path}: expected a format of {', '.join(TARGETS)}, or a name with "
            f"{', '.join(_BY_EXTENSION)}, found {to or path.suffix or 'neither'!r}"
        )
    _refuse_existing(path)
    converted = Converted(path, target)
    options: dict[str, Any] = {"format": format, "exchange": exchange, "progress": progress}
    working = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent))
    try:
        made = working / "made"
        if target == "native":
            with open_session(paths, format=format, exchange=exchange) as source:
                converted.messages = copy_recording(source, made, progress=progress)
                converted.remarks += [f"damaged recording: {damage}" for damage in source.damages]
        else:
            made.mkdir()
            sink = _sink(target, made)
            try:
                converted.report = session.replay(sink, paths, policy="none", **options)
                sink.close()
            except BaseException:
                sink.abandon()
                raise
            converted.messages = converted.report.messages
            if target == "hftbacktest":
                made = _judge_arrays(sink, path, made, converted)
        converted.size = sum(file.stat().st_size for file in (made, *made.rglob("*")) if file.is_file())
        _refuse_existing(path)
        made.rename(path)
    finally:
        shutil.rmtree(working, ignore_errors=True)
    return converted


def _refuse_existing(path: Path) -> None:
    if os.path.lexists(path):
        raise RecordingExists(f"{path}: expected a new name, found that it is there already")


def _sink(target: str, folder: Path) -> Any:
    # Here, because only some of them need other software.
    try:
        if target == "parquet":
            from feeds.sinks.parquet import Parquet

            return Parquet(folder)
        if target == "tardis-csv":
            from feeds.sinks.tardis_csv import TardisCsv

            return TardisCsv(folder)
        import numpy  # noqa: F401 - which the sink asks for with its first event

        from feeds.sinks.hftbacktest import Hftbacktest

        return Hftbacktest(folder)
    except ImportError as error:
        raise ConfigError(
            f"{target}: expected {error.name} to be installed, found that it is not; pip install 'picows-feeds[export]'"
        ) from error


def _judge_arrays(sink: Any, path: Path, made: Path, converted: Converted) -> Path:
    """Say what is remarkable of the arrays; return what is to be called `path`."""
    if sink.ahead:
        converted.remarks.append(
            f"{sink.ahead:,} events are dated after their receipt: the clocks differ, and "
            "hftbacktest.data.correct_local_timestamp is to be called"
        )
    if sink.raised:
        converted.remarks.append(f"{sink.raised:,} times were raised, to keep events in order")
    if path.suffix != ".npz":
        return made
    if len(sink.paths) != 1:
        raise RecordingError(
            f"{path}: expected books and trades of one instrument, found {len(sink.paths)}; a name without "
            ".npz makes a folder with a file for each"
        )
    only: Path = sink.paths[0]
    return only
