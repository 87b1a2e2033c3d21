"""Stories: which steps of a transaction reach the disk, in their order. A test names the step that is to fail."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shardstore._files import disk
from shardstore._files.file import Known
from shardstore._files.layout import LOG_SUFFIX, TEMP_PREFIX, Layout, shard_name
from shardstore._files.pool import Pool
from shardstore._files.transaction import FileTransaction
from shardstore._log import Item, LogChange
from shardstore._model import Change, State

KEY, OTHER = "agent:main:main", "agent:main:other"
FIRST = Change({"n": b"0"}, [], whole=True)
MORE = Change({"n": b"1"}, [])
DELETE = Change({}, [], delete=True)
ITEMS = Change({}, [], log=LogChange(add=(Item(b'"a"', "id-a"), Item(b'"b"', "id-b"))))
TORN = b'{"crc":"00000000","rev":7'


class Story(list[str]):
    """What reaches the disk, step by step. `fails` is the step that fails with EIO, before it happens."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.root = root
        self.fails = ""
        places = {shard_name(KEY): "main", shard_name(OTHER): "other"}
        self._places = {f"shards/{name.partition('/')[0]}": place for name, place in places.items()}
        assert len(self._places) == len(places)

    def step(self, text: str) -> None:
        self.append(text)
        if text == self.fails:
            raise OSError(errno.EIO, "no")

    def place(self, directory: str | os.PathLike[str]) -> str:
        relative = os.path.relpath(directory, self.root)
        return self._places.get(relative, relative)

    def what(self, path: str | os.PathLike[str]) -> str:
        directory, name = os.path.split(path)
        kind = "log" if name.endswith(LOG_SUFFIX) else "temp" if name.startswith(TEMP_PREFIX) else "journal"
        return f"{self.place(directory)}/{kind}"

    def open_at(self, fd: int) -> str:
        """Return what a descriptor is, by the names that are there."""
        status = os.fstat(fd)
        for directory in (*self._places, "archive", "quarantine"):
            for path in (self.root / directory).glob("*"):
                if os.path.samestat(path.stat(), status):
                    return self.what(path)
        return "a nameless file"

    def mark(self, name: str, key: str, seen: State | str, *, again: bool = False) -> None:
        """Take the place of the index."""
        assert name == shard_name(key)
        text = seen if isinstance(seen, str) else f"rev {seen.rev}" if seen.exists else "absent"
        self.step(f"mark {self.what(self.root / 'shards' / name).partition('/')[0]}: {text}{' again' if again else ''}")


def tell_story(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> Story:
    """Return the story of a test from now on, which begins anew where the test clears it."""
    told = Story(pool.layout.root)

    def tell(owner: Any, name: str, words: Callable[..., str]) -> None:
        real = getattr(owner, name)

        def told_first(*args: Any) -> Any:
            told.step(words(*args))
            return real(*args)

        monkeypatch.setattr(owner, name, told_first)

    tell(disk, "sync", lambda fd: f"sync {told.open_at(fd)}")
    tell(disk, "sync_directory", lambda path: f"sync {told.place(path)}")
    tell(os, "rename", lambda old, new: f"rename {told.what(old)} to {told.what(new)}")
    tell(os, "link", lambda old, new: f"link {told.what(old)} as {told.what(new)}")
    tell(os, "unlink", lambda path: f"unlink {told.what(path)}")
    pool.mark_changed = told.mark
    return told


def commit(pool: Pool, *changes: Change, key: str = KEY, durable: bool = False) -> None:
    with pool.transaction(key, 1.0) as txn:
        for change in changes:
            txn.commit(change, "me", durable=durable)


def with_log(pool: Pool) -> str:
    """Have a session whose log is in a file; return that file's id."""
    commit(pool, FIRST, ITEMS)
    with pool.transaction(KEY, 1.0) as txn:
        txn.rewrite(new_log=True)
        return txn.state.log.settled.file


def tear(txn: FileTransaction) -> bytes:
    """Leave a torn tail, as somebody who died does; return the bytes of the file up to there."""
    file = txn._shard.file
    assert file is not None
    data = Path(file.path).read_bytes()[: txn.journal.end]
    Path(file.path).write_bytes(data + TORN)
    file.known = Known()
    file.refresh(locked=True)
    assert file.torn == TORN
    return data


def logs(root: Path) -> list[str]:
    """List the ids of the log files beside the shards."""
    return [path.name.split(".")[-3] for path in root.glob(f"shards/*/*{LOG_SUFFIX}")]


def journal_path(root: Path, key: str = KEY) -> Path:
    return root / "shards" / shard_name(key)


def is_free(root: Path, key: str = KEY) -> bool:
    """Return whether another process' worth of the store gets the lock at once."""
    other = Pool(Layout(root))
    try:
        with other.transaction(key, 0.0):
            return True
    finally:
        other.close()
