"""The next block of a recording, decompressed while the one before it is read."""

import threading
from queue import SimpleQueue

import zstandard

__all__ = ["ReadAhead", "decompress"]


def decompress(decompressor: zstandard.ZstdDecompressor, stored: memoryview, raw: memoryview) -> str | None:
    """Fill `raw` but for its last byte, which shows a frame that is too long; return what is wrong, or None."""
    try:
        # The stream interface is the one that writes into memory we own. It takes the whole frame in one call.
        with decompressor.stream_reader(stored, read_size=max(1, len(stored)), closefd=False) as stream:
            size = stream.readinto(raw)
    except zstandard.ZstdError as error:
        return str(error)
    return None if size == len(raw) - 1 else f"{size} bytes or more"


class _Job:
    """A block to be decompressed: `raw` and `problem` are those of the thread until it releases `done`."""

    def __init__(self, offset: int, raw_size: int, stored: bytes, raw: bytearray) -> None:
        self.offset = offset
        self.raw_size = raw_size
        self.stored = stored
        self.raw = raw
        self.problem: str | None = None
        self.error: BaseException | None = None
        self.began = threading.Semaphore(0)
        self.done = threading.Semaphore(0)


class ReadAhead:
    """A thread that decompresses one block at a time, without the GIL. Used by one reader; ends with it.

    Most of the time the reader's thread is in compiled code, which does not give the GIL away. So it waits until the
    thread has begun, which then needs the GIL no more before the reader waits for the block.
    """

    def __init__(self, max_window_size: int) -> None:
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._job: _Job | None = None
        self._spare = bytearray()
        self._thread = threading.Thread(
            target=_work, args=(self._jobs, max_window_size), name="feeds-read-ahead", daemon=True
        )
        self._thread.start()

    def begin(self, offset: int, stored: bytes, raw_size: int) -> None:
        """Decompress `stored`, the content of the block at `offset` of the file. What was begun before is given up."""
        if not self._thread.is_alive():  # in a process that was forked
            return
        if len(self._spare) < raw_size + 1:
            self._spare = bytearray(raw_size + 1)
        self._job = _Job(offset, raw_size, stored, self._spare)
        self._jobs.put(self._job)
        self._job.began.acquire()

    def take(self, offset: int, spare: bytearray) -> tuple[bytearray, str | None] | None:
        """Return the content of the block at `offset` and what is wrong with it; None where it was not begun.

        `spare` is kept for a later block where there is a result.
        """
        job, self._job = self._job, None
        if job is None or not self._thread.is_alive():
            return None
        job.done.acquire()
        if job.error is not None:
            raise job.error
        if job.offset != offset:
            return None
        self._spare = spare
        return job.raw, job.problem

    def close(self) -> None:
        """End the thread, and wait until it has ended."""
        self._jobs.put(None)
        self._thread.join()

    def __del__(self) -> None:
        self._jobs.put(None)  # a reader that nobody closed


def _work(jobs: "SimpleQueue[_Job | None]", max_window_size: int) -> None:
    decompressor = zstandard.ZstdDecompressor(max_window_size=max_window_size)
    while (job := jobs.get()) is not None:
        job.began.release()
        try:
            with memoryview(job.stored) as stored, memoryview(job.raw)[: job.raw_size + 1] as raw:
                job.problem = decompress(decompressor, stored, raw)
        except BaseException as error:  # MemoryError: the reader raises it
            job.error = error
        job.done.release()
        del job
