"""Any exchange, from a recording: its connections and its REST replies, served as they were."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Generator, Iterator, Sequence
from typing import Literal
from urllib.parse import parse_qsl, urlsplit

import msgspec

from feeds.decoder import Fetch
from feeds.exchange import exchange as find_exchange
from feeds.recording import Kind, MergedSource, RawMessage, RawSource, open_session
from feeds.recording.format import SETUP_TAG, TICKET_TAG
from feeds.simulator.faults import may_be_sent
from feeds.simulator.markets import Market
from feeds.simulator.order_flow import NS_PER_SECOND
from feeds.simulator.playback import MAX_BATCH, Cursor, CursorSource, PlaybackError
from feeds.simulator.protocol import (
    Batch,
    Ending,
    ExchangeProtocol,
    HttpReply,
    Message,
    Session,
)
from picows import WSCloseCode

_KIND_MASK = 0xFF
_GREETING_NS = 5 * NS_PER_SECOND  # a first message that was sent later subscribes to nothing: it is a heartbeat
_SEEK_FROM = 10_000  # messages that are stepped over rather than looked up in the recording's index
_CLOSED = re.compile(r"(?:peer|we) closed with (\d+)(?:: (.*))?", re.DOTALL)  # as a recorder of ours says it
_ADDRESS = re.compile(rb'wss?:(?://|\\/\\/)[^"?]*')
_JSON = {"Content-Type": "application/json"}
_NAMED = 20  # requests that an error names


class RecordedExchange:
    """A recording to be served as it was, of any exchange, and the pace: for `SimulatedExchange`.

    Every connection of the recording is served once: a client gets the first one to its path that no client has had, or
    of any path where none was recorded to its own. When all have been had, they are served anew. So a client that
    reconnects gets what the recorder got after it had reconnected, and one that comes back after the end begins anew.

    What was sent before the recorder's first message is sent at once, the rest when the client has sent its first
    message, whatever that is. Where the recorder sent none, or its first only after five seconds (a heartbeat), all of
    it is sent at once. Text is sent as text, binary as binary, messages of one read in one write. A recorded disconnect
    ends the connection; behind the recording's end it is silent. What else the client sends is not looked at: the
    answers are those that were recorded.

    A REST request is answered with the recorded reply to the same path and query, else with that of the same tag (the
    symbol): first the first one, then the next, at last the last one again. Lists of instruments and tickets begin
    anew. Tickets name the simulator's address. A request without a recorded reply gets a 404 that says what there is.
    """

    def __init__(
        self,
        paths: Sequence[str | os.PathLike[str]] | str | os.PathLike[str],
        *,
        speed: float = 1.0,
        replies: Sequence[tuple[str, bytes]] = (),
        max_reply_bytes: int = 256 * 1024 * 1024,
        format: Literal["auto", "native", "collector", "cryptofeed", "tardis"] = "auto",
        exchange: str | None = None,
    ) -> None:
        """Take what `open_session` takes; nothing is opened yet.

        `speed` is a factor of the recorded pace; `math.inf` sends as fast as the client reads. `replies` are (URL,
        body) of lists of instruments that the recording does not have. `max_reply_bytes` bounds the REST replies held.
        ValueError for a speed that is not positive.
        """
        if not speed > 0:
            raise ValueError(f"expected a speed above 0, found {speed}")
        self.speed = speed
        self.replies = replies
        self.max_reply_bytes = max_reply_bytes
        self._paths = paths
        self._format = format
        self._exchange = exchange
        self._contents: Contents | None = None

    def open(self) -> RawSource:
        """Open the recording; RecordingError, OSError."""
        return open_session(self._paths, format=self._format, exchange=self._exchange)

    def protocol(self, *, start_ns: int = 0) -> RecordedProtocol:
        """Return the protocol that was recorded, as a server wants it."""
        return RecordedProtocol(self)

    @property
    def contents(self) -> Contents:
        """What there is in the recording, which is read through for it; PlaybackError where it cannot be served."""
        if self._contents is None:
            self._contents = Contents(self)
        return self._contents


class Connection(msgspec.Struct):
    """A recorded connection, and where it is found."""

    number: int  # of its first message in the recording
    ts_recv: int  # of that message; with `flags` its mark where the recording is read from elsewhere
    flags: int
    source: int
    target: str  # path and query
    with_host: str  # the same behind its host
    streams: list[str]  # what the recorder says that it subscribed to
    has_received: bool = False
    has_sent: bool = False
    waits: bool = False  # for the client's first message
    is_had: bool = False  # by a client


class _Replies(msgspec.Struct):
    """What a request was answered with, in order."""

    tag: str
    path: str  # of the connection that asked
    request: str
    bodies: list[bytes]
    asked: int = 0

    def next(self) -> bytes:
        self.asked += 1
        if self.tag.startswith(SETUP_TAG):
            return self.bodies[(self.asked - 1) % len(self.bodies)]
        return self.bodies[min(self.asked, len(self.bodies)) - 1]


class Contents:
    """What there is in a recording: its connections, its REST replies by request and by tag, its exchanges.

    `exchanges` has a symbol that was subscribed to, where the recorder says so.
    """

    def __init__(self, recorded: RecordedExchange) -> None:
        self.connections: list[Connection] = []
        self.by_request: dict[str, _Replies] = {}
        self.by_tag: dict[str, _Replies] = {}
        self.exchanges: dict[str, str | None] = {}
        self._open: dict[int, Connection] = {}  # by source, while it stands
        self._runs: dict[int, int] = {}  # of the declarations of sources
        self._requests: dict[tuple[int, str], str] = {}  # unanswered
        self._left = recorded.max_reply_bytes
        self._limit = recorded.max_reply_bytes
        with recorded.open() as source:
            self.path = source.path
            for number, message in enumerate(source):
                self._take(number, message, source)
        for url, body in recorded.replies:
            self._add_reply(":given", "", url, body)
        if not self.connections:
            raise PlaybackError(f"{self.path}: expected a connection in the recording, found none")

    def missing_lists(self) -> dict[str, list[str]]:
        """Return the requests for instruments, by exchange, to which there are no replies."""
        found = {}
        for name in self.exchanges:
            lists = find_exchange(name).instruments_urls
            wanted = [one if isinstance(one, Fetch) else Fetch(one, "") for one in lists]
            missing = [one.url for one in wanted if self.replies_to(one.url, one.body) is None]
            if missing:
                found[name] = missing
        return found

    def begin_anew(self, connections: Sequence[Connection]) -> None:
        """Have these served once more, and the replies from the first on."""
        for connection in connections:
            connection.is_had = False
        for replies in (*self.by_request.values(), *self.by_tag.values()):
            replies.asked = 0

    def replies_to(self, target: str, body: bytes) -> _Replies | None:
        """Return what a request was answered with: exactly it, one of its tag, or a whole list that the path gives.

        Of requests to several hosts that are alike, the host in front of the path says which is meant.
        """
        request = _request(target)
        posted = f"{request}\n{body.decode(errors='replace')}"
        for wanted in (posted, request):
            same = (found for found in self.by_request.values() if found.request == wanted)
            exact = self.by_request.get(wanted) or next(same, None)
            if exact is not None:
                return exact
        for tag in self._tags(target):
            if tag in self.by_tag:
                return self.by_tag[tag]
        whole = self.by_request.get(_path(request))
        return whole if whole is not None and whole.tag.startswith(SETUP_TAG) else None

    def _tags(self, target: str) -> Iterator[str]:
        """Yield the tags that a request may be for, what the exchange says first."""
        for name in self.exchanges:
            tag = find_exchange(name).reply_tag(target)
            if tag is not None:
                yield tag
        parts = urlsplit(target)
        yield from (value for _, value in parse_qsl(parts.query))
        yield from parts.path.split("/")

    def _take(self, number: int, message: RawMessage, source: RawSource) -> None:
        kind = message.flags & _KIND_MASK
        if kind == Kind.SOURCE:
            if self._runs.setdefault(message.source, source.run) != source.run:
                self._runs[message.source] = source.run
                self._open.pop(message.source, None)
            declared = source.sources[message.source]
            names = [described.get("raw_symbol") for described in declared.get("instruments") or ()]
            self.exchanges.setdefault(str(declared.get("exchange")), next(iter(names), None))
        elif kind == Kind.CONNECTED:
            self._connect(number, message, source)
        elif kind in (Kind.TEXT, Kind.BINARY):
            self._connection(number, message, source).has_received = True
        elif kind == Kind.SENT:
            connection = self._connection(number, message, source)
            if not connection.has_sent:
                connection.has_sent = True
                late = message.ts_recv - connection.ts_recv > _GREETING_NS
                connection.waits = not (connection.has_received and late)
        elif kind == Kind.DISCONNECTED:
            self._open.pop(message.source, None)
        elif kind == Kind.REQUEST:
            self._requests[message.source, message.tag] = message.payload.decode(errors="replace")
        elif kind == Kind.REPLY:
            url = self._requests.pop((message.source, message.tag), None)
            declared = source.sources.get(message.source, {})
            self._add_reply(message.tag, urlsplit(str(declared.get("url", ""))).path, url, message.payload)

    def _connection(self, number: int, message: RawMessage, source: RawSource) -> Connection:
        return self._open.get(message.source) or self._connect(number, message, source)

    def _connect(self, number: int, message: RawMessage, source: RawSource) -> Connection:
        declared = source.sources.get(message.source, {})
        streams = [str(name) for name in declared.get("streams", ())]
        url = str(declared.get("url", ""))
        mark = (number, message.ts_recv, message.flags, message.source)
        made = Connection(*mark, _request(url), _with_host(url), streams)
        self._open[message.source] = made
        self.connections.append(made)
        return made

    def _add_reply(self, tag: str, path: str, url: str | None, body: bytes) -> None:
        self._left -= len(body)
        if self._left < 0:
            limit = f"max_reply_bytes={self._limit}"
            raise PlaybackError(f"{self.path}: expected at most {limit} of REST replies, found more")
        if url is not None:
            address, newline, posted = url.partition("\n")
            replies = _Replies(tag, path, _request(address) + newline + posted, [])
            self.by_request.setdefault(_with_host(address) + newline + posted, replies).bodies.append(body)
        if not tag.startswith(SETUP_TAG):
            self.by_tag.setdefault(tag, _Replies(tag, path, "", [])).bodies.append(body)


def _path(request: str) -> str:
    return request.partition("\n")[0].partition("?")[0]


def _request(url: str) -> str:
    """Return path and query of an address, the query in an order of its own."""
    parts = urlsplit(url)
    query = "&".join(sorted(parts.query.split("&")))
    return (parts.path or "/") + (f"?{query}" if query else "")


def _with_host(url: str) -> str:
    """Return the same behind the host, where the address has one."""
    host = urlsplit(url).netloc
    return (f"/{host}" if host else "") + _request(url)


class RecordedSession(Session):
    """A client of a recorded exchange."""

    def __init__(self, protocol: RecordedProtocol, target: str) -> None:
        self._protocol = protocol
        self._target = target

    @property
    def streams(self) -> list[str]:
        """What the recorder had subscribed to, once it is played."""
        return self._protocol.source.streams(self)

    def open(self, now_ns: int) -> list[bytes]:
        self._protocol.source.begin(self, self._target, now_ns)
        return []

    def count_frame(self, monotonic_ns: int) -> None:
        pass

    def receive(self, text: bytes, now_ns: int) -> list[bytes]:
        self._protocol.source.go_on(self, now_ns)
        return []

    def encode(self, message: Message) -> bytes | None:
        return message.data

    def close(self) -> None:
        self._protocol.source.detach(self)


class _RecordedCursor(Cursor):
    """One recorded connection, as it is served to a client."""

    def __init__(
        self,
        session: Session,
        connection: Connection,
        messages: Generator[RawMessage, None, None],
        speed: float,
        start_ns: int,
    ) -> None:
        super().__init__(session, start_ns)
        self.streams = connection.streams
        self.is_waiting = False
        self._messages = messages
        self._speed = speed
        self._waits = connection.waits  # at the recorder's first message, until the client has sent one
        self._base_ns, self._base_ts = start_ns, 0  # exchange time at which a receive time is due
        self._ahead: RawMessage | None = None
        self._look_ahead()

    @property
    def is_ready(self) -> bool:
        return self._ahead is not None and not self.is_waiting

    def go_on(self, now_ns: int) -> None:
        """The client has sent something."""
        self._waits = False
        if self.is_waiting:
            self.is_waiting = False
            self._base_ns = now_ns
            self._schedule()

    def take(self) -> Batch:
        """Return the messages of one read, or the end of the connection."""
        first = self._ahead
        assert first is not None
        due_ns = self.due_ns
        self.taken += 1
        if first.kind == Kind.DISCONNECTED:
            self._ahead = None
            return Batch(due_ns, [], self.session, _ending(first.payload.decode(errors="replace")))
        messages: list[Message] = []
        message: RawMessage | None = first
        while message is not None and message.kind != Kind.DISCONNECTED and message.ts_recv == first.ts_recv:
            messages.append(Message(None, "", "other", message.payload, is_binary=message.kind == Kind.BINARY))
            is_last = message.last_in_batch or len(messages) == MAX_BATCH
            self._look_ahead()
            if is_last or self.is_waiting:
                break
            message = self._ahead
        return Batch(due_ns, messages, self.session)

    def close(self) -> None:
        self._messages.close()  # which closes the recording

    def _look_ahead(self) -> None:
        """Step to the next message that the recorder received, or to its disconnect."""
        self._ahead = None
        for message in self._messages:
            kind = message.flags & _KIND_MASK
            if not self._base_ts:
                self._base_ts = message.ts_recv
            if kind == Kind.SENT and self._waits:
                self._waits, self.is_waiting = False, True
                self._base_ts = message.ts_recv
            elif kind in (Kind.TEXT, Kind.BINARY, Kind.DISCONNECTED):
                self._ahead = message
                self._schedule()
                return

    def _schedule(self) -> None:
        if self._speed != math.inf and self._ahead is not None:
            due_ns = self._base_ns + round((self._ahead.ts_recv - self._base_ts) / self._speed)
            self.due_ns = max(self.due_ns, due_ns)  # receive times may step back; a client's time does not
        else:
            self.due_ns = max(self.due_ns, self._base_ns)


def _ending(reason: str) -> Ending:
    """Return how a connection is to end of which the recorder said this."""
    match = _CLOSED.fullmatch(reason)
    if match is not None:
        code = int(match[1])
        return Ending(code if may_be_sent(code) else WSCloseCode.OK, match[2] or "")  # 1005: there was none
    if not reason or "lost" in reason:
        return Ending()
    return Ending(WSCloseCode.GOING_AWAY)  # it was the recorder that left


class RecordedSource(CursorSource[_RecordedCursor]):
    """The connections of a recording."""

    def __init__(self, recorded: RecordedExchange, contents: Contents) -> None:
        super().__init__()
        self._recorded = recorded
        self._contents = contents

    def begin(self, session: Session, target: str, now_ns: int) -> None:
        """Serve the connection that is meant for a client which connects to this target."""
        connection = self._choose(_request(target))
        connection.is_had = True
        messages = self._messages(connection)
        self._cursors[session] = _RecordedCursor(session, connection, messages, self._recorded.speed, now_ns)

    def streams(self, session: Session) -> list[str]:
        """Return what is played to a client, by the recorder's names; nothing while it waits for a message."""
        cursor = self._cursors.get(session)
        return [] if cursor is None or cursor.is_waiting else cursor.streams

    def go_on(self, session: Session, now_ns: int) -> None:
        """The client has sent a message."""
        if session in self._cursors:
            self._cursors[session].go_on(now_ns)

    def subscribe(self, session: Session, stream: str, now_ns: int) -> None:
        pass

    def unsubscribe(self, session: Session, stream: str) -> None:
        pass

    def snapshot(self, symbol: str, limit: int, now_ns: int, *, stale: bool = False) -> bytes | None:
        return None

    def _choose(self, target: str) -> Connection:
        every, path = self._contents.connections, _path(target)
        same = (
            [one for one in every if target in (one.target, one.with_host)]
            or [one for one in every if path in (_path(one.target), _path(one.with_host))]
            or every
        )
        left = [one for one in same if not one.is_had]
        if not left:
            self._contents.begin_anew(same)
        return (left or same)[0]

    def _messages(self, connection: Connection) -> Generator[RawMessage, None, None]:
        """Yield what was recorded of a connection."""
        with self._recorded.open() as source:
            run = -1
            # Sources of merged recordings have their numbers only when they are read from the beginning.
            is_sought = (
                connection.number > _SEEK_FROM
                and not isinstance(source, MergedSource)
                and source.seek(connection.ts_recv)
            )
            for number, message in enumerate(source):
                kind = message.flags & _KIND_MASK
                if run < 0:
                    if is_sought:
                        if (message.source, message.ts_recv, message.flags) != (
                            connection.source,
                            connection.ts_recv,
                            connection.flags,
                        ):
                            continue
                    elif number < connection.number:
                        continue
                    run = source.run
                elif message.source != connection.source:
                    continue
                elif kind == Kind.CONNECTED or (kind == Kind.SOURCE and source.run != run):
                    return
                yield message
                if kind == Kind.DISCONNECTED:
                    return


