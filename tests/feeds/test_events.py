from decimal import Decimal, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feeds.book import BookState, OrderBook
from feeds.events import (
    BookDelta,
    BookStatus,
    BookUpdate,
    Candle,
    Event,
    EventHandler,
    Fanout,
    FeedStatus,
    Funding,
    Liquidation,
    OpenInterest,
    Quote,
    Side,
    Stage,
    Ticker,
    Trade,
)
from feeds.instrument import Instruments
from feeds.testing import EventLog
from tests.feeds.messages import book_ticker, depth, snapshot, trade


def make(price_decimals=2, qty_decimals=3):
    return Instruments().add("x", "X", price_decimals=price_decimals, qty_decimals=qty_decimals)


X = make()


@given(st.integers(-(2**63) + 1, 2**63 - 1), st.integers(0, 18))
def test_floats_are_the_nearest_double_and_decimals_exact(mantissa, decimals):
    exact = Decimal(f"{mantissa}E-{decimals}")
    event = Trade(make(decimals, 0), price=exact, qty=1)
    assert event.price_decimal == exact
    assert event.price == float(exact)


def test_exact_numbers_do_not_depend_on_the_decimal_context():
    event = Trade(make(8, 8), price="61737.12345678", qty="1234567.00000001")
    delta = BookDelta(make(8, 8), bids=[("61737.12345678", "1.5")])
    with localcontext() as context:
        context.prec = 4
        assert str(event.price_decimal) == "61737.12345678"
        assert str(event.qty_decimal) == "1234567.00000001"
        assert str(delta.bids[0][0]) == "61737.12345678"
        assert Trade(make(8, 8), price="61737.12345678", qty=1).price_decimal == event.price_decimal


@pytest.mark.parametrize(
    ("price", "error"),
    [
        (1.5, TypeError),
        ("1.234", ValueError),
        ("1.0000000000000000000000000000000001", ValueError),
        ("abc", ValueError),
        ("NaN", ValueError),
        ("sNaN", ValueError),
        ("Infinity", ValueError),
        ("1e17", ValueError),
        (2**63, ValueError),
        ("92233720368547758.08", ValueError),
        ("-92233720368547758.08", ValueError),
        ("1e999999", ValueError),
    ],
)
def test_numbers_that_cannot_be_kept_are_refused(price, error):
    with pytest.raises(error, match="expected"):
        Trade(X, price=price, qty=1)


def test_numbers_at_the_edge_are_kept():
    assert Trade(X, price="92233720368547758.07", qty=0).price_decimal == Decimal("92233720368547758.07")
    assert Trade(X, price="-92233720368547758.07", qty=0).price_decimal == Decimal("-92233720368547758.07")
    assert Trade(X, price="1.2300000", qty="1e3").price_decimal == Decimal("1.23")


def test_a_trade_says_what_it_is():
    event = Trade(X, price="1.25", qty="0.5", side=Side.SELL, id=7, ts_event=5, ts_recv=6)
    assert (event.side, event.id, event.ts_event, event.ts_recv) == (Side.SELL, "7", 5, 6)
    assert Trade(X, price=1, qty=1, id="a-7").id == "a-7"
    assert Trade(X, price=1, qty=1).id is None
    assert repr(event) == "<Trade x X SELL 0.500 @ 1.25 id=7>"


def test_a_missing_side_of_a_quote_is_none():
    event = Quote(X, bid_price="1.25", bid_qty="2")
    assert (event.bid_price, event.bid_qty, event.bid_decimal) == (1.25, 2.0, (Decimal("1.25"), Decimal(2)))
    assert (event.ask_price, event.ask_qty, event.ask_decimal) == (None, None, None)
    assert event.merged == 1


@pytest.mark.parametrize(
    ("kind", "base", "change"),
    [
        (
            Trade,
            {"price": 1, "qty": 1},
            [{"price": 2}, {"qty": 2}, {"side": Side.BUY}, {"id": 1}, {"ts_event": 1}, {"ts_recv": 1}],
        ),
        (
            Quote,
            {"bid_price": 1, "bid_qty": 1, "ask_price": 2, "ask_qty": 1},
            [
                {"bid_price": 2},
                {"bid_qty": 2},
                {"ask_price": 3},
                {"ask_qty": 2},
                {"sequence": 1},
                {"ts_event": 1},
                {"ts_recv": 1},
            ],
        ),
        (
            BookDelta,
            {"bids": [(1, 1)], "asks": [(2, 1)]},
            [
                {"bids": [(1, 2)]},
                {"bids": []},
                {"asks": []},
                {"is_snapshot": True},
                {"depth": 5},
                {"first_id": 1},
                {"last_id": 1},
                {"previous_id": 1},
                {"ts_event": 1},
                {"ts_recv": 1},
            ],
        ),
    ],
)
def test_equality_sees_every_field(kind, base, change):
    assert kind(X, **base) == kind(X, **base)
    for difference in change:
        assert kind(X, **base) != kind(X, **(base | difference)), difference
    assert kind(X, **base) != kind(make(), **base)
    with pytest.raises(TypeError):
        hash(kind(X, **base))


