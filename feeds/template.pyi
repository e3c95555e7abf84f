from typing import final

from feeds.wire import Wire

__all__ = ["read_like"]

def read_like(
    wire: Wire, model: bytes, message: bytes, price_decimals: int, qty_decimals: int
) -> dict[int, int] | None:
    """Return what the template of `model` reads of `message`, {role number: value}; None if it is unlike it.

    A test's view of what decoders do. ValueError if no template is made of `model`, which must be a message of the kind
    `wire`.
    """

@final
class Template: ...
