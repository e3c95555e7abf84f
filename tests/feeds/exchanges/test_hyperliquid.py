import json

import pytest

from feeds.decoder import Refused
from feeds.events import Candle, Side, Ticker
from feeds.exchange import exchange
from feeds.exchanges.hyperliquid import Hyperliquid
from feeds.instrument import Instruments
from feeds.subscription import Subscription
from tests.feeds.exchanges.samples import NOW, Samples, also, decoded

HYPERLIQUID = exchange("hyperliquid")
MS = NOW // 1_000_000


def on(channel, data):
    return json.dumps({"channel": channel, "data": data}).encode()


def book(bids, asks, **more):
    levels = [[{"px": px, "sz": sz, "n": 1} for px, sz in side] for side in (bids, asks)]
    return on("l2Book", {"coin": "BANANA", "time": MS, "levels": levels} | more)


def quote(*sides):
    bbo = [{"px": side[0], "sz": side[1], "n": 1} if side else None for side in sides]
    return on("bbo", {"coin": "BTC", "time": MS, "bbo": bbo})


def trades(*ids, coin="BTC", side="B"):
    row = {
        "coin": coin,
        "side": side,
        "px": "69997.0",
        "sz": "0.38111",
        "time": MS,
        "hash": "0x40",
        "users": ["0x", "0x"],
    }
    return on("trades", [row | {"tid": tid} for tid in ids])


PERPETUALS = json.dumps(
    [
        {
            "universe": [
                {"name": "BTC", "szDecimals": 5, "maxLeverage": 40},
                {"name": "kPEPE", "szDecimals": 0},
                {"name": "OLD", "szDecimals": 1, "isDelisted": True},
            ]
        },
        {"universe": [{"name": "xyz:SP500", "szDecimals": 3}]},
    ]
).encode()
SPOT = json.dumps(
    {
        "universe": [
            {"name": "PURR/USDC", "tokens": [1, 0], "index": 0},
            {"name": "@107", "tokens": [150, 0], "index": 107},
        ],
        "tokens": [
            {"name": "USDC", "szDecimals": 8, "index": 0},
            {"name": "PURR", "szDecimals": 0, "index": 1},
            {"name": "HYPE", "szDecimals": 2, "index": 150},
        ],
    }
).encode()
CONTEXT = {
    "funding": "0.0000125",
    "openInterest": "29505.06",
    "oraclePx": "69990.0",
    "markPx": "69996.0",
    "midPx": None,
}
SAMPLES = [
    Samples(
        "hyperliquid",
        {
            "ack": on("subscriptionResponse", {"method": "subscribe", "subscription": {"type": "bbo", "coin": "BTC"}}),
            "pong": b'{"channel":"pong"}',
            "book": book([("59.8", "3.4")], [("59.811", "2.9")]),
            "fast book": book([("59.8", "3.4")], [], fast=True),
            "quote": quote(("107575.0", "3.87947"), None),
            "trades": trades(1016375172059570, 2),
            "context": on("activeAssetCtx", {"coin": "BTC", "ctx": CONTEXT}),
            "context of spot": on("activeSpotAssetCtx", {"coin": "PURR/USDC", "ctx": {"markPx": "0.2", "midPx": None}}),
            "candle": on(
                "candle",
                {
                    "t": MS,
                    "T": MS + 1,
                    "s": "BTC",
                    "i": "1m",
                    "o": "1",
                    "c": "2",
                    "h": "3",
                    "l": "0.5",
                    "v": "9",
                    "n": 7,
                },
            ),
        },
        instruments=[also(PERPETUALS, "BTC", {"BTC": "BANANA"}), SPOT],
    ),
]


@pytest.fixture
def pipeline(log):
    return SAMPLES[0].pipeline(log)


