# cython: language_level=3, auto_pickle=False, boundscheck=False, wraparound=False
"""Reading sockets ourselves: when the kernel received the bytes, and without ever sleeping in it."""
import asyncio
import os
import weakref

from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.errno cimport EAGAIN, EINTR
from libc.stdint cimport int64_t

from picows.protocol cimport FrameProtocol, monotonic_ns
from picows.receive cimport MSG_DONTWAIT, MSG_PEEK, picows_ask_for_kernel_time, picows_receive

cdef enum:
    # One connection's, before another's or the event loop's turn comes.
    MAX_BYTES_A_TURN = 256 * 1024
    # Read at once for a protocol that takes bytes objects.
    STREAM_SIZE = 16 * 1024

# What read() returns where nothing has arrived, and at the end of the stream.
cdef Py_ssize_t NOTHING = -1


cdef class SocketReader:
    """Stands between `transport`, which is paused, and a protocol, and reads the socket for it.

    frames -- the FrameProtocol that is told the kernel times.
    has_kernel_time -- ask the kernel for them. OSError where it has none.
    poller -- BusyPoller that is to read; None: the event loop says when.

    Like a new transport, it reads from the first resume_reading() on.
    """

    def __init__(self, transport, FrameProtocol frames not None, *, bint has_kernel_time, poller=None):
        cdef int error
        self.loop = asyncio.get_running_loop()
        self.transport = transport
        self.write = transport.write
        self.get_write_buffer_size = transport.get_write_buffer_size
        self.frames = frames
        self.poller = poller
        self.fd = transport.get_extra_info("socket").fileno()
        if has_kernel_time:
            error = -picows_ask_for_kernel_time(self.fd)
            if error:
                raise OSError(error, f"no kernel receive times: {os.strerror(error)}")
        self.has_kernel_time = frames.has_kernel_time = has_kernel_time
        transport.set_protocol(self)

    # ---- as a transport -----------------------------------------------------------------------------

    def __getattr__(self, name):
        return getattr(self.transport, name)

    def get_extra_info(self, name, default=None):
        return self.transport.get_extra_info(name, default)

    def set_protocol(self, protocol):
        self.protocol = protocol
        self.is_direct = protocol is self.frames
        self.is_buffered = isinstance(protocol, asyncio.BufferedProtocol)

    def get_protocol(self):
        return self.protocol

    def is_reading(self):
        return self.reads

    def pause_reading(self):
        self._stop()

    def resume_reading(self):
        if not self.reads and not self.is_ended and not self.transport.is_closing():
            self.reads = True
            self._wait_for_bytes()

    def close(self):
        self.is_ended = True
        self._stop()
        self.transport.close()

    def abort(self):
        self.is_ended = True
        self._stop()
        self.transport.abort()

    # ---- as a protocol ------------------------------------------------------------------------------

    def connection_lost(self, exc):
        self.is_ended = True
        self._stop()
        protocol, self.protocol = self.protocol, None
        if protocol is not None:
            protocol.connection_lost(self.error if exc is None else exc)

    def pause_writing(self):
        self.protocol.pause_writing()

    def resume_writing(self):
        self.protocol.resume_writing()

    def eof_received(self):
        return self.protocol.eof_received()

    # ---- reading ------------------------------------------------------------------------------------

    def read_ready(self):
        """The event loop says that something can be read."""
        self.read()

    cdef Py_ssize_t read(self) except -1:
        cdef Py_ssize_t total = 0
        cdef Py_ssize_t size, room = 0
        try:
            while self.reads and total < MAX_BYTES_A_TURN:
                size = self._read_once(&room)
                if size == NOTHING:
                    break
                if size == 0:
                    self._ended()
                    break
                total += size
                # An event loop may tell of bytes and of the error behind them only once (uvloop does): read up to it.
                if size < room and self.poller is not None:
                    break
        except BaseException as exc:
            # A transport does the same: what a protocol raises ends the connection.
            self.error = exc
            self.abort()
            raise
        return total

    cdef Py_ssize_t _read_once(self, Py_ssize_t* room) except -2:
        """Read once, and hand over what was read: how many bytes; 0: the stream has ended."""
        cdef:
            char stream[STREAM_SIZE]
            Py_buffer buffer
            Py_ssize_t size
            char* data

        if self.is_direct:
            data = self.frames.begin_read(room)
            size = self._receive(data, room[0])
            if size > 0:
                self.frames.end_read(size)
            return size
        if not self.is_buffered:
            room[0] = STREAM_SIZE
            size = self._receive(stream, STREAM_SIZE)
            if size > 0:
                self.protocol.data_received(PyBytes_FromStringAndSize(stream, size))
            return size
        # To ask it for memory costs more than to find out that there is no need.
        size = picows_receive(self.fd, stream, 1, MSG_DONTWAIT | MSG_PEEK, NULL)
        if size < 0:
            return self._found(size)
        PyObject_GetBuffer(self.protocol.get_buffer(-1), &buffer, PyBUF_WRITABLE)
        try:
            room[0] = buffer.len
            size = self._receive(buffer.buf, buffer.len)
        finally:
            PyBuffer_Release(&buffer)
        if size > 0:
            self.protocol.buffer_updated(size)
        return size

    cdef Py_ssize_t _receive(self, void* data, Py_ssize_t size) except -2:
        cdef int64_t kernel_time_ns = 0
        cdef Py_ssize_t received = picows_receive(
            self.fd, data, size, MSG_DONTWAIT, &kernel_time_ns if self.has_kernel_time else NULL
        )
        if received < 0:
            return self._found(received)
        self.frames.kernel_time_ns = kernel_time_ns
        return received

    cdef Py_ssize_t _found(self, Py_ssize_t error) except -2:
        """A call failed with -errno: that nothing has arrived, or the end of the connection."""
        if error != -EAGAIN and error != -EINTR:
            # The kernel tells this only once.
            self.error = OSError(-error, os.strerror(-error))
            self.abort()
        return NOTHING

    cdef int _ended(self) except -1:
        self.is_ended = True
        self._stop()
        if not self.protocol.eof_received():
            self.transport.close()
        return 0

    cdef int _wait_for_bytes(self) except -1:
        if self.poller is not None and not (<BusyPoller> self.poller).is_running:
            self.poller = None
        if self.poller is not None:
            (<BusyPoller> self.poller).readers.append(self)
        else:
            self.loop.add_reader(self.fd, self.read_ready)
        return 0

    cdef int _stop(self) except -1:
        if self.reads:
            self.reads = False
            if self.poller is not None:
                (<BusyPoller> self.poller).readers.remove(self)
            else:
                self.loop.remove_reader(self.fd)
        return 0


