import gzip
import io
import json
import zlib
from datetime import datetime, timezone

import pytest
import zstandard

from feeds.recording import (
    CryptofeedReader,
    Kind,
    NotARecording,
    RecordingDamaged,
    RecordingError,
    TardisReader,
    open_recording,
)
from feeds.replay import Replay
from feeds.testing import EventLog

URL = "wss://ws.okx.com:8443/ws/v5/public"
TRADE = (
    '{"arg":{"channel":"trades","instId":"BTC-USDT"},"data":[{"instId":"BTC-USDT","tradeId":"1","px":"30236.1","sz":"0.5",'
    '"side":"buy","ts":"1652459225000"}]}'
)
CAPTURE = [
    f"{URL} <-> 1652459224.5300605",
    f'{URL} <- 1652459225.2987883: {{"op":"subscribe","args":[]}}',
    "",
    f"1652459225.5037491: {TRADE}",
]
TARDIS = [
    f"2022-05-13T16:27:05.5037491Z {TRADE}",
    f"2022-05-13T16:27:06.0000001Z {TRADE}",
    "",
    f"2022-05-13T16:27:09.0000000Z {TRADE}",
]


# What GET /replay of tardis-machine answers: https://docs.tardis.dev/tardis-machine/replaying-historical-data
STREAM = [f'{{"localTimestamp":"{line[:28]}","message":{line[29:]}}}' if line else "" for line in TARDIS]


def file_of(lines):
    return io.BytesIO("\n".join(lines).encode() + b"\n")


def messages(source):
    return [(m.kind, m.source, m.ts_recv, m.tag, m.payload.decode()) for m in source]


def events(source):
    log = EventLog()
    Replay(source, log).run()
    return log


# --- cryptofeed -----------------------------------------------------------------------------------


def test_every_kind_of_line():
    with CryptofeedReader(file_of([*CAPTURE, 'configuration: {"trades":["BTC-USDT"]}'])) as source:
        found = messages(source)
        assert source.exchange == "okx"
        assert source.damages == []
    assert found == [
        (Kind.SOURCE, 1, 1652459224_530060500, "", json.dumps({"exchange": "okx", "url": URL}, separators=(",", ":"))),
        (Kind.CONNECTED, 1, 1652459224_530060500, "", ""),
        (Kind.SENT, 1, 1652459225_298788300, "", '{"op":"subscribe","args":[]}'),
        (Kind.TEXT, 1, 1652459225_503749100, "", TRADE),
        (Kind.NOTE, 0, 1652459225_503749100, "configuration", '{"trades":["BTC-USDT"]}'),
    ]


def test_a_connection_made_anew_is_disconnected_before():
    lines = [*CAPTURE, f"{URL} <-> 1652459230.5", f"1652459231.5: {TRADE}"]
    kinds = [message[0].name for message in messages(CryptofeedReader(file_of(lines)))]
    assert kinds == ["SOURCE", "CONNECTED", "SENT", "TEXT", "DISCONNECTED", "CONNECTED", "TEXT"]


def test_binary_messages_are_bytes_literals():
    packed = zlib.compress(b'{"ping":1}')
    lines = [CAPTURE[0], f"1652459225.5: {packed!r}", '1652459225.6: b"{\'}"', r"1652459225.7: b'\'\x41\\'"]
    found = [m for m in CryptofeedReader(file_of(lines)) if m.kind == Kind.BINARY]
    assert [m.payload for m in found] == [packed, b"{'}", b"'A\\"]
    assert all(m.last_in_batch for m in found)


@pytest.mark.parametrize(
    "line",
    ["x", f"{URL} <-> x", f"{URL} -- 1.5", "1652459225.5 {}", "1652459225.5: b'", "1652459225.5: b'a' + b'b'",
     "1652459225.5: b''+" + "-" * 100_000 + "1",
     "1652459225.5: b'a' b'b'", r"1652459225.5: b'\x'", "1652459225.5: b'\xe9'",
     "configuration: {", "9" * 30 + ".5: {}"],
    ids=lambda line: line[:30],
)  # fmt: skip
def test_malformed_lines_are_reported_and_skipped(line):
    with CryptofeedReader(file_of([*CAPTURE, line, f"1652459226.5: {TRADE}"])) as source:
        log = events(source)
        (damage,) = source.damages
    assert (damage.line, damage.reason) == (5, "malformed line")
    assert len(log.trades) == 2
    with pytest.raises(RecordingDamaged), CryptofeedReader(file_of([*CAPTURE, line]), strict=True) as source:
        events(source)


