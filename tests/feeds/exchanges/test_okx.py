import gzip
import json
import zlib
from decimal import Decimal

import pytest

from feeds.book import BookState
from feeds.decoder import Fetch, Reconnect, Refused, Resubscribe
from feeds.events import Candle, Funding, Liquidation, OpenInterest, Side, Ticker
from feeds.exchange import exchange
from feeds.instrument import Instruments
from feeds.subscription import Subscription
from feeds.testing import EventLog
from tests.feeds.exchanges.samples import NOW, Samples, also, decoded, replayed, tops

OKX = exchange("okx")
MS = NOW // 1_000_000


def on(channel, *data, inst="BTC-USDT", **more):
    return json.dumps({"arg": {"channel": channel, "instId": inst}, **more, "data": data}).encode()


def books(action, seq, previous, bids=(), asks=(), *, ts=MS, checksum=0, **more):
    level = [[*level, "0", "1"] for level in bids], [[*level, "0", "1"] for level in asks]
    data = {
        "asks": level[1],
        "bids": level[0],
        "ts": str(ts),
        "checksum": checksum,
        "prevSeqId": previous,
        "seqId": seq,
    }
    return on("books", data, action=action, **more)


def trades(*ids, ts=MS + 1, side="buy"):
    rows = [
        {"instId": "BTC-USDT", "tradeId": str(i), "px": "42219.9", "sz": "0.12", "side": side, "ts": str(ts)}
        for i in ids
    ]
    return on("trades", *rows)


SNAPSHOT = books("snapshot", 100, -1, [("8476.97", "256")], [("8476.98", "415"), ("8477", "7")])
LISTED = json.dumps(
    {
        "code": "0",
        "msg": "",
        "data": [
            {"instId": "BTC-USDT", "instType": "SPOT", "tickSz": "0.1", "lotSz": "0.00000001", "ctVal": ""},
            {"instId": "BTC-USD-SWAP", "instType": "SWAP", "tickSz": "0.1", "lotSz": "1", "ctVal": "100"},
            {"instId": "BTC-USD-260925", "instType": "FUTURES", "tickSz": "0.1", "lotSz": "1", "ctVal": "100"},
            {"instId": "BTC-USD-260925-60000-C", "instType": "OPTION", "tickSz": "0.0001", "lotSz": "1", "ctVal": "1"},
        ],
    }
).encode()
SAMPLES = [
    Samples(
        "okx",
        {
            "ack": b'{"event":"subscribe","arg":{"channel":"books","instId":"BTC-USDT"},"connId":"a4d3ae55"}',
            "pong": b"pong",
            "snapshot": SNAPSHOT,
            "update": books("update", 101, 100, [("8476.97", "0")]),
            "keep-alive": books("update", 101, 101),
            "ids restarted": books("update", 7, 101, [("8476.9", "3")]),
            "top": on(
                "books5", {"asks": [["1.5", "2", "0", "1"]], "bids": [], "ts": str(MS), "seqId": 9}, inst="X-USDT"
            ),
            "quote": on("bbo-tbt", {"asks": [["1.5", "2", "0", "1"]], "bids": [], "ts": str(MS), "seqId": 9}),
            "trades": trades(1, 2),
            "ticker": on("tickers", {"instId": "BTC-USDT", "last": "5.1", "askPx": "", "bidPx": "", "ts": str(MS)}),
            "mark": on(
                "mark-price", {"instType": "SWAP", "instId": "BTC-USDT-SWAP", "markPx": "42310.6", "ts": str(MS)}
            ),
            "index": on("index-tickers", {"instId": "BTC-USDT", "idxPx": "0.1", "ts": str(MS)}),
            "funding": on(
                "funding-rate",
                {
                    "fundingRate": "0.0001875",
                    "fundingTime": "1790006400000",
                    "instId": "BTC-USDT-SWAP",
                    "nextFundingRate": "",
                    "ts": str(MS),
                },
            ),
            "open interest": on(
                "open-interest", {"instId": "BTC-USDT-SWAP", "oi": "5000", "oiCcy": "5", "ts": str(MS)}
            ),
            "liquidation": json.dumps(
                {
                    "arg": {"channel": "liquidation-orders", "instType": "SWAP"},
                    "data": [
                        {
                            "instId": "BTC-USDT-SWAP",
                            "details": [
                                {"side": "buy", "posSide": "short", "bkPx": "0.00783", "sz": "13", "ts": str(MS)}
                            ],
                        }
                    ],
                }
            ).encode(),
            "candle": on("candle1m", [str(MS), "8533", "8553.74", "8527.1", "8548.2", "45247", "5.2", "429.1", "0"]),
        },
        instruments=[also(also(LISTED, "BTC-USDT", {"BTC": "X"}), "BTC-USD-SWAP", {"USD": "USDT"})],
        captures=("OKX.ws.1.0", "OKCOIN.ws.1.0"),
    ),
]


