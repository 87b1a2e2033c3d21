"""Whatever is done to the files of the index, at whatever moment, no answer changes and no caller sees an error."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shardstore._files.change_file import file as changes
from shardstore._files.index.upkeep import audit
from shardstore.errors import StoreIOError
from tests.index.actors import Actor, change_file, index_files, is_current, name_of, nobody_waits_at, truth, usable

Make = Callable[..., Actor]
counter = itertools.count(1000)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "_UNFINISHED_S", (0.0, 0.0))


def suffer(writer: Actor, lister: Actor, damage: Callable[[], None], *, look_only: bool = True) -> None:
    """Change sessions, damage the index, change more, and list in every way there is."""
    root = writer.root
    writer.write("before", n=next(counter))
    writer.write("k1", n=next(counter))
    damage()
    if look_only:
        assert lister.list(refresh=False) == truth(root)
    writer.write("after", n=next(counter))
    writer.write("k1", n=next(counter))
    assert lister.list(refresh=False) == truth(root)
    assert lister.list() == truth(root)
    writer.write("k2", n=next(counter))
    assert lister.list() == truth(root)
    assert is_current(root), "the index was not made anew"


def sizes(path: Path) -> list[int]:
    """Every size to cut a file off at; of a large one, those around its pages and records."""
    size = path.stat().st_size
    if size < 4096:
        return list(range(size))
    return sorted({0, 1, 15, 16, 99, 100, 4095, 4096, 4097, size // 2, size - 4096, size - 1})


@pytest.mark.parametrize("kind", ["changes", "catalog"])
def test_cut_off_anywhere(pair: tuple[Actor, Actor], kind: str) -> None:
    """Each file of the index, cut off at every byte: before, between and after changes."""
    writer, lister = pair
    writer.write("k1", n=next(counter))
    for size in sizes(file_of(writer.root, kind))[:: 9 if kind == "changes" else 1]:
        if kind == "changes" and whole_lines(file_of(writer.root, kind), size):
            continue  # test_deviations.py: the next writer notices
        suffer(writer, lister, lambda size=size: os.truncate(file_of(writer.root, kind), size), look_only=False)


def whole_lines(path: Path, size: int) -> bool:
    """Return whether a file cut off there shows nothing: it ends with a line, behind its last seal."""
    data = path.read_bytes()[:size]
    return data.endswith(b"\n") and b" = " in data


def file_of(root: Path, kind: str) -> Path:
    """Find a file of the index."""
    return change_file(root) if kind == "changes" else root / "index" / "catalog"


@pytest.mark.parametrize("kind", ["changes", "catalog"])
@pytest.mark.parametrize("noise", ["random", "zeros", "flipped byte", "longer", "text"])
def test_filled_with_noise(pair: tuple[Actor, Actor], kind: str, noise: str) -> None:
    """Each file, overwritten with something else, of the same length or another."""
    writer, lister = pair
    rng = random.Random(f"{kind}{noise}")

    def damage() -> None:
        path = file_of(writer.root, kind)
        data = path.read_bytes()
        if noise == "random":
            data = rng.randbytes(len(data))
        elif noise == "zeros":
            data = bytes(len(data))
        elif noise == "flipped byte":
            at = rng.randrange(len(data))
            data = data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :]
        elif noise == "longer":
            data += rng.randbytes(100)
        else:
            data = b"this is not what it was\n" * 20
        with path.open("r+b") as file:
            file.write(data)
            file.truncate()

    for _ in range(3):
        suffer(writer, lister, damage)


@pytest.mark.parametrize("kind", ["changes", "catalog", "everything", "both"])
def test_deleted(pair: tuple[Actor, Actor], kind: str) -> None:
    """Each file, both, and the directory."""
    writer, lister = pair

    def damage() -> None:
        if kind == "everything":
            shutil.rmtree(writer.root / "index")
        elif kind == "both":
            for path in index_files(writer.root):
                path.unlink()
        else:
            file_of(writer.root, kind).unlink()

    for _ in range(2):
        suffer(writer, lister, damage)


def _directory_in_place_of(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "something").write_text("x")


def _link_in_place_of(path: Path) -> None:
    other = path.parent.parent / "elsewhere"
    path.rename(other)
    path.symlink_to(other)


def _fifo_in_place_of(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("kind", ["changes", "catalog"])
@pytest.mark.parametrize("replace", [_directory_in_place_of, _link_in_place_of, _fifo_in_place_of])
def test_something_else_in_its_place(pair: tuple[Actor, Actor], kind: str, replace: Callable[[Path], None]) -> None:
    """A directory, a link, a FIFO under the name of a file of the index: nobody follows it, nobody hangs."""
    writer, lister = pair
    path = file_of(writer.root, kind)
    with nobody_waits_at(path):
        suffer(writer, lister, lambda: replace(file_of(writer.root, kind)))


@pytest.mark.damages
def test_a_file_or_a_link_in_place_of_the_directory(pair: tuple[Actor, Actor], tmp_path: Path) -> None:
    """The directory itself is made anew, in place of the link as well."""
    writer, lister = pair
    index = writer.root / "index"

    def to_file() -> None:
        shutil.rmtree(index)
        index.write_text("not a directory")

    def to_link() -> None:
        shutil.rmtree(index)
        (tmp_path / "elsewhere").mkdir()
        index.symlink_to(tmp_path / "elsewhere")

    suffer(writer, lister, to_file)
    suffer(writer, lister, to_link)


def test_an_older_copy_put_back(pair: tuple[Actor, Actor], tmp_path: Path) -> None:
    """Copied away and copied back, times and all; moved away and moved back while a new one had been made."""
    writer, lister = pair
    index, aside = writer.root / "index", tmp_path / "aside"
    shutil.copytree(index, aside)

    def copy_back() -> None:
        shutil.rmtree(index)
        shutil.copytree(aside, index)

    suffer(writer, lister, copy_back)

    def copy_over() -> None:
        for path in index_files(writer.root):
            path.unlink()
        for path in aside.iterdir():
            shutil.copy2(path, index / path.name)

    suffer(writer, lister, copy_over)


def test_moved_away_under_open_descriptors(pair: tuple[Actor, Actor], tmp_path: Path) -> None:
    """Every process has the files open, which live on under another name: what is noted there is noted nowhere."""
    writer, lister = pair
    index = writer.root / "index"
    suffer(writer, lister, lambda: index.rename(writer.root / "index.old"))
    suffer(writer, lister, lambda: shutil.copytree(index, index.with_name("copy")) and None)
    assert (writer.root / "index.old").exists()


def test_the_whole_store_moved_and_a_copy_put_in_its_place(actor: Make, root: Path) -> None:
    """Open shards and the open index belong to the old one; list and update go on with the copy."""
    writer, lister = actor(), actor()
    for n in range(5):
        writer.write(f"k{n}", n=n)
    lister.list()
    writer.write("k1", n=10)
    moved = root.with_name("moved")
    root.rename(moved)
    shutil.copytree(moved, root)
    writer.write("k1", n=11)
    writer.write("k2", n=12)
    assert lister.list() == truth(root)
    writer.write("k1", n=13)
    assert lister.list(refresh=False) == truth(root)
    assert truth(moved)["k1"] == {"n": 10}


def test_every_byte_of_noise_right_after_publication(pair: tuple[Actor, Actor]) -> None:
    """Within the same tick of the file system's clock as the publication, and of the same length: still noticed."""
    writer, lister = pair
    for _ in range(15):
        writer.write("k1", n=next(counter))
        lister.list()
        path = file_of(writer.root, "catalog")
        with path.open("r+b") as file:
            file.seek(path.stat().st_size // 2)
            file.write(b"noise")
        assert not usable(writer.root)
        assert lister.list() == truth(writer.root)


@pytest.mark.parametrize("packed", [b"", b"noise", b"[]\n{}", b'[1,"v",1,1,1,1,null,null]\nnoise'])
def test_rows_that_are_none_are_not_read(pair: tuple[Actor, Actor], packed: bytes) -> None:
    """A program that can write SQLite changed them, and sealed nothing: no list decodes one, and none fails."""
    writer, lister = pair
    with contextlib.closing(sqlite3.connect(lister.place.catalog_path)) as db, db:
        db.execute("UPDATE session SET packed=?", (packed,))
    assert lister.list(where={"n": ("exists", True)}, order_by="n") == truth(writer.root)


def test_journals_of_sqlite_that_lie_about(pair: tuple[Actor, Actor]) -> None:
    """Files that SQLite would take for the catalog's: whatever it makes of them, the answer is right."""
    writer, lister = pair
    index = writer.root / "index"

    def plant() -> None:
        for name, content in (
            ("journal", b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7" + b"x" * 4096),
            ("wal", b"7\x7f\x06\x82x"),
            ("shm", b"x"),
        ):
            (index / f"catalog-{name}").write_bytes(content)

    for _ in range(2):
        suffer(writer, lister, plant)


# Other reasons not to believe the catalog


def test_the_machine_was_started_again(pair: tuple[Actor, Actor], monkeypatch: pytest.MonkeyPatch) -> None:
    """What was not synced may be gone: changes above all. Every shard is read, and the next list is quick again."""
    writer, lister = pair
    size = change_file(writer.root).stat().st_size
    writer.write("k1", n=99)
    os.truncate(change_file(writer.root), size)  # as after a power cut
    monkeypatch.setattr("shardstore._files.index.place.life_of", lambda _: "another life")
    assert lister.list(refresh=False) == truth(writer.root)
    assert lister.list() == truth(writer.root)
    assert lister.lister.problem == "it was made before the machine or the file system was restarted"
    assert is_current(writer.root)


def test_other_settings_make_it_anew(pair: tuple[Actor, Actor], monkeypatch: pytest.MonkeyPatch) -> None:
    """A catalog of another format is not this one's."""
    writer, lister = pair
    monkeypatch.setattr("shardstore._files.index.catalog.FORMAT", 9)
    assert lister.list(refresh=False) == truth(writer.root)
    assert lister.list() == truth(writer.root)
    assert lister.lister.problem == "the catalog is of another format"
    monkeypatch.undo()
    writer.write("k1", n=100)
    assert lister.list() == truth(writer.root)


# Where nothing can be written


def test_a_note_that_cannot_be_made_and_an_index_that_cannot_be_deleted(
    pair: tuple[Actor, Actor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then the change is refused before it is committed, with a typed error: it would be missing in lists."""
    writer, lister = pair
    before = truth(writer.root)

    def refuse(*_: Any, **__: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(changes.ChangeFile, "write", refuse)
        patch.setattr(changes.os, "unlink", refuse)
        with pytest.raises(StoreIOError) as caught:
            writer.write("k1", n=-1)
        assert caught.value.errno == 13
        assert str(writer.root) in caught.value.filename
    assert truth(writer.root) == before
    assert lister.list() == before
    writer.write("k1", n=-2)
    assert lister.list() == truth(writer.root)


@pytest.mark.parametrize("failing", ["open", "write", "utime", "rename"])
def test_a_list_that_cannot_write_its_index_lists(
    pair: tuple[Actor, Actor], monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    """No room, no right, no links: the answer is the same, with an index and without one."""
    writer, lister = pair
    real = getattr(os, failing)

    def refuse(first: Any, *args: Any, **kwargs: Any) -> Any:
        inside = isinstance(first, int) or "/index" in str(first)
        if inside and (failing != "open" or args[0] & (os.O_WRONLY | os.O_RDWR)):
            raise OSError(28, "No space left on device", str(first))
        return real(first, *args, **kwargs)

    for empty in (False, True):
        if empty:
            shutil.rmtree(writer.root / "index")
        writer.write("k3", n=next(counter))
        with monkeypatch.context() as patch:
            patch.setattr(os, failing, refuse)
            for _ in range(3):
                assert lister.list() == truth(writer.root)
                assert lister.list(refresh=False) == truth(writer.root)
        writer.write("k3", n=next(counter))
        assert lister.list() == truth(writer.root)


def test_nothing_is_written_with_refresh_false(pair: tuple[Actor, Actor]) -> None:
    """Not a byte, not a time, not a temporary file; with an index that is up to date, behind, and none."""
    writer, lister = pair

    def state() -> list[Any]:
        found = sorted((writer.root / "index").iterdir())
        return [(p.name, p.stat().st_ino, p.stat().st_mtime_ns, p.stat().st_ctime_ns, p.read_bytes()) for p in found]

    def everything() -> None:
        before = state()
        assert lister.list(refresh=False) == truth(writer.root)
        assert lister.count(refresh=False) == len(truth(writer.root))
        assert sorted(lister.lister.keys(refresh=False)) == sorted(truth(writer.root))
        lister.totals()
        audit(lister.lister)
        assert state() == before

    everything()
    writer.write("k1", n=next(counter))
    everything()
    for path in index_files(writer.root):
        path.unlink()
    everything()


def test_damaged_shards_are_left_out_and_named(pair: tuple[Actor, Actor]) -> None:
    """One damaged session hides none of the others, in no way of listing; it is back when it is whole again."""
    writer, lister = pair
    path = writer.root / "shards" / name_of("k5")
    whole = path.read_bytes()
    rest = {key: fields for key, fields in truth(writer.root).items() if key != "k5"}
    writer.index.mark_changed(name_of("k5"))
    path.write_bytes(b'{"crc":"00000000"}\n' + whole)
    damaged = (name_of("k5"),)
    for _ in range(2):
        assert lister.list(refresh=False) == rest
        assert lister.damaged() == list(damaged)
        assert lister.list() == rest
    lister.lister.rebuild()
    assert lister.list() == rest
    assert lister.damaged() == list(damaged)
    assert lister.count() == 11
    writer.index.mark_changed(name_of("k5"))
    path.write_bytes(whole)
    assert lister.list() == truth(writer.root)
    assert lister.damaged() == []
