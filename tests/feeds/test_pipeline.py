import msgspec
import pytest

from feeds.decoder import Decoder
from feeds.errors import DecodeError
from feeds.events import EventHandler
from feeds.exchange import Exchange, exchange
from feeds.instrument import Instruments
from feeds.pipeline import Pipeline
from feeds.testing import EventLog
from tests.feeds.conftest import pipeline_of
from tests.feeds.messages import book_ticker, depth, on_stream, snapshot, trade


def test_problems_are_counted_and_told_once_a_kind_with_an_excerpt(spot, log):
    for n in range(3):
        spot.on_message(b"{broken " + b"x" * 500, n, True)
        spot.on_message(on_stream("btcusdt@avgPrice", {"e": "avgPrice"}), n, True)
        spot.on_message(trade(t=n), n, True)
    assert {kind: problem.count for kind, problem in spot.problems.items()} == {"not_json": 3, "unknown_event": 3}
    assert len(log.trades) == 3
    told = log.feed_statuses
    assert [status.status for status in told] == ["problem", "problem"]
    assert "{broken xxx" in told[0].reason
    assert "(508 bytes)" in told[0].reason
    assert len(told[0].reason) < 400
    assert "avgPrice" in repr(spot.problems["unknown_event"])


def test_error_texts_are_bounded_whatever_a_peer_sends(spot, log):
    for payload in (
        on_stream("x" * 100_000, {}),
        b"{" + b",".join(b'"k%d":1' % n for n in range(10_000)) + b"}",
        b'{"code":1,"msg":"' + b"y" * 100_000 + b'"}',
        on_stream("btcusdt@trade", b"{" + b",".join(b'"k%d":1' % n for n in range(10_000)) + b"}"),
    ):
        spot.on_message(payload, 1, True)
    assert log.feed_statuses
    assert max(len(status.reason) for status in log.feed_statuses) < 1000
    assert max(len(request.reason) for request in spot.decoder.take_requests()) < 1000


def test_kinds_of_problems_are_bounded():
    class Inventive(Decoder):
        def decode_other(self, payload, ts_recv):
            raise DecodeError("x: expected peace, found war", kind=payload.decode())

    class Peaceful(Exchange):
        id = "x"

        def new_decoder(self, instruments, downstream, *, reference=False):
            return Inventive(instruments, downstream, exchange="x")

    log = EventLog()
    pipeline = Pipeline(Peaceful(), Instruments(), log)
    for n in range(1000):
        pipeline.on_message(str(n).encode(), 1, True)
    assert len(pipeline.problems) == 257
    assert pipeline.problems["other"].count == 1000 - 256
    assert len(log.feed_statuses) == 257


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"null",
        b"[]",
        b"1",
        b'"x"',
        b"{}",
        b"{",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"stream":1}',
        b'{"stream":""}',
        b'{"stream":"@","data":{}}',
        b'{"stream":"btcusdt@trade"}',
        b'{"stream":"btcusdt@trade","data":null}',
        b'{"e":"trade"}',
        b'{"e":"depthUpdate","s":"X"}',
        b'{"stream":"\\ud800@trade","data":{}}',
        b'{"result":',
        b'{"s\xff":1}',
        b'{"error":[[[',
        b'{"id":1.5}',
        b'{"stream":"btcusdt@trade","data":{"s":"x","t":' + b"9" * 5000 + b"}}",
        b"\x00" * 50,
        b'{"B":1,"A":1}',
    ],
)
def test_no_message_ends_a_feed(payload):
    for exchange_id in ("binance", "binance-futures", "binance-delivery"):
        log = EventLog()
        pipeline = pipeline_of(exchange_id, log)
        pipeline.on_message(payload, 1, True)
        pipeline.on_reply("BTCUSDT", payload, 2)
        pipeline.on_message(trade(), 3, True)
        assert len(log.trades) == 1
        assert sum(problem.count for problem in pipeline.problems.values()) in (1, 2)


