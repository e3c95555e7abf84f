"""The ranked traps of the protocol reference, one test each or one per exchange, through the pipeline of the exchange.

The modules of the exchanges have the messages, and test what else there is to each trap.
"""

import gzip
import json
import zlib
from decimal import Decimal

import pytest

from feeds.book import BookState
from feeds.decoder import Fetch, Refused, Resubscribe, Send
from feeds.errors import UnknownSymbol
from feeds.events import Side, Ticker
from feeds.exchange import exchange
from feeds.instrument import Instruments
from feeds.live.first_data import FirstData
from feeds.pipeline import Pipeline
from feeds.subscription import Subscription
from feeds.testing import EventLog
from tests.feeds import messages as binance_messages
from tests.feeds.exchanges import test_bitfinex as bitfinex
from tests.feeds.exchanges import test_bitflyer as bitflyer
from tests.feeds.exchanges import test_bitget as bitget
from tests.feeds.exchanges import test_bithumb as bithumb
from tests.feeds.exchanges import test_bitmex as bitmex
from tests.feeds.exchanges import test_bitstamp as bitstamp
from tests.feeds.exchanges import test_bybit as bybit
from tests.feeds.exchanges import test_coinbase as coinbase
from tests.feeds.exchanges import test_coinbase_advanced as coinbase_advanced
from tests.feeds.exchanges import test_crypto_com as crypto_com
from tests.feeds.exchanges import test_deribit as deribit
from tests.feeds.exchanges import test_dydx as dydx
from tests.feeds.exchanges import test_gateio as gateio
from tests.feeds.exchanges import test_gateio_futures as gateio_futures
from tests.feeds.exchanges import test_gemini as gemini
from tests.feeds.exchanges import test_htx as htx
from tests.feeds.exchanges import test_htx_swap as htx_swap
from tests.feeds.exchanges import test_hyperliquid as hyperliquid
from tests.feeds.exchanges import test_kraken as kraken
from tests.feeds.exchanges import test_kraken_futures as kraken_futures
from tests.feeds.exchanges import test_kucoin as kucoin
from tests.feeds.exchanges import test_mexc as mexc
from tests.feeds.exchanges import test_okx as okx
from tests.feeds.exchanges import test_phemex as phemex
from tests.feeds.exchanges import test_upbit as upbit
from tests.feeds.exchanges.samples import NOW, all_samples, replayed

TODAYS = {samples.exchange: samples for samples in all_samples() if not samples.url}
LIVE, GAP, SYNCING, CROSSED = BookState.LIVE, BookState.GAP, BookState.SYNCING, BookState.CROSSED


class Run:
    """The pipeline of an exchange and what came out of it; nothing that it is given may be a problem."""

    def __init__(self, exchange_id, *messages, instruments=None, **options):
        self.log = EventLog()
        instruments = Instruments(infer=True) if instruments is None else instruments
        self.pipeline = Pipeline(exchange(exchange_id), instruments, self.log, **options)
        self(*messages)

    def __call__(self, *messages, last=True):
        for message in messages:
            self.pipeline.on_message(message, NOW, last)
        assert self.pipeline.problems == {}
        return self

    @property
    def book(self):
        (book,) = self.pipeline.books.books
        return book

    @property
    def state(self):
        return self.book.state

    @property
    def states(self):
        return [book.state for book in self.pipeline.books.books]

    @property
    def bids(self):
        return [level.price for level in self.book.bids()]

    @property
    def asks(self):
        return [level.price for level in self.book.asks()]

    @property
    def requests(self):
        return list(self.pipeline.decoder.take_requests())


def named(exchange_id, *names):
    """Messages of the exchange's samples."""
    return [TODAYS[exchange_id].messages[name] for name in names]


def listed(exchange_id):
    """The instruments of the exchange's samples."""
    instruments = Instruments()
    for reply in TODAYS[exchange_id].instruments:
        exchange(exchange_id).load_instruments(reply, instruments)
    assert len(instruments) > 0
    return instruments


def test_trap_01_every_channel_is_asked_for_on_its_own_route():
    """The wrong one is acknowledged and silent: each plan knows what it serves, so that it can be watched."""
    found = exchange("binance-futures")
    wanted = [Subscription("BTC-USDT-PERP", tuple(one for one in found.channels if one != "book_top"))]
    plans = {plan.path: plan for plan in found.plan(wanted, listed(found.id))}
    assert {path: [channel for _, channel in plan.serves] for path, plan in plans.items()} == {
        "/public/stream": ["book", "quote"],
        "/market/stream": ["trade", "agg_trade", "ticker", "liquidation", "candle"],
    }
    public, market = (plans[path].streams for path in ("/public/stream", "/market/stream"))
    assert public == ["btcusdt@depth@0ms", "btcusdt@bookTicker"]
    assert market[:3] == ["btcusdt@aggTrade", "btcusdt@ticker", "btcusdt@markPrice@1s"]


