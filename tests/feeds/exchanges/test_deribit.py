import gzip
import json
from decimal import Decimal

import pytest

from feeds.book import BookState
from feeds.decoder import Refused, Resubscribe, Send
from feeds.events import Candle, Funding, Liquidation, Side, Ticker
from feeds.exchange import exchange
from feeds.instrument import Instruments
from feeds.subscription import Subscription
from tests.feeds.exchanges.samples import Samples, also, decoded, replayed, tops

DERIBIT = exchange("deribit")
PERP = "BTC-PERPETUAL"
MS = 1_790_000_000_000


def on(channel, data):
    params = {"channel": channel, "data": data}
    return json.dumps({"jsonrpc": "2.0", "method": "subscription", "params": params}).encode()


def book(change, previous=None, bids=(), asks=(), kind="change", interval="100ms", **fields):
    data = {"type": kind, "timestamp": MS, "instrument_name": PERP, "change_id": change, "bids": bids, "asks": asks}
    if previous is not None:
        data["prev_change_id"] = previous
    return on(f"book.{PERP}.{interval}", data | fields)


def trade(number="403691824", direction="sell", name=PERP, **fields):
    known = {"timestamp": MS, "price": 92294.5, "amount": 10.0, "direction": direction, "instrument_name": name}
    return known | {"trade_seq": 271252854, "contracts": 1.0, "trade_id": number} | fields


SNAPSHOT = book(100, None, [["new", 42500.0, 1000.0]], [["new", 42501.0, 800.0]], "snapshot")
UPDATE = book(200, 100, [["change", 42500.0, 950.0]], [["delete", 42501.0, 0.0], ["new", 42502.0, 10.0]])
TOP = {"timestamp": MS, "instrument_name": "ETH-PERPETUAL", "change_id": 7, "bids": [[1.5, 2.0]], "asks": []}
QUOTE = {
    "timestamp": MS,
    "instrument_name": PERP,
    "best_bid_price": 3914.5,
    "best_bid_amount": 40,
    "best_ask_price": None,
    "best_ask_amount": 0,
}
TICKER = {
    "timestamp": MS,
    "instrument_name": PERP,
    "last_price": None,
    "mark_price": 92287.11,
    "index_price": 92276.75,
    "open_interest": 12685.0,
    "current_funding": 1.25e-5,
}
CANDLE = {
    "volume": 0.05219351,
    "tick": MS,
    "open": 8869.79,
    "low": 8788.25,
    "high": 8870.31,
    "cost": 460,
    "close": 8791.25,
}


def entry(name, kind, tick=0.5):
    return {"instrument_name": name, "kind": kind, "tick_size": tick, "min_trade_amount": 10, "contract_size": 10.0}


LISTED = json.dumps(
    {
        "jsonrpc": "2.0",
        "result": [
            entry(PERP, "future"),
            entry("ETH_USDC-PERPETUAL", "future"),
            entry("BTC-25SEP26", "future"),
            entry("BTC-25SEP26-60000-C", "option", 0.0001),
            entry("XRP_USDC-30JUN26-0d625-P", "option", 1e-4),
            entry("BTC_USDC", "spot", 0.01),
        ],
    }
).encode()
SAMPLES = [
    Samples(
        "deribit",
        {
            "ack": b'{"jsonrpc":"2.0","id":1001,"result":["book.BTC-PERPETUAL.100ms"],"usIn":1,"testnet":false}',
            "heartbeat set": b'{"jsonrpc":"2.0","id":0,"result":"ok"}',
            "heartbeat": b'{"jsonrpc":"2.0","method":"heartbeat","params":{"type":"heartbeat"}}',
            "test request": b'{"jsonrpc":"2.0","method":"heartbeat","params":{"type":"test_request"}}',
            "tested": b'{"jsonrpc":"2.0","id":0,"result":{"version":"1.2.26"}}',
            "snapshot": SNAPSHOT,
            "update": UPDATE,
            "top": on("book.ETH-PERPETUAL.none.20.100ms", TOP),
            "trades": on(f"trades.{PERP}.100ms", [trade(), trade("403691825", "buy", liquidation="MT")]),
            "quote": on(f"quote.{PERP}", QUOTE),
            "ticker": on(f"ticker.{PERP}.100ms", TICKER),
            "part of a ticker": on(
                f"incremental_ticker.{PERP}",
                {"type": "change", "timestamp": MS, "instrument_name": PERP, "mark_price": 92287.2},
            ),
            "funding": on(f"perpetual.{PERP}.100ms", {"timestamp": MS, "interest": 0.0049995, "index_price": 7872.88}),
            "candle": on(f"chart.trades.{PERP}.1", CANDLE),
            "index": on("deribit_price_index.btc_usd", {"timestamp": MS, "price": 3937.89, "index_name": "btc_usd"}),
        },
        instruments=[also(LISTED, "BTC-PERPETUAL", {"BTC": "ETH"})],
        captures=("DERIBIT.ws.1.0",),
    )
]


@pytest.fixture
def pipeline(log):
    return SAMPLES[0].pipeline(log)


# --- captures -------------------------------------------------------------------------------------


