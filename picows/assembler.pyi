from picows.frame import WSFrame, WSMsgType

class MessageAssembler:
    """Puts the fragments of messages together, for one direction of one connection.

    max_message_size -- bytes; a longer message is rejected with MESSAGE_TOO_BIG before it is complete.
    check_utf8 -- reject text that is not UTF-8 with INVALID_TEXT, at the first frame that shows it. Compressed text
        (RSV1 set) is left alone.
    """

    def __init__(self, max_message_size: int = 10485760, check_utf8: bool = True) -> None: ...
    @property
    def msg_type(self) -> WSMsgType: ...
    @property
    def rsv1(self) -> bool: ...
    @property
    def payload_size(self) -> int: ...
    @property
    def max_message_size(self) -> int: ...
    @property
    def checks_utf8(self) -> bool: ...
    def add_frame(self, frame: WSFrame) -> tuple[WSMsgType, bytes] | None:
        """Add a data frame; return the message as `(msg_type, payload)` if it is complete now, else None.

        ValueError for a control frame; WSProtocolError, with the close code, for one that breaks RFC 6455 or the limit.
        """
