"""Sequencing rules, as types named after the rule. `BookBuilder` has one object per book."""

import enum

from feeds.events import BookDelta

__all__ = [
    "ConnectionCounter",
    "ContiguousSequence",
    "GrowingSequence",
    "IdentitySequence",
    "LinkedSequence",
    "NonDecreasingSequence",
    "OverlappingSequence",
    "ReorderedCounter",
    "RestartSequence",
    "Sequence",
    "Verdict",
]

class Verdict(enum.IntEnum):
    APPLY = 0
    OLD = 1
    MISSED = 2

class Sequence:
    """No rule at all: every delta is the next one. The base of the others."""

    def __init__(self) -> None: ...
    @property
    def last_id(self) -> int:
        """Of the last applied message, -1 before the first."""
    @property
    def awaiting_first(self) -> bool:
        """A snapshot stands and no delta has been applied to it."""
    @property
    def needs_held(self) -> bool:
        """Only a delta that came before a snapshot shows that it is not too old."""
    def joined(self, snapshot: BookDelta) -> None:
        """Start from `snapshot`: for tests and for tools that keep their own books."""
    def judge(self, delta: BookDelta) -> Verdict:
        """Return the verdict on `delta` and, where it is APPLY, move on to it."""

class ContiguousSequence(Sequence):
    """Update ids without holes: each delta covers `first_id..last_id` and starts where the one before ended."""

class LinkedSequence(Sequence):
    """Update ids with holes, where each delta names the one before it: `previous_id`."""

class IdentitySequence(Sequence):
    """Update ids that say nothing by their size: each delta names the one before it, and may be smaller than that."""

class OverlappingSequence(Sequence):
    """Update ids where each delta has all that changed after `previous_id`, perhaps more than is new."""

class GrowingSequence(Sequence):
    """Numbers that only grow, such as times, and do not say which was the one before.

    One that is more than `most_back` below it counts as a break: a clock was set back.
    """

    def __init__(self, most_back: int = ...) -> None: ...

class ConnectionCounter:
    """Counts every message of a connection, of all channels and instruments: one counter that grows by 1."""

    __slots__ = ("last", "missed", "repeated")
    last: int
    missed: int
    repeated: int
    def __init__(self) -> None: ...
    def follows(self, number: int) -> bool:
        """Move on to `number`; False where messages are missing between the last one and it."""

class RestartSequence(IdentitySequence):
    """Ids as `IdentitySequence` has them, and a delta that names 0 tells of a restart: the book is void."""

class ReorderedCounter:
    """Counts every message of a connection, as `ConnectionCounter`, where some overtake others."""

    __slots__ = ("awaited", "last", "missed", "repeated")
    awaited: set[int]
    last: int
    missed: int
    repeated: int
    def __init__(self) -> None: ...
    def follows(self, number: int, slack: int = 0) -> bool:
        """Move on to `number`; False where it shows that messages are missing: more than `slack` below it."""

class NonDecreasingSequence(Sequence):
    """Ids of a counter that instruments share: they never decrease, and tell nothing of what was missed between two."""
