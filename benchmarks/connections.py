"""Memory of connections: bytes per idle and per echoing connection, and whether the memory of large frames comes back.

    python benchmarks/connections.py                10,000 connections over TCP, 1,000 over TLS; about five minutes
    python benchmarks/connections.py --quick        500 of each, one run
    python benchmarks/connections.py --write        and write the section of RESULTS.md

One server process and one client process per run, on uvloop, both of the library in question, with its defaults but for
limits of size, pings of its own (off) and permessage-deflate (off unless the row says otherwise). The client opens all
connections: "idle" is after that; then every connection sends 64 B and 1 KiB and gets them back: "after the echo". All
stay open. A figure is the growth of the process's resident memory (Rss of /proc/PID/smaps_rollup) since before the
first connection, in which ten connections were opened, used and left open, divided by the number of connections.
"kernel": growth of TCP's memory in /proc/net/sockstat per connection, both ends, once every byte has been read; it is
the whole machine's, and no part of resident memory.

Large frames, over TCP: the server gets a binary frame of 64 MiB on one connection, then small ones; and 1,000
connections get a frame of 1 MiB each, once, and are idle then. Answers are small.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from measuring import ROOT, Figure
from measuring.environments import ensure
from measuring.results import machine, row, write_section

WORKER = Path(__file__).parent / "measuring" / "connections_worker.py"
HOSTS = [f"127.0.0.{number}" for number in range(1, 9)]  # each with ports of its own: there are 28,000 of them
WARM = 10  # connections before the first measurement
SPARE_FILES = 200  # descriptors of a process that are no connections
LARGE, MEDIUM, SMALL = 64 * 1024 * 1024, 1024 * 1024, 64
PAGE = resource.getpagesize()


class Program(NamedTuple):
    """A row of the table."""

    title: str
    library: str  # of the worker's SIDES
    environment: str | None  # folder in --peers; None: the Python that runs this
    pinned: tuple[str, ...] = ()
    deflate: bool = False
    tls: bool = False


PICOWS = ("picows231", ("picows==2.3.1",))
WEBSOCKETS = ("websockets", ("websockets==17.4",))
PROGRAMS = [
    Program("ours", "picows", None),
    Program("picows 2.3.1", "picows", *PICOWS),
    Program("websockets 17.4", "websockets", *WEBSOCKETS),
    Program("ours, permessage-deflate", "picows", None, deflate=True),
    Program("ours, TLS", "picows", None, tls=True),
    Program("picows 2.3.1, TLS", "picows", *PICOWS, tls=True),
    Program("websockets 17.4, TLS", "websockets", *WEBSOCKETS, tls=True),
]

COLUMNS = ["server, idle", "server, after the echo", "client, idle", "client, after the echo", "kernel"]
LARGE_COLUMNS = ["before", "peak", "after the frame", "after a small one", "1 MiB once, idle", "then a small one"]
Sample = dict[str, float]  # column: bytes


class Worker:
    """A running worker process, and what it weighs."""

    def __init__(self, python: Path, role: str, options: dict[str, Any]) -> None:
        self._process = subprocess.Popen(
            [python, WORKER, role, json.dumps(options)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def say(self, command: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        return self.answer()

    def answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self._process.args}: ended with {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def resident(self) -> int:
        return _kilobytes(f"/proc/{self._process.pid}/smaps_rollup", "Rss")

    def peak(self) -> int:
        """The most that was ever resident."""
        return _kilobytes(f"/proc/{self._process.pid}/status", "VmHWM")

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()


def _kilobytes(path: str, name: str) -> int:
    found = re.search(rf"^{name}:\s*(\d+) kB", Path(path).read_text(), re.MULTILINE)
    if found is None:
        raise SystemExit(f"{path}: expected {name!r}")
    return int(found[1]) * 1024


def kernel_memory() -> int:
    """Bytes that TCP holds for all sockets of this network namespace's machine."""
    found = re.search(r"^TCP:.* mem (\d+)", Path("/proc/net/sockstat").read_text(), re.MULTILINE)
    if found is None:
        raise SystemExit("/proc/net/sockstat: expected 'TCP: ... mem N'")
    return int(found[1]) * PAGE