def test_every_call_ends_its_batch(spot, log):
    spot.on_message(trade(), 1, False)
    spot.on_message(trade(), 2, True)
    spot.on_reply("BTCUSDT", snapshot(1), 3)
    spot.on_tick(4)
    spot.on_connected("url", 5)
    spot.on_status("silent", "nothing for 30 s", 6)
    spot.on_disconnected("bye", 7)
    spot.on_fetch_failed("BTCUSDT", 8, "404")
    assert log.batch_ends == [2, 3, 4, 5, 6, 7, 8]
    assert [(s.status, s.reason, s.source, s.exchange, s.ts_recv) for s in log.feed_statuses] == [
        ("connected", "url", 0, "binance", 5),
        ("silent", "nothing for 30 s", 0, "binance", 6),
        ("disconnected", "bye", 0, "binance", 7),
        ("fetch_failed", "BTCUSDT: 404", 0, "binance", 8),
    ]
    assert (spot.messages, spot.batches, spot.payload_bytes) == (2, 1, 2 * len(trade()))


def test_a_new_connection_has_a_new_decoder_that_is_asked_for_snapshots(spot):
    before = spot.decoder
    spot.on_message(depth(1, 1), 1, True)
    spot.on_disconnected("", 2)
    spot.on_connected("", 3)
    assert spot.decoder is not before
    spot.on_message(depth(9, 9), 4, True)
    assert [request.tag for request in spot.decoder.take_requests()] == ["BTCUSDT"]


def test_a_handler_may_not_feed_its_own_pipeline_and_the_feed_goes_on_after_it_tried(log):
    class Recursive(EventHandler):
        def on_trade(self, event):
            pipeline.on_message(trade(), 2, True)

        def on_quote(self, event):
            pipeline.on_reply("BTCUSDT", snapshot(1), 2)

    pipeline = pipeline_of("binance", Recursive())
    for message in (trade(), book_ticker(), trade()):
        with pytest.raises(RuntimeError, match="found a message from inside it"):
            pipeline.on_message(message, 1, True)
    pipeline.books.downstream = log
    pipeline.on_message(trade(), 3, True)
    assert len(log.trades) == 1


def test_a_handler_may_call_back_into_the_decoder():
    class Recursive(EventLog):
        def on_trade(self, event):
            super().on_trade(event)
            if len(self.trades) < 50:
                pipeline.decoder.decode(trade(qty=str(len(self.trades)), t=len(self.trades)), 2)

        def on_book_delta(self, event):
            super().on_book_delta(event)
            if len(self.deltas) < 50:
                pipeline.decoder.decode(depth(1, 1, [(str(len(self.deltas)), "1")] * len(self.deltas)), 2)

    log = Recursive()
    pipeline = pipeline_of("binance", log)
    pipeline.on_message(trade(), 1, True)
    pipeline.on_message(depth(1, 1), 1, True)
    assert [(event.id, event.qty) for event in log.trades] == [("1", 0.5), *((str(n), n) for n in range(1, 50))]
    assert [len(event.bids) for event in log.deltas] == list(range(50))


def test_a_handler_may_end_the_connection_it_hears_from():
    class Quitter(EventLog):
        def on_trade(self, event):
            super().on_trade(event)
            pipeline.on_disconnected("enough", 5)
            pipeline.on_connected("again", 6)

        def on_book(self, event):
            super().on_book(event)
            pipeline.on_disconnected("enough", 5)

    log = Quitter()
    pipeline = pipeline_of("binance", log)
    pipeline.on_message(trade(), 1, True)
    for n in (11, 12, 13):
        pipeline.on_message(depth(n, n), n, True)
    pipeline.on_reply("BTCUSDT", snapshot(10, [("1", "1")], [("2", "1")]), 20)
    assert len(log.updates) == 1
    assert pipeline.books.books[0].state.name == "STALE"


def test_none_is_no_message(spot):
    with pytest.raises(TypeError, match="expected bytes, found None"):
        spot.on_message(None, 1, True)
    with pytest.raises(TypeError, match="expected bytes, found None"):
        spot.decoder.decode(None, 1)
    with pytest.raises(TypeError):
        Pipeline(exchange("binance"), Instruments(), None)


# --- messages that held a change and cannot be read -----------------------------------------------


def coinbase(kind, product, **fields):
    return msgspec.json.encode({"type": kind, "product_id": product, "time": "2026-09-21T10:13:20.000000Z", **fields})


@pytest.fixture
def two_books(log):
    """Two LIVE books of an exchange whose messages have no numbers."""
    pipeline = pipeline_of("coinbase", log)
    for product in ("A-USD", "B-USD"):
        pipeline.on_message(coinbase("snapshot", product, bids=[["1", "1"]], asks=[["2", "1"]]), 1, True)
    return pipeline


