import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

import pytest

from feeds.simulator.binance import BinanceFutures, BinanceSession, BinanceSpot
from feeds.simulator.faults import FaultPlan, StaleSnapshot
from feeds.simulator.order_flow import NS_PER_SECOND
from feeds.simulator.playback import Playback, PlaybackError
from feeds.simulator.protocol import Batch

TEXT, CONNECTED, REPLY = 1, 3, 5
LAST_IN_BUFFER = 1 << 8
START_NS = 5_000 * NS_PER_SECOND
FIRST_NS = 1_723_161_253 * NS_PER_SECOND


@dataclass
class Entry:
    """What a recording yields."""

    ts_recv: int
    payload: bytes
    flags: int = TEXT
    tag: str = ""
    source: int = 0


def text(second: float, number: int, stream: str = "btcusdt@depth@100ms", flags: int = TEXT) -> Entry:
    payload = b'{"stream":"%b","data":{"e":"depthUpdate","s":"BTCUSDT","u":%d}}' % (stream.encode(), number)
    return Entry(FIRST_NS + round(second * NS_PER_SECOND), payload, flags)


def connect(exchange: BinanceSpot, target: str, now_ns: int = START_NS) -> BinanceSession:
    session = exchange.connect(target)
    session.open(now_ns)
    return session


def sent(exchange: BinanceSpot, session: BinanceSession, seconds: float) -> list[list[bytes]]:
    """Payloads by batch, up to so many seconds after the start."""
    return [
        [payload for message in batch.messages if (payload := session.encode(message)) is not None]
        for batch in poll(exchange, START_NS + round(seconds * NS_PER_SECOND))
        if batch.session is session
    ]


def poll(exchange: BinanceSpot, until_ns: int) -> list[Batch]:
    """Batches with something in them: recorded answers leave empty ones."""
    return [batch for batch in exchange.source.poll(until_ns) if batch.messages]


RECORDING = [
    Entry(FIRST_NS - 5, b"", CONNECTED),
    Entry(FIRST_NS - 4, b'{"result":null,"id":1}'),
    text(0, 1, flags=TEXT | LAST_IN_BUFFER),
    text(1, 2),
    text(1, 3, flags=TEXT | LAST_IN_BUFFER),
    Entry(FIRST_NS + 1, b'{"lastUpdateId":1}', REPLY, "BTCUSDT"),
    text(3, 4, "btcusdt@bookTicker"),
    text(4, 5, "ethusdt@trade"),
]
ALL = "/stream?streams=btcusdt@depth@100ms/btcusdt@bookTicker/ethusdt@trade"


def play(messages: list[Entry] | Iterator[Entry] | None = None, speed: float = 1.0, **limits: int) -> BinanceSpot:
    recording = RECORDING if messages is None else messages
    return BinanceSpot(["BTCUSDT", "ETHUSDT"], playback=Playback(recording, speed=speed, **limits), start_ns=START_NS)


def payloads(*indices: int) -> list[bytes]:
    return [RECORDING[i].payload for i in indices]


def test_messages_come_verbatim_in_order_and_those_of_one_read_together() -> None:
    exchange = play()
    assert sent(exchange, connect(exchange, ALL), 60) == [payloads(2), payloads(3, 4), payloads(6), payloads(7)]


@pytest.mark.parametrize(
    ("speed", "seconds", "batches"),
    # The first text came 4 ns before the stream's first message: that long it takes at the recorded pace.
    [(1.0, 0.9, 1), (1.0, 1.1, 2), (1.0, 3.1, 3), (2.0, 0.6, 2), (2.0, 2.1, 4), (0.5, 1.9, 1), (math.inf, 0.0, 4)],
)
def test_the_pace_is_the_recorded_one_or_a_factor_of_it(speed: float, seconds: float, batches: int) -> None:
    exchange = play(speed=speed)
    assert len(sent(exchange, connect(exchange, ALL), seconds)) == batches


