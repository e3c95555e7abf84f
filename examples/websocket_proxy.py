"""A wss client that gets out through an HTTP proxy with a password. Needs trustme, which makes the certificates.

python examples/websocket_proxy.py
"""

from __future__ import annotations

import asyncio
import base64
import ssl

import trustme

from picows import WSListener, WSMsgType, WSProxyError, WSTransport, ws_connect, ws_create_server

CREDENTIALS = base64.b64encode(b"trader:secret")


class Greeter(WSListener):
    def on_ws_connected(self, transport: WSTransport) -> None:
        transport.send(WSMsgType.TEXT, "hello")


async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass  # the other end is told by the close, too
    writer.close()


async def serve_proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """What a company's proxy does, without looking at where it leads."""
    request = await reader.readuntil(b"\r\n\r\n")
    target = request.split()[1].decode()
    if b"Proxy-Authorization: Basic " + CREDENTIALS not in request:
        writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
        writer.close()
        return
    print("proxy: tunnel to", target.partition(":")[0])
    behind_reader, behind = await asyncio.open_connection(*target.split(":"))
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    await asyncio.gather(relay(reader, behind), relay(behind_reader, writer))


async def main() -> None:
    authority = trustme.CA()
    server_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(server_context)
    server = await ws_create_server(lambda request: Greeter(), "127.0.0.1", 0, ssl=server_context)
    proxy = await asyncio.start_server(serve_proxy, "127.0.0.1", 0)

    client_context = ssl.create_default_context()
    authority.configure_trust(client_context)
    url = f"wss://localhost:{server.sockets[0].getsockname()[1]}/"
    address = f"127.0.0.1:{proxy.sockets[0].getsockname()[1]}"
    try:
        await ws_connect(WSListener, url, ssl_context=client_context, proxy=f"http://{address}")
    except WSProxyError as exc:
        print("without credentials:", exc.code)
    transport, _ = await ws_connect(
        WSListener, url, ssl_context=client_context, proxy=f"http://trader:secret@{address}"
    )
    print("connected; encrypted up to the server:", transport.is_secure)
    transport.disconnect()
    await transport.wait_disconnected()
    proxy.close()
    server.close()


if __name__ == "__main__":
    asyncio.run(main())
