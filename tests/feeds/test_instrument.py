import zlib
from decimal import Decimal

import pytest

from feeds.errors import ConfigError, UnknownSymbol
from feeds.instrument import Instrument, Instruments

EX = "binance"


def test_the_same_name_gives_the_same_object(instruments):
    first = instruments.add(EX, "BTCUSDT", symbol="BTC-USDT", tick_size="0.10")
    assert instruments.add(EX, "BTCUSDT") is first
    assert instruments.find(EX, "BTCUSDT") is first
    assert list(instruments) == [first]
    assert len(instruments) == 1


def test_indices_are_dense_and_fingerprints_repeat_in_every_session():
    for _ in range(2):
        instruments = Instruments()
        made = [instruments.add(EX, name) for name in ("A", "B", "C")]
        assert [i.index for i in made] == [0, 1, 2]
        assert [i.fingerprint for i in made] == [zlib.crc32(f"{EX} {n}".encode()) for n in "ABC"]


def test_decimals_come_from_tick_and_lot_size():
    instrument = Instruments().add(EX, "X", tick_size="0.10000000", lot_size="1.00", contract_size="100")
    assert (instrument.price_decimals, instrument.qty_decimals) == (1, 0)
    assert (instrument.tick_size, instrument.contract_size) == (Decimal("0.1"), Decimal(100))
    assert instrument.price_factor == 0.1


@pytest.mark.parametrize(("size", "decimals"), [("100", 0), ("1E+2", 0), ("0.00", 0), ("1e-8", 8), ("12.3400", 2)])
def test_decimals_of_a_size(size, decimals):
    assert Instruments().add(EX, "X", tick_size=size).price_decimals == decimals


@pytest.mark.parametrize("size", ["1e-19", "NaN", "Infinity"])
def test_a_size_that_has_no_decimals_is_refused(size):
    with pytest.raises(ValueError, match="expected"):
        Instruments().add(EX, "X", tick_size=size)


def test_more_than_18_decimals_are_refused():
    with pytest.raises(ValueError, match="at most 18 decimals, found 19"):
        Instrument(exchange=EX, raw_symbol="X", index=0, price_decimals=19)


def test_two_instruments_may_not_have_one_symbol():
    instruments = Instruments()
    instruments.add(EX, "A", symbol="X-Y")
    with pytest.raises(ConfigError, match="expected one instrument X-Y, found A and B"):
        instruments.add(EX, "B", symbol="X-Y")
    assert len(instruments) == 1
    assert instruments.add("other", "B", symbol="X-Y").index == 1


def test_there_is_a_limit():
    instruments = Instruments(infer=True, max_size=2)
    assert instruments.find(EX, "A").symbol is None
    assert instruments.find(EX, "B") is not None
    assert instruments.find(EX, "C") is None
    with pytest.raises(ConfigError, match="at most 2 instruments"):
        instruments.add(EX, "C")


def test_what_is_unknown_is_inferred_only_where_that_was_asked_for():
    instruments = Instruments()
    assert instruments.find(EX, "A") is None
    instruments.infer_exchange(EX)
    assert instruments.find(EX, "A").raw_symbol == "A"
    assert instruments.find("other", "A") is None


def test_a_description_makes_the_same_instrument_again():
    first = Instruments().add(EX, "X", symbol="X-Y", kind="spot", tick_size="0.010", lot_size="5", contract_size=10)
    again = Instruments().add_described(first.describe() | {"unknown": 1})
    assert again.describe() == first.describe()
    assert first.describe()["tick_size"] == "0.010"


def test_people_are_understood_by_either_name():
    instruments = Instruments()
    instrument = instruments.add(EX, "BTCUSDT", symbol="BTC-USDT")
    for name in ("BTC-USDT", "BTCUSDT", "btcusdt"):
        assert instruments.resolve(EX, name) is instrument
    with pytest.raises(UnknownSymbol, match=r"no instrument 'BTCUSD' among 2 names; did you mean BTCUSDT"):
        instruments.resolve(EX, "BTCUSD")
    with pytest.raises(UnknownSymbol, match=r"among 0 names$"):
        instruments.resolve("other", "BTCUSDT")


def test_repr_names_it():
    assert repr(Instruments(infer=True).find(EX, "X")) == "<Instrument binance X>"
