def serialize_frame(
    msg_type: int,
    payload: str | bytes | bytearray | memoryview,
    *,
    fin: bool = True,
    rsv1: bool = False,
    mask: bytes | None = None,
) -> bytes:
    """Return one frame as it goes on the wire.

    `payload` is bytes-like or str; `mask` None (a server's frame) or the four bytes to mask with (a client's). Nothing
    is checked against RFC 6455: tests need broken frames too.
    """

def serialize_frames(frames: list[tuple[int, bytes]]) -> bytes:
    """Return frames as they go on the wire, one behind the other; each is (opcode, payload), of a server, and final."""
