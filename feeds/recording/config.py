"""The settings of a recording."""

from typing import Literal

import msgspec

from feeds.recording.format import MAX_BLOCK_SIZE

__all__ = ["RecordingConfig"]


class RecordingConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to record: see RecordingWriter."""

    block_size: int = 256 * 1024
    flush_interval: float = 1.0
    compression_level: int = 1
    max_pending_blocks: int = 64
    on_full: Literal["drop", "stop"] = "drop"
    append: bool = False
    rotate_bytes: int | None = None
    rotate_interval: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.block_size <= MAX_BLOCK_SIZE:
            raise ValueError(f"block_size: expected 1 to {MAX_BLOCK_SIZE}, found {self.block_size}")
        if not 0 < self.flush_interval <= 1e9:
            raise ValueError(
                f"flush_interval: expected seconds, more than 0 and at most 1e9, found {self.flush_interval}"
            )
        if self.max_pending_blocks < 1:
            raise ValueError(f"max_pending_blocks: expected at least 1, found {self.max_pending_blocks}")
        if self.on_full not in ("drop", "stop"):
            raise ValueError(f"on_full: expected 'drop' or 'stop', found {self.on_full!r}")
        if self.rotate_bytes is not None and self.rotate_bytes < 1:
            raise ValueError(f"rotate_bytes: expected at least 1, found {self.rotate_bytes}")
        if self.rotate_interval is not None and not 1e-9 <= self.rotate_interval <= 1e9:
            raise ValueError(f"rotate_interval: expected seconds, 1e-9 to 1e9, found {self.rotate_interval}")
        if self.append and (self.rotate_bytes or self.rotate_interval):
            raise ValueError("append: expected one file, found rotation, where every run makes files of its own")
