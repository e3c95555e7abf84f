"""WebSockets: this project, its peers and plain C, as client and as server, over TCP and TLS, in one run.

    python benchmarks/websocket.py                  everything: eight or nine minutes
    python benchmarks/websocket.py --quick          the most telling part, in about a minute
    python benchmarks/websocket.py --only client,tcp,echo,256,ours,picows
    python benchmarks/websocket.py --write          write RESULTS.md and draw docs/websocket-*.svg too

Echo: round trips a second with one message outstanding. Burst: the other side sends frames as fast as it can, the
program counts them: frames a second, and CPU time of the program's process for one frame. The other side is the same
for all: `websocket_peers/limit.c`, compiled here, which stays on a core of its own and spins where it would have to
wait, so that nobody pays for its waking up. (In a burst it blocks: there the program sets the pace. Where it does
not, the CPU time tells more than the rate.) The same C code is also the limit: a program that blocks in recv, as
event loops do in their poll, and one that spins on recv. It masks nothing anew and knows neither time-outs nor errors
that can be survived.

Peers run in environments of their own under --peers, with the Python that runs this; what cannot be installed is said
and left out. Every library is used in the fastest style that its documentation shows, with compression off and
otherwise its defaults: picows and ours with a listener (in Python; "Cython" where that is said), websocket-rs with
`on_message`, aiohttp and websockets with their coroutines. One difference: our server takes `use_aiofastnet=True`,
which is the default of picows 2.3.1, and with us only of servers without TLS.

Programs take turns: each round of a cell runs each once, beginning with another one each time, on a new connection,
after a warm-up. Idle programs sleep. Figures are medians over the rounds; ratios are taken inside a round, then the
median of them. What arrives is checked: the first and the last echo byte for byte, the frames of a burst by their
exact number. User CPU time is what the kernel's tick saw, and coarse: several ms; total CPU time is exact.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from measuring import ROOT, Figure, machine, row, write_section
from measuring.charts import Bar, Panel, draw
from measuring.charts import missing as charts_missing
from measuring.environments import ensure

SOURCES = Path(__file__).with_name("websocket_peers")
BUILD = ROOT / "build" / "benchmarks" / "websocket"
TITLE = "# WebSockets"
PATIENCE = 180.0  # seconds for one answer of a program, after which it is given up

ROLES = ("client", "server")
TRANSPORTS = ("tcp", "tls")
LOOPS = ("uvloop", "asyncio")
SIZES = {"echo": (64, 256, 1024, 8192, 65536, 1048576), "burst": (128, 1024)}  # bytes of payload
QUICK = {"echo": (256, 65536), "burst": (128,)}
UNIT = {"echo": "round trips a second", "burst": "frames a second"}

Result = dict[str, Any]  # n, seconds, and where the program could be looked at: user_ns, cpu_ns


class Failure(Exception):
    """A program did not answer, or not what it should."""


@dataclass(frozen=True)
class Library:
    """Someone's WebSockets. `module` is its name in worker.py."""

    title: str
    module: str
    pinned: tuple[str, ...] = ()  # nothing: the environment that runs this
    has_server: bool = True
    has_cython: bool = False
    python: tuple[int, int] = (3, 10)  # that it needs


LIBRARIES = {
    "ours": Library("ours", "picows", has_cython=True),
    "picows": Library("picows 2.3.1", "picows", ("picows==2.3.1",), has_cython=True),
    "websocket-rs": Library(
        "websocket-rs 0.7.10", "websocket_rs", ("websocket-rs==0.7.10",), has_server=False, python=(3, 12)
    ),
    "aiohttp": Library("aiohttp 3.14.5", "aiohttp", ("aiohttp==3.14.5",)),
    "websockets": Library("websockets 17.4", "websockets", ("websockets==17.4",)),
}
FOLDERS = {"picows": "picows231", "websocket-rs": "websocket_rs"}  # under --peers, where not the library's name


