"""`Strategy`, the class that users subclass, and the host that runs one."""

from typing import overload

from feeds.book import OrderBook
from feeds.events import EventHandler
from feeds.instrument import Instrument

__all__ = ["Strategy", "StrategyHost"]

class Strategy(EventHandler):
    """Turns events into decisions. Override the `on_<kind>` methods of `EventHandler` that you need, and these."""

    name: str
    @property
    def now(self) -> int:
        """The receive time of the event being handled, ns since the epoch: the same live and in replay."""
    @property
    def books(self) -> dict[Instrument, OrderBook]: ...
    def book(self, instrument: Instrument) -> OrderBook | None:
        """Return the instrument's book, or None while no message of it has come."""
    def on_start(self) -> None:
        """The session begins; `now` is 0 until the first event."""
    def on_stop(self) -> None:
        """The session has ended, in whichever way."""
    def on_timer(self, name: str) -> None:
        """A timer is due. It fires at the end of the first batch whose receive time is not before its time."""
    @overload
    def set_timer(self, name: str, *, at: int, every: None = None) -> None: ...
    @overload
    def set_timer(self, name: str, *, at: None = None, every: int) -> None:
        """Have `on_timer(name)` called once `at` a time (ns since the epoch), or each `every` ns from now on."""
    def cancel_timer(self, name: str) -> None:
        """Forget all timers of this name."""
    def hosted(self) -> StrategyHost:
        """Return the handler that runs this strategy in a session."""

class StrategyHost(EventHandler):
    """Runs a strategy: its clock, books, timers and lifecycle. What it raises becomes a `StrategyError`."""

    def __init__(self, strategy: Strategy) -> None: ...
    @property
    def strategy(self) -> Strategy: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...
