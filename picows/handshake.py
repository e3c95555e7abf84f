"""The opening handshake of both sides (RFC 6455 section 4), as functions of what was received: no socket, no clock."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, NoReturn

import h11
from multidict import CIMultiDict

from picows.errors import (
    WSHandshakeError,
    WSInvalidHeaderError,
    WSInvalidMessageError,
    WSInvalidStatusError,
    WSInvalidUpgradeError,
)
from picows.negotiation import AgreedDeflate, WSDeflateConfig, accept_offer, check_response, offer
from picows.url import WSParsedURL

if TYPE_CHECKING:
    from picows.listener import WSListener

__all__ = [
    "ClientHandshake",
    "HeadersLike",
    "ServerHandshake",
    "WSUpgradeRequest",
    "WSUpgradeResponse",
    "WSUpgradeResponseWithListener",
]

HeadersLike = Mapping[str, str] | Iterable[tuple[str, str]]

# Request line or status line and all header fields together.
MAX_HEADER_SIZE = 16 * 1024
# How much of the body of a refusal is kept for the exception.
MAX_BODY_SIZE = 64 * 1024

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


@dataclass
class WSUpgradeRequest:
    """The HTTP request that asks for a WebSocket. `path` is the request target: path and query."""

    method: bytes = b"GET"
    path: bytes = b"/"
    version: bytes = b"HTTP/1.1"
    headers: CIMultiDict[str] = field(default_factory=CIMultiDict)


@dataclass
class WSUpgradeResponse:
    """The HTTP response to it. A status other than 101 ends the connection after the body."""

    version: bytes = b"HTTP/1.1"
    status: HTTPStatus | int = HTTPStatus.SWITCHING_PROTOCOLS  # an int where the registry does not know it: 520
    headers: CIMultiDict[str] = field(default_factory=CIMultiDict)
    body: bytes | None = None

    @classmethod
    def create_ok_response(
        cls, body: bytes | None = None, extra_headers: HeadersLike | None = None
    ) -> WSUpgradeResponse:
        """A plain 200, for a request that wants no WebSocket: a health check, a page of metrics."""
        return cls._create(HTTPStatus.OK, body, extra_headers)

    @classmethod
    def create_error_response(
        cls, status: int | HTTPStatus, body: bytes | None = None, extra_headers: HeadersLike | None = None
    ) -> WSUpgradeResponse:
        """A refusal; ValueError for a status below 400."""
        if status < 400:
            raise ValueError(f"expected an error status of 400 or more, found {int(status)}")
        return cls._create(_status(status), body, extra_headers)

    @classmethod
    def create_redirect_response(
        cls, status: int | HTTPStatus, location: str, extra_headers: HeadersLike | None = None
    ) -> WSUpgradeResponse:
        """A redirect to the URL `location`; ValueError for a status that is not 3xx."""
        if not 300 <= status < 400:
            raise ValueError(f"expected a redirect status of 300 to 399, found {int(status)}")
        response = cls._create(_status(status), None, extra_headers)
        response.headers["Location"] = location
        return response

    @classmethod
    def create_101_response(cls, extra_headers: HeadersLike | None = None) -> WSUpgradeResponse:
        """The response that opens the WebSocket, with header fields besides those that RFC 6455 needs."""
        return cls._create(HTTPStatus.SWITCHING_PROTOCOLS, None, extra_headers)

    @classmethod
    def _create(
        cls, status: HTTPStatus | int, body: bytes | None, extra_headers: HeadersLike | None
    ) -> WSUpgradeResponse:
        return cls(status=status, headers=CIMultiDict(header_pairs(extra_headers)), body=body)

    def to_bytes(self) -> bytes:
        """The response as it goes on the wire; ValueError for a header field that HTTP does not allow."""
        headers = list(self.headers.items())
        if self.status >= 200:
            if "Connection" not in self.headers:
                headers.append(("Connection", "close"))
            if "Content-Length" not in self.headers:
                headers.append(("Content-Length", str(len(self.body or b""))))
            if self.body and "Content-Type" not in self.headers:
                headers.append(("Content-Type", "text/plain; charset=utf-8"))
        event = h11.Response if self.status >= 200 else h11.InformationalResponse
        try:
            # For the check alone: a line break in a value would be a header field, or a response, of somebody else's.
            event(status_code=self.status, headers=[(n.encode("latin-1"), v.encode("latin-1")) for n, v in headers])
        except (h11.LocalProtocolError, UnicodeEncodeError) as exc:
            raise ValueError(f"header fields that HTTP does not allow: {exc}") from exc
        status_line = f"{self.version.decode('ascii')} {int(self.status)} {_phrase(self.status)}"
        lines = [status_line, *(f"{name}: {value}" for name, value in headers), "", ""]
        return "\r\n".join(lines).encode("latin-1") + (self.body or b"")


@dataclass
class WSUpgradeResponseWithListener:
    """What a server's listener factory returns to choose the response itself. `listener` is None unless it is a 101."""

    response: WSUpgradeResponse
    listener: WSListener | None = None


