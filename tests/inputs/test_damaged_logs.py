"""Damage in either file of a session with a log: typed errors where a read crosses it, and nothing else stops."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shardstore import CorruptShard, LogReplaced, SessionNotFound, Store
from tests.scenarios import logs
from tests.support import actions, disk
from tests.support.peer import one_peer

KEY = "agent:chat"
COUNT = 300  # items; those of one settle and some behind it
pytestmark = pytest.mark.damages("a log's file")


def message(number: int, size: int = 1_000) -> dict[str, Any]:
    return {"n": number, "content": "x" * size}


def fill(store: Store, key: str, count: int, first: int = 0) -> None:
    quick = store.using(durability="relaxed")
    for number in range(first, first + count):
        quick.append(key, [message(number)], {"n": number}, ids=[f"id{number}"])


def log_of(root: Path, key: str) -> Path:
    """Find the one log file of a session, by the hash of its key."""
    stem = disk.shard(root, key).name.removesuffix(".jsonl")
    [found] = disk.shard(root, key).parent.glob(f"{stem}.*.log.jsonl")
    return found


@pytest.fixture
def chat(store: Store, root: Path) -> Path:
    """Create a session whose log has a file; return the file."""
    fill(store, KEY, COUNT)
    return log_of(root, KEY)


def settled(store: Store) -> int:
    return store.engine.read(KEY).log.kept


def goes_on(store: Store) -> None:
    """Fields, pending items and appends work although the settled part does not."""
    length, newest = len(store[KEY].log), store.log(KEY, -1)
    assert store[KEY]["n"] >= 0
    assert newest
    assert store.patch(KEY, {"still": True})["still"]
    assert store.append(KEY, ["more"]).log[-1] == "more"
    assert len(store[KEY].log) == length + 1
    assert [info.key for info in store.list()] == [KEY]


def missing(chat: Path) -> None:
    chat.unlink()


def shorter(chat: Path) -> None:
    os.truncate(chat, chat.stat().st_size - 5_000)


def empty(chat: Path) -> None:
    os.truncate(chat, 0)


def one_byte(chat: Path) -> None:
    data = bytearray(chat.read_bytes())
    data[len(data) // 2] ^= 1
    chat.write_bytes(data)


def zeros(chat: Path) -> None:
    data = bytearray(chat.read_bytes())
    data[5_000:9_000] = bytes(4_000)
    chat.write_bytes(data)


def anothers(chat: Path) -> None:
    """Put the file of another session, of the same shape, in its place."""
    with Store(chat.parents[2]) as store:
        fill(store, "other", COUNT)
        shutil.copyfile(log_of(chat.parents[2], "other"), chat)
        store.delete("other")


DAMAGES = [missing, shorter, empty, one_byte, zeros, anothers]


@pytest.mark.parametrize("damage", DAMAGES)
def test_reads_that_cross_the_damage_are_typed_errors_and_nothing_else_stops(
    store: Store, chat: Path, damage: Callable[[Path], None]
) -> None:
    """CorruptShard names the log's file; fields and appends go on; verify and its repair bring back what is whole."""
    damage(chat)
    count = settled(store)
    with pytest.raises(CorruptShard) as caught:
        store.log(KEY)
    assert caught.value.path == str(chat)
    assert caught.value.key == KEY
    with pytest.raises(CorruptShard):
        store[KEY].log[:count]
    goes_on(store)
    [problem] = store.verify().problems
    assert (problem.kind, problem.key, problem.path) == ("log", KEY, f"shards/{chat.parent.name}/{chat.name}")
    assert "cannot be read" in problem.detail
    report = store.verify(repair=True)
    assert report.ok, report.problems
    assert store.verify().problems == ()
    left = store[KEY].log[:]
    numbers = [item["n"] for item in left if item != "more"]
    assert numbers == sorted(set(numbers))
    assert left == [*(message(n) for n in numbers), "more"]
    assert set(range(count, COUNT)) <= set(numbers), "what stood in the journal"
    if damage is one_byte:
        assert len(numbers) == COUNT - 1
    assert damage is missing or any(path.name == chat.name for path in (chat.parents[2] / "quarantine").iterdir())
    fill(store, KEY, COUNT, first=1_000)
    assert len(store[KEY].log) == len(left) + COUNT


