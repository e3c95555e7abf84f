from libc.stdint cimport int64_t

from feeds.recording.reader cimport RawSource


# The files of one run, one after the other, and the message in hand. One file is open at a time.
cdef class _Line:
    cdef:
        list paths
        list first_times            # of each of them; INT64_MIN = unknown
        Py_ssize_t following        # of `paths`
        RawSource reader            # None before the first file and between two
        int64_t ts                  # of the message in hand, or of the last one with a known time
        int64_t first_ts
        int64_t run                 # of `reader`, that `numbers` and `merged_run` are for
        int64_t merged_run
        dict numbers                # number of a source here -> in the merged recording


# Several recordings as one. Fields of the current message are those of the reader that it comes from.
cdef class MergedSource(RawSource):
    cdef:
        list waiting                # lines whose first message is later than the current one
        list lines                  # the others; the order of both is that of their first messages
        _Line current
        object open_one
        int64_t start               # what seek() was told; 0 = from the beginning
        readonly int64_t runs       # so far
        int64_t bytes_before        # in files that have been read to their end

    cdef bint _step(self, _Line line) except -1
    cdef int _take(self, _Line line) except -1
