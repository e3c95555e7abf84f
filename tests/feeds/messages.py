"""Messages of Binance as bytes: every builder defaults what its caller's test is not about."""

import json

T = 1_700_000_000_000  # ms
NS = T * 1_000_000


def dump(message):
    return json.dumps(message, separators=(",", ":")).encode()


def on_stream(name, data):
    return b'{"stream":"' + name.encode() + b'","data":' + (data if isinstance(data, bytes) else dump(data)) + b"}"


def depth(first, last, bids=(), asks=(), *, symbol="BTCUSDT", previous=None, time=T, stream="depth@100ms"):
    """A delta: futures where `previous` is given, else spot."""
    data = {"e": "depthUpdate", "E": time}
    if previous is not None:
        data["T"] = time
    data |= {"s": symbol, "U": first, "u": last}
    if previous is not None:
        data["pu"] = previous
    data |= {"b": [list(level) for level in bids], "a": [list(level) for level in asks]}
    return on_stream(f"{symbol.lower()}@{stream}", data)


def snapshot(last, bids=(), asks=(), **more):
    return dump(
        {"lastUpdateId": last, **more, "bids": [list(level) for level in bids], "asks": [list(a) for a in asks]}
    )


def partial(last, bids=(), asks=(), *, symbol="BTCUSDT", levels=5):
    return on_stream(f"{symbol.lower()}@depth{levels}@100ms", snapshot(last, bids, asks))


def book_ticker(bid="100.10", ask="100.20", *, bid_qty="1.5", ask_qty="2.5", symbol="BTCUSDT", u=1, time=None):
    """A quote: futures where `time` is given, else spot."""
    data = {"u": u, "s": symbol, "b": bid, "B": bid_qty, "a": ask, "A": ask_qty}
    if time is not None:
        data = {"e": "bookTicker", **data, "T": time, "E": time}
    return on_stream(f"{symbol.lower()}@bookTicker", data)


def trade(price="100.10", qty="0.5", *, symbol="BTCUSDT", t=1, time=T, m=False, **more):
    data = {"e": "trade", "E": time, "T": time, "s": symbol, "t": t, "p": price, "q": qty, **more, "m": m}
    return on_stream(f"{symbol.lower()}@trade", data)


def agg_trade(price="100.10", qty="0.5", *, symbol="BTCUSDT", a=1, time=T, m=False):
    data = {"e": "aggTrade", "E": time, "s": symbol, "a": a, "p": price, "q": qty, "f": 1, "l": 1, "T": time, "m": m}
    return on_stream(f"{symbol.lower()}@aggTrade", data)
