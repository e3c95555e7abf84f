import gzip
import json
from decimal import Decimal

import pytest

from feeds.book import BookState
from feeds.decoder import Fetch, Refused, Resubscribe
from feeds.errors import DecodeError
from feeds.events import Candle, Funding, Side, Ticker
from feeds.exchange import exchange
from feeds.instrument import Instruments
from feeds.subscription import Subscription
from tests.feeds.exchanges.samples import NOW, Samples, also, decoded, replayed, tops

KUCOIN = exchange("kucoin")
MS = NOW // 1_000_000


def on(topic, data, subject="x"):
    return json.dumps({"type": "message", "topic": topic, "subject": subject, "data": data}).encode()


def update(first, last, bids=(), asks=(), *, name="BTC-USDT"):
    changes = {"asks": [list(a) for a in asks], "bids": [list(b) for b in bids]}
    data = {"sequenceStart": first, "sequenceEnd": last, "symbol": name, "time": MS, "changes": changes}
    return on(f"/market/level2:{name}", data, "trade.l2update")


def change(sequence, text, name="XBTUSDTM"):
    return on(f"/contractMarket/level2:{name}", {"sequence": sequence, "change": text, "timestamp": MS}, "level2")


def obu(kind, first, last, bids=(), dp="increment@10ms"):
    data = {"s": "ETHUSDTM", "O": first, "C": last, "M": NOW, "b": [list(b) for b in bids], "a": []}
    return json.dumps({"T": "obu.FUTURES", "dp": dp, "t": kind, "P": NOW, "d": data}).encode()


def reply(sequence, bids, **more):
    return json.dumps({"code": "200000", "data": {"sequence": sequence, "bids": bids, "asks": []} | more}).encode()


MATCH = {
    "symbol": "DAPPT-BTC",
    "sequence": "1612701563869",
    "side": "buy",
    "size": "81.8814",
    "price": "0.0000001117",
    "time": "1619378327739050725",
    "type": "match",
    "tradeId": "6085c09769bc506996295e36",
}
EXECUTION = {"symbol": "XBTUSDTM", "sequence": 1, "side": "sell", "size": 2, "price": "62550.4", "tradeId": "17"}
TICKER_V2 = {"bestBidPrice": "1.5", "bestBidSize": 2, "bestAskPrice": "1.6", "bestAskSize": 721}
CANDLES = ["1790000000", "1.5", "2", "3", "1", "125", "250"]
SPOT_LISTED = json.dumps(
    {
        "code": "200000",
        "data": [
            {
                "symbol": "BTC-USDT",
                "baseCurrency": "BTC",
                "quoteCurrency": "USDT",
                "priceIncrement": "0.1",
                "baseIncrement": "0.00000001",
            }
        ],
    }
).encode()
CONTRACT = {"baseCurrency": "XBT", "quoteCurrency": "USDT", "tickSize": 0.1, "lotSize": 1, "multiplier": 0.001}
LISTED = json.dumps(
    {
        "code": "200000",
        "data": [
            CONTRACT | {"symbol": "XBTUSDTM", "expireDate": None},
            CONTRACT | {"symbol": "XBTUSDM", "quoteCurrency": "USD", "multiplier": -1.0, "expireDate": None},
            CONTRACT | {"symbol": "XBTMU26", "quoteCurrency": "USD", "multiplier": -1.0, "expireDate": 1790323200000},
        ],
    }
).encode()
SAMPLES = [
    Samples(
        "kucoin",
        {
            "welcome": b'{"id":"feeds","type":"welcome"}',
            "ack": b'{"id":"1","type":"ack"}',
            "pong": b'{"id":"ping","type":"pong","timestamp":1790000000000000}',
            "update": update(101, 102, [("5", "1", "101")], [("0", "0", "102")]),
            "futures": change(18, "5000.0,sell,83"),
            "top": on(
                "/spotMarket/level2Depth5:A-USDT", {"asks": [["9989", "8"]], "bids": [], "timestamp": MS}, "level2"
            ),
            "quote": on("/spotMarket/level1:BTC-USDT", {"asks": ["1.6", "2"], "bids": [], "timestamp": MS}, "level1"),
            "quote of futures": on(
                "/contractMarket/tickerV2:XBTUSDTM", TICKER_V2 | {"symbol": "XBTUSDTM", "sequence": 7, "ts": NOW}
            ),
            "match": on("/market/match:DAPPT-BTC", MATCH, "trade.l3match"),
            "execution": on("/contractMarket/execution:XBTUSDTM", EXECUTION | {"ts": NOW + 1}, "match"),
            "ticker": on("/market/ticker:BTC-USDT", {"sequence": "1", "price": "0.5", "time": MS}, "trade.ticker"),
            "all tickers": on("/market/ticker:all", {"sequence": "1", "price": "0.5", "time": MS}, "BTC-USDT"),
            "candle": on(
                "/market/candles:BTC-USDT_1hour", {"symbol": "BTC-USDT", "candles": CANDLES, "time": NOW}, "add"
            ),
            "mark": on(
                "/contract/instrument:XBTUSDTM",
                {"granularity": 1000, "indexPrice": 4000.23, "markPrice": 4010.52, "timestamp": MS},
                "mark.index.price",
            ),
            "funding": on(
                "/contract/instrument:XBTUSDTM",
                {"granularity": 60000, "fundingRate": -0.002966, "timestamp": MS},
                "funding.rate",
            ),
            "ack of UTA": b'{"id":"p1","result":true}',
            "snapshot of UTA": obu("snapshot", 1, 100, [("86198", "166")]),
            "delta of UTA": obu("delta", 101, 105, [("86198", "0"), ("86190", "3")]),
            "quote of UTA": obu("snapshot", 105, 105, [("86190", "3")], dp="1"),
        },
        replies=[
            ("BTC-USDT", reply("101", [["4", "1"]], time=MS)),
            ("XBTUSDTM", reply(17, [[4999, 7]], ts=NOW)),
        ],
        instruments=[
            also(SPOT_LISTED, "BTC-USDT", {"BTC": "A"}, {"BTC": "DAPPT", "USDT": "BTC"}),
            also(LISTED, "XBTUSDTM", {"XBT": "ETH"}),
        ],
        captures=("KUCOIN.ws.1.0",),
    ),
]


