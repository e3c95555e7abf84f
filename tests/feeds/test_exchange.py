import pytest

from feeds.errors import ConfigError, FeedsError, UnknownExchange
from feeds.exchange import exchange, exchange_ids


def test_exchanges_are_found_by_their_modules():
    assert {"binance", "binance-delivery", "binance-futures"} <= set(exchange_ids())
    assert exchange_ids() == sorted(exchange_ids())


@pytest.mark.parametrize("exchange_id", exchange_ids())
def test_every_exchange_is_complete(exchange_id, instruments, log):
    found = exchange(exchange_id)
    assert found.id == exchange_id
    assert found.endpoints.ws.startswith("wss://")
    assert found.endpoints.rest.startswith("https://")
    assert found.instruments_urls
    assert found.channels
    assert found.new_sequence().last_id == -1
    decoder = found.new_decoder(instruments, log, reference=True)
    assert (decoder.exchange, decoder.reference, decoder.instruments) == (exchange_id, True, instruments)


@pytest.mark.parametrize("name", ["", "binance_futures", "os", "../binance", "Binance", "nowhere"])
def test_an_unknown_id_names_those_that_there_are(name):
    with pytest.raises(UnknownExchange, match=r"expected an exchange among .*binance-futures") as error:
        exchange(name)
    assert isinstance(error.value, ConfigError)
    assert isinstance(error.value, FeedsError)
