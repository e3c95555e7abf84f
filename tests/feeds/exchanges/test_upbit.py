import json
from collections import Counter
from decimal import Decimal

import pytest

from feeds.book import BookState
from feeds.decoder import Refused
from feeds.errors import DecodeError
from feeds.events import Candle, Side, Ticker
from feeds.exchange import exchange
from feeds.instrument import Instruments
from feeds.subscription import Subscription
from feeds.times import iso_ns
from tests.feeds.exchanges.samples import NOW, Samples, decoded, replayed, tops

UPBIT = exchange("upbit")
BOOK = (
    b'{"type":"orderbook","code":"KRW-BTC","timestamp":1790134742106,"total_ask_size":2.51469375,"total_bid_size":1.63,'
    b'"orderbook_units":[{"ask_price":1.16539E8,"bid_price":1.16538E8,"ask_size":7.9276E-4,"bid_size":0.08120946},'
    b'{"ask_price":1.1654E8,"bid_price":0,"ask_size":6E-8,"bid_size":0}],"stream_type":"SNAPSHOT","level":0}'
)
TRADE = (
    b'{"type":"trade","code":"KRW-DOGE","timestamp":1614729599905,"trade_date":"2021-03-02","trade_time":"23:59:59",'
    b'"trade_timestamp":1614729599000,"trade_price":58.4,"trade_volume":836.12040133,"ask_bid":"ASK",'
    b'"prev_closing_price":57.5,"change":"RISE","change_price":0.9,"sequential_id":17901347421060001,'
    b'"stream_type":"REALTIME"}'
)
SAMPLES = [
    Samples(
        "upbit",
        {
            "status": b'{"status":"UP"}',
            "book": BOOK,
            "simple book": b'{"ty":"orderbook","cd":"KRW-BTC","tms":1790134742206,"obu":[{"ap":127.0,'
            b'"bp":126.0,"as":280460.37885666,"bs":688682.44561413}],"st":"REALTIME","lv":0}',
            "trade": TRADE,
            "backlog": TRADE.replace(b"REALTIME", b"SNAPSHOT"),
            "simple trade": b'{"ty":"trade","cd":"KRW-LAMB","tms":1618678262712,"td":"2021-04-17","ttm":"16:51:02",'
            b'"ttms":1618678262000,"tp":127.0,"tv":46.48838371,"ab":"BID","sid":1618678262000003,"st":"REALTIME"}',
            "ticker": b'{"type":"ticker","code":"KRW-BTC","opening_price":1.15E8,"trade_price":1.16538E8,'
            b'"market_state":"ACTIVE","delisting_date":null,"timestamp":1790134742106,"stream_type":"REALTIME"}',
            "simple ticker": b'{"ty":"ticker","cd":"KRW-BTC","op":1.15E8,"tp":116539000,"tms":1790134742106}',
            "candle": b'{"type":"candle.1m","code":"KRW-BTC","candle_date_time_utc":"2026-09-21T04:28:00",'
            b'"candle_date_time_kst":"2026-09-21T13:28:00","opening_price":1.16E8,"high_price":1.17E8,"low_price":1.15E8,'
            b'"trade_price":1.165E8,"candle_acc_trade_volume":0.5,"candle_acc_trade_price":58250000.5,'
            b'"timestamp":1790134742106,"stream_type":"REALTIME"}',
            "simple candle": b'{"ty":"candle.1s","cd":"KRW-BTC","cdttmu":"2026-09-21T04:28:00","op":1,"hp":3,"lp":0.5,'
            b'"tp":2,"catv":0.5,"catp":1.5,"tms":1790134742106,"st":"REALTIME"}',
            "list": b"[" + TRADE + b"," + BOOK + b"]",
        },
        instruments=[
            b'[{"market":"KRW-BTC","english_name":"Bitcoin"},{"market":"BTC-ETH"},{"market":"USDT-BTC"},'
            b'{"market":"KRW-DOGE"},{"market":"KRW-LAMB"}]'
        ],
        captures=("UPBIT.ws.62.0",),
    )
]


def test_golden_values(captures):
    log, replay = replayed(captures, "UPBIT.ws.62.0")
    assert tops(replay)["KRW-LAMB"] == ("126 x 117747.52669229", "127 x 486822.22877673", "15/15")
    assert [d.ts_event for d in log.deltas if d.instrument.raw_symbol == "KRW-LAMB"][-1] == 1618678292092 * 10**6
    assert Counter(delta.depth for delta in log.deltas) == {15: 145}
    ids = Counter(trade.id for trade in log.trades)
    assert (len(log.trades), sum(ids.values()) - len(ids)) == (304, 3)  # repeated only among instruments
    assert not any(trade.is_backlog for trade in log.trades)
    assert {book.state for book in replay.pipelines[0].books.books} == {BookState.LIVE}


