# cython: language_level=3
"""Readers of recordings that other software made, and the choice among all formats."""
import re

import orjson
import zstandard
from isal import isal_zlib

from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_GET_SIZE, PyByteArray_Resize
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t
from libc.string cimport memchr, memcmp, memcpy, memmove

from feeds.recording.message cimport KIND_REPLY, KIND_SOURCE, KIND_TEXT, LAST_IN_BATCH
from feeds.recording.reader cimport RawSource

from feeds.recording.errors import Damage, NotARecording, RecordingError
from feeds.recording.format import FILE_MAGIC
from feeds.recording.reader import RecordingReader

__all__ = ["CollectorReader", "open_recording"]

_FORMATS = ("native", "collector", "cryptofeed", "tardis")

cdef Py_ssize_t CHUNK_SIZE = 1 << 20
cdef int THE_CONNECTION = 1         # the only source of a collector file
_GZIP_MAGIC = b"\x1f\x8b"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_PACKED_SIZE = 64 * 1024
_ZSTD_PACKED_SIZE = 1024         # which at most 32 MiB of text can come out of
_MAX_ZSTD_WINDOW = 1 << 27       # of `zstd --long`
_BAD_PACKED = (EOFError, isal_zlib.error, zstandard.ZstdError)
_LINE = re.compile(rb"^(\d{1,19}) +[\[{]", re.MULTILINE)
_STREAM = re.compile(rb'"stream":"([^"@]+)@')
# A book change, up to its levels: what tells the three Binance protocols apart stands before them.
_DEPTH_UPDATE = re.compile(rb'"e":"depthUpdate"[^\[\n]*')
_SYMBOL = re.compile(rb'"symbol":"([^"]+)"')
_EXCERPT_SIZE = 60
_START_SIZE = 4096               # bytes of a file that tell its format
_FIRST_LINES = (
    ("tardis", re.compile(rb'\s*(?:\d{4}-\d\d-\d\dT[\d:.]+Z |\{\s*"localTimestamp")')),
    ("cryptofeed", re.compile(rb"\s*(?:(?:wss?|https?)://\S+ (?:<->|<-|->) \d|\d+(?:\.\d+)?: |configuration: )")),
)


