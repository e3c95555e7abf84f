"""Our live feed, as it comes: python ours.py EXCHANGE WS_URL REST_URL SYMBOL..."""

from __future__ import annotations

import sys

import uvloop
from reporting import show, tell, withdraw

from feeds.book import BookState
from feeds.events import BookStatus, BookUpdate, EventHandler, FeedStatus
from feeds.exchange import Endpoints, exchange
from feeds.live.feed import LiveFeed
from feeds.subscription import Subscription

CHANNELS = {"binance": ("book",), "binance-futures": ("book",)}  # else with trades


class Report(EventHandler):
    def on_book(self, event: BookUpdate) -> None:
        if event.book.state == BookState.LIVE:
            show(event.instrument.raw_symbol, event.book.exact(0), event.book.exact(1))

    def on_book_status(self, event: BookStatus) -> None:
        if event.new != BookState.LIVE:
            withdraw(event.instrument.raw_symbol)
        tell("status", f"{event.instrument.raw_symbol} {event.new.name}: {event.reason}")

    def on_feed_status(self, event: FeedStatus) -> None:
        tell("status", f"{event.status}: {event.reason}")


async def main(name: str, ws_url: str, rest_url: str, *symbols: str) -> None:
    subscriptions = [Subscription(symbol, CHANNELS.get(name, ("book", "trade"))) for symbol in symbols]
    endpoints = Endpoints(ws=ws_url, rest=rest_url)
    async with LiveFeed(exchange(name), subscriptions, Report(), endpoints=endpoints) as feed:
        await feed.run()


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
