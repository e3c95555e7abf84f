import gzip
import json
from decimal import Decimal

import pytest

from feeds.book import BookState
from feeds.decoder import Fetch
from feeds.events import Candle, Liquidation, Side, Ticker
from feeds.exchange import exchange
from feeds.instrument import Instruments
from feeds.subscription import Subscription
from tests.feeds.exchanges.samples import NOW, Samples, decoded, replayed, tops
from tests.feeds.exchanges.test_gateio import message, obu

FUTURES = exchange("gateio-futures")
MS = NOW // 1_000_000


def update(channel, result, event="update"):
    return message(channel, result, event=event, market="futures")


TRADES = [
    {
        "size": -108,
        "id": 27753479,
        "create_time": 1545136464,
        "create_time_ms": 1545136464123,
        "price": "96.4",
        "contract": "BTC_USD",
        "is_internal": True,
    },
    {
        "size": "0.5",
        "id": 27753480,
        "create_time": 1545136464,
        "create_time_ms": 1545136464124,
        "price": "96.5",
        "contract": "BTC_USD",
    },
]
TICKER = {
    "contract": "BTC_USDT",
    "last": "118.4",
    "funding_rate": "-0.000114",
    "mark_price": "118.35",
    "index_price": "118.36",
    "total_size": "73648",
}
LISTED = json.dumps(
    [
        {"name": "BTC_USDT", "type": "direct", "quanto_multiplier": "0.0001", "order_price_round": "0.1"},
        {"name": "BTC_USD", "type": "inverse", "quanto_multiplier": "0", "order_price_round": "0.1"},
        {"name": "BTC_USDT_20260925", "type": "direct", "quanto_multiplier": "0.0001", "order_price_round": "0.1"},
        {
            "name": "A_USDT",
            "type": "direct",
            "quanto_multiplier": "10",
            "order_price_round": "1",
            "enable_decimal": True,
        },
    ]
).encode()
SAMPLES = [
    Samples(
        "gateio-futures",
        {
            "ack": update("obu", {"status": "success"}, event="subscribe"),
            "pong": b'{"time":1790000000,"channel":"futures.pong","event":"","result":null}',
            "snapshot": obu(0, 100, [("83705.9", "5")], [("83706.0", "1.5")], full=True, market="futures"),
            "update": obu(101, 107, [("83705.9", "0")], market="futures"),
            "top": update(
                "order_book",
                {"t": MS, "id": 7, "contract": "A_USDT", "bids": [{"p": "2", "s": 1}], "asks": []},
                event="all",
            ),
            "change": update("order_book", [{"p": "2", "s": -49525, "c": "A_USDT", "id": 8}]),
            "quote": update(
                "book_ticker", {"t": MS, "u": 9, "s": "BTC_USDT", "b": "1.5", "B": 814, "a": "1.6", "A": "0.7"}
            ),
            "trades": update("trades", TRADES[:1]),
            "ticker": update("tickers", [TICKER]),
            "candle": update(
                "candlesticks",
                [{"t": 1790000000, "v": 7, "c": "2", "h": "3", "l": "1", "o": "1.5", "n": "1m_BTC_USDT"}],
            ),
            "liquidation": update(
                "public_liquidates", [{"price": "215.1", "size": -124, "time_ms": MS, "contract": "BTC_USD"}]
            ),
        },
        instruments=[LISTED],
        captures=("GATEIO_FUTURES.ws.1.0",),
    ),
]


@pytest.fixture
def pipeline(log):
    return SAMPLES[0].pipeline(log)


# --- capture --------------------------------------------------------------------------------------


def test_golden_values_of_the_capture(captures):
    log, replay = replayed(captures, "GATEIO_FUTURES.ws.1.0")
    found = tops(replay)
    assert found["RDNT_USDT"] == ("0.297 x 500", "0.2974 x 63", "66/81")
    assert found["PHB_USDT"] == ("0.7383 x 678", "0.7393 x 677", "38/59")
    last = {d.instrument.raw_symbol: d.last_id for d in log.deltas}
    assert (last["RDNT_USDT"], last["PHB_USDT"]) == (203083479, 6160440)
    updates = [d for d in log.deltas if not d.is_snapshot]
    names = [d.instrument.raw_symbol for d in updates]
    assert (names.count("RDNT_USDT"), names.count("PHB_USDT")) == (61 + 9, 69 + 4)  # applied, older than the snapshot
    assert (len(updates), len(log.quotes), len(log.of(Candle))) == (352, 75, 1)