def test_trap_02_ids_of_binance_spot_are_arithmetic():
    depth, snapshot = binance_messages.depth, binance_messages.snapshot
    run = Run("binance", depth(11, 12))
    run.pipeline.on_reply("BTCUSDT", snapshot(10), NOW)
    assert run(depth(13, 13), depth(14, 19)).state is LIVE
    assert run(depth(21, 22)).state is GAP


@pytest.mark.parametrize(
    ("exchange_id", "symbol"), [("binance-futures", "BTCUSDT"), ("binance-delivery", "BTCUSD_PERP")]
)
def test_trap_02_ids_of_binance_futures_are_compared_for_identity(exchange_id, symbol):
    def depth(first, last, previous):
        return binance_messages.depth(first, last, previous=previous, symbol=symbol)

    run = Run(exchange_id, depth(8, 12, 5))
    run.pipeline.on_reply(symbol, binance_messages.snapshot(10, E=1, T=1), NOW)
    assert run(depth(17, 20, 12), depth(40, 41, 20)).state is LIVE  # ids have holes
    assert run(depth(42, 43, 40)).state is GAP  # though it begins where the last one ended


def test_trap_02_ids_of_gemini_are_compared_for_identity_without_adding_one():
    run = Run("gemini", gemini.START, gemini.book(100, 105), gemini.book(105, 110))
    assert run.state is LIVE
    assert run(gemini.book(111, 120)).state is GAP


def test_trap_03_matches_name_the_maker_and_tickers_the_taker(captures):
    """Every trade of the capture that a ticker tells of as well, with the ticker's side."""
    (trade,) = Run("coinbase", coinbase.match(side="sell")).log.trades
    assert trade.side is Side.BUY
    takers = {}
    with gzip.open(captures / "exchanges" / "COINBASE.ws.28.0.gz", "rt") as file:
        for line in file:
            if '"type":"ticker"' in line:
                ticker = json.loads(line.partition(": ")[2])
                takers[ticker["product_id"], str(ticker["trade_id"])] = ticker["side"].upper()
    log, _ = replayed(captures, "COINBASE.ws.28.0")
    trades = {(trade.instrument.raw_symbol, trade.id): trade.side.name for trade in log.trades}
    both = trades.keys() & takers.keys()
    assert len(both) == 107
    assert {key: trades[key] for key in both} == {key: takers[key] for key in both}


def test_trap_04_the_asks_of_coinbase_advanced_are_called_offers():
    run = Run("coinbase-advanced", coinbase_advanced.SNAPSHOT)
    assert (run.bids, run.asks) == ([68900.0], [68901.0])
    assert run(coinbase_advanced.UPDATE).asks == [68902.0]


COUNTED = {
    "coinbase-advanced": (
        [coinbase_advanced.SNAPSHOT, coinbase_advanced.UPDATE],
        lambda number: coinbase_advanced.message("heartbeats", {}, number=number),
        3,
    ),
    "bitfinex": (
        [bitfinex.CONF, bitfinex.subscribed("book", 1), bitfinex.SNAPSHOT],
        lambda number: bitfinex.data(8, number, "hb"),
        2,
    ),
    "dydx": ([*dydx.START, *dydx.later(2)], lambda number: dydx.later(number, 1)[0], dydx.SETTLING + 2),
}


@pytest.mark.parametrize("exchange_id", COUNTED)
def test_trap_05_every_message_of_the_connection_is_counted_even_where_some_are_skipped(exchange_id):
    start, other, number = COUNTED[exchange_id]
    for skips in (False, True):
        run = Run(exchange_id, skip_superseded=skips)
        run(*start, other(number), other(number + 1), other(number + 2), last=False)(other(number + 3))
        assert (run.state, run.pipeline.superseded) == (LIVE, 0)
        run(other(number + 5))  # one is missing, of whatever
        assert run.state is GAP
        assert [status.status for status in run.log.feed_statuses] == ["gap"]


def test_trap_06_checksums_of_kraken_are_of_the_text_and_of_ten_levels():
    """The example of the documentation, whose 0.566 is 0.5660, and a book of which only ten levels count."""
    run = Run("kraken", kraken.SNAPSHOT, kraken.UPDATE)
    assert (run.pipeline.books.verified, run.pipeline.books.mismatched) == (2, 0)
    run = Run("kraken", named("kraken", "ack")[0].replace(b'"depth":10', b'"depth":25'))
    run(kraken.book("snapshot", f"{kraken.BIDS} 0.1,1", f"{kraken.ASKS} 0.9,1", 2439117997))
    assert (run.pipeline.books.verified, run.book.bid_count, run.book.ask_count) == (1, 11, 11)