def test_replies_beside_a_connection_are_read_with_it(tmp_path):
    snapshot = '{"lastUpdateId":10,"bids":[["1.5","1"]],"asks":[["1.6","2"]]}'
    stream = (
        '{"stream":"nknusdt@depth@100ms","data":{"e":"depthUpdate","E":1633998523963,'
        '"s":"NKNUSDT","U":%d,"u":%d,"b":[],"a":[]}}'
    )
    connection = [
        "wss://stream.binance.com:9443/stream?streams=nknusdt@depth@100ms <-> 1633998511.0",
        f"1633998512.0: {stream % (9, 10)}",
        f"1633998514.0: {stream % (11, 12)}",
    ]
    url = "https://api.binance.com/api/v3/depth?symbol=NKNUSDT&limit=1000"
    replies = [
        'https://api.binance.com/api/v3/exchangeInfo -> 1633998510.0: {"symbols":[]}',
        f'{url} -> 1633998513.0: {snapshot} header: {{"x-mbx-used-weight": "10"}}',
    ]
    (tmp_path / "X.ws.1.0.gz").write_bytes(gzip.compress(file_of(connection).read()))
    (tmp_path / "X.http.0.0.gz").write_bytes(gzip.compress(file_of(replies).read()))
    with open_recording(tmp_path / "X.ws.1.0.gz") as source:
        found = messages(source)
        assert source.exchange == "binance"
    assert [(kind.name, tag) for kind, _, _, tag, _ in found] == [
        ("SOURCE", ""), ("CONNECTED", ""), ("TEXT", ""), ("REPLY", "NKNUSDT"), ("TEXT", ""),
    ]  # fmt: skip
    assert found[3][4] == snapshot
    with open_recording(tmp_path / "X.ws.1.0.gz") as source:
        assert events(source).updates[-1].book.last_id == 12


def test_the_books_of_binance_are_joined_with_their_replies(captures):
    """Golden values of the reference: messages applied and dropped, and the id at the end."""
    with open_recording(captures / "exchanges" / "BINANCE.ws.1.0.gz") as source:
        replay = Replay(source, EventLog())
        replay.run()
    (pipeline,) = replay.pipelines
    books = {book.instrument.raw_symbol: book for book in pipeline.books.books}
    tops = {
        name: [f"{side[0].normalize():f}" for side in (book.exact(0)[0], book.exact(1)[0])]
        for name, book in books.items()
    }
    assert tops["NKNUSDT"] == ["0.3527", "0.3531"]
    assert tops["RUNEEUR"] == ["6.251", "6.269"]
    assert {name: book.last_id for name, book in books.items() if name in ("NKNUSDT", "LRCBTC", "RUNEEUR")} == {
        "NKNUSDT": 499870179, "LRCBTC": 259345563, "RUNEEUR": 15602513,
    }  # fmt: skip
    assert (books["NKNUSDT"].bid_count, books["NKNUSDT"].ask_count) == (614, 994)
    assert pipeline.books.gaps == 0


# --- tardis.dev -----------------------------------------------------------------------------------


def rewritten(line):
    """A line of tardis-machine as another program would write it."""
    return line.replace('"localTimestamp":"', '"localTimestamp": "').replace('","message":', '", "message": ')


