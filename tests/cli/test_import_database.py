"""OpenClaw's SQLite database: read whole and as of one moment, in every state it is found in, and never touched."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from shardstore_cli import openclaw, openclaw_database
from shardstore_cli.exits import CommandError

from shardstore import Store
from tests.cli.mutated import mutated
from tests.cli.shell import Shell

TABLE = (
    "CREATE TABLE session_nodes(session_key TEXT PRIMARY KEY, current_session_id TEXT, entry_json TEXT, "
    "entry_valid INT, updated_at INT, status TEXT)"
)
MOMENT = 1_771_290_458_500


def _entry(n: int) -> dict[str, object]:
    return {"sessionId": str(n), "updatedAt": MOMENT + n, "origin": {"to": "ä🏡"}}


def _database(directory: Path, count: int = 20) -> Path:
    path = directory / "agent" / "openclaw-agent.sqlite"
    path.parent.mkdir()
    (directory / "sessions").mkdir()
    with closing(sqlite3.connect(path)) as database:
        database.execute(TABLE)
        _insert(database, range(count))
    return path


def _insert(database: sqlite3.Connection, numbers: range) -> None:
    rows = [(f"agent:main:{n}", str(n), json.dumps(_entry(n)), 1, MOMENT + n, "done") for n in numbers]
    database.executemany("INSERT INTO session_nodes VALUES(?,?,?,?,?,?)", rows)
    database.commit()


def _files(directory: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in directory.iterdir()}


@pytest.mark.parametrize("place", ["agent/openclaw-agent.sqlite", "agent", "sessions", "."])
def test_the_database_is_found_and_read(shell: Shell, place: str) -> None:
    path = _database(shell.directory)
    before = _files(path.parent)
    done = shell("import", "openclaw", shell.directory / place)
    assert (done.code, done.out) == (0, "imported 20 sessions: 20 new\n")
    assert "no transcripts were read from" in done.err
    with Store(shell.store) as store:
        assert {key: store[key].data for key in store} == {f"agent:main:{n}": _entry(n) for n in range(20)}
        assert store["agent:main:7"].updated_at == datetime.fromtimestamp((MOMENT + 7) / 1000, UTC)
    assert _files(path.parent) == before
    assert shell("import", "openclaw", path).out == "imported 20 sessions: 20 unchanged\n"


def test_the_sessions_json_that_was_left_is_read_when_it_is_named(shell: Shell) -> None:
    _database(shell.directory)
    old = shell.directory / "sessions" / "sessions.json"
    old.write_text('{"agent:old": {}}', encoding="utf-8")
    assert shell("import", "openclaw", old.parent, "--dry-run", "--json").json["sessions"] == 20
    named = shell("import", "openclaw", old)
    assert (named.code, named.out) == (0, "imported 1 session: 1 new\n")
    assert "newer sessions may be in it" in named.err


def test_a_write_ahead_log_is_read_while_openclaw_runs(shell: Shell) -> None:
    path = _database(shell.directory)
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA wal_autocheckpoint=0")
        _insert(database, range(20, 30))
        assert os.path.getsize(f"{path}-wal")
        database.execute("INSERT INTO session_nodes(session_key, entry_json) VALUES('uncommitted', '{}')")
        assert shell("import", "openclaw", path).out == "imported 30 sessions: 30 new\n"
        assert path.read_bytes().count(b"agent:main:25") == 0, "the log was put into the database"


def test_a_log_without_its_index_is_read_from_a_copy(shell: Shell) -> None:
    """As after `cp`: reading it in place would make a -shm file beside somebody else's database."""
    path = _database(shell.directory)
    there = shell.directory / "copied" / path.name
    there.parent.mkdir()
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA wal_autocheckpoint=0")
        _insert(database, range(20, 30))
        shutil.copy(path, there)
        shutil.copy(f"{path}-wal", f"{there}-wal")
    before = _files(there.parent)
    assert shell("import", "openclaw", there).out == "imported 30 sessions: 30 new\n"
    assert _files(there.parent) == before
    in_place = ("shardstore_cli.openclaw_database:_copy", "lambda original: lambda file, place: file")
    mutated(shell, in_place)("import", "openclaw", there, "--dry-run")
    assert _files(there.parent) != before