@contextlib.contextmanager
def running(program: Program, python: Path, certificates: tuple[str, str] | None) -> Iterator[tuple[Worker, Worker]]:
    """A server and a client of `program` with a few connections, none of them measured."""
    options = {
        "library": program.library,
        "deflate": program.deflate,
        "certificate": certificates[0] if program.tls and certificates else None,
        "authority": certificates[1] if program.tls and certificates else None,
        "hosts": HOSTS,
        "addresses": [],
    }
    workers: list[Worker] = []
    try:
        workers.append(server := Worker(python, "server", options))
        workers.append(client := Worker(python, "client", options | server.answer()))
        client.say(f"open {WARM}")
        client.say(f"echo {SMALL}")
        yield server, client
    finally:
        for worker in workers:  # the server first: some log every client that is gone
            worker.end()


def check(server: Worker, expected: int) -> None:
    found = server.say("collect")["connections"]
    if found != expected:
        raise SystemExit(f"expected {expected} connections at the server, found {found}")


def measure(program: Program, python: Path, certificates: tuple[str, str] | None, count: int) -> Sample:
    with running(program, python, certificates) as (server, client):
        check(server, WARM)
        before = server.resident(), client.resident(), kernel_memory()
        client.say(f"open {count}")
        check(server, WARM + count)
        idle = server.resident(), client.resident(), kernel_memory()
        client.say("echo 64")
        client.say("echo 1024")
        check(server, WARM + count)
        echoed = server.resident(), client.resident(), kernel_memory()
    grown = [idle[0] - before[0], echoed[0] - before[0], idle[1] - before[1], echoed[1] - before[1]]
    return {title: size / count for title, size in zip(COLUMNS, [*grown, echoed[2] - before[2]], strict=True)}


