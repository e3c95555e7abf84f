import json
import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feeds import session
from feeds.conflation import conflated
from feeds.events import EventHandler
from feeds.exchange import exchange
from feeds.instrument import Instruments
from feeds.latency import Histogram, Latency, LatencyProbe
from feeds.pipeline import Pipeline
from feeds.recording import LAST_IN_BATCH, Kind, RecordingWriter
from feeds.testing import EventLog
from tests.feeds.messages import book_ticker, depth, snapshot, trade

DURATIONS = st.one_of(st.integers(0, 100), st.integers(0, 10**6), st.integers(0, 2**40 - 1))


def histogram(durations):
    made = Histogram()
    for duration in durations:
        made.record(duration)
    return made


@given(st.lists(DURATIONS, min_size=1, max_size=100), st.sampled_from([0.0, 0.01, 0.25, 0.5, 0.75, 0.9, 0.99, 1.0]))
def test_quantiles_are_those_of_the_sorted_list_within_3_2_percent(durations, q):
    made = histogram(durations)
    exact = sorted(durations)[max(0, math.ceil(round(q * len(durations), 6)) - 1)]
    assert exact <= made.quantile(q) <= exact * 1.032
    assert (made.count, made.max) == (len(durations), max(durations))


@pytest.mark.parametrize("value", [0, 1, 31, 32, 33, 63, 64, 65, 2**39 - 1, 2**39, 2**40 - 1])
def test_edges_of_buckets(value):
    assert value <= histogram([value, 2**40 - 1]).quantile(0.5) <= value * 1.032


def test_what_is_out_of_range_is_counted_at_the_edges():
    made = histogram([-5, -(2**63)])
    assert (made.quantile(0.5), made.count, made.max) == (0, 2, 0)
    made = histogram([2**40, 2**63 - 1])
    assert made.quantile(0.5) == 2**40 - 1
    assert made.max == 2**63 - 1


def test_an_empty_histogram_says_0():
    assert Histogram().quantile(0.5) == 0


@pytest.mark.parametrize("q", [-0.1, 1.1, math.nan])
def test_a_quantile_is_a_share(q):
    with pytest.raises(ValueError, match="expected a quantile from 0 to 1"):
        Histogram().quantile(q)


@given(st.lists(DURATIONS, max_size=50), st.lists(DURATIONS, max_size=50))
def test_merged_histograms_are_that_of_all_durations(one, other):
    merged = histogram(one)
    merged.merge(histogram(other))
    assert merged.to_dict() == histogram(one + other).to_dict()


def test_a_histogram_as_a_dict():
    assert histogram(range(32)).to_dict() == {"count": 32, "p50": 15, "p99": 31, "p99.9": 31, "max": 31}


# --- stages ---------------------------------------------------------------------------------------


def measured(latency, handler, *, policy="none"):
    """Return a pipeline in front of `handler` whose messages `latency` measures."""
    head = conflated(LatencyProbe(handler, latency), policy)
    return Pipeline(exchange("binance"), Instruments(infer=True), head, latency=latency)


def counts(latency):
    return {stage: figures["count"] for stage, figures in latency.to_dict().items()}


def test_every_message_its_book_and_its_callbacks_are_measured(log):
    latency = Latency(every=1)
    pipeline = measured(latency, log)
    pipeline.on_message(trade(), 1, True)
    pipeline.on_message(depth(11, 11, [("99", "1")]), 2, True)  # waits for its snapshot: no update
    pipeline.on_reply("BTCUSDT", snapshot(10, [("100", "1")], [("101", "1")]), 3)
    pipeline.on_message(depth(12, 12, [("99", "2")]), 4, True)
    pipeline.on_message(book_ticker(), 5, True)
    assert len(log.updates) == 2
    # The reply, and the update that it brought, belong to no message.
    assert counts(latency) == {"decode": 4, "book": 1, "to_callback": 3, "callback": 3}


def test_conflated_callbacks_are_measured_once_they_are_made(log):
    latency = Latency(every=1)
    pipeline = measured(latency, log, policy="batch")
    for number in range(5):
        pipeline.on_message(book_ticker(), 1, number == 4)
    assert counts(latency) == {"decode": 5, "to_callback": 1, "callback": 1}


