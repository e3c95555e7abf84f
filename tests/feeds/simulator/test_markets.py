import pytest

from feeds.simulator.markets import plausible_market


@pytest.mark.parametrize(
    ("symbol", "base", "quote"),
    [
        ("BTCUSDT", "BTC", "USDT"),
        ("BTCFDUSD", "BTC", "FDUSD"),
        ("ETHBTC", "ETH", "BTC"),
        ("BTC-USD", "BTC", "USD"),
        ("BTCUSDT_260925", "BTC", "USDT"),
        ("WHATEVER", "WHATEVER", "USDT"),
    ],
)
def test_base_and_quote_are_read_off_the_symbol(symbol: str, base: str, quote: str) -> None:
    market = plausible_market(symbol)
    assert (market.base, market.quote) == (base, quote)


@pytest.mark.parametrize("symbol", ["BTCUSDT", "PEPEUSDT", "ETHBTC", "FOOUSDT", "BARBTC", "X"])
def test_any_symbol_gets_a_price_of_enough_ticks_and_orders_of_enough_lots(symbol: str) -> None:
    market = plausible_market(symbol)
    assert market.start_price >= 1_000
    assert market.typical_qty >= 8
    assert 0 <= market.price_decimals <= 8
    assert 0 <= market.qty_decimals <= 8
    assert plausible_market(symbol) == market


def test_known_precision_is_taken_as_it_is() -> None:
    market = plausible_market("BTCUSDT", precision=(2, 10, 3, 1))
    assert (market.price_decimals, market.tick, market.qty_decimals, market.lot) == (2, 10, 3, 1)
    assert market.start_price == 618_000


def test_an_empty_symbol_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a symbol"):
        plausible_market("")
