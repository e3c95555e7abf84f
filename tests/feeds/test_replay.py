import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feeds.checks import QuoteCheck
from feeds.conflation import conflated
from feeds.digest import CallbackDigest
from feeds.errors import UnknownExchange
from feeds.events import EventHandler, Fanout
from feeds.instrument import Instruments
from feeds.recording import LAST_IN_BATCH, Kind, RecordingError, RecordingReader, RecordingWriter
from feeds.replay import Replay
from feeds.testing import EventLog
from tests.feeds.messages import book_ticker, depth, snapshot, trade

LAST = Kind.TEXT | LAST_IN_BATCH


class Recording:
    """A recording made for a test; `write` counts its times up from 1."""

    def __init__(self, path):
        self.path = path
        self.now = 0
        self.writer = RecordingWriter(path)
        self.readers = []

    def source(self, exchange="binance", **more):
        return self.writer.add_source(exchange, "wss://x", ts_recv=self.now, **more)

    def write(self, payload, flags=LAST, *, source=1, tag=""):
        self.now += 1
        self.writer.write_message(self.now, source, int(flags), payload, tag)

    def replay(self, handler, **options):
        self.writer.close()
        self.readers.append(RecordingReader(self.path))
        return Replay(self.readers[-1], handler, **options)


@pytest.fixture
def recording(tmp_path):
    made = Recording(tmp_path / "r.feeds")
    yield made
    made.writer.close()
    for reader in made.readers:
        reader.close()


def test_messages_replies_and_statuses_come_as_they_came_live(recording, log):
    recording.source()
    recording.write(b"wss://x", Kind.CONNECTED)
    recording.write(b'{"method":"SUBSCRIBE"}', Kind.SENT)
    recording.write(depth(11, 11, [("99", "1")]), Kind.TEXT)
    recording.write(b"/api/v3/depth", Kind.REQUEST)
    recording.write(trade(), Kind.BINARY | LAST_IN_BATCH)
    recording.write(snapshot(10, [("100", "1")], [("101", "1")]), Kind.REPLY, tag="BTCUSDT")
    recording.write(b"", Kind.TICK)
    recording.write(json.dumps({"status": "silent", "reason": "30 s"}).encode(), Kind.STATUS)
    recording.write(json.dumps({"status": "fetch_failed", "tag": "BTCUSDT", "reason": "418"}).encode(), Kind.STATUS)
    recording.write(b"bye \xff", Kind.DISCONNECTED)
    recording.write(b"what a newer writer adds", 200)
    replay = recording.replay(log)
    assert replay.run() is False
    assert replay.finished
    assert replay.run() is False
    assert [type(event).__name__ for event in log.events] == [
        "FeedStatus",
        "BookStatus",
        "BookDelta",
        "Trade",
        "BookDelta",
        "BookStatus",
        "BookUpdate",
        "FeedStatus",
        "FeedStatus",
        "BookStatus",
        "FeedStatus",
    ]
    assert [(s.status, s.reason, s.ts_recv, s.source) for s in log.feed_statuses] == [
        ("connected", "wss://x", 1, 1),
        ("silent", "30 s", 8, 1),
        ("fetch_failed", "BTCUSDT: 418", 9, 1),
        ("disconnected", "bye \ufffd", 10, 1),
    ]
    assert log.batch_ends == [1, 5, 6, 7, 8, 9, 10]
    assert (replay.records, replay.messages, replay.ts_recv) == (12, 2, 11)
    assert [pipeline.source for pipeline in replay.pipelines] == [1]


def test_it_stops_where_told_and_goes_on(recording, log):
    recording.source()
    for n in range(6):
        recording.write(trade(t=n))
    replay = recording.replay(log)
    assert replay.run(until=2)
    assert [t.id for t in log.trades] == ["0", "1"]
    assert replay.run(until=2)
    assert replay.run(until=1)
    assert replay.run(max_records=0)
    assert len(log.trades) == 2
    assert replay.run(max_records=1)
    assert len(log.trades) == 3
    assert replay.run(until=4, max_records=100)
    assert [t.id for t in log.trades] == ["0", "1", "2", "3"]
    assert replay.ts_recv == 4
    assert not replay.run()
    assert len(log.trades) == 6


