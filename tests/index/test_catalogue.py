"""The catalogue's connections: who publishes and who asks share them, and none answers from what it remembers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from shardstore._files.index import catalogue
from shardstore._files.index.catalogue import Catalogue, Connections
from shardstore._files.index.rows import Other, Row, digest_of
from shardstore._files.layout import shard_name
from tests.index.actors import Actor, truth

EPOCH = "0123456789abcdef"


def row(key: str, rev: int = 1) -> Row:
    """Make a row all of whose columns, key and digest aside, differ from revision to revision."""
    name = shard_name(key)
    return Row(digest_of(name), key, rev, f"i.{rev}", 10 + rev, 20 + rev, 30 + rev, 40 + rev, b'{"n":%d}' % rev, None)


def made(directory: Path, *rows: Row | Other) -> Catalogue:
    one = Catalogue(str(directory), EPOCH, mode="rwc")
    one.create([list(rows)], {})
    return one


def test_publishing_replaces_every_column(tmp_path: Path) -> None:
    """What a changed session's row says afterwards is the new row, whatever changed."""
    one = made(tmp_path, row("a"), row("b"))
    one.publish([row("a", 2)._replace(cut=b'["x"]'), row("c")], {})
    assert one.row(digest_of(shard_name("a"))) == row("a", 2)._replace(cut=b'["x"]')
    assert [key for _, key in one.keys(None, 9)] == ["a", "b", "c"]
    one.close()


def test_publishing_moves_between_sessions_and_others(tmp_path: Path) -> None:
    """A shard is a session, or none; its last state counts."""
    name = shard_name("a")
    one = made(tmp_path, row("a"))
    one.publish([Other(name, "damaged", "byte 0")], {})
    assert one.row(digest_of(name)) is None
    assert list(one.others("damaged")) == [digest_of(name)]
    one.publish([row("a", 3)], {})
    assert one.others("damaged") == {}
    assert one.row(digest_of(name)) == row("a", 3)
    one.close()


def test_who_asks_gets_what_was_published_through(tmp_path: Path) -> None:
    """The connection used last is given first; only one that can write is given to who publishes."""
    made(tmp_path, row("a")).close()
    pool = Connections(str(tmp_path))
    reading, writing = pool.take(EPOCH, 1), pool.take(EPOCH, 1, write=True)
    assert (reading.writable, writing.writable) == (False, True)
    pool.give_back(EPOCH, 1, writing)
    pool.give_back(EPOCH, 1, reading)
    assert pool.take(EPOCH, 1, write=True) is writing
    pool.give_back(EPOCH, 1, writing)
    assert pool.take(EPOCH, 1) is writing
    assert pool.take(EPOCH, 1) is reading
    for taken in (reading, writing):
        pool.give_back(EPOCH, 1, taken)
    pool.close()


def test_publishers_in_turn(actor: Callable[[], Actor], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of two processes publishes, and answers afterwards from pages that the other has changed meanwhile."""
    opened: list[str] = []
    real = catalogue._connect
    monkeypatch.setattr(catalogue, "_connect", lambda path, mode: opened.append(mode) or real(path, mode))  # type: ignore[func-returns-value]
    one, other = actor(), actor()
    for number in range(300):
        one.write(f"k{number:03}", n=0, pad="x" * 200)
    one.list()
    for turn in range(1, 13):
        writer, lister = (one, other) if turn % 2 else (other, one)
        for number in range(turn, 300, 29):
            writer.write(f"k{number:03}", n=turn, pad="y" * 200)
        assert lister.list() == truth(lister.root)
        assert writer.list(refresh=False) == truth(lister.root)
    assert len(opened) < 12, "connections are kept"
