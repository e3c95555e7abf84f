from __future__ import annotations

import subprocess
import sys

from measuring import environments
from measuring.environments import ensure


def fake_environment(folder, *lines):
    """An environment whose Python prints these lines, whatever it is asked."""
    python = folder / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\n" + "".join(f"echo '{line}'\n" for line in lines))
    python.chmod(0o755)
    return python


HERE = f"{sys.version_info.major}.{sys.version_info.minor}"


def test_an_environment_that_has_everything_is_taken_as_it_is(tmp_path):
    python = fake_environment(tmp_path, HERE, "peer==1.2", "uvloop==9")
    assert ensure(tmp_path, ["peer==1.2"], ["uvloop"]) == python


def test_an_environment_of_another_python_is_refused(tmp_path):
    fake_environment(tmp_path, "2.7")
    reason = f"expected Python {HERE} in {tmp_path}, as ours, found 2.7; remove that folder"
    assert ensure(tmp_path, ["peer==1.2"], []) == reason


def test_what_is_missing_or_of_another_version_is_installed(tmp_path, monkeypatch):
    python = fake_environment(tmp_path, HERE, "peer==1.1")
    commands = []

    def run(command, **kwargs):
        commands.append(command)
        output = f"{HERE}\npeer==1.1\n" if "-c" in command else ""
        return subprocess.CompletedProcess(command, 0, stdout=output, stderr="")

    monkeypatch.setattr(environments.subprocess, "run", run)
    assert ensure(tmp_path, ["peer==1.2"], ["uvloop"]) == python
    assert commands[-1][-2:] == ["peer==1.2", "uvloop"]


def test_what_cannot_be_installed_is_said(tmp_path, monkeypatch):
    fake_environment(tmp_path, HERE)

    def run(command, **kwargs):
        if "-c" in command:
            return subprocess.CompletedProcess(command, 0, stdout=f"{HERE}\n", stderr="")
        return subprocess.CompletedProcess(command, 1, stdout="", stderr="WARNING: x\nERROR: No matching peer\nnote: y")

    monkeypatch.setattr(environments.subprocess, "run", run)
    assert ensure(tmp_path, ["peer==1.2"], []) == "ERROR: No matching peer"
