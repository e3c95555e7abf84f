"""Clocks. For C code only: `feeds.clock` has `wall_ns` and `monotonic_ns` in its `.pxd`."""
