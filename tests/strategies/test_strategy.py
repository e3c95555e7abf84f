import pytest

from feeds.book import BookState, OrderBook
from feeds.events import (
    BookDelta,
    BookStatus,
    BookUpdate,
    Candle,
    FeedStatus,
    Funding,
    Liquidation,
    OpenInterest,
    Quote,
    Ticker,
    Trade,
)
from feeds.instrument import Instruments
from strategies.errors import StrategyError
from strategies.strategy import Strategy, StrategyHost

X = Instruments(infer=True).find("x", "X")
BOOK = OrderBook(X)
CALLBACKS = {
    "on_trade": Trade(X, price=1, qty=2, ts_recv=5),
    "on_quote": Quote(X, ts_recv=5),
    "on_book_delta": BookDelta(X, ts_recv=5),
    "on_book": BookUpdate(BOOK, ts_recv=5),
    "on_book_status": BookStatus(BOOK, BookState.SYNCING, BookState.LIVE, "r", ts_recv=5),
    "on_feed_status": FeedStatus("x", "connected", ts_recv=5),
    "on_ticker": Ticker(X, last_price=1, ts_recv=5),
    "on_funding": Funding(X, funding_rate=1, ts_recv=5),
    "on_open_interest": OpenInterest(X, open_interest=1, ts_recv=5),
    "on_liquidation": Liquidation(X, price=1, qty=2, ts_recv=5),
    "on_candle": Candle(X, ts_open=1, interval=60, open=1, high=1, low=1, close=1, ts_recv=5),
}


class Spy(Strategy):
    """Notes each call with the time at which it came."""

    def __init__(self):
        self.calls = []

    def on_start(self):
        self.calls.append(("on_start", self.now))

    def on_stop(self):
        self.calls.append(("on_stop", self.now))

    def on_timer(self, name):
        self.calls.append((name, self.now))

    def on_batch_end(self, ts_recv):
        self.calls.append(("on_batch_end", ts_recv))

    def timers(self):
        return [call for call in self.calls if not call[0].startswith("on_")]


for _name in CALLBACKS:
    setattr(Spy, _name, lambda self, event, name=_name: self.calls.append((name, self.now)))


@pytest.fixture
def spy():
    return Spy()


@pytest.fixture
def host(spy):
    return spy.hosted()


def test_every_callback_has_the_time_of_its_event(spy, host):
    host.start()
    for name, event in CALLBACKS.items():
        event.dispatch(host)
        assert spy.calls[-1] == (name, 5)
    host.on_batch_end(7)
    assert spy.now == 7
    host.on_batch_end(6)
    assert spy.now == 7
    host.stop()
    assert [name for name, _ in spy.calls] == ["on_start", *CALLBACKS, "on_batch_end", "on_batch_end", "on_stop"]
    assert isinstance(host, StrategyHost)
    assert host.strategy is spy


def test_books_are_there_from_their_first_status_on(spy, host):
    assert spy.book(X) is None
    host.on_book_status(CALLBACKS["on_book_status"])
    assert spy.book(X) is BOOK
    assert spy.books == {X: BOOK}


def test_a_strategy_that_does_nothing_may_be_run():
    strategy = Strategy()
    host = strategy.hosted()
    host.start()
    for event in CALLBACKS.values():
        event.dispatch(host)
    host.on_batch_end(1)
    strategy.set_timer("t", at=0)
    host.on_batch_end(2)
    host.stop()
    assert strategy.name == "Strategy"


# --- timers ---------------------------------------------------------------------------------------


def ends(host, *times):
    for time in times:
        host.on_batch_end(time)


def test_a_timer_fires_at_the_end_of_the_first_batch_not_before_it(spy, host):
    spy.set_timer("a", at=10)
    ends(host, 9, 10, 11)
    assert spy.timers() == [("a", 10)]
    assert spy.calls.index(("a", 10)) == spy.calls.index(("on_batch_end", 10)) - 1


def test_due_timers_fire_in_order_of_time_and_then_of_setting(spy, host):
    spy.set_timer("late", at=9)
    for name in "abc":
        spy.set_timer(name, at=5)
    ends(host, 10)
    assert [name for name, _ in spy.timers()] == ["a", "b", "c", "late"]


def test_a_periodic_timer_keeps_its_step_and_fires_once_when_late(spy, host):
    ends(host, 100)
    spy.set_timer("p", every=10)
    ends(host, 105, 110, 111, 119, 120, 155, 156, 160)
    assert spy.timers() == [("p", 110), ("p", 120), ("p", 155), ("p", 160)]


