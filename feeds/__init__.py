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
    Event,
    EventHandler,
    Fanout,
    FeedStatus,
    Quote,
    Side,
    Stage,
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
    "ConfigError",
    "Conflator",
    "DecodeError",
    "Event",
    "EventHandler",
    "Fanout",
    "FeedStatus",
    "FeedsError",
    "FetchError",
    "Instrument",
    "Instruments",
    "Level",
    "OrderBook",
    "Pipeline",
    "Quote",
    "Side",
    "Stage",
    "Subscription",
    "SubscriptionRefused",
    "Trade",
    "UnknownExchange",
    "UnknownSymbol",
    "conflated",
]
