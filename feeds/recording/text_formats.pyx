# cython: language_level=3
"""Readers of text recordings of other software: of cryptofeed and of tardis.dev."""
import ast
import re
from collections import deque
from pathlib import Path

import msgspec
import orjson

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t
from libc.string cimport memchr, memcmp

from feeds.recording.message cimport (
    KIND_BINARY, KIND_CONNECTED, KIND_DISCONNECTED, KIND_NOTE, KIND_REPLY, KIND_SENT, KIND_SOURCE, KIND_TEXT, LAST_IN_BATCH,
)

from feeds.times cimport iso_time

from feeds.exchange import exchange as find_exchange
from feeds.exchange import exchange_of_messages, exchange_of_url
from feeds.recording.errors import NotARecording, RecordingError
from feeds.times import seconds_ns

__all__ = ["CryptofeedReader", "TardisReader"]

_CAPTURE_LINE = re.compile(rb"((?:wss?|https?)://\S*) (<->|<-|->) (\d+(?:\.\d+)?)(?:: (.*))?", re.DOTALL)
_RECEIVED_LINE = re.compile(rb"(\d+(?:\.\d+)?): (.*)", re.DOTALL)
_BYTES = re.compile(rb"""b(?:'[^'\\]*(?:\\.[^'\\]*)*'|"[^"\\]*(?:\\.[^"\\]*)*")""", re.DOTALL)      # what repr() writes of them
_CONFIGURATION = b"configuration: "
_HEADER = re.compile(rb" header: \{[^{}]*\}$")       # of a REST reply, behind its body
_CAPTURE_NAME = re.compile(r"(.+)\.ws\.\d+\.0(\.gz|\.zst)?")
# In a raw file and in a stream: what tells of both kinds of lines whose messages they are.
_TIMED_LINE = re.compile(rb'(?:\{\s*"localTimestamp":\s*")?(\d{4}-\d\d-\d\dT[\d:.]+Z)(?: |"\s*,\s*"message":\s*)(.*)', re.DOTALL)
_TARDIS_LINE = "an ISO time, a space and a message, or an object of localTimestamp and message"
_LOST = b"an empty line: the recorder was disconnected"
# tardis.dev puts the REST snapshots of Binance's books among the messages:
# {"stream":"btcusdt@depthSnapshot","generated":true,"data":{"lastUpdateId":8,"bids":[["1.5","2"]],"asks":[]}}
_GENERATED = re.compile(rb'\{"stream":"([^"@]+)@depthSnapshot[^"]*",(?:"generated":true,)?"data":(?=\{)')
cdef bytes _STREAM = b'{"stream":"'
cdef bytes _SNAPSHOT = b"@depthSnapshot"
cdef bytes _STREAM_TIME = b'{"localTimestamp":"'
cdef bytes _STREAM_MESSAGE = b'","message":'
_MESSAGES_AHEAD = 200            # looked at to find out whose they are
_EXCERPT_SIZE = 60


cdef class TextReader(CollectorReader):
    """Base of the readers here."""

    def __cinit__(self):
        self._queue = deque()

    cdef bint advance(self) except -1:
        cdef bytes payload
        self.payload = NULL
        if not self._queue and not self._next_record():
            return False
        self.flags, self.source, self.ts_recv, self.tag, payload = self._queue.popleft()
        self._held = payload
        self.payload = PyBytes_AS_STRING(payload)
        self.size = PyBytes_GET_SIZE(payload)
        self._last_ts = self.ts_recv
        if self.flags == KIND_SOURCE:
            self._declare(self.line_offset)
        return True

    cdef bint _next_record(self) except -1:
        """Read lines until there is something in the queue; False at the end."""
        cdef int64_t lines
        cdef object damages
        while not self._queue:
            lines, damages = self.lines, self.damage_count
            if not self._next_line():
                self._take_end()
                return bool(self._queue)
            if self.lines > lines + 1 and self.damage_count == damages:
                self._take_empty()
            if not self._take_line(PyBytes_FromStringAndSize(self.line, self.line_size)):
                self._reject(self._expected())
        return True

    def _push(self, flags, source, ts, payload, tag=b""):
        self._queue.append((flags, source, ts, tag, payload))

    def _take_line(self, line):
        """Put what the line holds into the queue; False where it is malformed."""
        raise NotImplementedError

    def _take_empty(self):
        """There was an empty line before the next."""

    def _take_end(self):
        """There are no more lines."""

    def _expected(self):
        raise NotImplementedError

    def _declaration(self, url):
        return orjson.dumps({"exchange": self.exchange, "url": url})


