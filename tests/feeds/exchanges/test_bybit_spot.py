import json

import pytest

from feeds.events import Side, Ticker
from feeds.exchange import exchange, exchange_of_url
from feeds.instrument import Instruments
from feeds.subscription import Subscription
from tests.feeds.exchanges.samples import NOW, Samples, decoded
from tests.feeds.exchanges.test_bybit import MS, book, message, tickers

SPOT = exchange("bybit-spot")
TRADES = [
    {"T": MS, "s": "BTCUSDT", "S": side, "v": "0.001", "p": "16578.50", "i": number, "BT": False, "seq": 1783284617}
    for side, number in (("Buy", "2290000000061666327"), ("Sell", "2290000000061666328"))
]
LISTED = json.dumps(
    {
        "retCode": 0,
        "result": {
            "category": "spot",
            "list": [
                {
                    "symbol": "BTCUSDT",
                    "baseCoin": "BTC",
                    "quoteCoin": "USDT",
                    "status": "Trading",
                    "priceFilter": {"tickSize": "0.01"},
                    "lotSizeFilter": {"basePrecision": "0.000001", "quotePrecision": "0.00000001"},
                }
            ],
        },
    }
).encode()
SAMPLES = [
    Samples(
        "bybit-spot",
        {
            "ack": b'{"success":true,"ret_msg":"","conn_id":"1","req_id":"1","op":"subscribe"}',
            "pong": b'{"success":true,"ret_msg":"pong","conn_id":"1","req_id":"","op":"ping"}',
            "snapshot": book("snapshot", 100, [("27450.00", "0.500")], [("27451.00", "0.750")], depth=1000),
            "delta": book("delta", 101, [], [("27451.00", "0"), ("27452.5", "1")], depth=1000),
            "quote": book("snapshot", 9, [("27450.00", "0.5")], [("27451.00", "0.75")], depth=1),
            "trade": message("publicTrade.BTCUSDT", TRADES),
            "ticker": tickers("snapshot", lastPrice="17216", usdIndexPrice="17215.5"),
        },
        instruments=[LISTED],
    )
]


def test_symbols_are_spot_and_named_by_metadata_alone():
    """Trap 23: BTCUSDT is the perpetual on the other sockets."""
    instruments = Instruments()
    assert SPOT.load_instruments(LISTED, instruments) == []
    (found,) = instruments
    assert (found.symbol, found.kind, str(found.tick_size), str(found.lot_size)) == (
        "BTC-USDT", "spot", "0.01", "0.000001"
    )  # fmt: skip
    (delta,) = decoded("bybit-spot", SAMPLES[0].messages["snapshot"]).deltas
    assert (delta.instrument.exchange, delta.instrument.symbol, delta.instrument.kind) == ("bybit-spot", None, "spot")


def test_the_socket_is_that_of_spot():
    instruments = Instruments()
    SPOT.load_instruments(LISTED, instruments)
    (plan,) = SPOT.plan([Subscription("BTC-USDT", ("book", "quote", "trade", "ticker", "candle"))], instruments)
    assert plan.path == "/v5/public/spot"
    assert plan.subscribe == [
        b'{"op":"subscribe","args":["orderbook.1000.BTCUSDT","orderbook.1.BTCUSDT","publicTrade.BTCUSDT",'
        b'"tickers.BTCUSDT","kline.1.BTCUSDT"]}'
    ]


def test_ten_topics_a_message():
    plan = SPOT.connection("/v5/public/spot", [f"publicTrade.X{n}USDT" for n in range(21)])
    assert [len(json.loads(one)["args"]) for one in plan.subscribe] == [10, 10, 1]


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("wss://stream.bybit.com/v5/public/spot", "bybit-spot"),
        ("wss://stream.bybit.com/v5/public/linear", "bybit"),
        ("wss://stream.bybit.com/v5/public/inverse", "bybit"),
    ],
)
def test_the_address_tells_the_market(url, found):
    assert exchange_of_url(url) == found


def test_what_was_spoken_before_v5_is_not_of_spot():
    assert SPOT.spoken("", 1) is SPOT


def test_ids_of_trades_are_numbers_and_tickers_whole():
    log = decoded("bybit-spot", *SAMPLES[0].messages.values())
    assert [(trade.id, trade.side) for trade in log.trades] == [
        ("2290000000061666327", Side.BUY),
        ("2290000000061666328", Side.SELL),
    ]
    (ticker,) = log.of(Ticker)
    assert (ticker.last_price, ticker.mark_price, ticker.ts_event) == (17216, None, NOW // 10**6 * 10**6)


def test_a_gap_is_seen(log):
    pipeline = SAMPLES[0].pipeline(log)
    for one in (SAMPLES[0].messages["snapshot"], book("delta", 103, [("1", "1")], depth=1000)):
        pipeline.on_message(one, NOW, True)
    (kept,) = pipeline.books.books
    assert kept.state.name == "GAP"
