import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feeds.book import BookState
from feeds.conflation import POLICIES, Conflator, conflated
from feeds.events import BookUpdate, EventHandler, Funding, Quote, Ticker, Trade
from feeds.instrument import Instruments
from feeds.testing import EventLog
from tests.feeds.conftest import pipeline_of
from tests.feeds.messages import T, book_ticker, depth, snapshot, trade


def conflating(log, exchange_id="binance-futures"):
    pipeline = pipeline_of(exchange_id, log, conflate=True)
    return pipeline, pipeline.books.downstream


def test_a_burst_of_a_thousand_makes_one_call_a_kind_and_a_receipt(log):
    pipeline, conflator = conflating(log)
    for symbol in ("BTCUSDT", "ETHUSDT"):
        pipeline.on_reply(symbol, snapshot(1, [("100", "1")], [("101", "1")]), 1)
    log.clear()
    for n in range(1, 1001):
        for symbol in ("BTCUSDT", "ETHUSDT"):
            pipeline.on_message(depth(n + 1, n + 1, [("100", f"{n}")], previous=n, symbol=symbol, time=T + n), 2, False)
            last = n == 1000 and symbol == "ETHUSDT"
            pipeline.on_message(book_ticker(bid_qty=f"{n}", u=n, symbol=symbol, time=T + n), 2, last)
    assert [(type(e), e.instrument.raw_symbol, e.merged) for e in log.events if type(e) in (BookUpdate, Quote)] == [
        (BookUpdate, "BTCUSDT", 1000),
        (Quote, "BTCUSDT", 1000),
        (BookUpdate, "ETHUSDT", 1000),
        (Quote, "ETHUSDT", 1000),
    ]
    for event in (*log.quotes, *log.updates):
        assert (event.ts_event_first, event.ts_event) == ((T + 1) * 10**6, (T + 1000) * 10**6)
    assert [quote.bid_qty for quote in log.quotes] == [1000.0, 1000.0]
    assert log.tops == [((100.0, 1000.0), (101.0, 1.0))] * 2
    assert log.batch_ends == [2]
    assert (conflator.quotes_in, conflator.quotes_out, conflator.books_in, conflator.books_out) == (2000, 2, 2002, 4)
    assert conflator.books_withheld == 0


def test_trades_deltas_and_status_come_at_once_and_in_order_and_books_before_quotes_at_the_end(log):
    pipeline, conflator = conflating(log)
    pipeline.on_reply("BTCUSDT", snapshot(1, [("100", "1")], [("101", "1")]), 1)
    log.clear()
    pipeline.on_message(book_ticker(u=1, time=T), 2, False)
    pipeline.on_message(trade(t=1), 2, False)
    pipeline.on_message(depth(2, 2, [("99", "1")], previous=1), 2, False)
    pipeline.on_message(trade(t=2), 2, False)
    assert [type(e).__name__ for e in log.events] == ["Trade", "BookDelta", "Trade"]
    pipeline.on_message(trade(t=3), 2, True)
    assert [type(e).__name__ for e in log.events[3:]] == ["Trade", "BookUpdate", "Quote"]
    assert [t.id for t in log.trades] == ["1", "2", "3"]
    assert (conflator.trades, conflator.batches) == (3, 2)


def test_instruments_follow_in_the_order_in_which_they_first_changed(log):
    pipeline, _ = conflating(log)
    for symbol in "CABA":
        pipeline.on_message(book_ticker(symbol=symbol, time=T), 1, False)
    pipeline.on_tick(2)
    assert [q.instrument.raw_symbol for q in log.quotes] == ["C", "A", "B"]


def test_an_empty_batch_brings_nothing_but_its_end(log):
    pipeline, _ = conflating(log)
    pipeline.on_message(book_ticker(time=T), 1, True)
    pipeline.on_tick(2)
    assert (len(log.quotes), log.batch_ends) == (1, [1, 2])


def test_a_book_that_is_not_live_at_the_end_is_withheld_and_counted(log):
    pipeline, conflator = conflating(log)
    pipeline.on_reply("BTCUSDT", snapshot(1, [("100", "1")], [("101", "1")]), 1)
    log.clear()
    pipeline.on_message(depth(2, 2, [("99", "1")], previous=1), 2, False)
    pipeline.on_message(depth(3, 3, [("99", "2")], previous=2), 2, False)
    pipeline.on_message(depth(9, 9, [("99", "3")], previous=8), 2, True)
    assert log.updates == []
    assert log.book_statuses[-1].new is BookState.GAP
    assert (conflator.books_in, conflator.books_out, conflator.books_withheld) == (3, 1, 2)


def test_a_missing_event_time_is_not_the_first(log):
    conflator = Conflator(log)
    pipeline, _ = conflating(log)
    pipeline.on_message(book_ticker(time=T), 1, False)
    instrument = pipeline.decoder.instruments.find("binance-futures", "BTCUSDT")
    for ts_event in (0, 5, 6):
        conflator.on_quote(Quote(instrument, ts_event=ts_event))
    conflator.on_batch_end(1)
    assert (log.quotes[0].ts_event_first, log.quotes[0].ts_event, log.quotes[0].merged) == (5, 6, 3)


def test_a_kept_event_is_not_used_for_the_next_batch(log):
    pipeline, _ = conflating(log)
    for n in range(3):
        pipeline.on_message(book_ticker(bid_qty=str(n), time=T), n, True)
    assert [quote.bid_qty for quote in log.quotes] == [None, 1.0, 2.0]


