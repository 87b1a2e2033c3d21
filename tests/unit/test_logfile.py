"""Log files: appended to behind their end, replaced under a new name, and never written through a second name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from shardstore import CorruptShard, LogReplaced, Store, StoreFull, StoreIOError
from shardstore._files import disk, logfile
from shardstore._files.layout import Layout, shard_name
from shardstore._files.logfile import LogFiles, discard, give_name
from shardstore._log import Item, LogState, Settled

KEY = "k"
NAME = shard_name(KEY)


def items(start: int, stop: int) -> tuple[Item, ...]:
    return tuple(Item(b"%d" % n, f"id{n}" if n % 2 else None, 5 + n, "me") for n in range(start, stop))


@pytest.fixture
def files(root: Path) -> LogFiles:
    """Return the log files of a store whose session k has no log yet."""
    with Store(root) as store:
        store.create(KEY, {})
    return LogFiles(str(root))


def settled(files: LogFiles, log: LogState) -> LogState:
    """Settle a log as a commit does; return it with nothing pending."""
    done = files.settle(NAME, KEY, log)
    return LogState(log.dropped, done.first + done.lines, (), 0, done)


def path_of(files: LogFiles, log: LogState) -> Path:
    return Path(files.path(NAME, log.settled))


@pytest.fixture
def log(files: LogFiles) -> LogState:
    """Return a log of ten settled items."""
    return settled(files, LogState(pending=items(0, 10)))


def test_a_settle_appends_behind_the_end_and_moves_nothing(files: LogFiles, log: LogState) -> None:
    before = path_of(files, log).read_bytes()
    more = settled(files, log._replace(pending=items(10, 13)))
    assert path_of(files, more) == path_of(files, log)
    assert path_of(files, more).read_bytes().startswith(before)
    assert (more.settled.lines, more.settled.end) == (13, path_of(files, more).stat().st_size)
    assert files.read(KEY, more, 0, 13) == [*items(0, 13)]
    discard(str(path_of(files, log)))


def test_what_lies_behind_the_end_is_written_over(files: LogFiles, log: LogState) -> None:
    """A settle that died left it."""
    with path_of(files, log).open("ab") as file:
        file.write(b"half a line of somebody who died" * 10)
    more = settled(files, log._replace(pending=items(10, 12)))
    assert files.read(KEY, more, 0, 12) == [*items(0, 12)]


def test_replaced_and_dropped_items_go_to_a_new_file(files: LogFiles, log: LogState) -> None:
    """With the ids that they had; the old file stays as long as a journal names it."""
    new = Item(b'"new"', None, 99, "you")
    changed = log._replace(dropped=3, replaced={5: new}, pending=items(10, 11))
    assert not changed.appends_to_file
    more = settled(files, changed)
    assert path_of(files, more) != path_of(files, log)
    assert path_of(files, log).exists()
    assert more.settled.first == 3
    expected = [new._replace(id="id5") if n == 5 else items(n, n + 1)[0] for n in range(3, 11)]
    assert files.read(KEY, more, 3, 11) == expected


def test_a_file_with_a_second_name_is_copied(files: LogFiles, log: LogState) -> None:
    """It is somebody's backup: what it holds must not change."""
    backup = path_of(files, log).with_name("backup")
    os.link(path_of(files, log), backup)
    before = backup.read_bytes()
    more = settled(files, log._replace(pending=items(10, 12)))
    assert path_of(files, more) != path_of(files, log)
    assert backup.read_bytes() == before
    assert files.read(KEY, more, 0, 12) == [*items(0, 12)]


def test_a_shorter_file_is_not_gone_on_with(files: LogFiles, log: LogState) -> None:
    os.truncate(path_of(files, log), log.settled.end - 2)
    with pytest.raises(CorruptShard, match="shorter"):
        files.settle(NAME, KEY, log._replace(pending=items(10, 12)))
    assert path_of(files, log).stat().st_size == log.settled.end - 2


def test_a_last_newline_that_is_cut_off_is_written_again(files: LogFiles, log: LogState) -> None:
    """No item went with it, so no read and no verify would ever name it; the file is gone on with."""
    os.truncate(path_of(files, log), log.settled.end - 1)
    assert files.read(KEY, log, 0, 10) == [*items(0, 10)]
    assert [files.number_of(KEY, log, f"id{n}") for n in (1, 9, 11)] == [1, 9, None]
    more = settled(files, log._replace(pending=items(10, 12)))
    assert path_of(files, more) == path_of(files, log)
    assert files.read(KEY, more, 0, 12) == [*items(0, 12)]
    assert [files.number_of(KEY, more, f"id{n}") for n in (9, 11)] == [9, 11]
    assert path_of(files, more).stat().st_size == more.settled.end


