import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feeds.book import OrderBook
from feeds.events import BookUpdate, Quote, Trade
from feeds.instrument import Instruments
from feeds.latency import Histogram, LatencyProbe
from feeds.testing import EventLog

X = Instruments(infer=True).find("x", "X")
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


def test_the_probe_measures_each_delivered_event_and_passes_it_on():
    log = EventLog()
    probe = LatencyProbe(log)
    ts_recv = time.time_ns() - 10**9
    events = [
        Trade(X, price=1, qty=1, ts_recv=ts_recv),
        Quote(X, ts_recv=ts_recv),
        BookUpdate(OrderBook(X), ts_recv=ts_recv),
    ]
    for event in events:
        event.dispatch(probe)
    assert log.events == events
    assert probe.read_to_callback.count == 3
    assert probe.read_to_callback.quantile(0) >= 10**9
