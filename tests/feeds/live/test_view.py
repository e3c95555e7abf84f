"""What the terminal view shows, line for line."""

from __future__ import annotations

import asyncio
import io
import threading
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from feeds.conflation import Conflator
from feeds.exchange import exchange
from feeds.instrument import Instruments
from feeds.live.view import FeedPicture, Picture, RowPicture, View, draw
from feeds.pipeline import Pipeline
from feeds.subscription import Subscription

from ..messages import book_ticker, depth, snapshot

BTC = "BTCUSDT"

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND


class Session:
    """A recorded stretch of a Binance connection, in front of a view whose clock is set by hand."""

    def __init__(self, screen: io.StringIO) -> None:
        self.now = START
        console = Console(file=screen, force_terminal=True, width=100, height=12, color_system=None)
        self.view = View(console, redraws=10, now=lambda: self.now)
        instruments = Instruments()
        for raw_symbol, symbol in (("BTCUSDT", "BTC-USDT"), ("ETHUSDT", "ETH-USDT"), ("XRPUSDT", "XRP-USDT")):
            instruments.add("binance", raw_symbol, symbol=symbol, kind="spot", price_decimals=2, qty_decimals=5)
        self.pipeline = Pipeline(exchange("binance"), instruments, Conflator(self.view.watch))
        self.receiver = SimpleNamespace(is_connected=True)
        line = SimpleNamespace(pipeline=self.pipeline, receiver=self.receiver)
        feed = SimpleNamespace(
            subscriptions=[Subscription(name) for name in ("BTCUSDT", "ETHUSDT", "XRPUSDT")],
            instruments=instruments,
            lines=[line],
            snapshots=SimpleNamespace(pending=[]),
        )
        self.feeds: Any = SimpleNamespace(feeds={"binance": feed}, latency=None)

    def play(self) -> None:
        """One second: BTC from a snapshot and a change, and three quotes of ETH in one burst."""
        pipeline, at = self.pipeline, self.now
        pipeline.on_connected("", at)
        pipeline.on_message(depth(158, 161, [("30000.11", "2")]), at + 1, True)
        pipeline.on_reply(BTC, snapshot(160, [("30000.10", "0.5")], [("30000.20", "0.25")]), at + SECOND // 2)
        for bid, last in (("2000.10", False), ("2000.20", False), ("2000.30", True)):
            pipeline.on_message(book_ticker(bid, "2000.40", symbol="ETHUSDT"), at + SECOND // 2, last)
        pipeline.on_message(b"{", at + SECOND // 2, True)
        self.now += SECOND


@pytest.fixture
def session() -> Session:
    return Session(io.StringIO())


def lines(picture: Picture, width: int, height: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height, color_system=None, highlight=False)
    console.print(draw(picture, width, height))
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


async def test_it_shows_what_was_recorded(session: Session) -> None:
    with session.view as view:
        view.follow(session.feeds)
        session.play()
        shown = lines(view.take(12), 100, 12)
    assert shown == [
        "feeds live 0:00:01  1 exchange, 3 symbols, 5 messages/s",
        "binance: 1 of 1 connected, 5 messages/s, problems: 1 not_json",
        "symbol    bid qty       bid       ask  ask qty  msg/s    age  merged  book",
        "BTC-USDT  2.00000  30000.11  30000.20  0.25000      2  0.5 s       1  LIVE",
        "ETH-USDT  1.50000   2000.30   2000.40  2.50000      3  0.5 s       2  no book",
        "XRP-USDT                                            0              0  no data",
        "22:13:20 binance[0]: connected",
        "22:13:20 binance BTC-USDT: SYNCING -> SYNCING first message",
        "22:13:20 binance BTC-USDT: SYNCING -> LIVE snapshot joined",
        "22:13:20 binance[0]: problem not_json: binance: expected JSON, found: Input data was truncated: {",
    ]


async def test_a_book_that_is_not_live_shows_its_state_and_reason_and_no_price(session: Session) -> None:
    with session.view as view:
        view.follow(session.feeds)
        session.play()
        session.pipeline.on_disconnected("connection reset \x1b[2J by peer", session.now)
        session.receiver.is_connected = False
        shown = lines(view.take(12), 100, 12)
    assert shown == [
        "feeds live 0:00:01  1 exchange, 3 symbols, 5 messages/s",
        "binance: 0 of 1 connected, 5 messages/s, problems: 1 not_json",
        "symbol    bid qty  bid  ask  ask qty  msg/s    age  merged  book",
        "BTC-USDT                                  2  0.5 s       1  STALE connection reset ?[2J by peer",
        "ETH-USDT                                  3  0.5 s       2  no book",
        "XRP-USDT                                  0              0  no data",
        "22:13:20 binance[0]: connected",
        "22:13:20 binance BTC-USDT: SYNCING -> SYNCING first message",
        "22:13:20 binance BTC-USDT: SYNCING -> LIVE snapshot joined",
        "22:13:20 binance[0]: problem not_json: binance: expected JSON, found: Input data was truncated: {",
        "22:13:21 binance BTC-USDT: LIVE -> STALE connection reset ?[2J by peer",
        "22:13:21 binance[0]: disconnected connection reset ?[2J by peer",
    ]


async def test_a_rate_is_that_since_the_last_picture(session: Session) -> None:
    with session.view as view:
        view.follow(session.feeds)
        session.play()
        assert [row.rate for row in view.take(12).rows] == [2.0, 3.0, 0.0]
        session.now += 2 * SECOND
        session.pipeline.on_message(book_ticker("2000.10", "2000.40", symbol="ETHUSDT"), session.now, True)
        assert [row.rate for row in view.take(12).rows] == [0.0, 0.5, 0.0]


async def test_more_symbols_than_there_is_room_for_are_counted(session: Session) -> None:
    with session.view as view:
        view.follow(session.feeds)
        session.play()
        picture = view.take(1)
    assert [row.symbol for row in picture.rows] == ["BTC-USDT"]
    assert picture.more == {"no book": 1, "no data": 1}
    assert len(picture.happenings) == 1


def many(symbols: int, exchanges: int = 1, **more: Any) -> Picture:
    feeds = [FeedPicture(f"exchange-{number}", 2, 2, 1500.0, 0, {}) for number in range(exchanges)]
    rows = [
        RowPicture(
            f"exchange-{number % exchanges}",
            f"S{number}-USDT",
            "1.50",
            "12.0",
            "1.51",
            "7.5",
            rate=1234.0,
            age="0.1 s",
            merged=17,
            state="GAP" if number % 10 == 9 else "LIVE",
            reason="missed 3 messages" if number % 10 == 9 else "",
        )
        for number in range(symbols)
    ]
    happenings = [(f"22:13:{number:02} exchange-0[0]: disconnected", True) for number in range(20)]
    return Picture(elapsed=3725.0, feeds=feeds, rows=rows, happenings=happenings, **more)


def test_those_that_fit_are_shown_and_how_many_more_there_are() -> None:
    picture = many(30, more=Counter({"LIVE": 470}))
    assert lines(picture, 80, 9) == [
        "feeds live 1:02:05  1 exchange, 500 symbols, 1,500 messages/s",
        "exchange-0: 2 of 2 connected, 1,500 messages/s",
        "symbol   bid qty   bid   ask  ask qty  msg/s    age  merged  book",
        "S0-USDT     12.0  1.50  1.51      7.5  1,234  0.1 s      17  LIVE",
        "S1-USDT     12.0  1.50  1.51      7.5  1,234  0.1 s      17  LIVE",
        "S2-USDT     12.0  1.50  1.51      7.5  1,234  0.1 s      17  LIVE",
        "and 497 more: 494 LIVE, 3 GAP",
        "22:13:18 exchange-0[0]: disconnected",
        "22:13:19 exchange-0[0]: disconnected",
    ]


def test_what_is_too_long_for_a_line_is_cut() -> None:
    assert lines(many(1), 30, 5)[-1] == "22:13:19 exchange-0[0]: disco…"


def test_a_narrow_terminal_gets_the_columns_that_matter() -> None:
    picture = many(10, exchanges=2)
    shown = {width: lines(picture, width, 40)[3:5] for width in (80, 70, 51, 40, 25)}
    assert shown == {
        80: [
            "exchange    symbol   bid qty   bid   ask  ask qty  msg/s    age  merged  book",
            "exchange-0  S0-USDT     12.0  1.50  1.51      7.5  1,234  0.1 s      17  LIVE",
        ],
        70: [
            "exchange    symbol   bid qty   bid   ask  ask qty  msg/s    age  book",
            "exchange-0  S0-USDT     12.0  1.50  1.51      7.5  1,234  0.1 s  LIVE",
        ],
        51: [
            "exchange    symbol    bid   ask  msg/s    age  book",
            "exchange-0  S0-USDT  1.50  1.51  1,234  0.1 s  LIVE",
        ],
        40: [
            "symbol    bid   ask  msg/s    age  book",
            "S0-USDT  1.50  1.51  1,234  0.1 s  LIVE",
        ],
        25: [
            "symbol    bid   ask  book",
            "S0-USDT  1.50  1.51  LIVE",
        ],
    }


def test_latencies_are_shown_where_there_is_room() -> None:
    figures = {"count": 9, "p50": 1500, "p99": 20_000, "p99.9": 30_000, "max": 1_234_000}
    picture = many(1, latency={"decode": figures, "to_callback": figures, "callback": figures})
    assert lines(picture, 60, 20)[4:8] == [
        "latency, us   decode  read to callback  callback",
        "p50              1.5               1.5       1.5",
        "p99             20.0              20.0      20.0",
        "max          1,234.0           1,234.0   1,234.0",
    ]
    assert lines(picture, 45, 20)[4] == "latency, us   decode  read to callback"
    assert not any("latency" in line for line in lines(picture, 60, 19))


@given(
    width=st.integers(1, 200),
    height=st.integers(1, 60),
    symbols=st.integers(0, 70),
    exchanges=st.integers(1, 12),
    hidden=st.integers(0, 1000),
)
def test_it_fits_every_terminal_and_leaves_out_nothing_that_fits(
    width: int, height: int, symbols: int, exchanges: int, hidden: int
) -> None:
    shown = lines(many(symbols, exchanges, more=Counter({"LIVE": hidden} if hidden else {})), width, height)
    assert len(shown) <= height
    assert max(map(len, shown)) <= width
    if width >= 40 and height >= 20:
        visible = sum("-USDT" in line for line in shown)
        more = [line for line in shown if line.startswith("and ")]
        assert visible + (int(more[0].split()[1]) if more else 0) == symbols + hidden


class StallingScreen(io.StringIO):
    """A terminal that takes nothing more when it has got the first symbols, until it is told to go on."""

    def __init__(self) -> None:
        super().__init__()
        self.is_stalled = threading.Event()
        self.goes_on = threading.Event()
        self.has_prices = threading.Event()

    def write(self, text: str) -> int:
        if "BTC-USDT" in text:
            self.is_stalled.set()
            self.goes_on.wait()
        if "30000.20" in text:
            self.has_prices.set()
        return super().write(text)


async def test_a_terminal_that_stalls_does_not_hold_up_the_feeds() -> None:
    screen = StallingScreen()
    session = Session(screen)
    loop = asyncio.get_running_loop()
    with session.view as view:
        view.follow(session.feeds)
        await loop.run_in_executor(None, screen.is_stalled.wait)
        session.play()  # the event loop is free
        screen.goes_on.set()
        await loop.run_in_executor(None, screen.has_prices.wait)
    assert "\x1b[?1049h" in screen.getvalue()  # the screen was taken
    assert screen.getvalue().endswith("\x1b[?1049l")  # and given back


async def test_a_picture_that_cannot_be_drawn_ends_the_view_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ValueError("no such colour")

    monkeypatch.setattr("feeds.live.view.draw", fail)
    screen = io.StringIO()
    session = Session(screen)
    with session.view as view:
        view.follow(session.feeds)
        assert view._redrawing is not None
        await asyncio.wait_for(view._redrawing, 10)
    _, after = screen.getvalue().split("\x1b[?1049l")  # the screen was given back
    assert after == "the view has ended, the feeds go on: ValueError: no such colour\n"
