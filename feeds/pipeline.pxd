from libc.stdint cimport int64_t, uint64_t

from feeds.book_builder cimport BookBuilder
from feeds.decoder cimport Decoder
from feeds.events cimport EventHandler
from feeds.latency cimport Latency


# One connection's way from messages to events: a decoder (new on every connect) and the books it feeds, in front of a
# chain that several pipelines may share. The same object live, in replay and in tests.
cdef class Pipeline:
    cdef:
        readonly Decoder decoder
        readonly BookBuilder books       # the head of the chain
        readonly Latency latency         # None: nothing is measured
        readonly str exchange
        readonly int source
        readonly uint64_t messages
        readonly uint64_t payload_bytes
        readonly uint64_t batches
        readonly dict problems           # kind -> Problem
        object _new_decoder
        bint _busy                       # a callback has not returned yet
        bint _disconnected               # replies that were asked for before are of no use

    # `data` may point into a receive buffer; nothing keeps it. Not to be called from a handler of this pipeline.
    cdef int on_view(self, const char* data, Py_ssize_t size, int64_t ts_recv, bint last_in_batch) except -1
    cpdef on_message(self, bytes payload, int64_t ts_recv, bint last_in_batch)
    cpdef on_reply(self, str tag, bytes payload, int64_t ts_recv)
    cpdef on_tick(self, int64_t ts_recv)
    cdef int _enter(self) except -1
    cdef int _refer(self, Decoder decoder, const char* data, Py_ssize_t size, int64_t ts_recv) except -1
