"""What every exchange keeps, whoever wrote it: over the `SAMPLES` of the modules beside this one."""

import asyncio
import gzip
import math
import random
import re
from itertools import islice
from pathlib import Path

import msgspec
import pytest

import feeds.exchanges
from feeds import session
from feeds.book import BookState
from feeds.decoder import Decoder, Fetch
from feeds.errors import ConfigError, DecodeError
from feeds.events import BookDelta, EventHandler, FeedStatus, Quote, Trade
from feeds.exchange import Endpoints, Heartbeat, exchange, exchange_ids
from feeds.instrument import Instruments
from feeds.live.feed import FeedConfig
from feeds.live.http import address
from feeds.message_decoder import MessageDecoder
from feeds.pipeline import Pipeline
from feeds.recording import LAST_IN_BATCH, Kind, RecordingWriter, open_recording
from feeds.recording.format import INSTRUMENTS_TAG, TICKET_TAG
from feeds.replay import Replay
from feeds.simulator import RecordedExchange, SimulatedExchange
from feeds.subscription import CHANNELS, Subscription
from feeds.testing import EventLog
from tests.feeds.exchanges.samples import all_samples, replayed

SAMPLES = all_samples()
EACH = pytest.mark.parametrize("samples", SAMPLES, ids=str)
TODAYS = pytest.mark.parametrize("samples", [one for one in SAMPLES if not one.url], ids=str)
MIN_TIME, MAX_TIME = 1_293_840_000 * 10**9, 2_208_988_800 * 10**9  # 2011 to 2040
MUTATIONS = 150
SEED = 20261127


def play(samples, *, instruments=None, messages=None):
    """Return (log, pipeline) after the messages and replies; problems are in the pipeline."""
    log = EventLog()
    pipeline = samples.pipeline(log, instruments)
    for message in samples.messages.values() if messages is None else messages:
        pipeline.on_message(message, samples.ts, True)
    for tag, reply in samples.replies:
        pipeline.on_reply(tag, reply, samples.ts)
    return log, pipeline


def comparable(log):
    """Events of several sessions have instruments of their own: what they print, and of whom."""
    return [(repr(event), event.ts_event, event.ts_recv) for event in log.events]


def test_every_exchange_has_samples():
    assert {samples.exchange for samples in SAMPLES} == set(exchange_ids())


@EACH
def test_every_sample_is_decoded(samples):
    log, pipeline = play(samples)
    assert {kind: problem.first for kind, problem in pipeline.problems.items()} == {}
    assert {book.instrument.raw_symbol: book.state for book in pipeline.books.books} == {
        book.instrument.raw_symbol: BookState.LIVE for book in pipeline.books.books
    }
    assert log.events


@EACH
def test_the_same_bytes_give_the_same_events(samples):
    assert comparable(play(samples)[0]) == comparable(play(samples)[0])


@EACH
def test_a_new_connection_starts_clean(samples):
    log, pipeline = play(samples)
    first = comparable(log)
    pipeline.on_disconnected("test", samples.ts)
    pipeline.on_connected("test", samples.ts)
    log.clear()
    for message in samples.messages.values():
        pipeline.on_message(message, samples.ts, True)
    for tag, reply in samples.replies:
        pipeline.on_reply(tag, reply, samples.ts)
    data = [event for event in first if "Status" not in event[0]]
    assert [event for event in comparable(log) if "Status" not in event[0]] == data


@EACH
def test_times_are_ns_and_instruments_are_named(samples):
    log, _ = play(samples)
    for event in log.events:
        assert event.ts_event == 0 or MIN_TIME < event.ts_event < MAX_TIME, event
        if isinstance(event, FeedStatus):
            continue
        assert event.ts_recv == samples.ts
        assert event.instrument.exchange == samples.exchange


@EACH
def test_messages_of_unknown_symbols_emit_nothing_and_are_counted(samples):
    log, pipeline = play(samples, instruments=Instruments())
    assert [event for event in log.events if not isinstance(event, FeedStatus)] == []
    assert set(pipeline.problems) <= {"unknown_symbol"}
    if any(not isinstance(event, FeedStatus) for event in play(samples)[0].events):
        assert pipeline.problems["unknown_symbol"].count > 0


