"""Messages held back until it is known whether a newer one supersedes them. For C code only: see the `.pxd`."""

from typing import final

@final
class HeldMessages: ...
