"""Seeded order flow on true books: limit orders, cancels and market orders, in quiet times and in bursts."""

from collections.abc import Iterator, Sequence

from feeds.simulator.flow_types import NS_PER_SECOND, Book, Fill, FlowConfig, LevelChange, Top, Update
from feeds.simulator.markets import Market

__all__ = ["NS_PER_SECOND", "Book", "Fill", "FlowConfig", "LevelChange", "OrderFlow", "Top", "Update"]

class OrderFlow:
    """Order flow of an exchange and the true book of each of its symbols.

    A hidden fair price of each symbol walks at random. Market orders take what it has crossed, makers improve towards
    it and cancel behind it. Orders come in clusters that share an instant, clusters come at a rate that switches
    between quiet and busy for the whole exchange, and most, not all, orders of a cluster hit the same symbol.
    """

    def __init__(self, markets: Sequence[Market], config: FlowConfig | None = None, *, start_ns: int = 0) -> None:
        """Fill the books and let `warm_up` orders pass; the first burst comes after `start_ns`.

        ValueError for no or repeated symbols, a start price below 100 or above 10**12 ticks, a typical quantity below 1
        or above 10**12 lots, and for a configuration that no exchange could keep up.
        """

    @property
    def config(self) -> FlowConfig: ...
    @property
    def markets(self) -> list[Market]: ...
    @property
    def ts_event(self) -> int:
        """Exchange time of the newest order."""

    @property
    def next_ns(self) -> int:
        """Exchange time of the next burst."""

    def __iter__(self) -> Iterator[Update]:
        """Yield updates without end, in the order of their times; the books are ahead, at the end of each burst."""

    def next_burst(self) -> list[Update]:
        """Return all orders of the next instant at which something happens."""

    def step(self, now_ns: int) -> list[Update]:
        """Return everything up to and including `now_ns`."""

    def burst(self, symbol: str, orders: int, ts_event: int) -> list[Update]:
        """Make `orders` orders of one symbol at one instant, besides those that come by themselves.

        KeyError for an unknown symbol, ValueError for a time before the newest order's.
        """

    def book(self, symbol: str, *, levels: int | None = None) -> Book:
        """Copy the true book as it is now, or its best `levels` a side."""

    def top(self, symbol: str) -> Top:
        """Return the best bid and offer."""

    def depth(self, symbol: str) -> int:
        """Return how many levels the deeper side of the book has."""

    def qty_at(self, symbol: str, is_bid: bool, price: int) -> int:
        """Return the quantity of a level, 0 where there is none."""

    def last_id(self, symbol: str) -> int:
        """Return the id of the symbol's newest change."""

    def first_book(self, symbol: str) -> Book:
        """Copy the book that the symbol opened with: older than anything that a client can have seen."""

    def book_at(self, symbol: str, update_id: int) -> Book:
        """Copy the true book as it was after change `update_id` (or the last one before it).

        LookupError when the id lies ahead or further back than `history` changes.
        """