cdef class CollectorReader(RawSource):
    """Read a file of the "collector" format: lines `<receive time, ns> <JSON>`, plain, gzip or zstd."""

    def __cinit__(self):
        self.buffer = bytearray(2 * CHUNK_SIZE)
        self.at_end = True      # until there is something to read

    def __init__(
        self, path, *, exchange=None, bint strict=False, Py_ssize_t max_line_size=16 << 20,
        Py_ssize_t max_damages=1000,
    ):
        if max_line_size < 1:
            raise ValueError(f"max_line_size: expected at least 1, found {max_line_size}")
        self.strict = strict
        self.max_line_size = max_line_size
        self.max_damages = max_damages
        self._open(path)
        self.at_end = False
        try:
            start = self._file.read(len(_ZSTD_MAGIC))
            self._file.seek(0)
            self.text = _text_of(self._file, start)
            while self.filled < CHUNK_SIZE and self._fill():
                pass
            self._look_ahead(exchange)
        except BaseException:
            self.close()
            raise

    cdef bint advance(self) except -1:
        self.payload = NULL
        if not self.is_declared and self.declaration is not None:
            self.is_declared = True
            self.source = THE_CONNECTION
            self.flags = KIND_SOURCE
            self.ts_recv = self.first_ts
            self.payload = PyBytes_AS_STRING(self.declaration)
            self.size = PyBytes_GET_SIZE(self.declaration)
            self._declare(0)
            return True
        while self._next_line():
            if not self._is_message():
                continue
            self.source = THE_CONNECTION
            if self.size > 16 and memcmp(self.payload, b'{"lastUpdateId":', 16) == 0:
                self.flags = KIND_REPLY
                self.tag = self._snapshot_symbol()
            else:
                self.flags = KIND_TEXT | LAST_IN_BATCH
                self.tag = b""
                self._note_stream()
            return True
        self.payload = NULL
        return False

    cpdef close(self):
        self.at_end = True
        self.start = self.filled = 0
        self.text = None
        RawSource.close(self)

    cdef bint _is_message(self) except -1:
        """Set time and payload from the line in hand. False, and reported, if it is malformed."""
        cdef const char* line = self.line
        cdef Py_ssize_t size = self.line_size
        cdef Py_ssize_t i = 0
        cdef int64_t ts = 0
        cdef char first, last
        while i < size and i < 18 and c"0" <= line[i] <= c"9":
            ts = ts * 10 + (line[i] - c"0")
            i += 1
        if i == 18 and i < size and c"0" <= line[i] <= c"9":
            # The nineteenth digit may be one too many for 64 bits.
            if ts > (0x7fffffffffffffff - (line[i] - c"0")) // 10:
                i = 0
            else:
                ts = ts * 10 + (line[i] - c"0")
                i += 1
        if i == 0 or i >= size or line[i] != c" ":
            return self._reject("a receive time in ns and a space")
        while i < size and line[i] == c" ":
            i += 1
        if i < size:
            first = line[i]
            last = line[size - 1]
            if (first == c"{" and last == c"}" or first == c"[" and last == c"]") and not (
                self.is_unterminated and not self._is_json(i)
            ):
                self.ts_recv = ts
                self.payload = line + i
                self.size = size - i
                return True
        return self._reject("a whole JSON object or array after the receive time")

    def _is_json(self, Py_ssize_t start):
        """Whether the last line, which may have been cut off at a brace, is all there."""
        try:
            orjson.loads(PyBytes_FromStringAndSize(self.line + start, self.line_size - start))
        except orjson.JSONDecodeError:
            return False
        return True

    def _reject(self, expected):
        found = PyBytes_FromStringAndSize(self.line, min(self.line_size, <Py_ssize_t> _EXCERPT_SIZE))
        self._report(Damage(
            self.line_offset, "malformed line", expected, repr(found), self.line_size, self.lines
        ))
        return False

    cdef bint _next_line(self) except -1:
        """Set the next line that is not empty; False at the end. Lines that are too long are reported and skipped."""
        cdef const char* data
        cdef const char* newline
        cdef Py_ssize_t size
        cdef Py_ssize_t searched = 0        # bytes known to hold no line end
        while True:
            data = PyByteArray_AS_STRING(self.buffer) + self.start
            size = self.filled - self.start
            newline = <const char*> memchr(data + searched, c"\n", size - searched) if size > searched else NULL
            if newline == NULL:
                if size <= self.max_line_size and self._fill():
                    searched = size
                    continue
                if size == 0:
                    return False
                if size > self.max_line_size:
                    self._skip_long_line()
                    searched = 0
                    continue
                self.line_size = size
            else:
                self.line_size = newline - data
            self.lines += 1
            self.line = data
            self.line_offset = self.text_offset + self.start
            self.is_unterminated = newline == NULL
            self.start += self.line_size + (newline != NULL)
            searched = 0
            if self.line_size and data[self.line_size - 1] == c"\r":
                self.line_size -= 1
            if self.line_size > self.max_line_size:
                self._report_long_line(self.line_offset, self.line_size)
            elif self.line_size:
                return True

    cdef int _skip_long_line(self) except -1:
        cdef int64_t offset = self.text_offset + self.start
        cdef int64_t size = 0
        cdef const char* data
        cdef const char* newline = NULL
        while newline == NULL:
            data = PyByteArray_AS_STRING(self.buffer) + self.start
            newline = <const char*> memchr(data, c"\n", self.filled - self.start)
            if newline == NULL:
                size += self.filled - self.start
                self.start = self.filled
                if not self._fill():
                    break
            else:
                size += newline - data
                self.start += newline - data + 1
        self.lines += 1
        self._report_long_line(offset, size)
        return 0

    def _report_long_line(self, offset, size):
        self._report(Damage(
            offset, "long line", f"at most {self.max_line_size} bytes", f"{size} bytes", size, self.lines
        ))

    cdef bint _fill(self) except -1:
        """Read more text behind what is there, which may move; False at the end of the file."""
        cdef Py_ssize_t size = self.filled - self.start
        cdef bytes chunk
        if self.at_end:
            return False
        if self.start:
            memmove(PyByteArray_AS_STRING(self.buffer), PyByteArray_AS_STRING(self.buffer) + self.start, size)
            self.text_offset += self.start
            self.start = 0
            self.filled = size
        if PyByteArray_GET_SIZE(self.buffer) - size < CHUNK_SIZE:
            # Only for a line longer than all before it; `_next_line` stops asking at `max_line_size`.
            PyByteArray_Resize(self.buffer, 2 * PyByteArray_GET_SIZE(self.buffer))
        try:
            chunk = self.text.read(CHUNK_SIZE)
        except _BAD_PACKED as error:
            self.at_end = True
            lost = self.total_bytes - self._file.tell()
            self.bytes_read = self.total_bytes
            damage = Damage(self.text_offset + size, "compressed data", "valid gzip or zstd to its end", str(error), lost)
            self._report(damage)
            if damage not in self.damages[-1:]:     # what ends a file is told, however many lines were malformed
                self.damages.append(damage)
            return False
        memcpy(PyByteArray_AS_STRING(self.buffer) + size, PyBytes_AS_STRING(chunk), PyBytes_GET_SIZE(chunk))
        self.filled += PyBytes_GET_SIZE(chunk)
        self.bytes_read = self._file.tell()
        self.at_end = not chunk
        return not self.at_end

    def _look_ahead(self, exchange):
        """Find out from the first messages whose they are; prepare the declaration that a collector file lacks."""
        ahead = bytes(memoryview(self.buffer)[: self.filled])
        line = _LINE.search(ahead)
        if line is None:
            found = repr(ahead[:_EXCERPT_SIZE]) if ahead else "nothing"
            raise NotARecording(f"{self.path}: expected lines '<ns> <JSON>', found {found}")
        stream = _STREAM.search(ahead)
        if exchange is None:
            if stream is None and b'{"lastUpdateId":' not in ahead:
                found = ahead[line.start() : line.start() + _EXCERPT_SIZE]
                raise RecordingError(f"{self.path}: expected an exchange to be given, or Binance messages, found {found!r}")
            depth = _DEPTH_UPDATE.search(ahead)
            start = b"" if depth is None else depth[0]
            exchange = "binance-delivery" if b'"ps":' in start else "binance-futures" if b'"pu":' in start else "binance"
        self.exchange = exchange
        self.declaration = orjson.dumps({"exchange": exchange, "url": ""})
        self.first_ts = min(int(line[1]), 0x7fffffffffffffff)
        if stream is not None:
            self._set_stream(PyBytes_AS_STRING(stream[1]), PyBytes_GET_SIZE(stream[1]))

    def _ahead(self):
        """Return the lines that have been read ahead, without those that are empty or cut off."""
        text = bytes(memoryview(self.buffer)[: self.filled])
        lines = text.split(b"\n")
        return [line.rstrip(b"\r") for line in (lines if self.at_end else lines[:-1] or lines) if line.strip()]

    cdef int _note_stream(self) except -1:
        """Remember the stream of the current message, for the snapshot that may follow."""
        cdef const char* name = self.payload + 11
        cdef const char* end
        if self.size < 12 or memcmp(self.payload, b'{"stream":"', 11) != 0:
            return 0
        end = <const char*> memchr(name, c"@", min(self.size - 11, <Py_ssize_t> MAX_STREAM_NAME + 1))
        if end != NULL and (
            end - name != self.stream_name_size or memcmp(name, self.stream_name, self.stream_name_size) != 0
        ):
            self._set_stream(name, end - name)
        return 0

    cdef int _set_stream(self, const char* name, Py_ssize_t size) except -1:
        # `!ticker@arr` is every symbol's
        if 0 < size <= MAX_STREAM_NAME and name[0] != c"!" and memchr(name, c'"', size) == NULL:
            memcpy(self.stream_name, name, size)
            self.stream_name_size = size
        return 0

    cdef bytes _snapshot_symbol(self):
        """Return the exchange's symbol of the book in the current message: its own word, else that of the messages around."""
        symbol = _SYMBOL.search(PyBytes_FromStringAndSize(self.payload, min(self.size, 256)))
        if symbol is not None:
            return symbol[1]
        return PyBytes_FromStringAndSize(self.stream_name, self.stream_name_size).upper()