@dataclass(frozen=True)
class Cell:
    """What the programs of one comparison do."""

    role: str
    transport: str
    what: str
    size: int

    def __str__(self) -> str:
        return f"{self.role}, {self.transport.upper()}, {self.what}, {size_name(self.size)}"


@dataclass(frozen=True)
class Program:
    """One row of a table."""

    library: str  # of LIBRARIES, or "c"
    loop: str
    listener: str = "python"

    @property
    def title(self) -> str:
        if self.library == "c":
            return f"C, {self.loop}"
        loop = "busy polling" if self.loop == "busy" else self.loop
        listener = ", Cython" if self.listener == "cython" else ""
        return f"{LIBRARIES[self.library].title}, {loop}{listener}"

    @property
    def rival(self) -> Program:
        """Picows 2.3.1 in the same circumstances; who polls, and C, is compared with its ordinary client on uvloop."""
        return Program("picows", self.loop, self.listener) if self.loop in LOOPS else Program("picows", "uvloop")


BLOCKING, SPINNING = Program("c", "blocking"), Program("c", "spinning")
BUSY, BUSY_CYTHON = Program("ours", "busy"), Program("ours", "busy", "cython")
POLLING = ("spinning", "busy")  # take all the CPU time there is: it tells nothing


def size_name(size: int) -> str:
    for unit, name in ((1 << 20, "MiB"), (1 << 10, "KiB")):
        if size % unit == 0:
            return f"{size // unit} {name}"
    return f"{size} B"


def programs_of(cell: Cell, libraries: Iterable[str]) -> list[Program]:
    """Return who takes part in a cell, in the order of the tables."""
    programs = []
    for library in libraries:
        described = LIBRARIES[library]
        if cell.role == "server" and not described.has_server:
            continue
        if library == "ours" and (cell.role, cell.transport, cell.what) == ("client", "tcp", "echo"):
            programs += [BUSY, BUSY_CYTHON]
        for loop in LOOPS:
            programs.append(Program(library, loop))
            if described.has_cython and cell.what == "burst":
                programs.append(Program(library, loop, "cython"))
    return [*programs, BLOCKING, SPINNING]


# --- programs under measurement ---------------------------------------------------------------------


