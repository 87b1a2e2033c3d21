"""import openclaw and export openclaw: all or nothing, twice is once, nothing lost on the way there and back."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from shardstore_cli import openclaw as sessions_json
from shardstore_cli.exits import CommandError

from bench import openclaw
from shardstore import Store
from tests.cli.shell import Shell

SMALL = {
    "agent:main:main": {"sessionId": "1", "updatedAt": 1771290458500, "cost": 1.0, "x": None, "origin": {"to": "ä🏡"}},
    "agent:main:signal:group:ygQcK9o75QuJ04+kAEkkBIuPOI1/b6Yrc=": {},
    "../../etc/passwd": {"list": [], "nested": {"empty": {}}, "big": 2**63},
}


def _source(shell: Shell, entries: object = SMALL) -> Path:
    path = shell.directory / "openclaw" / "sessions.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(entries, indent=2, ensure_ascii=False), encoding="utf-8")
    return path


def test_a_round_trip_loses_nothing(shell: Shell) -> None:
    entries = openclaw.population("personal", 3)
    source = openclaw.write(entries, shell.directory / "openclaw")
    before = source.read_bytes(), source.stat().st_mtime_ns
    done = shell("import", "openclaw", source)
    assert (done.code, done.out) == (0, "imported 72 sessions: 72 new\n")
    assert done.err == f"no transcripts were read from {source.parent}\n"
    exported = shell("export", "openclaw")
    assert exported.code == 0
    back = json.loads(exported.out)
    assert back == entries
    assert {key: list(entry) for key, entry in back.items()} == {key: list(entry) for key, entry in entries.items()}
    assert (source.read_bytes(), source.stat().st_mtime_ns) == before


def test_importing_twice_changes_nothing(shell: Shell) -> None:
    source = _source(shell)
    assert shell("import", "openclaw", source.parent).code == 0  # the directory does as well
    with Store(shell.store) as store:
        before = {key: store[key].version for key in store}
    done = shell("import", "openclaw", source, "--json")
    assert done.code == 0
    assert done.json == {
        "schema_version": 1,
        "source": str(source),
        "dry_run": False,
        "sessions": 3,
        "created": 0,
        "unchanged": 3,
        "overwritten": 0,
        "items": 0,
        "conflicts": [],
        "skipped": [],
        "skipped_file": None,
        "replaced": [],
        "transcripts": str(source.parent),
    }
    with Store(shell.store) as store:
        assert {key: store[key].version for key in store} == before


def test_a_session_that_differs_is_kept_and_reported(shell: Shell) -> None:
    """The store may be newer than the file: importing again must not undo what agents did since."""
    source = _source(shell)
    with Store(shell.store) as store:
        store.create("agent:main:main", {"sessionId": "newer"})
    dry = shell("import", "openclaw", source, "--dry-run", "--json")
    assert (dry.code, dry.json["created"], dry.json["conflicts"]) == (4, 2, ["agent:main:main"])
    with Store(shell.store) as store:
        assert list(store) == ["agent:main:main"]
    done = shell("import", "openclaw", source)
    assert done.code == 4
    assert "agent:main:main" in done.err
    assert "--overwrite" in done.err
    with Store(shell.store) as store:
        assert store["agent:main:main"].data == {"sessionId": "newer"}
        assert len(store) == 3
    assert shell("import", "openclaw", source, "--overwrite").out == "imported 3 sessions: 2 unchanged, 1 overwritten\n"
    with Store(shell.store) as store:
        assert store["agent:main:main"].data == SMALL["agent:main:main"]
        assert store["agent:main:main"].actor == "import:openclaw"


def test_a_dry_run_makes_no_store(shell: Shell) -> None:
    done = shell("import", "openclaw", _source(shell), "--dry-run")
    assert (done.code, done.out) == (0, "would import 3 sessions: 3 new\n")
    assert not shell.store.exists()


def test_a_damaged_source_imports_nothing(shell: Shell) -> None:
    source = _source(shell)
    source.write_bytes(source.read_bytes()[:-40])
    done = shell("import", "openclaw", source)
    assert (done.code, done.out) == (1, "")
    assert "damaged or half written" in done.err
    assert "line" in done.err
    assert not shell.store.exists()


DAMAGED = {
    "empty": b"",
    "blank": b" \n",
    "all zero": b"\0" * 100,
    "cut": b'{"a": {"b": 1}, "c',
    "two documents": b"{}{}",
    "an array": b"[]",
    "null": b"null",
    "an entry that is none": b'{"a": 5}',
    "duplicate key": b'{"a": {}, "a": {"b": 1}}',
    "duplicate field": b'{"a": {"x": {"b": 1, "b": 2}}}',
    "NaN": b'{"a": {"b": NaN}}',
    "infinite": b'{"a": {"b": 1e999}}',
    "integer beyond 64 bits": b'{"a": {"b": 18446744073709551616}}',
    "lone surrogate": b'{"a": {"b": "\\ud83d"}}',
    "not UTF-8": b'{"a": {"b": "\xff"}}',
    "empty key": b'{"": {}}',
    "key with NUL": b'{"a\\u0000b": {}}',
    "too deep": b'{"a": {"b": ' + b"[" * 5000 + b"]" * 5000 + b"}}",
    "a database": b"SQLite format 3\0 and so on",
}


@pytest.mark.parametrize("raw", DAMAGED.values(), ids=DAMAGED)
def test_every_damage_is_a_clear_error(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "sessions.json"
    path.write_bytes(raw)
    with pytest.raises(CommandError) as caught:
        sessions_json.read(path)
    assert str(path) in caught.value.message
    assert caught.value.hint
    assert caught.value.message.isprintable()


@pytest.mark.parametrize("cut", range(1, 60))
def test_no_half_of_a_source_is_taken_for_the_whole(tmp_path: Path, cut: int) -> None:
    whole = json.dumps({"agent:a": {"x": [1, {"y": "z"}], "n": 1}, "agent:b": {}}, indent=2).encode()
    path = tmp_path / "sessions.json"
    path.write_bytes(whole[:-cut])
    with pytest.raises(CommandError):
        sessions_json.read(path)


def test_a_source_that_is_not_there(shell: Shell) -> None:
    assert "no sessions.json in" in shell("import", "openclaw", shell.directory).err
    assert shell("import", "openclaw", shell.directory / "nothing.json").code == 1
    assert not shell.store.exists()


def test_export_writes_a_private_file_and_replaces_none(shell: Shell) -> None:
    shell("import", "openclaw", _source(shell))
    target = shell.directory / "out.json"
    done = shell("export", "openclaw", target)
    assert (done.code, done.out) == (0, "")
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    text = target.read_text()
    assert json.loads(text) == SMALL
    assert text == json.dumps(dict(sorted(SMALL.items())), indent=2, ensure_ascii=False) + "\n"
    target.write_text("mine")
    refused = shell("export", "openclaw", target)
    assert (refused.code, target.read_text()) == (1, "mine")
    assert "--force" in refused.err
    assert shell("export", "openclaw", target, "--force", "--prefix", "agent:").code == 0
    assert len(json.loads(target.read_text())) == 2
    assert sorted(path.name for path in shell.directory.iterdir()) == ["openclaw", "out.json", "store"]


def test_import_leaves_the_index_ready(shell: Shell, tmp_path: Path) -> None:
    """The first list after it reads no session again."""
    source = tmp_path / "sessions.json"
    source.write_text(json.dumps({f"agent:main:{n}": {"sessionId": str(n), "updatedAt": n} for n in range(100)}))
    assert shell("import", "openclaw", str(source)).code == 0
    assert shell("inspect", "--json").json["pending_changes"] == 0
    assert shell("inspect", "--json").json["index_unusable"] is None
