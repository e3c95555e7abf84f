"""Instruments: what is traded, where, and in which decimals its numbers are written."""

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

__all__ = ["Instrument", "Instruments"]

MAX_DECIMALS: int

class Instrument:
    """One tradable at one exchange. Make instruments with `Instruments.add`, which interns them."""

    def __init__(
        self,
        *,
        exchange: str,
        raw_symbol: str,
        index: int,
        symbol: str | None = None,
        kind: str = "unknown",
        price_decimals: int = 0,
        qty_decimals: int = 0,
        tick_size: Decimal | str | int | None = None,
        lot_size: Decimal | str | int | None = None,
        contract_size: Decimal | str | int | None = None,
    ) -> None: ...
    @property
    def exchange(self) -> str: ...
    @property
    def raw_symbol(self) -> str:
        """The exchange's name."""
    @property
    def symbol(self) -> str | None:
        """Our name (`BTC-USDT`, `BTC-USDT-PERP`); None while the instrument is only known from a message."""
    @property
    def kind(self) -> str:
        """spot, perpetual, future or unknown."""
    @property
    def index(self) -> int:
        """Dense, from 0, unique inside its `Instruments`."""
    @property
    def fingerprint(self) -> int:
        """The same in every session: a CRC of exchange and raw symbol."""
    @property
    def price_decimals(self) -> int:
        """A mantissa m means m / 10**decimals. Decimals grow when a message shows more digits."""
    @property
    def qty_decimals(self) -> int: ...
    @property
    def price_factor(self) -> float: ...
    @property
    def qty_factor(self) -> float: ...
    @property
    def tick_size(self) -> Decimal | None: ...
    @property
    def lot_size(self) -> Decimal | None: ...
    @property
    def contract_size(self) -> Decimal | None: ...
    def describe(self) -> dict[str, Any]:
        """Return what is known about the instrument as a dict of JSON values: the form that recordings keep."""

class Instruments:
    """The instruments of one session, interned: the same exchange and raw symbol give the same object."""

    infer: bool
    def __init__(self, *, infer: bool = False, max_size: int = 100_000) -> None: ...
    @property
    def max_size(self) -> int: ...
    def add(
        self,
        exchange: str,
        raw_symbol: str,
        *,
        symbol: str | None = None,
        kind: str = "unknown",
        price_decimals: int = 0,
        qty_decimals: int = 0,
        tick_size: Decimal | str | int | None = None,
        lot_size: Decimal | str | int | None = None,
        contract_size: Decimal | str | int | None = None,
    ) -> Instrument:
        """Return the instrument, made when it is new. ConfigError where there is no room, or `symbol` is taken."""
    def add_described(self, description: Mapping[str, Any]) -> Instrument:
        """Return the instrument of a `describe()` dict; unknown keys are ignored."""
    def find(self, exchange: str, raw_symbol: str) -> Instrument | None:
        """Return the instrument; None where there is none and none may be inferred."""
    def known(self, exchange: str, raw_symbol: str) -> Instrument | None:
        """Return the instrument, or None where there is none yet: nothing is inferred."""
    def infers(self, exchange: str) -> bool:
        """Whether an unknown symbol of this exchange gets an instrument, and there is room for one."""
    def is_named(self, exchange: str, symbol: str) -> bool:
        """Whether an instrument of the exchange has this symbol of ours."""
    def infer_exchange(self, exchange: str) -> None:
        """Make instruments for unknown symbols of this exchange."""
    def resolve(self, exchange: str, name: str) -> Instrument:
        """Return the instrument that a person calls `name`; UnknownSymbol with near matches."""
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Instrument]: ...