def test_a_handler_that_raises_ends_the_batch_for_all(log):
    class Once(EventHandler):
        def __init__(self):
            self.quotes = []

        def on_quote(self, event):
            self.quotes.append(event)
            if len(self.quotes) == 1:
                raise KeyError("mine")

    handler = Once()
    pipeline, conflator = conflating(handler)
    pipeline.on_message(book_ticker(symbol="A", time=T), 1, False)
    with pytest.raises(KeyError, match="mine"):
        pipeline.on_message(book_ticker(symbol="B", time=T), 1, True)
    pipeline.on_message(book_ticker(symbol="A", time=T), 2, True)
    assert [(q.instrument.raw_symbol, q.merged) for q in handler.quotes] == [("A", 1), ("A", 1)]
    assert conflator.quotes_in == 3


def test_a_handler_may_end_a_batch_itself(log):
    class Impatient(EventLog):
        def on_quote(self, event):
            super().on_quote(event)
            conflator.on_batch_end(9)

    handler = Impatient()
    pipeline, conflator = conflating(handler)
    for symbol in "ABC":
        pipeline.on_message(book_ticker(symbol=symbol, time=T), 1, symbol == "C")
    assert [q.instrument.raw_symbol for q in handler.quotes] == ["A", "B", "C"]


def test_policies():
    log = EventLog()
    assert POLICIES == ("batch", "none")
    assert conflated(log, "none") is log
    assert type(conflated(log)) is Conflator
    with pytest.raises(ValueError, match="expected a conflation policy among batch, none, found 'all'"):
        conflated(log, "all")


# --- any cutting ----------------------------------------------------------------------------------

KINDS = st.sampled_from(["delta", "delta", "far", "gap", "cross", "uncross", "quote", "trade", "snapshot", "twice"])


def messages_of(steps):
    """Messages for two symbols, with gaps, crossings, doubles and snapshots; (kind, bytes or symbol and bytes)."""
    last = {"A": 10, "B": 10}
    made = [("reply", symbol, snapshot(10, [("100", "1")], [("101", "1")])) for symbol in "AB"]
    for n, (symbol, kind) in enumerate(steps):
        u = last[symbol]
        if kind == "quote":
            made.append(("message", None, book_ticker(bid_qty=f"0.{n + 1}", symbol=symbol)))
        elif kind == "trade":
            made.append(("message", None, trade(symbol=symbol, t=n)))
        elif kind == "snapshot":
            made.append(("reply", symbol, snapshot(u, [("100", f"{n + 1}")], [("101", "1")])))
        elif kind == "twice":
            made.append(("message", None, depth(u, u, [("1", "1")], symbol=symbol)))
        else:
            first = u + 2 if kind == "gap" else u + 1
            bids = {"far": [(f"0.{n + 1}", "1")], "cross": [("105", "1")], "uncross": [("105", "0")]}
            made.append(("message", None, depth(first, first, bids.get(kind, [("99", f"{n + 1}")]), symbol=symbol)))
            last[symbol] = first
    return made


def play(made, ends):
    log = EventLog()
    pipeline, conflator = conflating(log, "binance")
    for n, (kind, symbol, payload) in enumerate(made):
        if kind == "reply":
            pipeline.on_reply(symbol, payload, n)
        else:
            pipeline.on_message(payload, n, n in ends)
    pipeline.on_tick(len(made))
    return {
        "books": [(b.state, b.exact(0), b.exact(1), b.last_id) for b in pipeline.books.books],
        "trades": [(t.instrument.raw_symbol, t._fields()[1:]) for t in log.trades],
        "statuses": [(s.instrument.raw_symbol, s._fields()[1:]) for s in log.book_statuses],
        "quotes": {s: sum(q.merged for q in log.quotes if q.instrument.raw_symbol == s) for s in "AB"},
        "books merged": sum(u.merged for u in log.updates) + conflator.books_withheld,
        "newest quote": {q.instrument.raw_symbol: q.bid_decimal for q in log.quotes},
    }, log


@settings(max_examples=100)
@given(st.lists(st.tuples(st.sampled_from("AB"), KINDS), max_size=30), st.data())
def test_any_cutting_into_batches_ends_the_same(steps, data):
    made = messages_of(steps)
    ends = data.draw(st.sets(st.integers(0, len(made))))
    whole, _ = play(made, set())
    every, log = play(made, set(range(len(made))))
    cut, _ = play(made, ends)
    assert whole == every == cut
    assert sum(q.merged for q in log.quotes) == sum(kind == "quote" for _, kind in steps)
    assert [type(e) for e in log.trades] == [Trade] * sum(kind == "trade" for _, kind in steps)


def test_of_tickers_the_newest_of_each_field_is_delivered(log):
    one = Instruments().add("x", "A")
    conflator = Conflator(log)
    conflator.on_ticker(Ticker(one, last_price="1", ts_event=10))
    conflator.on_ticker(Ticker(one, mark_price="2.5", next_funding_time=9, ts_event=11))
    conflator.on_funding(Funding(one, funding_rate="0.1"))  # passes at once
    conflator.on_ticker(Ticker(one, last_price="3", ts_event=12))
    assert [type(event) for event in log.events] == [Funding]
    conflator.on_batch_end(1)
    (ticker,) = log.of(Ticker)
    assert (ticker.last_price, ticker.mark_price, ticker.index_price, ticker.next_funding_time) == (3, 2.5, None, 9)
    assert (ticker.merged, ticker.ts_event_first, ticker.ts_event) == (3, 10, 12)
    conflator.on_ticker(Ticker(one, index_price="7", ts_event=13))  # of the next batch: nothing of the last is repeated
    conflator.on_batch_end(2)
    assert [(t.last_price, t.index_price, t.merged) for t in log.of(Ticker)] == [(3, None, 3), (None, 7, 1)]
    assert (conflator.tickers_in, conflator.tickers_out) == (4, 2)
