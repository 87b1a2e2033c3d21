"""compact, verify and doctor: plans before deeds, exit codes that scripts can trust."""

from __future__ import annotations

import os

import pytest

from shardstore import Store
from tests.cli.conftest import LONG
from tests.cli.shell import Shell


def test_a_dry_run_prints_the_plan_and_changes_nothing(busy: Shell) -> None:
    text = busy("prune", "--where", "status in done,failed", "--keep", "agent:ops:*", "--dry-run")
    assert text.code == 0
    lines = text.out.splitlines()
    assert lines[0].startswith("1 session would be archived (3.3 KB); would free 0 B")
    assert text.err == "3.3 KB would move to archive/; `shardstore archive purge` frees it (or use --purge)\n"
    assert lines[2].split() == ["ACTION", "COUNT", "SIZE", "FREES", "WHY"]
    assert ["ACTION", "KEY", "AGE", "SIZE", "WHY"] in [line.split() for line in lines]
    assert LONG in text.out
    assert "agent:ops:hook" not in text.out
    told = busy("prune", "--max-entries", "1", "--dry-run", "--json").json
    assert (told["schema_version"], told["dry_run"], told["ok"]) == (1, True, True)
    removed = {action["key"] for action in told["actions"] if action["action"] == "archive"}
    assert removed == {LONG, "agent:ops:hook"}
    with Store(busy.store) as store:
        assert len(store) == 3


def test_the_plan_is_readable_at_forty_columns(busy: Shell) -> None:
    told = busy("prune", "--max-bytes", "1", "--dry-run", COLUMNS="40").out
    assert LONG in told
    assert "age" in told


def test_a_long_plan_begins_with_its_sums_and_is_cut(shell: Shell) -> None:
    with Store(shell.store, durability="relaxed") as store:
        for n in range(60):
            store.create(f"agent:main:{n}", {"status": "done"})
    for width in ({}, {"COLUMNS": "80"}, {"COLUMNS": "40"}):
        told = shell("prune", "--where", "status=done", "--dry-run", **width).out
        assert told.startswith("60 sessions would be archived (")
        assert told.splitlines()[-1] == "... and 20 more (--all prints them, --json too)"
        assert told.count("agent:main:") == 40
    whole = shell("prune", "--where", "status=done", "--dry-run", "--all").out
    assert whole.count("agent:main:") == 60
    assert "more (" not in whole
    assert len(shell("prune", "--where", "status=done", "--dry-run", "--json").json["actions"]) == 60


def test_housekeeping_and_removal_are_two_commands(busy: Shell) -> None:
    """prune removes what the rules name and tidies nothing; compact tidies the whole store and removes nothing."""
    with Store(busy.store, durability="relaxed") as store:
        for n in range(200):
            store.patch("agent:main:main", {"text": f"{n}" * 100})
    done = busy("prune", "--where", "status exists", "--prefix", "agent:ops")
    assert done.code == 0
    assert done.out.startswith("1 session archived (4.1 KB); freed 0 B")
    assert done.err == "4.1 KB moved to archive/; `shardstore archive purge` frees it (or use --purge)\n"
    assert busy("prune").code == 2
    assert busy("compact").out.startswith("1 file trimmed, rewritten or swept; freed ")
    assert busy("compact").out.startswith("0 files trimmed, rewritten or swept; freed 0 B")


def test_compact_archives_or_purges(busy: Shell) -> None:
    done = busy("prune", "--where", "status=done", "--json")
    assert done.code == 0
    assert [(a["action"], a["key"]) for a in done.json["actions"] if a["key"]] == [("archive", LONG)]
    assert busy("restore", LONG).code == 0
    purged = busy("prune", "--where", "status=done", "--purge")
    assert purged.out.startswith("1 session purged (")
    assert "freed" in purged.out.splitlines()[0]
    assert "archive/" not in purged.err
    assert busy("restore", LONG).code == 3


