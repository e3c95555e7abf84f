"""Counting in constant memory: against the same by hand."""

from __future__ import annotations

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feeds import survey as module
from feeds.recording import LAST_IN_BATCH, Kind, RawMessage, RecordingReader, RecordingWriter
from feeds.survey import Moments, Periods, Survey, SurveyedReplay

MS = 1_000_000
T0 = 1_700_000_000_000 * MS
STREAM = '{"stream":"%s@bookTicker","data":{"u":1,"s":"%s","b":"100","B":"%s","a":"%s","A":"3"}}'


def quote(symbol: str, bid_qty: str = "1", ask: str = "101") -> str:
    return STREAM % (symbol.lower(), symbol, bid_qty, ask)


def surveyed(messages: list[tuple[int, str]], *, silence: float = 5.0, last: list[bool] | None = None) -> Survey:
    """Play payloads at their times, each a batch of its own unless `last` tells."""
    file = io.BytesIO()
    with RecordingWriter(file, max_pending_blocks=1000) as writer:
        source = writer.add_source("binance", "wss://x")
        for n, (ts, payload) in enumerate(messages):
            flags = Kind.TEXT | (LAST_IN_BATCH if last is None or last[n] else 0)
            writer.write(RawMessage(ts, source, flags, "", payload.encode()))
    survey = Survey(silence)
    with RecordingReader(io.BytesIO(file.getvalue()), strict=True) as reader:
        SurveyedReplay(reader, survey).run()
    survey.finish()
    return survey


