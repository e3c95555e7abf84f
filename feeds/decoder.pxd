from libc.stdint cimport int64_t, uint64_t

from feeds.events cimport BookDelta, EventHandler, Quote, Trade
from feeds.instrument cimport Instrument, Instruments
from feeds.large cimport LargeArrays, LargeMessage
from feeds.template cimport Template
from feeds.wire cimport Values, Wire


# Where a message on a named stream goes: found by the name's bytes, without making a string of them.
cdef class Route:
    cdef:
        readonly bytes name
        bytes text               # the name, and what follows it up to the payload
        char opens               # how the payload begins
        bytes after              # what follows the brace that ends it
        readonly Wire wire           # None where the hot engine does not know the messages
        readonly Instrument instrument
        Template template            # of its messages, for the hot engine
        int patience                 # messages unlike it until another is learned
        readonly bint supersedes     # a message says all that those before it on this stream said
        readonly bint of_book        # it changes a book
        # For the pipeline: the last batch in which one was decoded, the newest that it holds (-1: none), and how many.
        uint64_t batch
        Py_ssize_t newest
        int held


cdef struct RouteSlot:
    uint64_t hash            # of the name
    const char* text         # the name, and what follows it up to the payload; owned by the Route; NULL marks a free slot
    Py_ssize_t size
    void* route              # owned by `_routes`


# Who holds messages back.
cdef class Holder:
    # Called before the events of a message that has no route go downstream: what is held of their instruments comes first.
    cdef int give_way(self, list events, int64_t ts_recv) except -1


cdef class Decoder:
    cdef:
        public EventHandler downstream
        Holder holder                    # None: no message is held
        readonly Instruments instruments
        readonly str exchange
        public bint reference            # never use the scanner: for tests and doubts
        readonly uint64_t scanned        # messages that the hot engine decoded
        readonly uint64_t referred       # messages that went to decode_other
        # How many messages the next event stands for, with those that were skipped because it supersedes them.
        int stands_for
        bint told_nothing                # the last message that the reference engine decoded emitted no event
        list _requests
        const LargeArrays* _large        # of the message being decoded, where they have been read before
        # The message around a stream's payload: before the stream name, between name and payload, after the payload.
        bytes _before, _between, _after
        list _routes
        RouteSlot* _slots
        Py_ssize_t _slot_count           # a power of two
        RouteSlot* _last_slot            # where the message before went; NULL: look it up
        # Events that are refilled while nobody else holds them.
        Trade _trade
        Quote _quote
        BookDelta _delta

    # One whole message. `data` may point into a receive buffer; nothing keeps it.
    cdef int decode_view(self, const char* data, Py_ssize_t size, int64_t ts_recv) except -1
    # In two steps: False says that the message is for the second one, and that nothing has happened yet.
    cdef bint scan_view(self, const char* data, Py_ssize_t size, int64_t ts_recv) except -1
    cdef int refer_view(self, const char* data, Py_ssize_t size, int64_t ts_recv) except -1
    # The first step in two. Where the message goes, None if no route takes it; at[0] is then at the stream's payload.
    cdef Route find_route(self, const char** at, const char* end)
    # `data` is that payload, `end` the end of the message.
    cdef bint scan_routed(self, Route route, const char* data, const char* end, int64_t ts_recv) except -1
    cpdef decode(self, bytes payload, int64_t ts_recv)
    # What no route takes. Subclasses decode it with the reference engine, or raise DecodeError.
    cpdef decode_other(self, bytes payload, int64_t ts_recv)
    # A REST reply that was asked for by a Fetch with this tag.
    cpdef decode_reply(self, str tag, bytes payload, int64_t ts_recv)
    cpdef request_snapshot(self, Instrument instrument)

    # None: there is nothing to take apart. May be called in any thread.
    cpdef LargeMessage take_apart(self, bytes payload)
    # What `decode_other` does, or `decode_reply` where there is a tag.
    cpdef decode_large(self, LargeMessage message, str tag, int64_t ts_recv)

    # The hot engine, and the reference where that does not know: all of `payload` is a message of the kind `wire`.
    cpdef decode_whole(self, Wire wire, Instrument instrument, bytes payload, int64_t ts_recv)
    # Reference engine: `data` is the payload of `wire`.
    cpdef decode_as(self, Wire wire, Instrument instrument, object data, int64_t ts_recv)

    cdef bint _scan(self, Wire wire, Instrument instrument, const char* data, const char* end, bytes after,
                    Values* values) except -1
    cdef int _prepare(self, Wire wire, Instrument instrument, Values* values) except -1
    cdef int _prepare_grown(self, Wire wire, Instrument instrument, Values* values) except -1
    cdef int _emit(self, Wire wire, Instrument instrument, Values* values, int64_t ts_recv) except -1
    # The route of a message; at[0] is then at its payload. None where it has none.
    cdef Route _route_of(self, const char** at, const char* end)
    cdef RouteSlot* _slot_of(self, const char* name, const char* end) noexcept
    cdef int _insert(self, Route route) except -1
    cdef int _place(self, Route route) except -1
