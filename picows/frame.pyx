# cython: language_level=3
"""One WebSocket frame, seen in the receive buffer."""
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.unicode cimport PyUnicode_DecodeASCII, PyUnicode_DecodeUTF8
from cpython.ref cimport PyObject
from libc.stdint cimport uint8_t

from picows.buffer cimport ReadBuffer

cdef extern from "Python.h":
    ctypedef object (*getter)(object, void*)
    ctypedef struct PyGetSetDef:
        const char* name
        getter get
        const char* doc
    ctypedef struct PyTypeObject:
        PyObject* tp_dict
    object PyDescr_NewGetSet(type, PyGetSetDef*)
    void PyType_Modified(type)


cdef class WSFrame:
    """One frame of a WebSocket connection; valid only until `on_ws_frame` returns.

    The payload is a part of the receive buffer: take a copy of what has to live longer.
    """

    cpdef bytes get_payload_as_bytes(self):
        """Return a copy of the payload."""
        return PyBytes_FromStringAndSize(self.payload_ptr, self.payload_size)

    cpdef str get_payload_as_utf8_text(self):
        """Return the payload decoded as UTF-8; UnicodeDecodeError if it is none."""
        return PyUnicode_DecodeUTF8(self.payload_ptr, self.payload_size, NULL)

    cpdef str get_payload_as_ascii_text(self):
        """Return the payload decoded as ASCII; UnicodeDecodeError if it is none."""
        return PyUnicode_DecodeASCII(self.payload_ptr, self.payload_size, NULL)

    cpdef object get_payload_as_memoryview(self):
        """Return a read-only view of the payload, without a copy.

        It may be kept longer than the frame; the connection then reads into new memory, so keep few of them.
        """
        if self.payload_size == 0:
            return memoryview(b"")
        return self.buffer.view(self.payload_ptr, self.payload_size)

    cpdef WSCloseCode get_close_code(self) except? WSCloseCode.NO_INFO:
        """Return the code of a CLOSE frame, NO_INFO if it has none; ValueError for another kind of frame."""
        self._expect_close()
        if self.payload_size < 2:
            return WSCloseCode.NO_INFO
        return <WSCloseCode> ((<uint8_t> self.payload_ptr[0]) << 8 | <uint8_t> self.payload_ptr[1])

    cpdef bytes get_close_message(self):
        """Return the reason of a CLOSE frame as bytes, None if it has none; ValueError for another kind of frame."""
        self._expect_close()
        if self.payload_size <= 2:
            return None
        return PyBytes_FromStringAndSize(self.payload_ptr + 2, self.payload_size - 2)

    cpdef str get_close_reason(self):
        """Return the reason of a CLOSE frame, None if it has none; ValueError for another kind of frame."""
        cdef bytes message = self.get_close_message()
        return None if message is None else message.decode("utf-8")

    cdef int _expect_close(self) except -1:
        if self.msg_type != WSMsgType.CLOSE:
            raise ValueError(f"expected a CLOSE frame, found {self}")
        return 0

    def __str__(self):
        return (
            f"WSFrame({WSMsgType(self.msg_type).name}, fin={bool(self.fin)}, rsv1={bool(self.rsv1)}, "
            f"rsv2={bool(self.rsv2)}, rsv3={bool(self.rsv3)}, last_in_buffer={bool(self.last_in_buffer)}, "
            f"payload_size={self.payload_size}, tail_size={self.tail_size})"
        )

    __repr__ = __str__


# What every listener in Python asks of every frame. The conversion that Cython generates looks the member up by its name:
# 45 ns instead of 28.
cdef tuple _msg_types = tuple(
    WSMsgType(opcode) if opcode in WSMsgType.__members__.values() else None for opcode in range(16)
)
cdef PyGetSetDef _msg_type_property


cdef object _msg_type_member(object frame, void* closure):
    return _msg_types[<int> (<WSFrame> frame).msg_type & 0xF]


def _install_msg_type():
    _msg_type_property.name = "msg_type"
    _msg_type_property.get = _msg_type_member
    (<dict> (<PyTypeObject*> WSFrame).tp_dict)["msg_type"] = PyDescr_NewGetSet(WSFrame, &_msg_type_property)
    PyType_Modified(WSFrame)


_install_msg_type()


def make_frame(msg_type, payload, fin=True, rsv1=False) -> WSFrame:
    """Return a frame that owns a copy of `payload`, as if it had arrived alone: for tests of listeners."""
    cdef WSFrame frame = WSFrame.__new__(WSFrame)
    cdef ReadBuffer buffer = ReadBuffer(max(256, len(payload)))
    buffer.append(payload)
    frame.buffer = buffer
    frame.payload_ptr = buffer.data
    frame.payload_size = buffer.write_pos
    frame.msg_type = WSMsgType(msg_type)
    frame.fin = bool(fin)
    frame.rsv1 = bool(rsv1)
    frame.last_in_buffer = 1
    return frame
