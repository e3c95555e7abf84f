from decimal import Decimal

import msgspec
import orjson
import pytest

from feeds.decoder import Fetch, Reconnect, Refused
from feeds.errors import ConfigError, DecodeError, UnknownSymbol
from feeds.events import Candle, Side, Ticker
from feeds.exchange import exchange
from feeds.exchanges.binance import MAX_STREAMS_PER_CONNECTION
from feeds.instrument import Instruments
from feeds.sequencing import ContiguousSequence
from feeds.subscription import Subscription
from tests.feeds.exchanges.samples import Samples, decoded
from tests.feeds.messages import NS, T, agg_trade, book_ticker, depth, dump, on_stream, partial, snapshot, trade

BINANCE = exchange("binance")


def day_ticker(last, *, kind="24hrTicker", symbol="BTCUSDT", **more):
    """One record of a 24 h ticker."""
    return {"e": kind, "E": T, "s": symbol, "c": last, **more}


def kline(interval="1m", *, symbol="BTCUSDT", closed=False, time=T, **more):
    candle = {"t": time, "T": time + 59_999, "s": symbol, "i": interval, "f": 1, "L": 2, "o": "1.0", "c": "2", "h": "3"}
    candle |= {"l": "0.5", "v": "10", "n": 2, "x": closed, "q": "15.5", "V": "1", "Q": "2", "B": "0", **more}
    return on_stream(f"{symbol.lower()}@kline_{interval}", {"e": "kline", "E": time + 5, "s": symbol, "k": candle})


def exchange_info(*entries):
    return dump({"timezone": "UTC", "symbols": list(entries)})


def entry(symbol, base, quote, **more):
    filters = [{"filterType": "PRICE_FILTER", "tickSize": "0.01"}, {"filterType": "LOT_SIZE", "stepSize": "0.001"}]
    return {"symbol": symbol, "baseAsset": base, "quoteAsset": quote, "filters": filters, **more}


SAMPLES = [
    Samples(
        "binance",
        {
            "ack": b'{"result":null,"id":1}',
            "depth": depth(157, 160, [("0.0024", "10")], [("0.0026", "100"), ("0.003", "0")]),
            "second depth": depth(161, 165, [("0.0024", "0"), ("0.0023", "1")]),
            "top": partial(160, [("1", "10")], [("2", "1")], symbol="ETHUSDT"),
            "quote": book_ticker("61837.63", "61837.64"),
            "trade": trade(m=True),
            "fills added up": agg_trade(),
            "ticker": on_stream("btcusdt@ticker", day_ticker("61837.630")),
            "ticker of an hour": on_stream("btcusdt@ticker_1h", day_ticker("61837.5", kind="1hTicker")),
            "tickers": on_stream(
                "!miniTicker@arr",
                [day_ticker("1", kind="24hrMiniTicker"), day_ticker("2", kind="24hrMiniTicker", symbol="ETHUSDT")],
            ),
            "candle": kline(),
        },
        replies=[("BTCUSDT", snapshot(158, [("0.0022", "7")], [("0.0027", "1")]))],
        instruments=[exchange_info(entry("BTCUSDT", "BTC", "USDT"), entry("ETHUSDT", "ETH", "USDT"))],
    )
]


@pytest.fixture(params=["hot", "reference"])
def decoder(request, log):
    instruments = Instruments()
    instruments.add("binance", "BTCUSDT", symbol="BTC-USDT", tick_size="0.01", lot_size="0.001")
    made = BINANCE.new_decoder(instruments, log, reference=request.param == "reference")
    for seed in (depth(1, 1), book_ticker(), trade(), agg_trade(), partial(1)):
        made.decode(seed, 1)
    log.clear()
    return made


def test_depth(decoder, log):
    decoder.decode(depth(157, 160, [("0.0024", "10")], [("0.0026", "100"), ("0.003", "0")]), 7)
    (delta,) = log.deltas
    assert (delta.first_id, delta.last_id, delta.previous_id) == (157, 160, -1)
    assert (delta.ts_event, delta.ts_recv, delta.is_snapshot, delta.depth) == (NS, 7, False, 0)
    assert delta.bids == [(Decimal("0.0024"), 10)]
    assert delta.asks == [(Decimal("0.0026"), 100), (Decimal("0.003"), 0)]


def test_partial_depth_has_neither_symbol_nor_time(decoder, log):
    decoder.decode(partial(160, [("1", "10")], [], levels=5), 7)
    (delta,) = log.deltas
    assert (delta.instrument.symbol, delta.last_id, delta.first_id, delta.depth) == ("BTC-USDT", 160, -1, 5)
    assert (delta.is_snapshot, delta.ts_event) == (True, 0)


