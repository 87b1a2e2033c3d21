"""What an operator does to a store in a hurry. Each protection here has a mutation in mutations/people.py."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest import mock

from shardstore import Store, StoreIOError
from shardstore._files.direct.shards import ShardReader
from shardstore._files.index.upkeep import refresh_all
from tests.scenarios.people import KEY, OTHER, in_a_child
from tests.support import disk

# Lists, after files were put back


def by_rename(path: Path, data: bytes) -> None:
    """Put a file in the place of another one, and set the directory's time back, as rsync does."""
    times = path.parent.stat()
    fresh = path.with_name("restored")
    fresh.write_bytes(data)
    fresh.chmod(0o600)
    fresh.rename(path)
    os.utime(path.parent, ns=(times.st_atime_ns, times.st_mtime_ns))


def by_unlink(path: Path, data: bytes) -> None:
    """Remove a file and create it anew, as tar and git do."""
    path.unlink()
    path.write_bytes(data)
    path.chmod(0o600)


def in_place(path: Path, data: bytes) -> None:
    """Write into a file, and set its time back, as `cp -a` does."""
    times = path.stat()
    path.write_bytes(data)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns - 10**9))


def _put_back(root: Path, store: Store, how: Callable[[Path, bytes], None]) -> None:
    """Put an older file back that no list has to read again, and one of a session that is deleted by now."""
    older = {}
    for key in (KEY, OTHER):
        store.replace(key, {"n": 1})
        older[key] = disk.shard(root, key).read_bytes()
        store.patch(key, {"n": 2})
    store.delete(OTHER)
    refresh_all(store.engine.index.lister)  # type: ignore[attr-defined]
    assert [(info.key, info.fields["n"]) for info in store.list()] == [(KEY, 2)]
    assert store.stats().pending_changes == 0
    for key, data in older.items():
        how(disk.shard(root, key), data)
    time.sleep(2 * disk.CHECK_S)


def lists_show_what_was_put_back(root: Path) -> None:
    """Nobody marked it as changed: by rename and by unlink at once, in place within a second, everywhere."""
    with Store(root) as store, Store(root, read_only=True) as reader:
        for how in (by_rename, by_unlink, in_place):
            _put_back(root, store, how)
            if how is in_place:
                time.sleep(1.1)
            for opened in (store, reader):
                found = {info.key: info.fields["n"] for info in opened.list()}
                assert found == {KEY: 1, OTHER: 1}, f"{how.__name__}: {found}"
            store.compact()
            assert "lost" not in [one.kind for one in store.verify().problems]


def lists_of_two_threads_show_what_was_put_back(root: Path) -> None:
    """One of them compares the directories; the other one waits for what it finds."""
    with Store(root) as store:
        _put_back(root, store, by_rename)
        inside, go_on = threading.Event(), threading.Event()
        real = ShardReader.fingerprints

        def slow(reader: ShardReader, prefix: str) -> dict[str, int]:
            if not inside.is_set():
                inside.set()
                assert go_on.wait(30)
            return real(reader, prefix)

        with mock.patch.object(ShardReader, "fingerprints", slow), ThreadPoolExecutor(2) as pool:
            first = pool.submit(store.list)
            assert inside.wait(30)
            second = pool.submit(store.list)
            with contextlib.suppress(TimeoutError):
                second.result(0.2)
            go_on.set()
            for one in (first, second):
                assert {info.key: info.fields["n"] for info in one.result(30)} == {KEY: 1, OTHER: 1}
        store.compact()
        store.verify()


def lists_show_what_was_put_back_while_no_descriptor_was_free(root: Path) -> None:
    """A directory that cannot be listed for a moment says nothing of what is in it: it is compared later."""
    with Store(root) as store:
        store.patch("agent:main:new", {"n": 0})
        path = disk.shard(root, "agent:main:new")
        data = path.read_bytes()
        store.delete("agent:main:new")
        store.compact()
        path.unlink(missing_ok=True)
        store.compact()
        time.sleep(0.05)
        store.list()
        path.write_bytes(data)
        path.chmod(0o600)
        time.sleep(0.05)
        full = StoreIOError(errno.EMFILE, os.strerror(errno.EMFILE))
        with mock.patch.object(ShardReader, "fingerprints", side_effect=full):
            store.list()
        time.sleep(0.05)
        assert "agent:main:new" in [info.key for info in store.list()]
        store.compact()


def compact_finds_what_was_changed_in_place(root: Path) -> None:
    """At once, whatever the turn of each file was."""
    with Store(root) as store:
        _put_back(root, store, in_place)
        store.compact()
        assert {info.key: info.fields["n"] for info in store.list()} == {KEY: 1, OTHER: 1}


def verify_has_the_next_list_read_what_it_found(root: Path) -> None:
    """Where no list has looked at the files since, a plain verify names the rows, and lists are right afterwards."""
    with Store(root) as store:
        _put_back(root, store, in_place)
        with mock.patch("shardstore._files.index.directories.Directories.check"):
            assert {one.kind for one in store.verify().problems} == {"lost", "index"}
            assert {info.key: info.fields["n"] for info in store.list()} == {KEY: 1, OTHER: 1}
        store.verify(repair=True)


# A full or read-only disk


def a_full_disk_is_no_reason_to_name_nothing(root: Path) -> None:
    """What verify wants to record cannot be written: it says so, and names all that it found."""
    with Store(root) as store:
        for key in (KEY, OTHER, KEY):
            store.patch(key, {"n": len(store)})
        store.compact()
        disk.edit(disk.shard(root, KEY), disk.shard(root, KEY).read_bytes().split(b"\n")[0] + b"\n")
        disk.edit(disk.shard(root, OTHER), b"{}\n" + disk.shard(root, OTHER).read_bytes())
        full = OSError(28, os.strerror(28))
        with mock.patch("shardstore._files.disk.create", side_effect=full):
            for repair in (False, True):
                found = store.verify(repair=repair).problems
                assert {("lost", False), ("damaged", False)} <= {(one.kind, one.repaired) for one in found}, found
                assert "No space left" in next(one.detail for one in found if one.kind == "lost")
        assert all(one.repaired for one in store.verify(repair=True).problems)
        assert store.verify().ok


# Daemons


def _daemon(root: Path) -> None:
    for number in range(3):
        os.close(number)
    with Store(root) as store:
        for number in range(3):
            store.patch(f"k{number}", {"n": number})
            store.append(f"k{number}", [{"text": "x" * 3000}] * 100)
        store.list()
        for number in range(3):
            with contextlib.suppress(OSError):
                os.write(number, b"this was meant for a terminal" * 30)
        store.patch("k0", {"n": 5})


def what_a_daemon_prints_goes_into_no_file_of_the_store(root: Path) -> None:
    """It closed stdin, stdout and stderr: their numbers are given to whatever is opened next."""
    in_a_child(lambda: _daemon(root))
    with Store(root, create=False) as store:
        assert [(store[f"k{number}"]["n"], len(store.log(f"k{number}"))) for number in range(3)] == [
            (5, 100),
            (1, 100),
            (2, 100),
        ]
        assert {info.key for info in store.list()} == {"k0", "k1", "k2"}
        assert store.verify().ok
