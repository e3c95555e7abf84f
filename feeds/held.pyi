"""Messages held back until it is known whether a newer one supersedes them. For C code only: see the `.pxd`."""

from typing import final

__all__ = ["HeldMessages"]

@final
class HeldMessages: ...
