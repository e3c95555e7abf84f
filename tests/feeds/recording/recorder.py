"""A program that records until it dies in the middle of a write: `recorder.py FILE SEED`.

Prints how much of the recording is surely in the file. Which write it is, and how much of it the system took, is the
seed's choice.
"""

import io
import itertools
import os
import random
import signal
import sys

from feeds.recording import Kind, RecordingWriter

chance = random.Random(int(sys.argv[2]))


class DoomedFile(io.FileIO):
    writes_left = chance.randint(2, 200)  # of the first two comes the header

    def write(self, data):
        DoomedFile.writes_left -= 1
        if DoomedFile.writes_left < 0:
            super().write(data[: chance.randint(0, len(data))])
            os.kill(os.getpid(), signal.SIGKILL)
        return super().write(data)


def main() -> None:
    io.FileIO = DoomedFile
    noise = random.Random(1)
    with RecordingWriter(sys.argv[1], append=True, block_size=2000, flush_interval=0.05) as writer:
        for n in itertools.count():
            writer.write_message(1_000_000 * (n + 1), 0, Kind.TICK, b"%d " % n + noise.randbytes(n % 90))
            if n % 64 == 63:
                writer.flush(wait=True)
                print(n + 1, flush=True)


if __name__ == "__main__":
    main()
