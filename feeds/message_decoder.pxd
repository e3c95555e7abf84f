# Decoders of exchanges whose messages are read by msgspec: what a subclass finds in a message it emits by `trade`, `quote`,
# `book` and the others, which take numbers as the text that stands in the message.
from libc.stdint cimport int64_t

from feeds.decoder cimport Decoder, Route
from feeds.events cimport BookDelta, Event
from feeds.instrument cimport Instrument
from feeds.levels cimport Decimals, LevelShape, LevelVector


cdef class MessageDecoder(Decoder):
    cdef:
        readonly int64_t ts_recv         # of the message being decoded
        readonly int64_t ts_began        # ts_recv of the first message
        readonly dict silent             # kind -> how many messages of it were understood and emitted nothing
        list _events                     # of the message being decoded: all of it is read before any goes on
        dict _known                      # raw symbol -> Instrument
        dict _tickers                    # Instrument -> {field: value}, where tickers come in parts
        set _live_trades                 # instruments of which a trade from after ts_began has come
        Instrument _booked               # of which the message being decoded had a book last
        object _deferred                 # the first DecodeError that the rest of the message does not suffer from
        tuple _keys                      # SupersedeKeys
        bint _has_route                  # the message being decoded, by its bytes
        bint _in_reply
        bint _is_padded

    cdef int _run(self, object decode, tuple arguments, bytes payload) except -1
    cdef int _decode(self, object decode, tuple arguments, bytes payload) except -1
    # Give the stream of a message a route if its events are such that a later message supersedes them.
    cdef int _learn(self, bytes payload, list events) except -1
    # Its events stand for those of the messages, too, that it supersedes.
    cdef int _stand_for(self, list events) except -1
    cdef int _number(self, object value, str field, int decimals, int64_t* mantissa, int* needed) except -1
    cdef int _scan_number(self, const char* p, const char* end, int decimals, int64_t* mantissa, int* needed) noexcept
    cdef int _levels(self, object levels, LevelShape shape, bint is_ask, LevelVector* bids, LevelVector* asks,
                     Decimals* decimals) except -1
    cdef int _quote_side(self, object price, object qty, Decimals* decimals, int64_t* price_mantissa,
                         int64_t* qty_mantissa) except -1
    cdef int _grow(self, Instrument instrument, Decimals* decimals, int price_scale, int qty_scale) except -1