@pytest.fixture
def pipeline(log):
    return SAMPLES[0].pipeline(log)


# --- capture --------------------------------------------------------------------------------------


def test_golden_values_of_the_capture(captures):
    log, replay = replayed(captures, "KUCOIN.ws.1.0")
    found = tops(replay)
    assert found["BCHSV-USDT"] == ("243.216 x 4.51280965", "243.457 x 4.51280965", "179/392")
    assert found["CAPP-BTC"] == ("0.0000002181 x 83.07", "0.0000002195 x 270.17", "260/1421")
    last = {delta.instrument.raw_symbol: delta.last_id for delta in log.deltas}
    assert (last["BCHSV-USDT"], last["CAPP-BTC"]) == (1613277186234, 1612694580232)
    updates = [delta.instrument.raw_symbol for delta in log.deltas if not delta.is_snapshot]
    assert (updates.count("BCHSV-USDT"), updates.count("CAPP-BTC")) == (2342 + 19, 92 + 1)  # applied, dropped
    assert (len(updates), len(log.of(Ticker)), len(log.trades), len(log.of(Candle))) == (3853, 830, 18, 6)
    for name, count, buys, sells in (
        ("DAPPT-BTC", 12, "3799.1984", "0"),
        ("BCHSV-USDT", 5, "4.51280965", "5.14324938"),
    ):
        trades = [trade for trade in log.trades if trade.instrument.raw_symbol == name]
        volume = [sum((t.qty_decimal for t in trades if t.side is side), Decimal(0)) for side in (Side.BUY, Side.SELL)]
        assert (len(trades), volume) == (count, [Decimal(buys), Decimal(sells)])


