"""Keys of messages that supersede one another: which stream a message is of, told by its bytes without decoding it."""

from typing_extensions import Self

__all__ = ["SupersedeKey"]

class SupersedeKey:
    """How messages of a kind are written of which each says all that those before it on its stream said.

    `pattern` is such a message, with `*` for a name, `#` for digits and `...` for what is left open, before a brace.
    ValueError for other patterns.
    """

    def __new__(cls, pattern: bytes) -> Self: ...
    @property
    def pattern(self) -> bytes: ...