def test_the_last_quotes_of_the_capture_are_the_tops_of_the_books(captures):
    log, replay = replayed(captures, "GATEIO_FUTURES.ws.1.0")
    quotes = {quote.instrument.raw_symbol: quote for quote in log.quotes}
    books = tops(replay)
    assert len(quotes) == 5
    for name, quote in quotes.items():
        bid, ask = (f"{p.normalize():f} x {q.normalize():f}" for p, q in (quote.bid_decimal, quote.ask_decimal))
        assert (bid, ask) == books[name][:2]


# --- events ---------------------------------------------------------------------------------------


def test_the_sign_of_a_size_is_the_takers_side_and_sizes_may_be_text():
    """Trap 22."""
    one, two = decoded("gateio-futures", update("trades", TRADES)).trades
    assert (one.side, one.qty_decimal, one.id, one.ts_event) == (
        Side.SELL,
        Decimal(108),
        "27753479",
        1_545_136_464_123_000_000,
    )
    assert (two.side, two.qty_decimal) == (Side.BUY, Decimal("0.5"))


def test_events():
    log = decoded("gateio-futures", *SAMPLES[0].messages.values())
    (quote,) = log.quotes
    assert (quote.bid_qty, quote.ask_qty, quote.sequence) == (814, 0.7, 9)
    (ticker,) = log.of(Ticker)
    assert (ticker.last_price, ticker.mark_price, ticker.index_price, ticker.open_interest) == (
        118.4,
        118.35,
        118.36,
        73648,
    )
    assert str(ticker.funding_rate_decimal) == "-0.000114"
    (candle,) = log.of(Candle)
    assert (candle.volume, candle.quote_volume, candle.is_closed) == (7, None, None)
    (liquidation,) = log.of(Liquidation)
    assert (liquidation.side, liquidation.qty, liquidation.price) == (Side.BUY, 124, 215.1)  # a short is closed


def test_books_of_dated_futures_come_from_rest_and_changes(pipeline):
    name = "BTC_USDT_20260925"
    change = {"U": 101, "u": 101, "s": name, "t": MS, "a": [{"p": "9", "s": "2.5"}], "b": []}
    pipeline.on_message(update("order_book_update", change), 1, True)
    url = f"/api/v4/delivery/usdt/order_book?contract={name}&limit=100&with_id=true"
    assert pipeline.decoder.take_requests() == [Fetch(url, name)]
    assert FUTURES.reply_tag("https://api.gateio.ws" + url) == name
    reply = b'{"current":1684930166.384,"update":1684930166.35,"asks":[{"s":803,"p":"9.5"}],"bids":[],"id":100}'
    pipeline.on_reply(name, reply, 2)
    (book,) = pipeline.books.books
    assert (book.state, [(level.price, level.qty) for level in book.asks()]) == (
        BookState.LIVE,
        [(9.0, 2.5), (9.5, 803.0)],
    )


# --- subscribing ----------------------------------------------------------------------------------


def test_metadata():
    instruments = Instruments()
    assert FUTURES.load_instruments(LISTED, instruments) == []
    assert [(i.symbol, i.kind, str(i.contract_size), str(i.lot_size)) for i in instruments] == [
        ("BTC-USDT-PERP", "perpetual", "0.0001", "1"),
        ("BTC-USD-PERP", "perpetual", "1", "1"),
        ("BTC-USDT-20260925", "future", "0.0001", "1"),
        ("A-USDT-PERP", "perpetual", "10", "None"),
    ]


def test_metadata_of_2023(captures):
    instruments = Instruments()
    with gzip.open(captures / "exchanges" / "GATEIO_FUTURES.0.gz", "rb") as file:
        (line,) = (line for line in file if line.startswith(b"https"))
    assert FUTURES.load_instruments(line.partition(b": ")[2], instruments) == []
    assert str(instruments.resolve("gateio-futures", "KNC-USDT-PERP").tick_size) == "0.0001"


def test_subscriptions():
    instruments = Instruments()
    FUTURES.load_instruments(LISTED, instruments)
    plans = FUTURES.plan(
        [Subscription(name, ("book",)) for name in ("BTC-USDT-PERP", "BTC-USD-PERP", "BTC-USDT-20260925")], instruments
    )
    assert [(plan.path, json.loads(plan.subscribe[0](1))["payload"]) for plan in plans] == [
        ("/v4/ws/usdt", ["ob.BTC_USDT.400"]),
        ("/v4/ws/btc", ["ob.BTC_USD.400"]),
        ("/v4/ws/delivery/usdt", ["BTC_USDT_20260925", "100ms", "100"]),
    ]
    assert all(plan.headers == {"X-Gate-Size-Decimal": "1"} for plan in plans)