def test_a_message_that_is_refused_is_not_measured_and_does_not_disturb_the_next(log):
    latency = Latency(every=1)
    pipeline = measured(latency, log)
    pipeline.on_message(b"{broken", 1, True)
    pipeline.on_message(trade(), 1, True)
    assert counts(latency) == {"decode": 1, "to_callback": 1, "callback": 1}


def test_one_message_in_so_many_is_measured_at_random_distances(log):
    latency = Latency(every=4)
    pipeline = measured(latency, log)
    distances, last = [], 0
    for number in range(20_000):
        before = latency.decode.count
        pipeline.on_message(trade(t=number), 1, True)
        if latency.decode.count > before:
            distances.append(number - last)
            last = number
    assert 4800 <= latency.decode.count <= 5200
    assert set(distances[1:]) == {1, 2, 3, 4, 5, 6, 7}


def test_times_are_those_of_another_clock():
    outside = []

    class Slow(EventHandler):
        def on_trade(self, event):
            until = time.monotonic_ns() + 20_000_000
            while time.monotonic_ns() < until:
                pass

    latency = Latency(every=1)
    pipeline = measured(latency, Slow())
    for number in range(3):
        began = time.monotonic_ns()
        pipeline.on_message(trade(t=number), 1, True)
        outside.append(time.monotonic_ns() - began)
    assert latency.callback.quantile(0) >= 20_000_000 * 0.999
    assert latency.callback.max <= max(outside) * 1.001


def test_live_time_counts_from_the_read(log):
    latency = Latency(is_live=True, every=1)
    pipeline = measured(latency, log)
    ts_recv = time.time_ns() - 10**9
    pipeline.on_message(trade(), ts_recv, True)
    assert latency.read_to_decode.max >= 10**9
    assert latency.to_callback.max >= latency.read_to_decode.max
    assert latency.decode.max < 10**9


@pytest.mark.parametrize("every", [0, -1, 1_000_001])
def test_every_has_bounds(every):
    with pytest.raises(ValueError, match="expected every of 1 to 1000000"):
        Latency(every=every)


def test_latencies_merge_stage_by_stage(log):
    latency, other = Latency(every=1), Latency(every=1)
    for each in (latency, other):
        measured(each, log).on_message(trade(), 1, True)
    latency.merge(other)
    assert counts(latency) == {"decode": 2, "to_callback": 2, "callback": 2}


def test_a_handler_that_raises_is_not_measured_and_the_next_message_is():
    class Once(EventLog):
        def on_trade(self, event):
            super().on_trade(event)
            if len(self.trades) == 1:
                raise ValueError("once")

    latency = Latency(every=1)
    pipeline = measured(latency, Once())
    with pytest.raises(ValueError, match="once"):
        pipeline.on_message(trade(), 1, True)
    pipeline.on_message(trade(), 1, True)
    assert counts(latency) == {"decode": 2, "to_callback": 2, "callback": 1}


@pytest.mark.parametrize("policy", ["batch", "none"])
def test_measuring_changes_no_callback(tmp_path, policy):
    path = tmp_path / "r.feeds"
    with RecordingWriter(path) as writer:
        source = writer.add_source("binance", "wss://x")
        for number in range(300):
            payload = [trade(t=number), book_ticker(), depth(number, number + 1)][number % 3]
            last = LAST_IN_BATCH if number % 7 == 6 else 0
            writer.write_message(number + 1, source, int(Kind.TEXT) | last, payload, "")
    logs = EventLog(), EventLog()
    off = session.replay(logs[0], path, policy=policy)
    on = session.replay(logs[1], path, policy=policy, latency=True)
    assert on.digest == off.digest
    assert [*map(repr, logs[0].events)] == [*map(repr, logs[1].events)]
    assert off.latency is None
    assert 0 < on.latency.decode.count < 100
    assert json.loads(json.dumps(on.latency.to_dict())) == on.latency.to_dict()
