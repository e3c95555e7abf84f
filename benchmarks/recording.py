"""What recording costs: ns per message to write and to read back, and the size of the file.

    python benchmarks/recording.py [FILE]       any recording, in our format or another
    python benchmarks/recording.py --write      and write the section of RESULTS.md

The messages are in memory before the clock starts. They are written as the live receiver writes them, by `write_view`
in bursts; between bursts, untimed, the queue empties and the next burst is copied to where the last one was, as a read
of a socket does. "data path" is CPU time of the thread that records, less what it takes to ask for that. A block is
handed to the thread that compresses when it is full, and every second of the session (`flush_interval`), which costs
the more of a message the fewer there are: "blocks that are full" is without the latter, as it is at a high rate. "with
compression" is CPU time of the process, with the thread that compresses and writes in it. Reading is `advance()` to the
end, decompression included. Every round does everything once, on one core where the system allows it.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from measuring import Figure, default_capture, load, loops, machine, pin, row, write_section

from feeds.recording import Kind, RawMessage, RecordingReader, RecordingWriter

BURST = 256  # messages
FLUSHED, NEVER = 1.0, 1e9  # seconds


def write(path: Path, messages: list[RawMessage], flush_interval: float) -> tuple[int, int]:
    """Record the messages; return CPU time (ns) of this thread while it recorded, and of the process until closed."""
    write_all = loops().write_all
    source = loops().MemorySource(messages)
    asking = cost_of_asking()
    thread = written = 0
    process = time.process_time_ns()
    with RecordingWriter(path, flush_interval=flush_interval) as writer:
        while written < len(messages):
            source.receive(BURST)
            start = time.thread_time_ns()
            written += write_all(writer, source, BURST)
            thread += time.thread_time_ns() - start - asking
            while writer.pending_blocks:
                time.sleep(0.0002)
    if writer.dropped:
        raise SystemExit(f"{path}: expected every message to be recorded, found {writer.dropped} dropped")
    return thread, time.process_time_ns() - process


def cost_of_asking() -> int:
    """Return how much of the thread's CPU time (ns) lies between two readings of it, which are system calls."""
    found = []
    for _ in range(1001):
        start = time.thread_time_ns()
        found.append(time.thread_time_ns() - start)
    return int(statistics.median(found))


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
    parser.add_argument("--write", action="store_true", help="write the section of RESULTS.md")
    options = parser.parse_args()

    messages = load(options.file)
    loops()
    pinned = pin(options.core)
    unflushed, writing, compressing, reading = [], [], [], []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(options.rounds):
            thread, _ = write(Path(folder) / f"{number}-unflushed.feeds", messages, NEVER)
            unflushed.append(thread / len(messages))
            path = Path(folder) / f"{number}.feeds"
            thread, process = write(path, messages, FLUSHED)
            writing.append(thread / len(messages))
            compressing.append(process / len(messages))
            reading.append(read(path, len(messages)) / len(messages))
        size = path.stat().st_size
    payload = sum(len(message.payload) for message in messages)
    received = sum(message.kind in (Kind.TEXT, Kind.BINARY) for message in messages)

    lines = [
        "# Recording",
        "",
        f"`benchmarks/recording.py`: {received:,} messages of `{options.file.name}`, {payload:,} bytes of payload; "
        f"{options.rounds} rounds, {pinned}. {machine()}",
        "",
        row(["ns per message", "median", "range"]),
        row(["---", "--:", "--:"]),
    ]
    for title, values in (
        ("write, data path, blocks that are full", unflushed),
        ("write, data path, and every second of this session", writing),
        ("write, with compression", compressing),
        ("read back", reading),
    ):
        figure = Figure(values)
        lines.append(row([title, str(figure), figure.range]))
    original = options.file.stat().st_size
    lines += [
        "",
        f"File: {size:,} bytes; {payload / size:.1f} times smaller than the payload, {size / original:.2f} of the "
        "original's size.",
    ]
    text = "\n".join(lines) + "\n"
    print(text, end="")
    if options.write:
        write_section(text)


if __name__ == "__main__":
    main()