def test_trap_06_checksums_of_kraken_v1_over_the_capture(captures):
    _, replay = replayed(captures, "KRAKEN.ws.50.0")
    (pipeline,) = replay.pipelines
    assert (pipeline.books.verified, pipeline.books.mismatched) == (4269, 0)


@pytest.mark.parametrize(
    ("exchange_id", "messages"),
    [
        ("okx", [okx.SNAPSHOT, okx.books("update", 101, 100, [("1", "1")], checksum=0)]),
        ("bitget", [bitget.SNAPSHOT, bitget.book("update", 101, 100, [("1", "1")], checksum=0)]),
        ("bitget", [bitget.SNAPSHOT, bitget.book("update", 101, 100, [("1", "1")])]),
    ],
)
def test_trap_07_a_checksum_of_0_or_none_is_not_compared(exchange_id, messages):
    run = Run(exchange_id, *messages)
    assert (run.state, run.pipeline.books.verified, run.pipeline.books.mismatched) == (LIVE, 0, 0)
    assert run.requests == []


def test_trap_08_without_the_snapshot_of_the_stream_okx_books_are_fetched():
    run = Run("okx", okx.books("update", 101, 100, [("8000", "1")]))
    assert (run.state, run.bids) == (SYNCING, [])
    assert run.requests == [Fetch("/api/v5/market/books?instId=BTC-USDT&sz=400", "BTC-USDT")]
    book = {"asks": [], "bids": [["7000", "1", "0", "1"]], "ts": str(okx.MS), "seqId": 100}
    run.pipeline.on_reply("BTC-USDT", json.dumps({"code": "0", "data": [book]}).encode(), NOW)
    assert (run.state, run.bids) == (LIVE, [8000.0, 7000.0])


def test_trap_09_levels_of_bitfinex_are_removed_by_a_count_of_0_whatever_the_amount():
    run = Run("bitfinex", *COUNTED["bitfinex"][0])
    run(bitfinex.data(1, 2, [7254.7, 0, 1]), bitfinex.data(1, 3, [7255, 0, -1]))
    assert (run.bids, run.asks) == ([7254.6], [])


SILENT = ["binance", "binance-futures", "gateio-futures", "kucoin", "bitflyer", "upbit"]


@pytest.mark.parametrize("exchange_id", [*SILENT, "hyperliquid", "bybit", "gemini"])
def test_trap_10_symbols_that_no_list_has_are_not_subscribed(exchange_id):
    """What the exchange would do then: nothing at all, or fail all of the request, or close the socket."""
    with pytest.raises(UnknownSymbol):
        exchange(exchange_id).plan([Subscription("NOSUCH-USDT")], listed(exchange_id))


@pytest.mark.parametrize("exchange_id", SILENT)
def test_trap_10_subscriptions_that_may_be_acknowledged_and_stay_silent_are_watched(exchange_id):
    """What a feed tells of them: tests/feeds/live/test_first_data.py."""
    found, instruments = exchange(exchange_id), listed(exchange_id)
    watched = [channel for channel in ("book", "quote", "ticker") if channel in found.channels]
    instrument = next(iter(instruments))
    plans = found.plan([Subscription(instrument.raw_symbol, (*watched, "trade"))], instruments)
    silent = [
        channel
        for plan in plans
        for _, channel in FirstData(EventLog(), [(instrument, channel) for _, channel in plan.serves]).silent
    ]
    assert silent == watched


@pytest.mark.parametrize(
    ("exchange_id", "refusal"),
    [
        ("bybit", b'{"success":false,"ret_msg":"error:handler not found,topic:x","conn_id":"1","op":"subscribe"}'),
        ("gemini", b'{"id":4,"status":400,"error":{"code":-1013,"msg":"Invalid stream name: nosuch@trade"}}'),
    ],
)
def test_trap_10_requests_that_fail_as_a_whole_end_the_feed(exchange_id, refusal):
    (request,) = Run(exchange_id, refusal).requests
    assert isinstance(request, Refused)


