"""What an order flow is told and what it tells: its configuration, updates and books."""

from typing import Literal

import msgspec

NS_PER_SECOND = 1_000_000_000


class FlowConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    seed: int = 1
    rate: float = 1000.0  # orders per second of exchange time, all symbols together, on average
    levels: int = 500  # price levels a side that books start with and stay near; never more than twice as many
    # Whose counter numbers the changes: each symbol's own, without holes, or one of the whole exchange, with holes
    # where instruments that we do not simulate trade.
    update_ids: Literal["symbol", "exchange"] = "symbol"
    history: int = 20_000  # changes per symbol that `book_at` can look back
    warm_up: int = 2_000  # orders per symbol before the first that a user sees


class LevelChange(msgspec.Struct, frozen=True, gc=False):
    """One level's new quantity. 0: the level is gone."""

    update_id: int
    is_bid: bool
    price: int  # ticks
    qty: int  # lots


class Fill(msgspec.Struct, frozen=True, gc=False):
    trade_id: int
    price: int  # ticks
    qty: int  # lots
    buyer_is_maker: bool


class Top(msgspec.Struct, frozen=True, gc=False):
    """Best bid and offer, ticks and lots."""

    bid: int
    bid_qty: int
    ask: int
    ask_qty: int


class Update(msgspec.Struct, frozen=True, gc=False):
    """All that one order did to one book."""

    ts_event: int  # ns of exchange time; the orders of a burst share it
    symbol: str
    previous_id: int  # of the symbol's last change before this
    changes: list[LevelChange]  # at least one, ids ascending
    fills: list[Fill]
    top: Top | None  # None: the best bid and offer stayed as they were

    @property
    def last_id(self) -> int:
        return self.changes[-1].update_id


class Book(msgspec.Struct, frozen=True, gc=False):
    """A copy of a book, best level first, as (ticks, lots)."""

    symbol: str
    update_id: int  # of the last change it contains
    ts_event: int
    bids: list[tuple[int, int]]
    asks: list[tuple[int, int]]
