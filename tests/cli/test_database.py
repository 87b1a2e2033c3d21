"""The command line on a store in a database: every command takes its URL, and none shows the password."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from shardstore import Store, StoreUnavailable, UnsupportedFormat
from shardstore._postgres import address
from tests.cli.shell import Done, Shell
from tests.contract.backend import PostgresBackend, connect, kept
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


SHOWN_NOWHERE = ("p/ssw0rd", "p?ssw0rd", "se@cret-ssw0rd", "a:b/ssw0rd", "p%ssw0rd", "se@x/y?ssw0rd")


@pytest.mark.parametrize("secret", SHOWN_NOWHERE)
def test_a_password_that_is_not_percent_encoded_is_not_shown(shell: Shell, secret: str) -> None:
    """The message says what to do instead, wherever the URL stands on the command line."""
    url = f"postgresql://admin:{secret}@127.0.0.1:1/agents?connect_timeout=2"
    for arguments in (
        ("list", "--store", url), ("inspect", "x", "--store", url, "--json"), ("doctor", url), ("doctor", url, "--json"),
        ("copy-store", url, str(shell.store)), ("list", "--store", url, "--json"),
    ):  # fmt: skip
        done = shell(*arguments, named=False)
        assert done.code == 2, done
        assert "ssw0rd" not in done.out + done.err
        assert "%2F" in done.err
    for arguments in (("list", url), (url,), ("get", "x", url, "--json"), ("get", url, "--store", str(shell.store))):
        done = shell(*arguments, named=False)
        assert done.code
        assert "ssw0rd" not in done.out + done.err


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me@127.0.0.1:1/db?password=se&ssw0rd",
        "postgresql://me@127.0.0.1:1/db?pass%77ord=ssw0rd&connect_timeout=2",
        "postgresql:/me:ssw0rd@127.0.0.1:1/db",
        " postgresql://me:ssw0rd@127.0.0.1:1/db",
        "mysql://me:ssw0rd@127.0.0.1:1/db",
    ],
)
@pytest.mark.parametrize("command", [("list", "--store"), ("doctor",)], ids=" ".join)
def test_no_other_form_of_a_url_shows_a_password(shell: Shell, url: str, command: tuple[str, ...]) -> None:
    done = shell(*command, url, named=False)
    assert done.code in (1, 2)
    assert done.err.startswith(("Error", "Usage"))
    assert "ssw0rd" not in done.out + done.err


def test_no_traceback_shows_a_password() -> None:
    for url in ("postgresql://a:p%ssw0rd@127.0.0.1/x", "postgresql://a:ssw0rd@127.0.0.1:1/x?connect_timeout=2"):
        with pytest.raises((ValueError, StoreUnavailable)) as caught:
            Store(url)
        error: BaseException | None = caught.value
        while error is not None:
            assert "ssw0rd" not in f"{error} {error!r}"
            assert not isinstance(error, IndexError)
            error = error.__cause__ or error.__context__
    assert "ssw0rd" not in repr(address.parse("postgresql://a:ssw0rd@127.0.0.1/x"))


@pytest.mark.parametrize("schema", ["pg_x", "1abc"])
def test_a_schema_that_is_refused_learns_why(schema: str) -> None:
    with pytest.raises(ValueError, match="not beginning with a digit or pg_"):
        address.parse(f"postgresql://127.0.0.1/x?schema={schema}")


def test_inspect_names_the_holder_of_a_session(run, database: PostgresBackend) -> None:
    with database.open() as store:
        store.create("k", {"n": 1})
        assert run("inspect", "k", "--json").json["lock"] is None
        with store.edit("k"):
            shown = run("inspect", "k").out
            assert re.search(rf"Lock +held by {os.getpid()}@", shown), shown
            assert run("inspect", "k", "--json").json["lock"]["pid"] == os.getpid()
        assert re.search("Lock +free", run("inspect", "k").out)
        assert "file of" not in shown
        assert "1 journal," in run("verify").out
        assert re.search("^Database ", run("doctor").out, re.MULTILINE)


def test_doctor_names_the_right_that_is_missing(shell: Shell, database: PostgresBackend) -> None:
    """Also by SHARDSTORE_PATH, before a store is there; and what it names is enough."""
    role = f"r_{database.schema}"
    url = re.sub("//[^@/]*@", f"//{role}@", database.url)
    admin = kept(database.server)
    admin.execute(f"CREATE ROLE {role} LOGIN")
    try:
        for arguments in (("doctor", url), ("doctor", "--store", url)):
            refused = shell(*arguments, named=False)
            assert refused.code == 1, refused
            assert "GRANT CREATE ON DATABASE" in " ".join(refused.out.split())
        written = shell("set", "a", "{}", "--store", url, named=False)
        assert written.code == 1
        assert f"GRANT CREATE ON DATABASE postgres TO {role}" in written.err
        admin.execute(f"CREATE SCHEMA {database.schema}")
        assert f"GRANT USAGE, CREATE ON SCHEMA {database.schema}" in " ".join(
            json.loads(shell("doctor", url, "--json", named=False).out)["checks"][-1]["detail"].replace('"', "").split()
        )
        admin.execute(f"GRANT USAGE, CREATE ON SCHEMA {database.schema} TO {role}")
        assert shell("doctor", url, named=False).code == 0
        assert shell("set", "a", "{}", "--store", url, named=False).code == 0, "that right alone is enough"
    finally:
        admin.execute(f"DROP SCHEMA IF EXISTS {database.schema} CASCADE")
        admin.execute(f"DROP OWNED BY {role}")
        admin.execute(f"DROP ROLE {role}")


def test_doctor_tells_a_reader_from_a_writer(shell: Shell, database: PostgresBackend) -> None:
    role = f"r_{database.schema}"
    url = re.sub("//[^@/]*@", f"//{role}@", database.url)
    database.open().close()
    admin = kept(database.server)
    admin.execute(f"CREATE ROLE {role} LOGIN")
    try:
        admin.execute(f"GRANT USAGE ON SCHEMA {database.schema} TO {role}")
        admin.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA {database.schema} TO {role}")
        done = shell("doctor", url, "--json", named=False)
        assert (done.code, done.json["checks"][-1]["status"]) == (0, "warn")
    finally:
        admin.execute(f"DROP OWNED BY {role}")
        admin.execute(f"DROP ROLE {role}")


def test_a_table_of_somebody_else_is_named(database: PostgresBackend) -> None:
    admin = kept(database.server)
    admin.execute(f"CREATE SCHEMA {database.schema}")
    admin.execute(f"CREATE TABLE {database.schema}.session (n int)")
    with pytest.raises(UnsupportedFormat, match="choose another schema"):
        database.open()
    assert admin.execute(f"SELECT count(*) FROM {database.schema}.session").fetchone() == (0,)


def test_doctor_names_a_database_that_is_missing(shell: Shell, database: PostgresBackend) -> None:
    url = re.sub(r"/[^/?]*(\?|$)", r"/nobody_made_this\1", database.url)
    done = shell("doctor", url, named=False)
    assert done.code == 1
    assert "createdb nobody_made_this" in done.err
    assert "shardstore doctor" not in done.err
    assert "\\n" not in shell("list", "--store", url, named=False).err