@pytest.mark.parametrize(
    ("exchange_id", "symbol", "message", "closed_after"),
    [
        ("kucoin", "BTC-USDT", b'{"id":"ping","type":"ping"}', 60),
        ("bitget", "USDT-FUTURES:BTCUSDT", b"ping", 120),
        ("mexc", "BTC_USDT", b'{"method":"ping"}', 60),
        ("phemex", "SOLUSDT", b'{"id":0,"method":"server.ping","params":[]}', 30),
        ("okx", "BTC-USDT", b"ping", 30),
    ],
)
def test_trap_11_we_ping_whether_or_not_data_flow(exchange_id, symbol, message, closed_after):
    """A heartbeat of a plan is sent by the clock: tests/feeds/live/test_protocols.py."""
    for plan in exchange(exchange_id).plan([Subscription(symbol, ("book",))], listed(exchange_id)):
        assert plan.heartbeat.message(NOW) == message
        assert plan.heartbeat.interval < closed_after


@pytest.mark.parametrize(
    ("exchange_id", "ping", "echo"),
    [
        ("htx", gzip.compress(htx.PING, mtime=0), b'{"pong":1618678073643}'),
        ("htx-swap", b'{"ping":1645289389619}', b'{"pong":1645289389619}'),
        ("htx-swap", b'{"op":"ping","ts":"1492420473058"}', b'{"op":"pong","ts":"1492420473058"}'),
        (
            "crypto-com",
            b'{"id":1587523073344,"method":"public/heartbeat","code":0}',
            b'{"id":1587523073344,"method":"public/respond-heartbeat"}',
        ),
        (
            "deribit",
            b'{"jsonrpc":"2.0","method":"heartbeat","params":{"type":"test_request"}}',
            b'{"jsonrpc":"2.0","id":0,"method":"public/test","params":{}}',
        ),
    ],
)
def test_trap_12_pings_of_the_server_are_echoed_as_it_wants(exchange_id, ping, echo):
    assert Run(exchange_id, ping).requests == [Send(echo)]


@pytest.mark.parametrize(
    ("exchange_id", "messages", "expected"),
    [
        ("gemini", [gemini.TRADE], ("2840141014190422", 1_783_981_140_085_684_200)),
        ("phemex", named("phemex", "trade"), (None, NOW + 3)),
        (
            "htx",
            [htx.trades({key: value for key, value in htx.TRADE.items() if key != "tradeId"})],
            ("100182534526255757567432481", NOW),
        ),
        ("upbit", [upbit.TRADE], ("17901347421060001", 1_614_729_599 * 10**9)),
        ("bithumb", [bithumb.TRADE], ("1079953210371761700", 1_790_134_742_106 * 10**6)),
        (
            "bitget",
            [bitget.trades(1).replace(b'"tradeId": "1"', b'"tradeId": "9007199254740993"')],
            ("9007199254740993", NOW + 10**6),
        ),
    ],
)
def test_trap_13_ids_and_times_above_2_to_the_53_are_exact(exchange_id, messages, expected):
    (trade,) = Run(exchange_id, *messages).log.trades
    assert (trade.id, trade.ts_event) == expected


def test_trap_13_ids_of_bitget_coin_margined_books_are_exact():
    large = 2**53 + 1

    def book(action, seq, pseq):
        return bitget.book(action, seq, pseq, [("5", "1")]).replace(b'"spot"', b'"coin-futures"')

    run = Run("bitget", book("snapshot", large, 0), book("update", large + 2, large))
    assert (run.state, run.book.last_id) == (LIVE, large + 2)
    assert run(book("update", large + 5, large + 1)).state is GAP  # as a double equal to the last one


PRICES = ("1e2", "1E2", "1e+2", "1E+2", "1000e-1", "1000E-1", "0.1E3")


@pytest.mark.parametrize("price", PRICES)
@pytest.mark.parametrize(
    ("exchange_id", "messages", "number"),
    [
        ("bitfinex", COUNTED["bitfinex"][0], b"7254.7"),
        ("htx", [htx.STEP0], b"9.121E-7"),
        ("upbit", [upbit.BOOK], b"1.16538E8"),
        ("bitmex", [bitmex.PARTIAL], b"61000.5"),
        ("kraken-futures", [kraken_futures.SNAPSHOT], b"61000.5"),
        ("mexc", named("mexc", "futures top"), b"[1,2,1]"),
    ],
)
def test_trap_14_numbers_may_have_exponents(exchange_id, messages, number, price):
    text = b"[%s,2,1]" % price.encode() if number.startswith(b"[") else price.encode()
    assert any(number in message for message in messages)
    run = Run(exchange_id, *(message.replace(number, text) for message in messages))
    assert Decimal(100) in [level_price for level_price, _ in run.book.exact(0)]