def test_one_that_is_set_before_the_first_event_counts_from_that(spy, host):
    spy.set_timer("p", every=10)
    ends(host, 1_000_003, 1_000_004, 1_000_012, 1_000_013, 1_000_014, 1_000_023)
    assert spy.timers() == [("p", 1_000_013), ("p", 1_000_023)]


def test_cancelling_removes_all_of_a_name_whenever(spy, host):
    class Canceller(Spy):
        def on_timer(self, name):
            super().on_timer(name)
            self.cancel_timer("p")
            self.cancel_timer("b")

    spy = Canceller()
    host = spy.hosted()
    ends(host, 1)
    spy.set_timer("p", every=10)
    spy.set_timer("a", at=5)
    spy.set_timer("b", at=5)
    spy.set_timer("b", at=50)
    spy.cancel_timer("unheard")
    ends(host, 5, 100)
    assert spy.timers() == [("a", 5)]


def test_a_timer_that_sets_itself_in_the_past_waits_for_the_next_batch():
    class Eager(Spy):
        def on_timer(self, name):
            super().on_timer(name)
            self.set_timer(name, at=0)

    spy = Eager()
    spy.set_timer("again", at=0)
    ends(spy.hosted(), 5, 5, 6, 9)
    assert spy.timers() == [("again", 5), ("again", 6), ("again", 9)]


def test_a_timer_may_be_set_for_later_from_anywhere(spy, host):
    class Chain(Spy):
        def on_timer(self, name):
            super().on_timer(name)
            if name == "a":
                self.set_timer("b", at=self.now + 3)

    spy = Chain()
    host = spy.hosted()
    spy.set_timer("a", at=2)
    ends(host, 2, 4, 5)
    assert spy.timers() == [("a", 2), ("b", 5)]


def test_far_away_is_never(spy, host):
    ends(host, 5)
    spy.set_timer("p", every=2**63 - 1)
    ends(host, 2**62)
    assert spy.timers() == []


@pytest.mark.parametrize(
    ("options", "error"),
    [({}, ValueError), ({"at": 1, "every": 1}, ValueError), ({"every": 0}, ValueError), ({"every": -1}, ValueError),
     ({"at": 1.5}, TypeError), ({"every": 1e9}, TypeError), ({"at": "1"}, TypeError), ({"at": 2**63}, OverflowError)],
)  # fmt: skip
def test_a_timer_that_makes_no_sense_is_refused_and_leaves_no_trace(spy, host, options, error):
    with pytest.raises(error):
        spy.set_timer("t", **options)
    ends(host, 2**60)
    assert spy.timers() == []
    with pytest.raises(TypeError):
        spy.set_timer(None, at=1)


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CALLBACKS)
def test_what_a_callback_raises_is_named_with_strategy_and_event(name):
    cause = ZeroDivisionError("mine")

    def fail(self, event):
        raise cause

    strategy = type("Mine", (Strategy,), {name: fail})()
    strategy.name = "my strategy"
    with pytest.raises(
        StrategyError, match=f"strategy 'my strategy' raised ZeroDivisionError in {name} at <.*>: mine"
    ) as error:
        CALLBACKS[name].dispatch(strategy.hosted())
    assert error.value.__cause__ is cause
    assert repr(CALLBACKS[name]) in str(error.value)


@pytest.mark.parametrize("name", ["on_start", "on_stop"])
def test_so_it_is_at_start_and_stop(name):
    def fail(self):
        raise ValueError("mine")

    host = type("Mine", (Strategy,), {name: fail})().hosted()
    with pytest.raises(StrategyError, match=f"strategy 'Mine' raised ValueError in {name}: mine"):
        (host.start if name == "on_start" else host.stop)()


def test_a_timer_is_named_apart_from_the_batch_end():
    class Mine(Strategy):
        def on_timer(self, name):
            raise ValueError("timer")

        def on_batch_end(self, ts_recv):
            raise ValueError("end")

    strategy = Mine()
    host = strategy.hosted()
    strategy.set_timer("tick", at=3)
    with pytest.raises(StrategyError, match=r"in on_timer\('tick'\): timer"):
        host.on_batch_end(3)
    with pytest.raises(StrategyError, match="in on_batch_end: end"):
        host.on_batch_end(4)
    strategy.set_timer("past", at=1)


def test_an_interrupt_is_no_error_of_the_strategy():
    class Mine(Strategy):
        def on_trade(self, event):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Mine().hosted().on_trade(CALLBACKS["on_trade"])


def test_none_is_no_strategy():
    with pytest.raises(TypeError):
        StrategyHost(None)
