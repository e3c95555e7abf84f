import pytest
from hypothesis import given
from hypothesis import strategies as st

from feeds.book import BookState
from feeds.book_builder import BookBuilder
from feeds.decoder import Decoder
from feeds.events import BookDelta, FeedStatus
from feeds.instrument import Instruments
from feeds.sequencing import ContiguousSequence, GrowingSequence
from feeds.testing import EventLog
from tests.feeds.conftest import pipeline_of
from tests.feeds.exchanges import test_bitstamp as bitstamp
from tests.feeds.messages import T, book_ticker, depth, partial, snapshot, trade

SYNCING, LIVE, GAP, STALE, CROSSED = BookState
BIDS, ASKS = [("100", "1")], [("101", "1")]


class Run:
    """A spot pipeline, driven by what a test is about; times count up."""

    def __init__(self, pipeline, log):
        self.pipeline = pipeline
        self.log = log
        self.now = 0

    def delta(self, first, last, bids=(), asks=(), **more):
        self.now += 1
        self.pipeline.on_message(depth(first, last, bids, asks, **more), self.now, True)

    def snapshot(self, last, bids=BIDS, asks=ASKS, symbol="BTCUSDT"):
        self.now += 1
        self.pipeline.on_reply(symbol, snapshot(last, bids, asks), self.now)

    def partial(self, last, bids=BIDS, asks=ASKS):
        self.now += 1
        self.pipeline.on_message(partial(last, bids, asks), self.now, True)

    def asked(self):
        return [request.tag for request in self.pipeline.decoder.take_requests()]

    @property
    def book(self):
        return self.pipeline.books.books[0]

    def states(self):
        return [(status.old, status.new) for status in self.log.book_statuses]

    def merged(self):
        return [update.merged for update in self.log.updates]


@pytest.fixture
def run(spot, log):
    return Run(spot, log)


def levels(side):
    return [(str(price), str(qty)) for price, qty in side]


# --- the join -------------------------------------------------------------------------------------


def test_step_1_the_first_delta_is_held_and_a_snapshot_asked_for(run, log):
    run.delta(11, 12, [("99", "5")])
    assert run.asked() == ["BTCUSDT"]
    assert run.states() == [(SYNCING, SYNCING)]
    assert log.updates == []
    assert len(log.deltas) == 1
    run.delta(13, 13)
    assert run.asked() == []


@pytest.mark.parametrize(("last_id", "bids"), [
    (10, {"100": "1", "99": "7", "98": "5"}),  # before the first: all are applied
    (12, {"100": "1", "99": "7"}),  # contains the first
    (14, {"100": "1", "99": "7"}),  # inside the second, which is applied whole
    (15, {"100": "1"}),  # contains all
    (99, {"100": "1"}),
])  # fmt: skip
def test_step_2_held_deltas_are_dropped_or_applied(run, last_id, bids):
    run.delta(11, 12, [("98", "5")])
    run.delta(13, 15, [("99", "7")])
    run.snapshot(last_id)
    assert run.book.state is LIVE
    assert dict(levels(run.book.exact(0))) == bids
    assert run.states() == [(SYNCING, SYNCING), (SYNCING, LIVE)]
    assert sum(run.merged()) == 1 + len(bids) - 1
    assert run.asked() == ["BTCUSDT"]


def test_step_3_a_snapshot_that_is_too_old_is_asked_for_again(run, log):
    run.delta(11, 12, [("99", "5")])
    run.asked()
    run.snapshot(9)
    assert run.asked() == ["BTCUSDT"]
    assert run.book.state is SYNCING
    assert log.updates == []
    run.snapshot(10)
    assert run.book.state is LIVE
    assert levels(run.book.exact(0)) == [("100", "1"), ("99", "5")]
    assert run.pipeline.books.gaps == 0


def test_a_hole_among_the_held_deltas_waits_for_a_snapshot_behind_it(run):
    run.delta(11, 12, [("98", "1")])
    run.delta(14, 15, [("99", "1")])  # 13 is missing
    run.asked()
    run.snapshot(10)
    assert run.asked() == ["BTCUSDT"]
    assert run.states()[-1] == (SYNCING, GAP)
    assert run.book.bid_count == 0
    assert run.pipeline.books.gaps == 1
    run.snapshot(13)
    assert run.book.state is LIVE
    assert levels(run.book.exact(0)) == [("100", "1"), ("99", "1")]


