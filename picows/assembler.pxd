from libc.stdint cimport uint8_t

from picows.frame cimport WSFrame, WSMsgType
from picows.utf8 cimport picows_utf8_state


# Data frames in, whole messages out (RFC 6455 section 5.4). Control frames, which may stand between the fragments of a
# message, are not for it.
cdef class MessageAssembler:
    cdef:
        # The message that add() completed. A message of one frame is not copied: it dies with the frame. One of several
        # is ours until the next add().
        const char* payload_ptr
        readonly Py_ssize_t payload_size
        readonly WSMsgType msg_type
        # RSV1 of the first frame: with permessage-deflate, the payload is compressed (RFC 7692 section 6).
        readonly bint rsv1

        readonly Py_ssize_t max_message_size
        readonly bint checks_utf8

        # Fragments collected so far; `capacity` doubles, and is given back when a message is done with.
        char* data
        Py_ssize_t size
        Py_ssize_t capacity
        bint in_message
        picows_utf8_state utf8
        # The rule that was broken: nothing can be assembled after it.
        object error

    # 1: a message is complete. 0: more fragments to come. WSProtocolError, then and ever after: a rule was broken.
    cdef int add(self, WSFrame frame) except -1

    cdef int _append(self, const char* payload, Py_ssize_t size) except -1
    cdef int _check_text(self, const char* payload, Py_ssize_t size, bint is_last) except -1
    cdef int _reject(self, int code, str message) except -1