def states(pipeline):
    return {book.instrument.raw_symbol: book.state.name for book in pipeline.books.books}


def asked_for(pipeline):
    return [request.tag for request in pipeline.decoder.take_requests()]


@pytest.mark.parametrize("level", [["buy", "1", "x"], ["buy", "1", "-1"], ["hold", "1", "1"], ["buy", "1"]])
def test_a_book_whose_change_cannot_be_read_has_a_gap_and_others_go_on(two_books, log, level):
    two_books.on_message(coinbase("l2update", "A-USD", changes=[level]), 2, True)
    assert states(two_books) == {"A-USD": "GAP", "B-USD": "LIVE"}
    assert asked_for(two_books) == ["A-USD"]
    assert log.book_statuses[-1].reason == "a message could not be read: bad_value"
    assert two_books.books.gaps == 1
    two_books.on_message(coinbase("snapshot", "A-USD", bids=[["1", "3"]], asks=[["2", "1"]]), 3, True)
    assert states(two_books) == {"A-USD": "LIVE", "B-USD": "LIVE"}


def test_what_is_no_json_may_have_been_a_change_of_any_book(two_books, log):
    two_books.on_message(coinbase("l2update", "A-USD", changes=[["buy", "1", "2"]])[:-9], 2, True)
    assert states(two_books) == {"A-USD": "GAP", "B-USD": "GAP"}
    assert asked_for(two_books) == ["A-USD", "B-USD"]


@pytest.mark.parametrize(
    "message", [coinbase("ticker", "A-USD", price=7), coinbase("match", "A-USD"), b'{"type":"new"}']
)
def test_what_is_no_message_of_a_book_leaves_the_books_alone(two_books, message):
    two_books.on_message(message, 2, True)
    assert two_books.problems
    assert states(two_books) == {"A-USD": "LIVE", "B-USD": "LIVE"}


def test_where_numbers_show_a_loss_what_is_no_json_changes_nothing(spot):
    spot.on_message(depth(11, 11), 1, True)
    spot.on_reply("BTCUSDT", snapshot(10, [("1", "1")], [("2", "1")]), 1)
    spot.on_message(depth(12, 12)[:-5], 2, True)
    assert states(spot) == {"BTCUSDT": "LIVE"}
    spot.on_message(depth(13, 13), 3, True)
    assert states(spot) == {"BTCUSDT": "GAP"}


def test_a_top_n_snapshot_that_cannot_be_read_is_followed_by_one_that_can(spot, log):
    def top(qty):
        return on_stream("btcusdt@depth5", {"lastUpdateId": 7, "bids": [["1", qty]], "asks": [["2", "1"]]})

    spot.on_message(top("1"), 1, True)
    spot.on_message(top("x"), 2, True)
    assert states(spot) == {"BTCUSDT": "GAP"}
    assert asked_for(spot) == []
    spot.on_message(top("3"), 3, True)
    assert [status.new.name for status in log.book_statuses] == ["SYNCING", "LIVE", "GAP", "LIVE"]


def test_a_reply_that_cannot_be_read_leaves_a_book_as_it_is(spot):
    spot.on_message(depth(11, 11), 1, True)
    spot.on_reply("BTCUSDT", snapshot(10, [("1", "1")], [("2", "1")]), 1)
    spot.on_reply("BTCUSDT", snapshot(30, [("1", "x")], [("2", "1")]), 2)
    assert spot.problems["bad_value"].count == 1
    assert states(spot) == {"BTCUSDT": "LIVE"}


def test_what_is_lost_with_the_newest_of_a_burst_is_lost_after_the_one_before_it(log):
    def top(number, qty):
        return on_stream("btcusdt@depth5", {"lastUpdateId": number, "bids": [["1", qty]], "asks": [["2", "1"]]})

    ends = []
    for skip in (False, True):
        pipeline = Pipeline(exchange("binance"), Instruments(infer=True), EventLog(), skip_superseded=skip)
        for number in range(1, 5):
            pipeline.on_message(top(number, "x" if number > 2 else "1"), 1, number == 4)
        ends.append(states(pipeline))
        assert pipeline.problems["bad_value"].count == 2
    assert ends == [{"BTCUSDT": "GAP"}] * 2
