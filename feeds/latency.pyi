"""Latency, in histograms of a fixed size."""

from feeds.events import EventHandler, Stage

__all__ = ["Histogram", "LatencyProbe"]

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

class LatencyProbe(Stage):
    """Measures how long after the read of its last byte an event reaches `downstream`. Only for live runs."""

    def __init__(self, downstream: EventHandler) -> None: ...
    @property
    def read_to_callback(self) -> Histogram: ...
