"""Events as rows of typed columns, handed on in groups: the part of columnar sinks that is called per event."""

from feeds.events import EventHandler
from feeds.instrument import Instrument

__all__ = ["Column", "EventColumns", "Table"]

class Column:
    """One column of a `Table`: its `name`, its `kind`, and the values of the rows in hand.

    Kinds: "int", "time" (ns), "decimal" (at 18 decimals), "flag", "text", else the name of the dictionary that codes
    are of: "instrument" (`EventColumns.owners`), "side" (buy, sell), "book_side" (bid, ask).
    """

    def __init__(self, name: str, kind: str) -> None: ...
    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> str: ...
    def values(self, rows: int) -> list[str | None]:
        """Return the first `rows` values of a text column."""
    def buffers(self, rows: int) -> tuple[bytes | None, bytes]:
        """Return (which are known, data) of the first `rows` values, as Arrow lays them out; None where all are known.

        Flags and what is known are bits; times and integers have 8 bytes, decimals 16, codes of instruments 4, other
        codes 1.
        """

class Table:
    """The rows of one kind of event: `rows` of them in each of `columns`."""

    def __init__(self, name: str, columns: list[tuple[str, str]]) -> None: ...
    @property
    def name(self) -> str: ...
    @property
    def columns(self) -> list[Column]: ...
    @property
    def rows(self) -> int: ...

class EventColumns(EventHandler):
    """Turns events into rows, and hands them on by `write_rows(table)`: when there are `max_rows` of a kind, and when
    `interval` (seconds of receive time) is over, at each multiple of it as of midnight UTC. `flush` hands on the rest.

    What an exchange does not send is null, and so are times that are unknown. A book message gives a row for each of
    its levels, bids first, or one without price if it has none.
    """

    def __init__(self, *, max_rows: int = 262_144, interval: float = 3600.0) -> None: ...
    @property
    def tables(self) -> dict[str, Table]: ...
    @property
    def owners(self) -> list[Instrument | str]:
        """The instruments, and names of exchanges, that rows belong to, by their codes in the columns "instrument"."""
    @property
    def events(self) -> int:
        """Events seen so far."""
    @property
    def max_rows(self) -> int: ...
    @property
    def interval(self) -> int:
        """In ns."""
    def write_rows(self, table: Table) -> None:
        """Take the rows of `table`: they are gone afterwards."""
    def flush(self) -> None:
        """Hand on what there is."""
