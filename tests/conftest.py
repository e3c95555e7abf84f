"""What holds for all tests."""

import signal


def pytest_configure() -> None:
    """Let programs that tests start hear Ctrl-C, which shells have what they run in the background ignore."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
