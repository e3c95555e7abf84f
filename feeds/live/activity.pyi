"""What each subscription of a connection brings, and how long it may bring nothing."""

from collections.abc import Iterable, Mapping

from feeds.book_builder import BookBuilder
from feeds.instrument import Instrument

__all__ = ["Activity"]

class Activity:
    """Learns of each instrument and channel that is served what silence is usual, and says where it is longer.

    A threshold is `factor` times the longest silence of the last `window` seconds, at least `floor`. It is infinite
    until 16 silences have been seen, and where it would exceed `ceiling`. `timeouts` sets thresholds by channel.
    """

    def __init__(
        self,
        books: BookBuilder,
        *,
        factor: float = 4.0,
        window: float = 3600.0,
        floor: float = 30.0,
        ceiling: float = 300.0,
        timeouts: Mapping[str, float] | None = None,
    ) -> None: ...
    @property
    def factor(self) -> float: ...
    @property
    def window(self) -> float: ...
    @property
    def floor(self) -> float: ...
    @property
    def ceiling(self) -> float: ...
    @property
    def silence(self) -> float:
        """Seconds, to the last look, for which nothing has come of all that is served."""
    @property
    def threshold(self) -> float:
        """Seconds of silence beyond which the connection is not believed to serve a quiet market; may be infinite."""
    def serve(self, pairs: Iterable[tuple[Instrument, str]]) -> None:
        """Look from now on after these pairs of instrument and channel; known ones keep what was learned."""
    def restart(self) -> None:
        """A new connection: silences count from now, and what comes first teaches nothing."""
    def look(self, elapsed: float, most: int) -> list[tuple[Instrument, str, float]]:
        """Compare counters, `elapsed` seconds after the last look.

        Return (instrument, channel, silence) of what has passed its threshold, so many at most: others are for the next
        look. Nothing is said to have stalled while the whole connection brings nothing.
        """
    def renewed(self, pair: tuple[Instrument, str]) -> None:
        """This one has been subscribed anew: what comes next teaches nothing."""
    def gave_up(self) -> None:
        """The connection is made anew because of its silence."""
