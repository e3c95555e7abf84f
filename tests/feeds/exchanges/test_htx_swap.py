import gzip
import json
from decimal import Decimal

import pytest

from feeds.decoder import Refused, Resubscribe, Send
from feeds.events import Candle, Funding, Liquidation, Side, Ticker
from feeds.exchange import exchange, exchange_of_url
from feeds.instrument import Instruments
from feeds.subscription import Subscription
from tests.feeds.exchanges.samples import NOW, Samples, decoded, replayed, tops

SWAP = exchange("htx-swap")
MS = NOW // 1_000_000
BOOK = "market.BTC-USDT.depth.size_150.high_freq"


def on(topic, tick):
    return json.dumps({"ch": topic, "ts": MS, "tick": tick}).encode()


def book(event, version, bids=(), asks=(), topic=BOOK):
    levels = {"bids": [list(level) for level in bids], "asks": [list(level) for level in asks]}
    tick = {"mrid": 7, "id": 1, "event": event, "version": version, "ts": MS - 2, "ch": topic, **levels}
    return on(topic, tick)


def notification(topic, **record):
    return json.dumps({"op": "notify", "topic": topic, "ts": MS, "data": [record]}).encode()


START = book("snapshot", 100, [(5, 1), (4, 2)], [(6, 1)])
TRADE = (
    b'{"ch":"market.ATOM-USD.trade.detail","ts":%d,"tick":{"id":74377471712,"ts":%d,"data":[{"amount":6,'
    b'"quantity":2.2569881997133624986364029626731768237,"ts":%d,"id":743774717120000,"price":26.5841,"direction":"buy"}]}}'
    % (MS, MS, MS)
)
FUNDING = notification(
    "public.BTC-USDT.funding_rate",
    symbol="BTC",
    contract_code="BTC-USDT",
    fee_asset="USDT",
    funding_time="1789999920000",
    funding_rate="0.000087224669991579",
    estimated_rate=None,
    settlement_time="1790006400000",
)
LIQUIDATION = notification(
    "public.ETH-USDT.liquidation_orders",
    symbol="ETH",
    contract_code="ETH-USDT",
    direction="buy",
    offset="close",
    volume=500,
    price=2446.26,
    created_at=MS - 5,
    amount=5,
    trade_turnover=12231.3,
)
CANDLE = {
    "id": 1790000000,
    "mrid": 37231739342,
    "open": 8358.77,
    "close": 8355.6,
    "high": 8358.77,
    "low": 8355.31,
    "amount": 0.644,
    "vol": 644,
    "count": 23,
    "trade_turnover": 5383.2,
}


def listing(*codes):
    fields = '"contract_size":0.001000000000000000,"price_tick":0.100000000000000000,"contract_status":1'
    entries = [f'{{"symbol":"{code.split("-")[0]}","contract_code":"{code}",{fields}}}' for code in codes]
    return f'{{"status":"ok","data":[{",".join(entries)}]}}'.encode()


SAMPLES = [
    Samples(
        "htx-swap",
        {
            "ack": b'{"id":"1","subbed":"market.BTC-USDT.trade.detail","ts":1645289384874,"status":"ok"}',
            "ping": b'{"ping":1645289389619}',
            "snapshot": START,
            "update": book("update", 101, [(4, 0)], [(6.5, 3)]),
            "empty update": book("update", 102),
            "step0": on("market.ATOM-USD.depth.step0", {"bids": [[26.5766, 50]], "asks": [[26.58, 3]], "ts": MS}),
            "quote": on("market.BTC-USDT.bbo", {"bid": [31784.1, 5911], "ask": [31784.2, 4], "ts": MS - 1}),
            "trade": TRADE,
            "ticker": on("market.BTC-USDT.detail", {"id": 1, "open": 26.1, "close": 26.58}),
            "candle": on("market.BTC-USDT.kline.1min", CANDLE),
            "funding": FUNDING,
            "liquidation": LIQUIDATION,
            "ack of notifications": b'{"op":"sub","cid":"1","topic":"public.X-USDT.funding_rate","ts":1,"err-code":0}',
            "ping of notifications": b'{"op":"ping","ts":"1492420473058"}',
        },
        instruments=[listing("BTC-USDT", "1INCH-USDT", "ETH-USDT"), listing("BTC-USD", "ATOM-USD")],
        captures=("HUOBI_SWAP.ws.1.0", "HUOBI_SWAP.ws.2.0"),
    )
]


@pytest.fixture
def pipeline(log):
    return SAMPLES[0].pipeline(log)