@pytest.mark.parametrize("lines", [TARDIS, STREAM], ids=["raw file", "stream"])
def test_lines_and_lost_connections(lines):
    with TardisReader(file_of(lines)) as source:
        found = messages(source)
        assert (source.exchange, source.damages) == ("okx", [])
    assert [(kind.name, ts) for kind, _, ts, _, _ in found] == [
        ("SOURCE", 1652459225_503749100),
        ("CONNECTED", 1652459225_503749100),
        ("TEXT", 1652459225_503749100),
        ("TEXT", 1652459226_000000100),
        ("DISCONNECTED", 1652459226_000000100),
        ("CONNECTED", 1652459229_000000000),
        ("TEXT", 1652459229_000000000),
    ]
    assert {m[4] for m in found if m[0] == Kind.TEXT} == {TRADE}


def test_a_stream_that_somebody_wrote_anew_has_the_same_messages():
    with TardisReader(file_of(map(rewritten, STREAM))) as one, TardisReader(file_of(STREAM)) as other:
        assert messages(one) == messages(other)


def test_a_stream_whose_names_stand_the_other_way_round():
    line = f'{{"message":{TRADE},"localTimestamp":"2022-05-13T16:27:06.0000001Z"}}'
    with TardisReader(file_of([STREAM[0], line])) as source:
        assert messages(source)[-1] == (Kind.TEXT, 1, 1652459226_000000100, "", TRADE)


@pytest.mark.parametrize("lines", [TARDIS, STREAM], ids=["raw file", "stream"])
@pytest.mark.parametrize("empty", [1, 3])
def test_a_connection_that_is_lost_at_the_end(lines, empty):
    kinds = [message[0].name for message in messages(TardisReader(file_of([*lines[:2], *[""] * empty])))]
    assert kinds == ["SOURCE", "CONNECTED", "TEXT", "TEXT", "DISCONNECTED"]


def test_a_stream_that_is_cut_off_loses_its_last_line_only():
    text = file_of(STREAM).read()
    for cut in range(len(text) - len(STREAM[-1]) + 1, len(text) - 1):
        with TardisReader(io.BytesIO(text[:cut])) as source:
            assert [m[0] for m in messages(source)].count(Kind.TEXT) == 2
            (damage,) = source.damages or [None]
            assert (damage.line, damage.lost_bytes) == (4, cut - len(text) + len(STREAM[-1]) + 1)
    with TardisReader(io.BytesIO(text[:-1])) as source:  # all of it, but for the line's end
        assert [m[0] for m in messages(source)].count(Kind.TEXT) == 3


@pytest.mark.parametrize("line", [b"%b %b\n", b'{"localTimestamp":"%b","message":%b}\n'], ids=["raw file", "stream"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstandard.compress], ids=["plain", "gzip", "zstd"])
def test_the_same_traffic_gives_the_same_events_in_every_format(line, pack, captures, tmp_path):
    """A capture, rewritten as tardis.dev stores such traffic, and as tardis-machine streams it."""
    path = tmp_path / "okx"
    lines = []
    with open_recording(captures / "exchanges" / "OKX.ws.1.0.gz") as source:
        for message in source:
            if message.kind == Kind.TEXT:
                seconds, fraction = divmod(message.ts_recv, 10**9)
                moment = datetime.fromtimestamp(seconds, timezone.utc)
                time = f"{moment:%Y-%m-%dT%H:%M:%S}.{fraction // 100:07d}Z".encode()
                lines.append(line % (time, message.payload))
    path.write_bytes(pack(b"".join(lines)))
    with open_recording(captures / "exchanges" / "OKX.ws.1.0.gz") as one, open_recording(path) as other:
        assert isinstance(other, TardisReader)
        expected, found = events(one), events(other)
    assert [repr(event) for event in found.events] == [repr(event) for event in expected.events]


@pytest.mark.parametrize("name", ["depthSnapshot", "depthSnapshot@100ms"])
def test_snapshots_that_tardis_put_among_the_messages_make_the_books_live(name):
    snapshot = '{"lastUpdateId":10,"bids":[["1.5","1"]],"asks":[["1.6","2"]]}'
    change = '{"stream":"nknusdt@depth","data":{"e":"depthUpdate","E":1,"s":"NKNUSDT","U":11,"u":12,"b":[],"a":[]}}'
    lines = [
        f"2021-10-12T00:28:43.0000000Z {change}",
        f'2021-10-12T00:28:44.0000000Z {{"stream":"nknusdt@{name}","generated":true,"data":{snapshot}}}',
    ]
    with TardisReader(file_of(lines), exchange="binance") as source:
        assert messages(source)[-1] == (Kind.REPLY, 1, 1633998524_000000000, "NKNUSDT", snapshot)
    with TardisReader(file_of(lines), exchange="binance") as source:
        assert events(source).updates[-1].book.last_id == 12


