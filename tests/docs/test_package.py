"""The package as it is shipped: what it exports, what it installs, what its docstrings draw."""

from __future__ import annotations

import contextlib
import importlib.metadata
import inspect
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import shardstore
from shardstore import errors
from tests.support.peer import REPOSITORY, environment

DESIGNED = {
    "CommitUncertain", "CompactReport", "Conflict", "CorruptShard", "DELETE", "Draft", "InvalidEntry", "InvalidKey", "InvalidQuery",
    "LockTimeout", "NestedUpdate", "Session", "SessionExists", "SessionInfo", "SessionNotFound", "ShardStoreError", "Store",
    "StoreClosed", "StoreFull", "StoreIOError", "StoreNotFound", "StoreStats", "UnsafeStore", "UnsupportedFileSystem",
    "UnsupportedFormat", "VerifyReport",
}  # fmt: skip


def test_what_is_promised_is_exported() -> None:
    """Every name that the documentation promises comes from `import shardstore`, and __all__ is sorted and true."""
    exported = set(shardstore.__all__)
    assert exported >= DESIGNED
    assert all(hasattr(shardstore, name) for name in exported)
    assert len(exported) == len(shardstore.__all__)
    names: dict[str, object] = {}
    exec("from shardstore import *", names)
    assert exported <= set(names)


def test_nothing_is_exported_by_accident() -> None:
    """A public name of the package is in __all__, or a module."""
    accidental = [
        name
        for name, value in vars(shardstore).items()
        if not name.startswith("_") and name not in shardstore.__all__ and not inspect.ismodule(value)
    ]
    assert accidental == []


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    """The errors that the module's docstring draws, their bases and their builtins, are those that exist."""
    assert errors.__doc__ is not None
    drawn: dict[str, tuple[str, str | None]] = {}
    parents: list[tuple[int, str]] = []
    for line in errors.__doc__.splitlines():
        found = re.match(r"^([ │├└─]*)([A-Z]\w+)(?:\((\w+)\))?(?:\s{2,}.*)?$", line)
        if not found or not line.startswith("    "):
            continue
        depth, name, builtin = len(found[1]), found[2], found[3]
        while parents and parents[-1][0] >= depth:
            parents.pop()
        drawn[name] = (parents[-1][1] if parents else "", builtin)
        parents.append((depth, name))
    real = {
        name: kind
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, errors.ShardStoreError)
    }
    assert set(drawn) == set(real)
    for name, (parent, builtin) in drawn.items():
        bases = [base.__name__ for base in real[name].__bases__]
        assert not parent or parent in bases, f"{name} is drawn below {parent}"
        own = [base for base in bases if base not in real and base != "Exception"]
        assert own == ([builtin] if builtin and name != "ShardStoreError" else []), name


def test_every_error_says_what_to_do_in_its_docstring() -> None:
    """No public class and no public verb is without a docstring."""
    for name in shardstore.__all__:
        value = getattr(shardstore, name)
        if inspect.isclass(value):
            assert inspect.getdoc(value), name
    for name, verb in inspect.getmembers(shardstore.Store, callable):
        if not name.startswith("_"):
            assert inspect.getdoc(verb), name


def test_every_module_can_be_imported_alone() -> None:
    """No module needs another to have been imported first, but for those that `import shardstore` brings."""
    modules = sorted(
        str(path.relative_to(REPOSITORY).with_suffix("")).replace(os.sep, ".").removesuffix(".__init__")
        for path in (REPOSITORY / "shardstore").rglob("*.py")
    )
    assert len(modules) > 15
    script = (
        "import importlib, sys, shardstore\nfirst = set(sys.modules)\nfor name in sys.argv[1:]:\n"
        "    importlib.import_module(name)\n"
        "    [sys.modules.pop(m) for m in {*sys.modules} - first if m.startswith('shardstore.')]\n"
    )
    outcome = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, *modules],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert outcome.returncode == 0, outcome.stderr


def test_the_library_does_not_import_the_command_line() -> None:
    """`import shardstore` brings neither typer nor rich nor SQLite: they cost more than the library."""
    script = "import sys, shardstore; print([m for m in ('typer', 'rich', 'sqlite3', 'shardstore_cli', 'asyncio', 'multiprocessing') if m in sys.modules])"
    outcome = subprocess.run(
        [sys.executable, "-c", script], env=environment(), capture_output=True, text=True, timeout=60
    )
    assert outcome.stdout.strip() == "[]", outcome.stdout + outcome.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from a copy of the sources: a build leaves things beside them."""
    base = tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md"):
        shutil.copy(REPOSITORY / name, base)
    for name in ("shardstore", "cli", "tests", "bench", "docs"):
        shutil.copytree(REPOSITORY / name, base / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    modern = False
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        modern = int(importlib.metadata.version("setuptools").split(".")[0]) >= 77
    isolated = ["--no-build-isolation"] if modern else []  # else pip fetches what pyproject.toml asks for
    outcome = subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "--quiet",
            "--no-deps",
            *isolated,
            "--wheel-dir",
            str(base / "out"),
            str(base),
        ],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert outcome.returncode == 0, outcome.stderr
    (made,) = (base / "out").glob("*.whl")
    return made


def test_the_wheel_adds_two_names_only(wheel: Path) -> None:
    """An installed package adds no top-level module called cli, tests or bench."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"shardstore", "shardstore_cli"}
    assert "shardstore/py.typed" in names
    assert not [name for name in names if "__pycache__" in name or name.endswith((".pyc", ".so"))]
    sources = {str(path.relative_to(REPOSITORY)) for path in (REPOSITORY / "shardstore").rglob("*.py")}
    assert sources <= set(names), "a module is missing from the wheel"
    commands = {f"shardstore_cli/{path.relative_to(REPOSITORY / 'cli')}" for path in (REPOSITORY / "cli").rglob("*.py")}
    assert commands <= set(names), "a module of the command line is missing from the wheel"


def test_the_wheel_works_where_it_is_installed_bare(wheel: Path, tmp_path: Path) -> None:
    """Installed alone, outside of the checkout, library and command run from the installed files."""
    target = tmp_path / "site"
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--no-index",
            "--target",
            str(target),
            str(wheel),
        ],
        check=True,
        capture_output=True,
        timeout=120,
    )
    assert {path.name for path in target.iterdir() if path.suffix != ".dist-info" and path.name != "bin"} == {
        "shardstore",
        "shardstore_cli",
    }
    script = (
        "import shardstore, shardstore_cli, sys\n"
        "assert shardstore.__file__.startswith(sys.argv[1]), shardstore.__file__\n"
        "assert shardstore_cli.__file__.startswith(sys.argv[1]), shardstore_cli.__file__\n"
        "shardstore.Store(sys.argv[2]).patch('k', {'n': 1})\n"
        "from shardstore_cli.main import main\n"
        "sys.argv = ['shardstore', '--store', sys.argv[2], 'get', 'k']\n"
        "main()\n"
    )
    env = {**os.environ, "PYTHONPATH": str(target), "PYTHONSAFEPATH": "1"}
    outcome = subprocess.run(
        [sys.executable, "-c", script, str(target), str(tmp_path / "store")],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert outcome.returncode == 0, outcome.stderr
    assert '"n"' in outcome.stdout
