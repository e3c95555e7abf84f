"""What recording costs: ns per message to write and to read back, and the size of the file.

    python benchmarks/recording.py [FILE]       any recording, in our format or another

The messages are in memory before the clock starts. They are written as the live receiver writes them, by `write_view`
in bursts; between bursts, untimed, the queue empties and the next burst is copied to where the last one was, as a read
of a socket does. "data path" is CPU time of
the thread that records; "with compression" is that of the process, with the thread that compresses and writes in it.
Reading is `advance()` to the end, decompression included. Every round does everything once, on one core where the
system allows it.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from measuring import Figure, default_capture, load, loops, pin

from feeds.recording import Kind, RawMessage, RecordingReader, RecordingWriter

BURST = 256  # messages


def write(path: Path, messages: list[RawMessage]) -> tuple[int, int]:
    """Record the messages; return CPU time (ns) of this thread while it recorded, and of the process until closed."""
    write_all = loops().write_all
    source = loops().MemorySource(messages)
    thread = written = 0
    process = time.process_time_ns()
    with RecordingWriter(path) as writer:
        while written < len(messages):
            source.receive(BURST)
            start = time.thread_time_ns()
            written += write_all(writer, source, BURST)
            thread += time.thread_time_ns() - start
            while writer.pending_blocks:
                time.sleep(0.0002)
    if writer.dropped:
        raise SystemExit(f"{path}: expected every message to be recorded, found {writer.dropped} dropped")
    return thread, time.process_time_ns() - process


def read(path: Path, expected: int) -> int:
    """Read the recording to its end; return the CPU time, ns."""
    with RecordingReader(path, strict=True) as reader:
        start = time.thread_time_ns()
        count = loops().read_all(reader)
        elapsed = time.thread_time_ns() - start
    if count != expected:
        raise SystemExit(f"{path}: expected {expected} messages, found {count}")
    return elapsed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("file", type=Path, nargs="?", default=default_capture())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--core", type=int, help="to be pinned to (default: the last)")
    options = parser.parse_args()

    messages = load(options.file)
    loops()
    pinned = pin(options.core)
    writing, compressing, reading = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(options.rounds):
            path = Path(folder) / f"{number}.feeds"
            thread, process = write(path, messages)
            writing.append(thread / len(messages))
            compressing.append(process / len(messages))
            reading.append(read(path, len(messages)) / len(messages))
        size = path.stat().st_size
    payload = sum(len(message.payload) for message in messages)
    received = sum(message.kind in (Kind.TEXT, Kind.BINARY) for message in messages)

    print(f"# Recording `{options.file.name}`\n")
    print(f"{received:,} messages received, {payload:,} bytes of payload; {options.rounds} rounds, {pinned}.\n")
    print("| ns per message | median | range |\n| --- | --: | --: |")
    for title, values in (
        ("write, data path", writing),
        ("write, with compression", compressing),
        ("read back", reading),
    ):
        figure = Figure(values)
        print(f"| {title} | {figure} | {figure.range} |")
    original = options.file.stat().st_size
    print(f"\nFile: {size:,} bytes; {payload / size:.1f} times smaller than the payload,", end=" ")
    print(f"{size / original:.2f} of the size of the original.")


if __name__ == "__main__":
    main()