@EACH
def test_fields_that_are_new_are_ignored(samples):
    added = [
        message[:-1] + b',"zzzNew":[1,{"a":null}]}' if re.fullmatch(rb"\{.+\}", message, re.DOTALL) else message
        for message in samples.messages.values()
    ]
    assert comparable(play(samples, messages=added)[0]) == comparable(play(samples)[0])


def decode_all(decoder, message, ts):
    """Decode, and allow only what is documented."""
    try:
        decoder.decode(message, ts)
    except DecodeError as error:
        assert error.kind
        assert str(error).startswith(decoder.exchange) or not isinstance(decoder, MessageDecoder)


@EACH
def test_truncated_messages_raise_only_decode_errors(samples):
    decoder = new_decoder(samples)
    for message in samples.messages.values():
        step = max(1, len(message) // 300)
        for cut in range(0, len(message), step):
            decode_all(decoder, message[:cut], samples.ts)


@EACH
def test_mutated_messages_raise_only_decode_errors(samples):
    decoder = new_decoder(samples)
    rng = random.Random(SEED)
    pieces = [b"", b"null", b"{}", b"[]", b'""', b"0", b"-1", b"1e400", b"1e-400", b'"x"', b"\xff", b"9" * 40, b"true"]
    for message in samples.messages.values():
        for _ in range(MUTATIONS):
            at = rng.randrange(len(message))
            to = min(len(message), at + rng.randrange(0, 12))
            decode_all(decoder, message[:at] + rng.choice(pieces) + message[to:], samples.ts)
        # whole values: what msgspec alone would not notice
        for match in re.finditer(rb'(?<=[:,\[])("[^"]*"|[-\d.]+)(?=[,\]}])', message):
            piece = rng.choice(pieces)
            decode_all(decoder, message[: match.start()] + piece + message[match.end() :], samples.ts)


@EACH
@pytest.mark.parametrize(
    "message", [b"", b"null", b"1", b'"x"', b"{}", b"[]", b"[1]", b"{", b"\xff\xfe", b"[" * 100_000, b'{"a":' * 100_000]
)
def test_what_is_no_message_is_a_decode_error(samples, message):
    with pytest.raises(DecodeError):
        new_decoder(samples).decode(message, samples.ts)


@EACH
def test_silent_kinds_are_documented(samples):
    decoder = new_decoder(samples)
    if isinstance(decoder, MessageDecoder):
        assert all(kind and why for kind, why in decoder.silent_kinds.items())


def new_decoder(samples) -> Decoder:
    return exchange(samples.exchange).spoken(samples.url, samples.ts).new_decoder(Instruments(infer=True), EventLog())


# --- subscribing ----------------------------------------------------------------------------------


@TODAYS
def test_every_channel_can_be_subscribed(samples):
    found = exchange(samples.exchange)
    instruments = Instruments()
    for reply in samples.instruments:
        assert found.load_instruments(reply, instruments) == []
    assert len(instruments) > 0
    assert set(found.channels) <= set(CHANNELS)
    planned = set()
    for instrument in instruments:
        assert instrument.symbol is not None
        assert instruments.resolve(found.id, instrument.symbol) is instrument
        for channel in found.channels:
            try:
                plans = found.plan([Subscription(instrument.raw_symbol, (channel,))], instruments)
            except ConfigError:  # this kind of instrument has no such channel
                continue
            planned.add(channel)
            messages = [message for plan in plans for message in plan.subscribe]
            messages = [message if isinstance(message, bytes) else message(1) for message in messages]
            assert all(isinstance(message, bytes) and message for message in messages)
            for plan in plans:
                for number, arg in enumerate(plan.args, 1):
                    ends = found.unsubscribe_message(plan.topic_path, [arg], number)
                    assert ends is None or (b"unsub" in ends.lower() and ends not in messages)
    assert planned == set(found.channels)


@TODAYS
def test_metadata_and_inference_agree(samples):
    found = exchange(samples.exchange)
    listed = Instruments()
    for reply in samples.instruments:
        found.load_instruments(reply, listed)
    inferred = Instruments(infer=True)
    decoder = found.new_decoder(inferred, EventLog())
    if not isinstance(decoder, MessageDecoder):
        return
    for instrument in listed:
        symbol, kind = decoder.infer(instrument.raw_symbol)
        assert symbol in (None, instrument.symbol)
        assert kind in ("unknown", instrument.kind)


@TODAYS
def test_what_is_no_list_of_instruments_is_a_decode_error(samples):
    found = exchange(samples.exchange)
    replies = [b"", b"{", b"null", b'{"zzz":1}']
    if len(found.instruments_urls) == 1:  # of several lists one may be empty
        replies.append(b"[]")
    for reply in replies:
        with pytest.raises(DecodeError):
            found.load_instruments(reply, Instruments())


@TODAYS
def test_a_list_with_an_entry_that_is_none_is_loaded_without_it(samples):
    found = exchange(samples.exchange)
    for reply in samples.instruments:
        text = msgspec.json.encode(msgspec.json.decode(reply))
        for broken in (text.replace(b'"tick', b'"zzz'), re.sub(rb"\d+", b"x", text, count=3)):
            try:
                assert isinstance(found.load_instruments(broken, Instruments()), list)
            except DecodeError:
                pass


def test_the_example_of_the_readme_works():
    text = (Path(feeds.exchanges.__path__[0]) / "README.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    module = {"__name__": "examplex"}
    exec(compile(code, "README.md", "exec"), module)
    found, instruments, log = module["EXCHANGE"], Instruments(), EventLog()
    found.load_instruments(b'[{"name":"BTC_USD","tick":"0.5","lot":"0.01"}]', instruments)
    (plan,) = found.plan([Subscription("BTC-USD", ("book", "trade"))], instruments)
    assert plan.subscribe == [b'{"op":"subscribe","args":["book:BTC_USD","trade:BTC_USD"]}']
    pipeline = Pipeline(found, instruments, log)
    for kind in ("_Trade", "_Book"):
        data = module[kind].__doc__.encode()
        kind = kind[1:].lower().encode()
        message = b'{"type":"%s","market":"BTC_USD","data":%s}' % (kind, data.replace(b'"full":false', b'"full":true'))
        pipeline.on_message(message, 1, True)
    assert pipeline.problems == {}
    assert [str(trade.price_decimal) for trade in log.trades] == ["61737.5"]
    assert [update.book.state for update in log.updates] == [BookState.LIVE]
    gap = b'{"type":"book","market":"BTC_USD","data":{"full":false,"bids":[],"asks":[],"last":12,"before":11,"time":1}}'
    pipeline.on_message(gap, 1, True)  # the first after the snapshot: its id is compared too
    assert pipeline.books.gaps == 1


def test_the_readme_shows_the_channels_of_every_exchange():
    rows = [["Exchange", *(f"`{channel}`" for channel in CHANNELS)], ["---"] * (1 + len(CHANNELS))]
    rows += [[name, *("x" if one in exchange(name).channels else "" for one in CHANNELS)] for name in exchange_ids()]
    table = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    text = (Path(feeds.exchanges.__path__[0]) / "README.md").read_text()
    section = text.partition("## Which channels\n")[2].partition("\n## ")[0]
    assert "".join(line for line in section.splitlines(True) if line.startswith("|")) == table


# --- live -----------------------------------------------------------------------------------------

NS = 10**9
TICKET = b'{"code":"200000","data":{"token":"t","instanceServers":[{"endpoint":"wss://x.example/endpoint"}]}}'
PATIENT = FeedConfig(silence_timeout=3600, tick_interval=3600, snapshot_timeout=3600)  # nothing but what is served


class Listening(EventLog):
    """Keeps what it is told, and wakes who waits for the end of a batch."""

    def __init__(self):
        super().__init__()
        self._changed = asyncio.Event()

    def on_batch_end(self, ts_recv):
        super().on_batch_end(ts_recv)
        self._changed.set()

    async def until(self, condition):
        while not condition():
            self._changed.clear()
            await self._changed.wait()

    async def batches(self, count):
        await self.until(lambda: len(self.batch_ends) >= count)

    def data(self):
        """Return the events that the exchange brought about."""
        return [one for one in self.events if not isinstance(one, FeedStatus)]


def as_sent(events):
    """Return what the exchange said: receive times, and what is told by them, are those of the session."""
    return [(type(one), repr(one).replace(" backlog", ""), one.ts_event) for one in events]


async def run_live(log, wanted, sim, again, playing):
    """Run a live feed, recording, until what plays to it has come to its end; return its report."""
    stop = asyncio.Event()
    endpoints = Endpoints(sim.ws_url, sim.rest_url)
    options = {"policy": "none", "record_to": again, "stop": stop, "endpoints": endpoints, "config": PATIENT}
    running = asyncio.ensure_future(session.live(log, *wanted, **options))
    playing = asyncio.ensure_future(playing)
    await asyncio.wait([running, playing], timeout=60, return_when=asyncio.FIRST_COMPLETED)
    stop.set()
    report = await running
    assert playing.done()
    playing.result()
    return report


def everything(samples):
    """Return the plan of a connection to every instrument and channel that there is, and what it took."""
    found, listed, wanted = exchange(samples.exchange), Instruments(), []
    for reply in samples.instruments:
        found.load_instruments(reply, listed)
    for instrument in listed:
        channels = []
        for channel in found.channels:
            try:
                found.plan([Subscription(instrument.raw_symbol, (channel,))], listed)
            except ConfigError:  # this kind of instrument has no such channel
                continue
            if channel != "book_top" or "book" not in channels:
                channels.append(channel)
        wanted.append(Subscription(instrument.raw_symbol, tuple(channels)))
    return found, listed, wanted, found.plan(wanted, listed)


def is_text(message):
    return message[:1] not in (b"\n", b"\x1f")  # protobuf, gzip


def record(path, samples):
    """Record the samples as a live feed would, a message a second; return how many batches end in each second."""
    found, listed, _, plans = everything(samples)
    pipeline = Pipeline(found, listed, EventHandler())
    described = [instrument.describe() for instrument in listed]
    replies, batches, ts = dict(samples.replies), [], samples.ts
    with RecordingWriter(path) as writer:
        for plan in plans:
            url = address(found.endpoints.ws, found.endpoints.ws, plan.path)
            writer.add_source(found.id, url, ts_recv=ts, streams=plan.streams, instruments=described)

        def exchanged(source, tag, fetch, reply):
            url = fetch.url.encode() + (b"\n" + fetch.body if fetch.body else b"")
            writer.write_message(ts, source, Kind.REQUEST, url, tag)
            writer.write_message(ts, source, Kind.REPLY, reply, tag)

        for number, wanted in enumerate(found.instruments_urls):
            fetch = wanted if isinstance(wanted, Fetch) else Fetch(wanted, "")
            reply = samples.instruments[min(number, len(samples.instruments) - 1)]
            exchanged(1, INSTRUMENTS_TAG, fetch, reply)
            page = found.next_page(fetch.url, reply)
            if page is not None:
                exchanged(1, INSTRUMENTS_TAG, Fetch(page, ""), reply.replace(b'"nextPageCursor": "', b'"zzz": "'))
        for source, plan in enumerate(plans, 1):
            if plan.ticket is not None:
                exchanged(source, TICKET_TAG, plan.ticket, TICKET)
            writer.write_message(ts, source, Kind.CONNECTED, b"")
        for number, message in enumerate(samples.messages.values()):
            for source, plan in enumerate(plans, 1):
                if plan.subscribe and number == plan.awaits_greeting:
                    first = plan.subscribe[0]
                    writer.write_message(ts, source, Kind.SENT, first if isinstance(first, bytes) else first(ts))
            ts += NS * (number >= plans[0].awaits_greeting)
            kind = Kind.TEXT if is_text(message) else Kind.BINARY
            writer.write_message(ts, 1, kind | LAST_IN_BATCH, message)
            pipeline.on_message(message, ts, True)
            batches.append(1)
            for request in pipeline.decoder.take_requests():
                if isinstance(request, Fetch) and request.tag in replies:
                    reply = replies.pop(request.tag)
                    exchanged(1, request.tag, request, reply)
                    pipeline.on_reply(request.tag, reply, ts)
                    batches[-1] += 1
        assert replies == {}
    return batches


@TODAYS
async def test_live_through_the_simulator_equals_replay(samples, tmp_path, monkeypatch):
    recorded, again = tmp_path / "recorded.feeds", tmp_path / "again.feeds"
    found, _, wanted, plans = everything(samples)
    if found.heartbeat is not None:  # all the time: nobody minds
        monkeypatch.setattr(found, "heartbeat", Heartbeat(0.001, found.heartbeat.payload))
    batches = record(recorded, samples)
    log = Listening()

    async def play(sim):
        await sim.wait_clients(len(plans))
        count = len(plans)  # each is told that it is connected
        if plans[0].awaits_greeting:
            await sim.advance(0)
            count += batches[0]
            await log.batches(count)
        await sim.wait_subscribed(plans[0].streams[0])
        for number in batches[plans[0].awaits_greeting :]:
            await sim.advance(1)
            count += number
            await log.batches(count)

    async with SimulatedExchange(RecordedExchange(recorded), real_time=False) as sim:
        report = await run_live(log, (found.id, wanted), sim, again, play(sim))
    replayed = Listening()
    session.replay(replayed, recorded, policy="none")
    assert report.problems == {}  # every message is about an instrument that is listed
    assert as_sent(log.data()) == as_sent(replayed.data())
    assert log.data()
    repeated = session.replay(Listening(), again, policy="none")
    assert repeated.is_same
    assert repeated.callbacks == report.callbacks


# --- captures -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("samples", "name"), [(samples, name) for samples in SAMPLES for name in samples.captures], ids=str
)
def test_every_message_of_a_capture_is_understood(captures, samples, name):
    log, replay = replayed(captures, name)
    for pipeline in replay.pipelines:
        assert pipeline.exchange == samples.exchange
        assert {kind: (problem.count, problem.first) for kind, problem in pipeline.problems.items()} == {}
        assert pipeline.books.gaps == pipeline.books.mismatched == 0
        assert {book.state for book in pipeline.books.books} <= {BookState.LIVE}
    assert replay.messages > 0
    assert [event for event in log.events if not isinstance(event, FeedStatus)]


def cut(captures, name, folder, lines):
    """Write the beginning of a capture to a file of the same name."""
    path = folder / Path(name).name
    with gzip.open(captures / f"{name}.gz") as whole:
        path.write_bytes(b"".join(islice(whole, lines)))
    return path


def lists(captures, name, found):
    """Return the lists of instruments that a capture has beside its messages, as they answer what `found` asks for."""
    recorded = {}
    with gzip.open(captures / "exchanges" / f"{name.partition('.ws')[0]}.0.gz") as lines:
        for line in lines:
            match = re.fullmatch(rb"https://[^/]+(\S+) -> [\d.]+: (.*?)( header: \{.*)?\n", line, re.DOTALL)
            if match is None:
                continue
            try:
                found.load_instruments(match[2], Instruments())
            except DecodeError:  # another request
                continue
            recorded[match[1].decode()] = match[2]
    # What is asked for in another way today is answered with one of them.
    return [(url, recorded.get(url) or next(iter(recorded.values()))) for url in found.instruments_urls]


async def served(path, exchange_id, wanted, tmp_path, replies):
    """Serve a recording as fast as it is read; return what a live feed and a replay make of it."""
    found, log, original = exchange(exchange_id), Listening(), Listening()
    known, listed = Instruments(), Instruments()
    for _, reply in replies:
        found.load_instruments(reply, listed)
    for subscription in wanted:
        known.add_described(listed.resolve(exchange_id, subscription.symbol).describe())
    with open_recording(path) as source:
        replayed = Replay(source, original, instruments=known)
        replayed.run()
    names = {subscription.symbol for subscription in wanted}
    expected = [one for one in original.data() if one.instrument.raw_symbol in names]
    async with SimulatedExchange(RecordedExchange(path, speed=math.inf, replies=replies)) as sim:
        playing = log.until(lambda: len(log.events) - len(log.feed_statuses) >= len(expected))
        report = await run_live(log, (exchange_id, wanted), sim, tmp_path / "again.feeds", playing)
    assert report.connects == 1
    assert session.replay(EventLog(), tmp_path / "again.feeds", policy="none").is_same
    return as_sent(log.data()), as_sent(expected)


@pytest.mark.parametrize(
    ("exchange_id", "name", "channel"),
    [
        ("bitflyer", "BITFLYER.ws.1.0", "trade"),
        ("bitmex", "BITMEX.ws.1.0", "trade"),
        ("deribit", "DERIBIT.ws.1.0", "trade"),
        ("htx-swap", "HUOBI_SWAP.ws.2.0", "trade"),
        ("kraken-futures", "KRAKEN_FUTURES.ws.1.0", "trade"),
        ("okx", "OKX.ws.1.0", "agg_trade"),
        ("upbit", "UPBIT.ws.62.0", "trade"),
    ],
)
async def test_a_capture_that_is_served_live_makes_the_events_of_its_replay(
    captures, tmp_path, exchange_id, name, channel
):
    path, found = cut(captures, f"exchanges/{name}", tmp_path, 1500), exchange(exchange_id)
    replies, listed = lists(captures, name, found), Instruments()
    for _, reply in replies:
        found.load_instruments(reply, listed)
    with open_recording(path) as source:
        log = EventLog()
        Replay(source, log).run()
    names = {one.instrument.raw_symbol for one in log.events if not isinstance(one, FeedStatus)}
    wanted = []
    for raw_symbol in sorted(names):  # as many as one connection serves
        more = [*wanted, Subscription(raw_symbol, (channel,))]
        if listed.known(exchange_id, raw_symbol) is None or len(found.plan(more, listed)) > 1:
            continue
        wanted = more
    live, replayed = await served(path, exchange_id, wanted, tmp_path, replies)
    assert len(live) > 50
    assert live == replayed


async def test_a_capture_with_a_snapshot_is_served_live_to_the_same_book(captures, tmp_path):
    """The snapshot comes when the live feed asks for it, which is sooner than it was recorded."""
    path = cut(captures, "binance/usdm-btcusdt_20240808", tmp_path, 4000)
    (usdm,) = [samples for samples in SAMPLES if samples.exchange == "binance-futures"]
    known = Instruments()
    exchange("binance-futures").load_instruments(usdm.instruments[0], known)
    wanted = [Subscription("BTCUSDT", ("book", "quote"))]  # one connection, which is given all that there is
    log, original = Listening(), EventLog()
    with open_recording(path) as source:
        replayed = Replay(source, original, instruments=known)
        replayed.run()
    recorded = RecordedExchange(path, replies=[("/fapi/v1/exchangeInfo", usdm.instruments[0])])

    async def play(sim):
        await sim.wait_clients(1)
        await sim.advance(0.1)
        await log.until(lambda: any(delta.is_snapshot for delta in log.deltas))
        await sim.advance(3600)
        await log.until(lambda: len(log.trades) + len(log.quotes) == len(original.trades) + len(original.quotes))

    async with SimulatedExchange(recorded, real_time=False) as sim:
        await run_live(log, ("binance-futures", wanted), sim, tmp_path / "again.feeds", play(sim))
    again = EventLog()
    assert session.replay(again, tmp_path / "again.feeds", policy="none").is_same

    def changes(log):
        """Return all but the books, and apart from the rest the snapshots."""
        kept = [one for one in log.events if isinstance(one, Trade | Quote | BookDelta)]
        rest = [one for one in kept if not (isinstance(one, BookDelta) and one.is_snapshot)]
        return as_sent(rest), as_sent(one for one in log.deltas if one.is_snapshot)

    assert changes(log) == changes(original)
    assert len(changes(log)[1]) == 1
    assert log.tops[-1] == original.tops[-1]
    assert len(log.tops) > 100
