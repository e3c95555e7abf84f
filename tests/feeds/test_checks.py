from feeds.checks import QuoteCheck
from feeds.testing import EventLog
from tests.feeds.conftest import pipeline_of
from tests.feeds.messages import book_ticker, depth, snapshot


def run(*messages):
    log = EventLog()
    check = QuoteCheck(log)
    pipeline = pipeline_of("binance", check)
    for n, message in enumerate(messages):
        if b"lastUpdateId" in message:
            pipeline.on_reply("BTCUSDT", message, n)
        else:
            pipeline.on_message(message, n, True)
    assert len(log.events) >= len(messages)
    return check.result()


def test_a_book_is_compared_with_the_newest_quote_not_above_it():
    result = run(
        book_ticker("1.00", "2.000", bid_qty="1", ask_qty="1", u=10),
        snapshot(10, [("1.0", "1")], [("2", "1.0")]),
        depth(11, 12, [("1.5", "1")]),
        book_ticker("1.7", "2", bid_qty="1", ask_qty="1", u=13),
        book_ticker("1.5", "2", bid_qty="1", ask_qty="1", u=11),  # later on the wire, but the one that counts
    )
    assert (result.compared, result.equal, result.without_quote, result.mismatches) == (2, 2, 0, [])


def test_a_difference_in_price_or_quantity_is_a_mismatch():
    quote = book_ticker("1", "2", bid_qty="1", ask_qty="1", u=10)
    for bids, asks in (
        ([("1", "2")], [("2", "1")]),
        ([("1.1", "1")], [("2", "1")]),
        ([("1", "1")], []),
        ([("1", "1")], [("2", "3")]),
    ):
        result = run(quote, snapshot(10, bids, asks))
        assert (result.compared, result.equal) == (1, 0)
        (mismatch,) = result.mismatches
        assert (mismatch.book_id, mismatch.quote_id, mismatch.quote) == (10, 10, ((1, 0, 1, 0), (2, 0, 1, 0)))


def test_one_sided_quotes_and_books_agree():
    assert run(book_ticker("1", "0.00", bid_qty="1", ask_qty="0.0", u=1), snapshot(1, [("1", "1")])).equal == 1


def test_a_book_without_a_quote_before_it_is_counted():
    result = run(snapshot(5, [("1", "1")]), book_ticker(u=6))
    assert (result.compared, result.without_quote) == (0, 1)


def test_mismatches_are_all_counted_and_some_shown():
    result = run(book_ticker(u=1), *(snapshot(n, [("1", "1")]) for n in range(1, 40)))
    assert (result.compared, result.equal, len(result.mismatches)) == (39, 0, 20)