def test_the_snapshot_may_come_before_any_delta(run):
    run.snapshot(10)
    assert run.book.state is LIVE
    run.delta(5, 10, [("1", "1")])
    run.delta(11, 11, [("2", "1")])
    assert levels(run.book.exact(0)) == [("100", "1"), ("2", "1")]
    assert run.pipeline.books.old == 1
    assert run.asked() == []


def test_a_book_says_what_it_was_made_of(run):
    run.delta(11, 12, time=T + 5)
    run.snapshot(10)
    assert (run.book.last_id, run.book.ts_event, run.book.ts_recv) == (12, (T + 5) * 10**6, 1)
    assert run.pipeline.books.applied == 2
    assert run.log.updates[0].ts_event_first == (T + 5) * 10**6


# --- gaps -----------------------------------------------------------------------------------------


def test_step_4_a_gap_resyncs_that_symbol_alone(run, log):
    run.snapshot(10)
    run.snapshot(10, symbol="ETHUSDT")
    run.delta(11, 11, symbol="ETHUSDT")
    run.delta(13, 14, [("97", "1")])
    bitcoin, ether = run.pipeline.books.books
    assert (bitcoin.state, ether.state) == (GAP, LIVE)
    assert bitcoin.bid_count == 0
    assert run.asked() == ["BTCUSDT"]
    assert log.book_statuses[-1].reason == "expected a message after id 10, found ids 13..14"
    run.delta(15, 15)
    run.delta(12, 12, symbol="ETHUSDT")
    assert run.asked() == []
    assert ether.last_id == 12
    run.snapshot(13)
    assert bitcoin.state is LIVE
    assert bitcoin.last_id == 15
    assert run.pipeline.books.gaps == 1


def test_a_delta_that_was_sent_twice_is_ignored(run):
    run.snapshot(10)
    run.delta(11, 12, [("99", "1")])
    run.delta(13, 13, [("99", "0")])
    run.delta(11, 12, [("99", "1")])
    assert levels(run.book.exact(0)) == [("100", "1")]
    assert (run.book.state, run.pipeline.books.old) == (LIVE, 1)


@pytest.mark.parametrize("crossed", [False, True])
def test_a_late_snapshot_does_not_turn_the_book_back(run, crossed):
    run.snapshot(10)
    run.delta(11, 15, [("101" if crossed else "99", "1")])
    run.snapshot(12)
    assert run.book.last_id == 15
    assert run.book.state is (CROSSED if crossed else LIVE)
    run.delta(16, 16, [("101", "0")])
    assert run.book.state is LIVE
    assert run.pipeline.books.gaps == 0


def test_a_newer_snapshot_replaces_a_live_book(run):
    run.snapshot(10)
    run.delta(11, 11, [("99", "1")])
    run.snapshot(20, [("50", "1")], [("51", "1")])
    assert levels(run.book.exact(0)) == [("50", "1")]
    run.delta(21, 21)
    assert run.book.state is LIVE


def test_a_snapshot_that_fails_is_asked_for_again_by_the_next_delta(run, spot):
    run.delta(11, 12)
    assert run.asked() == ["BTCUSDT"]
    spot.on_fetch_failed("BTCUSDT", 5, "418")
    assert run.asked() == []
    run.delta(13, 13)
    assert run.asked() == ["BTCUSDT"]
    spot.on_fetch_failed("UNHEARD", 6, "418")


@pytest.mark.parametrize("reply", [b"<html>busy</html>", b'{"lastUpdateId":1}', b'{"a":1} x', b'{"a\xff":1}', b""])
def test_so_is_one_whose_reply_cannot_be_decoded(run, spot, reply):
    run.delta(11, 12)
    assert run.asked() == ["BTCUSDT"]
    spot.on_reply("BTCUSDT", reply, 5)
    assert sum(problem.count for problem in spot.problems.values()) == 1
    run.delta(13, 13)
    assert run.asked() == ["BTCUSDT"]
    run.snapshot(12)
    assert run.book.state is LIVE


