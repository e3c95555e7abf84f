"""Serve echoes on loopback, or measure how long one takes."""

from __future__ import annotations

import argparse
import time

import uvloop

from echo.listeners import Echo, Pinger
from picows import start_busy_polling, ws_connect, ws_create_server


async def serve() -> None:
    server = await ws_create_server(lambda request: Echo(), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


async def ping(port: int, rounds: int, size: int, busy_poll: bool) -> None:
    if busy_poll:
        start_busy_polling()
    transport, pinger = await ws_connect(lambda: Pinger(rounds, size), f"ws://127.0.0.1:{port}/")
    began = time.perf_counter()
    await transport.wait_disconnected()
    microseconds = (time.perf_counter() - began) / rounds * 1e6
    print(f"{pinger.sent} round trips of {size} bytes, {pinger.wrong} wrong: {microseconds:.1f} us each")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m echo", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("serve", help="print the port, and serve until Ctrl-C")
    client = commands.add_parser("ping")
    client.add_argument("port", type=int)
    client.add_argument("--rounds", type=int, default=10_000)
    client.add_argument("--size", type=int, default=256, help="bytes, 4 to 4096")
    client.add_argument("--busy-poll", action="store_true", help="never sleep, which takes a processor")
    options = parser.parse_args()
    if options.command == "ping":
        uvloop.run(ping(options.port, options.rounds, options.size, options.busy_poll))
        return
    try:
        uvloop.run(serve())
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
