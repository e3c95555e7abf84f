"""WebSockets, a health check and metrics on one port: the listener factory routes every request.

python examples/websocket_health.py
"""

from __future__ import annotations

import asyncio
import urllib.request

from picows import (
    WSListener,
    WSTransport,
    WSUpgradeRequest,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
    ws_connect,
    ws_create_server,
)


class Feed(WSListener):
    connected = 0

    def on_ws_connected(self, transport: WSTransport) -> None:
        Feed.connected += 1

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        Feed.connected -= 1


def route(request: WSUpgradeRequest) -> WSListener | WSUpgradeResponseWithListener | None:
    if request.path == b"/feed":
        return Feed()  # 101, or 426 for who asks for no WebSocket
    if request.path == b"/health":
        return WSUpgradeResponseWithListener(WSUpgradeResponse.create_ok_response(b"ok"))
    if request.path == b"/metrics":
        body = f"feed_connections {Feed.connected}\n".encode()
        return WSUpgradeResponseWithListener(WSUpgradeResponse.create_ok_response(body))
    return None  # 404


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as response:
        return f"{response.status} {response.read().decode().strip()}"


async def main() -> None:
    server = await ws_create_server(route, "127.0.0.1", 0)
    address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    transport, _ = await ws_connect(WSListener, f"ws://{address}/feed")
    for path in ("/health", "/metrics"):
        print(path, await asyncio.to_thread(get, f"http://{address}{path}"))
    transport.disconnect()
    await transport.wait_disconnected()
    server.close()


if __name__ == "__main__":
    asyncio.run(main())
