"""Replay: a recording through the same pipeline as live."""

from collections.abc import Callable
from typing import Any

from feeds.events import EventHandler, Stage
from feeds.instrument import Instruments
from feeds.latency import Latency
from feeds.pipeline import Pipeline
from feeds.recording.reader import RawSource

__all__ = ["Replay", "ReplayWindow"]

class Replay:
    """Plays a recording into `handler`, which usually is what `feeds.conflation.conflated` returns.

    `wrap(handler)` may put a stage between the books and `handler`, per connection. `skip_superseded` is for a
    `handler` that conflates: see `Pipeline`.
    """

    def __init__(
        self,
        source: RawSource,
        handler: EventHandler,
        *,
        instruments: Instruments | None = None,
        reference: bool = False,
        wrap: Callable[[EventHandler], EventHandler] | None = None,
        skip_superseded: bool = False,
        latency: Latency | None = None,
    ) -> None: ...
    @property
    def source(self) -> RawSource: ...
    @property
    def handler(self) -> EventHandler: ...
    @property
    def instruments(self) -> Instruments: ...
    @property
    def reference(self) -> bool: ...
    @property
    def skip_superseded(self) -> bool: ...
    @property
    def latency(self) -> Latency | None: ...
    @property
    def notes(self) -> dict[str, Any]:
        """Tag -> the last note of that tag."""
    @property
    def ts_recv(self) -> int:
        """Of the last message."""
    @property
    def records(self) -> int:
        """Records of every kind."""
    @property
    def messages(self) -> int:
        """Messages received on a WebSocket."""
    @property
    def finished(self) -> bool: ...
    @property
    def is_held(self) -> bool:
        """The recording stands on a message that is not due yet."""
    @property
    def pipelines(self) -> list[Pipeline]: ...
    def run(self, until: int = ..., max_records: int = -1) -> bool:
        """Play what was received up to `until` (ns since the epoch), at most `max_records`; False at the end."""

    def step(self) -> bool:
        """Play up to the end of a batch; False at the recording's end."""
    def pause(self) -> None:
        """Have `run` return after the record in hand: to be called by a handler. `run` and `step` then go on."""

class ReplayWindow(Stage):
    """Lets data events pass that were received at `start` (ns since the epoch) or later; status events always."""

    def __init__(self, downstream: EventHandler, start: int) -> None: ...
    @property
    def start(self) -> int: ...
