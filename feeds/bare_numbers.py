"""Numbers that stand bare in JSON, as `msgspec.Raw`: every digit is kept."""

from msgspec import Raw

__all__ = ["given"]


def given(number: Raw) -> Raw | None:
    """Return the number, None where there is none: null, or the empty default of a field that is missing."""
    return None if len(number) == 0 or bytes(number) == b"null" else number
