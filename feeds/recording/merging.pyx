# cython: language_level=3
"""Several recordings, and folders of them, as one session in the order of receive times."""
import os

from libc.stdint cimport INT64_MIN, int64_t

from feeds.recording.message cimport KIND_MASK, KIND_SOURCE
from feeds.recording.record cimport MAX_SOURCE

from feeds.recording.errors import NotARecording, RecordingError
from feeds.recording.importers import open_recording

__all__ = ["MergedSource", "open_session", "session_files"]


def session_files(paths):
    """Return the files that `paths` name: a folder stands for the files in it, in the order of their names."""
    if isinstance(paths, (str, os.PathLike)):
        paths = [paths]
    files = []
    for path in paths:
        if os.path.isdir(path):
            inside = sorted(entry.path for entry in os.scandir(path) if entry.is_file())
            if not inside:
                raise NotARecording(f"{os.fsdecode(path)}: expected a folder of recordings, found no file in it")
            files += inside
        else:
            files.append(os.fsdecode(path))
    return files


def open_session(paths, *, format="auto", exchange=None, strict=False):
    """Open recordings as one: a file as it is, several merged in the order of receive times."""
    files = session_files(paths)
    if len(files) == 1:
        return open_recording(files[0], format=format, exchange=exchange, strict=strict)
    return MergedSource(files, lambda path: open_recording(path, format=format, exchange=exchange, strict=strict))


cdef class MergedSource(RawSource):
    def __init__(self, files, open_one):
        cdef _Line line
        self.open_one = open_one
        self.path = f"{len(files)} recordings, the first {files[0]}"
        self.lines = []
        self.total_bytes = sum(os.path.getsize(file) for file in files)
        runs = {}
        for number, file in enumerate(files):
            with open_one(file) as reader:
                first_ts = _first_ts(reader)
                # After the first message, the metadata is still that of the file's own run.
                session, part = reader.metadata.get("session"), reader.metadata.get("part")
            if isinstance(session, str) and isinstance(part, int):
                runs.setdefault(session, []).append((part, number, file, first_ts))
            else:
                runs[number] = [(0, number, file, first_ts)]
        waiting = []
        for parts in runs.values():
            parts.sort()
            line = _Line.__new__(_Line)
            line.paths = [part[2] for part in parts]
            line.first_times = [part[3] for part in parts]
            line.first_ts = line.first_times[0]
            line.run = -1
            line.numbers = {}
            waiting.append((line.first_ts, parts[0][1], line))
        waiting.sort(key=lambda entry: entry[:2])
        self.waiting = [line for _, _, line in waiting]

    cpdef bint seek(self, int64_t ts) except -1:
        """Only before the first message."""
        cdef _Line line
        if self.current is not None or self.lines:
            raise ValueError(f"{self.path}: expected to seek before the first message, found one read")
        self.start = ts
        for line in self.waiting:
            # Every file of a run repeats the declarations: one that the next begins before `ts` tells nothing more.
            while line.following + 1 < len(line.paths) and INT64_MIN < line.first_times[line.following + 1] < ts:
                self.bytes_before += os.path.getsize(line.paths[line.following])
                line.following += 1
        return True

    cdef bint advance(self) except -1:
        cdef _Line line, best
        self.payload = NULL
        if self.current is not None:
            if not self._step(self.current):
                self.lines.remove(self.current)
            self.current = None
        while True:
            best = None
            for line in self.lines:
                if best is None or line.ts < best.ts:       # of equals the first: a batch stays whole
                    best = line
            if self.waiting:
                line = <_Line> self.waiting[0]
                if best is None or line.first_ts <= max(best.ts, self.start):
                    self.waiting.pop(0)
                    line.ts = line.first_ts
                    if self._step(line):
                        self.lines.append(line)
                    continue
            if best is None:
                self.bytes_read = self.bytes_before
                return False
            self._take(best)
            self.current = best
            return True

    cpdef close(self):
        cdef _Line line
        for line in self.lines:
            if line.reader is not None:
                self._close_reader(line)
        self.lines = []
        self.waiting = []
        self.current = None
        RawSource.close(self)

    cdef bint _step(self, _Line line) except -1:
        """Take the line's next message in hand, from its next file if need be; False at its end."""
        while True:
            if line.reader is None:
                if line.following == len(line.paths):
                    self._release(line)
                    return False
                line.reader = self.open_one(line.paths[line.following])
                line.following += 1
                if self.start:
                    line.reader.seek(self.start)
            if line.reader.advance():
                break
            self.bytes_before += line.reader.total_bytes
            self._close_reader(line)
        if line.reader.ts_recv:
            line.ts = line.reader.ts_recv
        return True

    cdef int _take(self, _Line line) except -1:
        """Make the message that the line has in hand the current one."""
        cdef RawSource reader = line.reader
        if reader.run != line.run:
            self._release(line)
            line.run = reader.run
            line.merged_run = self.runs
            self.runs += 1
        self.run = line.merged_run
        self.ts_recv = reader.ts_recv
        self.flags = reader.flags
        self.payload = reader.payload
        self.size = reader.size
        self.tag = reader.tag
        self.extension = reader.extension
        self.extension_size = reader.extension_size
        self.bytes_read = self.bytes_before + reader.bytes_read
        self.source = 0
        if reader.source:
            number = line.numbers.get(reader.source)
            if number is None:
                number = self._number(line, reader.source)
            self.source = number
            if reader.flags & KIND_MASK == KIND_SOURCE:
                self.sources[number] = reader.sources.get(reader.source)
        return 0

    def _number(self, _Line line, int wanted):
        """Give a source its number: its own one unless another run that goes on at the same time has it."""
        cdef _Line other
        taken = {number for other in self.lines for number in other.numbers.values()}
        number = wanted
        if number in taken:
            number = next((n for n in range(1, MAX_SOURCE + 1) if n not in taken), None)
            if number is None:
                raise RecordingError(f"{self.path}: expected at most {MAX_SOURCE} sources at a time, found one more")
        line.numbers[wanted] = number
        return number

    def _release(self, _Line line):
        """The line's run is over: its numbers are free."""
        for number in line.numbers.values():
            self.sources.pop(number, None)
        line.numbers.clear()

    def _close_reader(self, _Line line):
        cdef RawSource reader = line.reader
        line.reader = None
        self.damages += reader.damages[: max(0, self.max_damages - len(self.damages))]
        self.damage_count += reader.damage_count
        self.lost_bytes += reader.lost_bytes
        reader.close()


cdef int64_t _first_ts(RawSource reader) except? -1:
    """Return the first time that a recording knows; the least there is if it knows none in its first thousand messages."""
    cdef int i
    for i in range(1000):
        if not reader.advance():
            break
        if reader.ts_recv:
            return reader.ts_recv
    return INT64_MIN
