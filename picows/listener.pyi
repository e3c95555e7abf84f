from picows.frame import WSFrame
from picows.transport import WSTransport

class WSListener:
    """Receives what happens on one connection. Subclass it; every method may be overridden.

    What a method raises closes the connection (see `disconnect_on_exception`) and is raised by
    `WSTransport.wait_disconnected()`.
    """

    def on_ws_connected(self, transport: WSTransport) -> None:
        """The opening handshake succeeded. Called once, before any frame."""

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """A frame arrived. `frame` is valid until this returns.

        A CLOSE frame is the last one. It is answered with the same code when this returns, unless the listener did.
        """

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """The connection is gone. Called once if on_ws_connected was called, and last."""

    def send_user_specific_ping(self, transport: WSTransport) -> None:
        """Send whatever this peer takes for a ping; by default a PING frame."""

    def is_user_specific_pong(self, frame: WSFrame) -> bool:
        """Say whether `frame` answers send_user_specific_ping(); by default a PONG frame does.

        Asked only while an answer is awaited; a frame claimed here does not reach on_ws_frame. It may be asked about a
        frame before the one in front of it has been delivered.
        """

    def pause_writing(self) -> None:
        """More than the high-water mark of the underlying transport is waiting to be sent."""

    def resume_writing(self) -> None:
        """What is waiting to be sent has sunk below the low-water mark."""