@pytest.fixture
def pipeline(log):
    return SAMPLES[0].pipeline(log)


# --- captures: older v5, without ids and with checksums -------------------------------------------


def test_golden_values_of_the_capture(captures):
    log, replay = replayed(captures, "OKX.ws.1.0")
    (pipeline,) = replay.pipelines
    assert (pipeline.books.verified, pipeline.books.mismatched, pipeline.books.gaps) == (290, 0, 0)
    found = tops(replay)
    assert found["BTC-USDT"] == ("30236.1 x 0.18050747", "30236.2 x 0.001", "400/400")
    assert found["UNI-USD-SWAP"] == ("5.137 x 20", "5.145 x 50", "125/118")
    assert len([d for d in log.deltas if d.instrument.raw_symbol == "BTC-USDT"]) == 98
    assert len([d for d in log.deltas if d.instrument.raw_symbol == "UNI-USD-SWAP"]) == 93
    assert (len(log.of(Ticker)), len(log.trades)) == (28, 74)
    bitcoin = [trade for trade in log.trades if trade.instrument.raw_symbol == "BTC-USDT"]
    volume = {
        side: sum((t.qty_decimal for t in bitcoin if t.side is side), Decimal(0)) for side in (Side.BUY, Side.SELL)
    }
    assert (len(bitcoin), volume) == (69, {Side.BUY: Decimal("2.99559276"), Side.SELL: Decimal("0.49098219")})


def test_the_capture_of_okcoin(captures):
    log, replay = replayed(captures, "OKCOIN.ws.1.0")
    assert [(p.books.verified, p.books.mismatched) for p in replay.pipelines] == [(6, 0)]
    assert len(log.of(Candle)) == 12


def test_a_trade_from_before_the_connection_is_backlog(captures):
    log, _ = replayed(captures, "OKX.ws.1.0")
    first = {}
    for trade in log.trades:
        first.setdefault(trade.instrument.raw_symbol, trade)
    assert first["BTC-USD-220527"].is_backlog  # 25 s before the subscription
    assert first["UNI-USD-SWAP"].is_backlog
    assert not log.trades[-1].is_backlog


# --- books ----------------------------------------------------------------------------------------