def test_the_last_note_of_a_tag_is_kept(recording, log):
    recording.writer.note("config", {"a": 1})
    recording.writer.note("config", {"a": 2})
    recording.writer.note("other", [1])
    replay = recording.replay(log)
    replay.run()
    assert replay.notes == {"config": {"a": 2}, "other": [1]}


def test_each_source_has_its_own_exchange_decoder_and_books(recording, log):
    recording.source("binance")
    recording.source("binance-futures")
    recording.write(snapshot(1, [("1", "1")]), Kind.REPLY, source=1, tag="BTCUSDT")
    recording.write(snapshot(1, [("2", "1")]), Kind.REPLY, source=2, tag="BTCUSDT")
    recording.write(b"gone", Kind.DISCONNECTED, source=1)
    replay = recording.replay(log)
    replay.run()
    states = [(p.exchange, p.books.books[0].state.name, p.books.books[0].exact(0)) for p in replay.pipelines]
    assert states == [("binance", "STALE", [(1, 1)]), ("binance-futures", "LIVE", [(2, 1)])]
    assert len(replay.instruments) == 2


def test_instruments_come_from_the_recording_and_only_they(recording, log):
    known = Instruments().add("binance", "BTCUSDT", symbol="BTC-USDT", tick_size="0.01").describe()
    recording.source(instruments=[known])
    recording.source("binance-futures")
    recording.write(trade("1.5"))
    recording.write(trade(symbol="DOGEUSDT"))
    recording.write(trade(symbol="DOGEUSDT"), source=2)
    replay = recording.replay(log)
    replay.run()
    assert [(t.instrument.exchange, t.instrument.symbol, t.price_decimals) for t in log.trades] == [
        ("binance", "BTC-USDT", 2),
        ("binance-futures", None, 1),
    ]
    assert list(replay.pipelines[0].problems) == ["unknown_symbol"]


def test_given_instruments_are_used(recording, log):
    instruments = Instruments()
    mine = instruments.add("binance", "BTCUSDT", symbol="MINE")
    recording.source()
    recording.write(trade())
    recording.replay(log, instruments=instruments).run()
    assert log.trades[0].instrument is mine


def test_a_stage_may_be_put_before_the_handler_per_connection(recording, log):
    made = []
    recording.source()
    recording.source()
    recording.write(trade(), source=2)
    recording.replay(log, wrap=lambda handler: made.append(QuoteCheck(handler)) or made[-1]).run()
    assert len(made) == 2
    assert len(log.trades) == 1


def test_both_engines_make_the_same_calls(recording, tmp_path):
    recording.source()
    recording.write(snapshot(1, [("1", "1")], [("3", "1")]), Kind.REPLY, tag="BTCUSDT")
    for n in range(2, 30):
        recording.write(depth(n, n, [(f"1.{n}", "1")]), Kind.TEXT)
        recording.write(book_ticker(u=n), Kind.TEXT)
        recording.write(b"broken")
        recording.write(trade(t=n))
    digests = []
    for reference in (False, True):
        digest = CallbackDigest(EventHandler())
        replay = recording.replay(digest, reference=reference)
        replay.run()
        assert replay.pipelines[0].decoder.scanned == (0 if reference else 28 * 3 - 3)
        digests.append(digest.hexdigest)
    assert digests[0] == digests[1]


def test_requests_are_dropped_as_their_replies_were_recorded(recording, log):
    recording.source()
    for n in range(5):
        recording.write(b'{"code":%d,"msg":"x"}' % n)
    replay = recording.replay(log)
    replay.run()
    assert len(log.feed_statuses) == 5
    assert not replay.pipelines[0].decoder.has_requests


def test_replies_that_it_took_to_connect_are_passed_over(recording, log):
    recording.source()
    recording.write(b"/api/v3/exchangeInfo", Kind.REQUEST, tag=":instruments")
    recording.write(b"{}", Kind.REPLY, tag=":instruments")
    recording.write(trade())
    run = recording.replay(log)
    run.run()
    assert run.pipelines[0].problems == {}
    assert (len(log.events), log.batch_ends) == (1, [3])


def test_what_the_handler_raises_ends_the_run_and_it_may_go_on(recording):
    class Angry(EventLog):
        def on_trade(self, event):
            super().on_trade(event)
            raise KeyError(event.id)

    log = Angry()
    recording.source()
    for n in range(2):
        recording.write(trade(t=n))
    replay = recording.replay(log)
    for n in range(2):
        with pytest.raises(KeyError, match=str(n)):
            replay.run()
    assert not replay.run()


