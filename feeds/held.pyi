"""Messages held back until it is known whether a newer one supersedes them. For C code only: see the `.pxd`."""

class HeldMessages:
    def __init__(self, max_bytes: int) -> None: ...
