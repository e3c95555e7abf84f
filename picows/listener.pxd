from picows.frame cimport WSFrame
from picows.transport cimport WSTransport


# What users subclass, in Python or in Cython: a cdef class that overrides a method is called without Python in between.
# The methods run inside the event loop, one at a time; one that takes long holds up everything else.
cdef class WSListener:
    cdef object __weakref__

    cpdef on_ws_connected(self, WSTransport transport)
    cpdef on_ws_frame(self, WSTransport transport, WSFrame frame)
    cpdef on_ws_disconnected(self, WSTransport transport)
    cpdef send_user_specific_ping(self, WSTransport transport)
    cpdef bint is_user_specific_pong(self, WSFrame frame) except? -1
    cpdef pause_writing(self)
    cpdef resume_writing(self)
