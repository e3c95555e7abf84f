from libc.stdint cimport int64_t, uint64_t

from feeds.events cimport EventHandler, Stage
from feeds.instrument cimport Instruments
from feeds.latency cimport Latency
from feeds.pipeline cimport Pipeline
from feeds.recording.reader cimport RawSource


cdef class Replay:
    cdef:
        readonly RawSource source
        readonly EventHandler handler
        readonly Instruments instruments
        readonly bint reference
        readonly bint skip_superseded
        readonly Latency latency         # None: nothing is measured
        readonly dict notes              # tag -> the last note of that tag
        readonly int64_t ts_recv         # of the last message
        readonly uint64_t records        # of every kind
        readonly uint64_t messages       # received on a WebSocket
        readonly bint finished
        dict _pipelines                  # source number -> Pipeline
        dict _runs                       # source number -> the run that it was declared in, and as what
        list _all_pipelines
        bint _is_paused
        # The one of the last message, which is that of the next one nearly always.
        int _last_number
        Pipeline _last_pipeline
        object _wrap
        readonly bint is_held            # the source stands on a message that is not due yet

    cpdef bint step(self) except -1
    cpdef bint run(self, int64_t until=*, Py_ssize_t max_records=*) except -1
    cdef int _dispatch(self) except -1
    cdef Pipeline _pipeline(self, int number)


# Lets data events pass from a receive time on; status events always.
cdef class ReplayWindow(Stage):
    cdef readonly int64_t start
