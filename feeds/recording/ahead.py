"""The next blocks of a recording, decompressed while those before them are read."""

import struct
import threading
from collections.abc import Sequence
from queue import SimpleQueue
from typing import Any, NamedTuple

import zstandard

from feeds.recording.format import BlockHeader

__all__ = ["CAN_READ_AHEAD", "Block", "ReadAhead", "decompress"]

# Not in the variant of the library for interpreters without C extensions.
CAN_READ_AHEAD = "multi_decompress_to_buffer" in zstandard.backend_features


def decompress(decompressor: zstandard.ZstdDecompressor, stored: memoryview, raw: memoryview) -> str | None:
    """Fill `raw` but for its last byte, which shows a frame that is too long; return what is wrong, or None."""
    try:
        # The stream interface is the one that writes into memory we own. It takes the whole frame in one call.
        with decompressor.stream_reader(stored, read_size=max(1, len(stored)), closefd=False) as stream:
            size = stream.readinto(raw)
    except zstandard.ZstdError as error:
        return str(error)
    return None if size == len(raw) - 1 else f"{size} bytes or more"


class Block(NamedTuple):
    """A block of messages: its content is a Zstandard frame before it is decompressed, and the messages then."""

    offset: int  # in the file
    header: BlockHeader
    content: Any  # a buffer


class _Group:
    """Blocks to be decompressed: `contents` and `error` are those of the thread until it releases `done`."""

    def __init__(self, blocks: Sequence[Block]) -> None:
        self.blocks = blocks
        self.contents: Any = None  # a sequence of buffers
        self.error: BaseException | None = None
        self.began = threading.Semaphore(0)
        self.done = threading.Semaphore(0)


class ReadAhead:
    """A thread that decompresses a group of blocks at a time, without the GIL. Used by one reader; ends with it.

    Most of the time the reader's thread is in compiled code, which does not give the GIL away. So it waits until the
    thread has begun, which then needs the GIL no more before the reader waits for the group. Waking a thread takes as
    long as reading a hundred messages: that is why there are groups.
    """

    def __init__(self) -> None:
        self._groups: SimpleQueue[_Group | None] = SimpleQueue()
        self._group: _Group | None = None
        self._thread = threading.Thread(target=_work, args=(self._groups,), name="feeds-read-ahead", daemon=True)
        self._thread.start()

    def begin(self, blocks: Sequence[Block]) -> None:
        """Decompress these blocks, which follow each other in the file. What was begun before is given up."""
        if not self._thread.is_alive():  # in a process that was forked
            return
        self._group = _Group(blocks)
        self._groups.put(self._group)
        self._group.began.acquire()

    def take(self, offset: int) -> list[Block] | None:
        """Return the blocks that were begun, the first of which is at `offset` of the file.

        None where no such blocks were begun. An empty list where one of them is not what its header says.
        """
        group, self._group = self._group, None
        if group is None or not self._thread.is_alive():
            return None
        group.done.acquire()
        if group.error is not None:
            raise group.error
        if group.blocks[0].offset != offset:
            return None
        if group.contents is None:
            return []
        return [
            Block(block.offset, block.header, content)
            for block, content in zip(group.blocks, group.contents, strict=True)
        ]

    def close(self) -> None:
        """End the thread, and wait until it has ended."""
        self._groups.put(None)
        self._thread.join()

    def __del__(self) -> None:
        self._groups.put(None)  # a reader that nobody closed


def _work(groups: "SimpleQueue[_Group | None]") -> None:
    decompressor = zstandard.ZstdDecompressor()
    while (group := groups.get()) is not None:
        group.began.release()
        try:
            # The one call that takes several frames, and has the GIL for none of them.
            group.contents = decompressor.multi_decompress_to_buffer(
                [block.content for block in group.blocks],
                decompressed_sizes=struct.pack(
                    f"={len(group.blocks)}Q", *(block.header.raw_size for block in group.blocks)
                ),
            )
        except zstandard.ZstdError:
            pass  # the reader finds out which of them it is
        except BaseException as error:  # MemoryError: the reader raises it
            group.error = error
        group.done.release()
        del group
