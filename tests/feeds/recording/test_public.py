"""What the stubs promise is there, and what is there is promised."""

import ast
from importlib import import_module
from pathlib import Path

import pytest

import feeds.recording

FOLDER = Path(feeds.recording.__file__).parent


@pytest.mark.parametrize("name", ["message", "reader", "writer", "importers", "text_formats"])
def test_a_stub_and_its_module_agree(name):
    module = import_module(f"feeds.recording.{name}")
    stub = ast.parse((FOLDER / f"{name}.pyi").read_text())
    [promised] = [ast.literal_eval(node.value) for node in stub.body if ast.unparse(node).startswith("__all__")]
    assert set(module.__all__) == set(promised)
    for node in stub.body:
        if isinstance(node, ast.ClassDef):
            cls = getattr(module, node.name)
            theirs = {n.name for n in node.body if isinstance(n, ast.FunctionDef)}
            theirs |= {n.targets[0].id for n in node.body if isinstance(n, ast.Assign)}
            theirs |= {n.target.id for n in node.body if isinstance(n, ast.AnnAssign)}
            inherited = {name for base in cls.__bases__ for name in dir(base)}
            ours = {name for name in vars(cls) if not name.startswith("_")}
            assert {name for name in theirs if not name.startswith("_")} <= ours
            assert ours - inherited <= theirs


def test_the_package_exports_what_its_modules_promise():
    promised = set()
    for name in [
        "config",
        "errors",
        "importers",
        "merging",
        "message",
        "reader",
        "repair",
        "text_formats",
        "writer",
    ]:
        promised |= set(import_module(f"feeds.recording.{name}").__all__)
    assert set(feeds.recording.__all__) == promised
    assert all(hasattr(feeds.recording, name) for name in promised)