def play(pipeline, *messages):
    for message in messages:
        pipeline.on_message(message, NOW, True)
    return pipeline.books.books[0].state.name


# --- captures -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "books", "messages_with_trades", "trades", "backlog"),
    [("HUOBI_SWAP.ws.1.0", 1274, 6, 8, 7), ("HUOBI_SWAP.ws.2.0", 1588, 13, 17, 5)],
)
def test_captures(captures, name, books, messages_with_trades, trades, backlog):
    log, replay = replayed(captures, name)
    (pipeline,) = replay.pipelines
    assert len(log.deltas) == books
    assert (len(log.trades), sum(trade.is_backlog for trade in log.trades)) == (trades, backlog)
    assert pipeline.decoder.silent == {"ack": 10, "ping": 6}
    assert replay.messages == books + messages_with_trades + 10 + 6
    for bid, ask in log.tops:
        assert bid[0] < ask[0]


def test_golden_values_of_the_capture(captures):
    log, replay = replayed(captures, "HUOBI_SWAP.ws.2.0")
    assert tops(replay)["SOS-USDT"] == ("0.0000023 x 24013", "0.00000231 x 4232", "52/84")
    assert sum(delta.instrument.raw_symbol == "SOS-USDT" for delta in log.deltas) == 573
    (kept,) = (book for book in replay.pipelines[0].books.books if book.instrument.raw_symbol == "SOS-USDT")
    assert (kept.ts_event, kept.instrument.symbol) == (1_645_289_414_818_000_000, "SOS-USDT-PERP")


def test_metadata_of_2022(captures):
    instruments = Instruments()
    with gzip.open(captures / "exchanges" / "HUOBI_SWAP.0.gz", "rb") as file:
        replies = [line.partition(b": ")[2].strip() for line in file if line.startswith(b"https")]
    assert [SWAP.load_instruments(reply, instruments) for reply in replies] == [[], []]
    assert len(instruments) == 171
    linear, coin = instruments.resolve("htx-swap", "BTC-USDT-PERP"), instruments.resolve("htx-swap", "BTC-USD-PERP")
    assert [(i.raw_symbol, i.tick_size, i.lot_size, i.contract_size, i.price_decimals) for i in (linear, coin)] == [
        ("BTC-USDT", Decimal("0.1"), 1, Decimal("0.001"), 1),
        ("BTC-USD", Decimal("0.1"), 1, 100, 1),
    ]


# --- books ----------------------------------------------------------------------------------------


def test_versions_have_no_holes(pipeline):
    assert play(pipeline, START, book("update", 101), book("update", 102, [(4.5, 1)])) == "LIVE"
    assert play(pipeline, book("update", 102, [(1, 1)])) == "LIVE"  # sent twice: ignored
    assert [level.price for level in pipeline.books.books[0].bids()] == [5, 4.5, 4]
    assert play(pipeline, book("update", 104, [(1, 1)])) == "GAP"
    assert pipeline.decoder.take_requests() == [
        Resubscribe(
            (
                b'{"unsub":"market.BTC-USDT.depth.size_150.high_freq","id":"BTC-USDT"}',
                b'{"sub":"market.BTC-USDT.depth.size_150.high_freq","id":"BTC-USDT","data_type":"incremental"}',
            ),
            "BTC-USDT",
        )
    ]
    assert play(pipeline, book("snapshot", 7, [(3, 1)]), book("update", 8)) == "LIVE"


def test_the_first_update_must_continue_the_snapshot(pipeline):
    assert play(pipeline, START, book("update", 102)) == "GAP"


def test_levels_beyond_the_window_leave(pipeline):
    bids = [(1000 - n, 1) for n in range(150)]
    play(pipeline, book("snapshot", 5, bids, [(2000, 1)]), book("update", 6, [(1001, 1)]))
    kept = pipeline.books.books[0].bids()
    assert (len(kept), kept[0].price, kept[-1].price) == (150, 1001, 852)


def test_a_second_depth_of_a_contract_does_not_touch_the_book(pipeline):
    other = book("snapshot", 7, [(1, 1)], topic="market.BTC-USDT.depth.size_20.high_freq")
    assert play(pipeline, START, other, book("update", 101)) == "LIVE"
    assert pipeline.decoder.silent == {"other depth": 1}


def test_an_unknown_event_is_a_problem(pipeline):
    pipeline.on_message(book("zzz", 1), NOW, True)
    assert "expected event snapshot or update, found 'zzz'" in pipeline.problems["bad_value"].first


