from libc.stdint cimport int64_t

from feeds.recording.reader cimport RawSource


# The longest name in a `"stream":"name@channel"` that is taken for a symbol.
cdef enum:
    MAX_STREAM_NAME = 64


# Reader of the "collector" format: text, one message a line, `<receive time, ns> <JSON>`; plain or gzip.
cdef class CollectorReader(RawSource):
    cdef:
        readonly str exchange
        readonly Py_ssize_t max_line_size
        readonly int64_t lines          # read so far, malformed ones included

        # Bytes in [start, filled) of `buffer` are text that has not been read. Moved to the front when more is
        # needed, grown by doubling up to `max_line_size`; `text_offset` is where buffer[0] stands in the text.
        bytearray buffer
        Py_ssize_t start
        Py_ssize_t filled
        int64_t text_offset
        bint at_end
        object text                     # what is read from: the file, or its decompression

        # The line in hand, without its end: points into `buffer`.
        const char* line
        Py_ssize_t line_size
        int64_t line_offset
        bint is_unterminated            # the file ended before it did

        bint is_declared                # the declaration of the source has been returned
        bytes declaration
        int64_t first_ts                # of the first message
        char stream_name[MAX_STREAM_NAME]
        Py_ssize_t stream_name_size     # of the last stream seen, or of the first that will be; 0 = none

    cdef bint _next_line(self) except -1
    cdef bint _fill(self) except -1
    cdef int _skip_long_line(self) except -1
    cdef bint _is_message(self) except -1
    cdef int _note_stream(self) except -1
    cdef int _set_stream(self, const char* name, Py_ssize_t size) except -1
    cdef bytes _snapshot_symbol(self)
