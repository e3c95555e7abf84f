"""What every exchange keeps, whoever wrote it: over the `SAMPLES` of the modules beside this one."""

import random
import re
from pathlib import Path

import msgspec
import pytest

import feeds.exchanges
from feeds.book import BookState
from feeds.decoder import Decoder
from feeds.errors import ConfigError, DecodeError
from feeds.events import FeedStatus
from feeds.exchange import exchange, exchange_ids
from feeds.instrument import Instruments
from feeds.message_decoder import MessageDecoder
from feeds.pipeline import Pipeline
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
    for reply in (b"", b"{", b"[]", b"null", b'{"zzz":1}'):
        with pytest.raises(DecodeError):
            exchange(samples.exchange).load_instruments(reply, Instruments())


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