def test_golden_values_of_the_capture(captures):
    log, replay = replayed(captures, "DERIBIT.ws.1.0")
    (pipeline,) = replay.pipelines
    found = tops(replay)
    assert found["BTC-24SEP21-8000-P"] == ("0.0005 x 153.1", "0.0015 x 94.7", "1/14")
    assert found["ETH-27AUG21-4000-P"] == ("empty", "empty", "0/0")
    ids = {book.instrument.raw_symbol: book.last_id for book in pipeline.books.books}
    assert ids["BTC-24SEP21-8000-P"] == 33195898166
    assert ids["ETH-27AUG21-4000-P"] == 13167318455
    updates = [delta for delta in log.deltas if not delta.is_snapshot]
    assert (len(log.deltas), len(updates), pipeline.books.applied) == (46, 36, 46)
    assert len([d for d in updates if d.instrument.raw_symbol == "BTC-24SEP21-8000-P"]) == 30
    assert {d.instrument.symbol for d in log.deltas} >= {"BTC-USD-20210924-8000-P", "ETH-USD-20210730-2800-C"}
    assert pipeline.decoder.silent == {"ack": 1}


def test_tickers_of_the_capture(captures):
    log, _ = replayed(captures, "DERIBIT.ws.1.0")
    first = log.of(Ticker)[0]
    assert first.instrument.raw_symbol == "ETH-30JUL21-2800-C"
    assert (first.last_price, str(first.mark_price_decimal), first.index_price) == (0.002, "0.001972", 2006.72)
    assert (first.open_interest, first.funding_rate) == (12685, None)


def test_metadata_of_2021(captures):
    instruments = Instruments()
    with gzip.open(captures / "exchanges" / "DERIBIT.0.gz", "rb") as file:
        for line in file:
            if line.startswith(b"https"):
                assert DERIBIT.load_instruments(line.partition(b": ")[2], instruments) == []
    put = instruments.resolve("deribit", "BTC-USD-20210924-40000-P")
    assert (put.raw_symbol, put.kind, put.tick_size) == ("BTC-24SEP21-40000-P", "option", Decimal("0.0005"))


# --- books ----------------------------------------------------------------------------------------


def test_an_update_names_the_one_before(pipeline):
    for payload in (SNAPSHOT, UPDATE, book(250, 200, [["new", 42499.5, 20.0]])):
        pipeline.on_message(payload, 1, True)
    (kept,) = pipeline.books.books
    assert (kept.state, kept.last_id) == (BookState.LIVE, 250)
    assert [[(str(p), str(q)) for p, q in kept.exact(side)] for side in (0, 1)] == [
        [("42500.0", "950"), ("42499.5", "20")],
        [("42502.0", "10")],
    ]


def test_a_gap_is_repaired_by_subscribing_anew(pipeline):
    pipeline.on_message(SNAPSHOT, 1, True)
    pipeline.on_message(book(300, 200), 1, True)
    assert [kept.state for kept in pipeline.books.books] == [BookState.GAP]
    names = b'"params":{"channels":["book.BTC-PERPETUAL.100ms"]}}'
    assert pipeline.decoder.take_requests() == [
        Resubscribe(
            (
                b'{"jsonrpc":"2.0","id":0,"method":"public/unsubscribe",' + names,
                b'{"jsonrpc":"2.0","id":0,"method":"public/subscribe",' + names,
            ),
            PERP,
        )
    ]
    pipeline.on_message(SNAPSHOT, 1, True)
    assert [kept.state for kept in pipeline.books.books] == [BookState.LIVE]


@pytest.mark.parametrize("fields", [{}, {"prev_change_id": None}, {"prev_change_id": 0}])
def test_a_snapshot_without_a_type_names_none_before_it(pipeline, fields):
    """Trap 20: traffic before mid-2021."""
    pipeline.on_message(SNAPSHOT, 1, True)
    pipeline.on_message(book(90, None, [["new", 1.0, 2.0]], kind="", **fields), 1, True)
    (kept,) = pipeline.books.books
    assert (kept.state, kept.last_id, kept.best_bid, kept.best_ask) == (BookState.LIVE, 90, (1.0, 2.0), None)


def test_a_second_book_channel_does_not_disturb_the_first(pipeline):
    pipeline.on_message(SNAPSHOT, 1, True)
    pipeline.on_message(book(150, None, [["new", 1.0, 2.0]], kind="snapshot", interval="agg2"), 1, True)
    pipeline.on_message(UPDATE, 1, True)
    assert [(kept.state, kept.last_id) for kept in pipeline.books.books] == [(BookState.LIVE, 200)]
    assert pipeline.decoder.silent == {"other book": 1}


def test_grouped_prices_are_no_top_of_the_book():
    log = decoded("deribit", on(f"book.{PERP}.5.10.100ms", TOP), on(f"book.{PERP}.none.10.100ms", TOP))
    assert [(delta.depth, delta.is_snapshot, delta.last_id) for delta in log.deltas] == [(10, True, 7)]


# --- other events ---------------------------------------------------------------------------------