def test_a_copy_of_a_delta_stands_alone():
    delta = BookDelta(X, bids=[("1.25", "0.5")], asks=[("2", "1")], first_id=1, last_id=2, previous_id=0, ts_event=3)
    assert delta.copy() == delta
    assert delta.copy() is not delta


def test_every_kind_reaches_its_method():
    book = OrderBook(X)
    events = [
        Trade(X, price=1, qty=1),
        Quote(X),
        BookDelta(X),
        BookUpdate(book),
        BookStatus(book, BookState.SYNCING, BookState.LIVE, "r"),
        FeedStatus("x", "connected"),
    ]
    log = EventLog()
    for event in events:
        event.dispatch(log)
        event.dispatch(EventHandler())
    assert log.events == events
    assert [log.trades, log.quotes, log.deltas, log.updates, log.book_statuses, log.feed_statuses] == [
        [e] for e in events
    ]
    with pytest.raises(NotImplementedError, match="Event has no handler method"):
        Event().dispatch(log)
    log.clear()
    assert log.events == []


def test_stage_and_fanout_pass_everything_on():
    first, second = EventLog(), EventLog()
    stage = Stage(Fanout([first, Stage(second)]))
    book = OrderBook(X)
    for event in (
        Trade(X, price=1, qty=1),
        Quote(X),
        BookDelta(X),
        BookUpdate(book),
        BookStatus(book, BookState.LIVE, BookState.GAP, "r"),
        FeedStatus("x", "silent"),
    ):
        event.dispatch(stage)
    stage.on_batch_end(7)
    assert first.events == second.events
    assert len(first.events) == 6
    assert first.batch_ends == second.batch_ends == [7]


def test_a_chain_with_a_hole_raises_instead_of_crashing():
    class Unfinished(Stage):
        def __init__(self):
            pass

    event = Trade(X, price=1, qty=1)
    with pytest.raises(AttributeError, match="NoneType"):
        Unfinished().on_trade(event)
    with pytest.raises(AttributeError, match="NoneType"):
        event.dispatch(None)
    with pytest.raises(TypeError, match="expected handlers, found None"):
        Fanout([None])
    with pytest.raises(TypeError):
        Stage(None)


def test_a_kept_event_is_never_changed_afterwards(futures, log):
    class Keeper(EventHandler):
        def __init__(self):
            self.kept = []

        def keep(self, event):
            self.kept.append((event, repr(event), event._fields()))

        on_trade = on_quote = on_book_delta = on_book = on_book_status = keep

    keeper = Keeper()
    futures.books.downstream = keeper
    futures.on_reply("BTCUSDT", snapshot(10, [("100", "1")], [("101", "1")]), 1)
    for n in range(1, 20):
        futures.on_message(depth(n + 10, n + 10, [("100", str(n))], previous=n + 9), n, True)
        futures.on_message(book_ticker(bid_qty=str(n), u=n, time=1_700_000_000_000 + n), n, True)
        futures.on_message(trade(qty=str(n), t=n), n, True)
    assert len(keeper.kept) == 2 + 2 + 19 * 4
    for event, text, fields in keeper.kept:
        assert (repr(event), event._fields()) == (text, fields)
    assert len({id(event) for event, _, _ in keeper.kept}) == len(keeper.kept)


def test_an_event_nobody_keeps_is_used_again(futures):
    class Ids(EventHandler):
        def __init__(self):
            self.seen = set()

        def on_trade(self, event):
            self.seen.add(id(event))

    ids = Ids()
    futures.books.downstream = ids
    for n in range(50):
        futures.on_message(trade(t=n), n, True)
    assert len(ids.seen) == 1


def test_an_event_may_outlive_the_decoder_that_made_it(log, futures):
    futures.on_message(trade(qty="0.125"), 1, True)
    event = log.trades[0]
    futures.on_connected("again", 2)
    futures.on_message(trade(qty="7"), 3, True)
    assert event.qty_decimal == Decimal("0.125")


# --- the other kinds ------------------------------------------------------------------------------

