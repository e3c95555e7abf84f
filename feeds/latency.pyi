"""Latency, stage by stage, in histograms of a fixed size."""

from feeds.events import EventHandler, Stage

__all__ = ["Histogram", "Latency", "LatencyProbe"]

DEFAULT_EVERY: int
QUANTILES: dict[str, float]

class Histogram:
    """Counts durations in ns. `quantile(0.99)` is right within 3.2 %, `max` is exact."""

    def __init__(self) -> None: ...
    @property
    def count(self) -> int: ...
    @property
    def max(self) -> int: ...
    def record(self, ns: int) -> None: ...
    def quantile(self, q: float) -> int:
        """Return the duration in ns that a share `q` (0 to 1) of those counted does not exceed, 0 without any."""
    def merge(self, other: Histogram) -> None:
        """Count everything that `other` has counted, too."""
    def to_dict(self) -> dict[str, int]:
        """Return {"count", "p50", "p99", "p99.9", "max"}; durations in ns."""

class Latency:
    """Measures where the time between a packet and a strategy goes, in a histogram per stage, ns.

    One message in `every` is measured, on average and at random distances; `every=1` measures all.
    """

    def __init__(self, *, is_live: bool = False, every: int = 16) -> None: ...
    @property
    def kernel_to_read(self) -> Histogram:
        """The kernel got the first bytes of a read -> the read (live, where the kernel tells); every read."""
    @property
    def read_to_decode(self) -> Histogram:
        """The read -> a message's turn to be decoded (live)."""
    @property
    def decode(self) -> Histogram:
        """A message's turn -> its first event."""
    @property
    def book(self) -> Histogram:
        """A delta -> checked, applied, and the update on its way."""
    @property
    def to_callback(self) -> Histogram:
        """The read (in a replay: a message's turn) -> the handler is entered."""
    @property
    def callback(self) -> Histogram:
        """The handler is entered -> it has returned."""
    @property
    def is_live(self) -> bool: ...
    @property
    def every(self) -> int: ...
    def to_dict(self) -> dict[str, dict[str, int]]:
        """Return stage -> `Histogram.to_dict()`, of the stages that were measured."""
    def merge(self, other: Latency) -> None:
        """Count everything that `other` has counted, too."""

class LatencyProbe(Stage):
    """Measures for `latency` the callbacks that `downstream` gets, and passes them on unchanged."""

    def __init__(self, downstream: EventHandler, latency: Latency) -> None: ...
    @property
    def latency(self) -> Latency: ...