def test_who_was_liquidated_says_the_trade():
    kinds = ("", "T", "M", "MT")
    data = [trade(str(n), "sell", **({"liquidation": kind} if kind else {})) for n, kind in enumerate(kinds)]
    log = decoded("deribit", on(f"trades.{PERP}.100ms", data))
    assert [(one.id, one.side, one.qty) for one in log.trades] == [(str(n), Side.SELL, 10.0) for n in range(4)]
    assert [(one.id, one.side) for one in log.of(Liquidation)] == [
        ("1", Side.SELL),
        ("2", Side.BUY),
        ("3", Side.BUY),
        ("3", Side.SELL),
    ]


def test_legs_of_a_combination_are_trades_of_their_own_instruments():
    """Trap 24: a fill of a combination comes on its channel and on those of its legs."""
    combo, leg = "BTC-FS-25SEP26_PERP", trade("2", combo_id="BTC-FS-25SEP26_PERP", combo_trade_id="1")
    log = decoded("deribit", on(f"trades.{combo}.100ms", [trade("1", name=combo)]), on(f"trades.{PERP}.100ms", [leg]))
    assert [(one.instrument.raw_symbol, one.instrument.symbol) for one in log.trades] == [
        (combo, None),
        (PERP, "BTC-USD-PERP"),
    ]


@pytest.mark.parametrize("price", [None, 0, 0.0])
def test_a_side_of_a_quote_that_is_not_there(price):
    log = decoded("deribit", on(f"quote.{PERP}", QUOTE | {"best_ask_price": price}))
    (quote,) = log.quotes
    assert (quote.bid_decimal, quote.ask_decimal) == ((Decimal("3914.5"), Decimal(40)), None)


def test_parts_of_a_ticker_are_merged_and_null_is_none():
    channel = f"incremental_ticker.{PERP}"
    part = {"timestamp": MS, "instrument_name": PERP}
    log = decoded(
        "deribit",
        on(channel, TICKER | {"last_price": 5.5}),
        on(channel, part | {"mark_price": 92287.2}),
        on(channel, part | {"last_price": None}),
    )
    assert [(one.last_price, one.mark_price, str(one.funding_rate_decimal)) for one in log.of(Ticker)] == [
        (5.5, 92287.11, "0.0000125"),
        (5.5, 92287.2, "0.0000125"),
        (None, 92287.2, "0.0000125"),
    ]


def test_funding_and_candles():
    log = decoded("deribit", SAMPLES[0].messages["funding"], SAMPLES[0].messages["candle"])
    assert [str(one.funding_rate_decimal) for one in log.of(Funding)] == ["0.0049995"]
    (candle,) = log.of(Candle)
    assert (candle.interval, candle.ts_open, candle.close, candle.quote_volume) == (60, MS * 10**6, 8791.25, 460)


def test_a_test_request_is_answered(pipeline):
    """Trap 12."""
    pipeline.on_message(SAMPLES[0].messages["heartbeat"], 1, True)
    pipeline.on_message(SAMPLES[0].messages["test request"], 1, True)
    assert pipeline.decoder.take_requests() == [Send(b'{"jsonrpc":"2.0","id":0,"method":"public/test","params":{}}')]


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (
            b'"error":{"code":13778,"message":"raw_subscriptions_not_available"}',
            "code 13778: raw_subscriptions_not_available",
        ),
        (b'"result":["quote.BTC-PERPETUAL"]', "1 of 2 channels accepted: quote.BTC-PERPETUAL"),
        (b'"result":[]', "0 of 2 channels accepted: none"),
    ],
)
def test_channels_that_are_not_accepted_are_refused(pipeline, reply, reason):
    """Bad ones are left out of the answer without a word; how many were asked for, the id says."""
    pipeline.on_message(b'{"jsonrpc":"2.0","id":1002,' + reply + b"}", 1, True)
    assert pipeline.decoder.take_requests() == [Refused(reason)]


# --- subscribing ----------------------------------------------------------------------------------


def test_metadata():
    instruments = Instruments()
    assert DERIBIT.load_instruments(LISTED, instruments) == []
    assert [(one.symbol, one.kind) for one in instruments] == [
        ("BTC-USD-PERP", "perpetual"),
        ("ETH-USDC-PERP", "perpetual"),
        ("BTC-USD-20260925", "future"),
        ("BTC-USD-20260925-60000-C", "option"),
        ("XRP-USDC-20260630-0.625-P", "option"),
        ("BTC-USDC", "spot"),
    ]
    assert instruments.resolve("deribit", "BTC-USD-PERP").contract_size == 10


def test_the_interval_is_public_and_the_id_says_how_many_channels_are_asked_for():
    instruments = Instruments()
    DERIBIT.load_instruments(LISTED, instruments)
    (plan,) = DERIBIT.plan([Subscription(PERP, ("book", "trade", "liquidation"))], instruments)
    assert plan.subscribe == [
        b'{"jsonrpc":"2.0","id":0,"method":"public/set_heartbeat","params":{"interval":30}}',
        b'{"jsonrpc":"2.0","id":1002,"method":"public/subscribe","params":{"channels":["book.BTC-PERPETUAL.100ms",'
        b'"trades.BTC-PERPETUAL.100ms"]}}',
    ]
