"""cryptofeed, with its defaults: python cryptofeed_client.py EXCHANGE WS_URL REST_URL SYMBOL...

Runs with a Python that has it, and none of ours. The addresses are those of the simulator, and without TLS, which
cryptofeed insists on until the connections are made; the symbols are given, since simulators do not serve all the lists
that it asks for. Nothing else is changed.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import sys
import tempfile
from typing import ClassVar

from cryptofeed import FeedHandler, exchanges
from cryptofeed.defines import L2_BOOK, PERPETUAL, SPOT, TRADES
from cryptofeed.symbols import Symbols
from reporting import LogReport, show

# The class of each exchange, and how it writes the exchange's symbols.
FEEDS = {
    "binance": ("Binance", "{}-USDT"),
    "binance-futures": ("BinanceFutures", "{}-USDT-PERP"),
    "bybit": ("Bybit", "{}-USDT-PERP"),
    "coinbase-advanced": ("Coinbase", "{}-USD"),
    "deribit": ("Deribit", "{}-USD-PERP"),
    "gateio": ("Gate", "{}-USDT"),
    "kraken": ("Kraken", "{}-USD"),
    "okx": ("OKX", "{}-USDT"),
}


def main(exchange, ws_url, rest_url, *symbols):
    name, form = FEEDS[exchange]
    cls = getattr(exchanges, name)
    channels = [L2_BOOK] if name.startswith("Binance") else [L2_BOOK, TRADES]

    class Simulated(cls):
        websocket_endpoints: ClassVar = [_moved(one, "wss://", ws_url) for one in cls.websocket_endpoints]
        rest_endpoints: ClassVar = [_moved(one, "http://", rest_url) for one in cls.rest_endpoints]

        def connect(self):
            made = super().connect()
            for connection, *_ in made:
                connection.address = connection.address.replace("wss://", "ws://")
            return made

    async def on_book(book, _):
        sides = book.book.to_dict()
        show(feed.std_symbol_to_exchange_symbol(book.symbol), sides["bid"].items(), sides["ask"].items())

    async def on_trade(*_):
        pass

    names = {form.format(symbol[:3].upper()): symbol for symbol in symbols}
    kind = PERPETUAL if form.endswith("-PERP") else SPOT
    Symbols.set(cls.id, names, {"instrument_type": dict.fromkeys(names, kind)})
    feed = Simulated(symbols=list(names), channels=channels, callbacks={L2_BOOK: on_book, TRADES: on_trade})
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # where it writes its log
        handler = FeedHandler()
        logging.getLogger("cryptofeed").addHandler(LogReport())
        handler.add_feed(feed)
        handler.run()


def _moved(endpoint, scheme, url):
    """Return an endpoint with its path at another place."""
    path = endpoint.address.partition("://")[2].partition("/")[1:]
    return dataclasses.replace(endpoint, address=scheme + url.partition("://")[2] + "".join(path))


if __name__ == "__main__":
    main(*sys.argv[1:])
