"""A client that comes back: exponential backoff with jitter, reset by a connection that worked.

python examples/websocket_reconnect.py
"""

from __future__ import annotations

import asyncio
import random

from picows import WSError, WSFrame, WSListener, WSMsgType, WSTransport, ws_connect, ws_create_server

FIRST_DELAY, MAX_DELAY = 0.01, 30.0  # seconds; a real client begins with a second


class Subscriber(WSListener):
    received: int = 0

    def on_ws_connected(self, transport: WSTransport) -> None:
        transport.send(WSMsgType.TEXT, "subscribe")  # after each reconnect anew: the server forgot us

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.TEXT:
            print("received", frame.get_payload_as_utf8_text())
            self.received += 1


async def stay_connected(url: str, connections: int) -> None:
    delay = FIRST_DELAY
    while connections:
        try:
            # Auto ping finds out that a peer is gone when the network says nothing.
            transport, listener = await ws_connect(Subscriber, url, enable_auto_ping=True)
            await transport.wait_disconnected()
        except (OSError, WSError, asyncio.TimeoutError) as exc:
            print("failed:", type(exc).__name__)
        else:
            connections -= 1
            if isinstance(listener, Subscriber) and listener.received:
                delay = FIRST_DELAY
        # Jitter: a thousand clients of a server that restarts do not come back in the same millisecond.
        await asyncio.sleep(delay * random.uniform(0.5, 1))
        delay = min(2 * delay, MAX_DELAY)


class HangsUp(WSListener):
    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.TEXT:
            transport.send(WSMsgType.TEXT, "one message")
            transport.send_close(1012)


async def main() -> None:
    answers = iter([None, HangsUp(), HangsUp()])  # first a 404
    server = await ws_create_server(lambda request: next(answers), "127.0.0.1", 0)
    await stay_connected(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/", connections=2)
    server.close()


if __name__ == "__main__":
    asyncio.run(main())
