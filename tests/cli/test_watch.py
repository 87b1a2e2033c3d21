"""shardstore watch, list --follow and log --follow, in their real processes; and what inspect says of a population."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from shardstore import Store
from tests.cli.shell import COMMAND, Shell
from tests.support.peer import environment

PATIENCE_S = 30.0


@pytest.fixture
def filled(shell: Shell) -> Shell:
    with Store(shell.store) as store:
        for n in range(6):
            store.create(f"agent:{n % 2}:{n}", {"status": ("running", "done", 3)[n % 3]})
        store.create("lonely", {})
    return shell


@contextmanager
def started(shell: Shell, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [*COMMAND, *arguments, "--store", str(shell.store)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment(), text=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def next_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().rstrip()


def test_watch_prints_what_changes(filled: Shell) -> None:
    """As text, and as one object a line; from a token on, with a prefix, until nothing changes."""
    with Store(filled.store) as store:
        token = store.token()
        store.patch("agent:0:0", {"n": 1})
        store.create("a b", {})
        store.delete("lonely")
    done = filled("watch", "--since", token, "--timeout", "0")
    assert sorted(line.split(None, 4)[2:] for line in done.out.splitlines()) == [
        ["changed", "2", "agent:0:0"], ["created", "1", "a b"], ["deleted", "2", "lonely"],
    ]  # fmt: skip
    done = filled("watch", "agent:", "--since", token, "--timeout", "0", "--json")
    (change,) = map(json.loads, done.out.splitlines())
    assert (change["schema_version"], change["key"], change["kind"], change["rev"]) == (1, "agent:0:0", "changed", 2)
    assert filled("watch", "--since", change["token"], "--timeout", "0").code == 0
    assert filled("watch", "--since", "nonsense").code == 1
    assert filled("watch", "--timeout", "soon").code == 2


def test_watch_runs_a_command_for_each_change(filled: Shell) -> None:
    """A key never becomes a part of the command."""
    with Store(filled.store) as store:
        token = store.token()
        store.create("$(touch pwned) 'x", {})
    done = filled(
        "watch",
        "--since",
        token,
        "--timeout",
        "0",
        "--exec",
        'printf "%s %s\\n" "$SHARDSTORE_KIND" "$SHARDSTORE_KEY"; exit 7',
    )
    assert done.out == "created $(touch pwned) 'x\n"
    assert "ended with 7" in done.err
    assert done.code == 0
    assert not list(filled.directory.rglob("pwned"))


def test_watch_goes_on_until_it_is_interrupted(filled: Shell) -> None:
    """Exit code 130. An index that is made anew does not end it."""
    with Store(filled.store) as store:
        token = store.token()
        with started(filled, "watch", "--json", "--since", token) as process:
            store.create("first", {})
            assert json.loads(next_line(process))["key"] == "first"
            os.kill(process.pid, signal.SIGINT)
            assert process.wait(PATIENCE_S) == 130
        with started(filled, "watch", "--json") as process:
            assert process.stdout is not None
            lines: list[str] = []
            reading = threading.Thread(target=lambda: lines.extend(iter(process.stdout.readline, "")), daemon=True)  # type: ignore[union-attr]
            reading.start()
            wait_until_seen(store, lines)
            store.engine.index.lister.rebuild()  # type: ignore[attr-defined]
            wait_until_seen(store, lines)
            process.kill()
            reading.join()


def wait_until_seen(store: Store, lines: list[str]) -> None:
    """Patch a session until a line tells of it."""
    known, deadline = store.patch("again", {}).rev, time.monotonic() + PATIENCE_S
    while not any(json.loads(line)["rev"] > known for line in lines):
        store.patch("again", {"at": time.monotonic()})
        time.sleep(0.05)
        assert time.monotonic() < deadline


def test_a_list_that_follows(filled: Shell) -> None:
    """It is printed whenever something changed."""
    with started(filled, "list", "--prefix", "agent:0", "--count", "--follow") as process:
        assert next_line(process).startswith("-- ")
        assert next_line(process) == "3"
        with Store(filled.store) as store:
            store.create("other", {})
            store.create("agent:0:new", {})
        assert next_line(process).startswith("-- ")
        assert next_line(process) == "4"
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(PATIENCE_S) == 130


@pytest.mark.parametrize("listed", [False, True])
def test_inspect_says_what_there_is(filled: Shell, listed: bool) -> None:
    """By the beginnings of keys and by status, and what is running for the longest time."""
    if listed:
        filled("list")
    found = filled("inspect", "--json").json
    assert {one["prefix"]: one["count"] for one in found["by_prefix"]} == {"agent:0:": 3, "agent:1:": 3, "lonely": 1}
    assert {one["status"]: one["count"] for one in found["by_status"]} == {"running": 2, "done": 2, "3": 2}
    assert [one["key"] for one in found["oldest_running"]] == ["agent:0:0", "agent:1:3"]
    with Store(filled.store) as store:
        for n in range(20):
            store.create(f"agent:0:more{n}", {})
    done = filled("inspect")
    assert "Keys      agent:0: 23, agent:1: 3, lonely 1" in done.out
    assert "Status    running 2, 3 2, done 2" in done.out
    assert "Running, and changed longest ago" in done.out
