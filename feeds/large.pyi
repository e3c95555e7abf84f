"""Large messages: their levels are read at any time and in any thread, the rest when it is their turn."""

from feeds.levels import LevelShape

__all__ = ["LargeMessage", "take_apart"]

PLACEHOLDER: bytes

class LargeMessage:
    """A message whose large arrays of levels have been read. Made by `take_apart`."""

    @property
    def payload(self) -> bytes:
        """The message as it came."""

    @property
    def text(self) -> bytes:
        """The same with a placeholder for each array that has been read."""

    @property
    def array_count(self) -> int:
        """How many arrays have been read."""

def take_apart(payload: bytes, arrays: tuple[tuple[str, LevelShape], ...]) -> LargeMessage | None:
    """Return a `LargeMessage`, or None where there is nothing to take apart. Needs no decoder, and no GIL for long.

    `arrays` says which may be large: (name, LevelShape), at most 8. Those of 16 KiB and more that are as declared are
    read.
    """
