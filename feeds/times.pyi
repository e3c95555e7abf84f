"""Times as exchanges write them, in ns since the epoch. ValueError for what is no time; 0 stands for unknown."""

__all__ = ["iso_ns", "ms_ns", "seconds_ns", "unix_ns", "us_ns"]

def ms_ns(value: int | str) -> int:
    """Return a time in whole milliseconds, a number or its text."""

def us_ns(value: int | str) -> int:
    """Return a time in whole microseconds, a number or its text."""

def unix_ns(value: int | str) -> int:
    """Return a whole time, a number or its text, that tells its unit by its size: 10 digits s, 13 ms, 16 us, 19 ns."""

def seconds_ns(value: str) -> int:
    """Return a time in seconds with a fraction, as text: "1618678142.557535". Digits beyond ns are dropped."""

def iso_ns(value: str) -> int:
    """Return an ISO 8601 time in UTC: "2023-10-06T17:35:55.440295Z". Years before 1970 give 0."""