@pytest.mark.parametrize(
    ("flags", "payload", "text"),
    [
        (Kind.STATUS, b"{", "expected a status as JSON, found {"),
        (Kind.STATUS, b"{}", "missing required field `status`"),
        (Kind.STATUS, b"[]", "Expected `object`, got `array`"),
        (Kind.NOTE, b"\xff", "expected a note as JSON"),
    ],
)
def test_a_recording_that_lies_is_a_recording_error(recording, log, flags, payload, text):
    recording.source()
    recording.write(payload, flags)
    replay = recording.replay(log)
    with pytest.raises(RecordingError, match=text):
        replay.run()


@pytest.mark.parametrize(
    "described",
    [
        [1],
        [{}],
        "x",
        5,
        [{"exchange": "binance", "raw_symbol": "X", "tick_size": "abc"}],
        [{"exchange": "binance", "raw_symbol": "X", "price_decimals": 99}],
    ],
)
def test_instruments_that_are_none_are_a_recording_error(recording, log, described):
    recording.source(instruments=described)
    with pytest.raises(RecordingError, match="expected source 1 to describe instruments"):
        recording.replay(log).run()


def test_an_exchange_that_nobody_knows_is_named(recording, log):
    recording.source("nowhere")
    with pytest.raises(UnknownExchange, match="'nowhere'"):
        recording.replay(log).run()


def session_of_many_kinds(recording):
    """Batches of one to four messages, with what ends a batch without one between them; and a note at the end."""
    recording.source()
    recording.write(b"", Kind.CONNECTED)
    recording.write(snapshot(1, [("1", "1")], [("3", "1")]), Kind.REPLY, tag="BTCUSDT")
    for n in range(2, 40):
        recording.write(depth(n, n, [(f"1.{n}", "1")]), LAST if n % 4 == 0 else Kind.TEXT)
        recording.write(trade(t=n), LAST if n % 3 == 0 else Kind.TEXT)
        if n % 7 == 0:
            recording.write(b"", Kind.TICK)
    recording.write(b"", Kind.DISCONNECTED)
    recording.writer.note("digest", {})


def digest_of(recording, play):
    digest = CallbackDigest(EventHandler())
    replay = recording.replay(conflated(digest))
    play(replay)
    assert replay.finished
    return digest.hexdigest


def test_a_step_is_a_batch(recording, log):
    session_of_many_kinds(recording)
    replay = recording.replay(log)
    steps = 0
    while replay.step():
        steps += 1
        assert len(log.batch_ends) == steps
        assert log.batch_ends[-1] == replay.ts_recv
    assert steps > 20
    assert (replay.finished, replay.step(), len(log.batch_ends)) == (True, False, steps)


@given(st.lists(st.one_of(st.just("step"), st.integers(0, 9), st.integers(-200, -1)), max_size=40))
def test_stepping_and_stopping_anywhere_changes_nothing(actions):
    with tempfile.TemporaryDirectory() as folder:
        recording = Recording(Path(folder) / "r.feeds")
        session_of_many_kinds(recording)

        def in_pieces(replay):
            for action in actions:
                if action == "step":
                    replay.step()
                elif action < 0:
                    replay.run(until=-action)
                else:
                    replay.run(max_records=action)
            replay.run()

        assert digest_of(recording, in_pieces) == digest_of(recording, lambda replay: replay.run())
        for reader in recording.readers:
            reader.close()


@pytest.mark.parametrize("by_steps", [False, True])
def test_a_pause_returns_after_the_message_in_hand_and_changes_nothing(recording, by_steps):
    session_of_many_kinds(recording)
    paused_at = []

    class Pausing(EventHandler):
        def on_trade(self, event):
            paused_at.append(event.ts_recv)
            replay.pause()

    log = Pausing()
    replay = recording.replay(Fanout([log, digest := CallbackDigest(EventHandler())]))
    if by_steps:
        while replay.step():
            pass
    else:
        while replay.run():
            assert replay.ts_recv == paused_at[-1]
    assert replay.finished
    assert len(paused_at) == len(set(paused_at)) == 38
    undisturbed = CallbackDigest(EventHandler())
    recording.replay(undisturbed).run()
    assert digest.hexdigest == undisturbed.hexdigest