def test_trap_15_fillers_of_kucoin_move_the_sequence_on():
    run = Run("kucoin", kucoin.update(101, 101, [("5", "1", "101")]))
    run.pipeline.on_reply("BTC-USDT", kucoin.reply("100", [["4", "1"]], time=kucoin.MS), NOW)
    run(kucoin.update(102, 102, asks=[("0", "0", "102")]), kucoin.update(103, 103, [("4.5", "1", "103")]))
    assert (run.state, run.bids, run.asks) == (LIVE, [5.0, 4.5, 4.0], [])


@pytest.mark.parametrize(
    ("exchange_id", "message", "bids", "asks"),
    [
        ("upbit", upbit.BOOK, [116538000], [116539000, 116540000]),  # a bid of 0
        ("bithumb", bithumb.BOOK, [3713000], [3715000]),  # an ask of 0, and no quantity at the best bid
    ],
)
def test_trap_15_padding_is_no_level(exchange_id, message, bids, asks):
    run = Run(exchange_id, message)
    assert (run.state, run.bids, run.asks) == (LIVE, bids, asks)


@pytest.mark.parametrize(
    ("exchange_id", "messages", "field"),
    [
        ("bybit", named("bybit", "ticker", "changed"), "mark_price"),
        ("bitmex", named("bitmex", "instrument", "part of an instrument"), "funding_rate"),
        ("dydx", named("dydx", "markets", "market changed", "oracle price"), "funding_rate"),
    ],
)
def test_trap_16_fields_that_a_ticker_does_not_have_are_as_they_were(exchange_id, messages, field):
    first, *_, last = Run(exchange_id, *messages).log.of(Ticker)
    assert getattr(last, field) == getattr(first, field) is not None
    assert (first.last_price, first.mark_price, first.index_price) != (
        last.last_price,
        last.mark_price,
        last.index_price,
    )


BITFINEX_TRADES = named("bitfinex", "conf", "trades", "trade backlog", "trade")


@pytest.mark.parametrize(
    ("exchange_id", "messages", "backlog"),
    [
        ("kraken", named("kraken", "trade backlog", "trades"), [True, False]),
        ("kraken-futures", named("kraken-futures", "trade backlog", "trade"), [True, True, False]),
        ("phemex", named("phemex", "trade backlog", "trade"), [True, True, False]),
        ("okx", [okx.trades(1, ts=okx.MS - 60_000), okx.trades(2)], [True, False]),
        ("htx", [htx.trades(htx.TRADE | {"ts": htx.MS - 60_000}), htx.trades(htx.TRADE)], [True, False]),
        ("hyperliquid", [hyperliquid.trades(1, 2), hyperliquid.trades(3)], [True, True, False]),
        ("bitget", [bitget.trades(2, 1, action="snapshot"), bitget.trades(3)], [True, True, False]),
        ("crypto-com", [crypto_com.trades(2, 1), crypto_com.trades(3)], [True, True, False]),
        ("dydx", named("dydx", "trade backlog", "trades"), [True, True, False, False]),
        ("bitmex", named("bitmex", "trade backlog", "trade"), [True, False, False]),
        ("coinbase", named("coinbase", "last match", "match"), [True, False]),
        ("bitfinex", [message.replace(b",6,", b",1,").replace(b",7,", b",2,") for message in BITFINEX_TRADES],
         [True, True, False]),
    ],
)  # fmt: skip
def test_trap_17_trades_that_are_repeated_after_a_subscription_are_marked(exchange_id, messages, backlog):
    trades = Run(exchange_id, *messages).log.trades
    assert [trade.is_backlog for trade in trades] == backlog
    times = [trade.ts_event for trade in trades if trade.is_backlog]
    assert times == sorted(times)  # the oldest first


def test_trap_18_books_of_dydx_are_uncrossed():
    run = Run("dydx", *dydx.START, dydx.delta(2, bids=[("11", "1")]))
    assert (run.state, run.bids[0], run.asks, run.pipeline.books.gaps) == (LIVE, 11.0, [], 0)
    assert run.requests == []


@pytest.mark.parametrize(
    ("exchange_id", "start", "crossing", "uncrossing"),
    [
        ("bitstamp", [bitstamp.diff(0)], bitstamp.diff(1, [["6.50", "1"]]), bitstamp.diff(2, [["6.50", "0"]])),
        (
            "bitfinex",
            COUNTED["bitfinex"][0],
            bitfinex.data(1, 2, [7256, 1, 1]),
            bitfinex.data(1, 3, [7256, 0, 1]),
        ),
    ],
)
def test_trap_18_a_crossed_book_is_no_gap(exchange_id, start, crossing, uncrossing):
    run = Run(exchange_id, *start)
    if exchange_id == "bitstamp":
        run.pipeline.on_reply("btcusd", bitstamp.snapshot(0), NOW)
        assert len(run.requests) == 1
    assert run.state is LIVE
    assert run(crossing).state is CROSSED
    assert run(uncrossing).state is LIVE
    assert (run.requests, run.pipeline.books.gaps) == ([], 0)


