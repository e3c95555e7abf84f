"""Messages in fragments: sent as they are produced, put together with a limit where they arrive.

python examples/websocket_fragments.py
"""

from __future__ import annotations

import asyncio
from functools import partial

from picows import (
    WSCloseCode,
    WSFrame,
    WSListener,
    WSMsgType,
    WSProtocolError,
    WSTransport,
    ws_connect,
    ws_create_server,
)
from picows.assembler import MessageAssembler

REPORT = bytes(range(100)) * 1000


def send_in_fragments(transport: WSTransport, message: bytes, size: int) -> None:
    """A frame with the type, CONTINUATION frames behind it, `fin` in the last one alone (RFC 6455 section 5.4)."""
    msg_type = WSMsgType.BINARY
    for begin in range(0, len(message), size):
        transport.send(msg_type, message[begin : begin + size], fin=begin + size >= len(message))
        msg_type = WSMsgType.CONTINUATION


class Reporter(WSListener):
    def on_ws_connected(self, transport: WSTransport) -> None:
        send_in_fragments(transport, REPORT, 16_000)


class Reader(WSListener):
    """`max_message_size` bounds the memory: max_frame_size alone lets a peer send fragments without end."""

    def __init__(self, max_message_size: int) -> None:
        self.assembler = MessageAssembler(max_message_size)
        self.frames = 0

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type > WSMsgType.BINARY:
            return  # control frames may come between fragments
        self.frames += 1
        message = self.assembler.add_frame(frame)  # raises WSProtocolError, which closes with the right code
        if message is not None:
            _, payload = message
            print(f"{self.frames} frames, one message of {len(payload)} bytes: {payload == REPORT}")
            transport.send_close(WSCloseCode.OK)


async def main() -> None:
    server = await ws_create_server(lambda request: Reporter(), "127.0.0.1", 0)
    url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    for max_message_size in (1_000_000, 50_000):
        transport, _ = await ws_connect(partial(Reader, max_message_size), url)
        try:
            await transport.wait_disconnected()
        except WSProtocolError as exc:
            print("refused:", exc.code.name)
    server.close()


if __name__ == "__main__":
    asyncio.run(main())
