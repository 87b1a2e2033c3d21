"""Several processes' worth of a store inside one process, so that a test decides who does what between which two steps.

An `Actor` has what a process has of a store: its own shards, its own descriptors, its own index. Two of them meet only
on the disk, as two processes do: flock excludes them, and what one has in memory the other does not see.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from shardstore import _codec as codec
from shardstore._files.direct.rows import SessionRow
from shardstore._files.index import Index
from shardstore._files.index.lister import Lister
from shardstore._files.index.place import Place
from shardstore._files.index.views import View
from shardstore._files.layout import PREFIXES, Layout, shard_name
from shardstore._files.marker import Settings, make_store, read_settings
from shardstore._files.pool import Pool
from shardstore.draft import DELETE, Draft
from shardstore.query import Bounds, Query, parse
from shardstore.session import SessionInfo
from tests.support import disk

_open: list[Actor] = []


class Actor:
    """One process. Each is closed at the end of the test that made it."""

    def __init__(self, root: Path, indexed: tuple[str, ...] = ()) -> None:
        _open.append(self)
        self.root = root
        self.layout = Layout(root)
        make_store(self.layout, Settings(indexed=indexed))
        self.pool = Pool(self.layout)
        self.index = Index(self.layout, read_settings(self.layout).indexed, self.pool)
        self._marked_ahead = False  # the session of the commit that is due
        self.pool.mark_changed = self._mark_changed

    def _mark_changed(self, name: str, *seen: Any, **how: Any) -> None:
        """Mark as changed, as every commit does first."""
        if not self._marked_ahead:
            self.index.mark_changed(name, *seen, **how)

    def write(self, key: str, **fields: Any) -> None:
        """Patch some fields, as Store.update does: lock, read, mark as changed, commit, unlock."""
        with self.writing(key, **fields):
            pass

    @contextlib.contextmanager
    def writing(self, key: str, **fields: Any) -> Iterator[None]:
        """The same with a pause between a commit's mark and its record, which is written at the end."""
        with self.pool.transaction(key, 5.0) as txn:
            draft = Draft(key, txn.state)
            draft.update(fields)
            self.index.mark_changed(name_of(key))
            yield
            change = draft.change()
            assert change is not None, "the test changes nothing"
            self._marked_ahead = True
            try:
                txn.commit(change, "actor", durable=False)
            finally:
                self._marked_ahead = False

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

    def infos(self, *, refresh: bool = True, **query: Any) -> list[SessionInfo]:
        """List."""
        return self.lister.select(asked(**query), refresh=refresh)

    def list(self, *, refresh: bool = True, **query: Any) -> dict[str, Any]:
        """List: the fields by key."""
        return {info.key: info.fields for info in self.infos(refresh=refresh, **query)}

    def count(self, *, refresh: bool = True, **query: Any) -> int:
        """Count."""
        return self.lister.count(asked(**query), refresh=refresh)

    def totals(self, *, refresh: bool = False) -> tuple[int, int, int]:
        """Sum up: sessions, bytes of their entries and logs, of their files."""
        return self.lister.answer(View.totals, refresh=refresh, progress=None)

    def damaged(self) -> list[str]:
        """Return the names of damaged shards."""
        return self.lister.answer(View.damaged, refresh=False, progress=None)

    def pending(self, *, refresh: bool = False) -> tuple[int, str | None]:
        """Return how many shards a list reads besides the catalog, and why it reads every one, or None."""
        return self.lister.answer(lambda view: (view.pending, view.problem), refresh=refresh, progress=None)

    def scan(self, **query: Any) -> list[SessionInfo]:
        """List from the shards alone."""
        return by_reading(self, asked(**query))

    @property
    def lister(self) -> Lister:
        """What answers lists."""
        return self.index.lister

    @property
    def place(self) -> Place:
        """What it works on."""
        return self.lister.place

    def close(self) -> None:
        self.index.close()
        self.pool.close()


def by_reading(one: Actor, query: Query) -> list[SessionInfo]:
    """Answer a query as simply as can be: read every shard, and have the query decide."""
    found, shards = [], one.place.shards
    for prefix in PREFIXES:
        for name in sorted(shards.list_directory(prefix)):
            read, state = shards.state(name)
            if not isinstance(read, SessionRow):
                continue
            raw = state.fields or {}
            values = {field: codec.loads(raw[field]) for field in query.needed if field in raw}
            candidate = query.candidate(read.row, values)
            if candidate is None:
                continue
            if query.fields:
                shown = codec.join({field: raw[field] for field in query.fields if field in raw})
                candidate = candidate._replace(row=read.row._replace(fields=shown))
            found.append(candidate)
    return [query.info(candidate) for candidate in sorted(found, key=query.rank)[query.offset : query.stop]]


@contextlib.contextmanager
def nobody_waits_at(path: Path) -> Iterator[None]:
    """Fail where opening a FIFO hangs, instead of hanging: after a while it is opened from the other side."""
    opened: list[int] = []
    timer = threading.Timer(5.0, lambda: opened.append(os.open(path, os.O_RDWR)))
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        for fd in opened:
            os.close(fd)
    assert not opened, "somebody waited for the other end of a FIFO"


def close_all() -> None:
    """Close what tests made and left open."""
    while _open:
        _open.pop().close()


def asked(*, order_by: str = "-updated_at", bounds: dict[str, Any] | None = None, **query: Any) -> Query:
    """Understand a query as Store.list does."""
    return parse(order_by=order_by, bounds=Bounds(**(bounds or {})), **query)


def index_files(root: Path) -> list[Path]:
    """List the files of the index, in the order of their names."""
    return sorted(path for path in (root / "index").iterdir() if path.is_file())


def change_file(root: Path) -> Path:
    """Return the change file; there is one."""
    (found,) = (root / "index").glob("changes.*")
    return found


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
    """Return whether a list would take its answer from the catalog alone."""
    one = Actor(root)
    try:
        return one.pending() == (0, None)
    finally:
        one.close()


def usable(root: Path) -> bool:
    """Return whether a list would believe the catalog."""
    one = Actor(root)
    try:
        return one.pending()[1] is None
    finally:
        one.close()


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
