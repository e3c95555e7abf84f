"""Real traffic, against what its exchange says elsewhere in it and against an independent implementation."""

import gzip
import re
from collections import Counter
from decimal import Decimal

import orjson
import pytest

from feeds.book import BookState
from feeds.checks import QuoteCheck
from feeds.conflation import conflated
from feeds.digest import CallbackDigest
from feeds.events import Candle, EventHandler, Side
from feeds.exchange import exchange
from feeds.instrument import Instruments
from feeds.pipeline import Pipeline
from feeds.recording import open_recording
from feeds.replay import Replay
from feeds.testing import EventLog

# --- the collector's captures: 2024, one symbol each ----------------------------------------------


class Counts(EventHandler):
    def __init__(self):
        self.quotes = self.trades = self.deltas = self.snapshots = 0
        self.statuses = []

    def on_quote(self, event):
        self.quotes += 1

    def on_trade(self, event):
        self.trades += 1

    def on_book_delta(self, event):
        self.deltas += 1
        self.snapshots += event.is_snapshot

    def on_book_status(self, event):
        self.statuses.append((event.old, event.new))


def play(captures, name, handler, **options):
    with open_recording(captures / "binance" / f"{name}_20240808.gz") as source:
        replay = Replay(source, handler, **options)
        replay.run()
        assert source.damages == []
    return replay


@pytest.mark.parametrize(
    ("name", "exchange_id", "compared", "depth", "best_bid", "best_ask"),
    [
        ("usdm-btcusdt", "binance-futures", 6547, (5018, 4578), ("61659.7", "1.486"), ("61659.8", "0.981")),
        ("cm-btcusd_perp", "binance-delivery", 26824, (1110, 1123), ("61668.6", "1380"), ("61668.7", "871")),
        ("spot-btcusdt", "binance", 3449, (1209, 2196), ("61685.99", "1.0087"), ("61686.00", "2.29327")),
    ],
)
def test_after_every_message_the_book_has_the_best_bid_and_offer_of_the_exchange(
    captures, name, exchange_id, compared, depth, best_bid, best_ask
):
    counts = Counts()
    checks = []
    replay = play(captures, name, counts, wrap=lambda handler: checks.append(QuoteCheck(handler)) or checks[-1])
    (pipeline,) = replay.pipelines
    result = checks[0].result()
    assert (result.equal, result.compared, result.mismatches) == (compared, compared, [])
    (book,) = pipeline.books.books
    assert pipeline.exchange == exchange_id
    assert book.state is BookState.LIVE
    assert (book.bid_count, book.ask_count) == depth
    assert book.exact(0)[0] == tuple(map(Decimal, best_bid))
    assert book.exact(1)[0] == tuple(map(Decimal, best_ask))
    assert pipeline.problems == {}
    assert (pipeline.books.gaps, pipeline.books.unfit, book.evicted) == (0, 0, 0)
    assert counts.statuses == [(BookState.SYNCING, BookState.SYNCING), (BookState.SYNCING, BookState.LIVE)]
    assert pipeline.decoder.referred == 3  # the first of each stream
    assert pipeline.messages == counts.quotes + counts.trades + counts.deltas - counts.snapshots
    if name.startswith("usdm"):
        assert (pipeline.messages, counts.quotes, counts.trades, counts.snapshots) == (93_953, 66_089, 21_313, 1)


@pytest.mark.parametrize("name", ["usdm-btcusdt", "cm-btcusd_perp", "spot-btcusdt"])
def test_both_engines_make_the_same_calls(captures, name):
    digests = []
    for reference in (False, True):
        digest = CallbackDigest(EventHandler())
        replay = play(captures, name, conflated(digest), reference=reference)
        assert (replay.pipelines[0].decoder.scanned == 0) is reference
        digests.append((digest.hexdigest, digest.callbacks))
    assert digests[0] == digests[1]