@pytest.mark.parametrize(
    ("exchange_id", "start", "request_kind"),
    [
        ("coinbase", [coinbase.SNAPSHOT], Resubscribe),
        ("bitstamp", [bitstamp.diff(0)], Fetch),
        ("bitmex", [bitmex.PARTIAL], Resubscribe),
    ],
)
def test_trap_19_books_that_nothing_checks_are_made_anew_by_the_clock(exchange_id, start, request_kind):
    """How they are replaced: tests/feeds/test_book_builder.py, step 8; when: tests/feeds/live/test_protocols.py."""
    assert exchange(exchange_id).resnapshot_interval > 0
    run = Run(exchange_id, *start)
    if exchange_id == "bitstamp":
        run.pipeline.on_reply("btcusd", bitstamp.snapshot(0), NOW)
    (symbol,) = [book.instrument.raw_symbol for book in run.pipeline.books.books]
    assert len(run.requests) == (exchange_id == "bitstamp")
    run.pipeline.on_resnapshot(symbol, NOW)
    (request,) = run.requests
    assert (type(request), request.tag, run.state) == (request_kind, symbol, LIVE)


@pytest.mark.parametrize(
    ("exchange_id", "start", "lost", "again"),
    [
        ("coinbase", [coinbase.SNAPSHOT], coinbase.changed(("buy", "61000.06", "1")), coinbase.SNAPSHOT),
        ("bitmex", [bitmex.PARTIAL], bitmex.book("delete", bitmex.level(1)), bitmex.PARTIAL),
        (
            "bitflyer",
            named("bitflyer", "snapshot"),
            bitflyer.board("board", [(13632099.0, 1.0)]),
            named("bitflyer", "snapshot")[0],
        ),
        (
            "phemex",
            named("phemex", "snapshot"),
            phemex.book("incremental", 68604886390, [("2763.865", "1")]),
            phemex.book("snapshot", 68604886399, [("2763.86", "32.22")], [("2763.87", "0.06")]),
        ),
    ],
)
def test_trap_19_snapshots_replace_a_book_that_is_live(exchange_id, start, lost, again):
    """Those of bitFlyer and Phemex come by themselves, every 5 and every 60 s."""
    run = Run(exchange_id, *start)
    before = run.bids, run.asks
    assert (run(lost).bids, run.asks) != before
    assert (run(again).bids, run.asks) == before
    assert run.log.book_statuses[-1].new is LIVE
    assert len(run.log.book_statuses) == 2


def test_trap_19_what_kraken_has_are_checksums():
    run = Run("kraken", kraken.SNAPSHOT, kraken.book("update", "0.5657,1098", "", 2114181697))
    assert (run.state, run.pipeline.books.mismatched) == (GAP, 1)


@pytest.mark.parametrize(
    ("exchange_id", "messages", "bids"),
    [
        ("gemini", [gemini.START, gemini.book(100, 105, [("4.50", "1")])], [5.0, 4.5, 4.0]),
        ("bybit", [bybit.START, bybit.book("delta", 1, [("5", "2")])], [5.0]),
        ("deribit", [deribit.SNAPSHOT, deribit.book(90, None, [["new", 1.0, 2.0]], kind="")], [1.0]),
        (
            "bitfinex",
            [*COUNTED["bitfinex"][0], bitfinex.data(1, 2, [[5, 1, 1], [4, 1, 1]]), bitfinex.data(1, 3, [3, 1, 1])],
            [5.0, 4.0, 3.0],
        ),
    ],
)
def test_trap_20_snapshots_without_a_mark_replace_the_book(exchange_id, messages, bids):
    run = Run(exchange_id, *messages)
    assert (run.state, run.bids) == (LIVE, bids)


def test_trap_20_the_first_message_of_gemini_is_a_snapshot_on_every_connection():
    run = Run("gemini", gemini.START)
    run.pipeline.on_disconnected("test", NOW)
    run.pipeline.on_connected("test", NOW)
    assert run(gemini.book(300, 300, [("3.00", "1")])).bids == [3.0]


def gate(**sides):
    """A message of Gate's `obu` that follows SNAPSHOT, and the one that follows it."""
    return [gateio.SNAPSHOT, gateio.obu(101, 107, **sides), gateio.obu(108, 108, asks=[("83707", "2")])]


