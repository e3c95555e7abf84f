"""An example: a strategy and a WebSocket listener outside of picows-feeds, in Cython."""
