"""Whatever is done to the files of the index, at whatever moment, no answer changes and no caller sees an error."""

from __future__ import annotations

import itertools
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shardstore._files.index import boot, generation, look, noter, notes, rebuild
from shardstore.errors import StoreIOError
from tests.index.actors import Actor, index_files, is_current, name_of, place_of, truth

Make = Callable[..., Actor]
counter = itertools.count(1000)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notes, "_PATIENCE", (0.0, 0.0))


@pytest.fixture
def pair(actor: Make) -> tuple[Actor, Actor]:
    """Give a writer and a lister with some sessions and an index."""
    writer, lister = actor(), actor()
    for n in range(12):
        writer.write(f"k{n}", n=n)
    assert len(lister.list()) == 12
    return writer, lister


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


@pytest.mark.parametrize("kind", ["generation", "notes.a", "notes.b", "catalogue"])
def test_cut_off_anywhere(pair: tuple[Actor, Actor], kind: str) -> None:
    """Each file of the index, cut off at every byte: before, between and after changes."""
    writer, lister = pair
    writer.write("k1", n=next(counter))
    every = {"generation": 37, "catalogue": 1}.get(kind, 9)  # test_files.py has every byte of the notes
    for size in sizes(file_of(writer.root, kind))[::every]:
        suffer(writer, lister, lambda size=size: os.truncate(file_of(writer.root, kind), size), look_only=False)


def file_of(root: Path, kind: str) -> Path:
    """Find a file of the index; of the note files, those of the present generation."""
    start, _, end = kind.partition(".")
    found = [path for path in index_files(root) if path.name.startswith(start) and path.name.endswith(end)]
    assert found, kind
    return found[-1]


@pytest.mark.parametrize("kind", ["generation", "notes.a", "notes.b", "catalogue"])
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
            at = rng.randrange(min(len(data), generation.PAGE) if kind == "generation" else len(data))
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


@pytest.mark.parametrize(
    "kind", ["generation", "notes.a", "notes.b", "catalogue", "everything", "all but the generation"]
)
def test_deleted(pair: tuple[Actor, Actor], kind: str) -> None:
    """Each file, the whole content, and the directory."""
    writer, lister = pair

    def damage() -> None:
        if kind == "everything":
            shutil.rmtree(writer.root / "index")
        elif kind == "all but the generation":
            for path in index_files(writer.root):
                if path.name != "generation":
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


@pytest.mark.parametrize("kind", ["generation", "notes.a", "catalogue"])
@pytest.mark.parametrize("replace", [_directory_in_place_of, _link_in_place_of, _fifo_in_place_of])
def test_something_else_in_its_place(pair: tuple[Actor, Actor], kind: str, replace: Callable[[Path], None]) -> None:
    """A directory, a link, a FIFO under the name of a file of the index: nobody follows it, nobody hangs."""
    writer, lister = pair
    suffer(writer, lister, lambda: replace(file_of(writer.root, kind)))


@pytest.mark.damages
def test_a_file_or_a_link_in_place_of_the_directory(pair: tuple[Actor, Actor], tmp_path: Path) -> None:
    """The directory itself is made anew; a link to a directory serves as one."""
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
    import time

    time.sleep(2 * noter.LEASE_S)
    writer.write("k1", n=11)
    writer.write("k2", n=12)
    assert lister.list() == truth(root)
    writer.write("k1", n=13)
    assert lister.list(refresh=False) == truth(root)
    assert truth(moved)["k1"] == {"n": 10}


