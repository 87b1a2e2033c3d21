"""Several processes' worth of a store inside one process, so that a test decides who does what between which two steps.

An `Actor` has what a process has of a store: its own shards, its own descriptors, its own index. Two of them meet only
on the disk, as two processes do: flock excludes them, and what one has in memory the other does not see.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from shardstore import _codec as codec
from shardstore._files.index import Index
from shardstore._files.index.look import Look, Place
from shardstore._files.index.rows import Projection
from shardstore._files.layout import Layout, shard_name
from shardstore._files.marker import Settings, make_store
from shardstore._files.pool import Pool
from shardstore.draft import DELETE, Draft
from shardstore.query import Bounds, Query, parse
from tests.support import disk

_MADE: list[Actor | Place] = []


def close_all() -> None:
    """Close every actor and place that this test made, and with them their connections to a catalogue."""
    while _MADE:
        made = _MADE.pop()
        made.close()


class Lists(Index):
    """The index, asked with the arguments of a list instead of a query."""

    def rows(self, *, refresh: bool = True, progress: Any = None, **query: Any) -> list[Any]:
        """List."""
        return self.select(_query(query), refresh=refresh, progress=progress)

    def count(self, query: Any = None, *, refresh: bool = True, progress: Any = None, **more: Any) -> int:
        """Count."""
        found = _query(more) if query is None else query
        return super().count(found, refresh=refresh, progress=progress)

    def keys(self, *, refresh: bool = True, progress: Any = None) -> Iterator[str]:
        """Yield the keys."""
        return super().keys(refresh=refresh, progress=progress)


def _query(given: dict[str, Any]) -> Query:
    bounds = Bounds(
        given.pop("updated_since_us", None), given.pop("updated_before_us", None), given.pop("larger_than", None)
    )
    return parse(
        given.pop("prefix", None),
        given.pop("where", None),
        given.pop("order_by", "-updated_at"),
        given.pop("limit", None),
        given.pop("offset", 0),
        bounds,
    )


class Actor:
    """One process."""

    def __init__(self, root: Path, index_fields: tuple[str, ...] | None = None) -> None:
        self.root = root
        self.layout = Layout(root)
        make_store(self.layout, Settings(index_fields=index_fields))
        self.pool = Pool(self.layout)
        self.index = Lists(self.layout, index_fields, self.pool)
        self.pool.mark_changed = self.index.note
        _MADE.append(self)

    def write(self, key: str, **fields: Any) -> None:
        """Patch some fields, as Store.update does: lock, refresh, note, commit, unlock."""
        with self.writing(key, **fields):
            pass

    @contextlib.contextmanager
    def writing(self, key: str, **fields: Any) -> Iterator[None]:
        """The same with a pause between note and commit; the commit is made at the end."""
        with self.pool.transaction(key, 5.0) as txn:
            draft = Draft(key, txn.state)
            draft.update(fields)
            self.index.note(self.pool.shard(key).name)
            yield
            change = draft.change()
            assert change is not None, "the test changes nothing"
            txn.commit(change, "actor", durable=False)

    def delete(self, key: str) -> None:
        """Delete a session."""
        with self.pool.transaction(key, 5.0, create=False) as txn:
            draft = Draft(key, txn.state)
            draft.accept(DELETE)
            change = draft.change()
            assert change is not None
            txn.commit(change, "actor", durable=False)

    def replace(self, key: str, entry: dict[str, Any]) -> None:
        """Put a whole entry in place."""
        with self.pool.transaction(key, 5.0) as txn:
            draft = Draft(key, txn.state)
            draft.accept(entry)
            change = draft.change()
            if change is not None:
                txn.commit(change, "actor", durable=False)

    def entry(self, key: str) -> dict[str, Any]:
        """Read the whole entry."""
        fields = self.pool.shard(key).read().state.fields
        assert fields is not None
        return {name: codec.loads(raw) for name, raw in fields.items()}

    def list(self, **query: Any) -> dict[str, Any]:
        """List: the fields by key."""
        return {info.key: info.fields for info in self.index.rows(**query)}

    def close(self) -> None:
        self.index.close()
        self.pool.close()


def place_of(root: Path, index_fields: tuple[str, ...] | None = None) -> Place:
    """Make what the parts of the index work on."""
    place = Place(Layout(root), Projection(index_fields))
    _MADE.append(place)
    return place


def index_files(root: Path) -> list[Path]:
    """List the files of the index, in the order of their names."""
    return sorted(path for path in (root / "index").iterdir() if path.is_file())


def truth(root: Path) -> dict[str, Any]:
    """Read every shard with the tests' own eyes: the small fields by key."""
    found = {}
    for path in disk.shards(root):
        data = path.read_bytes()
        entry = disk.state(data)
        if entry is not None:
            found[key_of(data)] = {name: value for name, value in entry.items() if len(codec.dumps(value)) <= 256}
    return found


def key_of(data: bytes) -> str:
    return str(next(record["key"] for record in disk.records(data) if "key" in record))


def is_current(root: Path) -> bool:
    """Tell whether a list would take its answer from the catalogue alone."""
    with Look.open(place_of(root)) as look:
        return look.names() == set()


def mutate(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, *changes: tuple[str, str]) -> None:
    """Replace pieces of a function's source, each of which must be there once, and put the result in its place."""
    original = inspect.getattr_static(owner, name)
    source = textwrap.dedent(inspect.getsource(original))
    for old, new in changes:
        assert source.count(old) == 1, f"{old!r} is {source.count(old)} times in {name}:\n{source}"
        source = source.replace(old, new)
    namespace: dict[str, Any] = {}
    exec("from __future__ import annotations\n" + source, original.__globals__, namespace)
    monkeypatch.setattr(owner, name, namespace[name])


def once_before(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, action: Callable[[], Any]) -> list[bool]:
    """Have something happen before the next call of a function, and only then; tell in the list that it did."""
    return _hook(monkeypatch, owner, name, action, before=True)


def once_after(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, action: Callable[[], Any]) -> list[bool]:
    """Have something happen after the next call of a function, and only then."""
    return _hook(monkeypatch, owner, name, action, before=False)


def _hook(
    monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, action: Callable[[], Any], *, before: bool
) -> list[bool]:
    real = getattr(owner, name)
    happened: list[bool] = []

    def hooked(*args: Any, **kwargs: Any) -> Any:
        if happened:
            return real(*args, **kwargs)
        happened.append(True)
        if before:
            action()
            return real(*args, **kwargs)
        result = real(*args, **kwargs)
        action()
        return result

    monkeypatch.setattr(owner, name, hooked)
    return happened


def name_of(key: str) -> str:
    return shard_name(key)


def inode(path: Path) -> int:
    return os.stat(path).st_ino