def test_numbers_with_exponents_and_padding():
    """Traps 14 and 15."""
    (delta,) = decoded("upbit", BOOK).deltas
    assert delta.bids == [(116538000, Decimal("0.08120946"))]
    assert delta.asks == [(116539000, Decimal("0.00079276")), (116540000, Decimal("0.00000006"))]
    assert (delta.is_snapshot, delta.depth, delta.ts_event) == (True, 2, 1790134742106 * 10**6)


def test_every_book_replaces_the_one_before(log):
    pipeline = SAMPLES[0].pipeline(log)
    for name in ("book", "simple book"):
        pipeline.on_message(SAMPLES[0].messages[name], NOW, True)
    (book,) = pipeline.books.books
    assert (book.best_bid.price, book.best_ask.price, book.bid_count, book.ask_count) == (126, 127, 1, 1)
    assert not pipeline.decoder.has_requests


def test_times_in_microseconds_are_told_by_their_size():
    (delta,) = decoded("upbit", BOOK.replace(b"1790134742106", b"1790134742106514")).deltas
    assert delta.ts_event == 1790134742106514 * 1000


def test_trades():
    """Traps 13 and 17."""
    messages = SAMPLES[0].messages
    live, backlog, simple = decoded("upbit", messages["trade"], messages["backlog"], messages["simple trade"]).trades
    assert (live.side, live.price, str(live.qty_decimal), live.id) == (
        Side.SELL,
        58.4,
        "836.12040133",
        "17901347421060001",
    )
    assert (live.is_backlog, backlog.is_backlog, live.ts_event) == (False, True, 1614729599 * 10**9)
    assert (simple.side, simple.price, simple.id) == (Side.BUY, 127, "1618678262000003")


def test_tickers_and_candles():
    messages = SAMPLES[0].messages
    names = ("ticker", "simple ticker", "candle", "simple candle")
    log = decoded("upbit", *(messages[name] for name in names))
    assert [(t.last_price, t.mark_price, t.ts_event) for t in log.of(Ticker)] == [
        (116538000, None, 1790134742106 * 10**6),
        (116539000, None, 1790134742106 * 10**6),
    ]
    long, simple = log.of(Candle)
    assert (long.ts_open, long.interval, long.is_closed) == (iso_ns("2026-09-21T04:28:00Z"), 60, None)
    assert (long.open, long.high, long.low, long.close, long.volume, long.quote_volume) == (
        116e6, 117e6, 115e6, 116.5e6, 0.5, 58250000.5
    )  # fmt: skip
    assert (simple.interval, simple.open, simple.high, simple.low, simple.close) == (1, 1, 3, 0.5, 2)


def test_refusals_and_what_is_unknown(log):
    pipeline = SAMPLES[0].pipeline(log)
    pipeline.on_message(b'{"error":{"name":"NO_TICKET","message":"x"}}', NOW, True)
    assert pipeline.decoder.take_requests() == [Refused("NO_TICKET: x")]
    for payload in (b'{"type":"myOrder","code":"KRW-BTC"}', b'{"status":"DOWN"}'):
        with pytest.raises(DecodeError, match="expected a known type"):
            pipeline.decoder.decode(payload, NOW)


def test_all_subscriptions_of_a_connection_are_one_message():
    instruments = Instruments()
    assert UPBIT.load_instruments(SAMPLES[0].instruments[0], instruments) == []
    assert [(i.raw_symbol, i.symbol, i.kind) for i in instruments] == [
        ("KRW-BTC", "BTC-KRW", "spot"),
        ("BTC-ETH", "ETH-BTC", "spot"),
        ("USDT-BTC", "BTC-USDT", "spot"),
        ("KRW-DOGE", "DOGE-KRW", "spot"),
        ("KRW-LAMB", "LAMB-KRW", "spot"),
    ]
    subscriptions = [Subscription(name, ("book", "trade", "candle")) for name in ("BTC-KRW", "ETH-BTC")]
    (plan,) = UPBIT.plan(subscriptions, instruments)
    (message,) = plan.subscribe
    ticket, *kinds = json.loads(message)
    assert ticket.keys() == {"ticket"}
    assert kinds == [
        {"type": "orderbook", "codes": ["KRW-BTC", "BTC-ETH"]},
        {"type": "trade", "codes": ["KRW-BTC", "BTC-ETH"]},
        {"type": "candle.1m", "codes": ["KRW-BTC", "BTC-ETH"]},
        {"format": "DEFAULT"},
    ]
    assert plan.heartbeat.message(NOW) == b"PING"
    again = UPBIT.plan(subscriptions, instruments)[0].subscribe[0]
    assert json.loads(again)[0] != ticket  # each connection has a ticket of its own
