"""Exchange market data: messages in, normalised events and exact order books out."""

from feeds.book import BookSide, BookState, Level, OrderBook
from feeds.book_builder import BookBuilder
from feeds.conflation import Conflator, conflated
from feeds.errors import (
    ConfigError,
    DecodeError,
    FeedsError,
    FetchError,
    SubscriptionRefused,
    UnknownExchange,
    UnknownSymbol,
)
from feeds.events import (
    BookDelta,
    BookStatus,
    BookUpdate,
    Candle,
    Event,
    EventHandler,
    Fanout,
    FeedStatus,
    Funding,
    Liquidation,
    OpenInterest,
    Quote,
    Side,
    Stage,
    Ticker,
    Trade,
)
from feeds.instrument import Instrument, Instruments
from feeds.pipeline import Pipeline
from feeds.subscription import Subscription

__all__ = [
    "BookBuilder",
    "BookDelta",
    "BookSide",
    "BookState",
    "BookStatus",
    "BookUpdate",
    "Candle",
    "ConfigError",
    "Conflator",
    "DecodeError",
    "Event",
    "EventHandler",
    "Fanout",
    "FeedStatus",
    "FeedsError",
    "FetchError",
    "Funding",
    "Instrument",
    "Instruments",
    "Level",
    "Liquidation",
    "OpenInterest",
    "OrderBook",
    "Pipeline",
    "Quote",
    "Side",
    "Stage",
    "Subscription",
    "SubscriptionRefused",
    "Ticker",
    "Trade",
    "UnknownExchange",
    "UnknownSymbol",
    "conflated",
]
