import pytest

from feeds.book import BookState, OrderBook
from feeds.book_builder import BookBuilder
from feeds.digest import CallbackDigest
from feeds.events import BookDelta, BookStatus, BookUpdate, EventHandler, FeedStatus, Quote, Side, Trade
from feeds.instrument import Instruments
from feeds.testing import EventLog

MADE = Instruments()
X = MADE.add("x", "X", price_decimals=2, qty_decimals=2)
Y = MADE.add("x", "Y", price_decimals=2, qty_decimals=2)
FINE = Instruments().add("x", "X", price_decimals=3, qty_decimals=2)


def digest(*events):
    stage = CallbackDigest(EventHandler())
    for event in events:
        event.dispatch(stage)
    assert stage.callbacks == len(events)
    return stage.hexdigest


def of(kind, base, changes):
    return [kind(**(base | change)) for change in ({}, *changes)]


def status(**kwargs):
    return BookStatus(
        OrderBook(kwargs.pop("instrument")), kwargs.pop("old"), kwargs.pop("new"), kwargs.pop("reason"), **kwargs
    )


def update(instrument=X, **kwargs):
    return BookUpdate(OrderBook(instrument), **kwargs)


TIMES = [{"ts_event": 5}, {"ts_recv": 5}]
WHO = [{"instrument": Y}, {"instrument": FINE}]
CASES = [
    of(
        Trade,
        {"instrument": X, "price": 1, "qty": 1},
        [
            *WHO,
            *TIMES,
            {"price": 2},
            {"qty": 2},
            {"side": Side.BUY},
            {"side": Side.SELL},
            {"id": 7},
            {"id": "7"},
            {"id": "8"},
        ],
    ),
    of(
        Quote,
        {"instrument": X, "bid_price": 1, "bid_qty": 1, "ask_price": 2, "ask_qty": 1},
        [*WHO, *TIMES, {"bid_price": 3}, {"bid_qty": 3}, {"ask_price": 3}, {"ask_qty": 3}, {"sequence": 4}],
    ),
    of(
        BookDelta,
        {"instrument": X, "bids": [(1, 1)], "asks": [(2, 1)]},
        [
            *WHO,
            *TIMES,
            {"bids": [(1, 2)]},
            {"bids": [(3, 1)]},
            {"bids": []},
            {"asks": []},
            {"asks": [(2, 1), (3, 0)]},
            {"bids": [(1, 1), (2, 1)], "asks": []},
            {"is_snapshot": True},
            {"depth": 5},
            {"first_id": 1},
            {"last_id": 1},
            {"previous_id": 1},
        ],
    ),
    of(update, {}, [*WHO, *TIMES, {"merged": 2}, {"ts_event_first": 4}]),
    of(
        status,
        {"instrument": X, "old": BookState.LIVE, "new": BookState.GAP, "reason": "r"},
        [*WHO, *TIMES, {"old": BookState.SYNCING}, {"new": BookState.STALE}, {"reason": "s"}],
    ),
    of(
        FeedStatus,
        {"exchange": "x", "status": "connected", "reason": "r"},
        [{"exchange": "y"}, {"status": "silent"}, {"reason": "s"}, {"source": 1}, {"ts_recv": 1}],
    ),
]


@pytest.mark.parametrize("events", CASES, ids=lambda events: type(events[0]).__name__)
def test_every_field_counts(events):
    digests = [digest(event) for event in events]
    assert len(set(digests)) == len(events)
    assert digests == [digest(event) for event in events]


def test_all_kinds_differ_and_so_do_order_and_number():
    firsts = [events[0] for events in CASES]
    assert len({digest(event) for event in firsts}) == len(firsts)
    assert digest(*firsts) != digest(*reversed(firsts))
    assert digest(firsts[0]) != digest(firsts[0], firsts[0])


def test_a_batch_end_counts_with_its_time():
    digests = set()
    for ends in ([], [1], [2], [1, 1]):
        stage = CallbackDigest(EventHandler())
        for end in ends:
            stage.on_batch_end(end)
        digests.add(stage.hexdigest)
    assert len(digests) == 4


def test_a_book_counts_with_its_best_five_levels_and_its_depth():
    def of_book(bids, asks=((200, 1),)):
        stage = CallbackDigest(EventHandler())
        builder = BookBuilder(EventHandler())
        builder.on_book_delta(BookDelta(X, is_snapshot=True, bids=bids, asks=asks))
        stage.on_book(BookUpdate(builder.book(X)))
        return stage.hexdigest

    levels = [(price, 1) for price in range(100, 90, -1)]
    base = of_book(levels)
    assert of_book(levels) == base
    for at in range(5):
        assert of_book([(p, 2 if n == at else q) for n, (p, q) in enumerate(levels)]) != base
    assert of_book(levels[:-1]) != base
    assert of_book(levels, asks=[(200, 2)]) != base
    assert of_book(levels, asks=[]) != base


def test_everything_goes_on_downstream():
    log = EventLog()
    stage = CallbackDigest(log)
    for events in CASES:
        events[0].dispatch(stage)
    stage.on_batch_end(3)
    assert log.events == [events[0] for events in CASES]
    assert log.batch_ends == [3]