def test_book_ticker_has_no_time(decoder, log):
    decoder.decode(book_ticker("61837.63", "61837.64", bid_qty="3.78", ask_qty="0", u=9), 7)
    (quote,) = log.quotes
    assert (quote.bid_price, quote.bid_qty, quote.ask_price, quote.sequence) == (61837.63, 3.78, None, 9)
    assert (quote.ts_event, quote.ts_recv, quote.merged) == (0, 7, 1)


@pytest.mark.parametrize(("m", "side"), [(True, Side.SELL), (False, Side.BUY)])
@pytest.mark.parametrize("build", [trade, agg_trade])
def test_trades(decoder, log, build, m, side):
    decoder.decode(build("1.5", "2", m=m), 7)
    (event,) = log.trades
    assert (event.price, event.qty, event.side, event.id, event.ts_event) == (1.5, 2.0, side, "1", NS)


def test_tickers_have_the_last_price():
    log = decoded("binance", *(SAMPLES[0].messages[name] for name in ("ticker", "ticker of an hour", "tickers")))
    tickers = [(t.instrument.raw_symbol, str(t.last_price_decimal), t.mark_price, t.ts_event) for t in log.of(Ticker)]
    assert tickers == [
        ("BTCUSDT", "61837.63", None, NS),
        ("BTCUSDT", "61837.5", None, NS),
        ("BTCUSDT", "1", None, NS),
        ("ETHUSDT", "2", None, NS),
    ]


@pytest.mark.parametrize(
    ("interval", "seconds"), [("1s", 1), ("15m", 900), ("4h", 14_400), ("3d", 259_200), ("1w", 604_800)]
)
def test_candles(interval, seconds):
    (candle,) = decoded("binance", kline(interval, closed=True)).of(Candle)
    assert (candle.interval, candle.ts_open, candle.ts_event, candle.is_closed) == (seconds, NS, NS + 5_000_000, True)
    numbers = (candle.open_decimal, candle.high, candle.low, candle.close, candle.volume, candle.quote_volume_decimal)
    assert [str(number) for number in numbers] == ["1", "3.0", "0.5", "2.0", "10.0", "15.5"]


def test_times_in_microseconds():
    (candle,) = decoded("binance", kline(time=T * 1000)).of(Candle)
    assert (candle.ts_open, candle.ts_event) == (NS, NS + 5_000)


def test_of_an_array_with_an_unknown_symbol_the_others_are_decoded(decoder, log):
    with pytest.raises(DecodeError, match="expected a known symbol, found 'ETHUSDT'"):
        decoder.decode(bare(SAMPLES[0].messages["tickers"]).replace(b"BTCUSDT", b"ETHUSDT", 1), 7)
    assert log.events == []
    with pytest.raises(DecodeError, match="expected a known symbol, found 'ETHUSDT'"):
        decoder.decode(SAMPLES[0].messages["tickers"], 7)
    assert [t.last_price for t in log.of(Ticker)] == [1]


@pytest.mark.parametrize(
    ("record", "kind", "text"),
    [
        ({"e": "kline", "E": T, "s": "BTCUSDT"}, "missing_field", "kline: Object missing required field `k`"),
        (day_ticker(1), "wrong_type", "24hrTicker: Expected `str`"),
        (day_ticker("x"), "bad_value", "24hrTicker: "),
    ],
)
def test_what_breaks_the_protocol_of_records_is_named(decoder, log, record, kind, text):
    with pytest.raises(DecodeError, match=text) as error:
        decoder.decode(on_stream("btcusdt@zzz", record), 1)
    assert error.value.kind == kind
    assert log.events == []


@pytest.mark.parametrize("interval", ["", "m", "1x", "xm"])
def test_a_candle_of_no_interval(decoder, interval):
    with pytest.raises(DecodeError, match="kline: ") as error:
        decoder.decode(kline(interval), 1)
    assert error.value.kind == "bad_value"


def bare(message):
    return message[message.index(b'"data":') + 7 : -1]


def test_bare_messages_say_what_they_are_as_far_as_they_can(decoder, log):
    for message in (depth(1, 1), trade(), agg_trade(), book_ticker()):
        decoder.decode(bare(message), 1)
    assert [type(event).__name__ for event in log.events] == ["BookDelta", "Trade", "Trade", "Quote"]
    with pytest.raises(DecodeError, match=r"found keys \['asks', 'bids', 'lastUpdateId'\]") as error:
        decoder.decode(snapshot(1), 1)
    assert error.value.kind == "unknown_event"