class _Gunzip:
    """The text of a gzip file, up to where the file is cut off or damaged.

    `gzip.GzipFile` and its faster relative lose what they have inflated of a read when that read ends in an error.
    """

    def __init__(self, file):
        self._file = file
        self._packed = b""
        self._member = None

    def read(self, size):
        """Return some text, at most `size` bytes; b"" at the end. EOFError or `isal_zlib.error` for damage."""
        while True:
            self._packed = self._packed or self._file.read(_PACKED_SIZE)
            at_end = not self._packed
            if self._member is None:
                self._packed = self._packed.lstrip(b"\0")      # zeros may pad what is between members
                if at_end:
                    return b""
                if not self._packed:
                    continue
                self._member = isal_zlib.decompressobj(wbits=31)
            text = self._member.decompress(self._packed, size)
            if self._member.eof:
                self._packed = self._member.unused_data
                self._member = None
            else:
                self._packed = self._member.unconsumed_tail
            if text:
                return text
            if at_end and self._member is not None:
                raise EOFError("the end of the file")


class _Unzstd:
    """The same of a zstd file."""

    def __init__(self, file):
        self._file = file
        self._packed = b""
        self._frame = None
        self._text = b""
        self._used = 0

    def read(self, size):
        """Return some text, at most `size` bytes; b"" at the end. EOFError or `ZstdError` for damage."""
        while self._used == len(self._text):
            self._packed = self._packed or self._file.read(_ZSTD_PACKED_SIZE)
            if not self._packed:
                if self._frame is not None:
                    self._frame = None
                    raise EOFError("the end of the file")
                return b""
            if self._frame is None:
                self._frame = zstandard.ZstdDecompressor(max_window_size=_MAX_ZSTD_WINDOW).decompressobj()
            self._text, self._used = self._frame.decompress(self._packed), 0
            self._packed = b""
            if self._frame.eof:
                self._packed = self._frame.unused_data
                self._frame = None
        text = self._text[self._used : self._used + size]
        self._used += len(text)
        return text