def at(times: list[int]) -> Survey:
    return surveyed([(ts, quote("A")) for ts in times])


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 60 * MS), min_size=1, max_size=60))
def test_the_most_in_a_window_is_what_counting_every_window_finds(steps: list[int]) -> None:
    times = [T0 + sum(steps[: n + 1]) for n in range(len(steps))]
    for window, (most, until) in at(times).bursts.items():
        counted = {ts: sum(ts - window < other <= ts for other in times) for ts in times}
        assert most == max(counted.values())
        assert counted[until] == most


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 10**11), min_size=1, max_size=80))
def test_no_message_and_no_extreme_is_lost_however_long_the_recording(steps: list[int]) -> None:
    times = [T0 + sum(steps[: n + 1]) for n in range(len(steps))]
    survey = surveyed([(ts, quote("A", ask=str(101 + n))) for n, ts in enumerate(times)])
    length = 1 << survey.shift
    points = survey.symbols[0].spread.points()
    expected: dict[int, list[int]] = {}
    for n, ts in enumerate(times):
        expected.setdefault((ts - survey.start) // length, []).append(n + 1)
    assert [(slot, low, round(mean * n), high, n) for slot, low, mean, high, n in points] == [
        (slot, min(values), sum(values), max(values), len(values)) for slot, values in expected.items()
    ]
    assert max(expected) < 512
    assert [point[4] for point in survey.rate.points()] == [len(values) for values in expected.values()]


def test_a_clock_that_goes_back_is_told_and_begins_windows_anew() -> None:
    survey = at([T0, T0 + 3 * MS, T0 - 2 * MS, T0 - 2 * MS, T0 + 1 * MS])
    assert (survey.steps_back, survey.largest_step_back) == (1, 5 * MS)
    assert (survey.first, survey.last) == (T0, T0 + 3 * MS)
    assert survey.bursts == {1 * MS: (2, T0 - 2 * MS), 10 * MS: (3, T0 + 1 * MS), 100 * MS: (3, T0 + 1 * MS)}


@pytest.mark.parametrize("times", [[-(2**63), 2**63 - 1, 1], [2**63 - 1, -(2**63)], [5, 2**62, 2**63 - 1]])
def test_times_that_make_no_sense_do_no_harm(times: list[int]) -> None:
    assert at(times).batches == len(times)


def test_messages_without_a_time_are_counted_but_in_no_window() -> None:
    survey = at([0, 0, T0, 0])
    assert (survey.first, survey.batches) == (T0, 4)
    assert survey.bursts[1 * MS] == (1, T0)
    assert survey.symbols[0].counts["quote"] == 4


def test_windows_forget_the_oldest_beyond_a_million() -> None:
    survey = surveyed([(T0, quote("A"))] * 1_050_000)
    assert survey.bursts == dict.fromkeys((1 * MS, 10 * MS, 100 * MS), (1_048_576, T0))
    assert survey.batches == 1_050_000


@pytest.mark.parametrize(
    ("size", "bounds"), [(1, (1, 1)), (2, (2, 2)), (3, (3, 4)), (4, (3, 4)), (5, (5, 8)), (8, (5, 8)), (9, (9, 16))]
)
def test_batches_are_counted_by_their_size(size: int, bounds: tuple[int, int]) -> None:
    survey = surveyed([(T0, "{}")] * size * 3, last=([False] * (size - 1) + [True]) * 3)
    assert survey.batch_sizes == {bounds: 3}
    assert (survey.batches, survey.largest_batch) == (3, size)


def test_spread_and_quantities_are_of_quotes_while_there_is_no_book() -> None:
    survey = surveyed([(T0, quote("A", "1.5", "100.25")), (T0, quote("A", "0"))])
    row = survey.symbols[0]
    assert row.spread.points() == [(0, 0.25, 0.25, 0.25, 1)]
    assert row.bid_qty.points() == [(0, 1.5, 1.5, 1.5, 1)]
    assert row.ask_qty.points() == [(0, 3.0, 3.0, 3.0, 1)]


def test_symbols_beyond_the_limits_are_counted_together() -> None:
    names = [f"S{n}" for n in range(1003)]
    survey = surveyed([(T0, quote(name)) for name in [*names, names[-1]]])
    assert len(survey.symbols) == 1000
    assert survey.unlisted_symbols == 3
    assert survey.others.counts["quote"] == 4
    assert [row.spread is None for row in (survey.symbols[199], survey.symbols[200])] == [False, True]
    assert survey.others.spread is None


def test_the_longest_periods_are_listed_in_the_order_of_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_LISTED", 2)
    periods = Periods()
    for start, end in ((0, 5), (10, 11), (20, 30), (40, 38)):
        periods.add(start, end, n=start)
    assert periods.to_dict() == {
        "count": 4, "total_ns": 16, "listed": [{"start": 0, "end": 5, "n": 0}, {"start": 20, "end": 30, "n": 20}],
    }  # fmt: skip


def test_the_first_moments_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_LISTED", 2)
    moments = Moments()
    for n in range(3):
        moments.add(n=n)
    assert moments.to_dict() == {"count": 3, "listed": [{"n": 0}, {"n": 1}]}


def test_reasons_and_statuses_are_bounded() -> None:
    file = io.BytesIO()
    with RecordingWriter(file) as writer:
        source = writer.add_source("binance", "wss://x")
        for n in range(30):
            writer.write(RawMessage(T0 + n, source, Kind.DISCONNECTED, "", f"reason {n}".encode() + b"x" * 1000))
            writer.write(RawMessage(T0 + n, source, Kind.STATUS, "", b'{"status":"s%d"}' % n))
    survey = Survey()
    with RecordingReader(io.BytesIO(file.getvalue())) as reader:
        SurveyedReplay(reader, survey).run()
    (connection,) = survey.connections
    assert (connection.disconnects, len(connection.reasons), connection.reasons["(others)"]) == (30, 21, 10)
    assert max(map(len, connection.reasons)) == 200
    assert len(survey.statuses) == 21
    assert sum(survey.statuses.values()) == 60


@pytest.mark.parametrize("silence", [0, -1, float("nan"), float("inf")])
def test_a_silence_that_makes_no_sense_is_refused(silence: float) -> None:
    with pytest.raises(ValueError, match="silence: expected seconds, more than 0"):
        Survey(silence)


def test_differences_of_clocks_that_are_far_apart_are_told_exactly() -> None:
    trade = '{"stream":"x@trade","data":{"e":"trade","E":%d,"s":"A","t":7,"p":"1","q":"1","T":%d,"m":false,"M":true}}'
    late = [(T0 + 10**12 + n * 1000, trade % (T0 // MS, T0 // MS)) for n in range(1000)]
    skew = surveyed(late).skews["binance"]
    assert (skew.count, skew.min, skew.max) == (1000, 10**12, 10**12 + 999_000)
    assert skew.quantile(0.5) == pytest.approx(10**12 + 500_000, abs=0.04 * 500_000)
    assert skew.quantile(0.99) == pytest.approx(10**12 + 990_000, abs=0.04 * 990_000)
    early = surveyed([(ts - 2 * 10**12, text) for ts, text in reversed(late)]).skews["binance"]
    assert early.quantile(0.01) == pytest.approx(-(10**12) + 10_000, abs=0.04 * 999_000)
    assert (early.quantile(0), early.quantile(1)) == (early.min, early.max)
