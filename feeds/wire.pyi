"""Wire messages: declared once, read by msgspec (the reference) or by a scanner (the hot engine)."""

import msgspec

from feeds.events import BookDelta, Quote, Trade
from feeds.levels import LevelShape

__all__ = ["Wire"]

class Wire:
    """How a wire message becomes an event.

    The keywords say which field of `struct` fills which part of the event: ts_event, ts_publish, sequence, trade_id,
    first_id, last_id, previous_id, buyer_is_maker, price, bid_price, ask_price, qty, bid_qty, ask_qty, bids, asks,
    bids_and_asks. `levels` is for levels that are not [price, qty, ...].
    """

    def __init__(
        self,
        struct: type[msgspec.Struct],
        event: type[Trade] | type[Quote] | type[BookDelta],
        *,
        is_snapshot: bool = False,
        depth: int = 0,
        only: tuple[str, str] | None = None,
        levels: LevelShape | None = None,
        **roles: str,
    ) -> None: ...
    @property
    def struct(self) -> type[msgspec.Struct]: ...
    @property
    def kind(self) -> int: ...
    @property
    def is_snapshot(self) -> bool: ...
    @property
    def depth(self) -> int: ...
    @property
    def name(self) -> str: ...
    @property
    def levels(self) -> LevelShape | None: ...
