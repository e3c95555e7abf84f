# cython: language_level=3, nonecheck=True
"""The receiving side of a connection, as users see it."""
from picows.frame cimport WSFrame, WSMsgType
from picows.transport cimport WSTransport


cdef class WSListener:
    """Receives what happens on one connection. Subclass it; every method may be overridden.

    What a method raises closes the connection (see `disconnect_on_exception`) and is raised by
    `WSTransport.wait_disconnected()`.
    """

    cpdef on_ws_connected(self, WSTransport transport):
        """The opening handshake succeeded. Called once, before any frame."""

    cpdef on_ws_frame(self, WSTransport transport, WSFrame frame):
        """A frame arrived. `frame` is valid until this returns.

        A CLOSE frame is the last one. It is answered with the same code when this returns, unless the listener did.
        """

    cpdef on_ws_disconnected(self, WSTransport transport):
        """The connection is gone. Called once if on_ws_connected was called, and last."""

    cpdef send_user_specific_ping(self, WSTransport transport):
        """Send whatever this peer takes for a ping; by default a PING frame."""
        transport.send_ping()

    cpdef bint is_user_specific_pong(self, WSFrame frame) except? -1:
        """Say whether `frame` answers send_user_specific_ping(); by default a PONG frame does.

        Asked only while an answer is awaited; a frame claimed here does not reach on_ws_frame. It may be asked about a
        frame before the one in front of it has been delivered.
        """
        return frame.msg_type == WSMsgType.PONG

    cpdef pause_writing(self):
        """More than the high-water mark of the underlying transport is waiting to be sent."""

    cpdef resume_writing(self):
        """What is waiting to be sent has sunk below the low-water mark."""
