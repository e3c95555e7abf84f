# Decoders of exchanges whose messages are read by msgspec: what a subclass finds in a message it emits by `trade`, `quote`,
# `book` and the others, which take numbers as the text that stands in the message.
from libc.stdint cimport int64_t

from feeds.decoder cimport Decoder
from feeds.events cimport BookDelta, Event
from feeds.instrument cimport Instrument
from feeds.levels cimport Decimals, LevelVector


# Where a part of a level stands: the element `index` of an array, or the value of `key` of an object.
cdef struct Place:
    bint exists
    int index                # -1: an object's
    const char* key          # with its quotes; owned by the shape
    Py_ssize_t key_size


# How an exchange writes levels.
cdef class LevelShape:
    cdef:
        Place price
        Place qty
        Place side               # of which side the level is, where both are in one array
        Place removal            # says that the level is removed, whatever its quantity
        tuple bid_texts          # JSON texts of `side` that mean a bid
        tuple ask_texts
        bytes removal_text
        readonly bint signed             # a negative quantity is an ask
        readonly bint skip_zero_price    # a level at 0 is padding
        readonly bint negative_removes   # a quantity below 0 counts as 0
        readonly bint padded             # numbers have all of the instrument's decimals: zeros at the end count
        list _keys                       # what the places point into

    cdef int _place(self, Place* place, object where) except -1
    cdef int scan(self, const char** at, const char* end, LevelVector* bids, LevelVector* asks, bint is_ask,
                  Decimals* decimals) except -1


cdef class MessageDecoder(Decoder):
    cdef:
        readonly int64_t ts_recv         # of the message being decoded
        readonly int64_t ts_began        # ts_recv of the first message
        readonly dict silent             # kind -> how many messages of it were understood and emitted nothing
        list _events                     # of the message being decoded: all of it is read before any goes on
        dict _known                      # raw symbol -> Instrument
        dict _tickers                    # Instrument -> {field: value}, where tickers come in parts
        set _live_trades                 # instruments of which a trade from after ts_began has come
        object _deferred                 # the first DecodeError that the rest of the message does not suffer from
        bint _in_reply
        bint _is_padded

    cdef int _run(self, object decode, tuple arguments, bytes payload) except -1
    cdef int _number(self, object value, str field, int decimals, int64_t* mantissa, int* needed) except -1
    cdef int _levels(self, object levels, LevelShape shape, bint is_ask, LevelVector* bids, LevelVector* asks,
                     Decimals* decimals) except -1
    cdef int _quote_side(self, object price, object qty, Decimals* decimals, int64_t* price_mantissa,
                         int64_t* qty_mantissa) except -1
    cdef int _grow(self, Instrument instrument, Decimals* decimals, int price_scale, int qty_scale) except -1