@pytest.mark.parametrize(
    "message",
    ['{"stream":"a@depthSnapshot","data":[1]}', '{"stream":"a@depthSnapshot","x":1,"data":{}}', '{"stream":"a"}'],
)
def test_what_only_looks_like_a_snapshot_is_a_message(message):
    with TardisReader(file_of([f"2021-10-12T00:28:43.0000000Z {message}"]), exchange="binance") as source:
        assert messages(source)[-1] == (Kind.TEXT, 1, 1633998523_000000000, "", message)


def test_messages_that_nobody_recognises_need_an_exchange():
    lines = ['2022-05-13T16:27:05.5037491Z {"hello":1}']
    with pytest.raises(RecordingError, match="expected an exchange to be given"):
        TardisReader(file_of(lines))
    assert TardisReader(file_of(lines), exchange="kraken").exchange == "kraken"


@pytest.mark.parametrize(
    "line",
    ["x", "2022-05-13 {}", "2022-99-13T16:27:05.5Z {}", "1652459225.5: {}", "{}", "[]",
     '{"localTimestamp":"2022","message":{}}', '{"localTimestamp":"2022-05-13T16:27:05.5Z","message":}',
     '{"localTimestamp":"2022-05-13T16:27:05.5Z"}', '{"localTimestamp":"2022-05-13T16:27:05.5Z","message":',
     '{"localTimestamp":1,"message":{}}', '{"localTimestamp":"' + "2" * 100 + '","message":{}}'],
)  # fmt: skip
@pytest.mark.parametrize("lines", [TARDIS, STREAM], ids=["raw file", "stream"])
def test_malformed_lines_of_tardis_are_reported_and_skipped(lines, line):
    with TardisReader(file_of([lines[0], line, lines[1]])) as source:
        assert len(events(source).trades) == 2
        assert [damage.line for damage in source.damages] == [2]
    with TardisReader(file_of([line, lines[0], lines[1]])) as source:
        assert len(events(source).trades) == 2
        assert [damage.line for damage in source.damages] == [1]


def test_a_file_without_a_time_that_is_one_is_no_recording():
    with pytest.raises(NotARecording, match="expected lines that are an ISO time"):
        TardisReader(file_of(["2022-99-13T16:27:05.5Z {}"]), exchange="kraken")


# --- which format ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "reader"),
    [
        (CAPTURE, CryptofeedReader),
        (CAPTURE[3:], CryptofeedReader),
        (TARDIS, TardisReader),
        (["", *TARDIS], TardisReader),
        (["", *STREAM], TardisReader),
        ([rewritten(line) for line in STREAM], TardisReader),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_the_format_is_recognised_by_content(lines, reader, packed, tmp_path):
    text = file_of(lines).read()
    path = tmp_path / "unnamed"
    path.write_bytes(gzip.compress(text) if packed else text)
    with open_recording(path) as source:
        assert type(source) is reader
        assert events(source).trades


def test_addresses_of_nobody_need_an_exchange():
    lines = ["wss://nowhere.example/ws <-> 1652459224.5", f"1652459225.5: {TRADE}"]
    with pytest.raises(RecordingError, match=r"found wss://nowhere.example/ws"):
        CryptofeedReader(file_of(lines))
    assert len(events(CryptofeedReader(file_of(lines), exchange="okx")).trades) == 1


@pytest.mark.parametrize("reader", [CryptofeedReader, TardisReader])
@pytest.mark.parametrize("text", [b"", b"hello\n", b"\x00\x01"])
def test_what_is_in_no_format(reader, text):
    with pytest.raises(NotARecording, match="expected lines"):
        reader(io.BytesIO(text))