def header_pairs(headers: HeadersLike | None) -> list[tuple[str, str]]:
    """`headers` as a list of pairs; TypeError for a name or value that is not str."""
    if headers is None:
        return []
    pairs = list(headers.items() if isinstance(headers, Mapping) else headers)
    for name, value in pairs:
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError(f"expected header names and values of type str, found {name!r}: {value!r}")
    return pairs


def accept_key(key: str) -> str:
    """The Sec-WebSocket-Accept that answers the Sec-WebSocket-Key `key` (section 4.2.2, step 5.4)."""
    return base64.b64encode(hashlib.sha1(key.encode("latin-1") + _GUID).digest()).decode()


def tokens(headers: CIMultiDict[str], name: str) -> list[str]:
    """The elements of a comma-separated header field that may occur more than once, in lower case."""
    return [token.strip().lower() for value in headers.getall(name, ()) for token in value.split(",") if token.strip()]


def extension_names(headers: CIMultiDict[str]) -> list[str]:
    """The names of Sec-WebSocket-Extensions, without their parameters."""
    return [token.split(";")[0].strip() for token in tokens(headers, "Sec-WebSocket-Extensions")]


def reserved_bits(response: WSUpgradeResponse) -> int:
    """Which of RSV1 to RSV3 frames may set: those of the extensions that `response` agrees to (section 5.2).

    permessage-deflate uses RSV1 (RFC 7692); what an extension unknown to us uses, only the listener can tell.
    """
    names = extension_names(response.headers)
    if not names:
        return 0
    return 0x40 if set(names) == {"permessage-deflate"} else 0x70


def _status(code: int) -> HTTPStatus | int:
    try:
        return HTTPStatus(code)
    except ValueError:
        return int(code)


def _phrase(status: HTTPStatus | int) -> str:
    return status.phrase if isinstance(status, HTTPStatus) else ""


def _decoded(raw_headers: Iterable[tuple[bytes, bytes]]) -> CIMultiDict[str]:
    return CIMultiDict((name.decode("latin-1"), value.decode("latin-1")) for name, value in raw_headers)


class _HeaderBlock:
    """Collects bytes up to the empty line that ends a header block."""

    def __init__(self, max_size: int) -> None:
        if max_size <= 0:
            raise ValueError(f"expected a positive limit of the size of an HTTP header, found {max_size}")
        self._received = bytearray()
        self._max_size = max_size

    def receive(self, data: bytes) -> tuple[bytes, bytes] | None:
        """`(header block, what follows it)` when complete; WSInvalidMessageError if it is too long."""
        start = max(0, len(self._received) - 3)
        self._received += data
        end = self._received.find(b"\r\n\r\n", start)
        if end > self._max_size or (end < 0 and len(self._received) > self._max_size + 4):
            raise WSInvalidMessageError(
                f"expected at most {self._max_size} bytes of HTTP header, found more",
                raw_header=bytes(self._received[: self._max_size]),
            )
        if end < 0:
            return None
        return bytes(self._received[: end + 4]), bytes(self._received[end + 4 :])

    @property
    def received(self) -> bytes:
        return bytes(self._received)