class Fold(EventHandler):
    """Folds every event into the number that an independent C++ decoder makes of the same file.

    An event is (kind, receive time, exchange time in ms, id, best bid and its quantity, best ask and its quantity,
    price, quantity, buyer is maker), numbers at 1e-8. That decoder tells of the book after every message, before the
    snapshot too.
    """

    DEPTH, TICKER, TRADE, SNAPSHOT = range(4)

    def __init__(self):
        self.digest = 0
        self.events = 0
        self.early = ({}, {})  # the book while there is no snapshot
        self.snapshot = None
        self.book = None

    def fold(self, *fields):
        self.events += 1
        digest = self.digest
        for field in fields:
            digest = (digest ^ (field & 0xFFFFFFFFFFFFFFFF)) * 1099511628211 & 0xFFFFFFFFFFFFFFFF
        self.digest = digest

    def on_trade(self, event):
        self.fold(
            self.TRADE,
            event.ts_recv,
            event.ts_event // 10**6,
            int(event.id),
            0,
            0,
            0,
            0,
            at_8(event.price_decimal),
            at_8(event.qty_decimal),
            event.side is Side.SELL,
        )

    def on_quote(self, event):
        top = [at_8(number) for side in (event.bid_decimal, event.ask_decimal) for number in side]
        self.fold(self.TICKER, event.ts_recv, event.ts_event // 10**6, event.sequence, *top, 0, 0, 0)

    def on_book_delta(self, event):
        if event.is_snapshot:
            self.snapshot = event
        elif self.book is None:
            for side, levels in zip(self.early, (event.bids, event.asks), strict=True):
                side.update(levels)
            bids, asks = ({price: qty for price, qty in side.items() if qty} for side in self.early)
            top = [at_8(number) for price in (max(bids), min(asks)) for number in (price, (bids | asks)[price])]
            self.fold(self.DEPTH, event.ts_recv, event.ts_event // 10**6, event.last_id, *top, 0, 0, 0)

    def on_book(self, event):
        self.book = event.book
        if self.snapshot is None:
            self.tell(self.DEPTH, event)

    def on_batch_end(self, ts_recv):
        if self.snapshot is not None:
            self.tell(self.SNAPSHOT, self.snapshot)
            self.snapshot = None

    def tell(self, kind, cause):
        top = []
        for level in (self.book.best_bid, self.book.best_ask):
            top += [round(level.price * 10**8), round(level.qty * 10**8)]
        self.fold(kind, cause.ts_recv, cause.ts_event // 10**6, self.book.last_id, *top, 0, 0, 0)


def at_8(number):
    return int(number.scaleb(8))


def test_an_independent_decoder_makes_the_same_events(captures):
    """The number is that of a C++ program with a parser and a book of its own; its hand-written scanner and its variant
    that leaves JSON to simdjson (DOM) both print it."""
    fold = Fold()
    play(captures, "usdm-btcusdt", fold)
    assert fold.events == 93_954
    assert f"{fold.digest:016x}" == "84b3233f3326a49b"


# --- the captures of many symbols: 2021 and 2023 --------------------------------------------------


def lines(path):
    return gzip.decompress(path.read_bytes()).decode().split("\n")


def capture(folder, name):
    """Yield (seconds, symbol of a reply or None, payload) in the order of time, which two files tell."""
    records = []
    for line in lines(folder / f"{name}.http.0.0.gz"):
        head, _, body = line.partition(": ")
        url, _, seconds = head.rpartition(" -> ")
        if url:
            symbol = re.search(r"symbol=(\w+)", url)[1]
            records.append((float(seconds), symbol, body.partition(" header: ")[0].strip().encode()))
    for line in lines(folder / f"{name}.ws.1.0.gz"):
        seconds, _, payload = line.strip().partition(": ")
        if payload and " " not in seconds:
            records.append((float(seconds), None, payload.encode()))
    return sorted(records, key=lambda record: record[0])


KINDS = {"depth": "deltas", "bookTicker": "quotes", "trade": "trades", "aggTrade": "trades"}


@pytest.mark.parametrize("reference", [False, True])
@pytest.mark.parametrize(
    ("name", "exchange_id", "streams", "ahead"),
    [
        ("BINANCE", "binance", {"depth": 177, "bookTicker": 84, "aggTrade": 2, "kline_1m": 2}, 0),
        ("BINANCE_US", "binance", {"depth": 336, "bookTicker": 128, "aggTrade": 11, "kline_1m": 5}, 0),
        ("BINANCE_TR", "binance", {"depth": 84, "bookTicker": 47, "kline_1m": 8}, 0),
        ("BINANCE_FUTURES", "binance-futures", {"depth": 764, "bookTicker": 613, "aggTrade": 91, "kline_1m": 67}, 0),
        (
            "BINANCE_DELIVERY",
            "binance-delivery",
            {"depth": 2047, "bookTicker": 2240, "aggTrade": 51, "kline_1m": 33},
            5,
        ),
    ],
)
def test_every_symbol_joins_without_a_gap(captures, name, exchange_id, streams, ahead, reference):
    """`ahead` counts books that differ from the quote before them: the REST snapshot that they come from shows a change
    that neither its `lastUpdateId` nor the quotes have yet (two symbols of COIN-M), until the delta that has it."""
    log = EventLog()
    check = QuoteCheck(log)
    pipeline = Pipeline(exchange(exchange_id), Instruments(infer=True), check, reference=reference)
    counted, replies = Counter(), 0
    for seconds, symbol, payload in capture(captures / "exchanges", name):
        ts_recv = int(seconds * 10**9)
        if symbol is None:
            counted[orjson.loads(payload)["stream"].split("@")[1]] += 1
            pipeline.on_message(payload, ts_recv, True)
        else:
            replies += 1
            pipeline.on_reply(symbol, payload, ts_recv)
    assert counted == streams
    wanted = Counter()
    for stream, count in streams.items():
        if stream in KINDS:
            wanted[KINDS[stream]] += count
    assert (len(log.quotes), len(log.trades)) == (wanted["quotes"], wanted["trades"])
    assert len(log.deltas) == wanted["deltas"] + replies
    assert len(log.of(Candle)) == streams["kline_1m"]
    assert pipeline.problems == {}

    assert pipeline.books.gaps == 0
    snapshots = {delta.instrument for delta in log.deltas if delta.is_snapshot}
    assert len(snapshots) == replies
    for book in pipeline.books.books:
        assert book.state is (BookState.LIVE if book.instrument in snapshots else BookState.SYNCING)
    result = check.result()
    assert result.compared > 0
    assert result.compared - result.equal == len(result.mismatches) == ahead
    joined_at = {delta.instrument: delta.last_id for delta in log.deltas if delta.is_snapshot}
    assert all(mismatch.quote_id < joined_at[mismatch.instrument] <= mismatch.book_id for mismatch in result.mismatches)
