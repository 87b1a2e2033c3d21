"""Start-up: a command imports what it needs, and no more."""

from __future__ import annotations

import subprocess
import sys

import pytest
from shardstore_cli.app import COMMANDS

from shardstore import Store
from tests.cli.shell import Shell, environment

_IMPORTED = "\nimport sys; print(*(name for name in sys.modules), sep='\\n', file=sys.stderr)"
_HEAVY = {
    "rich",
    "sqlite3",
    "_sqlite3",
    "tempfile",
    "subprocess_",
    "asyncio",
    "multiprocessing",
    "hypothesis",
    "pygments",
}


def _modules(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", code + _IMPORTED], capture_output=True, text=True, env=environment(), check=True
    )
    return set(done.stderr.split())


def test_get_imports_neither_rich_nor_sqlite(shell: Shell) -> None:
    """`shardstore get` runs in hooks and prompts, many times a minute."""
    with Store(shell.store) as store:
        store.create("k", {"a": 1})
    code = (
        f"import sys; sys.argv = ['shardstore', 'get', 'k', '--store', {str(shell.store)!r}]\n"
        "from shardstore_cli.main import main\n"
        "try:\n    main()\nexcept SystemExit as done:\n    assert not done.code, done.code\n"
    )
    modules = _modules(code)
    assert "shardstore.store" in modules
    assert not modules & _HEAVY
    others = {f"shardstore_cli.{module}" for module in COMMANDS.values()} - {"shardstore_cli.cmd_get"}
    assert not modules & others


def test_no_command_imports_heavy_things_before_it_runs() -> None:
    code = "import importlib\n" + "".join(f"importlib.import_module('shardstore_cli.{m}')\n" for m in COMMANDS.values())
    modules = _modules(code)
    assert "typer" in modules
    assert not modules & _HEAVY
    assert "shardstore.store" not in modules


@pytest.mark.parametrize("columns", ["40", "80"])
def test_every_command_has_help(shell: Shell, columns: str) -> None:
    told = shell("--help", named=False, COLUMNS=columns).out
    for name in COMMANDS:
        assert f"  {name}" in told
    assert "..." not in told.partition("Commands:")[2] or columns == "40"
