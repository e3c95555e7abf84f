# Normalised events and the one interface that everything after the decoder implements.
#
# Prices and quantities are int64 mantissas at the decimals that the event carries; `price_decimals` and `qty_decimals` are
# those of the instrument when the event was made. Times are ns since the epoch, 0 = unknown.
#
# Emitters reuse an event object when nobody else holds it, so an event may be kept: whoever keeps one owns it from then on.
from libc.stdint cimport int8_t, int64_t

from feeds.book cimport BookState, OrderBook
from feeds.instrument cimport Instrument
from feeds.levels cimport LevelVector


cpdef enum Side:
    UNKNOWN = 0
    BUY = 1
    SELL = 2


# A number with decimals of its own, for what is not a price or a quantity of a book: the exchange writes it as it likes, and
# it must not make the instrument's decimals grow.
cdef struct Number:
    int64_t mantissa
    int8_t decimals
    bint is_known            # False: the exchange did not send it


cdef class Event:
    cdef:
        readonly Instrument instrument
        readonly int64_t ts_event
        readonly int64_t ts_recv
        readonly int8_t price_decimals
        readonly int8_t qty_decimals

    # Calls the `on_<kind>` of this event's kind.
    cpdef dispatch(self, EventHandler handler)
    # Sets the fields of this class.
    cdef inline int begin(self, Instrument instrument, int64_t ts_event, int64_t ts_recv) except -1:
        self.instrument = instrument
        self.ts_event = ts_event
        self.ts_recv = ts_recv
        if instrument is not None:
            self.price_decimals = <int8_t> instrument.price_decimals
            self.qty_decimals = <int8_t> instrument.qty_decimals
        return 0


cdef class Trade(Event):
    cdef:
        int64_t price_mantissa
        int64_t qty_mantissa
        int64_t numeric_id       # -1 where the id is text or unknown
        object text_id
        Side _side               # the aggressor's
        readonly bint is_backlog # happened before the subscription, and may have been told before


cdef class Quote(Event):
    cdef:
        # A side is missing where its quantity is 0; a quantity is unknown where it is -1.
        int64_t bid_price_mantissa
        int64_t bid_qty_mantissa
        int64_t ask_price_mantissa
        int64_t ask_qty_mantissa
        readonly int64_t sequence            # the exchange's update id, 0 = unknown
        # The receipt: how many quotes this one stands for, and the ts_event of the oldest of them.
        readonly int merged
        readonly int64_t ts_event_first


cdef class BookDelta(Event):
    cdef:
        readonly bint is_snapshot            # replaces the book
        readonly int depth                   # 0 = the whole book; N = a top-N stream
        # The exchange's update ids, as its `Sequence` reads them; -1 = not sent.
        readonly int64_t first_id
        readonly int64_t last_id
        readonly int64_t previous_id
        readonly int merged                  # messages that this one stands for: more than 1 for a top-N snapshot only
        # A snapshot in the stream: what came before it on the connection is in it or void. False for a reply to a request,
        # which the deltas that were held meanwhile continue.
        readonly bint starts_over
        readonly int window                  # levels of each side beyond this many leave the book afterwards, 0 = none
        readonly int64_t checksum            # of the book with this message in it, as the exchange sends it, unsigned; -1 = not sent
        # Owned by the event.
        LevelVector bid_levels
        LevelVector ask_levels

    # An independent event with the same content, at the instrument's decimals of now. OverflowError where it does not fit.
    cdef BookDelta rescaled(self)
    cdef int _push(self, LevelVector* target, levels) except -1
    cdef list _side(self, LevelVector* levels)


# What is known of an instrument besides its book and its trades. Behind a `Conflator` the newest of a batch, field by field.
cdef class Ticker(Event):
    cdef:
        Number _last_price
        Number _mark_price
        Number _index_price
        Number _open_interest
        Number _funding_rate
        readonly int64_t next_funding_time   # ns, 0 = unknown
        # The receipt, as in Quote.
        readonly int merged
        readonly int64_t ts_event_first


cdef class Funding(Event):
    cdef:
        Number _funding_rate
        Number _next_funding_rate
        readonly int64_t next_funding_time   # ns, 0 = unknown


cdef class OpenInterest(Event):
    cdef:
        Number _open_interest


cdef class Liquidation(Event):
    cdef:
        Number _price
        Number _qty
        readonly object id                   # str or None
        Side _side                           # of the order that closes the position


cdef class Candle(Event):
    cdef:
        readonly int64_t ts_open             # ns
        readonly int interval                # seconds
        readonly object is_closed            # bool, or None where the exchange does not say
        Number _open
        Number _high
        Number _low
        Number _close
        Number _volume
        Number _quote_volume


cdef class BookUpdate(Event):
    cdef:
        readonly OrderBook book
        # The receipt, as in Quote; counts the deltas merged.
        readonly int merged
        readonly int64_t ts_event_first


cdef class BookStatus(Event):
    cdef:
        readonly OrderBook book
        BookState _old
        BookState _new
        readonly str reason


cdef class FeedStatus(Event):
    cdef:
        readonly str exchange
        readonly int source                  # the connection's number in its session
        readonly str status                  # "connected", "disconnected", "silent", "problem", ...
        readonly str reason


cdef class EventHandler:
    cpdef on_trade(self, Trade event)
    cpdef on_quote(self, Quote event)
    cpdef on_book_delta(self, BookDelta event)
    cpdef on_book(self, BookUpdate event)
    cpdef on_book_status(self, BookStatus event)
    cpdef on_feed_status(self, FeedStatus event)
    cpdef on_ticker(self, Ticker event)
    cpdef on_funding(self, Funding event)
    cpdef on_open_interest(self, OpenInterest event)
    cpdef on_liquidation(self, Liquidation event)
    cpdef on_candle(self, Candle event)
    # Every message of one socket read has been dispatched.
    cpdef on_batch_end(self, int64_t ts_recv)


# Forwards everything to `downstream`; a stage overrides what it is about.
cdef class Stage(EventHandler):
    cdef public EventHandler downstream


cdef class Fanout(EventHandler):
    cdef readonly list handlers


cdef extern from "Python.h":
    Py_ssize_t Py_REFCNT(void* o)


# Nobody else holds `event`: its owner may refill it.
cdef inline bint is_unshared(void* event) noexcept:
    return Py_REFCNT(event) == 1


# `value` (int, str, Decimal, or JSON text as bytes or msgspec.Raw) as a number; None and "" are not known. ValueError for what is
# no number. Digits that no int64 or 18 decimals hold are rounded.
cdef int set_number(Number* number, object value) except -1