def test_a_client_gets_the_streams_that_it_asked_for_in_the_mode_that_it_asked_for() -> None:
    exchange = play(speed=math.inf)
    session = connect(exchange, "/ws/ethusdt@trade")
    assert [payload for batch in sent(exchange, session, 0) for payload in batch] == [
        b'{"e":"depthUpdate","s":"BTCUSDT","u":5}'
    ]


def test_every_client_gets_everything_from_the_start() -> None:
    exchange = play()
    first = connect(exchange, ALL)
    assert len(sent(exchange, first, 3.5)) == 3
    second = connect(exchange, ALL, START_NS + 10 * NS_PER_SECOND)
    batches = poll(exchange, START_NS + 60 * NS_PER_SECOND)
    assert [batch.session is second for batch in batches] == [False, True, True, True, True]
    times = [batch.ts_event for batch in batches]
    assert times == sorted(times)


def test_playing_begins_with_the_first_subscription() -> None:
    exchange = play()
    session = connect(exchange, "/stream")
    assert exchange.source.next_ns is None
    session.receive(b'{"method":"SUBSCRIBE","params":["btcusdt@depth@100ms"],"id":1}', START_NS + 7)
    assert exchange.source.next_ns == START_NS + 7


def test_a_client_that_does_not_read_is_waited_for() -> None:
    exchange = play(speed=math.inf)
    slow, quick = connect(exchange, ALL), connect(exchange, ALL)
    exchange.source.pause(slow)
    assert {batch.session for batch in poll(exchange, START_NS)} == {quick}
    exchange.source.resume(slow)
    assert len(sent(exchange, slow, 0)) == 4


def test_clients_without_a_pace_take_turns() -> None:
    exchange = play(speed=math.inf)
    first, second = connect(exchange, ALL), connect(exchange, ALL)
    order = [batch.session for batch in poll(exchange, START_NS)]
    assert order[:2] in ([first, second], [second, first])
    assert order.count(first) == order.count(second) == 4


