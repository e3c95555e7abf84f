"""What is counted, and what silence is taken for unusual."""

from __future__ import annotations

from math import inf

import pytest

from feeds.events import (
    BookDelta,
    Candle,
    Event,
    EventHandler,
    Funding,
    Liquidation,
    OpenInterest,
    Quote,
    Ticker,
    Trade,
)
from feeds.instrument import Instrument, Instruments
from feeds.live.activity import Activity
from feeds.testing import EventLog


@pytest.fixture
def instruments() -> list[Instrument]:
    known = Instruments()
    return [known.add("x", name, symbol=name, kind="spot") for name in ("A", "B", "C")]


def quote(instrument: Instrument) -> Quote:
    return Quote(instrument, bid_price="1", bid_qty="1")


def look(activity: Activity, *events: Event, elapsed: float = 1.0, most: int = 10) -> list[tuple[str, str, float]]:
    """Let events come, and time pass."""
    for event in events:
        event.dispatch(activity)
    return [(instrument.symbol, channel, silence) for instrument, channel, silence in activity.look(elapsed, most)]


def learned(a: Instrument, **options: float) -> Activity:
    """One subscription that has brought something every second, often enough."""
    activity = Activity(EventHandler(), **{"factor": 4.0, "floor": 10.0, "ceiling": 100.0, **options})
    activity.serve([(a, "quote")])
    activity.restart()
    for _ in range(17):  # the first of which is an answer
        look(activity, quote(a))
    return activity


def test_every_kind_counts_for_its_channels_and_is_passed_on(instruments: list[Instrument]) -> None:
    a = instruments[0]
    events = {
        ("book", "book_top"): BookDelta(a, bids=[("1", "1")]),
        ("quote",): quote(a),
        ("trade", "agg_trade"): Trade(a, price="1", qty="1"),
        ("ticker",): Ticker(a, last_price="1"),
        ("funding",): Funding(a, funding_rate="1"),
        ("open_interest",): OpenInterest(a, open_interest="1"),
        ("liquidation",): Liquidation(a, price="1", qty="1"),
        ("candle",): Candle(a, ts_open=0, interval=60, open="1", high="1", low="1", close="1"),
    }
    for channels, event in events.items():
        for channel in channels:
            log = EventLog()
            activity = Activity(log)
            activity.serve([(a, channel)])
            for other in events.values():
                if other is not event:
                    other.dispatch(activity)
            activity.look(1.0, 10)
            assert activity.silence == 1.0
            event.dispatch(activity)
            activity.look(1.0, 10)
            assert activity.silence == 0.0
            assert log.events == [*(other for other in events.values() if other is not event), event]


def test_nothing_is_usual_before_enough_has_been_seen(instruments: list[Instrument]) -> None:
    a = instruments[0]
    activity = Activity(EventHandler(), floor=10.0, ceiling=100.0)
    activity.serve([(a, "quote")])
    activity.restart()
    for _ in range(16):
        look(activity, quote(a))
        assert activity.threshold == inf
    look(activity, quote(a))
    assert activity.threshold == 10.0


def test_a_threshold_is_a_multiple_of_the_longest_silence_within_limits(instruments: list[Instrument]) -> None:
    a = instruments[0]
    activity = learned(a)
    for silence, threshold in [(2, 10.0), (5, 20.0), (25, 100.0), (26, inf)]:
        for _ in range(silence - 1):
            look(activity)
        assert activity.silence == silence - 1
        look(activity, quote(a))
        assert activity.threshold == threshold


def test_what_was_long_ago_is_forgotten(instruments: list[Instrument]) -> None:
    a = instruments[0]
    activity = learned(a, window=100.0)
    look(activity, quote(a), elapsed=20.0)
    assert activity.threshold == 80.0
    for _ in range(40):
        look(activity, quote(a))
    assert activity.threshold == 80.0
    for _ in range(100):
        look(activity, quote(a))
    assert activity.threshold == 10.0


