"""What the stubs promise is there, and what is there is promised."""

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import feeds
import strategies

ROOTS = [Path(feeds.__file__).parent, Path(strategies.__file__).parent]
STUBS = sorted(f"{root.name}.{stub.stem}" for root in ROOTS for stub in root.glob("*.pyi"))
COMPILED = sorted(f"{root.name}.{source.stem}" for root in ROOTS for source in root.glob("*.pyx"))


def stub_of(name):
    package, _, module = name.partition(".")
    root = next(root for root in ROOTS if root.name == package)
    return ast.parse((root / f"{module}.pyi").read_text())


def promised(stub):
    return next((ast.literal_eval(node.value) for node in stub.body if ast.unparse(node).startswith("__all__")), [])


def test_every_compiled_module_has_a_stub():
    assert STUBS == COMPILED


@pytest.mark.parametrize("name", STUBS)
def test_a_module_and_its_stub_promise_the_same(name):
    module = import_module(name)
    stub = stub_of(name)
    assert getattr(module, "__all__", []) == promised(stub)
    defined = {node.name for node in stub.body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
    defined |= {ast.unparse(node.target) for node in stub.body if isinstance(node, ast.AnnAssign)}
    assert set(promised(stub)) <= defined
    assert all(hasattr(module, promise) for promise in promised(stub))


@pytest.mark.parametrize("name", STUBS)
def test_a_class_and_its_stub_have_the_same_public_names(name):
    module = import_module(name)
    for node in stub_of(name).body:
        if not isinstance(node, ast.ClassDef) or node.name not in module.__all__:
            continue
        cls = getattr(module, node.name)
        theirs = {n.name for n in node.body if isinstance(n, ast.FunctionDef)}
        theirs |= {ast.unparse(n.target) for n in node.body if isinstance(n, ast.AnnAssign)}
        theirs |= {ast.unparse(n.targets[0]) for n in node.body if isinstance(n, ast.Assign)}
        inherited = {public for base in cls.__mro__[1:] for public in vars(base)}
        ours = {public for public in vars(cls) if not public.startswith("_")}
        assert ours - inherited <= theirs, node.name
        assert {public for public in theirs if not public.startswith("_")} <= ours, node.name


@pytest.mark.parametrize("package", [feeds, strategies])
def test_a_package_exports_what_its_modules_promise(package):
    assert package.__all__ == sorted(package.__all__, key=lambda name: (name[0].islower(), name))
    for name in package.__all__:
        origin = import_module(getattr(package, name).__module__)
        assert name in origin.__all__


def test_importing_the_packages_loads_nothing_heavy():
    heavy = "aiohttp", "click", "rich", "uvloop", "zstandard", "isal"
    code = f"import feeds, strategies, sys; print([name for name in {heavy} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout.strip() == "[]"