# --- the connection -------------------------------------------------------------------------------


def test_nothing_survives_a_disconnect(run, spot, log):
    run.snapshot(10)
    run.delta(11, 11, [("99", "1")], symbol="ETHUSDT")
    run.asked()
    spot.on_disconnected("reset by peer", 50)
    assert [book.state for book in spot.books.books] == [STALE, STALE]
    assert [s.reason for s in log.book_statuses[-2:]] == ["reset by peer"] * 2
    assert log.feed_statuses[-1].status == "disconnected"
    assert run.book.bids() == []
    assert run.book.last_bids() == [(100.0, 1.0)]
    spot.on_disconnected("again", 51)
    assert len(log.book_statuses) == 5

    spot.on_connected("", 60)
    run.delta(500, 501, [("7", "1")])
    assert run.states()[-1] == (STALE, SYNCING)
    assert run.book.bid_count == 0
    run.delta(500, 501, symbol="ETHUSDT")
    assert run.asked() == ["BTCUSDT", "ETHUSDT"]
    run.snapshot(499)
    assert levels(run.book.exact(0)) == [("100", "1"), ("7", "1")]
    run.snapshot(499, [], [], symbol="ETHUSDT")
    assert spot.books.books[1].exact(0) == []


def test_a_reply_to_the_lost_connection_brings_nothing_back_to_life(run, spot, log):
    run.delta(11, 12)
    spot.on_disconnected("", 50)
    run.snapshot(20)
    assert run.book.state is STALE
    assert log.updates == []
    spot.on_connected("", 60)
    run.snapshot(20)
    assert run.book.state is LIVE


def test_deltas_that_wait_are_bounded_and_the_join_finds_out(log):
    instrument = Instruments(infer=True).find("x", "X")
    builder = BookBuilder(log, new_sequence=ContiguousSequence, max_pending_levels=4 * (64 + 16))
    for n in range(11, 21):
        builder.on_book_delta(BookDelta(instrument, bids=[(n, 1)], first_id=n, last_id=n))
    builder.on_book_delta(BookDelta(instrument, is_snapshot=True, last_id=10))
    assert builder.book(instrument).state is SYNCING
    builder.on_book_delta(BookDelta(instrument, is_snapshot=True, last_id=16))
    assert builder.book(instrument).exact(0) == [(n, 1) for n in (20, 19, 18, 17)]


def test_without_a_decoder_nobody_is_asked(log):
    instrument = Instruments(infer=True).find("x", "X")
    builder = BookBuilder(log)
    assert builder.book(instrument) is None
    builder.on_snapshot_failed(instrument)
    builder.on_book_delta(BookDelta(instrument))
    builder.on_feed_status(FeedStatus("x", "silent"))
    assert builder.books == [builder.book(instrument)]


# --- crossed --------------------------------------------------------------------------------------


def test_a_crossed_book_is_not_told_of_until_it_is_right_again(run, log):
    run.snapshot(10)
    run.delta(11, 11, [("101", "5")], time=T + 1)  # locked is crossed
    run.delta(12, 12, [("102", "5")], time=T + 2)
    assert run.merged() == [1]
    assert run.book.state is CROSSED
    run.delta(13, 13, [("101", "0"), ("102", "0")], time=T + 3)
    assert run.states()[1:] == [(SYNCING, LIVE), (LIVE, CROSSED), (CROSSED, LIVE)]
    assert run.merged() == [1, 3]
    assert log.updates[-1].ts_event_first == (T + 1) * 10**6
    assert sum(run.merged()) == run.pipeline.books.applied
    run.delta(14, 14)
    assert run.merged() == [1, 3, 1]


def test_what_a_crossed_book_did_not_tell_goes_with_it(run):
    run.snapshot(10)
    run.delta(11, 11, [("101", "5")])
    run.delta(13, 13)
    assert run.book.state is GAP
    run.snapshot(12)
    assert run.merged() == [1, 2]