class RecordedProtocol(ExchangeProtocol):
    """Whatever protocol was recorded."""

    ping_interval = 20.0
    pong_timeout = 60.0
    answers_posts = True
    source: RecordedSource

    def __init__(self, recorded: RecordedExchange) -> None:
        self.contents = recorded.contents
        self.contents.begin_anew(self.contents.connections)
        self.name = ", ".join(self.contents.exchanges)
        self.markets: dict[str, Market] = {}
        self.source = RecordedSource(recorded, self.contents)

    def connect(self, target: str) -> RecordedSession:
        return RecordedSession(self, target)

    def rest(self, target: str, now_ns: int, *, stale: bool = False, body: bytes = b"") -> HttpReply:
        replies = self.contents.replies_to(target, body)
        if replies is None:
            return HttpReply(404, self._not_recorded(target).encode())
        reply = replies.next()
        if replies.tag == TICKET_TAG:
            reply = _ADDRESS.sub(f"{self.ws_url}{replies.path}".encode(), reply)
        return HttpReply(200, reply, _JSON)

    def snapshot_symbol(self, target: str) -> str | None:
        return None

    def rest_limit_reply(self, status: int, retry_after: int, now_ns: int) -> HttpReply:
        return HttpReply(status, b"too many requests", {"Retry-After": str(retry_after)})

    def unknown_event(self, now_ns: int) -> Message:
        return Message(None, "", "other", b'{"simulatorEvent":[1,"two",null]}')

    def unknown_symbol(self, now_ns: int) -> Message:
        raise ValueError("expected generated order flow, found a recording: it has no unknown symbols")

    def _not_recorded(self, target: str) -> str:
        known = [key.partition("\n")[0] for key in self.contents.by_request]
        tags = [f"a request for {tag}" for tag in self.contents.by_tag]
        found = ", ".join([*known, *tags][:_NAMED]) or "none at all"
        return f"{self.contents.path}: expected a recorded reply to {target}, found those to {found}"