def test_the_last_tickers_of_the_capture_are_the_tops_of_the_books(captures):
    """The best bid and offer of `ticker`, which are no quotes of ours, are those of the books: 9 of 9."""
    last = {}
    with gzip.open(captures / "exchanges" / "KUCOIN.ws.1.0.gz", "rt") as file:
        for line in file:
            if '"subject":"trade.ticker"' in line:
                message = json.loads(line.partition(": ")[2])
                last[message["topic"].partition(":")[2]] = message["data"]
    books = tops(replayed(captures, "KUCOIN.ws.1.0")[1])
    assert len(books) == 9
    for name, (bid, ask, _) in books.items():
        for top, side in ((bid, "bestBid"), (ask, "bestAsk")):
            price, qty = top.split(" x ")
            assert (Decimal(price), Decimal(qty)) == (Decimal(last[name][side]), Decimal(last[name][side + "Size"]))


# --- books ----------------------------------------------------------------------------------------


def test_a_price_of_0_is_a_filler_that_moves_the_sequence_on(pipeline):
    """Trap 15."""
    pipeline.on_message(update(101, 101, [("5", "1", "101")]), 1, True)
    url = "/api/v1/market/orderbook/level2_100?symbol=BTC-USDT"
    assert pipeline.decoder.take_requests() == [Fetch(url, "BTC-USDT")]
    assert KUCOIN.reply_tag("https://api.kucoin.com" + url) == "BTC-USDT"
    pipeline.on_reply("BTC-USDT", reply("100", [["4", "1"]], time=MS), 2)
    pipeline.on_message(update(102, 102, asks=[("0", "0", "102")]), 3, True)
    pipeline.on_message(update(103, 103, [("4", "0", "103")]), 3, True)
    (book,) = pipeline.books.books
    assert (book.state, [level.price for level in book.bids()], list(book.asks())) == (BookState.LIVE, [5.0], [])
    pipeline.on_message(update(105, 105), 3, True)
    assert book.state is BookState.GAP


def test_futures_send_one_level_a_message(pipeline):
    pipeline.on_message(change(18, "5000.0,sell,83"), 1, True)
    url = "https://api-futures.kucoin.com/api/v1/level2/snapshot?symbol=XBTUSDTM"
    assert pipeline.decoder.take_requests() == [Fetch(url, "XBTUSDTM")]
    assert KUCOIN.reply_tag(url) == "XBTUSDTM"
    pipeline.on_reply("XBTUSDTM", reply(17, [[4999, 7]], ts=NOW), 2)
    pipeline.on_message(change(19, "4999,buy,0"), 3, True)
    (book,) = pipeline.books.books
    assert (book.state, list(book.bids()), [(level.price, level.qty) for level in book.asks()]) == (
        BookState.LIVE,
        [],
        [(5000.0, 83.0)],
    )


@pytest.mark.parametrize("answer", [reply(17, []), b'{"code":"400100","msg":"no"}'])
def test_an_empty_snapshot_is_none(pipeline, answer):
    pipeline.on_message(change(18, "5000.0,sell,83"), 1, True)
    pipeline.on_reply("XBTUSDTM", answer, 2)
    assert pipeline.problems["unknown_reply"].count == 1
    assert pipeline.books.books[0].state is BookState.SYNCING


def test_books_of_uta_subscribe_anew(pipeline):
    pipeline.on_message(obu("snapshot", 1, 100, [("86198", "166")]), 1, True)
    pipeline.on_message(obu("delta", 101, 105, [("86198", "0")]), 1, True)
    (book,) = pipeline.books.books
    assert (book.state, list(book.bids())) == (BookState.LIVE, [])
    pipeline.on_message(obu("delta", 107, 108), 1, True)
    assert book.state is BookState.GAP
    (request,) = pipeline.decoder.take_requests()
    assert isinstance(request, Resubscribe)
    assert json.loads(request.messages[1]) == {
        "id": "ETHUSDTM",
        "action": "SUBSCRIBE",
        "channel": "obu",
        "tradeType": "FUTURES",
        "symbol": "ETHUSDTM",
        "depth": "increment@10ms",
    }


# --- other events ---------------------------------------------------------------------------------