def test_a_checksum_that_is_not_the_books_costs_this_book_alone(pipeline, log):
    text = "8476.97:256:8476.98:415:8477:7"
    right = zlib.crc32(text.encode())
    right = right - 2**32 if right >= 2**31 else right  # signed
    pipeline.on_message(
        books("snapshot", -1, -1, [("8476.97", "256")], [("8476.98", "415"), ("8477", "7")], checksum=right), 1, True
    )
    pipeline.on_message(books("snapshot", -1, -1, [("1", "1")], inst="ETH-USDT"), 1, True)
    assert (pipeline.books.verified, pipeline.books.mismatched) == (1, 0)
    pipeline.on_message(books("update", -1, -1, [("8476.97", "255")], checksum=right), 1, True)
    assert (pipeline.books.verified, pipeline.books.mismatched) == (1, 1)
    assert [book.state for book in pipeline.books.books] == [BookState.GAP, BookState.LIVE]
    (request,) = pipeline.decoder.take_requests()
    assert request == Resubscribe(
        (
            b'{"op":"unsubscribe","args":[{"channel":"books","instId":"BTC-USDT"}]}',
            b'{"op":"subscribe","args":[{"channel":"books","instId":"BTC-USDT"}]}',
        ),
        "BTC-USDT",
    )
    pipeline.on_message(books("update", -1, -1, [("8476.97", "254")]), 1, True)  # still under way
    pipeline.on_message(SNAPSHOT, 1, True)
    assert pipeline.books.books[0].state is BookState.LIVE
    assert pipeline.decoder.take_requests() == ()


def test_a_checksum_of_0_is_none(pipeline):
    """Trap 7: the exchange has stopped to send it."""
    pipeline.on_message(SNAPSHOT, 1, True)
    pipeline.on_message(books("update", 101, 100, [("1", "1")], checksum=0), 1, True)
    assert (pipeline.books.verified, pipeline.books.mismatched) == (0, 0)


@pytest.mark.parametrize(
    ("seq", "previous", "state"), [(101, 100, "LIVE"), (100, 100, "LIVE"), (7, 100, "LIVE"), (102, 101, "GAP")]
)
def test_ids_are_compared_for_identity(pipeline, seq, previous, state):
    pipeline.on_message(SNAPSHOT, 1, True)
    pipeline.on_message(books("update", seq, previous, [("8000", "1")]), 1, True)
    assert pipeline.books.books[0].state.name == state


def test_without_a_snapshot_in_the_stream_one_is_fetched(pipeline):
    """Trap 8: the exchange has announced that the stream's first snapshot will end."""
    pipeline.on_message(books("update", 101, 100, [("8000", "1")]), 1, True)
    assert pipeline.decoder.take_requests() == [Fetch("/api/v5/market/books?instId=BTC-USDT&sz=400", "BTC-USDT")]
    pipeline.on_message(books("update", 105, 101, [("8001", "1")]), 1, True)
    book = {"asks": [["9000", "1", "0", "1"]], "bids": [["7000", "1", "0", "1"]], "ts": str(MS), "seqId": 103}
    pipeline.on_reply("BTC-USDT", json.dumps({"code": "0", "data": [book]}).encode(), 2)
    (kept,) = pipeline.books.books
    assert kept.state is BookState.LIVE
    assert [level.price for level in kept.bids()] == [8001.0, 7000.0]  # the first delta is in the snapshot


def test_a_snapshot_without_an_id_cannot_be_joined(pipeline):
    pipeline.on_message(books("update", 101, 100, [("8000", "1")]), 1, True)
    book = {"asks": [], "bids": [], "ts": str(MS)}
    pipeline.on_reply("BTC-USDT", json.dumps({"code": "0", "data": [book]}).encode(), 2)
    assert pipeline.problems["missing_field"].count == 1
    assert pipeline.books.books[0].state is BookState.SYNCING


# --- other events ---------------------------------------------------------------------------------


def test_trades_of_one_message_all_arrive():
    (one, two) = decoded("okx", trades(1, 2, side="sell")).trades
    assert (one.id, two.id, one.side, str(one.price_decimal), str(one.qty_decimal)) == (
        "1",
        "2",
        Side.SELL,
        "42219.9",
        "0.12",
    )
    assert one.ts_event == (MS + 1) * 1_000_000
    assert one.instrument.symbol == "BTC-USDT"


def test_an_unknown_side_is_a_problem_and_nothing_of_the_message_is_emitted(pipeline, log):
    pipeline.on_message(trades(1, side="hold"), 1, True)
    assert log.trades == []
    assert pipeline.problems["bad_value"].count == 1


