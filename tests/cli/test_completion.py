"""Shell completion offers commands, options and the keys of the store."""

from __future__ import annotations

import pytest

from tests.cli.shell import Shell


def _complete(shell: Shell, words: str) -> list[str]:
    done = shell.fresh(named=False, _SHARDSTORE_COMPLETE="complete_zsh", _TYPER_COMPLETE_ARGS=words)
    return done.out.splitlines()


def test_commands_are_offered(shell: Shell) -> None:
    offered = "\n".join(_complete(shell, "shardstore "))
    for command in ("get", "inspect", "compact", "import", "doctor"):
        assert f'"{command}"' in offered


def test_keys_are_offered(busy: Shell) -> None:
    offered = "\n".join(_complete(busy, f"shardstore --store {busy.store} get agent:ops"))
    assert "agent:ops:hook" in offered.replace("\\", "")
    assert "main" not in offered
    assert "Traceback" not in "\n".join(_complete(busy, "shardstore --store /nowhere get a"))


@pytest.mark.parametrize("shell_name", ["bash", "fish"])
def test_a_script_can_be_installed(shell: Shell, shell_name: str) -> None:
    done = shell.fresh(named=False, _SHARDSTORE_COMPLETE=f"source_{shell_name}")
    assert "_SHARDSTORE_COMPLETE" in done.out
