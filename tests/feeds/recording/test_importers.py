import gzip
import io
import zlib

import pytest
import zstandard

from feeds.recording import (
    LAST_IN_BATCH,
    CollectorReader,
    Kind,
    NotARecording,
    RawMessage,
    RecordingDamaged,
    RecordingError,
    RecordingReader,
    RecordingWriter,
    open_recording,
)

SPOT = b'{"stream":"btcusdt@depth@100ms","data":{"e":"depthUpdate","E":2,"s":"BTCUSDT","U":1,"u":2,"b":[],"a":[]}}'
USDM = b'{"stream":"ethusdt@depth@0ms","data":{"e":"depthUpdate","E":2,"T":1,"s":"ETHUSDT","U":1,"u":2,"pu":0,"b":[]}}'
COINM = (
    b'{"stream":"btcusd_perp@depth@0ms","data":{"e":"depthUpdate","E":2,"T":1,"s":"BTCUSD_PERP","ps":"BTCUSD",'
    b'"U":1,"u":2,"pu":0,"b":[],"a":[]}}'
)
TRADE = b'{"stream":"solusdt@trade","data":{"e":"trade","E":2,"s":"SOLUSDT","t":3,"p":"1.0","q":"2.0"}}'
SNAPSHOT = b'{"lastUpdateId":7,"bids":[],"asks":[]}'
T = 1_723_161_253_937_085_768


def lines(*payloads, end=b"\n"):
    return b"".join(b"%d %s%s" % (T + n, payload, end) for n, payload in enumerate(payloads))


def text(n, payload):
    return RawMessage(T + n, 1, Kind.TEXT | LAST_IN_BATCH, "", payload)