class ClientHandshake:
    """Asks for a WebSocket at `url` and checks the answer.

    `extra_headers` add to the request; a Host among them replaces ours. `max_header_size` and `max_body_size` limit, in
    bytes, what is taken from the server. `deflate`: offer permessage-deflate.
    """

    def __init__(
        self,
        url: WSParsedURL,
        extra_headers: HeadersLike | None = None,
        *,
        max_header_size: int = MAX_HEADER_SIZE,
        max_body_size: int = MAX_BODY_SIZE,
        deflate: WSDeflateConfig | None = None,
    ) -> None:
        self.url = url
        self._key = base64.b64encode(os.urandom(16)).decode()
        host = f"[{url.host}]" if ":" in url.host else url.host
        headers = CIMultiDict(
            [
                ("Host", host if url.port == (443 if url.is_secure else 80) else f"{host}:{url.port}"),
                ("Upgrade", "websocket"),
                ("Connection", "Upgrade"),
                ("Sec-WebSocket-Version", "13"),
                ("Sec-WebSocket-Key", self._key),
            ]
        )
        if url.username is not None:
            credentials = f"{url.username}:{url.password or ''}".encode()
            headers["Authorization"] = f"Basic {base64.b64encode(credentials).decode()}"
        for name, value in header_pairs(extra_headers):
            if name.lower() in ("host", "authorization"):
                headers[name] = value
            else:
                headers.add(name, value)
        if deflate is not None:
            if "Sec-WebSocket-Extensions" in headers:
                raise ValueError(
                    "expected no Sec-WebSocket-Extensions of the user beside permessage_deflate, found one"
                )
            headers.add("Sec-WebSocket-Extensions", offer(deflate))
        self._deflate = deflate
        self.agreed_deflate: AgreedDeflate | None = None
        """What the 101 response says about permessage-deflate."""
        self.request = WSUpgradeRequest(path=url.resource_name.encode("ascii"), headers=headers)
        self.trailing = b""
        """What followed the 101 response: the first frames."""
        self._connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=max_header_size + 4)
        self._block = _HeaderBlock(max_header_size)
        self._max_body_size = max_body_size
        self._refusal: WSUpgradeResponse | None = None
        self._raw_header: bytes | None = None
        self._raw_body = bytearray()
        self._body = bytearray()

    def request_bytes(self) -> bytes:
        """The request as it goes on the wire; ValueError for a header field that HTTP does not allow."""
        try:
            request = h11.Request(
                method=self.request.method,
                target=self.request.path,
                headers=[(n.encode("latin-1"), v.encode("latin-1")) for n, v in self.request.headers.items()],
            )
            return (self._connection.send(request) or b"") + (self._connection.send(h11.EndOfMessage()) or b"")
        except (h11.LocalProtocolError, UnicodeEncodeError) as exc:
            raise ValueError(f"request that HTTP does not allow: {exc}") from exc

    def receive(self, data: bytes) -> WSUpgradeResponse | None:
        """Take received bytes; return the 101 response once it is complete and right.

        Raises WSHandshakeError for any other answer, as soon as it is complete or has reached a limit.
        """
        while self._refusal is None:
            block = self._block.receive(data)
            if block is None:
                return None
            raw_header, rest = block
            response = self._parse(raw_header)
            if response.status == HTTPStatus.SWITCHING_PROTOCOLS:
                self._check(response, raw_header)
                self.trailing = rest
                return response
            if response.status < 200:  # 100 Continue, 103 Early Hints: the real answer follows
                self._block = _HeaderBlock(self._block._max_size)
                data = rest
                continue
            self._refusal, self._raw_header, data = response, raw_header[:-4], rest
        self._receive_body(data)
        return None

    def receive_eof(self) -> NoReturn:
        """The server closed the connection before the handshake was done."""
        if self._refusal is not None:
            self._refuse()
        raise WSHandshakeError(
            "server closed the connection before it answered the upgrade request", raw_header=self._block.received
        )

    def _parse(self, raw_header: bytes) -> WSUpgradeResponse:
        try:
            self._connection.receive_data(raw_header)
            event = self._connection.next_event()
        except h11.RemoteProtocolError as exc:
            raise WSInvalidMessageError(f"malformed HTTP response: {exc}", raw_header=raw_header[:-4]) from exc
        if not isinstance(event, h11.InformationalResponse | h11.Response):
            raise WSInvalidMessageError(f"expected an HTTP response, found {event!r}", raw_header=raw_header[:-4])
        if event.http_version != b"1.1":
            raise WSInvalidMessageError(
                f"expected HTTP/1.1, found HTTP/{event.http_version.decode()}", raw_header=raw_header[:-4]
            )
        return WSUpgradeResponse(status=_status(event.status_code), headers=_decoded(event.headers.raw_items()))

    def _check(self, response: WSUpgradeResponse, raw_header: bytes) -> None:
        """Section 4.1, what the client must validate in a 101."""
        headers = response.headers

        def reject(error: type[WSInvalidHeaderError], name: str, expected: str) -> NoReturn:
            value = headers.get(name)
            raise error(f"{name}: expected {expected}, found {value!r}", name, value, raw_header[:-4], b"", response)

        if tokens(headers, "Upgrade") != ["websocket"]:
            reject(WSInvalidUpgradeError, "Upgrade", "'websocket'")
        if "upgrade" not in tokens(headers, "Connection"):
            reject(WSInvalidUpgradeError, "Connection", "'Upgrade'")
        if headers.getall("Sec-WebSocket-Accept", []) != [accept_key(self._key)]:
            reject(WSInvalidHeaderError, "Sec-WebSocket-Accept", repr(accept_key(self._key)))
        asked = extension_names(self.request.headers)
        if not set(extension_names(headers)) <= set(asked):
            reject(WSInvalidHeaderError, "Sec-WebSocket-Extensions", f"a selection of {asked}")
        if self._deflate is not None:
            try:
                self.agreed_deflate = check_response(headers.getall("Sec-WebSocket-Extensions", []), self._deflate)
            except ValueError as exc:
                value = headers.get("Sec-WebSocket-Extensions")
                raise WSInvalidHeaderError(
                    f"Sec-WebSocket-Extensions: {exc}",
                    "Sec-WebSocket-Extensions",
                    value,
                    raw_header[:-4],
                    b"",
                    response,
                ) from exc
        protocols = [p.strip() for v in self.request.headers.getall("Sec-WebSocket-Protocol", []) for p in v.split(",")]
        chosen = headers.getall("Sec-WebSocket-Protocol", [])
        if len(chosen) > 1 or any(p not in protocols for p in chosen):
            reject(WSInvalidHeaderError, "Sec-WebSocket-Protocol", f"one of {protocols}")

    def _receive_body(self, data: bytes) -> None:
        self._raw_body += data
        if data:
            try:
                self._connection.receive_data(data)
            except h11.RemoteProtocolError:
                self._refuse()
        while len(self._body) < self._max_body_size:
            try:
                event = self._connection.next_event()
            except h11.RemoteProtocolError:
                self._refuse()
            if isinstance(event, h11.Data):
                self._body += event.data
            elif event is h11.NEED_DATA:
                if len(self._raw_body) >= self._max_body_size:
                    self._refuse()
                return
            else:
                self._refuse()
        self._refuse()

    def _refuse(self) -> NoReturn:
        assert self._refusal is not None
        self._refusal.body = bytes(self._body[: self._max_body_size])
        raise WSInvalidStatusError(
            f"expected status 101, found {int(self._refusal.status)} {_phrase(self._refusal.status)}".rstrip(),
            self._raw_header,
            bytes(self._raw_body[: self._max_body_size]),
            self._refusal,
        )