def test_a_quiet_symbol_on_a_busy_connection_has_stalled(instruments: list[Instrument]) -> None:
    a, b, _ = instruments
    activity = Activity(EventHandler(), floor=10.0, ceiling=100.0)
    activity.serve([(a, "quote"), (b, "quote")])
    activity.restart()
    for _ in range(17):
        assert look(activity, quote(a), quote(b)) == []
    found = {second: stalled for second in range(1, 60) if (stalled := look(activity, quote(a)))}
    assert found == {11: [("B", "quote", 11.0)], 41: [("B", "quote", 41.0)]}  # the third time would be past the ceiling


def test_on_a_silent_connection_nothing_has_stalled(instruments: list[Instrument]) -> None:
    a, b, _ = instruments
    activity = learned(a)
    activity.serve([(a, "quote"), (b, "quote")])
    for second in range(1, 60):
        assert look(activity) == []
        assert activity.silence == second


def test_patience_ends_when_data_flow_again(instruments: list[Instrument]) -> None:
    a = instruments[0]
    activity = learned(a)
    activity.gave_up()
    assert activity.threshold == 40.0
    activity.restart()
    for _ in range(15):
        look(activity, quote(a))
    assert activity.threshold == 40.0
    look(activity, quote(a))
    assert activity.threshold == 10.0


def test_an_answer_to_a_subscription_teaches_nothing(instruments: list[Instrument]) -> None:
    a = instruments[0]
    activity = learned(a)
    look(activity, elapsed=20.0)
    activity.restart()
    look(activity, quote(a), elapsed=20.0)
    assert activity.threshold == 10.0
    look(activity, quote(a), elapsed=20.0)
    assert activity.threshold == 80.0


def test_a_renewed_subscription_teaches_nothing_either(instruments: list[Instrument]) -> None:
    a, b, _ = instruments
    activity = Activity(EventHandler(), floor=10.0, ceiling=100.0)
    activity.serve([(a, "quote"), (b, "quote")])
    for _ in range(17):
        look(activity, quote(a), quote(b))
    for _ in range(11):
        look(activity, quote(a))
    activity.renewed((b, "quote"))
    look(activity, quote(a), quote(b))
    for _ in range(16):
        look(activity, quote(a), quote(b))
    assert [look(activity, quote(a)) for _ in range(11)][-1] == [("B", "quote", 11.0)]


def test_thresholds_can_be_set_by_channel(instruments: list[Instrument]) -> None:
    a, b, _ = instruments
    activity = Activity(EventHandler(), timeouts={"quote": 2.0})
    activity.serve([(a, "trade"), (b, "quote"), (b, "trade")])
    found = [look(activity, Trade(a, price="1", qty="1")) for _ in range(9)]
    assert found == [[], [], [("B", "quote", 3.0)], [], [], [], [], [], [("B", "quote", 9.0)]]


def test_what_is_over_the_limit_is_found_by_the_next_look(instruments: list[Instrument]) -> None:
    a, b, c = instruments
    activity = Activity(EventHandler(), timeouts={"quote": 2.0})
    activity.serve([(a, "trade"), (b, "quote"), (c, "quote")])
    found = [look(activity, Trade(a, price="1", qty="1"), most=1) for _ in range(5)]
    assert found == [[], [], [("B", "quote", 3.0)], [("C", "quote", 4.0)], []]


def test_what_is_served_may_change_and_what_stays_keeps_what_was_learned(instruments: list[Instrument]) -> None:
    a, b, c = instruments
    activity = Activity(EventHandler(), floor=10.0, ceiling=100.0)
    activity.serve([(a, "quote"), (b, "quote")])
    for _ in range(17):
        look(activity, quote(a), quote(b), quote(c))  # the last of which is not served
    activity.serve([(c, "quote"), (b, "quote")])
    assert activity.threshold == 10.0
    found = [look(activity, quote(c)) for _ in range(11)]
    assert found == [[]] * 10 + [[("B", "quote", 11.0)]]
    activity.serve([])
    assert look(activity, quote(a)) == []
    assert activity.silence == 1.0
