"""One side of an order book. For C code only: `feeds.ladder` has its `.pxd`."""
