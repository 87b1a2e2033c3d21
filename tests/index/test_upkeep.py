"""Maintenance of the index: how it is doing, and tidying it up."""

from __future__ import annotations

import itertools

from shardstore._files.change_file.file import ChangeFile
from shardstore._files.index.upkeep import vacuum
from tests.index.actors import Actor, change_file, index_files, is_current, truth

counter = itertools.count(1000)


def test_foreign_files_are_left_alone(pair: tuple[Actor, Actor]) -> None:
    """Only files with names of ours are ever deleted from index/."""
    writer, lister = pair
    mine = writer.root / "index" / "README.txt"
    mine.write_text("a note of a person")
    lister.lister.rebuild()
    vacuum(lister.lister)
    assert mine.read_text() == "a note of a person"


def test_vacuum_sweeps_what_the_dead_left(pair: tuple[Actor, Actor]) -> None:
    """Temps and unused pages; never what is in use."""
    writer, lister = pair
    index = writer.root / "index"
    before = {path.name for path in index_files(writer.root)}
    (index / ".tmp-changes.0123456789abcdef.catalog").write_bytes(b"x" * 100_000)
    (index / ".tmp-changes.0123456789abcdef").write_bytes(b"x")
    (index / "catalog-journal").write_bytes(b"x")
    for n in range(200):
        writer.write(f"many{n}", n=n, pad="x" * 200)
    lister.list()
    for n in range(200):
        writer.delete(f"many{n}")
    lister.list()
    assert vacuum(lister.lister) > 100_000
    assert is_current(writer.root), "it is sealed again"
    assert {path.name for path in index_files(writer.root)} == before
    assert lister.list(refresh=False) == truth(writer.root)
    writer.write("k1", n=next(counter))
    assert lister.list() == truth(writer.root)
    assert vacuum(lister.lister) == 0


def test_status_counts_what_the_next_list_reads(pair: tuple[Actor, Actor]) -> None:
    """Each changed shard once; None as the problem while the index answers."""
    writer, lister = pair
    assert lister.pending() == (0, None)
    for _ in range(3):
        writer.write("k1", n=next(counter))
        writer.write("k2", n=next(counter))
    assert lister.pending() == (2, None)
    assert lister.pending(refresh=True) == (0, None)


def test_status_names_what_is_wrong(pair: tuple[Actor, Actor]) -> None:
    """A missing index is no error, and the sums are right all the same."""
    writer, lister = pair
    before = lister.totals()
    for path in index_files(writer.root):
        path.unlink()
    assert lister.totals() == before
    assert lister.pending() == (0, "there is no index")


def test_vacuum_leaves_the_index_of_who_refreshes(pair: tuple[Actor, Actor]) -> None:
    """It takes the index lock, or does nothing."""
    writer, lister = pair
    temp = writer.root / "index" / ".tmp-changes.0123456789abcdef"
    temp.write_bytes(b"x")
    holder = ChangeFile.open(str(writer.root / "index"), change_file(writer.root).name, write=False)
    assert holder.lock()
    assert vacuum(lister.lister) == 0
    assert temp.exists()
    holder.unlock()
    assert vacuum(lister.lister) == 1
    assert lister.list(refresh=False) == truth(writer.root)
