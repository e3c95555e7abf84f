"""Proof of sameness: a digest over delivered callbacks."""

from feeds.events import EventHandler, Stage

__all__ = ["CallbackDigest"]

class CallbackDigest(Stage):
    """Chains every callback on its way to `downstream` into a digest."""

    def __init__(self, downstream: EventHandler) -> None: ...
    @property
    def trades(self) -> int: ...
    @property
    def quotes(self) -> int: ...
    @property
    def books(self) -> int: ...
    @property
    def deltas(self) -> int: ...
    @property
    def statuses(self) -> int:
        """Book and feed statuses."""
    @property
    def others(self) -> int:
        """Tickers, funding, open interest, liquidations and candles."""
    @property
    def callbacks(self) -> int:
        """Callbacks so far, without batch ends."""
    @property
    def hexdigest(self) -> str:
        """The digest so far, 16 hexadecimal digits."""