@pytest.mark.parametrize(
    ("exchange_id", "messages", "reply"),
    [
        ("gateio", gate(), None),
        ("gateio", gate(bids=[]), None),
        ("gateio-futures", [message.replace(b'"spot.', b'"futures.') for message in gate()], None),
        ("dydx", [*dydx.START, dydx.delta(2), dydx.message("channel_data", 3, "v4_orderbook"), dydx.delta(4, asks=[])],
         None),
        ("htx", [htx.changes(10, 11), *named("htx", "one side"), htx.changes(12, 13)], htx.snapshot(11)),
        ("mexc", [mexc.depth(99, 101), mexc.depth(102, 104), mexc.depth(105, 105, [("10.3", "1")])],
         ("BTCUSDT", mexc.SPOT_SNAPSHOT)),
        ("crypto-com", [crypto_com.SNAPSHOT, crypto_com.update(107, 100), crypto_com.update(107, 107),
                        crypto_com.update(110, 107, [("0.06", "1")])], None),
        ("okx", [okx.SNAPSHOT, okx.books("update", 100, 100), okx.books("update", 105, 100, [("8000", "1")])], None),
    ],
)  # fmt: skip
def test_trap_21_messages_without_levels_move_the_id_on(exchange_id, messages, reply):
    run = Run(exchange_id, messages[0])
    if isinstance(reply, tuple):
        run.pipeline.on_reply(*reply, NOW)
    elif reply is not None:
        run(reply)
    run(*messages[1:])
    assert (run.state, run.pipeline.books.gaps) == (LIVE, 0)


OKX_SWAP = okx.on(
    "trades",
    {"instId": "BTC-USD-SWAP", "tradeId": "1", "px": "5", "sz": "7", "side": "buy", "ts": str(okx.MS)},
    inst="BTC-USD-SWAP",
)


@pytest.mark.parametrize(
    ("exchange_id", "message", "qty", "side", "contract_size"),
    [
        ("okx", OKX_SWAP, "7", Side.BUY, "100"),
        ("gateio-futures", gateio_futures.update("trades", gateio_futures.TRADES[:1]).replace(b"USD", b"USDT"), "108",
         Side.SELL, "0.0001"),
        ("htx-swap", htx_swap.TRADE.replace(b"ATOM-USD", b"BTC-USDT"), "6", Side.BUY, "0.001"),
        ("kucoin", named("kucoin", "execution")[0], "2", Side.SELL, "0.001"),
        ("binance-delivery", binance_messages.trade(symbol="BTCUSD_PERP", qty="3", X="MARKET"), "3", Side.BUY, "100"),
        ("deribit", named("deribit", "trades")[0], "10", Side.SELL, "10"),  # of USD, as it is written
        ("bitmex", bitmex.on("trade", "partial", bitmex.TRADE), "52", Side.BUY, "1"),
        ("mexc", named("mexc", "deals")[0], "26", Side.BUY, "0.0001"),
    ],
)  # fmt: skip
def test_trap_22_quantities_are_as_sent_and_the_instrument_says_of_what(exchange_id, message, qty, side, contract_size):
    trade = Run(exchange_id, message, instruments=listed(exchange_id)).log.trades[0]
    assert (trade.qty_decimal, trade.side) == (Decimal(qty), side)
    assert trade.instrument.contract_size == Decimal(contract_size)


@pytest.mark.parametrize(
    ("exchange_id", "raw_symbol", "symbol"),
    [
        ("kraken", "AAPLx/USD", "AAPLx-USD"),
        ("deribit", "XRP_USDC-30JUN26-0d625-P", "XRP-USDC-20260630-0.625-P"),
        ("hyperliquid", "kPEPE", "kPEPE-USD-PERP"),
        ("phemex", "sOLUSDT", "OL-USDT"),
        ("phemex", "SOLUSDT", "SOL-USDT-PERP"),
    ],
)
def test_trap_23_the_case_of_symbols_is_kept(exchange_id, raw_symbol, symbol):
    instruments = listed(exchange_id)
    instrument = instruments.resolve(exchange_id, raw_symbol)
    assert (instrument.raw_symbol, instrument.symbol) == (raw_symbol, symbol)
    assert instruments.resolve(exchange_id, symbol) is instrument
    (plan,) = exchange(exchange_id).plan([Subscription(symbol, ("trade",))], instruments)
    assert any(raw_symbol.encode() in message for message in plan.subscribe)


