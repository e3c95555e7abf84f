"""A server and a client over TLS, with an authority of their own. Needs trustme, which makes the certificates.

python examples/websocket_tls.py
"""

from __future__ import annotations

import asyncio
import ssl

import trustme

from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect, ws_create_server


class Echo(WSListener):
    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.TEXT:
            transport.send(WSMsgType.TEXT, frame.get_payload_as_bytes())


class Client(WSListener):
    def on_ws_connected(self, transport: WSTransport) -> None:
        transport.send(WSMsgType.TEXT, "for your eyes only")

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.TEXT:
            print(frame.get_payload_as_utf8_text())
            transport.send_close(1000)


async def main() -> None:
    authority = trustme.CA()
    server_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(server_context)
    server = await ws_create_server(lambda request: Echo(), "127.0.0.1", 0, ssl=server_context)
    url = f"wss://localhost:{server.sockets[0].getsockname()[1]}/"

    try:
        await ws_connect(Client, url)
    except ssl.SSLCertVerificationError as exc:
        print("refused:", exc.verify_message)  # by default only the system's authorities are trusted

    client_context = ssl.create_default_context()
    authority.configure_trust(client_context)
    transport, _ = await ws_connect(Client, url, ssl_context=client_context)
    await transport.wait_disconnected()
    server.close()


if __name__ == "__main__":
    asyncio.run(main())