def test_what_is_not_sent_is_none():
    log = decoded("okx", *SAMPLES[0].messages.values())
    (quote,) = log.quotes
    assert (quote.bid_decimal, quote.ask_price, quote.sequence) == (None, 1.5, 9)
    last, mark, index = log.of(Ticker)
    assert (last.last_price, last.mark_price, mark.mark_price_decimal, index.index_price) == (
        5.1,
        None,
        Decimal("42310.6"),
        0.1,
    )
    (funding,) = log.of(Funding)
    assert (str(funding.funding_rate_decimal), funding.next_funding_rate) == ("0.0001875", None)
    assert funding.next_funding_time == 1_790_006_400_000_000_000
    (interest,) = log.of(OpenInterest)
    assert interest.open_interest == 5000
    (liquidation,) = log.of(Liquidation)
    assert (liquidation.side, liquidation.price, liquidation.qty) == (Side.BUY, 0.00783, 13)
    (candle,) = log.of(Candle)
    assert (candle.interval, candle.is_closed, candle.close, candle.quote_volume) == (60, False, 8548.2, 429.1)


def test_liquidations_of_instruments_that_are_not_subscribed_are_no_problem():
    log = EventLog()
    decoder = OKX.new_decoder(Instruments(), log)
    decoder.decode(SAMPLES[0].messages["liquidation"], NOW)
    assert (log.events, decoder.silent) == ([], {"foreign": 1})


def test_refusals_and_notices_are_requests_and_status(pipeline, log):
    pipeline.on_message(b'{"event":"error","code":"60018","msg":"channel doesn\'t exist","connId":"1"}', 1, True)
    pipeline.on_message(b'{"event":"notice","code":"64008","msg":"service upgrade","connId":"1"}', 1, True)
    assert pipeline.decoder.take_requests() == [
        Refused("code 60018: channel doesn't exist"),
        Reconnect("notice 64008: service upgrade"),
    ]
    assert [status.status for status in log.feed_statuses] == ["refused", "shutdown"]


# --- subscribing ----------------------------------------------------------------------------------


def test_metadata():
    instruments = Instruments()
    assert OKX.load_instruments(LISTED, instruments) == []
    assert [(i.symbol, i.kind) for i in instruments] == [
        ("BTC-USDT", "spot"),
        ("BTC-USD-PERP", "perpetual"),
        ("BTC-USD-20260925", "future"),
        ("BTC-USD-20260925-60000-C", "option"),
    ]
    assert instruments.resolve("okx", "BTC-USD-PERP").contract_size == 100


def test_metadata_of_2022(captures):
    """The replies in the capture, as the exchange sent them."""
    instruments = Instruments()
    with gzip.open(captures / "exchanges" / "OKX.0.gz", "rb") as file:
        for line in file:
            if line.startswith(b"https"):
                assert OKX.load_instruments(line.partition(b": ")[2], instruments) == []
    assert len(instruments) > 1000
    assert instruments.resolve("okx", "BTC-USDT").price_decimals == 1


def test_fills_one_by_one_and_candles_are_on_another_socket():
    instruments = Instruments()
    OKX.load_instruments(LISTED, instruments)
    plans = OKX.plan([Subscription("BTC-USDT", ("book", "trade", "candle"))], instruments)
    assert [(plan.path, plan.subscribe) for plan in plans] == [
        ("/ws/v5/public", [b'{"op":"subscribe","args":[{"channel":"books","instId":"BTC-USDT"}]}']),
        (
            "/ws/v5/business",
            [
                b'{"op":"subscribe","args":[{"channel":"trades-all","instId":"BTC-USDT"},'
                b'{"channel":"candle1m","instId":"BTC-USDT"}]}'
            ],
        ),
    ]
    assert plans[0].heartbeat.message(0) == b"ping"
