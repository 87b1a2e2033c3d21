"""Incidents of two truths, and of lists that were slow or wrong (#4664, #64321, #76953, #112240, #32191, #11950)."""

from __future__ import annotations

import os
from pathlib import Path

from shardstore import Store
from tests.scenarios import populations
from tests.support import actions, disk
from tests.support.peer import one_peer


def test_4664_another_process_reads_a_change_right_after_it(root: Path) -> None:
    """There is nothing that is synced later: get elsewhere, and list elsewhere, show what was just written."""
    with Store(root) as store, one_peer() as other:
        for n in range(10):
            store.patch("k", {"n": n})
            assert other.run(actions.get_data, root, "k") == {"n": n}
            assert [info.fields["n"] for info in other.run(actions.call, root, "list")] == [n]


def test_4664_the_index_may_be_deleted_at_any_time(root: Path) -> None:
    """Deleted, truncated, halved, filled with noise: every answer is the same."""
    populations.the_index_is_disposable(root)


def test_4664_the_index_may_be_deleted_under_load(root: Path) -> None:
    """rm -r index while two processes write and list: nothing fails and no list is wrong."""
    populations.deleting_the_index_under_load(root)


def test_4664_a_death_between_shard_and_index_leaves_the_list_complete(root: Path) -> None:
    """A writer killed right after its commit: the list shows the commit, warm or fresh."""
    populations.list_knows_a_commit_whose_writer_died(root)


def test_64321_list_opens_only_what_changed(root: Path) -> None:
    """The newest 100 of 1,500 sessions: no shard is opened when nothing changed, 7 when 7 changed."""
    populations.list_opens_only_what_changed(root)


def test_32191_freshness_is_not_a_matter_of_mtimes(root: Path) -> None:
    """Changes and creations whose file and directory times were put back are read and listed all the same."""
    with Store(root) as store, one_peer() as other:
        for n in range(30):
            store.create(f"k{n}", {"n": 0})
        store.list()
        times = {path: path.stat() for path in [*(root / "shards").rglob("*"), root / "shards"]}
        for n in range(30):
            other.run(actions.call, root, "patch", f"k{n}", {"n": n})
            other.run(actions.call, root, "create", f"new{n}", {"n": n})
        for path, status in times.items():
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        expected = {f"k{n}": n for n in range(30)} | {f"new{n}": n for n in range(30)}
        assert {info.key: info.fields["n"] for info in store.list()} == expected
        assert {key: store[key]["n"] for key in expected} == expected


def test_the_files_are_plain_text(root: Path) -> None:
    """What SQLite took away (#136338, five tools broke): every shard is JSON lines that any tool reads."""
    import json

    with Store(root, actor="agent:main") as store:
        store.create("agent:main:main", {"a": "é\n", "b": [1]})
        store.patch("agent:main:main", {"a": None}, unset=["b"])
        store.delete("agent:main:main")
    text = disk.shard(root, "agent:main:main").read_text(encoding="utf-8")
    lines = [json.loads(line) for line in text.splitlines() if line]
    assert [line["rev"] for line in lines] == [1, 2, 3]
    assert lines[0]["key"] == "agent:main:main"
    assert lines[0]["put"] == {"a": "é\n", "b": [1]}
    assert lines[1]["set"] == {"a": None}
    assert lines[1]["unset"] == ["b"]
    assert lines[2]["delete"] is True
    assert {line["by"] for line in lines} == {"agent:main"}
    assert "agent-main-main~" in disk.shard(root, "agent:main:main").name
