"""Replay a recording into the strategy, then ask it for its signals over a WebSocket on loopback."""

from __future__ import annotations

import asyncio
import sys

from feeds.conflation import conflated
from feeds.recording import open_recording
from feeds.replay import Replay
from microprice.strategy import Microprice, SignalService
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect, ws_create_server


def replay(path: str, strategy: Microprice) -> Replay:
    """Play the whole recording; return the replay, which has counted."""
    host = strategy.hosted()
    host.start()
    try:
        with open_recording(path) as source:
            played = Replay(source, conflated(host))
            played.run()
    finally:
        host.stop()
    return played


class Asker(WSListener):
    """The client: asks for one symbol after the other, and leaves with the last answer."""

    def __init__(self, symbols: list[str]) -> None:
        self.symbols = iter(symbols)
        self.answers: list[str] = []

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.ask_next(transport)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.TEXT:
            self.answers.append(frame.get_payload_as_utf8_text())
            self.ask_next(transport)

    def ask_next(self, transport: WSTransport) -> None:
        symbol = next(self.symbols, None)
        if symbol is None:
            transport.disconnect()
        else:
            transport.send(WSMsgType.TEXT, symbol.encode())


async def ask(strategy: Microprice, symbols: list[str]) -> list[str]:
    """Serve the strategy on a free port of loopback, and return what it answers."""
    server = await ws_create_server(lambda request: SignalService(strategy), "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        transport, asker = await ws_connect(lambda: Asker(symbols), f"ws://127.0.0.1:{port}/")
        await transport.wait_disconnected()
    return asker.answers


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: python -m microprice RECORDING")
    strategy = Microprice()
    played = replay(sys.argv[1], strategy)
    print(f"{played.messages} messages")
    symbols = [signal.instrument.raw_symbol for signal in strategy.signals if signal is not None]
    for answer in asyncio.run(ask(strategy, [*symbols, "NOSUCH"])):
        print(answer)


if __name__ == "__main__":
    main()
