from libc.stdint cimport int64_t, uint64_t

from feeds.book_builder cimport BookBuilder
from feeds.decoder cimport Decoder, Holder, Route
from feeds.events cimport EventHandler
from feeds.held cimport HeldMessages
from feeds.large cimport LargeMessage
from feeds.latency cimport Latency


# One connection's way from messages to events: a decoder (new on every connect) and the books it feeds, in front of a
# chain that several pipelines may share. The same object live, in replay and in tests.
cdef class Pipeline(Holder):
    cdef:
        readonly Decoder decoder
        readonly BookBuilder books       # the head of the chain
        readonly Latency latency         # None: nothing is measured
        readonly str exchange
        readonly int source
        readonly uint64_t messages
        readonly uint64_t payload_bytes
        readonly uint64_t batches
        readonly uint64_t superseded     # of `messages`, those that were not decoded: a newer one of the batch stood in
        readonly dict problems           # kind -> Problem
        readonly list silent_subscriptions       # in words, those that the live feed found silent
        object _new_decoder
        LargeMessage _large              # the message being taken, where it has been taken apart
        bint _busy                       # a callback has not returned yet
        bint _disconnected               # replies that were asked for before are of no use
        HeldMessages _held               # None: every message is decoded at once
        list _refused                    # errors of held messages, until the one before them has been decoded; or None
        list _held_routes                # those that have messages in `_held`, in the order in which they got the first
        Py_ssize_t _settled              # how many of these have been dealt with
        # The route of the message that was held last, and what its messages begin and end with: the next one is often of
        # the same stream. `_beginning` is NULL where there is none, and lies in `_held`.
        Route _last_route
        const char* _beginning
        Py_ssize_t _beginning_size
        uint64_t _ending                 # of the last eight bytes, those that `_ending_mask` names
        uint64_t _ending_mask
        Py_ssize_t _least_size
        bint _holds_books                # one of them is of a top-N book
        uint64_t _batch                  # of Route.batch: counts up, from 1

    # `data` may point into a receive buffer; nothing keeps it. Not to be called from a handler of this pipeline.
    cdef int on_view(self, const char* data, Py_ssize_t size, int64_t ts_recv, bint last_in_batch) except -1
    cdef int _take(self, const char* data, Py_ssize_t size, int64_t ts_recv, bint last_in_batch) except -1
    cpdef on_message(self, bytes payload, int64_t ts_recv, bint last_in_batch, LargeMessage large=*)
    cpdef on_reply(self, str tag, bytes payload, int64_t ts_recv, LargeMessage large=*)
    cpdef on_tick(self, int64_t ts_recv)
    cdef int _enter(self) except -1
    # False: the message could not be decoded, or tells nothing.
    cdef bint _refer(self, Decoder decoder, const char* data, Py_ssize_t size, int64_t ts_recv) except -1
    cdef int _decode_or_hold(self, Decoder decoder, const char* data, Py_ssize_t size, int64_t ts_recv) except -1
    # Whether the message was held, as one more of the stream of the last one.
    cdef inline bint _hold_next(self, const char* data, Py_ssize_t size, int64_t ts_recv) noexcept
    # False: it does not look like a message that could be skipped, or there is no room.
    cdef bint _hold(self, Route route, const char* data, Py_ssize_t size, const char* payload, int64_t ts_recv) except -1
    cdef int _settle(self, int64_t ts_recv) except -1
    cdef int _decode_one(self, Decoder decoder, Route route, Py_ssize_t index, int count) except -1
    cdef int _decode_newest(self, Decoder decoder, Route route, int64_t ts_recv) except -1
    cdef int _end_batch(self, int64_t ts_recv) except -1
