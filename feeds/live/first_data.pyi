"""Which subscriptions have brought data, and which are silent."""

from collections.abc import Iterable

from feeds.events import EventHandler, Stage
from feeds.instrument import Instrument

__all__ = ["FirstData"]

class FirstData(Stage):
    """Notes of which instruments books, quotes and tickers come, and passes everything on."""

    def __init__(self, downstream: EventHandler, served: Iterable[tuple[Instrument, str]]) -> None: ...
    @property
    def silent(self) -> list[tuple[Instrument, str]]:
        """The pairs of an instrument and a channel of which nothing has come."""
