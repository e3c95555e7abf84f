from typing import final

@final
class Deflater:
    """Compresses the messages of one direction of one connection.

    window_bits -- 8 to 15, as agreed.
    keeps_context -- False: each message begins anew ("no_context_takeover").
    threshold -- bytes; a message in one frame that is shorter goes uncompressed.
    level, memory_level -- those of zlib.
    """

    def __init__(
        self,
        window_bits: int = 15,
        keeps_context: bool = True,
        threshold: int = 0,
        level: int = 6,
        memory_level: int = 8,
    ) -> None: ...
    @property
    def window_bits(self) -> int: ...
    @property
    def keeps_context(self) -> bool: ...
    @property
    def threshold(self) -> int: ...
    @property
    def level(self) -> int: ...
    @property
    def memory_level(self) -> int: ...
    def deflate(self, payload: bytes | bytearray | memoryview, begins: bool = True, fin: bool = True) -> bytes | None:
        """The payload of one frame compressed, or None if the frame has to go as it is.

        `begins`, `fin` -- whether it is the first, the last frame of its message.
        """

@final
class Inflater:
    """Inflates the compressed messages of one direction of one connection.

    window_bits -- 8 to 15, as agreed.
    keeps_context -- False: the peer begins each message anew ("no_context_takeover").
    max_message_size -- bytes; a message that inflates to more is rejected with MESSAGE_TOO_BIG before it is complete.
    """

    def __init__(self, window_bits: int = 15, keeps_context: bool = True, max_message_size: int = 10485760) -> None: ...
    @property
    def window_bits(self) -> int: ...
    @property
    def keeps_context(self) -> bool: ...
    @property
    def max_message_size(self) -> int: ...
    def inflate(self, payload: bytes | bytearray | memoryview, fin: bool = True) -> bytes:
        """What the payload of one frame of a compressed message inflates to; `fin`: it is the last one.

        WSProtocolError, after which the Inflater is of no use: MESSAGE_TOO_BIG, or INVALID_TEXT for what is not DEFLATE
        data or ends inside a block. The last is certain to be noticed where no context is kept, else mostly.
        """