def test_time_that_steps_back_in_a_recording_does_not_step_back_for_a_client() -> None:
    exchange = play([text(0, 1), text(2, 2), text(1, 3), text(3, 4)])
    session = connect(exchange, ALL)
    times = [batch.ts_event - START_NS for batch in poll(exchange, START_NS + 60 * NS_PER_SECOND)]
    assert [time // NS_PER_SECOND for time in times] == [0, 2, 2, 3]
    session.close()
    assert exchange.source.next_ns is None


def reply(number: int, symbol: str = "BTCUSDT") -> Entry:
    return Entry(FIRST_NS + number, b'{"lastUpdateId":%d}' % number, REPLY, symbol)


def test_snapshots_are_the_recorded_replies_in_their_order_anew_for_each_start() -> None:
    exchange = play([text(0, 1), reply(1), reply(2, "ETHUSDT"), reply(3)])
    connect(exchange, ALL)

    def body(symbol: str) -> bytes:
        return exchange.rest(f"/api/v3/depth?symbol={symbol}", 0).body

    assert [body("BTCUSDT") for _ in range(3)] == [reply(1).payload, reply(3).payload, reply(3).payload]
    assert body("ETHUSDT") == reply(2).payload
    connect(exchange, ALL)
    assert body("BTCUSDT") == reply(1).payload


def test_a_symbol_without_a_recorded_reply_has_no_snapshot() -> None:
    assert play([text(0, 1)]).rest("/api/v3/depth?symbol=BTCUSDT", 0).status == 400


def test_the_snapshots_held_are_limited() -> None:
    with pytest.raises(PlaybackError, match="max_snapshots=1 REST replies, found more"):
        play([reply(1), reply(2)], max_snapshots=1)


def test_iterators_and_functions_can_be_played_more_than_once() -> None:
    for messages in (iter(RECORDING), lambda: iter(RECORDING)):
        exchange = BinanceSpot(["BTCUSDT"], playback=Playback(messages, speed=math.inf))
        for _ in range(2):
            session = connect(exchange, ALL, 0)
            assert len(poll(exchange, 0)) == 4
            session.close()


class Reader:
    """Iterates once and wants to be closed, as readers of files do."""

    def __init__(self, opened: "list[Reader]") -> None:
        self._entries = iter(RECORDING)
        self.is_closed = False
        opened.append(self)

    def __iter__(self) -> "Reader":
        return self

    def __next__(self) -> Entry:
        return next(self._entries)

    def close(self) -> None:
        self.is_closed = True


def test_readers_are_opened_for_each_client_and_closed_behind_it() -> None:
    opened: list[Reader] = []
    exchange = BinanceSpot(["BTCUSDT"], playback=Playback(lambda: Reader(opened)), start_ns=START_NS)
    assert [reader.is_closed for reader in opened] == [True]
    early, late = connect(exchange, ALL), connect(exchange, ALL)
    early.close()
    assert [reader.is_closed for reader in opened[1:]] == [True, False]
    assert len(sent(exchange, late, 60)) == 4
    assert opened[2].is_closed


def test_an_empty_recording_is_silent() -> None:
    exchange = play([])
    assert sent(exchange, connect(exchange, ALL), 60) == []


@pytest.mark.parametrize("speed", [0.0, -1.0, math.nan])
def test_a_speed_that_does_not_move_is_refused(speed: float) -> None:
    with pytest.raises(ValueError, match="expected a speed above 0"):
        Playback([], speed=speed)


def test_what_only_generated_flow_can_do_is_refused() -> None:
    exchange = play()
    with pytest.raises(ValueError, match="found a recording"):
        exchange.source.burst("BTCUSDT", 1, 0)
    with pytest.raises(ValueError, match="found a recording"):
        FaultPlan(exchange, [StaleSnapshot("BTCUSDT")])


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (b'{"stream":"btcusdt@depth@100ms","data":{"u":1}}', ("btcusdt@depth@100ms", "BTCUSDT", "delta", b'{"u":1}')),
        (b'{"stream":"!ticker@arr","data":[]}', ("!ticker@arr", "", "other", b"[]")),
        (b'{"e":"depthUpdate","s":"X","u":1}', (None, "X", "delta", b'{"e":"depthUpdate","s":"X","u":1}')),
        (b"\xff\xfe", (None, "", "other", b"\xff\xfe")),
    ],
)
def test_recorded_messages_are_recognised(payload: bytes, expected: tuple[object, ...]) -> None:
    message = BinanceFutures(["X"]).recognise(payload)
    assert message is not None
    assert (message.stream, message.symbol, message.kind, message.data) == expected


def test_recorded_traffic_is_played_byte_for_byte(capture_lines: Callable[[str], Iterator[str]]) -> None:
    recording = []
    for line in islice(capture_lines("binance/spot-btcusdt_20240808.gz"), 2_000):
        ts_recv, payload = line.encode().rstrip().split(b" ", 1)
        is_reply = payload.startswith(b'{"lastUpdateId"')
        recording.append(Entry(int(ts_recv), payload, REPLY if is_reply else TEXT, "BTCUSDT" if is_reply else ""))
    exchange = play(recording, speed=math.inf)
    session = connect(exchange, "/stream?streams=btcusdt@depth@100ms/btcusdt@bookTicker/btcusdt@trade")
    played = [payload for batch in sent(exchange, session, 0) for payload in batch]
    assert played == [entry.payload for entry in recording if entry.flags == TEXT]
    (reply,) = [entry.payload for entry in recording if entry.flags == REPLY]
    assert exchange.rest("/api/v3/depth?symbol=BTCUSDT&limit=1000", 0).body == reply


def test_recorded_answers_are_not_market_data() -> None:
    exchange = BinanceSpot(["X"])
    assert exchange.recognise(b'{"result":null,"id":1}') is None
    assert exchange.recognise(b'{"error":{"code":2,"msg":"x"},"id":1}') is None
