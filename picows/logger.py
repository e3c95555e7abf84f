"""Where picows logs to."""

from __future__ import annotations

import logging
from typing import TypeAlias

__all__ = ["PICOWS_DEBUG_LL", "LoggerLike", "connection_logger"]

PICOWS_DEBUG_LL = 9
"""A level below DEBUG: what only somebody who debugs picows itself wants to read."""

# In quotes: LoggerAdapter takes its parameter at run time from Python 3.11 on.
LoggerLike: TypeAlias = "logging.Logger | logging.LoggerAdapter[logging.Logger]"


def connection_logger(logger_name: str | LoggerLike | None, default: str) -> LoggerLike:
    """`logger_name` is the part behind "picows." (None: `default`), or something that logs."""
    if logger_name is None or isinstance(logger_name, str):
        return logging.getLogger(f"picows.{logger_name or default}")
    return logger_name
