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


# The raw format of tardis.dev: ISO time, a space, the message; an empty line where the connection was lost.
cdef class TardisReader(TextReader):
    cdef bint _is_connected