class Conversation:
    """A process that answers with lines of JSON, and ends when its stdin does."""

    def __init__(self, command: list[str]) -> None:
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._pending = b""

    def tell(self, line: str) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            raise Failure("the process has ended") from None

    def hear(self) -> Result:
        assert self._process.stdout is not None
        fd = self._process.stdout.fileno()
        deadline = time.monotonic() + PATIENCE
        while b"\n" not in self._pending:
            if not select.select([fd], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise Failure(f"no answer within {PATIENCE:.0f} seconds")
            got = os.read(fd, 65536)
            if not got:
                raise Failure("the process has ended")
            self._pending += got
        line, _, self._pending = self._pending.partition(b"\n")
        return parse_answer(line)

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.close()
        except OSError:
            pass  # it had ended, with a line that it did not read
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


def parse_answer(line: bytes) -> Result:
    """Return what a program says; Failure if it is an error or no JSON object."""
    try:
        answer = json.loads(line)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise Failure(f"expected a JSON object, found {line[:80]!r}")
    if "error" in answer:
        raise Failure(str(answer["error"]))
    return answer


@dataclass(frozen=True)
class Setting:
    """Where and how everything runs."""

    limit: Path
    pythons: dict[str, Path]  # library -> Python that has it
    compiled: dict[str, Path]  # library -> folder of the compiled listeners
    tls: dict[str, Path]  # cert and key, or nothing
    cores: tuple[int, int] | None  # of the other side, of the program; None: there is only one

    def other_side(self) -> list[str]:
        """How limit.c runs where it is not measured."""
        return ["--block"] if self.cores is None else ["--core", str(self.cores[0])]

    def measured(self) -> list[str]:
        return [] if self.cores is None else ["--core", str(self.cores[1])]


class Group:
    """The processes for the cells of one role and transport; started when first needed, ended together."""

    def __init__(self, setting: Setting, role: str, transport: str) -> None:
        self._setting = setting
        self._role = role
        self._is_tls = transport == "tls"
        self._processes: dict[Any, Conversation] = {}
        self._ports: dict[Any, int] = {}
        self.said: dict[Program, Result] = {}  # what the workers say of themselves

    def measure(self, program: Program, cell: Cell, seconds: float) -> Result:
        """Run one measurement, with a connection of its own; Failure if anything is not as it should be."""
        try:
            if self._role == "client":
                return self._as_client(program, cell, seconds)
            return self._as_server(program, cell, seconds)
        except Failure:
            self.close()  # nobody knows in which state they are
            raise

    def close(self) -> None:
        for process in self._processes.values():
            process.close()
        self._processes.clear()

    def _as_client(self, program: Program, cell: Cell, seconds: float) -> Result:
        server = self._limit_server("other", self._setting.other_side())
        port = self._ports["other"]
        if program.library == "c":
            result = self._run_limit(program, cell.what, port, cell.size, seconds, self._setting.measured())
            sent = server.hear()["n"]
        else:
            worker = self._worker(program)
            for duration in (WARM_UP, seconds) if cell.what == "burst" else (seconds,):
                worker.tell(f"{cell.what} {program.listener} {cell.size} {duration} {port}")
                result = worker.hear()
                sent = server.hear()["n"]
        return checked(result, cell, sent)

    def _as_server(self, program: Program, cell: Cell, seconds: float) -> Result:
        flags = self._setting.other_side()
        does = "echo" if cell.what == "echo" else "flood"
        if program.library == "c":
            server = self._limit_server(program, self._setting.measured() + _waiting(program))
            pinged = self._run_limit(None, does, self._ports[program], cell.size, seconds, flags)
            result = server.hear()
        else:
            server = self._worker(program)
            for duration in (WARM_UP, seconds) if cell.what == "burst" else (seconds,):
                server.tell(f"{cell.what} {program.listener} {duration}")
                port = server.hear()["port"]
                pinged = self._run_limit(None, does, port, cell.size, duration, flags)
                result = server.hear()
        if cell.what == "echo":  # the client's clock; its CPU time is nobody's business
            return checked({"n": pinged["n"], "seconds": pinged["seconds"]}, cell, pinged["n"])
        return checked(result, cell, pinged["n"])

    def _worker(self, program: Program) -> Conversation:
        key = (program.library, program.loop)
        if key not in self._processes:
            setting = self._setting
            command = [str(setting.pythons[program.library]), str(SOURCES / "worker.py")]
            command += [LIBRARIES[program.library].module, self._role, "--loop", program.loop, *setting.measured()]
            if program.library in setting.compiled:
                command += ["--compiled", str(setting.compiled[program.library])]
            worker = Conversation(command + self._tls_flags(self._role))
            self._processes[key] = worker
            self.said[program] = worker.hear()
        return self._processes[key]

    def _limit_server(self, key: Any, flags: list[str]) -> Conversation:
        if key not in self._processes:
            server = Conversation([str(self._setting.limit), "serve", *flags, *self._tls_flags("server")])
            self._processes[key] = server
            self._ports[key] = server.hear()["port"]
        return self._processes[key]

    def _run_limit(
        self, program: Program | None, what: str, port: int, size: int, seconds: float, flags: list[str]
    ) -> Result:
        command = [str(self._setting.limit), "client", what, str(port), str(size), str(seconds), *flags]
        command += _waiting(program) + self._tls_flags("client")
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            raise Failure(f"no answer within {PATIENCE:.0f} seconds") from None
        if done.returncode:
            raise Failure(done.stderr.strip())
        return parse_answer(done.stdout.encode())

    def _tls_flags(self, role: str) -> list[str]:
        if not self._is_tls:
            return []
        cert, key = str(self._setting.tls["cert"]), str(self._setting.tls["key"])
        return ["--ca", cert] if role == "client" else ["--cert", cert, "--key", key]


WARM_UP = 0.02  # seconds of a burst that does not count, on a connection of its own


def _waiting(program: Program | None) -> list[str]:
    return ["--block"] if program == BLOCKING else []


def checked(result: Result, cell: Cell, sent: int) -> Result:
    """Return the result of a cell; Failure unless as many frames arrived as the other side has sent."""
    if cell.what == "burst" and result["n"] != sent:
        raise Failure(f"expected {sent} frames, found {result['n']}")
    if result["n"] < 1 or result["seconds"] <= 0:
        raise Failure(f"expected something to have been measured, found {result}")
    return result


# --- the run ----------------------------------------------------------------------------------------


class Results:
    """All figures of a run. A failure takes a program out of its cell."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []
        self.failures: dict[tuple[Cell, Program], str] = {}
        self._values: dict[tuple[Cell, Program, str], dict[int, float]] = {}

    def add(self, cell: Cell, program: Program, number: int, result: Result) -> None:
        """Keep what one program did in one round: its rate, and CPU time of one frame or round trip in ns."""
        figures = {"rate": result["n"] / result["seconds"]}
        if program.loop not in POLLING and "cpu_ns" in result:
            figures |= {name: result[f"{name}_ns"] / result["n"] for name in ("user", "cpu")}
        self.records.append(asdict(cell) | asdict(program) | {"round": number} | result)
        for name, value in figures.items():
            self._values.setdefault((cell, program, name), {})[number] = value

    def fail(self, cell: Cell, program: Program, reason: str) -> None:
        self.failures[cell, program] = reason
        for name in ("rate", "user", "cpu"):
            self._values.pop((cell, program, name), None)

    def figure(self, cell: Cell, program: Program, name: str = "rate") -> Figure | None:
        values = self._values.get((cell, program, name))
        return Figure(values.values()) if values else None

    def ratio(self, cell: Cell, over: Program, under: Program, name: str = "rate") -> float | None:
        """Return the median over the rounds of the ratio inside a round."""
        above = self._values.get((cell, over, name), {})
        below = self._values.get((cell, under, name), {})
        ratios = [above[number] / below[number] for number in above if below.get(number)]
        return statistics.median(ratios) if ratios else None

    def quiet(self) -> float | None:
        """Return how much of its core a spinning program had, in the median: below 1, others were at work there."""
        shares = [
            record["cpu_ns"] / record["seconds"] * 1e-9
            for record in self.records
            if (record["library"], record["loop"]) == ("c", "spinning") and "cpu_ns" in record
        ]
        return statistics.median(shares) if shares else None

    def has(self, program: Program) -> bool:
        return any(found == program for _, found, _ in self._values)


def run(setting: Setting, cells: list[Cell], libraries: list[str], options: argparse.Namespace) -> Results:
    results = Results()
    begin = time.monotonic()
    done = 0
    for role in ROLES:
        for transport in TRANSPORTS:
            chosen = [cell for cell in cells if (cell.role, cell.transport) == (role, transport)]
            with ExitStack() as stack:
                group = Group(setting, role, transport)
                stack.callback(group.close)
                for cell in chosen:
                    done += 1
                    elapsed = time.monotonic() - begin
                    print(f"{elapsed:4.0f} s, {done} of {len(cells)}: {cell}", file=sys.stderr)
                    programs = [p for p in programs_of(cell, libraries) if options.takes(p)]
                    _run_cell(group, cell, programs, results, options)
    return results


def _run_cell(group: Group, cell: Cell, programs: list[Program], results: Results, options: argparse.Namespace) -> None:
    for number in range(options.rounds):
        at = number % len(programs)
        for program in programs[at:] + programs[:at]:
            if (cell, program) in results.failures:
                continue
            try:
                results.add(cell, program, number, group.measure(program, cell, options.seconds))
            except Failure as failure:
                results.fail(cell, program, str(failure))


# --- set-up ---------------------------------------------------------------------------------------


def build_limit(folder: Path = BUILD) -> tuple[Path, str]:
    """Return limit.c, compiled into `folder`, and why it cannot do TLS; empty if it can."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        sys.exit("expected gcc on the path: the other side of every measurement is a C program")
    folder.mkdir(parents=True, exist_ok=True)
    binary = folder / "limit"
    command = [compiler, "-std=gnu11", "-O3", "-march=native", "-Wall", str(SOURCES / "limit.c"), "-o", str(binary)]
    with_tls = subprocess.run([*command, "-DWITH_TLS", "-lssl", "-lcrypto"], capture_output=True, text=True)
    if with_tls.returncode == 0:
        return binary, ""
    plain = subprocess.run(command, capture_output=True, text=True)
    if plain.returncode:
        sys.exit(f"{SOURCES / 'limit.c'} does not compile:\n{plain.stderr}")
    lines = with_tls.stderr.splitlines()
    return binary, next((line for line in lines if "error" in line or "cannot find" in line), "no OpenSSL").strip()


def make_certificate(folder: Path) -> dict[str, Path] | str:
    """Return files of a certificate for 127.0.0.1 and its key, or why there are none."""
    openssl = shutil.which("openssl")
    if openssl is None:
        return "there is no openssl to make a certificate with"
    files = {"cert": folder / "cert.pem", "key": folder / "key.pem"}
    command = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    command += ["-addext", "keyUsage=critical,digitalSignature,keyCertSign"]
    command += ["-keyout", str(files["key"]), "-out", str(files["cert"])]
    done = subprocess.run(command, capture_output=True, text=True)
    return files if done.returncode == 0 else f"openssl: {done.stderr.strip().splitlines()[-1]}"


def find_pythons(libraries: list[str], peers: Path) -> tuple[dict[str, Path], dict[str, str]]:
    """Return the Python of each library, and for those that cannot be had, the reason."""
    pythons, absent = {}, {}
    for library in libraries:
        described = LIBRARIES[library]
        if not described.pinned:
            pythons[library] = Path(sys.executable)
            continue
        if sys.version_info[:2] < described.python:
            absent[described.title] = "needs Python {}.{}".format(*described.python)
            continue
        others = ["uvloop", *(["cython", "setuptools"] if described.has_cython else [])]
        found = ensure(peers / FOLDERS.get(library, library), list(described.pinned), others)
        if isinstance(found, str):
            absent[described.title] = found
        else:
            pythons[library] = found
    return pythons, absent


def compile_listeners(pythons: dict[str, Path]) -> dict[str, Path]:
    """Return the folder of the compiled listeners of each library that has such. They are compiled each time."""
    compiled = {}
    for library, python in pythons.items():
        if not LIBRARIES[library].has_cython:
            continue
        folder = BUILD / f"{library}-{sys.implementation.cache_tag}"
        print(f"compiling listeners for {LIBRARIES[library].title}", file=sys.stderr)
        command = [str(python), "-W", "ignore", str(SOURCES / "worker.py"), LIBRARIES[library].module, "client"]
        done = subprocess.run([*command, "--compile", str(folder)], capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"listeners.pyx does not compile for {LIBRARIES[library].title}:\n{done.stdout}{done.stderr}")
        compiled[library] = folder
    return compiled


def choose_cores() -> tuple[int, int] | None:
    if not hasattr(os, "sched_getaffinity"):
        return None
    cores = sorted(os.sched_getaffinity(0))
    return (cores[0], cores[-1]) if len(cores) > 1 else None


def versions(pythons: dict[str, Path]) -> list[str]:
    """Return what the environments have of Python, uvloop and OpenSSL; one line if all have the same."""
    probe = (
        "import platform, ssl, uvloop\n"
        "print(f'Python {platform.python_version()}, uvloop {uvloop.__version__}, {ssl.OPENSSL_VERSION}')"
    )
    found: dict[str, list[str]] = {}
    for library, python in pythons.items():
        done = subprocess.run([str(python), "-c", probe], capture_output=True, text=True)
        what = done.stdout.strip() if done.returncode == 0 else done.stderr.strip().splitlines()[-1]
        found.setdefault(what, []).append(LIBRARIES[library].title)
    return [f"{', '.join(titles) if len(found) > 1 else 'Everywhere'}: {what}." for what, titles in found.items()]


# --- the tables -------------------------------------------------------------------------------------


def tables(results: Results, cells: list[Cell]) -> Iterator[str]:
    """Yield the lines of every table: one for each role, transport and kind of work."""
    for role in ROLES:
        for transport in TRANSPORTS:
            for what in SIZES:
                chosen = [c for c in cells if (c.role, c.transport, c.what) == (role, transport, what)]
                programs = [p for p in programs_of(chosen[0], LIBRARIES) if results.has(p)] if chosen else []
                if programs:
                    yield f"## {'Echo' if what == 'echo' else 'Burst'}, as {role}, {transport.upper()}"
                    yield ""
                    yield from _table(results, chosen, programs)
                    yield ""


def _table(results: Results, cells: list[Cell], programs: list[Program]) -> Iterator[str]:
    what = cells[0].what
    names = [size_name(cell.size) for cell in cells]
    middle = cells[min(1, len(cells) - 1)] if what == "echo" else cells[0]
    head = [UNIT[what], *names]
    if what == "burst":
        head += [f"CPU ns, {name}" for name in names] + [f"user ns, {name}" for name in names]
    head += [f"range ({size_name(middle.size)})", "x picows 2.3.1", "x C, blocking", "x C, spinning"]
    if what == "burst":
        head.append("CPU of picows 2.3.1 is x")
    yield row(head)
    yield row(["---", *["--:"] * (len(head) - 1)])
    for program in programs:
        found = [program.title, *(_cell(results.figure(cell, program)) for cell in cells)]
        if what == "burst":
            found += [_cell(results.figure(cell, program, name)) for name in ("cpu", "user") for cell in cells]
        spread = results.figure(middle, program)
        found.append(spread.range if spread else "-")
        for under in (program.rival, BLOCKING, SPINNING):
            found.append(_ratios(results.ratio(cell, program, under) for cell in cells))
        if what == "burst":
            found.append(_ratios(results.ratio(cell, program.rival, program, "cpu") for cell in cells))
        yield row(found)


def _cell(figure: Figure | None) -> str:
    return "-" if figure is None else str(figure)


def _ratios(ratios: Iterable[float | None]) -> str:
    texts = ["-" if ratio is None else f"{ratio:.2f}" for ratio in ratios]
    return "-" if set(texts) == {"-"} else " / ".join(texts)


ECHO_SIZE, BURST_SIZE = 256, 128


def summary(results: Results, role: str) -> list[str]:
    """Return the table of a role for the README: on uvloop, one size, TCP and TLS; nothing if nothing was measured."""
    echoes = [Cell(role, transport, "echo", ECHO_SIZE) for transport in TRANSPORTS]
    bursts = [Cell(role, transport, "burst", BURST_SIZE) for transport in TRANSPORTS]
    programs = [p for p in programs_of(bursts[0], LIBRARIES) if p.loop != "asyncio"]
    if role == "client":
        programs = [BUSY, BUSY_CYTHON, *programs]
    columns = [(cell, "rate") for cell in echoes] + [(cell, "cpu") for cell in bursts]
    lines = []
    for program in programs:
        figures = [results.figure(cell, program, name) for cell, name in columns]
        if not any(figures):
            continue
        echo = _ratios(results.ratio(cell, program, program.rival) for cell in echoes)
        burst = _ratios(results.ratio(cell, program.rival, program, "cpu") for cell in bursts)
        lines.append(row([program.title, *(_cell(figure) for figure in figures), echo, burst]))
    if not lines:
        return []
    head = [f"as {role}", "round trips a second, TCP", "TLS", "CPU ns for a frame, TCP", "TLS"]
    head += ["round trips x picows 2.3.1", "CPU of picows 2.3.1 is x"]
    return [row(head), row(["---", *["--:"] * (len(head) - 1)]), *lines]


def report(results: Results, cells: list[Cell], absent: dict[str, str], about: list[str]) -> str:
    lines = [TITLE, "", *about, ""]
    summaries = [table for role in ROLES if (table := summary(results, role))]
    if summaries:
        lines += [
            "## At a glance",
            "",
            f"Round trips of {size_name(ECHO_SIZE)}, bursts of {size_name(BURST_SIZE)} frames. Ratios: TCP / TLS.",
            "",
        ]
        for table in summaries:
            lines += [*table, ""]
    lines += list(tables(results, cells))
    reasons: dict[str, list[str]] = {}
    for (cell, program), reason in results.failures.items():
        reasons.setdefault(f"{program.title}: {reason}", []).append(str(cell))
    for said, where in reasons.items():
        lines.append(f"Not measured: {said} ({'; '.join(where) if len(where) < 4 else f'{len(where)} cells'}).")
    lines += [f"Not measured: {title}: {reason}." for title, reason in absent.items()]
    return "\n".join(lines).rstrip("\n") + "\n"


# --- the charts -------------------------------------------------------------------------------------

CHARTS = {theme: ROOT / "docs" / f"websocket-{theme}.svg" for theme in ("light", "dark")}


def panels(results: Results) -> list[Panel]:
    """Return the charts: a client on uvloop, echo and burst, over TCP and TLS."""
    found = []
    for what, size, text in (
        ("echo", ECHO_SIZE, f"Round trips a second, {size_name(ECHO_SIZE)}"),
        ("burst", BURST_SIZE, f"Frames of {size_name(BURST_SIZE)} received a second"),
    ):
        for transport in TRANSPORTS:
            cell = Cell("client", transport, what, size)
            shown = [program for program in programs_of(cell, LIBRARIES) if results.figure(cell, program)]
            bars = []
            for program in shown:
                if program.loop == "asyncio" or program == BUSY_CYTHON or (program == SPINNING and BUSY not in shown):
                    continue  # who polls is compared with who polls
                figure = results.figure(cell, program)
                assert figure is not None
                label = program.title.replace(", uvloop", "").replace(", Cython", " + Cython")
                kind = {"ours": "ours", "c": "limit"}.get(program.library, "peer")
                bars.append(Bar(label, figure.median, kind))
            if bars:
                found.append(Panel(f"{text}, {transport.upper()}", bars))
    return found


def draw_charts(results: Results) -> str:
    """Draw the charts into docs/; return why not, or nothing."""
    reason = charts_missing()
    chosen = panels(results)
    if not reason and len(chosen) < 4:
        reason = "they need the echo and burst cells of a client on uvloop, over TCP and TLS"
    if not reason:
        for theme, path in CHARTS.items():
            draw(path, "WebSocket clients on uvloop", chosen, theme)
    return reason


# --- the command ------------------------------------------------------------------------------------

DIMENSIONS: dict[str, tuple[str, ...]] = {
    "role": ROLES,
    "transport": TRANSPORTS,
    "what": tuple(SIZES),
    "size": tuple(sorted({str(size) for sizes in SIZES.values() for size in sizes}, key=int)),
    "library": tuple(LIBRARIES),
    "loop": (*LOOPS, "busy"),
    "listener": ("python", "cython"),
}


class Options(argparse.Namespace):
    """The command line. `only` has the words of --only by dimension; a dimension without words has no limit."""

    only: dict[str, set[str]]

    def takes(self, thing: Cell | Program) -> bool:
        if isinstance(thing, Program) and thing.library == "c":
            return True
        return all(str(getattr(thing, name)) in words for name, words in self.only.items() if hasattr(thing, name))


def parse_only(text: str) -> dict[str, set[str]]:
    """Return the words of --only by what they limit; ValueError for an unknown one."""
    only: dict[str, set[str]] = {}
    for word in filter(None, text.split(",")):
        dimension = next((name for name, words in DIMENSIONS.items() if word in words), None)
        if dimension is None:
            known = "; ".join(f"{name}: {', '.join(words)}" for name, words in DIMENSIONS.items())
            raise ValueError(f"expected words of {known}; found {word!r}")
        only.setdefault(dimension, set()).add(word)
    return only


def parse(arguments: list[str] | None = None) -> Options:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--peers", type=Path, default=ROOT / "build" / "peers", help="folder of their environments")
    parser.add_argument(
        "--only", default="", help="words, with commas: roles, transports, work, bytes, libraries, loops"
    )
    parser.add_argument("--rounds", type=int, help="default 5; 3 with --quick")
    parser.add_argument("--seconds", type=float, help="of one measurement; default 0.15; 0.05 with --quick")
    parser.add_argument("--quick", action="store_true", help="fewer sizes, shorter")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure of every round too")
    parser.add_argument("--write", action="store_true", help="write RESULTS.md and the charts too")
    options = parser.parse_args(arguments, Options())
    try:
        options.only = parse_only(options.only)
    except ValueError as error:
        parser.error(f"--only: {error}")
    options.rounds = (3 if options.quick else 5) if options.rounds is None else options.rounds
    options.seconds = (0.05 if options.quick else 0.15) if options.seconds is None else options.seconds
    if options.rounds < 1:
        parser.error(f"--rounds: expected at least 1, found {options.rounds}")
    if not 0 < options.seconds <= 60:
        parser.error(f"--seconds: expected more than 0 and at most 60, found {options.seconds}")
    return options


def main() -> None:
    options = parse()
    libraries = [name for name in LIBRARIES if name in options.only.get("library", LIBRARIES)]
    limit, no_tls = build_limit()
    with tempfile.TemporaryDirectory() as folder:
        certificate = make_certificate(Path(folder))
        no_tls = no_tls or (certificate if isinstance(certificate, str) else "")
        pythons, absent = find_pythons(libraries, options.peers)
        if no_tls:
            absent["TLS"] = no_tls
        sizes = QUICK if options.quick else SIZES
        cells = [
            cell
            for role in ROLES
            for transport in TRANSPORTS
            for what in sizes
            for size in sizes[what]
            if options.takes(cell := Cell(role, transport, what, size)) and not (transport == "tls" and no_tls)
        ]
        if not cells:
            sys.exit("--only and the rest leave nothing to measure")
        cores = choose_cores()
        tls = certificate if isinstance(certificate, dict) else {}
        setting = Setting(limit, pythons, compile_listeners(pythons), tls, cores)
        begin = time.monotonic()
        results = run(setting, cells, list(pythons), options)
        minutes = (time.monotonic() - begin) / 60
        share = results.quiet()
    if cores is None:
        pinned = "nothing pinned, the other side blocking, not spinning: there is one core"
    else:
        pinned = f"the other side pinned to core {cores[0]}, programs to core {cores[1]}"
    about = [
        f"Rounds: {options.rounds} of {options.seconds * 1000:.0f} ms each, {minutes:.1f} minutes; {pinned}.",
        machine(),
        *([f"The C client that spins had {share:.0%} of its core: what it had not went to others."] if share else []),
        *versions(pythons),
        "Ratios are in the order of the sizes. What is in a figure, and in which way: the docstring of"
        " `benchmarks/websocket.py`.",
    ]
    text = report(results, cells, absent, about)
    print(text)
    if options.json:
        options.json.write_text("".join(json.dumps(record) + "\n" for record in results.records))
    if options.write:
        write_section(text)
        reason = draw_charts(results)
        if reason:
            print(f"No charts: {reason}.", file=sys.stderr)
    print("Rows for the README, under the same heads:\n")
    for role in ROLES:
        print("\n".join([*summary(results, role), ""]))


if __name__ == "__main__":
    main()