def test_every_byte_of_noise_right_after_publication(pair: tuple[Actor, Actor]) -> None:
    """Within the same tick of the file system's clock as the publication, and of the same length: still noticed."""
    writer, lister = pair
    path = next(path for path in index_files(writer.root) if path.name.startswith("catalogue"))
    for _ in range(15):
        writer.write("k1", n=next(counter))
        lister.list()
        path = file_of(writer.root, "catalogue")
        with path.open("r+b") as file:
            file.seek(path.stat().st_size // 2)
            file.write(b"noise")
        assert not usable(writer.root)
        assert lister.list() == truth(writer.root)


def usable(root: Path) -> bool:
    try:
        with look.Look.open(place_of(root)):
            return True
    except look.Unusable:
        return False


# Other reasons not to believe the catalogue


def test_the_machine_was_started_again(pair: tuple[Actor, Actor], actor: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was not synced may be gone: notes above all. Every shard is read, and the next list is quick again."""
    writer, lister = pair
    writer.write("k1", n=99)
    for path in index_files(writer.root):
        if path.name.startswith("notes"):
            data = path.read_bytes()
            path.write_bytes(data[: data.index(b"\n") + 1])  # as after a power cut
    monkeypatch.setattr(look, "boot_id", lambda: b"another boot....")
    monkeypatch.setattr(rebuild, "boot_id", lambda: b"another boot....")
    assert lister.list(refresh=False) == truth(writer.root)
    assert lister.list() == truth(writer.root)
    assert lister.index.status().rebuilt_because == "the machine was started again since"
    assert is_current(writer.root)


def test_the_boot_id_is_that_of_the_machine() -> None:
    """The same in every process, and random where the system does not tell."""
    command = "from shardstore._files.index.boot import boot_id; print(boot_id().hex())"
    other = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    assert bytes.fromhex(other.stdout.strip()) == boot.boot_id()
    if sys.platform == "linux":
        assert boot._from_proc()


def test_an_unknown_boot_id_is_never_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes that cannot tell do not believe each other."""
    monkeypatch.setattr(boot, "_from_proc", lambda: b"")
    monkeypatch.setattr(boot, "_from_sysctl", lambda: b"")
    assert boot.boot_id.__wrapped__() != boot.boot_id.__wrapped__()


def test_other_settings_make_it_anew(pair: tuple[Actor, Actor], actor: Make) -> None:
    """A catalogue of other projected fields is not this one's."""
    writer, lister = pair
    other = actor(("n",))
    assert other.list(refresh=False) == truth(writer.root)
    assert other.list() == truth(writer.root)
    assert other.index.status().rebuilt_because == "it was made for other index_fields"
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
        patch.setattr(notes.NoteWriter, "append", refuse)
        patch.setattr(noter.os, "unlink", refuse)
        with pytest.raises(StoreIOError) as caught:
            writer.write("k1", n=-1)
        assert caught.value.errno == 13
        assert str(writer.root) in caught.value.filename
    assert truth(writer.root) == before
    assert lister.list() == before
    writer.write("k1", n=-2)
    assert lister.list() == truth(writer.root)


@pytest.mark.parametrize("failing", ["open", "ftruncate", "utime", "pwrite", "link"])
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
        assert lister.index.count(refresh=False) == len(truth(writer.root))
        assert sorted(lister.index.keys(refresh=False)) == sorted(truth(writer.root))
        lister.index.totals(refresh=False)
        lister.index.status()
        lister.index.check()
        assert state() == before

    everything()
    writer.write("k1", n=next(counter))
    everything()
    for path in index_files(writer.root):
        path.unlink()
    everything()


# What lies about


def test_foreign_files_are_left_alone(pair: tuple[Actor, Actor]) -> None:
    """Only files with names of ours are ever deleted from index/."""
    writer, lister = pair
    mine = writer.root / "index" / "README.txt"
    mine.write_text("a note of a person")
    lister.index.rebuild()
    lister.index.vacuum()
    assert mine.read_text() == "a note of a person"


def test_vacuum_sweeps_what_the_dead_left(pair: tuple[Actor, Actor]) -> None:
    """Files of older epochs and generations, temps, unused pages; never what is in use."""
    writer, lister = pair
    index = writer.root / "index"
    epoch = file_of(writer.root, "notes").name.split(".")[1]
    (index / "catalogue.0123456789abcdef.sqlite").write_bytes(b"x" * 100_000)
    (index / "notes.0123456789abcdef.3.a").write_bytes(b"x")
    (index / ".tmp-0123456789abcdef").write_bytes(b"x")
    for n in range(200):
        writer.write(f"many{n}", n=n, pad="x" * 200)
    lister.list()
    for n in range(200):
        writer.delete(f"many{n}")
    lister.list()
    assert lister.index.vacuum() > 100_000
    assert {path.name.split(".")[1] for path in index_files(writer.root) if "." in path.name} == {epoch}
    assert lister.list(refresh=False) == truth(writer.root)
    writer.write("k1", n=next(counter))
    assert lister.list() == truth(writer.root)
    assert lister.index.vacuum() == 0


def test_generations_used_up(pair: tuple[Actor, Actor], monkeypatch: pytest.MonkeyPatch) -> None:
    """The generation file does not grow for ever: the index is made anew."""
    writer, lister = pair
    monkeypatch.setattr(generation, "NUMBER_MAX", 5)
    for _ in range(12):
        writer.write("k1", n=next(counter))
        assert lister.list() == truth(writer.root)
        assert lister.index.status().generation <= 6


def test_damaged_shards_are_left_out_and_named(pair: tuple[Actor, Actor]) -> None:
    """One damaged session hides none of the others, in no way of listing; it is back when it is whole again."""
    writer, lister = pair
    path = writer.root / "shards" / name_of("k5")
    whole = path.read_bytes()
    rest = {key: fields for key, fields in truth(writer.root).items() if key != "k5"}
    writer.index.note(name_of("k5"))
    path.write_bytes(b'{"crc":"00000000"}\n' + whole)
    damaged = (f"shards/{name_of('k5')}",)
    for _ in range(2):
        assert lister.list(refresh=False) == rest
        assert lister.index.status().damaged == damaged
        assert lister.list() == rest
    lister.index.rebuild()
    assert lister.list() == rest
    assert lister.index.status().damaged == damaged
    assert lister.index.count() == 11
    writer.index.note(name_of("k5"))
    path.write_bytes(whole)
    assert lister.list() == truth(writer.root)
    assert lister.index.status().damaged == ()


def test_an_index_that_was_finished_meanwhile_is_not_made_anew(root: Path) -> None:
    """Between seeing no seal and taking the lock the publisher may have sealed it; only a broken one is made anew."""
    one = Actor(root)
    one.write("s", n=0)
    assert one.list() == {"s": {"n": 0}}
    place = place_of(root)
    with look.Look.open(place) as seen:
        epoch = seen.epoch
    assert rebuild.rebuild(place, unfinished=True) is rebuild.Outcome.SOUND
    with look.Look.open(place) as seen:
        assert seen.epoch == epoch
    lock = look.IndexLock.take(place)
    assert lock is not None
    with lock:
        generation.break_seal(lock.fd)
    assert rebuild.rebuild(place, unfinished=True) is rebuild.Outcome.DONE
    with look.Look.open(place) as seen:
        assert seen.epoch != epoch
    assert one.list() == {"s": {"n": 0}}
    one.close()