@pytest.mark.parametrize(
    ("payload", "kind", "text"),
    [
        (b"hello", "not_json", "expected JSON, found"),
        (b"[1]", "wrong_type", "expected an object, found"),
        (b"{}", "unknown_event", r"found keys \[\]"),
        (b'{"e":"avgPrice"}', "unknown_event", "found event 'avgPrice'"),
        (on_stream("btcusdt@zzz", {}), "unknown_event", "found event '' in .*btcusdt@zzz"),
        (on_stream("dogeusdt@trade", {}), "unknown_symbol", "expected a known symbol, found 'DOGEUSDT'"),
        (b'{"e":"trade","s":"DOGEUSDT"}', "unknown_symbol", "found 'DOGEUSDT'"),
        (
            on_stream("btcusdt@trade", {"s": "BTCUSDT", "p": "1"}),
            "missing_field",
            r"Trade: expected 't', found \['p', 's'\]",
        ),
        (on_stream("btcusdt@trade", {"s": 1}), "wrong_type", "Trade: Expected `str`, got `int`"),
        (trade("abc"), "bad_value", "Trade: expected a decimal number in 'p', found something else"),
        (trade("1" * 30), "bad_value", "expected a decimal number in 'p', found one beyond int64"),
        (trade("0." + "0" * 18 + "1"), "bad_value", "found one beyond int64|expected at most 18 decimals, found 19"),
        (trade(qty="-1"), "bad_value", "expected a decimal number in 'q', found a negative quantity"),
        (trade(t=2**63), "bad_value", "expected an int64 in 't', found one beyond int64"),
        (trade(time=-1), "bad_value", "expected a time"),
        (depth(1, 1, [("1",)]), "bad_value", r"expected \[\[price, qty\], ...\] in 'b', found something else"),
        (on_stream("btcusdt@depth", [1]), "wrong_type", "Expected `object`, got `array`"),
    ],
)
def test_what_breaks_the_protocol_is_named(decoder, log, payload, kind, text):
    with pytest.raises(DecodeError, match=text) as error:
        decoder.decode(payload, 1)
    assert error.value.kind == kind
    assert error.value.payload
    assert log.events == []


def test_an_acknowledgement_is_counted(decoder, log):
    decoder.decode(b'{"result":null,"id":1}', 1)
    decoder.decode(b'{"result":["btcusdt@depth"],"id":"abc"}', 1)
    assert decoder.acknowledged == 2
    assert log.events == []


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b'{"code":2,"msg":"Invalid request","id":5}', "request 5: code 2: Invalid request"),
        (b'{"error":{"code":2,"msg":"Invalid request"},"id":"a1"}', "request a1: code 2: Invalid request"),
        (b'{"error":"busy","id":null}', "request None: code None: "),
    ],
)
def test_errors_in_both_shapes_refuse(decoder, log, payload, reason):
    decoder.decode(payload, 3)
    assert decoder.take_requests() == [Refused(reason)]
    assert [(s.status, s.reason, s.ts_recv) for s in log.feed_statuses] == [("refused", reason, 3)]


@pytest.mark.parametrize(
    "payload", [b'{"e":"serverShutdown","E":1}', on_stream("!serverShutdown", {"e": "serverShutdown", "E": 1})]
)
def test_a_shutdown_asks_for_a_reconnect(decoder, log, payload):
    decoder.decode(payload, 3)
    assert [type(request) for request in decoder.take_requests()] == [Reconnect]
    assert [s.status for s in log.feed_statuses] == ["shutdown"]


def test_a_snapshot_is_fetched_and_decoded_under_the_symbol(decoder, log):
    decoder.request_snapshot(decoder.instruments.find("binance", "BTCUSDT"))
    assert decoder.take_requests() == [Fetch("/api/v3/depth?symbol=BTCUSDT&limit=1000", "BTCUSDT")]
    decoder.decode_reply("BTCUSDT", snapshot(160, [("1", "2")]), 7)
    (delta,) = log.deltas
    assert (delta.is_snapshot, delta.depth, delta.last_id, delta.ts_event) == (True, 0, 160, 0)
    with pytest.raises(DecodeError, match="expected a known symbol, found 'DOGE'"):
        decoder.decode_reply("DOGE", snapshot(160), 7)


# --- metadata and plans ---------------------------------------------------------------------------


