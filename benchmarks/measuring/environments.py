"""Virtual environments with other people's libraries, one each, so that no two can disturb each other."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

__all__ = ["ensure"]

_PROBE = """
import sys
from importlib.metadata import PackageNotFoundError, version
print("{}.{}".format(*sys.version_info))
for name in sys.argv[1:]:
    try:
        print(name + "==" + version(name))
    except PackageNotFoundError:
        pass
"""


def ensure(folder: Path, pinned: list[str], others: list[str]) -> Path | str:
    """Return the Python of an environment that has everything, made now if need be; else the reason why there is none.

    pinned -- requirements of the form NAME==VERSION.
    others -- names, in whatever version there is.
    """
    python = folder / "bin" / "python"
    if not python.exists():
        print(f"making an environment in {folder}", file=sys.stderr)
        made = subprocess.run([sys.executable, "-m", "venv", str(folder)], capture_output=True, text=True)
        if made.returncode:
            return _last_line(made)
    names = [requirement.partition("==")[0] for requirement in pinned]
    probed = subprocess.run([str(python), "-c", _PROBE, *names, *others], capture_output=True, text=True)
    if probed.returncode:
        return _last_line(probed)
    found, *installed = probed.stdout.split()
    ours = f"{sys.version_info.major}.{sys.version_info.minor}"
    if found != ours:
        return f"expected Python {ours} in {folder}, as ours, found {found}; remove that folder"
    here = {requirement.partition("==")[0] for requirement in installed}
    if set(pinned) <= set(installed) and set(others) <= here:
        return python
    print(f"installing {', '.join(pinned + others)} in {folder}", file=sys.stderr)
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *pinned, *others]
    done = subprocess.run(install, capture_output=True, text=True)
    return _reason(done) if done.returncode else python


def _reason(done: subprocess.CompletedProcess[str]) -> str:
    errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
    return errors[-1] if errors else _last_line(done)


def _last_line(done: subprocess.CompletedProcess[str]) -> str:
    lines = (done.stderr or done.stdout).strip().splitlines()
    return lines[-1] if lines else f"ended with {done.returncode}"
