"""DEFLATE by the obvious reading of RFC 1951: an oracle that also tells how far back a stream refers."""

from __future__ import annotations

LENGTHS = [
    (3, 0), (4, 0), (5, 0), (6, 0), (7, 0), (8, 0), (9, 0), (10, 0), (11, 1), (13, 1), (15, 1), (17, 1), (19, 2),
    (23, 2), (27, 2), (31, 2), (35, 3), (43, 3), (51, 3), (59, 3), (67, 4), (83, 4), (99, 4), (115, 4), (131, 5),
    (163, 5), (195, 5), (227, 5), (258, 0),
]  # fmt: skip
DISTANCES = [(d + 1, 0) for d in range(4)] + [((2 + d % 2 << d // 2 - 1) + 1, d // 2 - 1) for d in range(4, 30)]
CODE_LENGTH_ORDER = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15]


class _Bits:
    def __init__(self, data: bytes) -> None:
        self.value = int.from_bytes(data, "little")
        self.left = 8 * len(data)
        self.used = 0

    def take(self, count: int) -> int:
        assert count <= self.left, "stream ends inside a block"
        taken = self.value & ((1 << count) - 1)
        self.value >>= count
        self.left -= count
        self.used += count
        return taken

    def symbol(self, codes: dict[tuple[int, int], int]) -> int:
        code = 0
        for size in range(1, 16):
            code = code << 1 | self.take(1)
            if (size, code) in codes:
                return codes[size, code]
        raise AssertionError("no such code")


def _codes(sizes: list[int]) -> dict[tuple[int, int], int]:
    """Section 3.2.2: codes of the same length are consecutive, shorter ones come first."""
    codes = {}
    code = 0
    for size in range(1, 16):
        for symbol, symbol_size in enumerate(sizes):
            if symbol_size == size:
                codes[size, code] = symbol
                code += 1
        code <<= 1
    return codes


def _dynamic_codes(bits: _Bits) -> tuple[dict[tuple[int, int], int], dict[tuple[int, int], int]]:
    literals, distances, count = bits.take(5) + 257, bits.take(5) + 1, bits.take(4) + 4
    sizes = [0] * 19
    for symbol in CODE_LENGTH_ORDER[:count]:
        sizes[symbol] = bits.take(3)
    codes = _codes(sizes)
    sizes = []
    while len(sizes) < literals + distances:
        symbol = bits.symbol(codes)
        if symbol < 16:
            sizes.append(symbol)
        elif symbol == 16:
            sizes += [sizes[-1]] * (3 + bits.take(2))
        else:
            sizes += [0] * (3 + bits.take(3) if symbol == 17 else 11 + bits.take(7))
    return _codes(sizes[:literals]), _codes(sizes[literals:])


def slow_inflate(data: bytes, before: bytes = b"") -> tuple[bytes, int]:
    """`(what data inflates to, the largest distance in it)`; `before` is what the stream may refer to."""
    bits = _Bits(data)
    out = bytearray(before)
    farthest = 0
    is_final = 0
    while bits.left >= 3:
        if is_final:  # another stream begins, at a byte
            bits.take(-bits.used % 8)
        is_final = bits.take(1)
        kind = bits.take(2)
        if kind == 0:
            bits.take(-bits.used % 8)
            size, complement = bits.take(16), bits.take(16)
            assert size ^ complement == 0xFFFF
            out += bytes(bits.take(8) for _ in range(size))
            continue
        assert kind != 3
        if kind == 1:
            literals = _codes([8] * 144 + [9] * 112 + [7] * 24 + [8] * 8)
            distances = _codes([5] * 30)
        else:
            literals, distances = _dynamic_codes(bits)
        while (symbol := bits.symbol(literals)) != 256:
            if symbol < 256:
                out.append(symbol)
                continue
            base, extra = LENGTHS[symbol - 257]
            length = base + bits.take(extra)
            base, extra = DISTANCES[bits.symbol(distances)]
            distance = base + bits.take(extra)
            farthest = max(farthest, distance)
            assert distance <= len(out)
            for _ in range(length):
                out.append(out[-distance])
    return bytes(out[len(before) :]), farthest
