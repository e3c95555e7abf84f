"""States that a peer can bring a connection into and then leave it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from tests.hostile.peer import Peer, TlsPeer, Victim
from tests.picows.wire import BINARY, CLOSE, PING, TEXT, request, response_101

OpenState = Callable[[Peer, Victim], Awaitable[None]]


async def idle(peer: Peer, victim: Victim) -> None:
    """The handshake is done, and nothing else."""


async def echoed(peer: Peer, victim: Victim) -> None:
    await peer.command(b"echo")
    await peer.read_frame()


async def half_a_header(peer: Peer, victim: Victim) -> None:
    await peer.send(peer.frame(BINARY, bytes(1000))[:1])


async def half_a_length(peer: Peer, victim: Victim) -> None:
    await peer.send(peer.frame(BINARY, bytes(70_000))[:5])


async def half_a_payload(peer: Peer, victim: Victim) -> None:
    await peer.send(peer.frame(BINARY, bytes(70_000))[:40_000])


async def half_a_ping(peer: Peer, victim: Victim) -> None:
    await peer.send(peer.frame(PING, b"are you there")[:8])


async def between_fragments(peer: Peer, victim: Victim) -> None:
    await peer.send(peer.frame(TEXT, b"first of two", fin=False))


async def frames_unread(peer: Peer, victim: Victim) -> None:
    """The RST overtakes what the victim has to read and to answer."""
    await peer.send(peer.frame(TEXT, b"echo") * 500)


async def pongs_unread(peer: Peer, victim: Victim) -> None:
    await peer.send(peer.frame(PING, bytes(125)) * 500)


async def half_a_close(peer: Peer, victim: Victim) -> None:
    await peer.send(peer.frame(CLOSE, b"\x03\xe8")[:3])


async def close_just_sent(peer: Peer, victim: Victim) -> None:
    await peer.send(peer.frame(CLOSE, b"\x03\xe9"))


async def close_answered(peer: Peer, victim: Victim) -> None:
    await peer.send(peer.frame(CLOSE, b"\x03\xe9"))
    await peer.read_close()


async def close_received(peer: Peer, victim: Victim) -> None:
    await peer.command(b"close")
    await peer.read_close()


async def close_exchanged(peer: Peer, victim: Victim) -> None:
    await peer.command(b"close")
    await peer.read_close()
    await peer.send(peer.frame(CLOSE, b"\x03\xe8"))


async def victim_disconnecting(peer: Peer, victim: Victim) -> None:
    """It has unsent bytes, and waits for them to go."""
    await peer.command(b"flood")
    await victim.writing_paused.wait()
    await peer.command(b"disconnect")


async def writing_paused(peer: Peer, victim: Victim) -> None:
    await peer.command(b"flood")
    await victim.writing_paused.wait()


async def reading_paused(peer: Peer, victim: Victim) -> None:
    await peer.command(b"pause")
    await victim.reading_paused.wait()
    await peer.send(peer.frame(BINARY, bytes(10_000)))


async def rule_broken(peer: Peer, victim: Victim) -> None:
    await peer.send(b"\xff" * 50)


OPEN_STATES: dict[str, OpenState] = {
    state.__name__: state
    for state in (
        idle,
        echoed,
        half_a_header,
        half_a_length,
        half_a_payload,
        half_a_ping,
        between_fragments,
        frames_unread,
        pongs_unread,
        half_a_close,
        close_just_sent,
        close_answered,
        close_received,
        close_exchanged,
        victim_disconnecting,
        writing_paused,
        reading_paused,
        rule_broken,
    )
}

# Before the WebSocket is open, at a server: what a client has sent.
REQUESTS: dict[str, bytes] = {
    "nothing": b"",
    "one byte": b"G",
    "half a request": request()[:60],
    "all but the last byte": request()[:-1],
    "a request": request(),
    "a request and frames": request() + b"\x81\x84\x00\x00\x00\x00echo" * 3,
    "a request that is refused": request(Sec_WebSocket_Key=b"short"),
    "no HTTP": b"\x16\x03\x01\r\n\r\n",
}

# The same at a client: what a server has answered. None: it has not even read the request.
RESPONSES: dict[str, Callable[[bytes], bytes] | None] = {
    "not read": None,
    "nothing": lambda _: b"",
    "one byte": lambda _: b"H",
    "half a response": lambda request: response_101(request)[:70],
    "all but the last byte": lambda request: response_101(request)[:-1],
    "a response": response_101,
    "a response and frames": lambda request: response_101(request) + b"\x81\x04echo" * 3,
    "half a refusal": lambda _: b"HTTP/1.1 403 Forbidden\r\nContent-Length: 10\r\n\r\nhalf",
    "no HTTP": lambda _: b"\x16\x03\x01\r\n\r\n",
}

# ---- TLS: how far the peer comes; each returns with the connection in that state ------------------


async def tls_nothing(peer: TlsPeer) -> None:
    """Connected."""


async def tls_half_a_flight(peer: TlsPeer) -> None:
    if not peer.is_client:
        await peer.receive_flight()
    await peer.send_raw(peer.flight()[:50])


async def tls_a_flight(peer: TlsPeer) -> None:
    if not peer.is_client:
        await peer.receive_flight()
    await peer.send_raw(peer.flight())
    if peer.is_client:
        await peer.receive_flight()


async def tls_garbage(peer: TlsPeer) -> None:
    await peer.send_raw(b"\x16\x03\x01\x00\x05nonsense that is no handshake")


async def tls_shaken_hands(peer: TlsPeer) -> None:
    await peer.shake_hands()


async def tls_half_an_upgrade(peer: TlsPeer) -> None:
    await peer.shake_hands()
    await peer.send_raw(peer.encrypted(request() if peer.is_client else b"HTTP/1.1 101 ")[:30])


async def tls_open(peer: TlsPeer) -> None:
    await peer.shake_hands()
    await peer.upgrade()


async def tls_half_a_record(peer: TlsPeer) -> None:
    await tls_open(peer)
    await peer.send_raw(peer.encrypted(peer.frame(BINARY, bytes(1000)))[:500])


async def tls_bad_record(peer: TlsPeer) -> None:
    await tls_open(peer)
    await peer.send_raw(b"\x17\x03\x03\x00\x20" + bytes(32))


# In these the victim's TLS handshake is not done.
TLS_HANDSHAKES: dict[str, Callable[[TlsPeer], Awaitable[None]]] = {
    state.__name__: state for state in (tls_nothing, tls_half_a_flight, tls_a_flight, tls_garbage)
}
TLS_STATES: dict[str, Callable[[TlsPeer], Awaitable[None]]] = {
    state.__name__: state
    for state in (tls_shaken_hands, tls_half_an_upgrade, tls_open, tls_half_a_record, tls_bad_record)
}


async def settle() -> None:
    """Let the event loop do what is due."""
    for _ in range(5):
        await asyncio.sleep(0)
