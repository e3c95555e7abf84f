"""Conflation before decoding: what is skipped changes nothing that a conflating handler is told at the batch's end."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feeds.book import BookState
from feeds.errors import DecodeError
from feeds.events import BookUpdate, EventHandler, Quote
from feeds.testing import EventLog
from tests.feeds.conftest import pipeline_of
from tests.feeds.messages import T, book_ticker, depth, partial, snapshot, trade


def skipping(log, exchange_id="binance-futures", **options):
    return pipeline_of(exchange_id, log, conflate=True, skip_superseded=True, **options)


def warmed(log, exchange_id="binance-futures", **options):
    """A pipeline that knows the streams of A and B: the first message of a stream has no route yet."""
    pipeline = skipping(log, exchange_id, **options)
    for symbol in "AB":
        pipeline.on_message(book_ticker(symbol=symbol, time=T), 1, True)
        pipeline.on_message(partial(1, [("100", "1")], [("101", "1")], symbol=f"{symbol}TOP"), 1, True)
    log.clear()
    return pipeline


def test_of_a_burst_the_first_and_the_newest_are_decoded(log):
    pipeline = warmed(log)
    before = pipeline.decoder.scanned + pipeline.decoder.referred
    for n in range(1000):
        pipeline.on_message(book_ticker(bid_qty=f"{n + 1}", symbol="A", u=n, time=T + n), 2, n == 999)
    (quote,) = log.quotes
    assert (quote.bid_qty, quote.sequence, quote.merged) == (1000.0, 999, 1000)
    assert (quote.ts_event_first, quote.ts_event) == (T * 10**6, (T + 999) * 10**6)
    assert pipeline.superseded == 998
    assert pipeline.decoder.scanned + pipeline.decoder.referred - before == 2
    assert pipeline.messages == 1004


def test_a_pipeline_skips_nothing_unless_it_is_told_to(log):
    pipeline = pipeline_of("binance-futures", log)
    for n in range(10):
        pipeline.on_message(book_ticker(u=n, time=T), 1, n == 9)
    assert [quote.sequence for quote in log.quotes] == list(range(10))
    assert (pipeline.skip_superseded, pipeline.superseded) == (False, 0)


def test_trades_pass_at_once_between_messages_that_are_held(log):
    pipeline = warmed(log)
    for n in range(5):
        pipeline.on_message(book_ticker(symbol="A", u=n, time=T), 2, False)
        pipeline.on_message(trade(t=n, symbol="A"), 2, False)
        assert [event.id for event in log.trades] == [str(k) for k in range(n + 1)]
    pipeline.on_message(depth(2, 2, symbol="A", previous=1), 2, True)
    assert [(q.sequence, q.merged) for q in log.quotes] == [(4, 5)]
    assert pipeline.superseded == 3


def test_top_snapshots_supersede_each_other_and_the_book_is_the_newest(log):
    pipeline = warmed(log, "binance")
    for n in range(20):
        pipeline.on_message(partial(n + 2, [("100", f"{n + 1}")], [("101", "1")], symbol="ATOP"), 2, n == 19)
    (update,) = log.updates
    assert (update.merged, log.tops) == (20, [((100.0, 20.0), (101.0, 1.0))])
    assert [(delta.last_id, delta.merged) for delta in log.deltas] == [(2, 1), (21, 19)]
    assert pipeline.superseded == 18


def test_messages_of_books_keep_their_order(log):
    pipeline = warmed(log, "binance")
    for n in range(3):
        pipeline.on_message(partial(n + 2, [("100", "1")], [("101", "1")], symbol="ATOP"), 2, False)
    pipeline.on_message(depth(9, 9, symbol="ATOP"), 2, False)
    assert [delta.last_id for delta in log.deltas] == [2, 4, 9]
    assert log.book_statuses[-1].new is BookState.SYNCING


def test_where_the_newest_cannot_be_decoded_the_one_before_it_counts(log):
    pipeline = warmed(log)
    for n in range(4):
        pipeline.on_message(book_ticker(symbol="A", u=n, time=T), 2, False)
    for bid in ("x", "y"):
        pipeline.on_message(book_ticker(bid, symbol="A", u=9, time=T), 2, bid == "y")
    assert [(q.sequence, q.merged) for q in log.quotes] == [(3, 4)]
    assert pipeline.problems["bad_value"].count == 2
    assert pipeline.superseded == 2


def test_a_message_that_does_not_look_whole_is_not_skipped(log):
    pipeline = warmed(log)
    good = [book_ticker(symbol="A", u=n, time=T) for n in range(6)]
    for payload in (good[0], good[1], good[2], good[3][:-20], good[4], good[5] + b"x"):
        pipeline.on_message(payload, 2, False)
    pipeline.on_tick(2)
    assert [(q.sequence, q.merged) for q in log.quotes] == [(4, 4)]
    assert pipeline.problems["not_json"].count == 2


def test_what_is_held_is_bounded_and_nothing_is_lost_beyond(log):
    size = len(book_ticker(symbol="A", u=0, time=T))
    pipeline = warmed(log, max_held_bytes=4 * size)
    for n in range(9):
        pipeline.on_message(book_ticker(symbol="A", u=n, time=T), 2, False)
    pipeline.on_message(book_ticker("0" * 4 * size + "7", symbol="A", u=9, time=T), 2, True)  # never has room
    assert [(q.sequence, q.merged, q.bid_price) for q in log.quotes] == [(9, 10, 7.0)]
    # 0 is decoded, 1 to 4 are held, 5 finds no room: 4 is decoded for them, and 5. 6 to 8 are held, 9 settles them.
    assert pipeline.superseded == 3 + 2


@pytest.mark.parametrize("end", ["reply", "tick", "status", "disconnected", "connected"])
def test_whatever_ends_a_batch_brings_out_what_is_held(log, end):
    pipeline = warmed(log)
    for n in range(5):
        pipeline.on_message(book_ticker(symbol="A", u=n, time=T), 2, False)
    if end == "reply":
        pipeline.on_reply("A", snapshot(1), 3)
    elif end == "tick":
        pipeline.on_tick(3)
    else:
        getattr(pipeline, "on_status" if end == "status" else f"on_{end}")(*["silent"] * (end == "status"), "", 3)
    assert [(q.sequence, q.merged) for q in log.quotes] == [(4, 5)]


def test_a_handler_that_raises_ends_what_is_held_for_all():
    class Once(EventHandler):
        def __init__(self):
            self.seen = []

        def on_book_delta(self, event):
            self.seen.append(event.last_id)
            if event.last_id == 3:
                raise KeyError("mine")

    handler = Once()
    pipeline = pipeline_of("binance", handler, conflate=True, skip_superseded=True)
    for symbol in "ABC":
        pipeline.on_message(partial(1, symbol=symbol), 1, True)
    for last_id in (2, 3):
        for symbol in "ABC":
            pipeline.on_message(partial(last_id, symbol=symbol), 2, False)
    with pytest.raises(KeyError, match="mine"):
        pipeline.on_tick(2)
    pipeline.on_message(partial(4, symbol="A"), 3, True)
    assert handler.seen == [1, 1, 1, 2, 2, 2, 3, 4]


def test_what_a_handler_raises_is_never_taken_for_a_problem_of_a_held_message():
    class Refusing(EventHandler):
        def on_book_delta(self, event):
            if event.last_id == 4:
                raise DecodeError("mine", kind="mine")

    pipeline = pipeline_of("binance", Refusing(), conflate=True, skip_superseded=True)
    for last_id in (1, 2, 3, 4):
        pipeline.on_message(partial(last_id, symbol="A"), 2, last_id == 1)
    with pytest.raises(DecodeError, match="mine"):
        pipeline.on_tick(2)
    assert pipeline.problems == {}


def test_a_handler_may_end_the_connection_while_held_messages_are_decoded():
    class Quitter(EventLog):
        def on_book_delta(self, event):
            super().on_book_delta(event)
            if event.last_id == 4 and event.instrument.raw_symbol == "A":
                pipeline.on_disconnected("enough", 5)
                pipeline.on_connected("again", 6)

    handler = Quitter()
    pipeline = pipeline_of("binance", handler, conflate=True, skip_superseded=True)
    for symbol in "AB":
        pipeline.on_message(partial(1, symbol=symbol), 1, True)
    for last_id in (2, 3, 4):
        for symbol in "AB":
            pipeline.on_message(partial(last_id, symbol=symbol), 2, last_id == 4 and symbol == "B")
    assert [(d.instrument.raw_symbol, d.last_id) for d in handler.deltas][-2:] == [("A", 4), ("B", 4)]
    assert pipeline.superseded == 2


# --- any session ----------------------------------------------------------------------------------

KINDS = st.sampled_from(
    ["quote"] * 5 + ["top"] * 3 + ["trade", "delta", "bad quote", "cut quote", "spaced quote", "reply"]
)


def messages_of(steps):
    made = []
    for n, (symbol, kind) in enumerate(steps):
        quote = book_ticker(bid_qty=f"0.{n + 1}", symbol=symbol, u=n, time=T + n)
        made.append(
            {
                "quote": quote,
                "top": partial(n, [("100", f"{n + 1}")], [("101", f"{n + 1}")], symbol=f"{symbol}TOP"),
                "trade": trade(symbol=symbol, t=n),
                "delta": depth(n + 1, n + 1, [("99", f"{n + 1}")], symbol=symbol, previous=n),
                "bad quote": book_ticker(bid="bad", symbol=symbol, time=T + n),
                "cut quote": quote[: len(quote) * 3 // 4],
                "spaced quote": quote + b" ",
                "reply": snapshot(n, [("100", "1")], [("101", "1")]),
            }[kind]
        )
    return made


def play(steps, made, ends, log, **options):
    pipeline = pipeline_of("binance-futures", log, conflate=True, **options)
    for n, ((symbol, kind), payload) in enumerate(zip(steps, made, strict=True)):
        if kind == "reply":
            pipeline.on_reply(symbol, payload, n)
        else:
            pipeline.on_message(payload, n, n in ends)
    pipeline.on_tick(len(made))
    return pipeline


def told(log):
    """What a conflating handler is told, batch by batch, but for the deltas of top-N snapshots."""
    events = [event for event in log.events if not (hasattr(event, "depth") and event.depth)]
    return [(str(event.instrument), event._fields()[1:]) for event in events if type(event) is not BookUpdate], [
        (update.instrument.raw_symbol, update.ts_event, update.ts_event_first, update.ts_recv, update.merged)
        for update in log.updates
    ]


@settings(max_examples=300)
@given(st.lists(st.tuples(st.sampled_from("AB"), KINDS), max_size=40), st.data())
def test_skipping_is_not_noticed(steps, data):
    """Skipping gives the calls, receipts and final state that decoding everything gives."""
    steps = [step for step in steps if step[1] != "bad quote"]
    made = messages_of(steps)
    ends = data.draw(st.sets(st.integers(0, len(made))))
    logs = [EventLog() for _ in range(3)]
    room = data.draw(st.integers(0, 2000))
    every = play(steps, made, ends, logs[0])
    skipped = play(steps, made, ends, logs[1], skip_superseded=True, max_held_bytes=room)
    reference = play(steps, made, ends, logs[2], skip_superseded=True, max_held_bytes=room, reference=True)
    assert told(logs[1]) == told(logs[0])
    assert logs[1].tops == logs[0].tops
    assert _books(skipped) == _books(every)
    assert _problems(skipped) == _problems(every)
    assert (skipped.messages, skipped.batches) == (every.messages, every.batches)
    assert [repr(event) for event in logs[2].events] == [repr(event) for event in logs[1].events]
    assert reference.superseded == skipped.superseded
    decoded = every.decoder.scanned + every.decoder.referred
    assert skipped.decoder.scanned + skipped.decoder.referred + skipped.superseded == decoded


@settings(max_examples=200)
@given(st.lists(st.tuples(st.sampled_from("AB"), KINDS), max_size=40), st.data())
def test_malformed_messages_never_change_the_state_that_is_delivered(steps, data):
    made = messages_of(steps)
    ends = data.draw(st.sets(st.integers(0, len(made))))
    logs = [EventLog() for _ in range(2)]
    every = play(steps, made, ends, logs[0])
    skipped = play(steps, made, ends, logs[1], skip_superseded=True)
    assert _newest(logs[1]) == _newest(logs[0])
    assert logs[1].tops == logs[0].tops
    assert _books(skipped) == _books(every)
    # What was malformed and skipped undecoded is counted as superseded, so nothing vanishes.
    missing = _problems(every).get("bad_value", 0) - _problems(skipped).get("bad_value", 0)
    assert 0 <= missing <= skipped.superseded


def _books(pipeline):
    return [(book.state, book.exact(0), book.exact(1), book.last_id) for book in pipeline.books.books]


def _problems(pipeline):
    return {kind: problem.count for kind, problem in pipeline.problems.items()}


def _newest(log):
    quotes = [event for event in log.events if type(event) is Quote]
    return [(q.instrument.raw_symbol, q.sequence, q.ts_event, q.ts_recv, q.bid_qty) for q in quotes]