@pytest.mark.parametrize(
    "arguments",
    [
        ("--older-than", "30"),
        ("--older-than", "-1d"),
        ("--older-than", "0d"),
        ("--max-entries", "0"),
        ("--max-entries", "many"),
        ("--max-bytes", "NaN"),
        ("--where", "status"),
        ("--keep", "", "--max-entries", "1"),
    ],
    ids=" ".join,
)
def test_a_malformed_limit_removes_nothing(busy: Shell, arguments: tuple[str, ...]) -> None:
    """A host that read `pruneAfter: "30"` as 30 milliseconds deleted everything."""
    done = busy("compact", *arguments)
    assert (done.code, done.out) == (2, "")
    with Store(busy.store) as store:
        assert len(store) == 3


@pytest.mark.damages("cuts a shard's first line")
def test_verify_finds_damage_and_repairs_it(busy: Shell) -> None:
    sound = busy("verify")
    assert (sound.code, sound.err) == (0, "")
    assert sound.out.startswith("3 sessions, 3 shards, 5 records read: no problem")
    (path,) = (busy.store / "shards").rglob("agent-main-main~*")
    raw = bytearray(path.read_bytes())
    raw[raw.index(b"\n") + 40] ^= 1  # the second of three records
    path.write_bytes(raw)
    found = busy("verify", "--json")
    assert found.code == 5
    assert found.json["ok"] is False
    assert [problem["key"] for problem in found.json["problems"]] == ["agent:main:main"]
    compacted = busy("compact")
    assert compacted.code == 1
    assert "verify" in compacted.err
    repaired = busy("verify", "--repair")
    assert repaired.code == 5
    assert "repaired" in repaired.err
    assert busy("verify").code == 0
    assert busy("get", "agent:main:main").code == 0
    assert any((busy.store / "quarantine").iterdir())


@pytest.mark.damages("flips a byte")
def test_what_verify_found_inspect_names(busy: Shell) -> None:
    """Bytes that went bad by themselves are noted by nobody: verify tells the index, also of a session in use."""
    assert busy("list").code == 0
    (path,) = (busy.store / "shards").rglob("agent-main-main~*")
    raw = bytearray(path.read_bytes())
    raw[40] ^= 1
    times = path.stat()
    with Store(busy.store) as store, store.edit("agent:main:main"):
        path.write_bytes(raw)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # a medium that forgets changes no time
        assert busy("inspect", "--json").json["damaged"] == []
        assert busy("verify").code == 5
    assert path.read_bytes() == raw
    name = str(path.relative_to(busy.store))
    assert busy("inspect", "--json").json["damaged"] == [name]
    assert name in busy("inspect").out


@pytest.mark.damages("flips a byte of the only record")
def test_a_lost_session_is_named(busy: Shell) -> None:
    (path,) = (busy.store / "shards").rglob("agent-ops-hook~*")
    raw = bytearray(path.read_bytes())
    raw[raw.index(b"failed")] ^= 1
    path.write_bytes(raw)
    lost = busy("verify", "--repair")
    assert lost.code == 5
    assert "1 session is LOST: agent:ops:hook; its bytes are kept in quarantine/" in lost.err
    assert "restore it from a backup, or `set` it again" in lost.err
    assert busy("verify").code == 0
    assert busy("get", "agent:ops:hook").code == 3


def test_doctor_proves_the_disk(busy: Shell) -> None:
    told = busy("doctor", "--json").json
    assert (told["schema_version"], told["ok"], told["directory"]) == (1, True, str(busy.store))
    assert told["file_system"]
    assert {check["status"] for check in told["checks"]} <= {"pass", "warn"}
    empty = busy.directory / "elsewhere"
    empty.mkdir()
    text = busy("doctor", empty, COLUMNS="80")
    assert text.code == 0
    assert "File system" in text.out
    assert list(empty.iterdir()) == []