def test_an_interrupted_transaction_is_rolled_back_in_a_copy(shell: Shell) -> None:
    path = _database(shell.directory)
    there = shell.directory / "copied" / path.name
    there.parent.mkdir()
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("PRAGMA cache_size=1")
        database.execute("BEGIN")
        database.executemany(
            "UPDATE session_nodes SET entry_json=? WHERE session_key=?",
            [("{}" * 3000, f"agent:main:{n}") for n in range(20)],
        )
        assert os.path.getsize(f"{path}-journal")
        shutil.copy(path, there)
        shutil.copy(f"{path}-journal", f"{there}-journal")
        database.execute("ROLLBACK")
    before = _files(there.parent)
    assert shell("import", "openclaw", there).out == "imported 20 sessions: 20 new\n"
    assert shell("get", "agent:main:3").json == _entry(3)
    assert _files(there.parent) == before


def test_a_change_while_it_is_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _database(tmp_path)
    original = openclaw_database._rows

    def rows(connection: sqlite3.Connection, file: Path) -> object:
        yield from original(connection, file)
        with closing(sqlite3.connect(path)) as other:
            _insert(other, range(50, 90))

    monkeypatch.setattr(openclaw_database, "_rows", rows)
    with pytest.raises(CommandError, match="changed while it was read"):
        openclaw.read(path)


ODD = {  # column values -> why
    ("null", None): "null is not an object",
    ("broken", "{"): "no JSON",
    ("empty", ""): "no JSON",
    ("surrogate", r'{"a": "\ud83e"}'): "lone surrogate",
    ("array", "[]"): "not an object",
    ("twice", '{"a": 1, "a": 2}'): "stands twice",
    ("blob", b"\xff\xfe{"): "no JSON",
    ("number", 5): "5 is not an object",
    (b"\xff", "{}"): "no JSON",
    ("", "{}"): "may not be empty",
}


def test_odd_rows_are_named_skipped_and_kept(shell: Shell) -> None:
    path = _database(shell.directory)
    with closing(sqlite3.connect(path)) as database:
        database.executemany("INSERT INTO session_nodes(session_key, entry_json) VALUES(CAST(? AS TEXT), ?)", ODD)
        database.commit()
    refused = shell("import", "openclaw", path)
    assert refused.code == 1 and f"and {len(ODD) - 1} others cannot be stored" in refused.err
    assert not shell.store.exists()
    told = shell("import", "openclaw", path, "--skip-invalid", "--json").json
    assert (told["created"], len(told["skipped"])) == (20, len(ODD))
    reasons = {one["key"]: one["reason"] for one in told["skipped"]}
    for (key, _), why in ODD.items():
        assert why in reasons["\\xff" if key == b"\xff" else str(key)]
    lines = [json.loads(line) for line in Path(told["skipped_file"]).read_text(encoding="utf-8").splitlines()]
    assert {line["key"]: line.get("entry", line.get("text")) for line in lines}["broken"] == "{"
    assert shell("import", "openclaw", path, "--skip-invalid", "--replace-invalid", "--json").json["created"] == 1


def test_a_row_tells_the_time_where_its_entry_does_not(shell: Shell) -> None:
    path = _database(shell.directory, 0)
    with closing(sqlite3.connect(path)) as database:
        database.execute(
            "INSERT INTO session_nodes(session_key, entry_json, updated_at) VALUES('k', '{}', ?)", (MOMENT,)
        )
        database.commit()
    assert shell("import", "openclaw", path).code == 0
    with Store(shell.store) as store:
        assert store["k"].updated_at == datetime.fromtimestamp(MOMENT / 1000, UTC)


def test_a_smaller_table_is_enough(shell: Shell) -> None:
    path = shell.directory / "openclaw-agent.sqlite"
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE session_nodes(session_key TEXT PRIMARY KEY, entry_json TEXT NOT NULL)")
        database.execute("""INSERT INTO session_nodes VALUES('k', '{"a": 1}')""")
        database.commit()
    assert shell("import", "openclaw", path).code == 0
    assert shell("get", "k").json == {"a": 1}


@pytest.mark.parametrize("content", ["another table", "cut", "header", "directory"])
def test_what_is_no_database_of_openclaw_imports_nothing(shell: Shell, content: str) -> None:
    path = shell.directory / "openclaw-agent.sqlite"
    if content == "directory":
        path.mkdir()
    elif content == "header":
        path.write_bytes(b"SQLite format 3\0")
    else:
        with closing(sqlite3.connect(path)) as database:
            database.execute("CREATE TABLE other(a)" if content == "another table" else TABLE)
            database.commit()
        if content == "cut":
            path.write_bytes(path.read_bytes()[:-3000])
    done = shell("import", "openclaw", path)
    assert (done.code, done.out) == (1, "")
    assert str(path) in done.err and "Next: " in done.err
    assert not shell.store.exists()
