"""Keys of messages that supersede one another: which stream a message is of, told by its bytes without decoding it."""

__all__ = ["SupersedeKey"]

class SupersedeKey:
    """How messages of a kind are written of which each says all that those before it on its stream said.

    `pattern` is such a message, with `*` for a name, `#` for digits and `...` for what is left open, before a brace.
    ValueError for other patterns.
    """

    def __init__(self, pattern: bytes) -> None: ...
    @property
    def pattern(self) -> bytes: ...
