from decimal import Decimal

import msgspec
import orjson
import pytest

from feeds.decoder import Fetch, Reconnect, Refused
from feeds.errors import ConfigError, DecodeError, UnknownSymbol
from feeds.events import Side
from feeds.exchange import exchange
from feeds.exchanges.binance import MAX_STREAMS_PER_CONNECTION
from feeds.instrument import Instruments
from feeds.sequencing import ContiguousSequence
from feeds.subscription import Subscription
from tests.feeds.messages import NS, agg_trade, book_ticker, depth, dump, on_stream, partial, snapshot, trade

BINANCE = exchange("binance")


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
        (b'{"e":"kline"}', "unknown_event", "found event 'kline'"),
        (on_stream("btcusdt@kline_1m", {}), "unknown_event", "found 'btcusdt@kline_1m'"),
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
