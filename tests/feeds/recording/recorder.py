"""A program that records until it is killed: `recorder.py FILE`. Prints how much of it is surely in the file."""

import itertools
import random
import sys

from feeds.recording import Kind, RecordingWriter


def main() -> None:
    noise = random.Random(1)
    with RecordingWriter(sys.argv[1], append=True, block_size=2000, flush_interval=0.05) as writer:
        for n in itertools.count():
            writer.write_message(1_000_000 * (n + 1), 0, Kind.TICK, b"%d " % n + noise.randbytes(n % 90))
            if n % 64 == 63:
                writer.flush(wait=True)
                print(n + 1, flush=True)


if __name__ == "__main__":
    main()
