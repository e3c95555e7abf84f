def mask_implementations() -> list[str]:
    """Names of the implementations that this processor can run, the one in use first."""

def mask_bytes(
    data: bytes | bytearray | memoryview, mask: bytes, phase: int = 0, implementation: int = 0, offset: int = 0
) -> bytes:
    """Return `data` XORed with the four bytes of `mask`, from mask byte `phase` on.

    `implementation` is an index into mask_implementations(); `offset` shifts the data in memory. For tests and tools:
    the frame path masks in place.
    """

def random_mask() -> bytes:
    """The next mask of the pool that all client connections of this process share."""
