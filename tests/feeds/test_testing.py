from feeds.events import Trade
from feeds.testing import EventLog
from tests.feeds.messages import depth, snapshot, trade


def test_events_are_kept_in_order_and_filtered_by_kind(spot, log):
    spot.on_reply("BTCUSDT", snapshot(1, [("1", "2")], [("3", "4")]), 1)
    spot.on_message(trade(), 2, True)
    spot.on_message(depth(2, 2, [("1", "0")]), 3, True)
    assert log.of(Trade) == log.trades == [log.events[4]]
    assert log.events == sorted(log.events, key=lambda event: event.ts_recv)
    assert [len(kind) for kind in (log.deltas, log.updates, log.book_statuses, log.quotes, log.feed_statuses)] == [
        2,
        2,
        2,
        0,
        0,
    ]
    assert log.tops == [((1.0, 2.0), (3.0, 4.0)), (None, (3.0, 4.0))]
    assert log.batch_ends == [1, 2, 3]
    log.clear()
    assert (log.events, log.tops, log.batch_ends) == ([], [], [])
    assert EventLog().events == []
