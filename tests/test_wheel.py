"""The wheel: what is in it, that it installs and imports by itself, and that a user's Cython package builds on it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from feeds.recording import LAST_IN_BATCH, Kind, RecordingWriter

pytestmark = [pytest.mark.wheel, pytest.mark.timeout(600)]  # it compiles everything

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("picows", "feeds", "strategies")

IMPORT_ALL = """
import importlib, pkgutil, sys
for root in sys.argv[1:]:
    package = importlib.import_module(root)
    print(root, package.__file__)
    for module in pkgutil.walk_packages(package.__path__, root + "."):
        if not module.name.endswith("__main__"):
            print(module.name, importlib.import_module(module.name).__file__)
"""


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project as a fresh checkout has it, without what a build leaves in the tree."""
    copy = tmp_path_factory.mktemp("wheel") / "sources"
    shutil.copytree(ROOT, copy, ignore=_build_products)
    return copy


def _build_products(folder: str, names: list[str]) -> Iterator[str]:
    for name in names:
        path = Path(folder, name)
        is_generated = path.suffix in (".c", ".cpp") and path.with_suffix(".pyx").exists()
        if (
            is_generated
            or name in ("build", "dist", "__pycache__")
            or name.endswith((".so", ".egg-info"))
            or (name.startswith(".") and path.is_dir())
        ):
            yield name


