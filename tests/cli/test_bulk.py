"""delete --prefix and restore --prefix, --since: many at once, only what was meant, and said in numbers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shardstore import Store
from tests.cli.shell import Shell


@pytest.fixture
def many(shell: Shell) -> Shell:
    """Return a shell whose store holds twelve sessions of one agent and one of another."""
    with Store(shell.store, durability="relaxed") as store:
        store.create_many([(f"agent:{n:02d}", {"n": n}) for n in range(12)])
        store.create("other", {})
    return shell


def keys(shell: Shell) -> list[str]:
    with Store(shell.store) as store:
        return sorted(store)


def test_delete_by_prefix_wants_a_yes(many: Shell) -> None:
    refused = many("delete", "--prefix", "agent:")
    assert (refused.code, refused.out) == (1, "")
    assert "12 sessions" in refused.err
    assert "--yes" in refused.err
    assert len(keys(many)) == 13


def test_delete_by_prefix_counts(many: Shell) -> None:
    dry = many("delete", "--prefix", "agent:1", "--dry-run")
    assert (dry.code, dry.out.strip()) == (0, "would delete 2 sessions whose keys begin with agent:1 for good")
    assert len(keys(many)) == 13
    done = many("delete", "--prefix", "agent:1", "--yes")
    assert (done.code, done.out.strip()) == (0, "deleted 2 sessions for good")
    again = many("delete", "--prefix", "agent:1", "--yes", "--json")
    assert (again.code, again.json["found"], again.json["deleted"]) == (0, 0, 0)
    assert many("delete", "--prefix", "agent:", "-y", "--json").json["deleted"] == 10
    assert keys(many) == ["other"]


@pytest.mark.parametrize(
    "arguments", [(), ("--prefix", ""), ("agent:01", "--prefix", "agent:"), ("--prefix", "a", "--expect", "v")]
)
def test_delete_wants_either_keys_or_a_prefix(many: Shell, arguments: tuple[str, ...]) -> None:
    assert many("delete", *arguments).code == 2
    assert len(keys(many)) == 13


def test_restore_by_prefix_and_time(many: Shell) -> None:
    assert many("prune", "--where", "n>=0").code == 0
    assert keys(many) == ["other"]
    assert many("restore", "--since", "2999-01-01", "--json").json["restored"] == []
    with Store(many.store) as store:
        store.create("agent:11", {"new": 1})
    done = many("restore", "--prefix", "agent:1", "--since", "1h")
    assert (done.code, done.out.strip()) == (0, "restored 1 session")
    assert "agent:11" in done.err
    told = many("restore", "--prefix", "agent:", "--json").json
    assert (len(told["restored"]), [one["key"] for one in told["skipped"]], told["ok"]) == (10, ["agent:11"], True)
    assert len(keys(many)) == 13


@pytest.mark.parametrize("arguments", [(), ("k", "--prefix", "a"), ("k", "--since", "1h"), ("--since", "yesterday")])
def test_restore_wants_either_a_key_or_several(many: Shell, arguments: tuple[str, ...]) -> None:
    assert many("restore", *arguments).code == 2


def test_what_get_many_prints_create_many_takes(many: Shell, tmp_path: Path) -> None:
    """Keys in the given order, each once; a file or a pipe; again, and beside sessions that are there."""
    printed = many("get-many", "agent:03", "other", "agent:01", "other")
    assert printed.code == 0
    rows = [json.loads(line) for line in printed.out.splitlines()]
    assert [(row["key"], row["data"], row["rev"]) for row in rows] == [
        ("agent:03", {"n": 3}, 1), ("other", {}, 1), ("agent:01", {"n": 1}, 1),
    ]  # fmt: skip
    assert {"schema_version", "version", "updated_at", "actor", "log_length"} <= rows[0].keys()
    target = tmp_path / "target"
    made = many("create-many", "-", "--store", target, stdin=printed.out, named=False)
    assert (made.code, made.out, made.err.splitlines()[-1]) == (0, "", "3 sessions created")
    (tmp_path / "rows").write_text(printed.out + '\n{"key": "new\u2028", "data": {"text": "a\u2028b"}}\n')
    refused = many("create-many", tmp_path / "rows", "--store", target, named=False)
    assert refused.code == 4
    assert "--skip-existing" in refused.err
    again = many("create-many", tmp_path / "rows", "--skip-existing", "--store", target, named=False)
    assert (again.code, again.err.strip()) == (0, "1 session created; 3 sessions existed already")
    told = many("create-many", tmp_path / "rows", "--skip-existing", "--json", "--store", target, named=False)
    assert (told.json["created"], told.json["existing"]) == (0, 4)
    with Store(target) as store, Store(many.store) as source:
        assert store["new\u2028"].data == {"text": "a\u2028b"}
        assert store["agent:03"].data == source["agent:03"].data


def test_get_many_by_prefix_condition_and_stdin(many: Shell) -> None:
    chosen = many("get-many", "--prefix", "agent:", "--where", "n>=10")
    assert sorted(json.loads(line)["key"] for line in chosen.out.splitlines()) == ["agent:10", "agent:11"]
    assert many("get-many", "--prefix", "none").out == ""
    piped = many("get-many", "-", stdin="agent:02\r\n\nagent:99\nother\nagent:99\n")
    assert (piped.code, [json.loads(line)["key"] for line in piped.out.splitlines()]) == (3, ["agent:02", "other"])
    assert piped.err.count("agent:99") == 1


@pytest.mark.parametrize("arguments", [(), ("other", "--prefix", "a"), ("other", "--where", "n=1")])
def test_get_many_wants_either_keys_or_a_choice(many: Shell, arguments: tuple[str, ...]) -> None:
    assert many("get-many", *arguments).code == 2


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"key": "b"}', 'a line is {"key"'),
        ('{"key": 1, "data": {}}', 'a line is {"key"'),
        ('{"key": "b", "data": []}', 'a line is {"key"'),
        ('["b"]', 'a line is {"key"'),
        ('{"key": "b", "data": {"n": NaN}}', "NaN"),
        ('{"key": "b", "data": {"n": 1, "n": 2}}', "twice"),
        ('{"key": "", "data": {}}', "empty"),
        ('{"key": "b", "data": {"t": "\\ud800"}}', "surrogate"),
        ('{"key": "a", "data": {}}', "a second time"),
        ("{", "not JSON"),
        (b"\xff", "not JSON"),
    ],
)
def test_a_line_that_no_session_can_be_made_of_creates_nothing(many: Shell, line: str | bytes, reason: str) -> None:
    """It is named by its number, before the first session is created."""
    data = b'{"key": "a", "data": {}}\n\n' + (line.encode() if isinstance(line, str) else line)
    refused = many("create-many", stdin=data)
    assert refused.code == 1, refused
    assert "line 3: " in refused.err
    assert reason in refused.err
    assert "nothing was created" in refused.err
    assert len(keys(many)) == 13


def test_an_entry_that_is_too_large_creates_nothing(many: Shell) -> None:
    large = '{"key": "b", "data": {"t": "' + "x" * 67_200_000 + '"}}'
    refused = many("create-many", stdin='{"key": "a", "data": {}}\n' + large)
    assert refused.code == 1
    assert "line 2: 67,200," in refused.err
    assert len(keys(many)) == 13


def test_no_line_makes_no_store(shell: Shell) -> None:
    """The command in front of the pipe failed."""
    done = shell("create-many", stdin="\n")
    assert (done.code, done.err.strip()) == (0, "0 sessions created")
    assert not shell.store.exists()
    assert "create-many" in shell("get-many", "a").err, "it names the commands that make a store"
    assert shell("create-many", stdin=b'\xef\xbb\xbf{"key": "a", "data": {}}').code == 0, "as Windows writes it"


def test_keys_in_errors_are_escaped_once(many: Shell) -> None:
    for words in (("get-many", "a\x1bb"), ("delete", "a\x1bb"), ("get", "a\x1bb")):
        assert "'a\\x1bb'" in many(*words).err


@pytest.mark.damages("a session is damaged")
def test_get_many_may_leave_damaged_sessions_out(many: Shell) -> None:
    with Store(many.store) as store:
        path = Path(store.engine.place("agent:03") or "")
    path.write_bytes(b"{}\n" + path.read_bytes())
    assert many("get-many", "--prefix", "agent:").code == 5
    left = many("get-many", "--prefix", "agent:", "--skip-damaged", "--json")
    assert (left.code, len(left.out.splitlines())) == (0, 11)


def test_a_file_that_is_not_there_creates_nothing(shell: Shell, tmp_path: Path) -> None:
    refused = shell("create-many", tmp_path / "none")
    assert (refused.code, refused.out) == (1, "")
    assert "cannot be read: No such file" in refused.err
    assert not shell.store.exists()