def measure_large(program: Program, python: Path, count: int) -> Sample:
    """The server's memory around large frames; the last two columns are growth per connection."""
    with running(program, python, None) as (server, client):
        check(server, WARM)
        sizes = [server.resident()]
        client.say(f"send {LARGE}")
        server.say("collect")
        sizes += [server.peak(), server.resident()]
        for _ in range(3):
            client.say(f"send {SMALL}")
        server.say("collect")
        sizes.append(server.resident())
    with running(program, python, None) as (server, client):
        client.say(f"open {count - WARM}")
        client.say(f"echo {SMALL}")
        check(server, count)
        before = server.resident()
        client.say(f"echo {MEDIUM}")
        server.say("collect")
        sizes.append((server.resident() - before) // count)
        client.say(f"echo {SMALL}")
        server.say("collect")
        sizes.append((server.resident() - before) // count)
    return dict(zip(LARGE_COLUMNS, map(float, sizes), strict=True))


def possible(wanted: int) -> int:
    """How many connections the limit of open files lets one process have, up to `wanted`; raises the soft limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    fit = hard - SPARE_FILES
    if fit < wanted:
        print(f"{wanted:,} connections are impossible: the hard limit of open files is {hard:,}; taking {fit:,}")
    return min(wanted, fit)


def make_certificates(folder: Path) -> tuple[str, str] | None:
    """Files of the server's key and certificate, and of the authority; None without trustme."""
    try:
        import trustme
    except ImportError:
        return None
    authority = trustme.CA()
    authority.issue_cert(*HOSTS).private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
    authority.cert_pem.write_to_path(folder / "authority.pem")
    return str(folder / "server.pem"), str(folder / "authority.pem")


def find_pythons(peers: Path, programs: list[Program], has_tls: bool) -> tuple[dict[Program, Path], dict[str, str]]:
    """The Python of each program, and why others have none."""
    found: dict[Program, Path] = {}
    absent: dict[str, str] = {}
    for program in programs:
        if program.tls and not has_tls:
            absent[program.title] = "its certificates need trustme"
        elif program.environment is None:
            found[program] = Path(sys.executable)
        else:
            python = ensure(peers / program.environment, list(program.pinned), ["uvloop"])
            if isinstance(python, Path):
                found[program] = python
            else:
                absent[program.title] = python
    return found, absent


def _kib(values: list[float], digits: int = 1) -> str:
    figure = Figure(values)
    low, high = (f"{value / 1024:,.{digits}f}" for value in (figure.values[0], figure.values[-1]))
    middle = f"{figure.median / 1024:,.{digits}f}"
    return middle if low == high else f"{middle} ({low}-{high})"


def _mib(values: list[float]) -> str:
    return f"{Figure(values).median / 1024 / 1024:,.0f}"


def report(
    samples: dict[Program, list[Sample]],
    large: dict[Program, list[Sample]],
    absent: dict[str, str],
    counts: dict[bool, int],
    options: argparse.Namespace,
) -> str:
    lines = [
        "# Memory of connections",
        "",
        f"{counts[False]:,} connections over TCP, {counts[True]:,} over TLS, to one server process; {options.runs}"
        f" runs, median (range). {machine()}",
        "What is in a figure: the docstring of `benchmarks/connections.py`.",
        "",
        row(["KiB per connection", *COLUMNS]),
        row(["---", *["--:"] * len(COLUMNS)]),
    ]
    for program, runs in samples.items():
        lines.append(row([program.title, *(_kib([run[column] for run in runs]) for column in COLUMNS)]))
    if large:
        lines += [
            "",
            f"Server, MiB resident around a frame of 64 MiB; KiB per connection of {counts[True]:,} that got 1 MiB"
            " each.",
            "",
            row(["", *(f"{c}, {'MiB' if i < 4 else 'KiB'}" for i, c in enumerate(LARGE_COLUMNS))]),
            row(["---", *["--:"] * len(LARGE_COLUMNS)]),
        ]
        for program, runs in large.items():
            cells = [_mib([run[column] for run in runs]) for column in LARGE_COLUMNS[:4]]
            cells += [_kib([run[column] for run in runs]) for column in LARGE_COLUMNS[4:]]
            lines.append(row([program.title, *cells]))
    lines += ["", *(f"Not measured: {title}: {reason}." for title, reason in absent.items())] if absent else []
    return "\n".join(lines) + "\n"


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--connections", type=int, default=10_000, help="over TCP")
    parser.add_argument("--tls-connections", type=int, default=1000, help="over TLS, and that get large frames")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="500 connections, one run")
    parser.add_argument("--only", help="titles that contain this")
    parser.add_argument("--peers", type=Path, default=ROOT / "build" / "peers", help="environments of the peers")
    parser.add_argument("--write", action="store_true", help="write the section of RESULTS.md too")
    options = parser.parse_args()
    if options.quick:
        options.connections = options.tls_connections = 500
        options.runs = 1
    if options.tls_connections <= WARM:
        parser.error(f"--tls-connections: expected more than {WARM}, found {options.tls_connections}")
    return options


def main() -> None:
    options = _parse()
    if not Path("/proc/self/smaps_rollup").exists():
        sys.exit("/proc/self/smaps_rollup: expected Linux, which tells resident memory there")
    counts = {False: possible(options.connections + WARM) - WARM, True: options.tls_connections}
    wanted = [program for program in PROGRAMS if options.only is None or options.only in program.title]
    with tempfile.TemporaryDirectory() as folder:
        certificates = make_certificates(Path(folder))
        pythons, absent = find_pythons(options.peers, wanted, certificates is not None)
        samples: dict[Program, list[Sample]] = {program: [] for program in pythons}
        large: dict[Program, list[Sample]] = {p: [] for p in pythons if not p.tls and not p.deflate}
        for number in range(options.runs):
            for program, python in pythons.items():
                print(f"run {number + 1}: {program.title}", file=sys.stderr, flush=True)
                samples[program].append(measure(program, python, certificates, counts[program.tls]))
                if program in large:
                    large[program].append(measure_large(program, python, counts[True]))
    text = report(samples, large, absent, counts, options)
    print(text, end="")
    if options.write:
        write_section(text)


if __name__ == "__main__":
    main()
