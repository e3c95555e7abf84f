"""A server that sends to many clients and waits for none: who does not keep up misses messages, then is dropped.

python examples/websocket_broadcast.py
"""

from __future__ import annotations

import asyncio

from picows import WSCloseCode, WSFrame, WSListener, WSMsgType, WSTransport, ws_connect, ws_create_server

MAX_SKIPPED = 100


class Subscription(WSListener):
    """One client. While more than the high-water mark waits to be sent to it, it gets nothing new."""

    transport: WSTransport
    is_slow = False
    skipped = 0

    def __init__(self, subscriptions: set[Subscription]) -> None:
        self.subscriptions = subscriptions

    def on_ws_connected(self, transport: WSTransport) -> None:
        transport.underlying_transport.set_write_buffer_limits(high=256 * 1024)
        self.transport = transport
        self.subscriptions.add(self)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self.subscriptions.discard(self)

    def pause_writing(self) -> None:
        self.is_slow = True

    def resume_writing(self) -> None:
        self.is_slow = False
        self.skipped = 0

    def publish(self, message: bytes) -> None:
        if not self.is_slow:
            self.transport.send(WSMsgType.BINARY, message)
            return
        self.skipped += 1
        if self.skipped > MAX_SKIPPED:
            print("dropping a client that does not read")
            self.transport.send_close(WSCloseCode.TRY_AGAIN_LATER, "too slow")
            self.transport.disconnect(graceful=False)  # gracefully would wait until it reads


class Reader(WSListener):
    def __init__(self) -> None:
        self.messages: asyncio.Queue[bytes] = asyncio.Queue()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.BINARY:
            self.messages.put_nowait(frame.get_payload_as_bytes())


async def main() -> None:
    subscriptions: set[Subscription] = set()
    server = await ws_create_server(lambda request: Subscription(subscriptions), "127.0.0.1", 0)
    url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    reader = Reader()
    fast, _ = await ws_connect(lambda: reader, url)
    slow, _ = await ws_connect(WSListener, url)
    slow.underlying_transport.pause_reading()

    published = received = 0
    while len(subscriptions) > 1:
        message = published.to_bytes(64 * 1024, "big")
        for subscription in list(subscriptions):
            subscription.publish(message)
        published += 1
        received += await reader.messages.get() == message
    print("the client that reads has every message:", received == published)

    fast.disconnect()
    slow.disconnect(graceful=False)
    await fast.wait_disconnected()
    await slow.wait_disconnected()
    server.close()


if __name__ == "__main__":
    asyncio.run(main())