OTHERS = [
    Ticker(
        X, last_price="1.5", mark_price="1.25123456", funding_rate="-0.0001", next_funding_time=9, ts_event=5, ts_recv=6
    ),
    Funding(X, funding_rate="0.0001", next_funding_rate=None, next_funding_time=9, ts_event=5, ts_recv=6),
    OpenInterest(X, open_interest="12345.678", ts_event=5, ts_recv=6),
    Liquidation(X, price="1.5", qty="2", side=Side.SELL, id=17, ts_event=5, ts_recv=6),
    Candle(
        X, ts_open=60, interval=60, open="1", high="3", low="0.5", close="2", volume="10.5", is_closed=True, ts_recv=6
    ),
]
HANDLERS = ["on_ticker", "on_funding", "on_open_interest", "on_liquidation", "on_candle"]


@pytest.mark.parametrize(("event", "name"), list(zip(OTHERS, HANDLERS, strict=True)), ids=HANDLERS)
def test_other_kinds_reach_every_handler(event, name):
    one, two = EventLog(), EventLog()
    event.dispatch(Stage(Fanout([one, two])))
    assert one.events == two.events == [event]
    assert repr(event).startswith(f"<{type(event).__name__} x X ")
    getattr(EventHandler(), name)(event)  # ignored by default


def test_other_kinds_say_none_for_what_is_not_sent():
    ticker, funding, interest, liquidation, candle = OTHERS
    assert (ticker.last_price, ticker.index_price, ticker.open_interest, ticker.open_interest_decimal) == (
        1.5,
        None,
        None,
        None,
    )
    assert str(ticker.mark_price_decimal) == "1.25123456"  # its own decimals: the instrument keeps two
    assert X.price_decimals == 2
    assert (funding.funding_rate, funding.next_funding_rate, funding.next_funding_time) == (0.0001, None, 9)
    assert str(interest.open_interest_decimal) == "12345.678"
    assert (liquidation.side, liquidation.id, liquidation.qty) == (Side.SELL, "17", 2)
    assert (candle.ts_open, candle.interval, candle.is_closed, candle.volume, candle.quote_volume) == (
        60,
        60,
        True,
        10.5,
        None,
    )
    assert [candle.open, candle.high, candle.low, candle.close] == [1, 3, 0.5, 2]


def test_other_kinds_are_equal_when_their_numbers_are():
    assert Ticker(X, last_price="1.50") == Ticker(X, last_price="1.5") != Ticker(X, last_price="1.51")
    assert Candle(X, ts_open=1, interval=60, open=1, high=1, low=1, close=1) != Candle(
        X, ts_open=1, interval=60, open=1, high=1, low=1, close=1, is_closed=False
    )
    assert OpenInterest(X, open_interest=None) != OpenInterest(X, open_interest=0)


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**9), max_value=10**9, places=9))
def test_numbers_of_their_own_decimals_are_exact(number):
    for text in (number, f"{number:f}", f'"{number:f}"', f"{number:e}", f"{number:f}".encode()):
        assert OpenInterest(X, open_interest=text).open_interest_decimal == number


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("-6.2604214e-11", "-0.000000000062604214"),
        ("1.5E-5", "0.000015"),
        ("0.12345678901234567890123", "0.123456789012345679"),
        ("1234567890123.12345678901234", "1234567890123.123457"),
        ("", None),
        ("null", None),
        (b"7.0541503E7", "70541503"),
    ],
)
def test_digits_that_nothing_holds_are_rounded(text, expected):
    found = OpenInterest(X, open_interest=text).open_interest_decimal
    assert found == (None if expected is None else Decimal(expected))


@pytest.mark.parametrize("text", ["x", "1.5.", "NaN", "1e400", "9" * 25, b"\xff"])
def test_what_is_no_number_is_a_value_error(text):
    with pytest.raises(ValueError, match="expected a number"):
        OpenInterest(X, open_interest=text)


def test_a_quote_may_lack_its_quantities():
    quote = Quote(X, bid_price="1.5", bid_qty=None, ask_price="1.6", ask_qty=2)
    assert (quote.bid_price, quote.bid_qty, quote.bid_decimal) == (1.5, None, (Decimal("1.50"), None))
    assert quote != Quote(X, bid_price="1.5", bid_qty=1, ask_price="1.6", ask_qty=2)


def test_a_trade_says_whether_it_is_backlog():
    live, old = Trade(X, price=1, qty=1), Trade(X, price=1, qty=1, is_backlog=True)
    assert (live.is_backlog, old.is_backlog) == (False, True)
    assert live != old
