"""What is counted, and what silence is taken for unusual."""

from __future__ import annotations

from math import inf
from typing import Any

import pytest

from feeds.book_builder import BookBuilder
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


@pytest.fixture
def instruments() -> list[Instrument]:
    known = Instruments()
    return [known.add("x", name, symbol=name, kind="spot") for name in ("A", "B", "C")]


def quote(instrument: Instrument) -> Quote:
    return Quote(instrument, bid_price="1", bid_qty="1")


class Watched:
    """Books through which the events of a connection pass, and what is learned of it."""

    def __init__(self, **options: Any) -> None:
        self.books = BookBuilder(EventHandler())
        self.activity = Activity(self.books, **{"floor": 10.0, "ceiling": 100.0, **options})
        self.serve, self.restart = self.activity.serve, self.activity.restart
        self.renewed, self.gave_up = self.activity.renewed, self.activity.gave_up

    @property
    def silence(self) -> float:
        return self.activity.silence

    @property
    def threshold(self) -> float:
        return self.activity.threshold

    def look(self, *events: Event, elapsed: float = 1.0, most: int = 10) -> list[tuple[str | None, str, float]]:
        """Let events come, and time pass."""
        for event in events:
            event.dispatch(self.books)
        return [(i.symbol, channel, silence) for i, channel, silence in self.activity.look(elapsed, most)]


def learned(a: Instrument, **options: float) -> Watched:
    """One subscription that has brought something every second, often enough."""
    watched = Watched(**options)
    watched.serve([(a, "quote")])
    watched.restart()
    for _ in range(17):  # the first of which is an answer
        watched.look(quote(a))
    return watched


def test_every_kind_counts_for_its_channels(instruments: list[Instrument]) -> None:
    a = instruments[0]
    events: dict[tuple[str, ...], Event] = {
        ("book", "book_top"): BookDelta(a, is_snapshot=True, bids=[("1", "1")]),
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
            watched = Watched()
            watched.serve([(a, channel)])
            watched.look(*(other for other in events.values() if other is not event))
            assert watched.silence == 1.0
            watched.look(event)
            assert watched.silence == 0.0


def test_nothing_is_usual_before_enough_has_been_seen(instruments: list[Instrument]) -> None:
    a = instruments[0]
    watched = Watched()
    watched.serve([(a, "quote")])
    watched.restart()
    for _ in range(16):
        watched.look(quote(a))
        assert watched.threshold == inf
    watched.look(quote(a))
    assert watched.threshold == 10.0


def test_a_threshold_is_a_multiple_of_the_longest_silence_within_limits(instruments: list[Instrument]) -> None:
    a = instruments[0]
    watched = learned(a)
    for silence, threshold in [(2, 10.0), (5, 20.0), (25, 100.0), (26, inf)]:
        for _ in range(silence - 1):
            watched.look()
        assert watched.silence == silence - 1
        watched.look(quote(a))
        assert watched.threshold == threshold


def test_what_was_long_ago_is_forgotten(instruments: list[Instrument]) -> None:
    a = instruments[0]
    watched = learned(a, window=100.0)
    watched.look(quote(a), elapsed=20.0)
    assert watched.threshold == 80.0
    for _ in range(40):
        watched.look(quote(a))
    assert watched.threshold == 80.0
    for _ in range(100):
        watched.look(quote(a))
    assert watched.threshold == 10.0


def test_a_quiet_symbol_on_a_busy_connection_has_stalled(instruments: list[Instrument]) -> None:
    a, b, _ = instruments
    watched = Watched()
    watched.serve([(a, "quote"), (b, "quote")])
    watched.restart()
    for _ in range(17):
        assert watched.look(quote(a), quote(b)) == []
    found = {second: stalled for second in range(1, 60) if (stalled := watched.look(quote(a)))}
    assert found == {11: [("B", "quote", 11.0)], 41: [("B", "quote", 41.0)]}  # the third time would be past the ceiling


def test_on_a_silent_connection_nothing_has_stalled(instruments: list[Instrument]) -> None:
    a, b, _ = instruments
    watched = learned(a)
    watched.serve([(a, "quote"), (b, "quote")])
    for second in range(1, 60):
        assert watched.look() == []
        assert watched.silence == second


def test_patience_ends_when_data_flow_again(instruments: list[Instrument]) -> None:
    a = instruments[0]
    watched = learned(a)
    watched.gave_up()
    assert watched.threshold == 40.0
    watched.restart()
    for _ in range(15):
        watched.look(quote(a))
    assert watched.threshold == 40.0
    watched.look(quote(a))
    assert watched.threshold == 10.0


def test_an_answer_to_a_subscription_teaches_nothing(instruments: list[Instrument]) -> None:
    a = instruments[0]
    watched = learned(a)
    watched.look(elapsed=20.0)
    watched.restart()
    watched.look(quote(a), elapsed=20.0)
    assert watched.threshold == 10.0
    watched.look(quote(a), elapsed=20.0)
    assert watched.threshold == 80.0


def test_a_renewed_subscription_teaches_nothing_either(instruments: list[Instrument]) -> None:
    a, b, _ = instruments
    watched = Watched()
    watched.serve([(a, "quote"), (b, "quote")])
    for _ in range(17):
        watched.look(quote(a), quote(b))
    for _ in range(11):
        watched.look(quote(a))
    watched.renewed((b, "quote"))
    watched.look(quote(a), quote(b))
    for _ in range(16):
        watched.look(quote(a), quote(b))
    assert [watched.look(quote(a)) for _ in range(11)][-1] == [("B", "quote", 11.0)]


def test_thresholds_can_be_set_by_channel(instruments: list[Instrument]) -> None:
    a, b, _ = instruments
    watched = Watched(timeouts={"quote": 2.0})
    watched.serve([(a, "trade"), (b, "quote"), (b, "trade")])
    found = [watched.look(Trade(a, price="1", qty="1")) for _ in range(9)]
    assert found == [[], [], [("B", "quote", 3.0)], [], [], [], [], [], [("B", "quote", 9.0)]]


def test_what_is_over_the_limit_is_found_by_the_next_look(instruments: list[Instrument]) -> None:
    a, b, c = instruments
    watched = Watched(timeouts={"quote": 2.0})
    watched.serve([(a, "trade"), (b, "quote"), (c, "quote")])
    found = [watched.look(Trade(a, price="1", qty="1"), most=1) for _ in range(5)]
    assert found == [[], [], [("B", "quote", 3.0)], [("C", "quote", 4.0)], []]


def test_what_is_served_may_change_and_what_stays_keeps_what_was_learned(instruments: list[Instrument]) -> None:
    a, b, c = instruments
    watched = Watched()
    watched.serve([(a, "quote"), (b, "quote")])
    for _ in range(17):
        watched.look(quote(a), quote(b), quote(c))  # the last of which is not served
    watched.serve([(c, "quote"), (b, "quote")])
    assert watched.threshold == 10.0
    found = [watched.look(quote(c)) for _ in range(11)]
    assert found == [[]] * 10 + [[("B", "quote", 11.0)]]
    watched.serve([])
    assert watched.look(quote(a)) == []
    assert watched.silence == 1.0