def _text_of(file, start):
    """Return what reads the text of a file that begins with `start`."""
    if start[: len(_GZIP_MAGIC)] == _GZIP_MAGIC:
        return _Gunzip(file)
    return _Unzstd(file) if start == _ZSTD_MAGIC else file


def open_recording(path, *, format="auto", exchange=None, strict=False):
    """Open a recording of any format that we read; `auto` finds out which."""
    if format == "auto":
        format = _detect(path)
    if format == "native":
        return RecordingReader(path, strict=strict)
    if format == "collector":
        return CollectorReader(path, exchange=exchange, strict=strict)
    if format in ("cryptofeed", "tardis"):
        from feeds.recording.text_formats import CryptofeedReader, TardisReader  # which are CollectorReaders

        reader = CryptofeedReader if format == "cryptofeed" else TardisReader
        return reader(path, exchange=exchange, strict=strict)
    raise ValueError(f"format: expected one of {', '.join(('auto', *_FORMATS))}, found {format!r}")


def _detect(path):
    if hasattr(path, "read"):
        path.seek(0)
        start, text = _start(path)
        path.seek(0)
    else:
        with open(path, "rb") as file:
            start, text = _start(file)
    if start[: len(FILE_MAGIC)] == FILE_MAGIC:
        return "native"
    for format, first_line in _FIRST_LINES:
        if first_line.match(text):
            return format
    if start[:2] == _GZIP_MAGIC or start[:4] == _ZSTD_MAGIC or start[:1].isdigit():
        return "collector"              # which says what it expected
    found = repr(start[: len(FILE_MAGIC)]) if start else "nothing"
    raise NotARecording(f"{path}: expected {FILE_MAGIC!r} (our own format), gzip, zstd or a digit (collector), found {found}")


def _start(file):
    """Return the first bytes of a file, and of its text."""
    start = file.read(_START_SIZE)
    file.seek(0)
    try:
        return start, _text_of(file, start[: len(_ZSTD_MAGIC)]).read(_START_SIZE)
    except _BAD_PACKED:
        return start, b""
