"""Checksums of books, as exchanges send them: CRC-32 of a text made of the best levels."""

import enum

from feeds.book import OrderBook

__all__ = ["Checksum", "InterleavedChecksum", "NumberText", "SideBySideChecksum"]

class NumberText(enum.IntEnum):
    DIGITS = 0
    PADDED = 1
    SHORTEST = 2
    JAVASCRIPT = 3

class Checksum:
    """A rule that makes a text of a book's best levels of each side; the checksum is its CRC-32. Base of the others."""

    def __init__(self, *, levels: int, number_text: int) -> None: ...
    @property
    def levels(self) -> int: ...
    @property
    def number_text(self) -> int: ...
    def of(self, book: OrderBook) -> int:
        """Return the checksum of a book as it stands, unsigned."""
    def text(self, book: OrderBook) -> str:
        """Return the text that the checksum is of: for diagnosis."""

class SideBySideChecksum(Checksum):
    """All asks, then all bids, price and quantity of each, with nothing between them. Kraken: ten levels, DIGITS."""

class InterleavedChecksum(Checksum):
    """Best bid, best ask, second bid, second ask and so on, price and quantity of each, colons between all."""

    def __init__(self, *, levels: int, number_text: int, asks_negative: bool = False) -> None: ...
    @property
    def asks_negative(self) -> bool: ...