@pytest.fixture(scope="module")
def wheel(sources: Path) -> Path:
    # -O0 and without debug information: the test is about what is built, not about how fast it is.
    environment = os.environ | {"CFLAGS": "-O0 -g0"}
    _run([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", "dist"], sources, environment)
    (built,) = (sources / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a new virtual environment in which the wheel is installed."""
    environment = tmp_path_factory.mktemp("environment") / "venv"
    _run([sys.executable, "-m", "venv", str(environment)])
    installed = environment / "bin" / "python"
    _pip(installed, "uninstall", "--yes", "setuptools")  # Python 3.10 and 3.11 bring one that is too old
    _install(installed, str(wheel))
    # Dependencies come from the environment of this test, so that it needs no network: a .pth file adds that one's
    # site-packages behind the new one's own. In a folder added so, .pth files have no effect, and an editable install
    # is one: the packages in this tree stay invisible, which test_modules_import_from_the_wheel_alone makes sure of.
    (site,) = environment.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n{sysconfig.get_path('platlib')}\n")
    return installed


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Binance futures: a book of one level a side, 3 to 1 and then 3 to 5, and a buyer after each."""
    path = tmp_path_factory.mktemp("recording") / "small.feeds"
    depth = '{"stream":"btcusdt@depth@0ms","data":{"e":"depthUpdate","E":1,"T":1,"s":"BTCUSDT",%s}}'
    trade = (
        '{"stream":"btcusdt@trade","data":{"e":"trade","E":1,"T":1,"s":"BTCUSDT","t":%d,"p":"100.1","q":"1",'
        '"X":"MARKET","m":false}}'
    )
    messages = [
        (Kind.TEXT, "", depth % '"U":1,"u":2,"pu":0,"b":[["100.0","3.000"]],"a":[]'),
        (Kind.REPLY, "BTCUSDT", '{"lastUpdateId":2,"bids":[["100.0","3.000"]],"asks":[["100.1","1.000"]]}'),
        (Kind.TEXT, "", trade % 1),
        (Kind.TEXT, "", depth % '"U":3,"u":4,"pu":2,"b":[],"a":[["100.1","5.000"]]'),
        (Kind.TEXT, "", trade % 2),
    ]
    with RecordingWriter(path) as writer:
        source = writer.add_source("binance-futures", "wss://fstream.example", ts_recv=1)
        for at, (kind, tag, text) in enumerate(messages, 2):
            writer.write_message(at, source, kind | LAST_IN_BATCH, text.encode(), tag)
    return path


def test_wheel_has_every_source_that_users_need_and_nothing_else(sources: Path, wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        found = {name for name in archive.namelist() if ".dist-info/" not in name}
    expected = {
        path.relative_to(sources).as_posix()
        for package in PACKAGES
        for path in (sources / package).rglob("*")
        if path.suffix in (".py", ".pyi", ".pxd", ".pyx", ".h") or path.name == "py.typed"
    }
    compiled = {name for name in found if name.endswith(".so")}
    assert found - compiled == expected
    modules = {name for name in expected if name.endswith(".pyx")}
    assert {name.partition(".")[0] + ".pyx" for name in compiled} == modules


def test_wheel_says_that_it_is_typed_and_under_which_licence(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (licence,) = (name for name in names if name.endswith(".dist-info/licenses/LICENSE"))
        assert archive.read(licence) == (ROOT / "LICENSE").read_bytes()
    assert {f"{package}/py.typed" for package in PACKAGES} <= set(names)


def test_modules_import_from_the_wheel_alone(python: Path, sources: Path, tmp_path: Path) -> None:
    lines = _run([python, "-I", "-W", "error", "-c", IMPORT_ALL, *PACKAGES], tmp_path).splitlines()
    origins = dict(line.split(" ", 1) for line in lines)
    elsewhere = {name: origin for name, origin in origins.items() if not origin.startswith(str(python.parents[1]))}
    assert elsewhere == {}
    modules = {_module_name(path.relative_to(sources)) for p in PACKAGES for path in (sources / p).rglob("*.py*")}
    assert set(origins) >= {name for name in modules if not name.endswith("__main__")}


def _module_name(path: Path) -> str:
    return ".".join(path.with_name(path.name.partition(".")[0]).parts).removesuffix(".__init__")


def test_users_package_builds_on_the_wheel_and_runs(
    python: Path, sources: Path, recording: Path, tmp_path: Path
) -> None:
    example = shutil.copytree(sources / "examples" / "cython_strategy", tmp_path / "example")
    _install(python, "--no-build-isolation", str(example))
    output = _run([python, "-I", "-W", "error", "-m", "microprice", str(recording)], tmp_path)
    assert output.splitlines() == [
        "4 messages",
        # 3 bid and 5 asked at 100.0/100.1: (100.0 * 5 + 100.1 * 3) / 8. Two updates, of three messages: the snapshot
        # joined the first delta. The first buyer was foreseen, the second was not.
        "BTCUSDT microprice 100.0375 lean -0.25 updates 2 of 3 right 1 of 2",
        "NOSUCH unknown",
    ]


def test_the_echo_in_cython_builds_on_the_wheel_and_runs(python: Path, sources: Path, tmp_path: Path) -> None:
    example = shutil.copytree(sources / "examples" / "cython_echo", tmp_path / "example")
    _install(python, "--no-build-isolation", str(example))
    module = [python, "-I", "-W", "error", "-m", "echo"]
    with subprocess.Popen([*module, "serve"], cwd=tmp_path, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            port = server.stdout.readline().strip()
            for options, size in ((["--size", "4096"], 4096), (["--busy-poll"], 256)):
                said = _run([*module, "ping", port, "--rounds", "100", *options], tmp_path)
                assert said.partition(":")[0] == f"100 round trips of {size} bytes, 0 wrong"
        finally:
            server.send_signal(signal.SIGINT)
    assert server.returncode == 0


def _install(python: Path, *arguments: str) -> None:
    _pip(python, "install", "--no-index", "--no-deps", *arguments)


def _pip(python: Path, *arguments: str) -> None:
    environment = os.environ | {"CFLAGS": "-O0 -g0", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    _run([python, "-m", "pip", *arguments], python.parents[1], environment)


def _run(command: list[str | Path], folder: Path | None = None, environment: dict[str, str] | None = None) -> str:
    """Return what the command printed; fail the test with everything that it said if it fails."""
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        pytest.fail(f"{command} ended with {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}")
    return done.stdout
