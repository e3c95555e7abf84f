"""A listener that writes down what happens to it."""

from __future__ import annotations

import asyncio
from typing import Any

from picows import WSFrame, WSListener, WSTransport


class Recorder(WSListener):
    """`events` in order; `await next_frame()` for `(msg_type, payload)` of the next frame not yet taken."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.transport: WSTransport | None = None
        self.frames: asyncio.Queue[tuple[int, bytes]] = asyncio.Queue()
        self.last_flags: list[tuple[bytes, bool, int]] = []

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport
        self.events.append("connected")

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        payload = frame.get_payload_as_bytes()
        self.events.append((int(frame.msg_type), payload))
        self.last_flags.append((payload, bool(frame.last_in_buffer), frame.tail_size))
        self.frames.put_nowait((int(frame.msg_type), payload))

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        assert transport.is_disconnected
        self.events.append("disconnected")

    async def next_frame(self) -> tuple[int, bytes]:
        return await self.frames.get()


class Echo(Recorder):
    """Sends every data frame back."""

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        super().on_ws_frame(transport, frame)
        if frame.msg_type <= 2:
            transport.send(frame.msg_type, frame.get_payload_as_bytes(), bool(frame.fin))


def read_buffer_capacity(transport: WSTransport) -> int:
    """Bytes that the connection's read buffer takes at the moment."""
    return transport.underlying_transport.get_protocol().parser.buffer.capacity  # type: ignore[attr-defined]
