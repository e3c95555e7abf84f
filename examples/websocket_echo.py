"""The WebSocket core alone: an echo server and a client that sees where a burst ends.

python examples/websocket_echo.py
"""

from __future__ import annotations

import asyncio

from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect, ws_create_server


class Echo(WSListener):
    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code())
            transport.disconnect()
        else:
            transport.send(frame.msg_type, frame.get_payload_as_bytes())


class Client(WSListener):
    received = 0

    def on_ws_connected(self, transport: WSTransport) -> None:
        for number in range(3):
            transport.send(WSMsgType.TEXT, f"message {number}")

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        # A frame is a view of the receive buffer: copy what you want to keep.
        print(frame.get_payload_as_utf8_text(), "- and that was all, for now" if frame.last_in_buffer else "")
        self.received += 1
        if self.received == 3:
            transport.send_close()
            transport.disconnect()


async def main() -> None:
    server = await ws_create_server(lambda request: Echo(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    transport, _ = await ws_connect(Client, f"ws://127.0.0.1:{port}/")
    await transport.wait_disconnected()
    server.close()


if __name__ == "__main__":
    asyncio.run(main())
