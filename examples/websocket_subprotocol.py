"""A server that speaks two versions of a protocol and chooses what the client likes best.

python examples/websocket_subprotocol.py
"""

from __future__ import annotations

import asyncio

from picows import (
    WSInvalidStatusError,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
    ws_connect,
    ws_create_server,
)

SPOKEN = ("quotes.v2", "quotes.v1")


class Quotes(WSListener):
    def __init__(self, protocol: str) -> None:
        self.protocol = protocol

    def on_ws_connected(self, transport: WSTransport) -> None:
        transport.send(WSMsgType.TEXT, f"welcome to {self.protocol}")


def choose(request: WSUpgradeRequest) -> WSUpgradeResponseWithListener:
    offered = [name.strip() for name in request.headers.get("Sec-WebSocket-Protocol", "").split(",")]
    for name in offered:  # in the client's order of preference
        if name in SPOKEN:
            response = WSUpgradeResponse.create_101_response({"Sec-WebSocket-Protocol": name})
            return WSUpgradeResponseWithListener(response, Quotes(name))
    return WSUpgradeResponseWithListener(WSUpgradeResponse.create_error_response(400, b"no common subprotocol"))


async def main() -> None:
    server = await ws_create_server(choose, "127.0.0.1", 0)
    url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    for offer in ("quotes.v3, quotes.v2, quotes.v1", "quotes.v1", "chat"):
        try:
            transport, _ = await ws_connect(WSListener, url, extra_headers={"Sec-WebSocket-Protocol": offer})
        except WSInvalidStatusError as refusal:
            assert refusal.response is not None
            print(f"{offer}: {(refusal.response.body or b'').decode()}")
        else:
            print(f"{offer}: {transport.response.headers['Sec-WebSocket-Protocol']}")
            transport.disconnect()
            await transport.wait_disconnected()
    server.close()


if __name__ == "__main__":
    asyncio.run(main())