# --- other events ---------------------------------------------------------------------------------


def test_quantities_are_contracts():
    """Trap 22; coins of 40 digits are not read."""
    log = decoded("htx-swap", *SAMPLES[0].messages.values())
    (trade,) = log.trades
    assert (trade.qty, trade.id, trade.side) == (6, "743774717120000", Side.BUY)
    (candle,) = log.of(Candle)
    assert (candle.volume, candle.quote_volume, candle.interval) == (644, 5383.2, 60)
    (liquidation,) = log.of(Liquidation)
    assert (liquidation.qty, liquidation.price, liquidation.side) == (500, 2446.26, Side.BUY)
    assert liquidation.ts_event == (MS - 5) * 1_000_000
    (ticker,) = log.of(Ticker)
    assert ticker.last_price == 26.58


def test_candles_of_coin_margined_swaps_have_no_turnover():
    tick = {key: value for key, value in CANDLE.items() if key != "trade_turnover"}
    (candle,) = decoded("htx-swap", on("market.BTC-USD.kline.1min", tick)).of(Candle)
    assert (candle.volume, candle.quote_volume) == (644, None)


def test_funding_is_paid_at_the_settlement():
    (rate,) = decoded("htx-swap", FUNDING).of(Funding)
    assert (str(rate.funding_rate_decimal), rate.next_funding_time) == ("0.000087224669991579", 1_790_006_400 * 10**9)
    assert rate.next_funding_rate is None
    (old,) = decoded("htx-swap", FUNDING.replace(b"null", b'"-0.0000653"')).of(Funding)
    assert old.next_funding_rate == -0.0000653


@pytest.mark.parametrize("bid", [{"bid": None}, {}])
def test_a_side_of_a_quote_may_be_null_or_missing(bid):
    (quote,) = decoded("htx-swap", on("market.BTC-USDT.bbo", {"ask": [31784.2, 4], **bid})).quotes
    assert (quote.bid_price, quote.bid_qty, quote.ask_price, quote.ask_qty) == (None, None, 31784.2, 4)


def test_notification_sockets_have_pings_and_refusals_of_their_own(pipeline):
    """Trap 12."""
    for message in (
        b'{"op":"ping","ts":"1492420473058"}',
        b'{"op":"sub","cid":"1","topic":"public.X.funding_rate","ts":1,"err-code":2011,"err-msg":"no such contract"}',
    ):
        pipeline.on_message(message, NOW, True)
    assert pipeline.decoder.take_requests() == [
        Send(b'{"op":"pong","ts":"1492420473058"}'),
        Refused("2011: no such contract"),
    ]


# --- subscribing ----------------------------------------------------------------------------------


def test_linear_coin_margined_and_notifications_are_four_sockets():
    instruments = Instruments()
    for reply in SAMPLES[0].instruments:
        assert SWAP.load_instruments(reply, instruments) == []
    assert [i.symbol for i in instruments] == [
        f"{pair}-PERP" for pair in ("BTC-USDT", "1INCH-USDT", "ETH-USDT", "BTC-USD", "ATOM-USD")
    ]
    wanted = [Subscription(symbol, ("book", "funding")) for symbol in ("BTC-USDT-PERP", "BTC-USD-PERP")]
    assert [(plan.path, plan.subscribe) for plan in SWAP.plan(wanted, instruments)] == [
        (
            "/linear-swap-ws",
            [b'{"sub":"market.BTC-USDT.depth.size_150.high_freq","id":"1","data_type":"incremental"}'],
        ),
        ("/linear-swap-notification", [b'{"op":"sub","cid":"1","topic":"public.BTC-USDT.funding_rate"}']),
        ("/swap-ws", [b'{"sub":"market.BTC-USD.depth.size_150.high_freq","id":"1","data_type":"incremental"}']),
        ("/swap-notification", [b'{"op":"sub","cid":"1","topic":"public.BTC-USD.funding_rate"}']),
    ]


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("wss://api.hbdm.com/linear-swap-ws", "htx-swap"),
        ("wss://api.hbdm.com/swap-notification", "htx-swap"),
        ("https://api.hbdm.com/linear-swap-api/v1/swap_contract_info", "htx-swap"),
        ("wss://api.hbdm.com/ws", None),  # dated futures
        ("wss://api.huobi.pro/feed", "htx"),
        ("wss://api-aws.huobi.pro/ws", "htx"),
    ],
)
def test_the_address_tells_the_market(url, found):
    assert exchange_of_url(url) == found