def test_a_snapshot_may_be_crossed(run):
    run.snapshot(10, [("5", "1")], [("4", "1")])
    assert run.states() == [(SYNCING, SYNCING), (SYNCING, LIVE), (LIVE, CROSSED)]
    assert run.merged() == []


# --- top-N streams --------------------------------------------------------------------------------


def test_each_top_n_message_replaces_the_book(run):
    run.partial(10)
    assert run.book.state is LIVE
    run.partial(20, [("99", "2")], [("99.5", "1")])
    assert levels(run.book.exact(0)) == [("99.0", "2")]
    assert run.merged() == [1, 1]
    assert run.asked() == []


def test_deltas_take_over_from_top_n_and_top_n_does_not_come_back(run, log):
    run.partial(10)
    run.delta(11, 12, [("99", "1")])
    assert run.book.state is SYNCING
    assert log.book_statuses[-1].reason == "deltas take over from top-N snapshots"
    assert run.asked() == ["BTCUSDT"]
    run.partial(13, [("1", "1")], [])
    assert run.book.state is SYNCING
    run.snapshot(11)
    assert levels(run.book.exact(0)) == [("100", "1"), ("99", "1")]
    run.partial(14, [("1", "1")], [])
    assert run.book.bid_count == 2


def test_a_top_n_book_comes_back_after_a_disconnect(run, spot):
    run.partial(10)
    spot.on_disconnected("", 5)
    assert run.book.state is STALE
    spot.on_connected("", 6)
    run.partial(3)
    assert run.book.state is LIVE


# --- decimals -------------------------------------------------------------------------------------


def test_decimals_may_grow_while_deltas_are_held(run, spot):
    run.delta(11, 11, [("99.5", "1")])
    spot.on_message(book_ticker("100.125", "100.2505"), 2, True)
    run.delta(12, 12, [("99.75", "0.001")])
    run.snapshot(10)
    assert levels(run.book.exact(0)) == [("100.0000", "1.000"), ("99.7500", "0.001"), ("99.5000", "1.000")]
    assert run.book.best_bid == (100.0, 1.0)


HUGE = "9000000000000"  # has room for 6 decimals


def test_a_book_that_no_longer_fits_is_given_up_and_the_feed_goes_on(run, spot, log):
    run.snapshot(10, [(HUGE, "1")], ASKS)
    run.snapshot(10, symbol="ETHUSDT")
    log.clear()
    run.delta(11, 11, [("0.0000001", "1")])
    assert run.book.state is GAP
    assert run.book.bid_count == 0
    assert "does not fit int64 at 7/0 decimals" in log.book_statuses[-1].reason
    assert log.updates == []
    assert (spot.books.unfit, spot.books.gaps, spot.problems) == (1, 0, {})
    assert run.asked() == ["BTCUSDT"]
    run.delta(12, 12, [("2", "1")])
    run.snapshot(10, [(HUGE, "1")], ASKS)  # still does not fit: a problem, and the book stays what it is
    assert list(spot.problems) == ["bad_value"]
    assert run.book.state is GAP
    run.delta(11, 11, symbol="ETHUSDT")
    assert spot.books.books[1].state is LIVE
    run.snapshot(11, [("3", "1")], ASKS)  # the huge level is gone there
    assert run.book.state is LIVE
    assert [float(price) for price, _ in run.book.exact(0)] == [3.0, 2.0]


def test_held_deltas_that_no_longer_fit_are_given_up(run, spot, log):
    run.delta(11, 11, [(HUGE, "1")])
    spot.on_message(trade("0.0000001", "1"), 2, True)
    run.asked()
    run.snapshot(10)
    assert run.book.state is GAP
    assert spot.books.unfit == 1
    assert run.asked() == ["BTCUSDT"]
    run.snapshot(11)
    assert run.book.state is LIVE
    assert log.book_statuses[-1].old is GAP


# --- step 8: a book that is LIVE is made anew -----------------------------------------------------


@pytest.fixture
def unnumbered(log):
    """A pipeline of Bitstamp, whose messages show no loss, with the book 5.0 | 6.0 as of 0."""
    pipeline = pipeline_of("bitstamp", log)
    pipeline.on_message(bitstamp.diff(0), 1, True)
    pipeline.on_reply("btcusd", bitstamp.snapshot(0), 1)
    pipeline.decoder.take_requests()
    assert prices(pipeline) == [5.0]
    log.clear()
    return pipeline


