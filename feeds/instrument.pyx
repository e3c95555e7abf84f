# cython: language_level=3
"""Instruments: what is traded, where, and in which decimals its numbers are written."""
import difflib
import zlib
from decimal import Decimal

from feeds.errors import ConfigError, UnknownSymbol

__all__ = ["Instrument", "Instruments"]

MAX_DECIMALS = 18       # 10**18 is the largest power of ten in an int64


def _decimals_of(value):
    """Return how many decimals the text or Decimal `value` needs: '0.10' -> 1, '5' -> 0."""
    _, digits, exponent = Decimal(value).as_tuple()
    if not isinstance(exponent, int):
        raise ValueError(f"expected a finite number, found {value!r}")
    while exponent < 0 and digits[-1] == 0 and len(digits) > 1:
        digits = digits[:-1]
        exponent += 1
    return max(0, -exponent) if any(digits) else 0


cdef class Instrument:
    """One tradable at one exchange.

    `symbol` is our name (`BTC-USDT`, `BTC-USDT-PERP`), `raw_symbol` the exchange's. `price_decimals` and `qty_decimals`
    say how integer mantissas are read; they grow when a message shows more digits. Make instruments with
    `Instruments.add`, which interns them.
    """

    def __init__(self, *, str exchange, str raw_symbol, int index, symbol=None, str kind="unknown",
                 int price_decimals=0, int qty_decimals=0, tick_size=None, lot_size=None, contract_size=None):
        self.exchange = exchange
        self.raw_symbol = raw_symbol
        self.symbol = symbol
        self.kind = kind
        self.index = index
        self.fingerprint = zlib.crc32(f"{exchange} {raw_symbol}".encode())
        self.tick_size = None if tick_size is None else Decimal(tick_size)
        self.lot_size = None if lot_size is None else Decimal(lot_size)
        self.contract_size = None if contract_size is None else Decimal(contract_size)
        self.price_factor = self.qty_factor = 1.0
        self.grow(
            max(price_decimals, 0 if tick_size is None else _decimals_of(tick_size)),
            max(qty_decimals, 0 if lot_size is None else _decimals_of(lot_size)),
        )

    cdef int grow(self, int price_decimals, int qty_decimals) except -1:
        if price_decimals > MAX_DECIMALS or qty_decimals > MAX_DECIMALS:
            raise ValueError(f"{self!r}: expected at most {MAX_DECIMALS} decimals, "
                             f"found {max(price_decimals, qty_decimals)}")
        if price_decimals > self.price_decimals:
            self.price_decimals = price_decimals
            self.price_factor = 10.0 ** -price_decimals
        if qty_decimals > self.qty_decimals:
            self.qty_decimals = qty_decimals
            self.qty_factor = 10.0 ** -qty_decimals
        return 0

    def describe(self):
        """Return what is known about the instrument as a dict of JSON values: the form that recordings keep."""
        return {
            "exchange": self.exchange,
            "raw_symbol": self.raw_symbol,
            "symbol": self.symbol,
            "kind": self.kind,
            "price_decimals": self.price_decimals,
            "qty_decimals": self.qty_decimals,
            "tick_size": None if self.tick_size is None else format(self.tick_size, "f"),
            "lot_size": None if self.lot_size is None else format(self.lot_size, "f"),
            "contract_size": None if self.contract_size is None else format(self.contract_size, "f"),
        }

    def __repr__(self):
        return f"<Instrument {self.exchange} {self.symbol or self.raw_symbol}>"


cdef class Instruments:
    """The instruments of one session, interned: the same exchange and raw symbol give the same object.

    Each session has its own, because decimals grow with what it sees. With `infer=True` a raw symbol that no metadata
    names gets an instrument whose `symbol` is None and whose decimals are learned from its messages; otherwise it is
    unknown. `max_size` bounds what a peer can make us remember.
    """

    def __init__(self, *, bint infer=False, int max_size=100_000):
        self._all = []
        self._by_raw = {}
        self._by_symbol = {}
        self.infer = infer
        self._inferred = set()
        self.max_size = max_size

    def add(self, str exchange, str raw_symbol, **known):
        """Return the instrument, made from `known` (the keywords of `Instrument`) when it is new.

        ConfigError when there is no room, or when another instrument of the exchange has the same `symbol`.
        """
        cdef Instrument instrument = self._by_raw.get((exchange, raw_symbol))
        if instrument is not None:
            return instrument
        if len(self._all) >= self.max_size:
            raise ConfigError(f"expected at most {self.max_size} instruments, found one more: {exchange} {raw_symbol}")
        symbol = known.get("symbol")
        if symbol is not None and (exchange, symbol) in self._by_symbol:
            raise ConfigError(f"{exchange}: expected one instrument {symbol}, found "
                              f"{self._by_symbol[exchange, symbol].raw_symbol} and {raw_symbol}")
        instrument = Instrument(exchange=exchange, raw_symbol=raw_symbol, index=len(self._all), **known)
        self._all.append(instrument)
        self._by_raw[exchange, raw_symbol] = instrument
        if symbol is not None:
            self._by_symbol[exchange, symbol] = instrument
        return instrument

    def add_described(self, description):
        """Return the instrument of a `describe()` dict, as a recording keeps it; unknown keys are ignored."""
        known = {k: description.get(k) for k in ("symbol", "tick_size", "lot_size", "contract_size")}
        known |= {k: description[k] for k in ("kind", "price_decimals", "qty_decimals") if k in description}
        return self.add(description["exchange"], description["raw_symbol"], **known)

    cpdef Instrument find(self, str exchange, str raw_symbol):
        cdef Instrument instrument = self._by_raw.get((exchange, raw_symbol))
        if instrument is None and (self.infer or exchange in self._inferred) and len(self._all) < self.max_size:
            instrument = self.add(exchange, raw_symbol)
        return instrument

    def known(self, str exchange, str raw_symbol):
        """Return the instrument, or None where there is none yet: nothing is inferred."""
        return self._by_raw.get((exchange, raw_symbol))

    def infers(self, str exchange):
        """Whether an unknown symbol of this exchange gets an instrument, and there is room for one."""
        return (self.infer or exchange in self._inferred) and len(self._all) < self.max_size

    def is_named(self, str exchange, str symbol):
        """Whether an instrument of the exchange has this symbol of ours."""
        return (exchange, symbol) in self._by_symbol

    def infer_exchange(self, str exchange not None):
        """Make instruments for unknown symbols of this exchange: its metadata is not there."""
        self._inferred.add(exchange)

    def resolve(self, str exchange, str name):
        """Return the instrument that a person calls `name`, our symbol or the exchange's; UnknownSymbol with near matches."""
        instrument = self._by_symbol.get((exchange, name)) or self._by_raw.get((exchange, name))
        if instrument is None:
            instrument = self._by_raw.get((exchange, name.upper()))
        if instrument is not None:
            return instrument
        known = [n for i in self._all if i.exchange == exchange for n in (i.symbol, i.raw_symbol) if n]
        near = difflib.get_close_matches(name.upper(), known, n=3)
        hint = f"; did you mean {', '.join(near)}?" if near else ""
        raise UnknownSymbol(f"{exchange}: no instrument {name!r} among {len(known)} names{hint}")

    def __len__(self):
        return len(self._all)

    def __iter__(self):
        return iter(self._all)