def test_events():
    log = decoded("kucoin", *SAMPLES[0].messages.values())
    spot, futures, uta = log.quotes
    assert (spot.bid_decimal, spot.ask_price, spot.ask_qty) == (None, 1.6, 2.0)
    assert (futures.bid_price, futures.bid_qty, futures.ask_qty, futures.sequence) == (1.5, 2, 721, 7)
    assert (uta.bid_price, uta.sequence, uta.ts_event) == (86190, 105, NOW)
    match, execution = log.trades
    assert (match.id, match.side, match.ts_event) == (MATCH["tradeId"], Side.BUY, 1_619_378_327_739_050_725)
    assert (match.price_decimal, match.qty_decimal) == (Decimal("0.0000001117"), Decimal("81.8814"))
    assert (execution.side, execution.qty, execution.ts_event) == (Side.SELL, 2, NOW + 1)  # trap 13
    assert [t.last_price for t in log.of(Ticker)] == [0.5, 0.5, None]
    assert (log.of(Ticker)[2].mark_price, log.of(Ticker)[2].index_price) == (4010.52, 4000.23)
    (funding,) = log.of(Funding)
    assert str(funding.funding_rate_decimal) == "-0.002966"
    (candle,) = log.of(Candle)
    assert (candle.interval, candle.open, candle.close, candle.high, candle.low) == (3600, 1.5, 2, 3, 1)
    assert (candle.volume, candle.quote_volume) == (125, 250)


def test_refusals(pipeline):
    pipeline.on_message(b'{"id":"1","type":"error","code":404,"data":"topic /x is not found"}', 1, True)
    pipeline.on_message(b'{"id":"p18","result":false,"message":"invalid request data"}', 1, True)
    assert pipeline.decoder.take_requests() == [
        Refused('code 404: "topic /x is not found"'),
        Refused("invalid request data"),
    ]


# --- subscribing ----------------------------------------------------------------------------------


def test_metadata():
    instruments = Instruments()
    KUCOIN.load_instruments(SPOT_LISTED, instruments)
    KUCOIN.load_instruments(LISTED, instruments)
    assert [(i.symbol, i.kind, str(i.contract_size)) for i in instruments] == [
        ("BTC-USDT", "spot", "None"),
        ("BTC-USDT-PERP", "perpetual", "0.001"),
        ("BTC-USD-PERP", "perpetual", "1.0"),
        ("BTC-USD-20260925", "future", "1.0"),
    ]


def test_metadata_of_2021(captures):
    instruments = Instruments()
    with gzip.open(captures / "exchanges" / "KUCOIN.0.gz", "rb") as file:
        (line,) = (line for line in file if line.startswith(b"https"))
    assert KUCOIN.load_instruments(line.partition(b": ")[2], instruments) == []
    assert instruments.resolve("kucoin", "BSV-USDT").raw_symbol == "BCHSV-USDT"


def test_connections_need_a_token_and_wait_for_the_welcome():
    instruments = Instruments()
    KUCOIN.load_instruments(SPOT_LISTED, instruments)
    KUCOIN.load_instruments(LISTED, instruments)
    wanted = [Subscription("BTC-USDT", ("book", "trade")), Subscription("BTC-USDT-PERP", ("ticker", "funding"))]
    spot, futures = KUCOIN.plan(wanted, instruments)
    assert [json.loads(message)["topic"] for message in spot.subscribe] == [
        "/market/level2:BTC-USDT",
        "/market/match:BTC-USDT",
    ]
    assert [json.loads(message)["topic"] for message in futures.subscribe] == ["/contract/instrument:XBTUSDTM"]
    assert (spot.awaits_greeting, spot.ticket.url) == (True, "/api/v1/bullet-public")
    assert futures.ticket.url == "https://api-futures.kucoin.com/api/v1/bullet-public"
    token = (
        b'{"code":"200000","data":{"token":"2neA","instanceServers":[{"endpoint":"wss://ws-api-spot.kucoin.com/"}]}}'
    )
    assert KUCOIN.ticket_url(spot, token) == "wss://ws-api-spot.kucoin.com/?token=2neA&connectId=feeds"
    for bad in (b"", b'{"data":{"token":"2neA","instanceServers":[]}}'):
        with pytest.raises(DecodeError):
            KUCOIN.ticket_url(spot, bad)
    assert spot.heartbeat.interval == 18.0  # trap 11
