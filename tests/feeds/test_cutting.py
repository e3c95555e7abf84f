"""From the byte stream to the handler: where reads end changes what is merged, and nothing else."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from feeds.conflation import POLICIES, conflated
from feeds.exchange import exchange
from feeds.instrument import Instruments
from feeds.pipeline import Pipeline
from feeds.testing import EventLog
from picows import WSMsgType, serialize_frame
from picows.parser import FrameParser

from .messages import book_ticker, depth, partial, snapshot, trade

SYMBOLS = ("BTCUSDT", "ETHUSDT")


def session(seed: int, count: int = 120) -> list[bytes]:
    """Messages of two symbols; prices in ticks of 0.01 around 100, bids below and asks above."""
    rng = random.Random(seed)
    update_id = dict.fromkeys(SYMBOLS, 10)
    messages = []
    for number in range(count):
        symbol = rng.choice(SYMBOLS)
        kind = rng.random()
        if kind < 0.6:
            first = update_id[symbol] + 1
            update_id[symbol] += rng.randint(1, 3)
            bids = [
                (f"{100 - rng.randint(1, 30) / 100:.2f}", rng.choice(["0", "1.5", "2"]))
                for _ in range(rng.randint(0, 4))
            ]
            asks = [
                (f"{100 + rng.randint(1, 30) / 100:.2f}", rng.choice(["0", "0.125"])) for _ in range(rng.randint(0, 4))
            ]
            messages.append(depth(first, update_id[symbol], bids, asks, symbol=symbol))
        elif kind < 0.65:  # of a third book, which only its top is known of
            bid = f"{100 - rng.randint(1, 30) / 100:.2f}"
            messages.append(partial(number, [(bid, "1")], [("101", f"{rng.randint(1, 9)}")], symbol="TOPUSDT"))
        elif kind < 0.85:
            messages.append(book_ticker(bid_qty=f"{rng.randint(1, 99) / 10}", symbol=symbol, u=update_id[symbol]))
        else:
            messages.append(trade(qty=f"{rng.randint(1, 99) / 100}", symbol=symbol, t=number))
    return messages


def run(stream: bytes, cuts: list[int], policy: str, reads: int = 1) -> tuple[EventLog, Pipeline]:
    """Read the stream in pieces as a receiver does: each piece is a read, its complete messages are a batch.

    Drained, a batch is of so many reads; where the last of them completes no message, a tick ends it.
    """
    log = EventLog()
    pipeline = Pipeline(
        exchange("binance"), Instruments(infer=True), conflated(log, policy), skip_superseded=policy != "none"
    )
    for symbol in SYMBOLS:  # a first delta each, so that a snapshot is asked for, and the snapshot
        pipeline.on_message(depth(9, 10, symbol=symbol), 1, True)
        pipeline.on_reply(symbol, snapshot(10, [("99.5", "1")], [("100.5", "1")]), 2)
    parser = FrameParser(False)
    for ts_recv, (start, end) in enumerate(zip([0, *cuts], [*cuts, len(stream)], strict=True), 3):
        parser.feed(stream[start:end])
        ends = policy != "drained" or ts_recv % reads == 0
        while (frame := parser.next_frame_or_none()) is not None:
            pipeline.on_message(frame.get_payload_as_bytes(), ts_recv, bool(frame.last_in_buffer) and ends)
        if policy == "drained" and ends:
            pipeline.on_tick(ts_recv)
    pipeline.on_tick(2**40)
    return log, pipeline


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), data=st.data(), policy=st.sampled_from(POLICIES), reads=st.integers(1, 10))
def test_any_cutting_of_the_byte_stream_gives_the_same_books_trades_and_receipts(
    seed: int, data: st.DataObject, policy: str, reads: int
) -> None:
    messages = session(seed)
    stream = b"".join(serialize_frame(WSMsgType.TEXT, message) for message in messages)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=40)))
    log, pipeline = run(stream, cuts, policy, reads)
    whole, expected = run(stream, [], "none")
    assert [(b.exact(0), b.exact(1), b.last_id, b.state) for b in pipeline.books.books] == [
        (b.exact(0), b.exact(1), b.last_id, b.state) for b in expected.books.books
    ]
    assert [t.id for t in log.trades] == [t.id for t in whole.trades]
    assert sum(q.merged for q in log.quotes) == len(whole.quotes)
    assert {q.instrument.raw_symbol: (q.bid_decimal, q.sequence) for q in log.quotes} == {
        q.instrument.raw_symbol: (q.bid_decimal, q.sequence) for q in whole.quotes
    }
    if policy == "none":
        assert pipeline.superseded == 0
    assert sum(u.merged for u in log.updates) == sum(u.merged for u in whole.updates)
    assert pipeline.problems == {}
    assert all(b.state.name == "LIVE" for b in pipeline.books.books)


def test_one_read_of_a_thousand_messages_is_one_call_a_kind_and_symbol() -> None:
    messages = session(1, 1000)
    log, pipeline = run(b"".join(serialize_frame(WSMsgType.TEXT, message) for message in messages), [], "batch")
    burst = [event for event in (*log.updates, *log.quotes) if event.ts_recv == 3]
    assert len(burst) == 5  # a book and a quote of two symbols, and the book of a third
    assert pipeline.superseded > 100
    trades = [event for event in log.trades if event.ts_recv == 3]
    assert sum(event.merged for event in burst) + len(trades) == 1000
    assert [int(event.id or -1) for event in trades] == sorted(int(event.id or -1) for event in trades)
