from libc.stdint cimport int64_t

from feeds.recording.importers cimport CollectorReader


# A reader of text formats whose lines become any number of messages: subclasses say which, in `_take_line`.
cdef class TextReader(CollectorReader):
    cdef:
        object _queue                   # deque of (flags, source, ts, tag, payload) that are due
        bytes _held                     # the current payload
        int64_t _last_ts

    cdef bint _next_record(self) except -1


# The raw traffic that cryptofeed saves, one connection or the REST replies of an exchange per file.
cdef class CryptofeedReader(TextReader):
    cdef:
        dict _numbers                   # URL -> number of the connection to it
        int _current                    # the connection that lines without a URL are of
        object _replies                 # reader of the REST replies beside the file, None without
        object _reply                   # its next message


# The longest text that is looked at for a time.
cdef enum:
    MAX_TIME_SIZE = 40


# The raw format of tardis.dev (ISO time, a space, the message) and the stream of tardis-machine (an object of both), a
# message a line; an empty line where the connection was lost.
cdef class TardisReader(CollectorReader):
    cdef:
        # The message in hand, which waits until what comes before it has been told. In `buffer`, or in `_parsed`.
        const char* _message
        Py_ssize_t _message_size
        int64_t _message_ts
        bint _is_waiting
        bint _was_lost                  # the connection, before it
        bytes _parsed

        bint _is_connected
        int64_t _last_ts                # of the last message told
        bytes _held                     # the payload of what the file implies

    cdef bint _tell(self, int kind, int64_t ts_recv, bytes text) except -1
    cdef bint _read_message(self) except -1
    cdef bint _parse_line(self) except -1
    cdef int _take_snapshot(self) except -1
    cdef bint _set_time(self, const char* text, Py_ssize_t size) except -1
