"""An example: WebSocket listeners outside of picows-feeds, in Cython."""