# The BusyPoller of each event loop that has one.
_pollers = weakref.WeakKeyDictionary()


def busy_poller():
    """Return the BusyPoller of the running event loop, None if it sleeps as others do."""
    return _pollers.get(asyncio.get_running_loop())


cdef class BusyPoller:
    """Keeps an event loop from ever sleeping in the kernel: start_busy_polling() makes it.

    Between its turns the event loop has one of its own, for everything else that it does.
    """

    def __init__(self, double turn):
        self.loop = asyncio.get_running_loop()
        self.readers = []
        self.turn_ns = <int64_t> (turn * 1e9)
        self.turn = self._turn
        self.is_running = True
        self._schedule()

    def stop(self):
        """Let the event loop sleep again. Connections that were polled are read by the event loop from now on."""
        cdef SocketReader reader
        if not self.is_running:
            return
        self.is_running = False
        if _pollers.get(self.loop) is self:
            del _pollers[self.loop]
        for reader in list(self.readers):
            reader.pause_reading()
            reader.resume_reading()

    cdef int _schedule(self) except -1:
        self.loop.call_soon(self.turn)
        return 0

    def _turn(self):
        cdef:
            list readers = self.readers
            int64_t begin = monotonic_ns()
            int64_t elapsed_ns
            Py_ssize_t i, size

        if not self.is_running:
            return
        # First of all: what is waiting keeps the event loop from sleeping, whatever is raised below.
        self._schedule()
        while True:
            i = size = 0
            while i < len(readers):     # which a reader may leave on the way
                size += (<SocketReader> readers[i]).read()
                i += 1
            # Whoever has just been read from is not the next to send: the event loop's turn delays least after a read.
            elapsed_ns = monotonic_ns() - begin
            if (elapsed_ns >= self.turn_ns and size) or elapsed_ns >= 2 * self.turn_ns or not self.is_running:
                break


def start_busy_polling(*, double turn=50e-6):
    """Have the running event loop spin instead of sleeping until something happens, and return its BusyPoller.

    For a process that has a processor of its own: it uses all of it. In return nothing is lost to waking up.
    Connections that ws_connect() opens from now on are read directly, without asking the event loop, those to wss as
    well; everything else goes on as before.

    turn -- seconds after which the event loop has its turn: after a read if one comes, or else in twice the time.
        Timers, and tasks that a listener wakes, may be as late. A turn costs a system call or two; 0 takes one after
        every look at the sockets, for those who wait in tasks.

    ValueError for a negative turn; RuntimeError without a running event loop, or if it is polling already.
    """
    loop = asyncio.get_running_loop()
    if not 0 <= turn <= 1:
        raise ValueError(f"expected a turn of 0 to 1 seconds, found {turn}")
    if loop in _pollers:
        raise RuntimeError("the event loop is polling already")
    poller = _pollers[loop] = BusyPoller(turn)
    return poller
