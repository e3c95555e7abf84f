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
    cdef int begin(self, Instrument instrument, int64_t ts_event, int64_t ts_recv) except -1


cdef class Trade(Event):
    cdef:
        int64_t price_mantissa
        int64_t qty_mantissa
        int64_t numeric_id       # -1 where the id is text or unknown
        object text_id
        Side _side               # the aggressor's


cdef class Quote(Event):
    cdef:
        # A side is missing where its quantity is 0.
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
        # Owned by the event.
        LevelVector bid_levels
        LevelVector ask_levels

    # An independent event with the same content, at the instrument's decimals of now. OverflowError where it does not fit.
    cdef BookDelta rescaled(self)
    cdef int _push(self, LevelVector* target, levels) except -1
    cdef list _side(self, LevelVector* levels)


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
    # Every message of one socket read has been dispatched.
    cpdef on_batch_end(self, int64_t ts_recv)


# Forwards everything to `downstream`; a stage overrides what it is about.
cdef class Stage(EventHandler):
    cdef public EventHandler downstream


cdef class Fanout(EventHandler):
    cdef readonly list handlers


# Nobody else holds `event`: its owner may refill it.
cdef bint is_unshared(void* event) noexcept
