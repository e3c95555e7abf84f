"""The README is true: its commands run as they stand, in order, and its Python does too."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
README = (PROJECT / "README.md").read_text()
BLOCKS = re.findall(r"```(sh|python)\n(.*?)```", README, re.DOTALL)
# Where `feeds` is installed beside this interpreter.
ENVIRONMENT = {**os.environ, "PATH": f"{sysconfig.get_path('scripts')}{os.pathsep}{os.environ['PATH']}"}


def shell(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, shell=True, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=60, check=False
    )


def test_its_commands_and_snippets_run_in_order(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = str(probe.getsockname()[1])
    (simulate, *commands), snippets = [text.replace("9443", port) for text in _blocks("sh")], _blocks("python")
    serving = subprocess.Popen(
        f"exec {simulate.strip()}", shell=True, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True
    )
    assert serving.stdout is not None
    try:
        assert f"ws://127.0.0.1:{port}" in serving.stdout.readline()
        for command in "".join(commands).strip().splitlines():
            done = shell(command, tmp_path)
            assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    finally:
        serving.terminate()
        serving.wait(10)
        serving.stdout.close()
    assert (tmp_path / "events.jsonl").stat().st_size > 0
    for snippet in snippets:
        done = subprocess.run(
            [sys.executable, "-c", snippet], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        assert "the same as live: True" in done.stdout


@pytest.mark.parametrize("target", ["demo", "test"])
def test_its_two_commands_are_targets_that_set_up_all_they_need(target: str) -> None:
    assert f"    make {target} " in README
    done = shell(f"make --dry-run VENV=/nowhere/venv {target}", PROJECT)
    assert done.returncode == 0, done.stderr
    assert "-m venv /nowhere/venv" in done.stdout
    assert "--editable ." in done.stdout


def test_every_path_it_names_exists() -> None:
    pictures = re.findall(r'\bsrc(?:set)?="([^":]+)"', README)
    for path in [*re.findall(r"`([a-z_]+/[\w./-]*|[A-Z]+\.md)`", README), *pictures]:
        assert (PROJECT / path).exists(), path


def test_its_measured_tables_are_the_committed_results() -> None:
    measured = _tables((PROJECT / "benchmarks" / "RESULTS.md").read_text())
    # Wherever in the README: a table of paths has no figures in it.
    shown = {head: rows for head, rows in _tables(README).items() if any(re.search(r"\| [\d,.]+ \|", r) for r in rows)}
    assert shown
    for head, rows in shown.items():
        assert head in measured
        assert [row for row in rows if row not in measured[head]] == []


def _tables(text: str) -> dict[str, list[str]]:
    """The rows of every Markdown table by its head."""
    tables: dict[str, list[str]] = {}
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        head, _, *rows = block.splitlines()
        tables.setdefault(head, []).extend(rows)
    return tables


def _blocks(language: str) -> list[str]:
    return [text for found, text in BLOCKS if found == language]