def info(*symbols):
    return dump({"timezone": "UTC", "symbols": list(symbols)})


def listed(symbol="BTCUSDT", base="BTC", quote="USDT", tick="0.01000000", step="0.00001000", **more):
    filters = [
        {"filterType": "LOT_SIZE", "stepSize": step, "minQty": "0.00001"},
        {"filterType": "NOTIONAL"},
        {"filterType": "PRICE_FILTER", "tickSize": tick},
    ]
    return {"symbol": symbol, "baseAsset": base, "quoteAsset": quote, "filters": filters, **more}


def test_instruments_are_read_whatever_the_order_of_filters():
    instruments = Instruments()
    BINANCE.load_instruments(info(listed(), listed("BTTCUSDT", "BTTC", tick="0.00000000")), instruments)
    bitcoin, second = instruments
    assert (bitcoin.symbol, bitcoin.kind, bitcoin.price_decimals, bitcoin.qty_decimals) == ("BTC-USDT", "spot", 2, 5)
    assert second.tick_size is None


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        b"[" * 100_000,
    ],
)
def test_metadata_that_is_none_is_a_decode_error(payload):
    with pytest.raises(DecodeError, match="binance exchangeInfo"):
        BINANCE.load_instruments(payload, Instruments())


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (b"{}", "missing required field `symbol`"),
        (b'{"symbol":"\xff"}', "utf-8"),
        (msgspec.json.encode(listed("ETHUSDT", "ETH", tick="abc")), "ConversionSyntax"),
        (msgspec.json.encode(listed("ETHUSDT", "ETH", step="1e-30")), "expected at most 18 decimals"),
        (msgspec.json.encode(listed("BTCUSDT2")), "expected one instrument BTC-USDT, found BTCUSDT and BTCUSDT2"),
    ],
)
def test_an_entry_that_cannot_be_used_is_skipped_with_its_reason(entry, reason):
    instruments = Instruments()
    payload = b'{"symbols":[%s,%s,%s]}' % (
        msgspec.json.encode(listed()),
        entry,
        msgspec.json.encode(listed("SOLUSDT", "SOL")),
    )
    (skipped,) = BINANCE.load_instruments(payload, instruments)
    assert [instrument.symbol for instrument in instruments] == ["BTC-USDT", "SOL-USDT"]
    assert skipped.startswith("binance exchangeInfo: ")
    assert reason in skipped


def known(*raw_symbols):
    instruments = Instruments()
    for raw_symbol in raw_symbols:
        instruments.add("binance", raw_symbol, symbol=raw_symbol.replace("USDT", "-USDT"))
    return instruments


def test_a_plan_subscribes_to_each_stream_once():
    subscriptions = [Subscription("BTC-USDT"), Subscription("btcusdt", ("quote", "agg_trade", "book"))]
    (plan,) = BINANCE.plan(subscriptions, known("BTCUSDT"))
    assert plan.path == "/stream"
    assert plan.streams == ["btcusdt@depth@100ms", "btcusdt@bookTicker", "btcusdt@trade", "btcusdt@aggTrade"]
    assert [orjson.loads(m) for m in plan.subscribe] == [{"method": "SUBSCRIBE", "params": plan.streams, "id": 1}]
    assert 1 / plan.message_interval < 5


def test_many_streams_are_spread_over_messages_and_connections():
    names = [f"C{n}USDT" for n in range(250)]
    plans = BINANCE.plan([Subscription(name, ("trade",)) for name in names], known(*names))
    assert [len(plan.streams) for plan in plans] == [MAX_STREAMS_PER_CONNECTION, 50]
    messages = [orjson.loads(message) for plan in plans for message in plan.subscribe]
    assert [stream for message in messages for stream in message["params"]] == [f"{n.lower()}@trade" for n in names]
    assert [message["id"] for message in messages] == [1, 2, 1]
    assert max(len(message["params"]) for message in messages) <= 100


def test_plans_refuse_what_does_not_exist():
    with pytest.raises(UnknownSymbol, match="no instrument 'DOGE-USDT'"):
        BINANCE.plan([Subscription("DOGE-USDT")], known("BTCUSDT"))
    limited = type("Limited", (type(BINANCE),), {"channels": ("trade",)})()
    with pytest.raises(ConfigError, match="binance: expected channels among trade, found 'book'"):
        limited.plan([Subscription("BTC-USDT")], known("BTCUSDT"))


def test_the_rule_of_spot_books():
    assert BINANCE.new_sequence is ContiguousSequence
    assert BINANCE.id == "binance"