def prices(pipeline):
    (book,) = pipeline.books.books
    return [level.price for level in book.bids()]


def ask(pipeline):
    pipeline.on_resnapshot("btcusd", 2)
    return [request.tag for request in pipeline.decoder.take_requests()]


def test_step_8_a_snapshot_replaces_a_book_that_goes_on_until_then(unnumbered, log):
    assert ask(unnumbered) == ["btcusd"]
    assert ask(unnumbered) == []  # one is under way
    unnumbered.on_message(bitstamp.diff(3, [["4.3", "1"]]), 3, True)
    unnumbered.on_message(bitstamp.diff(5, [["4.5", "1"]]), 5, True)
    assert prices(unnumbered) == [5.0, 4.5, 4.3]
    unnumbered.on_reply("btcusd", bitstamp.snapshot(4, bids=[["4.4", "1"]]), 6)  # 5.0 and 4.3 have gone, 4.4 has come
    assert prices(unnumbered) == [4.5, 4.4]
    assert log.book_statuses == []
    assert [(status.status, status.reason) for status in log.feed_statuses] == [("resnapshot", "btcusd")]
    assert [update.merged for update in log.updates] == [1, 1, 1]  # the change that was told is not told again
    unnumbered.on_message(bitstamp.diff(6, [["4.6", "1"]]), 6, True)
    assert prices(unnumbered) == [4.6, 4.5, 4.4]
    assert ask(unnumbered) == ["btcusd"]  # nothing of the last one is left
    unnumbered.on_reply("btcusd", bitstamp.snapshot(7, bids=[["4.7", "1"]]), 7)
    assert prices(unnumbered) == [4.7]


def test_step_8_a_snapshot_that_is_older_than_the_book_was_is_not_taken(unnumbered):
    unnumbered.on_message(bitstamp.diff(3, [["4.3", "1"]]), 3, True)
    assert ask(unnumbered) == ["btcusd"]
    unnumbered.on_reply("btcusd", bitstamp.snapshot(2), 4)
    assert prices(unnumbered) == [5.0, 4.3]
    assert ask(unnumbered) == ["btcusd"]
    unnumbered.on_reply("btcusd", bitstamp.snapshot(3, bids=[["4.4", "1"]]), 4)
    assert prices(unnumbered) == [4.4]


def test_step_8_what_fails_leaves_the_book_as_it_is(unnumbered, log):
    assert ask(unnumbered) == ["btcusd"]
    unnumbered.on_message(bitstamp.diff(3, [["4.3", "1"]]), 3, True)
    unnumbered.on_fetch_failed("btcusd", 4, "503")
    unnumbered.on_message(bitstamp.diff(4, [["4.4", "1"]]), 4, True)
    assert not unnumbered.decoder.take_requests()
    assert prices(unnumbered) == [5.0, 4.4, 4.3]
    assert log.book_statuses == []


def test_step_8_books_that_are_not_live_and_unknown_ones_are_left_alone(unnumbered):
    unnumbered.on_disconnected("test", 2)
    assert ask(unnumbered) == []
    unnumbered.on_resnapshot("nosuch", 2)
    assert not unnumbered.decoder.take_requests()


class Willing(Decoder):
    def request_snapshot(self, instrument):
        pass


def test_step_8_what_is_held_meanwhile_is_bounded(log):
    instruments = Instruments(infer=True)
    a = instruments.find("x", "A")
    builder = BookBuilder(log, new_sequence=GrowingSequence, max_pending_levels=40)
    builder.decoder = Willing(instruments, builder, exchange="x")
    BookDelta(a, bids=[("1", "1")], is_snapshot=True, starts_over=True, last_id=1).dispatch(builder)
    (book,) = builder.books
    assert book.state is LIVE
    assert builder.refresh(a)
    for number in range(2, 20):
        BookDelta(a, bids=[(str(number), "1")], last_id=number).dispatch(builder)
    BookDelta(a, bids=[("1", "1")], is_snapshot=True, last_id=3).dispatch(builder)  # what followed was not kept
    assert book.bid_count == 19
    assert builder.refresh(a)
    BookDelta(a, bids=[("1", "1")], is_snapshot=True, last_id=19).dispatch(builder)
    assert book.bid_count == 1


