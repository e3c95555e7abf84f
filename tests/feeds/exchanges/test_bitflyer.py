import json
from collections import Counter
from decimal import Decimal

import pytest

from feeds.book import BookState
from feeds.decoder import Refused
from feeds.events import Side, Ticker
from feeds.exchange import exchange
from feeds.exchanges.bitflyer import name_of
from feeds.instrument import Instruments
from feeds.subscription import Subscription
from feeds.times import iso_ns
from tests.feeds.exchanges.samples import NOW, Samples, decoded, replayed, tops

BITFLYER = exchange("bitflyer")


def on(channel, message, code="BTC_JPY"):
    text = message if isinstance(message, str) else json.dumps(message)
    return (
        f'{{"jsonrpc":"2.0","method":"channelMessage","params":{{"channel":"lightning_{channel}_{code}",'
        f'"message":{text}}}}}'
    ).encode()


def board(channel, bids=(), asks=(), **more):
    sides = [[{"price": price, "size": size} for price, size in side] for side in (bids, asks)]
    return on(channel, {"mid_price": 1.0, "bids": sides[0], "asks": sides[1]}, **more)


def execution(side="BUY", number=2284079807):
    return {
        "id": number, "side": side, "price": 5860832.0, "size": 0.01, "exec_date": "2026-09-21T23:05:29.9692063Z",
        "buy_child_order_acceptance_id": "JRF2", "sell_child_order_acceptance_id": "JRF3",
    }  # fmt: skip


SAMPLES = [
    Samples(
        "bitflyer",
        {
            "ack": b'{"jsonrpc":"2.0","id":1,"result":true}',
            "ack of a batch": b'[{"jsonrpc":"2.0","id":1,"result":true},{"jsonrpc":"2.0","id":2,"result":true}]',
            "already": b'{"jsonrpc":"2.0","id":1,"error":{"code":-32009,"message":"already subscribed"}}',
            "too early": board("board", [(9.0, 1.0)]),
            "snapshot": board("board_snapshot", [(13632097.0, 0.0160328), (13632000.0, 1.0)], [(13637308.0, 0.5)]),
            "board": board("board", [(13632097.0, 0.0), (0.0, 3.0)], [(13637300.0, 0.25)]),
            "executions": on("executions", [execution(), execution("SELL", 2284079808), execution("", 2284079809)]),
            "ticker": on(
                "ticker",
                '{"product_code":"BTC_JPY","timestamp":"2026-09-21T23:05:30.1371457Z","tick_id":127090247,'
                '"best_bid":5859870.0,"best_ask":5862038.0,"best_bid_size":0.04,"best_ask_size":0.0,"ltp":5861000.5}',
            ),
        },
        instruments=[
            b'[{"product_code":"BTC_JPY","market_type":"Spot"},{"product_code":"FX_BTC_JPY","market_type":"FX"},'
            b'{"product_code":"BTCJPY24DEC2021","alias":"BTCJPY_MAT2WK","market_type":"Futures"}]',
            b'[{"product_code":"BTC_USD","market_type":"Spot"},{"product_code":"BTC_JPY","market_type":"Spot"}]',
        ],
        captures=("BITFLYER.ws.1.0",),
    )
]


@pytest.fixture
def pipeline(log):
    return SAMPLES[0].pipeline(log)


def play(pipeline, *messages):
    for one in messages:
        pipeline.on_message(one, NOW, True)
    return pipeline.books.books[0]


def test_golden_values(captures):
    log, replay = replayed(captures, "BITFLYER.ws.1.0")
    found = tops(replay)
    assert found["FX_BTC_JPY"] == ("5865917 x 0.22", "5867768 x 0.01", "302/292")
    assert found["BTC_EUR"] == ("44461.19 x 0.00118145", "44512.53 x 0.50134", "105/110")
    assert Counter(delta.is_snapshot for delta in log.deltas) == {True: 60, False: 722}
    assert not [status for status in log.book_statuses if status.new is BookState.CROSSED]
    assert (len(log.quotes), len(log.of(Ticker)), len(log.trades)) == (249, 249, 162)
    applied, begun = Counter(), set()
    for delta in log.deltas:
        if delta.is_snapshot:
            begun.add(delta.instrument)
        elif delta.instrument in begun:
            applied[delta.instrument.raw_symbol] += 1
    assert (applied["FX_BTC_JPY"], applied["BTC_EUR"], 722 - sum(applied.values())) == (213, 70, 33)
    by_product = {}
    for trade in log.trades:  # ids only grow
        assert int(trade.id) > by_product.get(trade.instrument, 0)
        by_product[trade.instrument] = int(trade.id)