class ServerHandshake:
    """Receives one request and makes the response to it.

    `max_header_size` limits, in bytes, what is taken from a client. `deflate`: accept permessage-deflate where it is
    offered, unless a response of the listener factory has Sec-WebSocket-Extensions of its own.

    1. receive() what arrives until it returns the request;
    2. respond() with what the listener factory made of it.
    """

    def __init__(self, *, max_header_size: int = MAX_HEADER_SIZE, deflate: WSDeflateConfig | None = None) -> None:
        self._deflate = deflate
        self.agreed_deflate: AgreedDeflate | None = None
        """What the 101 response says about permessage-deflate."""
        self._connection = h11.Connection(h11.SERVER, max_incomplete_event_size=max_header_size + 4)
        self._block = _HeaderBlock(max_header_size)
        self.trailing = b""
        """What followed the request: frames of a client that did not wait for the response."""

    def receive(self, data: bytes) -> WSUpgradeRequest | None:
        """Take received bytes; return the request once it is complete.

        Only an HTTP/1.1 GET without a body is one. For anything else WSHandshakeError, whose `response` is to be sent.
        """
        try:
            block = self._block.receive(data)
        except WSInvalidMessageError as exc:
            exc.response = refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, str(exc))
            raise
        if block is None:
            return None
        raw_header, self.trailing = block
        try:
            self._connection.receive_data(raw_header)
            event = self._connection.next_event()
        except h11.RemoteProtocolError as exc:
            self._reject(HTTPStatus.BAD_REQUEST, f"malformed HTTP request: {exc}", raw_header)
        if not isinstance(event, h11.Request):
            self._reject(HTTPStatus.BAD_REQUEST, "expected an HTTP request", raw_header)
        if event.http_version != b"1.1":
            found = event.http_version.decode()
            self._reject(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, f"expected HTTP/1.1, found HTTP/{found}", raw_header)
        if event.method != b"GET":
            self._reject(HTTPStatus.METHOD_NOT_ALLOWED, f"expected GET, found {event.method.decode()}", raw_header)
        headers = _decoded(event.headers.raw_items())
        if headers.get("Content-Length", "0") != "0" or "Transfer-Encoding" in headers:
            self._reject(HTTPStatus.BAD_REQUEST, "expected no request body", raw_header)
        return WSUpgradeRequest(event.method, event.target, b"HTTP/1.1", headers)

    def respond(
        self, request: WSUpgradeRequest, answer: WSListener | WSUpgradeResponseWithListener | None
    ) -> tuple[WSUpgradeResponse, WSListener | None]:
        """Turn what a listener factory returned into the response to send, and the listener if it is a 101.

        A request that may not be upgraded (section 4.2.1) gets an error instead of a 101.
        """
        if answer is None:
            return refusal(HTTPStatus.NOT_FOUND, "not found"), None
        if isinstance(answer, WSUpgradeResponseWithListener):
            response, listener = answer.response, answer.listener
            if response.status != HTTPStatus.SWITCHING_PROTOCOLS:
                return response, None
            if listener is None:
                raise ValueError("expected a listener with a 101 response, found None")
        else:
            response, listener = WSUpgradeResponse.create_101_response(), answer
        problem = self._find_problem(request)
        if problem is not None:
            return problem, None
        headers = CIMultiDict(
            [
                ("Upgrade", "websocket"),
                ("Connection", "Upgrade"),
                ("Sec-WebSocket-Accept", accept_key(request.headers["Sec-WebSocket-Key"].strip())),
            ]
        )
        headers.extend(response.headers)
        if self._deflate is not None and "Sec-WebSocket-Extensions" not in headers:
            try:
                accepted = accept_offer(request.headers.getall("Sec-WebSocket-Extensions", []), self._deflate)
            except ValueError as exc:
                return refusal(HTTPStatus.BAD_REQUEST, f"Sec-WebSocket-Extensions: {exc}"), None
            if accepted is not None:
                self.agreed_deflate, headers["Sec-WebSocket-Extensions"] = accepted
        return WSUpgradeResponse(status=HTTPStatus.SWITCHING_PROTOCOLS, headers=headers), listener

    @staticmethod
    def _find_problem(request: WSUpgradeRequest) -> WSUpgradeResponse | None:
        headers = request.headers
        if "websocket" not in tokens(headers, "Upgrade"):
            found = headers.get("Upgrade")
            return refusal(
                HTTPStatus.UPGRADE_REQUIRED, f"Upgrade: expected 'websocket', found {found!r}", Upgrade="websocket"
            )
        if "upgrade" not in tokens(headers, "Connection"):
            found = headers.get("Connection")
            return refusal(HTTPStatus.BAD_REQUEST, f"Connection: expected 'Upgrade', found {found!r}")
        if headers.getall("Sec-WebSocket-Version", []) != ["13"]:
            found = headers.get("Sec-WebSocket-Version")
            response = refusal(HTTPStatus.UPGRADE_REQUIRED, f"Sec-WebSocket-Version: expected '13', found {found!r}")
            response.headers["Sec-WebSocket-Version"] = "13"  # section 4.4
            return response
        keys = headers.getall("Sec-WebSocket-Key", [])
        if len(keys) != 1 or not _is_key(keys[0].strip()):
            return refusal(HTTPStatus.BAD_REQUEST, f"Sec-WebSocket-Key: expected 16 bytes in base64, found {keys}")
        return None

    @staticmethod
    def _reject(status: HTTPStatus, problem: str, raw_header: bytes) -> NoReturn:
        raise WSInvalidMessageError(problem, raw_header[:-4], response=refusal(status, problem))


def refusal(status: HTTPStatus, problem: str, **headers: str) -> WSUpgradeResponse:
    """An error response that says why."""
    return WSUpgradeResponse.create_error_response(status, problem.encode(), headers)


def _is_key(key: str) -> bool:
    try:
        return len(base64.b64decode(key, validate=True)) == 16
    except (binascii.Error, ValueError):
        return False