CHANGES = st.lists(
    st.tuples(st.integers(40, 49), st.integers(0, 3), st.sampled_from(["seen", "lost", "ask", "reply"])), max_size=40
)


@given(CHANGES)
def test_step_8_a_loss_lasts_until_the_next_snapshot(changes):
    """Against the exchange's own book, of which a snapshot is taken when it is asked for and comes later."""
    pipeline = pipeline_of("bitstamp", EventLog())
    pipeline.on_message(bitstamp.diff(0), 1, True)
    pipeline.on_reply("btcusd", bitstamp.snapshot(0), 1)
    truth, lost_since, reply = {"5.0": "1"}, None, None
    for number, (price, qty, what) in enumerate([*changes, (40, 1, "ask"), (41, 1, "reply")], 1):
        if what == "ask" and ask(pipeline):
            reply = bitstamp.snapshot(number - 1, bids=[[p, q] for p, q in truth.items() if q != "0"])
            asked_with = lost_since
        elif what == "reply" and reply is not None:
            pipeline.on_reply("btcusd", reply, number)
            lost_since, reply = None if lost_since == asked_with else lost_since, None
        truth[f"4.{price}"] = str(qty)
        if what == "lost":
            lost_since = number
        else:
            pipeline.on_message(bitstamp.diff(number, [[f"4.{price}", str(qty)]]), number, True)
        if lost_since is None:
            (book,) = pipeline.books.books
            assert {float(p) for p, q in truth.items() if q != "0"} == set(prices(pipeline))
            assert book.state is LIVE


def test_step_9_a_dropped_book_stays_away_until_it_is_kept_again(run, spot, log):
    run.delta(11, 12)
    run.snapshot(10)
    book = run.book
    spot.on_unsubscribed("BTCUSDT", "trade, book", 5)
    assert (run.asked(), spot.books.books, book.bid_count) == (["BTCUSDT"], [], 0)
    last = log.book_statuses[-1]
    assert (last.book, last.old, last.new, last.reason) == (book, BookState.LIVE, BookState.STALE, "unsubscribed")
    told, statuses = len(log.events), len(log.book_statuses)
    run.delta(13, 13)  # was under way
    run.snapshot(14)  # so was this
    assert len(log.events) == told
    spot.on_subscribed("BTCUSDT", "book", 9)
    run.delta(15, 15)
    assert run.asked() == ["BTCUSDT"]
    run.snapshot(14)
    assert [s.new for s in log.book_statuses[statuses:]] == [BookState.SYNCING, BookState.LIVE]
    assert [(s.status, s.reason) for s in log.feed_statuses] == [
        ("unsubscribed", "BTCUSDT: trade, book"),
        ("subscribed", "BTCUSDT: book"),
    ]


def test_step_9_a_book_whose_first_message_has_not_come_does_not_begin(run, spot, log):
    spot.decoder.instruments.add("binance", "BTCUSDT")
    spot.on_unsubscribed("BTCUSDT", "book_top", 5)
    run.delta(11, 12)
    assert (run.asked(), spot.books.books, log.book_statuses) == ([], [], [])


def test_step_9_other_channels_leave_the_book_alone(run, spot):
    run.delta(11, 12)
    run.snapshot(10)
    spot.on_unsubscribed("BTCUSDT", "quote, trade", 5)
    assert run.book.state is BookState.LIVE


def test_a_top_n_snapshot_is_not_the_one_that_was_asked_for(run):
    run.delta(11, 12, [("99", "5")])
    assert run.asked() == ["BTCUSDT"]
    run.partial(50)
    assert run.pipeline.books.is_awaiting(run.book.instrument)
    run.delta(13, 13)
    assert run.asked() == []
    run.snapshot(10)
    assert not run.pipeline.books.is_awaiting(run.book.instrument)
    assert levels(run.book.exact(0)) == [("100", "1"), ("99", "5")]
