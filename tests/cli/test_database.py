"""The command line on a store in a database: every command takes its URL, and none shows the password."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from shardstore import Store
from tests.cli.shell import Done, Shell
from tests.contract.backend import PostgresBackend, connect
from tests.support.postgres import server_or_skip


@pytest.fixture
def database(root: Path) -> Iterator[PostgresBackend]:
    made = PostgresBackend(root, server_or_skip())
    try:
        yield made
    finally:
        made.drop()


@pytest.fixture
def run(shell: Shell, database: PostgresBackend) -> object:
    def running(*arguments: str, stdin: str = "") -> Done:
        return shell(*arguments, stdin=stdin, named=False, SHARDSTORE_PATH=database.url)

    return running


def test_every_command_takes_a_url(run, database: PostgresBackend, shell: Shell, tmp_path: Path) -> None:
    assert run("set", "a", '{"n":1,"status":"new"}').code == 0
    assert run("patch", "a", "n=2").code == 0
    assert run("append", "a", '{"role":"user"}').code == 0
    assert json.loads(run("get", "a").out)["n"] == 2
    assert json.loads(run("log", "a", "--json").out)
    assert run("copy", "a", "b").code == 0
    assert run("rename", "b", "c").code == 0
    assert [row["key"] for row in run("list", "--json", "--sort", "key").json["sessions"]] == ["a", "c"]
    assert run("list", "--where", "status=new", "--json").json["sessions"]
    assert len(run("history", "a", "--json").json["revisions"]) == 3
    for command in (("inspect",), ("inspect", "a"), ("compact",), ("verify",), ("reindex", "status"), ("doctor",)):
        done = run(*command)
        assert done.code == 0, (command, done)
    assert run("prune", "--where", "n=2", "--prefix", "c").code == 0
    assert run("archive", "list").code == 0
    assert run("restore", "c").code == 0
    assert run("export", "openclaw", str(tmp_path / "out.json")).code == 0
    assert run("delete", "a").code == 0
    assert run("import", "openclaw", str(tmp_path / "out.json")).code == 0
    with database.open() as store:
        assert sorted(store) == ["a", "c"]


def test_copy_store_moves_both_ways_and_can_be_repeated(run, database: PostgresBackend, shell: Shell) -> None:
    """Versions, history and logs survive; a second run copies what has changed since, and nothing else."""
    url = database.url
    with Store(shell.store) as files:
        for n in range(5):
            files.create(f"k{n}", {"n": n})
            files.append(
                f"k{n}", [{"text": "x" * 3000, "i": i} for i in range(150)], ids=[f"{n}-{i}" for i in range(150)]
            )
            files.patch(f"k{n}", {"more": True})
        first = shell("copy-store", str(shell.store), url, "--verify", "--json", named=False)
        assert first.code == 0, first
        assert (len(first.json["copied"]), first.json["verified"]) == (5, 5)
        again = shell("copy-store", str(shell.store), url, "--json", named=False)
        assert (again.json["copied"], again.json["unchanged"]) == ([], 5)
        files.patch("k0", {"n": 100})
        files.delete("k4")
        third = shell("copy-store", str(shell.store), url, "--json", named=False).json
        assert (third["copied"], third["removed"], third["unchanged"]) == (["k0"], ["k4"], 3)
        with database.open() as there:
            for key in files:
                assert there[key].version == files[key].version
                assert there[key].data == files[key].data
                assert there[key].log[:] == files[key].log[:]
                assert there[key].log.entries() == files[key].log.entries()
                assert there[key].log.find(f"{key[1]}-77") == 77
                assert [one.version for one in there.history(key)] == [one.version for one in files.history(key)]
            there.patch("k1", {"n": 7})
            back = shell.directory / "back"
            assert shell("copy-store", url, str(back), "--verify", named=False).code == 0
            with Store(back) as other:
                assert {key: other[key].version for key in other} == {key: there[key].version for key in there}
                assert other["k1"].log[:] == there["k1"].log[:]
                assert other.verify().ok
            diverged = shell("copy-store", str(shell.store), url, named=False)
            assert diverged.code == 1
            assert "k1" in diverged.err
            assert there["k1"]["n"] == 7
            advised = re.search(r"`shardstore (delete [^`]+)`", diverged.err)
            assert advised is not None, diverged.err
            assert shell(*advised[1].split(), named=False).code == 0
            assert shell("copy-store", str(shell.store), url, named=False).code == 0


def test_copy_store_takes_the_archive_along_both_ways(run, database: PostgresBackend, shell: Shell) -> None:
    """Archived sessions keep their moment, history and log. A second run adds nothing; quarantine stays, and is told."""
    url, back = database.url, shell.directory / "back"
    with Store(shell.store) as files, Store(back) as other:
        for key in ("gone:a", "gone:b", "kept"):
            files.append(key, [{"text": "x" * 3000, "i": i} for i in range(150)], {"n": 1})
            files.patch(key, {"n": 2})
        assert shell("copy-store", str(shell.store), url, named=False).code == 0
        versions = {key: [one.version for one in files.history(key)] for key in files}
        files.prune(prefix="gone:", where={"n": 2})
        files.create("gone:b", {"n": "again"})
        first = shell("copy-store", str(shell.store), url, "--verify", "--json", named=False)
        assert first.code == 0, first
        assert sorted(first.json["archived"]) == ["gone:a", "gone:b"]
        assert (first.json["copied"], first.json["removed"]) == (["gone:b"], ["gone:a"])
        assert shell("copy-store", url, str(back), "--verify", named=False).code == 0
        for source, target in ((str(shell.store), url), (url, str(back))):
            again = shell("copy-store", source, target, "--json", named=False).json
            assert (again["archived"], again["copied"], again["removed"]) == ([], [], [])
        with database.open() as there:
            for store in (there, other):
                moments = [(one.key, round(one.moved_at * 1000)) for one in files.archive.list()]
                assert [(one.key, round(one.moved_at * 1000)) for one in store.archive.list()] == moments
                assert store["gone:b"]["n"] == "again"
                assert store.archive.restore("gone:a")["n"] == 2
                assert [one.version for one in store.history("gone:a")] == versions["gone:a"]
                assert [item["i"] for item in store["gone:a"].log] == list(range(150))
                assert store.verify().ok
            with connect(database.server) as stranger:
                stranger.execute(f"UPDATE {database.schema}.line SET line = set_byte(line, 60, 0) WHERE n = 2")
            there.verify(repair=True)
        told = shell("copy-store", url, str(shell.directory / "third"), named=False)
        assert "in quarantine of the source stay there" in told.err


@pytest.mark.parametrize("kind", ["database", "directory"])
def test_a_dry_copy_needs_no_target(run, database: PostgresBackend, shell: Shell, kind: str) -> None:
    """The first command of a move: it says what would be copied, and makes nothing."""
    with Store(shell.store) as files:
        files.create("a", {})
        files.append("b", [{"text": "x" * 3000}] * 150)
    target = database.url if kind == "database" else str(shell.directory / "new")
    done = shell("copy-store", str(shell.store), target, "--dry-run", named=False)
    assert (done.code, "2 sessions would be copied" in done.out) == (0, True), done
    assert "no store at" in done.err
    assert shell("list", "--store", target, named=False).code == 10
    assert shell("copy-store", str(shell.directory / "nowhere"), target, "--dry-run", named=False).code == 10


def test_a_dry_copy_makes_nothing(run, database: PostgresBackend, shell: Shell) -> None:
    with Store(shell.store) as files:
        files.create("a", {})
    with database.open():
        pass
    before = database.written()
    done = shell("copy-store", str(shell.store), database.url, "--dry-run", "--json", named=False)
    assert (done.code, done.json["copied"]) == (0, ["a"])
    assert database.written() == before


@pytest.mark.parametrize("command", [("list",), ("doctor",), ("get", "x")], ids=" ".join)
def test_no_message_shows_the_password(shell: Shell, command: tuple[str, ...]) -> None:
    """Nor does a URL that cannot be understood."""
    for url in (
        "postgresql://me:hunter2@127.0.0.1:1/db?connect_timeout=2",
        "postgresql://me:hunter2@127.0.0.1:1/db?nonsense=1",
        "postgresql://me@127.0.0.1:1/db?password=hunter2&hold_timeout=x",
    ):
        done = shell(*command, named=False, SHARDSTORE_PATH=url)
        assert done.code in (1, 2)
        assert done.err
        assert "hunter2" not in done.out + done.err