def test_a_missing_file_is_replaced_or_damage(files: LogFiles, log: LogState, root: Path) -> None:
    """By what the journal says now: it names another file, or still this one."""
    path_of(files, log).unlink()
    with pytest.raises(LogReplaced):
        files.read(KEY, log, 0, 10)
    with Store(root, durability="relaxed") as store:
        for number in range(300):
            store.append(KEY, [{"n": number, "text": "x" * 1_000}])
        named = store.engine.read(KEY).log
        path_of(files, named).rename(root / "away")
        with pytest.raises(CorruptShard, match="missing"):
            files.read(KEY, named, 0, 1)
        (root / "away").rename(path_of(files, named))
        (root / "away").unlink(missing_ok=True)


@pytest.mark.parametrize("call", ["write_all", "sync"])
def test_an_append_that_fails_gives_its_bytes_back(
    files: LogFiles, log: LogState, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """Nothing has changed then, and the next one works."""
    real = getattr(disk, call)

    def fail(fd: int, *args: Any) -> None:
        real(fd, *args)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(disk, call, fail)
    with pytest.raises(StoreFull):
        files.settle(NAME, KEY, log._replace(pending=items(10, 12)))
    monkeypatch.undo()
    assert path_of(files, log).stat().st_size == log.settled.end
    assert files.read(KEY, settled(files, log._replace(pending=items(10, 12))), 0, 12) == [*items(0, 12)]


def test_a_new_file_that_fails_is_removed(files: LogFiles, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_fd: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(disk, "sync", fail)
    with pytest.raises(StoreIOError):
        files.settle(NAME, KEY, LogState(pending=items(0, 3)))
    assert list(root.glob("shards/*/*.log.jsonl")) == []


def test_ids_are_found_while_their_items_stand(files: LogFiles, log: LogState) -> None:
    assert [files.number_of(KEY, log, f"id{n}") for n in (1, 9, 2, 11)] == [1, 9, None, None]
    assert files.number_of(KEY, log._replace(dropped=2), "id1") is None
    assert files.number_of(KEY, log._replace(kept=9), "id9") is None
    more = settled(files, log._replace(pending=items(10, 12)))
    assert files.number_of(KEY, more, "id11") == 11, "what was appended since is read"


def test_whole_items_are_found_beside_damage(files: LogFiles, log: LogState) -> None:
    path = path_of(files, log)
    lines = path.read_bytes().splitlines(keepends=True)
    lines[4] = lines[4].replace(b'"item":4', b'"item":5')
    path.write_bytes(b"".join(lines) + b"noise")
    assert sorted(files.whole_items(NAME, log.settled)) == [0, 1, 2, 3, 5, 6, 7, 8, 9]
    assert files.whole_items(NAME, Settled("f" * 16)) == {}


def test_one_descriptor_is_freed_for_a_log(files: LogFiles, log: LogState, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where none is left, idle shards are closed, once."""
    real, freed = os.open, []
    files = LogFiles(str(files.layout.root))  # one that remembers no items

    def full(path: str, flags: int, *args: Any) -> int:
        if not freed and str(path).endswith(".log.jsonl"):
            raise OSError(24, "Too many open files")
        return real(path, flags, *args)

    monkeypatch.setattr(logfile.os, "open", full)
    with pytest.raises(StoreIOError):
        files.read(KEY, log, 0, 3)
    files.free_descriptors = lambda: freed.append(1) or 1  # type: ignore[func-returns-value]
    assert files.read(KEY, log, 0, 3) == [*items(0, 3)]
    assert freed == [1]


def test_a_name_is_given_by_a_link_or_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy that died half way is made anew; where the file is missing nothing happens."""
    source, target = tmp_path / "a", tmp_path / "b"
    give_name(str(source), str(target))
    assert not target.exists()
    source.write_bytes(b"items")
    give_name(str(source), str(target))
    give_name(str(source), str(target))
    assert source.samefile(target)
    target.unlink()
    monkeypatch.setattr(disk, "link", lambda _source, _target: False)
    give_name(str(source), str(target))
    assert (target.read_bytes(), source.samefile(target)) == (b"items", False)
    target.write_bytes(b"it")
    give_name(str(source), str(target))
    assert target.read_bytes() == b"items"


def test_the_layout_is_all_that_is_pickled(files: LogFiles, log: LogState) -> None:
    """A session that goes to another process reads its log there."""
    import pickle

    other = pickle.loads(pickle.dumps(files))
    assert isinstance(other.layout, Layout)
    assert other.read(KEY, log, 0, 10) == [*items(0, 10)]