cdef class CryptofeedReader(TextReader):
    """Read what cryptofeed saves of a connection (NAME.ws.N.0) or of REST (NAME.http.0.0, NAME.0).

    Replies of the NAME.http.0.0 beside a NAME.ws.N.0 are read with it, in the order of time.
    """

    def __init__(self, path, *, exchange=None, replies=None, **limits):
        self._numbers = {}
        CollectorReader.__init__(self, path, exchange=exchange, **limits)
        if replies is None and not hasattr(path, "read"):
            replies = _beside(Path(path))
        if replies is not None:
            self._replies = CryptofeedReader(replies, exchange=self.exchange, **limits)
            self._next_reply()

    cpdef close(self):
        if self._replies is not None:
            self._replies.close()
        CollectorReader.close(self)

    def _look_ahead(self, exchange):
        lines = self._ahead()
        first = _CAPTURE_LINE.match(lines[0]) if lines else None
        if first is None and not (lines and (_RECEIVED_LINE.match(lines[0]) or lines[0].startswith(_CONFIGURATION))):
            found = repr(lines[0][:_EXCERPT_SIZE]) if lines else "nothing"
            raise NotARecording(f"{self.path}: expected lines 'URL <-> TIME' or 'TIME: MESSAGE', found {found}")
        if exchange is None:
            urls = {match[1].decode("utf-8", "replace") for line in lines if (match := _CAPTURE_LINE.match(line))}
            found = {name for url in urls if (name := exchange_of_url(url)) is not None}
            if len(found) == 1:
                exchange = found.pop()
            elif not urls:
                received = (match[2] for line in lines[:_MESSAGES_AHEAD] if (match := _RECEIVED_LINE.match(line)))
                exchange = exchange_of_messages(received)
            if exchange is None:
                raise RecordingError(f"{self.path}: expected an exchange to be given, or an address of one that is supported, "
                                     f"found {', '.join(sorted(urls)[:3]) or 'messages without an address'}")
        self.exchange = exchange

    def _take_line(self, line):
        match = _CAPTURE_LINE.fullmatch(line)
        try:
            if match is not None:
                self._take_addressed(match[1].decode(), match[2], seconds_ns(match[3].decode()), match[4] or b"")
                return True
            match = _RECEIVED_LINE.fullmatch(line)
            if match is not None:
                ts = seconds_ns(match[1].decode())
                payload, kind = match[2], KIND_TEXT
                if payload[:2] in (b"b'", b'b"'):
                    if not _BYTES.fullmatch(payload):        # else Python would have to read what may be any nonsense
                        return False
                    payload, kind = ast.literal_eval(payload.decode()), KIND_BINARY
                source = self._current or self._connection("", ts)
                self._take_replies(ts)
                self._push(kind | LAST_IN_BATCH, source, ts, payload)
                return True
        except (SyntaxError, ValueError):        # a time or a bytes literal that is none
            return False
        if line.startswith(_CONFIGURATION):
            try:
                orjson.loads(line[len(_CONFIGURATION):])
            except orjson.JSONDecodeError:
                return False
            self._push(KIND_NOTE, 0, self._last_ts, line[len(_CONFIGURATION):], b"configuration")
            return True
        return False

    def _take_addressed(self, url, what, ts, payload):
        if what == b"<->":
            known = url in self._numbers
            self._current = self._connection(url, ts)
            if known:
                self._push(KIND_DISCONNECTED, self._current, ts, b"connected anew")
            self._push(KIND_CONNECTED, self._current, ts, b"")
        elif what == b"<-":
            self._push(KIND_SENT, self._connection(url, ts), ts, payload)
        else:
            tag = find_exchange(self.exchange).reply_tag(url)
            header = _HEADER.search(payload)
            body = payload[: header.start()] if header else payload
            source = self._current or self._connection("", ts)
            if tag is not None:
                self._push(KIND_REPLY, source, ts, body, tag.encode())

    def _connection(self, url, ts):
        """Return the number of the connection to `url`, which is declared when it is new."""
        number = self._numbers.get(url)
        if number is None:
            number = self._numbers[url] = len(self._numbers) + 1
            self._push(KIND_SOURCE, number, ts, self._declaration(url))
        return number

    def _next_reply(self):
        self._reply = next((message for message in self._replies if message.kind == KIND_REPLY), None)

    def _take_replies(self, ts):
        """Put the replies that came before `ts` into the queue."""
        while self._reply is not None and (ts is None or self._reply.ts_recv <= ts):
            self._push(KIND_REPLY, self._current, self._reply.ts_recv, self._reply.payload, self._reply.tag.encode())
            self._next_reply()

    def _take_end(self):
        if self._current:
            self._take_replies(None)

    def _expected(self):
        return "'URL <-> TIME', 'URL <- TIME: TEXT', 'URL -> TIME: TEXT' or 'TIME: TEXT'"


