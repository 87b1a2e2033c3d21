"""Shell completion offers commands, options and the keys of the store."""

from __future__ import annotations

import os
import pty
import select
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from shardstore_cli import bash

from shardstore import Store
from tests.cli.conftest import LONG
from tests.cli.shell import Shell, environment


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


@pytest.mark.parametrize(
    ("pieces", "words", "before"),
    [
        (["s", "get", ""], ["s", "get", ""], ""),
        (["s", "get", "a"], ["s", "get", "a"], ""),
        (["s", "get", "a", ":"], ["s", "get", "a:"], "a:"),
        (["s", "get", "a", ":", "m"], ["s", "get", "a:m"], "a:"),
        (["s", "get", "a", ":", "m", ":", "x"], ["s", "get", "a:m:x"], "a:m:"),
        (["s", "get", "a", "::", "m"], ["s", "get", "a::m"], "a::"),
        (["s", "get", "a", ":", ""], ["s", "get", "a:", ""], ""),
        (["s", "get", "u", "@", "h"], ["s", "get", "u@h"], "u"),
        (["s", "get", "u", "@"], ["s", "get", "u@"], "u"),
        (["s", "--store", "=", "/x", "get", "a"], ["s", "--store=/x", "get", "a"], ""),
        (["s", "patch", "k", "a", "=", "1", "b"], ["s", "patch", "k", "a=1", "b"], ""),
        (["s", "get", "'a:m"], ["s", "get", "a:m"], ""),
        (["s", "get", "a\\ b", ":", "m"], ["s", "get", "a b:m"], "a b:"),
    ],
)
def test_the_words_that_bash_cut_are_joined(pieces: list[str], words: list[str], before: str) -> None:
    assert bash.join(pieces) == (words, before)


_COMMAND = """#!/bin/sh
# Complete as shardstore does; when it is run at last, write down what bash made of the line.
if [ -n "$_SHARDSTORE_COMPLETE" ]; then exec {python} -c {code} "$@"; fi
printf '%s\\n' "$@" > {typed}.part && mv {typed}.part {typed}
"""
_PLAIN = "from shardstore_cli.main import main; main()"
_NOT_JOINED = "from shardstore_cli import bash; bash.join = lambda words: (words, ''); " + _PLAIN


def _type(shell: Shell, line: str, code: str = _PLAIN) -> list[str]:
    """Type a line, a tab and a return into a bash on a terminal; return the arguments that it ran the command with."""
    command, typed = shell.directory / "bin" / "shardstore", shell.directory / "typed"
    command.parent.mkdir(exist_ok=True)
    words = {"python": sys.executable, "code": shlex.quote(code), "typed": shlex.quote(str(typed))}
    command.write_text(_COMMAND.format(**words), encoding="utf-8")
    command.chmod(0o700)
    script = shell.directory / "completion.sh"
    script.write_text(shell.fresh(named=False, _SHARDSTORE_COMPLETE="source_bash").out, encoding="utf-8")
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        ["bash", "--norc", "--noprofile", "-i"],
        stdin=follower,
        stdout=follower,
        stderr=follower,
        env=environment(
            TERM="dumb", SHARDSTORE_PATH=str(shell.store), PATH=f"{command.parent}{os.pathsep}{os.environ['PATH']}"
        ),
        cwd=shell.directory,
        start_new_session=True,
    )
    os.close(follower)
    try:
        os.write(leader, f"source {script}\n{line}\t\n".encode())
        _read_until(leader, typed)
        return typed.read_text(encoding="utf-8").splitlines()
    finally:
        process.kill()
        process.wait(30)
        os.close(leader)
        typed.unlink(missing_ok=True)


def _read_until(leader: int, there: Path) -> None:
    """Read what bash prints, which would block it otherwise, until the file is there."""
    deadline = time.monotonic() + 30
    while not there.exists():
        assert time.monotonic() < deadline, "bash did not run the command"
        if select.select([leader], [], [], 0.05)[0]:
            os.read(leader, 65536)


needs_bash = pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash here")


@needs_bash
@pytest.mark.parametrize(
    ("typed", "arguments"),
    [
        ("get agent:ops:h", ["get", "agent:ops:hook"]),
        ("get agent:o", ["get", "agent:ops:hook"]),
        ("get agent:main:cron:0b5c2c1e-6a57-4c59-93f5-6d1d2f2a3b4c:", ["get", LONG]),
        ("get whatsapp:user@", ["get", "whatsapp:user@host=1"]),
        ("get whatsapp:user@h", ["get", "whatsapp:user@host=1"]),
        ("get 'spa", ["get", "spaced: it's [x]* $(id) `id` ~"]),
        ("get spaced:\\ it", ["get", "spaced: it's [x]* $(id) `id` ~"]),
        ("delete agent:main:main agent:o", ["delete", "agent:main:main", "agent:ops:hook"]),
        ("ins", ["inspect"]),
    ],
)
def test_bash_completes_keys_with_colons(busy: Shell, typed: str, arguments: list[str]) -> None:
    with Store(busy.store) as store:
        store.create("whatsapp:user@host=1", {})
        if "'" not in typed:  # no quotation of a key with an apostrophe can begin with one
            store.create("spaced: it's [x]* $(id) `id` ~", {})
        else:
            store.create("spaced: it [x]* $(id) `id` ~", {})
            arguments = ["get", "spaced: it [x]* $(id) `id` ~"]
    assert _type(busy, f"shardstore {typed}") == arguments


@needs_bash
def test_without_joining_the_words_bash_completes_nothing(busy: Shell) -> None:
    assert _type(busy, "shardstore get agent:ops:h", _NOT_JOINED) != ["get", "agent:ops:hook"]


def test_no_shell_is_offered_what_it_would_run(shell: Shell) -> None:
    """zsh evaluates the answers; a key that somebody else chose must not become a command."""
    hostile = [
        "key$(touch x)",
        "key`id`",
        "key\\$(id)",
        "key'",
        'key"',
        "key;id",
        "key|id",
        "key&",
        "key\x1b[2J",
        "key\u202e",
    ]
    with Store(shell.store) as store:
        for key in (*hostile, "key:good"):
            store.create(key, {})
    for kind in ("zsh", "fish"):
        variables = {"_SHARDSTORE_COMPLETE": f"complete_{kind}", "_TYPER_COMPLETE_ARGS": "shardstore get key"}
        variables |= {"_TYPER_COMPLETE_FISH_ACTION": "get-args", "SHARDSTORE_PATH": str(shell.store)}
        offered = shell.fresh(named=False, **variables).out.replace("\\", "")
        assert "key:good" in offered
        assert not any(
            sign in offered.replace("'*: :", "").replace("))'", "")
            for sign in ("$", "`", ";", "|", "&", "\x1b", "\u202e")
        )