@pytest.mark.parametrize("damage", DAMAGES)
def test_many_appends_go_on_beside_the_damage(store: Store, chat: Path, damage: Callable[[Path], None]) -> None:
    """Also past the settle limit: where the file cannot be gone on with, items stay in the journal."""
    damage(chat)
    count = settled(store)
    fill(store, KEY, COUNT, first=COUNT)
    assert [item["n"] for item in store.log(KEY, count)] == list(range(count, 2 * COUNT))
    assert store.verify(repair=True).ok
    assert [item["n"] for item in store.log(KEY, -COUNT)] == list(range(COUNT, 2 * COUNT))
    fill(store, KEY, COUNT, first=2 * COUNT)
    assert [item["n"] for item in store.log(KEY, -2 * COUNT)] == list(range(COUNT, 3 * COUNT))


def test_what_lies_behind_the_end_never_happened(store: Store, chat: Path) -> None:
    """A longer file, as a settle that died leaves it, is read up to its end, and written over."""
    with chat.open("ab") as file:
        file.write(b'{"crc":"00000000","n":9999,"at":1,"by":"x","item":"ghost"}\nhalf a li')
    assert [item["n"] for item in store.log(KEY)] == list(range(COUNT))
    assert store.verify().problems == ()
    fill(store, KEY, COUNT, first=COUNT)
    assert [item["n"] for item in store.log(KEY)] == list(range(2 * COUNT))


def test_an_older_file_restored_alone(store: Store, chat: Path) -> None:
    """It is shorter than the journal says: what it has is read, what it lacks is an error."""
    old = chat.read_bytes()
    count = settled(store)
    fill(store, KEY, COUNT, first=COUNT)
    assert settled(store) > count
    chat.write_bytes(old)
    assert [item["n"] for item in store.log(KEY, 0, count)] == list(range(count))
    with pytest.raises(CorruptShard, match="shorter"):
        store.log(KEY, 0, count + 1)
    goes_on(store)
    assert store.verify(repair=True).ok
    assert [item["n"] for item in store.log(KEY, 0, count)] == list(range(count))