def _beside(path):
    """Return the file of REST replies that belongs to a file of a connection, None where there is none."""
    match = _CAPTURE_NAME.fullmatch(path.name)
    if match is None:
        return None
    replies = path.with_name(f"{match[1]}.http.0.0{match[2] or ''}")
    return replies if replies.is_file() else None


class _StreamLine(msgspec.Struct):
    """A line of tardis-machine's HTTP endpoint `/replay`. https://docs.tardis.dev/tardis-machine/replaying-historical-data

    {"localTimestamp":"2019-06-01T00:00:01.7810000Z","message":{"table":"trade","action":"partial","data":[]}}
    """

    localTimestamp: str
    message: msgspec.Raw


_stream_line = msgspec.json.Decoder(_StreamLine)


cdef class TardisReader(CollectorReader):
    """Read what tardis.dev has recorded: its raw files, and what tardis-machine streams from its HTTP endpoint `/replay`.

    An empty line says that the recorder lost its connection. tardis-machine writes that one at once and messages 32 at a
    time, so that in its stream it may stand up to 31 messages early.
    """

    def __init__(self, path, *, exchange=None, **limits):
        CollectorReader.__init__(self, path, exchange=exchange, **limits)

    cdef bint advance(self) except -1:
        self.payload = NULL
        self.source = 1
        if not self.is_declared and self.declaration is not None:
            self.is_declared = True
            self._tell(KIND_SOURCE, self.first_ts, self.declaration)
            self._declare(0)
            return True
        if not self._is_waiting:
            self._is_waiting = self._read_message()
            if self._was_lost:
                self._was_lost = False
                if self._is_connected:
                    self._is_connected = False
                    return self._tell(KIND_DISCONNECTED, self._last_ts, _LOST)
            if not self._is_waiting:
                return False
        if not self._is_connected:
            self._is_connected = True
            return self._tell(KIND_CONNECTED, self._message_ts, b"")
        self._is_waiting = False
        self.flags = KIND_TEXT | LAST_IN_BATCH
        self.ts_recv = self._last_ts = self._message_ts
        self.payload = self._message
        self.size = self._message_size
        self.tag = b""
        if _begins(self.payload, self.size, _STREAM):
            self._take_snapshot()
        return True

    cdef int _take_snapshot(self) except -1:
        """Where the message is a snapshot of a book of Binance, make it the reply that it was to the recorder."""
        cdef Py_ssize_t start = PyBytes_GET_SIZE(_STREAM)
        cdef const char* name = <const char*> memchr(self.payload + start, c"@", min(self.size - start, 64))
        if name == NULL or not _begins(name, self.payload + self.size - name, _SNAPSHOT):
            return 0
        match = _GENERATED.match(PyBytes_FromStringAndSize(self.payload, min(self.size, 256)))
        if match is None or self.payload[self.size - 1] != c"}":
            return 0
        self.flags = KIND_REPLY
        self.tag = match[1].upper()
        start = match.end()
        self.payload += start
        self.size -= start + 1
        return 0

    cdef bint _tell(self, int kind, int64_t ts_recv, bytes text) except -1:
        """Make what the file implies the current message."""
        self._held = text
        self.flags = kind
        self.ts_recv = ts_recv
        self.payload = PyBytes_AS_STRING(text)
        self.size = PyBytes_GET_SIZE(text)
        return True

    cdef bint _read_message(self) except -1:
        """Take the next message in hand, and note whether the connection was lost before it; False at the end."""
        cdef int64_t lines
        cdef Py_ssize_t damages
        cdef bint found
        while True:
            lines, damages = self.lines, self.damage_count
            found = self._next_line()
            if self.lines > lines + found and self.damage_count == damages:
                self._was_lost = True
            if not found or self._is_message():
                return found

    cdef bint _is_message(self) except -1:
        cdef const char* line = self.line
        cdef const char* end
        cdef Py_ssize_t size = self.line_size
        cdef Py_ssize_t start = 0
        if line[0] == c"{":
            # As the server writes it. What was written anew by somebody else, or is perhaps cut off, is parsed.
            if self.is_unterminated or not _begins(line, size, _STREAM_TIME) or line[size - 1] != c"}":
                return self._parse_line()
            start = PyBytes_GET_SIZE(_STREAM_TIME)
            end = <const char*> memchr(line + start, c'"', min(size - start, <Py_ssize_t> MAX_TIME_SIZE))
            if end == NULL or not _begins(end, line + size - end, _STREAM_MESSAGE):
                return self._parse_line()
            self._message = end + PyBytes_GET_SIZE(_STREAM_MESSAGE)
            self._message_size = line + size - 1 - self._message
            if self._message_size == 0:
                return self._reject(_TARDIS_LINE)
        else:
            end = <const char*> memchr(line, c" ", min(size, <Py_ssize_t> MAX_TIME_SIZE))
            if end == NULL:
                return self._reject(_TARDIS_LINE)
            self._message = end + 1
            self._message_size = line + size - self._message
        return self._set_time(line + start, end - line - start)

    cdef bint _parse_line(self) except -1:
        try:
            parsed = _stream_line.decode(PyBytes_FromStringAndSize(self.line, self.line_size))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return self._reject(_TARDIS_LINE)
        time = parsed.localTimestamp.encode()
        self._parsed = bytes(parsed.message)
        self._message = PyBytes_AS_STRING(self._parsed)
        self._message_size = PyBytes_GET_SIZE(self._parsed)
        return self._set_time(PyBytes_AS_STRING(time), PyBytes_GET_SIZE(time))

    cdef bint _set_time(self, const char* text, Py_ssize_t size) except -1:
        cdef int64_t ts = iso_time(text, size)
        if ts < 0:
            return self._reject(_TARDIS_LINE)
        self._message_ts = ts
        return True

    def _look_ahead(self, exchange):
        lines = [match for line in self._ahead()[:_MESSAGES_AHEAD]
                 if (match := _TIMED_LINE.fullmatch(line)) and _time_of(match) >= 0]
        if not lines:
            found = repr(bytes(memoryview(self.buffer)[: min(self.filled, _EXCERPT_SIZE)]))
            raise NotARecording(f"{self.path}: expected lines that are {_TARDIS_LINE}, found {found}")
        if exchange is None:
            exchange = exchange_of_messages(match[2] for match in lines)
            if exchange is None:
                raise RecordingError(f"{self.path}: expected an exchange to be given, or messages that only one sends, found "
                                     f"{lines[0][2][:_EXCERPT_SIZE]!r}")
        self.exchange = exchange
        self.declaration = orjson.dumps({"exchange": exchange, "url": ""})
        self.first_ts = _time_of(lines[0])


cdef int64_t _time_of(match):
    """Return the time of a line, ns since the epoch; -1 where it only looks like one."""
    cdef bytes text = match[1]
    return iso_time(PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text))


cdef inline bint _begins(const char* text, Py_ssize_t size, bytes with_) noexcept:
    return size > PyBytes_GET_SIZE(with_) and memcmp(text, PyBytes_AS_STRING(with_), PyBytes_GET_SIZE(with_)) == 0
