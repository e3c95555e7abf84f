"""How old is what arrives? An event loop that never sleeps, and frames that know when the kernel had them.

python examples/websocket_latency.py
"""

from __future__ import annotations

import asyncio
import sys
import time

from picows import WSFrame, WSListener, WSMsgType, WSTransport, start_busy_polling, ws_connect, ws_create_server


class Server(WSListener):
    def on_ws_connected(self, transport: WSTransport) -> None:
        self.task = asyncio.ensure_future(self.quote(transport))

    async def quote(self, transport: WSTransport) -> None:
        for number in range(5):
            transport.send(WSMsgType.TEXT, f"quote {number}")
            await asyncio.sleep(0.01)
        transport.send_close()


class Client(WSListener):
    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.TEXT:
            age = time.time_ns() - frame.kernel_time_ns if frame.kernel_time_ns else None
            said = "age unknown" if age is None else f"{age / 1000:.0f} us after the kernel had it"
            print(f"{frame.get_payload_as_utf8_text()}: {said}")


async def main() -> None:
    server = await ws_create_server(lambda request: Server(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    poller = start_busy_polling()  # takes a processor for itself, which is what it costs
    transport, _ = await ws_connect(Client, f"ws://127.0.0.1:{port}/", kernel_time=sys.platform == "linux")
    await transport.wait_disconnected()
    poller.stop()
    server.close()


if __name__ == "__main__":
    asyncio.run(main())
