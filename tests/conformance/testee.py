"""What the conformance suite talks to: echoes every message, as a server or as a client.

usage: python -m tests.conformance.testee server PORT | client URL AGENT
"""

from __future__ import annotations

import asyncio
import logging
import sys

from picows import (
    WSDeflateConfig,
    WSFrame,
    WSListener,
    WSMsgType,
    WSProtocolError,
    WSTransport,
    ws_connect,
    ws_create_server,
)
from picows.assembler import MessageAssembler

LIMIT = 64 * 1024 * 1024
DEFLATE = WSDeflateConfig(threshold=0, max_message_size=LIMIT)


class Messages(WSListener):
    """Puts messages together, and hands them to on_message()."""

    def __init__(self) -> None:
        self.assembler = MessageAssembler(LIMIT)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type <= WSMsgType.BINARY:
            message = self.assembler.add_frame(frame)
            if message is not None:
                self.on_message(transport, *message)

    def on_message(self, transport: WSTransport, msg_type: WSMsgType, payload: bytes) -> None:
        raise NotImplementedError


class Echo(Messages):
    def on_message(self, transport: WSTransport, msg_type: WSMsgType, payload: bytes) -> None:
        transport.send(msg_type, payload)


class CaseCount(Messages):
    count = 0

    def on_message(self, transport: WSTransport, msg_type: WSMsgType, payload: bytes) -> None:
        self.count = int(payload)


async def serve(port: int) -> None:
    server = await ws_create_server(
        lambda _: Echo(), "127.0.0.1", port, max_frame_size=LIMIT, permessage_deflate=DEFLATE
    )
    await server.serve_forever()


async def run_cases(url: str, agent: str) -> None:
    transport, counter = await ws_connect(CaseCount, f"{url}/getCaseCount")
    await transport.wait_disconnected()
    assert isinstance(counter, CaseCount)
    for case in range(1, counter.count + 1):
        transport, _ = await ws_connect(
            Echo, f"{url}/runCase?case={case}&agent={agent}", max_frame_size=LIMIT, permessage_deflate=DEFLATE
        )
        try:
            await transport.wait_disconnected()
        except WSProtocolError:
            pass  # most cases break a rule


def main() -> None:
    logging.getLogger("picows").setLevel(logging.CRITICAL)
    mode, *arguments = sys.argv[1:]
    if mode == "server":
        asyncio.run(serve(int(arguments[0])))
    else:
        asyncio.run(run_cases(*arguments))


if __name__ == "__main__":
    main()
