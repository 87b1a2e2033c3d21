"""archive list and archive purge: what was moved aside is seen, and goes only when a person says so."""

from __future__ import annotations

import pytest

from shardstore import InvalidQuery, Store
from tests.cli.conftest import LONG
from tests.cli.shell import Shell


@pytest.fixture
def archived(busy: Shell) -> Shell:
    assert busy("prune", "--where", "status in done,failed").code == 0
    return busy


def test_the_archive_is_listed(archived: Shell) -> None:
    told = archived("archive", "list", "--json").json
    assert (told["schema_version"], told["count"]) == (1, 2)
    assert {one["key"] for one in told["files"]} == {LONG, "agent:ops:hook"}
    assert {one["place"] for one in told["files"]} == {"archive"}
    assert told["bytes"] == sum((archived.store / one["path"]).stat().st_size for one in told["files"])
    for width in ({}, {"COLUMNS": "80"}, {"COLUMNS": "40"}):
        text = archived("archive", "list", **width).out
        assert LONG in text.replace("\n", "").replace(" ", "") or "COLUMNS" in width
        assert text.splitlines()[-1].startswith("2 files, ")
    assert archived("archive", "list", "--prefix", "agent:ops", "--json").json["count"] == 1


def test_an_empty_archive_is_told_as_one(busy: Shell) -> None:
    done = busy("archive", "list")
    assert (done.code, done.out, done.err) == (0, "", "nothing was moved aside\n")
    assert busy("archive", "purge", "--all").out == "removed 0 files, 0 B\n"


def test_a_purge_removes_only_what_it_was_told_to(archived: Shell) -> None:
    dry = archived("archive", "purge", "--all", "--dry-run", "--json").json
    assert (dry["dry_run"], dry["ok"], len(dry["removed"])) == (True, True, 2)
    assert "would remove 2 files" in archived("archive", "purge", "--all", "--dry-run").out
    young = archived("archive", "purge", "--older-than", "1h").out
    assert young == "removed 0 files, 0 B (nothing was moved there more than 1h ago)\n"
    assert archived("archive", "purge", "--all", "--prefix", "agent:ops").out.endswith("removed 1 file, 4.1 KB\n")
    assert archived("restore", "agent:ops:hook").code == 3
    assert archived("restore", LONG).code == 0


@pytest.mark.parametrize("words", [(), ("--older-than", "30"), ("--older-than", "0d"), ("--older-than", "1d", "--all")])
def test_a_malformed_purge_removes_nothing(archived: Shell, words: tuple[str, ...]) -> None:
    done = archived("archive", "purge", *words)
    assert (done.code, done.out) == (2, "")
    assert words or "give --older-than AGE, or --all" in " ".join(done.err.split())
    assert len(list((archived.store / "archive").iterdir())) == 2


def test_the_archive_commands_need_a_store(shell: Shell) -> None:
    assert shell("archive", "list").code == 10
    assert shell("archive", "purge", "--all").code == 10


@pytest.mark.damages("flips a byte")
def test_quarantine_is_listed_and_never_purged(busy: Shell) -> None:
    (path,) = (busy.store / "shards").rglob("agent-main-main~*")
    raw = bytearray(path.read_bytes())
    raw[raw.index(b"\n") + 40] ^= 1
    path.write_bytes(raw)
    assert busy("verify", "--repair").code == 5
    (one,) = busy("archive", "list", "--json").json["files"]
    assert one["place"] == "quarantine"
    assert busy("archive", "purge", "--all").code == 0
    assert (busy.store / one["path"]).exists()


def test_the_library_lists_and_purges(archived: Shell) -> None:
    with Store(archived.store) as store:
        assert [one.place for one in store.archive.list()] == ["archive", "archive"]
        for malformed in (None, -1, float("nan"), "30"):
            with pytest.raises(InvalidQuery):
                store.archive.purge(malformed)  # type: ignore[arg-type]
        assert store.archive.purge(3600).removed == ()
        assert len(store.archive.purge(0).removed) == 2
        assert store.archive.list() == []