@pytest.mark.parametrize(("spot", "contract"), [("binance", "binance-futures"), ("bybit-spot", "bybit")])
def test_trap_23_one_string_names_spot_and_perpetual(spot, contract):
    instruments = Instruments()
    for exchange_id in (spot, contract):
        for reply in TODAYS[exchange_id].instruments:
            exchange(exchange_id).load_instruments(reply, instruments)
    found = [instruments.known(exchange_id, "BTCUSDT") for exchange_id in (spot, contract)]
    assert [(one.symbol, one.kind) for one in found] == [("BTC-USDT", "spot"), ("BTC-USDT-PERP", "perpetual")]
    assert found[0] is not found[1]


def test_trap_24_the_last_trade_of_okx_comes_again_after_subscribing():
    """It was told before the connection was lost, and is marked."""
    run = Run("okx", okx.trades(1, ts=okx.MS))
    run.pipeline.on_disconnected("test", NOW)
    run.pipeline.on_connected("test", NOW + 10**9)
    run.pipeline.on_message(okx.trades(1, ts=okx.MS), NOW + 10**9, True)
    assert [(trade.id, trade.is_backlog) for trade in run.log.trades] == [("1", False), ("1", True)]


def test_trap_24_trades_of_bitfinex_come_as_te_and_tu():
    messages = [bitfinex.CONF, bitfinex.subscribed("trades", 2)]
    messages += [
        bitfinex.data(2, number, kind, [13, bitfinex.MS, 0.5, 7254.7]) for number, kind in ((1, "te"), (2, "tu"))
    ]
    assert [trade.id for trade in Run("bitfinex", *messages).log.trades] == ["13"]


def test_trap_24_changes_of_gemini_on_two_streams_are_applied_once():
    change = gemini.book(100, 105, [("4.50", "1")])
    run = Run("gemini", gemini.START, change, change)
    assert (run.state, run.bids, run.pipeline.books.old) == (LIVE, [5.0, 4.5, 4.0], 1)
    instruments = listed("gemini")
    (plan,) = exchange("gemini").plan([Subscription("BTC-USD", ("book",))], instruments)
    assert plan.streams == ["btcusd@depth@100ms"]  # we ask for one of them


def test_trap_24_the_depth_1_of_bybit_is_repeated_as_the_same_quote():
    quote = named("bybit", "quote")[0]
    first, second = Run("bybit", quote, quote).log.quotes
    assert (first.bid_decimal, first.ask_decimal, first.sequence) == (
        second.bid_decimal,
        second.ask_decimal,
        second.sequence,
    )
    delta = bybit.book("delta", 101, [("8", "1")])
    run = Run("bybit", bybit.START, delta, delta)
    assert (run.state, run.bids, run.pipeline.books.old) == (LIVE, [10.0, 9.0, 8.0], 1)


def test_trap_24_legs_of_a_combination_of_deribit_are_of_other_instruments():
    combo = "BTC-FS-25SEP26_PERP"
    leg = deribit.trade("2", combo_id=combo, combo_trade_id="1")
    log = Run(
        "deribit",
        deribit.on(f"trades.{combo}.100ms", [deribit.trade("1", name=combo)]),
        deribit.on(f"trades.{deribit.PERP}.100ms", [leg]),
    ).log
    assert [(trade.instrument.raw_symbol, trade.id) for trade in log.trades] == [(combo, "1"), (deribit.PERP, "2")]


def test_trap_25_a_binary_message_is_compressed_protobuf_or_text_by_the_exchange():
    assert len(Run("htx", gzip.compress(htx.trades(htx.TRADE), mtime=0)).log.trades) == 1
    assert len(Run("htx", htx.trades(htx.TRADE)).log.trades) == 1
    assert len(Run("mexc", mexc.DEALS, *named("mexc", "deals")).log.trades) == 2
    for exchange_id, message in (("upbit", upbit.TRADE), ("bithumb", bithumb.TRADE)):
        assert len(Run(exchange_id, message).log.trades) == 1
    assert len(Run("kucoin", *named("kucoin", "quote of UTA")).log.quotes) == 1


BINARY = {"gzip": gzip.compress(b'{"a":1}', mtime=0), "zlib": zlib.compress(b'{"a":1}'), "protobuf": mexc.DEALS}


@pytest.mark.parametrize(
    ("exchange_id", "kind"),
    [(name, kind) for name in sorted(TODAYS) for kind in BINARY if (name, kind) != ("mexc", "protobuf")],
)
def test_trap_25_what_the_exchange_does_not_send_is_a_problem_and_no_crash(exchange_id, kind):
    log = EventLog()
    pipeline = TODAYS[exchange_id].pipeline(log)
    pipeline.on_message(BINARY[kind], NOW, True)
    assert sum(problem.count for problem in pipeline.problems.values()) == 1
    assert log.events == log.feed_statuses