def test_books_are_snapshots_of_20_levels_or_fast_ones_of_5():
    slow, fast = decoded("hyperliquid", SAMPLES[0].messages["book"], SAMPLES[0].messages["fast book"]).deltas
    assert [(delta.is_snapshot, delta.depth, delta.ts_event) for delta in (slow, fast)] == [
        (True, 20, NOW),
        (True, 5, NOW),
    ]


@pytest.mark.parametrize(
    ("sides", "bid", "ask"),
    [
        ([("107575.0", "3.87947"), None], (107575.0, 3.87947), None),
        ([("107575.0", "3.87947")], (107575.0, 3.87947), None),  # a shorter array
        ([None, ("1.5", "2")], None, (1.5, 2.0)),
        ([], None, None),
    ],
)
def test_a_side_of_a_quote_may_be_missing(sides, bid, ask):
    (one,) = decoded("hyperliquid", quote(*sides)).quotes
    assert (one.bid_price, one.bid_qty) == (bid or (None, None))
    assert (one.ask_price, one.ask_qty) == (ask or (None, None))


def test_the_first_trades_of_a_coin_are_backlog():
    """Trap 17."""
    log = decoded("hyperliquid", trades(1, 2), trades(3, side="A"), trades(4, coin="ETH"))
    assert [(trade.id, trade.is_backlog) for trade in log.trades] == [
        ("1", True),
        ("2", True),
        ("3", False),
        ("4", True),
    ]
    assert [trade.side for trade in log.trades[1:3]] == [Side.BUY, Side.SELL]
    assert (str(log.trades[0].qty_decimal), log.trades[0].ts_event) == ("0.38111", NOW)


def test_events():
    log = decoded("hyperliquid", *SAMPLES[0].messages.values())
    perpetual, spot = log.of(Ticker)
    assert (perpetual.mark_price, perpetual.index_price, perpetual.open_interest) == (69996, 69990, 29505.06)
    assert (str(perpetual.funding_rate_decimal), perpetual.last_price, perpetual.ts_event) == ("0.0000125", None, 0)
    assert (spot.mark_price, spot.funding_rate, spot.instrument.symbol) == (0.2, None, "PURR-USDC")
    (candle,) = log.of(Candle)
    assert (candle.interval, candle.ts_open, candle.open, candle.close, candle.volume) == (60, NOW, 1, 2, 9)


def test_a_refusal(pipeline):
    pipeline.on_message(on("error", "Invalid subscription"), 1, True)
    assert pipeline.decoder.take_requests() == [Refused("Invalid subscription")]


def test_metadata_keeps_the_case_of_names():
    """Trap 23."""
    instruments = Instruments()
    assert HYPERLIQUID.load_instruments(PERPETUALS, instruments) == []
    assert HYPERLIQUID.load_instruments(SPOT, instruments) == []
    assert [(i.raw_symbol, i.symbol, i.kind) for i in instruments] == [
        ("BTC", "BTC-USD-PERP", "perpetual"),
        ("kPEPE", "kPEPE-USD-PERP", "perpetual"),
        ("xyz:SP500", "xyz:SP500-USD-PERP", "perpetual"),
        ("PURR/USDC", "PURR-USDC", "spot"),
        ("@107", "HYPE-USDC", "spot"),
    ]


def test_subscriptions_are_one_a_message():
    instruments = Instruments()
    HYPERLIQUID.load_instruments(PERPETUALS, instruments)
    wanted = [Subscription("BTC", ("book_top", "quote"))]
    (plan,) = HYPERLIQUID.plan(wanted, instruments)
    assert (plan.path, plan.subscribe) == (
        "/ws",
        [
            b'{"method":"subscribe","subscription":{"type":"l2Book","fast":true,"coin":"BTC"}}',
            b'{"method":"subscribe","subscription":{"type":"bbo","coin":"BTC"}}',
        ],
    )
    deeper = Hyperliquid()
    deeper.fast = False
    (plan,) = deeper.plan(wanted, instruments)
    assert plan.subscribe[0] == b'{"method":"subscribe","subscription":{"type":"l2Book","coin":"BTC"}}'