def test_changes_wait_for_a_snapshot_and_every_snapshot_replaces_the_book(pipeline):
    """Trap 19: nothing tells of what was missed, but the next snapshot has it."""
    assert play(pipeline, SAMPLES[0].messages["too early"]).state is BookState.SYNCING
    assert not pipeline.decoder.has_requests
    book = play(pipeline, SAMPLES[0].messages["snapshot"], SAMPLES[0].messages["board"])
    assert [(level.price, level.qty) for level in book.bids()] == [(13632000, 1)]  # 0 removes; at 0 is no level
    assert [(level.price, level.qty) for level in book.asks()] == [(13637300, 0.25), (13637308, 0.5)]
    play(pipeline, board("board_snapshot", [(5.0, 1.0)], [(6.5, 2.0)]))
    assert (book.state, book.bid_count, book.ask_count, book.best_ask.price) == (BookState.LIVE, 1, 1, 6.5)


def test_a_change_that_cannot_be_read_is_a_gap_of_every_book_until_the_next_snapshot(pipeline):
    """Nothing later shows that it is missing."""
    snapshot = board("board_snapshot", [(5.0, 1.0)], [(6.5, 2.0)])
    for harmless in (SAMPLES[0].messages["ticker"][:-9], SAMPLES[0].messages["executions"][:-9], snapshot[:-9]):
        assert play(pipeline, snapshot, harmless).state is BookState.LIVE
    for cut in (
        board("board", [(5.0, 2.0)], code="FX_BTC_JPY")[:-9],
        b'{"jsonrpc":"2.0","method":"channelMessage","par',
    ):
        assert play(pipeline, cut).state is BookState.GAP
        assert play(pipeline, snapshot).state is BookState.LIVE


def test_executions():
    buy, sell, auction = decoded("bitflyer", SAMPLES[0].messages["executions"]).trades
    assert (buy.side, sell.side, auction.side) == (Side.BUY, Side.SELL, Side.UNKNOWN)
    assert (buy.id, buy.price_decimal, str(buy.qty_decimal)) == ("2284079807", Decimal(5860832), "0.01")
    assert buy.ts_event == iso_ns("2026-09-21T23:05:29Z") + 969_206_300  # seven digits of a second
    assert not buy.is_backlog


def test_tickers_have_the_best_bid_and_offer():
    log = decoded("bitflyer", SAMPLES[0].messages["ticker"])
    (quote,), (ticker,) = log.quotes, log.of(Ticker)
    assert (quote.bid_price, quote.bid_qty, quote.ask_price, quote.ask_qty) == (5859870, 0.04, None, None)
    assert (ticker.last_price, ticker.ts_event) == (5861000.5, iso_ns("2026-09-21T23:05:30.1371457Z"))


def test_refusals(pipeline):
    refusal = b'{"jsonrpc":"2.0","id":7,"error":{"code":-32602,"message":"invalid channel"}}'
    pipeline.on_message(b"[" + refusal + b"]", NOW, True)
    assert pipeline.decoder.take_requests() == [Refused("request 7: code -32602: invalid channel")]


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("BTC_JPY", ("BTC-JPY", "spot")),
        ("FX_BTC_JPY", ("BTC-JPY-PERP", "perpetual")),
        ("BTCJPY24DEC2021", ("BTC-JPY-20211224", "future")),
        ("BTCJPY99DEC2021", (None, "unknown")),
        ("BTCJPY", (None, "unknown")),
        ("FX_", (None, "unknown")),
    ],
)
def test_product_codes(code, expected):
    assert name_of(code) == expected


def test_books_are_two_channels_and_lists_of_markets_overlap():
    instruments = Instruments()
    for reply in SAMPLES[0].instruments:
        assert BITFLYER.load_instruments(reply, instruments) == []
    assert [i.symbol for i in instruments] == ["BTC-JPY", "BTC-JPY-PERP", "BTC-JPY-20211224", "BTC-USD"]
    (plan,) = BITFLYER.plan([Subscription("BTC-JPY-PERP", ("book", "quote", "trade", "ticker"))], instruments)
    assert plan.path == "/json-rpc"
    assert [json.loads(message) for message in plan.subscribe] == [
        {"jsonrpc": "2.0", "method": "subscribe", "params": {"channel": f"lightning_{name}_FX_BTC_JPY"}, "id": number}
        for number, name in enumerate(("board", "board_snapshot", "ticker", "executions"), 1)
    ]