def test_damage_is_an_error_only_for_reads_that_cross_it(store: Store, chat: Path) -> None:
    """One item is damaged: every other one is read, alone and in ranges beside it."""
    count, data = settled(store), chat.read_bytes()
    for lost in (0, 1, count // 2, count - 1):
        lines = data.split(b"\n")
        lines[lost] = lines[lost].replace(b"xxx", b"xyx", 1)
        chat.write_bytes(b"\n".join(lines))
        with pytest.raises(CorruptShard, match=f"item {lost} is not whole"):
            store.log(KEY, lost, lost + 1)
        for start, stop in ((0, lost), (lost + 1, COUNT), (lost + 1, lost + 2), (count, None)):
            expected = [message(n) for n in range(COUNT)][start:stop]
            assert store.log(KEY, start, stop) == expected
    chat.write_bytes(data)


@pytest.mark.parametrize("position", range(0, 3_200, 97))
def test_any_changed_byte_of_the_log_is_found(store: Store, chat: Path, position: int) -> None:
    """No byte of a line can change without an error: the item is lost, never another one."""
    data = bytearray(chat.read_bytes())
    data[position] ^= 1 << position % 8
    chat.write_bytes(data)
    found = 0
    for number in range(5):
        try:
            assert store.log(KEY, number, number + 1) == [message(number)]
        except CorruptShard:
            found += 1
    assert found in (1, 2), "a changed newline takes both of its lines"
    assert len(store.verify().problems) == 1


@pytest.mark.parametrize("share", range(0, 100, 9))
def test_any_truncation_of_the_log_is_found(store: Store, chat: Path, share: int) -> None:
    """What is left is read; what is not there is an error, never an empty answer."""
    size = chat.stat().st_size * share // 100
    os.truncate(chat, size)
    whole = chat.read_bytes().count(b"\n")
    assert store.log(KEY, 0, whole) == [message(n) for n in range(whole)]
    with pytest.raises(CorruptShard):
        store.log(KEY, 0, whole + 1)
    assert len(store.verify().problems) == 1


def test_any_changed_byte_of_the_journal_is_found(store: Store, root: Path, chat: Path) -> None:
    """The journal that names the log: damage, or a revision less; never another log."""
    path = disk.shard(root, KEY)
    data = path.read_bytes()
    length = disk.end(data)
    states = {len(session.log) for session in store.history(KEY)}
    for position in range(0, length, 1_637):
        changed = bytearray(data)
        changed[position] ^= 1 << position % 8
        disk.edit(path, bytes(changed))
        with Store(root, read_only=True) as other:
            try:
                session = other[KEY]
                items = session.log[:]
            except CorruptShard:
                continue
        assert len(items) in states
        assert items == [message(n) for n in range(len(items))]
    disk.edit(path, data)


def test_a_damaged_journal_takes_no_log_along(store: Store, root: Path, chat: Path) -> None:
    """Repaired without the record that names the log's file: its items come back all the same."""
    path = disk.shard(root, KEY)
    store.patch(KEY, {"last": True})
    data = bytearray(path.read_bytes())
    data[60] ^= 4
    disk.edit(path, bytes(data))
    with pytest.raises(CorruptShard):
        store.get(KEY)
    store.compact()
    assert chat.exists(), "a file whose journal cannot be read is nobody's to remove"
    assert store.verify(repair=True).ok
    assert [item["n"] for item in store.log(KEY)] == list(range(COUNT))


def test_a_lost_journal_keeps_its_log_in_quarantine(store: Store, root: Path, chat: Path) -> None:
    """No record is whole: both files are set aside, and nobody sweeps them."""
    path = disk.shard(root, KEY)
    disk.edit(path, path.read_bytes().replace(b'"crc":"', b'"crc":"z'))
    items = chat.read_bytes()
    store.verify(repair=True)
    store.compact()
    assert (root / "quarantine" / chat.name).read_bytes() == items
    assert not store.exists(KEY)


def test_unused_files_are_notes_and_compact_sweeps_them(store: Store, root: Path, chat: Path) -> None:
    """A settle that died before its rewrite leaves a file that no journal names; the present one is never touched."""
    ghost = chat.with_name(chat.name.replace(chat.name.split(".")[1], "0123456789abcdef"))
    shutil.copyfile(chat, ghost)
    report = store.verify()
    assert report.ok
    assert [note.kind for note in report.notes if ghost.name in note.path] == ["unused-log"]
    assert [action.action for action in store.compact(dry_run=True).actions] == ["sweep-log"]
    assert ghost.exists()
    assert [action.action for action in store.compact().actions if action.action == "sweep-log"] == ["sweep-log"]
    assert not ghost.exists()
    assert store.log(KEY, 0, 1) == [message(0)]
    store.delete(KEY)
    assert not chat.exists()


def emptied(path: Path) -> None:
    os.truncate(path, 0)


@pytest.mark.parametrize("lose", [Path.unlink, emptied])
def test_the_log_of_a_lost_journal_is_kept(store: Store, root: Path, chat: Path, lose: Callable[[Path], None]) -> None:
    """Its file may be all that is left of an acknowledged log: compact moves it to quarantine/."""
    items = chat.read_bytes()
    lose(disk.shard(root, KEY))
    notes = [note.detail for note in store.verify().notes if note.kind == "unused-log"]
    assert ["empty or gone" in note for note in notes] == [True]
    kept = [action for action in store.compact().actions if action.action == "sweep-log"]
    assert [(action.bytes_freed, f"quarantine/{chat.name}" in action.why) for action in kept] == [(0, True)]
    assert (root / "quarantine" / chat.name).read_bytes() == items
    assert not chat.exists()


def test_a_newer_log_is_kept_beside_an_older_journal(store: Store, root: Path, chat: Path) -> None:
    """Somebody put the journal alone back: it names a file that was replaced since."""
    older = disk.shard(root, KEY).read_bytes()
    with store.edit(KEY) as draft:
        draft.log[:] = [message(n, 2_000) for n in range(COUNT)]
    newer = log_of(root, KEY)
    items = newer.read_bytes()
    disk.edit(disk.shard(root, KEY), older)
    with pytest.raises(CorruptShard):
        store.log(KEY)
    store.compact()
    assert (root / "quarantine" / newer.name).read_bytes() == items


def test_the_log_of_a_deleted_session_is_not_kept(store: Store, root: Path, chat: Path) -> None:
    """A delete that died before it removed the log: what its user wanted gone goes, with the tombstone."""
    items = chat.read_bytes()
    store.delete(KEY)
    chat.write_bytes(items)
    store.compact()
    assert not chat.exists()
    assert not (root / "quarantine" / chat.name).exists()
    fill(store, KEY, COUNT)
    chat.write_bytes(items)
    store.compact()
    assert not (root / "quarantine" / chat.name).exists()
    assert len(store.log(KEY)) == COUNT


def test_compact_gives_back_the_space_of_dropped_items(store: Store, root: Path, chat: Path) -> None:
    """The file is written anew when most of it is dead; items, ids, positions and version stay."""
    with store.edit(KEY) as draft:
        del draft.log[: settled(store) - 20]
    before = store[KEY]
    assert [action.action for action in store.compact().actions] == ["rewrite-log"]
    assert not chat.exists()
    after = store[KEY]
    assert after.version == before.version
    assert after.log.dropped == before.log.dropped
    assert [item["n"] for item in after.log] == list(range(after.log.dropped, COUNT))
    assert after.log.find(f"id{COUNT - 1}") == len(after.log) - 1
    assert log_of(root, KEY).stat().st_size < 120_000
    assert store.compact().actions == ()
    with pytest.raises(LogReplaced):
        before.log[:1]
    with store.edit(KEY) as draft:
        draft.log.clear()
    store.compact()
    assert list(root.glob("shards/*/*.log.jsonl")) == []
    assert store.append(KEY, ["new"]).log == ["new"]
    assert store[KEY].log.dropped == COUNT


def test_the_archive_knows_the_pair(store: Store, root: Path, chat: Path) -> None:
    """Its size counts both files; a purge removes both; leftovers of a move that died are swept."""
    size = chat.stat().st_size
    store.prune(older_than=0)
    [one] = store.archive.list()
    assert one.size > size
    assert not chat.exists()
    assert store.stats().archived == 1
    assert store.archive.purge(0).bytes_freed > size
    assert list((root / "archive").iterdir()) == []
    fill(store, KEY, COUNT)
    shutil.copyfile(log_of(root, KEY), root / "archive" / chat.name)
    assert [action.action for action in store.compact().actions if "log" in action.action] == ["sweep-log"]
    assert list((root / "archive").iterdir()) == []
    with pytest.raises(SessionNotFound):
        store.archive.restore("absent")


def test_a_backup_of_hard_links_is_never_written_through(store: Store, root: Path, chat: Path) -> None:
    """As for a journal: the next settle goes to a new file."""
    backup = root.parent / "backup.jsonl"
    os.link(chat, backup)
    data = backup.read_bytes()
    fill(store, KEY, COUNT, first=COUNT)
    assert backup.read_bytes() == data
    assert log_of(root, KEY).name != chat.name
    assert [item["n"] for item in store.log(KEY)] == list(range(2 * COUNT))


def test_retention_counts_both_files(store: Store, chat: Path) -> None:
    """What a purge frees is the journal and the log."""
    size = chat.stat().st_size
    [action] = store.prune(older_than=0, purge=True, trust_clock=True).actions
    assert action.size > size
    assert action.bytes_freed > size
    assert not chat.exists()


@pytest.mark.parametrize("how", ["a file put in its place", "the file written over"])
def test_ids_that_went_with_a_backup_are_new_again(root: Path, tmp_path: Path, how: str) -> None:
    """A process knew ids that the log has no more, since somebody put an older journal and log file back."""
    backup = tmp_path / "backup"

    def items(first: int) -> list[dict[str, Any]]:
        return [{"n": number, "text": "x" * 1_000} for number in range(first, first + 400)]

    with Store(root) as store:
        store.append("k", items(0), ids=[f"i{n}" for n in range(400)])
    shutil.copytree(root / "shards", backup)
    with Store(root) as store, one_peer() as other:
        store.append("k", items(400), ids=[f"i{n}" for n in range(400, 800)])
        assert store["k"].log.find("i700") == 700
        for path in backup.rglob("*.jsonl"):
            target = root / "shards" / path.relative_to(backup)
            if how == "the file written over":
                target.write_bytes(path.read_bytes())
            else:
                shutil.copy2(path, target.with_suffix(".new"))
                target.with_suffix(".new").replace(target)
        time.sleep(2 * disk.CHECK_S)
        other.run(actions.call, root, "append", "k", items(400), ids=[f"o{n}" for n in range(400)])
        assert len(store["k"].log) == 800
        assert store["k"].log.find("i700") is None
        assert store["k"].log.find("o300") == 700
        assert len(store.append("k", [{"n": 700}], ids=["i700"]).log) == 801


def test_an_older_journal_put_back_alone(root: Path) -> None:
    logs.an_older_journal_put_back_alone(root)
