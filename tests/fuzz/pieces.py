"""How an input is cut into parts."""

from __future__ import annotations

from collections.abc import Iterator


def pieces(data: bytes) -> Iterator[tuple[int, bytes]]:
    """`data` as (a byte, the bytes that it announces), again and again."""
    while len(data) >= 2:
        yield data[0], data[2 : 2 + data[1]]
        data = data[2 + data[1] :]