def read(data, **options):
    reader = CollectorReader(io.BytesIO(data), **options)
    declaration, *messages = list(reader)
    assert declaration.kind is Kind.SOURCE
    return reader, messages


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstandard.compress], ids=["plain", "gzip", "zstd"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"], ids=["lf", "crlf"])
def test_lines_become_messages_behind_a_declaration(pack, end, tmp_path):
    path = tmp_path / "btcusdt.gz"
    path.write_bytes(pack(lines(SPOT, SNAPSHOT, TRADE, end=end)))
    with CollectorReader(path) as reader:
        assert list(reader) == [
            RawMessage(T, 1, Kind.SOURCE, "", b'{"exchange":"binance","url":""}'),
            text(0, SPOT),
            RawMessage(T + 1, 1, Kind.REPLY, "BTCUSDT", SNAPSHOT),
            text(2, TRADE),
        ]
        assert reader.sources == {1: {"exchange": "binance", "url": ""}}
        assert (reader.lines, reader.damages) == (3, [])
        assert reader.bytes_read == reader.total_bytes == path.stat().st_size


@pytest.mark.parametrize(
    ("payloads", "exchange"),
    [
        ([SPOT], "binance"),
        ([TRADE, USDM], "binance-futures"),
        ([SNAPSHOT, TRADE, COINM], "binance-delivery"),
        ([TRADE], "binance"),
        ([SNAPSHOT], "binance"),
        # The first change decides, not what a level or a later message holds.
        ([SPOT, USDM, COINM], "binance"),
        ([SPOT[:-2] + b',"pu":1}}'], "binance"),
    ],
)
def test_the_exchange_is_told_from_the_first_book_change(payloads, exchange):
    reader, _ = read(lines(*payloads))
    assert reader.exchange == reader.sources[1]["exchange"] == exchange


def test_the_exchange_can_be_given():
    assert read(lines(SPOT), exchange="binance-us")[0].sources[1]["exchange"] == "binance-us"
    assert read(lines(b'{"topic":"trade"}'), exchange="bybit")[1] == [text(0, b'{"topic":"trade"}')]
    with pytest.raises(RecordingError, match=r"expected an exchange to be given.*topic"):
        read(lines(b'{"topic":"trade"}'))


@pytest.mark.parametrize(
    ("payloads", "tags"),
    [
        ([USDM, SNAPSHOT], ["ETHUSDT"]),
        ([SNAPSHOT, TRADE, USDM], ["SOLUSDT"]),
        ([SPOT, SNAPSHOT, USDM, SNAPSHOT], ["BTCUSDT", "ETHUSDT"]),
        ([USDM, b'{"lastUpdateId":7,"E":1,"T":1,"symbol":"BTCUSD_PERP","pair":"BTCUSD","bids":[]}'], ["BTCUSD_PERP"]),
        ([USDM, b'{"stream":"!ticker@arr","data":[]}', b'{"stream":"x","at":"@"}', SNAPSHOT], ["ETHUSDT"]),
        ([USDM, b'{"stream":"' + b"n" * 64 + b'@trade"}', SNAPSHOT], ["N" * 64]),
        ([USDM, b'{"stream":"' + b"n" * 65 + b'@trade"}', SNAPSHOT], ["ETHUSDT"]),
        ([SNAPSHOT], [""]),
    ],
)
def test_a_snapshot_is_a_reply_under_its_symbol(payloads, tags):
    _, messages = read(lines(*payloads))
    replies = [message for message in messages if message.kind is Kind.REPLY]
    assert [message.tag for message in replies] == tags
    assert not any(message.last_in_batch for message in replies)


MALFORMED = {
    "no time": b"hello " + SPOT,
    "no space": b"%d%s" % (T, SPOT),
    "time alone": b"%d" % T,
    "time and space": b"%d " % T,
    "negative": b"-5 {}",
    "time of 64 bits": b"9223372036854775808 {}",
    "time of 20 digits": b"10000000000000000000 {}",
    "float": b"1618678132.845558 {}",
    "cut off": b"%d %s" % (T, SPOT[:40]),
    "no JSON": b"%d hello" % T,
    "brackets that do not match": b"%d {]" % T,
}


@pytest.mark.parametrize("bad", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_line_is_skipped_and_reported(bad):
    before, after = lines(SPOT, TRADE), lines(USDM)
    reader, messages = read(before + bad + b"\n" + after)
    assert messages == [text(0, SPOT), text(1, TRADE), text(0, USDM)]
    [damage] = reader.damages
    assert (damage.line, damage.offset, damage.lost_bytes) == (3, len(before), len(bad))
    assert repr(bad[:60]) in damage.found
    assert str(damage).startswith(f"line 3 (byte {len(before)}): malformed line: expected ")
    assert reader.lines == 4
    with pytest.raises(RecordingDamaged, match="line 3"):
        read(before + bad + b"\n" + after, strict=True)


def test_a_malformed_first_line_does_not_make_it_something_else():
    reader, messages = read(b"garbage\n" + lines(SPOT))
    assert messages == [text(0, SPOT)]
    assert [damage.line for damage in reader.damages] == [1]


def test_the_latest_and_the_earliest_time():
    _, messages = read(b"9223372036854775807 {}\n0 {}\n" + lines(SPOT))
    assert [message.ts_recv for message in messages] == [2**63 - 1, 0, T]


@pytest.mark.parametrize(
    ("last", "whole"), [(SPOT, True), (SPOT[: SPOT.index(b"}") + 1], False), (SPOT[:50], False), (b"[]", True)]
)
def test_a_last_line_without_an_end_counts_if_it_is_whole(last, whole):
    reader, messages = read(lines(TRADE) + b"%d %s" % (T + 1, last))
    assert messages == [text(0, TRADE)] + ([text(1, last)] if whole else [])
    assert reader.damage_count == (not whole)


def test_empty_lines_are_nothing():
    reader, messages = read(b"\n\r\n" + lines(SPOT) + b"\n\n")
    assert messages == [text(0, SPOT)]
    assert reader.damages == []


@pytest.mark.parametrize("limit", [200, 3 << 20])
@pytest.mark.parametrize("end", [b"\n", b""], ids=["line", "last line"])
def test_a_line_longer_than_the_limit_is_refused_at_any_length(limit, end):
    at_limit = b'["' + b"x" * (limit - 20 - 4) + b'"]'
    for over in (1, 2 << 20, 9 << 20):
        too_long = b'["' + b"x" * (limit - 20 - 4 + over) + b'"]'
        before = lines(SPOT, at_limit)
        after = lines(TRADE) if end else b""
        reader, messages = read(before + b"%d %s%s" % (T, too_long, end) + after, max_line_size=limit)
        assert messages == [text(0, SPOT), text(1, at_limit)] + ([text(0, TRADE)] if end else [])
        [damage] = reader.damages
        assert (damage.line, damage.offset, damage.lost_bytes) == (3, len(before), limit + over)


def test_a_line_limit_out_of_range_is_refused():
    with pytest.raises(ValueError, match="max_line_size"):
        read(lines(SPOT), max_line_size=0)


@pytest.mark.parametrize("size", [1, 1000, (1 << 20) - 200, (1 << 20) + 5, (2 << 20) - 60, (5 << 20) + 1])
def test_lines_of_any_length_are_whole_wherever_the_reads_end(size):
    payloads = [b'["' + b"x" * size + b'"]', SPOT, TRADE, SNAPSHOT] * 3
    reader, messages = read(lines(*payloads), exchange="binance")
    assert [message.payload for message in messages] == payloads
    assert reader.damages == []


def test_a_gzip_file_cut_off_yields_its_lines_and_says_so():
    payloads = [b'{"stream":"btcusdt@trade","data":"%d"}' % zlib.crc32(b"%d" % n) for n in range(50_000)]
    packed = gzip.compress(lines(*payloads), mtime=0)
    for cut in (len(packed) // 2, len(packed) - 4):
        whole = zlib.decompressobj(wbits=31).decompress(packed[:cut])
        reader, messages = read(packed[:cut])
        assert [message.payload for message in messages] == payloads[: whole.count(b"\n")]
        damage = reader.damages[0]
        assert (damage.reason, damage.offset) == ("compressed data", len(whole))
        assert reader.bytes_read == reader.total_bytes == cut


def test_a_damaged_gzip_file_yields_what_stands_before_the_damage():
    payloads = [b'{"stream":"btcusdt@trade","data":"%d"}' % zlib.crc32(b"%d" % n) for n in range(200_000)]
    packed = bytearray(gzip.compress(lines(*payloads), mtime=0))
    packed[len(packed) // 2 : len(packed) // 2 + 1000] = bytes(1000)
    reader, messages = read(bytes(packed))
    assert len(messages) < len(payloads)
    assert reader.damages[-1].reason == "compressed data"
    kept = [message.payload for message in messages[:10_000]]
    assert kept == payloads[:10_000]


def test_a_zstd_file_cut_off_or_damaged_yields_what_stands_before_and_says_so():
    payloads = [b'{"stream":"btcusdt@trade","data":"%d"}' % zlib.crc32(b"%d" % n) for n in range(50_000)]
    packed = zstandard.ZstdCompressor(write_checksum=True).compress(lines(*payloads))
    damaged = bytearray(packed)
    damaged[len(packed) // 2 : len(packed) // 2 + 1000] = bytes(1000)
    for broken in (packed[: len(packed) // 2], packed[:-4], bytes(damaged)):
        reader, messages = read(broken)
        assert 0 < len(messages) <= len(payloads)
        assert [message.payload for message in messages][:1000] == payloads[:1000]
        assert "compressed data" in [damage.reason for damage in reader.damages]
        assert reader.bytes_read == reader.total_bytes == len(broken)


def test_zstd_frames_one_after_the_other_are_one_text():
    skippable = b"\x50\x2a\x4d\x18\x03\x00\x00\x00abc"
    _, messages = read(zstandard.compress(lines(SPOT)) + skippable + zstandard.compress(lines(TRADE)))
    assert [message.payload for message in messages] == [SPOT, TRADE]


def test_gzip_members_one_after_the_other_are_one_text():
    _, messages = read(gzip.compress(lines(SPOT), mtime=0) + gzip.compress(lines(TRADE), mtime=0))
    assert [message.payload for message in messages] == [SPOT, TRADE]


@pytest.mark.parametrize(
    "content", [b"", b"\n\n", b"hello\nworld\n", b"1618678132.845558: {}\n", gzip.compress(b"hello", mtime=0)]
)
def test_a_file_without_one_good_line_is_not_a_recording(content, tmp_path):
    path = tmp_path / "a.gz"
    path.write_bytes(content)
    with pytest.raises(NotARecording, match=r"a\.gz: expected lines '<ns> <JSON>', found"):
        CollectorReader(path)


def test_a_closed_reader_is_at_its_end():
    reader = CollectorReader(io.BytesIO(lines(SPOT, TRADE)))
    next(reader)
    next(reader)
    reader.close()
    reader.close()
    assert list(reader) == []


def test_the_format_is_told_by_content(tmp_path):
    native = tmp_path / "a.gz"  # names do not count
    with RecordingWriter(native) as writer:
        writer.note("a", 1)
    plain, packed = tmp_path / "b", tmp_path / "c"
    plain.write_bytes(lines(SPOT))
    packed.write_bytes(gzip.compress(lines(SPOT), mtime=0))
    for path, kind, count in ((native, RecordingReader, 1), (plain, CollectorReader, 2), (packed, CollectorReader, 2)):
        with open_recording(path) as source:
            assert type(source) is kind
            assert len(list(source)) == count
        with open(path, "rb") as file, open_recording(file) as source:
            assert type(source) is kind


def test_options_reach_the_reader(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(lines(SPOT))
    with open_recording(path, format="collector", exchange="binance-us", strict=True) as source:
        assert (source.exchange, source.strict) == ("binance-us", True)
    with pytest.raises(NotARecording, match="expected a recording that begins"):
        open_recording(path, format="native")
    with pytest.raises(
        ValueError, match="format: expected one of auto, native, collector, cryptofeed, tardis, found 'pcap'"
    ):
        open_recording(path, format="pcap")


@pytest.mark.parametrize(("content", "found"), [(b"", "nothing"), (b"PK\x03\x04zip", r"b'PK\x03\x04zip'")])
def test_a_file_of_no_known_format_is_refused_with_what_was_found(content, found, tmp_path):
    path = tmp_path / "a.zip"
    path.write_bytes(content)
    with pytest.raises(NotARecording) as error:
        open_recording(path)
    assert str(error.value).startswith(f"{path}: expected ")
    assert str(error.value).endswith(f"found {found}")
