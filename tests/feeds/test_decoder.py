import pytest

from feeds.decoder import Decoder, Fetch, Reconnect, Refused, Send
from feeds.errors import DecodeError
from feeds.exchange import exchange
from feeds.exchanges.binance import TRADE
from feeds.instrument import Instruments
from feeds.testing import EventLog
from tests.feeds.messages import book_ticker, depth, on_stream, trade


@pytest.fixture
def decoder(instruments, log):
    return exchange("binance").new_decoder(instruments, log)


def test_a_stream_is_referred_once_and_scanned_from_then_on(decoder):
    for _ in range(3):
        decoder.decode(trade(), 1)
        decoder.decode(book_ticker(), 1)
    assert (decoder.referred, decoder.scanned) == (2, 4)


def test_the_reference_engine_alone_refers_everything(log):
    decoder = exchange("binance").new_decoder(Instruments(infer=True), log, reference=True)
    for _ in range(3):
        decoder.decode(trade(), 1)
    assert (decoder.referred, decoder.scanned, len(log.trades)) == (3, 0, 3)


def test_thousands_of_routes_are_all_found(log):
    instruments = Instruments(infer=True)
    decoder = exchange("binance").new_decoder(instruments, log)
    symbols = [f"{base}USDT_{n}" for n in range(1000) for base in ("A", "BTCBTC", "1000000MOG")]
    for _ in range(2):
        for symbol in symbols:
            decoder.decode(trade(symbol=symbol), 1)
    assert (decoder.referred, decoder.scanned) == (3000, 3000)
    assert [event.instrument.raw_symbol for event in log.trades] == symbols * 2


def test_names_that_json_writes_with_escapes_have_no_route(log):
    decoder = exchange("binance").new_decoder(Instruments(infer=True), log)
    payload = on_stream("a\\u0062c@trade", trade()[trade().index(b'{"e"') : -1])
    for _ in range(2):
        decoder.decode(payload, 1)
    assert decoder.scanned == 0
    decoder.add_route('a"@trade', TRADE, decoder.instruments.find("binance", "X"))
    decoder.add_route("a\\b@trade", TRADE, decoder.instruments.find("binance", "X"))
    with pytest.raises(DecodeError):
        decoder.decode(b'{"stream":"a\\b@trade","data":{}}', 1)
    assert decoder.scanned == 0


def test_a_symbol_that_is_not_ascii_has_a_route(log):
    decoder = exchange("binance").new_decoder(Instruments(infer=True), log)
    payload = trade(symbol="COIN").replace(b"COIN", "币安".encode()).replace(b"coin", "币安".encode())
    for _ in range(2):
        decoder.decode(payload, 1)
    assert (decoder.scanned, log.trades[1].instrument.raw_symbol) == (1, "币安")


@pytest.mark.parametrize("reference", [False, True])
def test_decimals_grow_in_the_middle_of_a_stream(log, reference):
    decoder = exchange("binance").new_decoder(Instruments(infer=True), log, reference=reference)
    for price, qty in [("100", "1"), ("100.5", "1"), ("100.25", "0.125"), ("7", "2"), ("100.2500000", "1e-6")]:
        decoder.decode(trade(price, qty), 1)
    assert [(t.price_decimals, t.qty_decimals) for t in log.trades] == [(0, 0), (1, 0), (2, 3), (2, 3), (2, 6)]
    assert [f"{t.price_decimal} {t.qty_decimal}" for t in log.trades] == [
        "100 1", "100.5 1", "100.25 0.125", "7.00 2.000", "100.25 0.000001",
    ]  # fmt: skip


def test_requests_come_once_and_in_order(decoder):
    assert decoder.take_requests() == ()
    assert not decoder.has_requests
    asked = [Send(b"x"), Fetch("/url", "tag"), Reconnect("r"), Refused("f")]
    for request in asked:
        decoder.request(request)
    assert decoder.has_requests
    assert decoder.take_requests() == asked
    assert decoder.take_requests() == ()


def test_a_bare_decoder_knows_nothing(instruments, log):
    decoder = Decoder(instruments, log, exchange="x")
    with pytest.raises(DecodeError, match="x: expected a known message: hello") as error:
        decoder.decode(b"hello", 1)
    assert (error.value.kind, error.value.payload) == ("unknown_message", b"hello")
    with pytest.raises(DecodeError, match="expected no reply, found one for 'tag'"):
        decoder.decode_reply("tag", b"", 1)
    with pytest.raises(NotImplementedError, match="x: snapshots cannot be asked for"):
        decoder.request_snapshot(instruments.find("x", "X"))
    with pytest.raises(TypeError):
        Decoder(None, log, exchange="x")
    with pytest.raises(TypeError):
        Decoder(instruments, None, exchange="x")


def test_a_handler_that_raises_leaves_the_decoder_usable(instruments):
    class Angry(EventLog):
        def on_trade(self, event):
            super().on_trade(event)
            raise KeyError(event.id)

    log = Angry()
    decoder = exchange("binance").new_decoder(instruments, log)
    for n in range(3):
        with pytest.raises(KeyError, match=str(n)):
            decoder.decode(trade(t=n), 1)
    decoder.decode(depth(1, 1), 1)
    assert (len(log.trades), len(log.deltas)) == (3, 1)
