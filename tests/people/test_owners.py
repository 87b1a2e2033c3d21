"""Root maintains a user's store; a group shares one; whoever may not read a session is told so. Most of it needs root."""

from __future__ import annotations

import errno
import os
import stat
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shardstore import ShardStoreError, Store, StoreIOError, UnsafeStore
from tests.scenarios import people
from tests.scenarios.people import KEY, OTHER
from tests.support import disk
from tests.support.peer import one_peer
from tests.support.readable import ReadableCopy

USER, FRIEND, GROUP = 12_345, 12_346, 5_555
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it acts for several users")

AsUser = Callable[..., Any]


@pytest.fixture
def as_user(readable_copy: ReadableCopy) -> AsUser:
    """Return a way to run a function of this module as another user."""

    def run(user: int, group: int, function: Callable[..., Any], *args: Any) -> Any:
        with one_peer(cwd=readable_copy.place, **readable_copy.environment()) as peer:
            return peer.run(become, user, group, function.__name__, *args)

    return run


def become(user: int, group: int, name: str, *args: Any) -> Any:
    """Drop the rights of root, and call a function of this module."""
    os.setgroups([])
    os.setgid(group)
    os.setuid(user)
    os.umask(0o002)
    return globals()[name](*args)


def place_for(root: Path, user: int, group: int, mode: int) -> None:
    """Create the directory of a store for somebody, and open the way to it."""
    root.parent.chmod(0o755)
    root.mkdir()
    os.chown(root, user, group)
    root.chmod(mode)


def owners(root: Path, *, index: bool = False) -> set[tuple[int, int]]:
    """Return who owns what is in a store."""
    found = set()
    for directory, names, files in os.walk(root):
        if not index and directory == str(root):
            names.remove("index")
        for name in [*names, *files]:
            status = os.lstat(os.path.join(directory, name))
            found.add((status.st_uid, status.st_gid))
    return found


def fill(root: str) -> int:
    """Create sessions, some of them with a journal that compact rewrites, and one that is deleted."""
    with Store(root) as store:
        for number in range(4):
            for turn in range(30):
                store.patch(f"k{number}", {"n": turn, "pad": "x" * 1000 + str(turn)})
        store.create("gone", {})
        store.delete("gone")
        return len(store.list())


def use(root: str) -> list[object]:
    """Use every session and every list; return what happened."""
    with Store(root) as store:
        for number in range(4):
            store.patch(f"k{number}", {"mine": 1})
        store.create("new", {"n": 1})
        store.archive.list()
        return [len(store.list()), store.stats().damaged, store.verify().ok, store.compact().ok]


@needs_root
def test_maintenance_by_root_leaves_everything_to_the_owner(root: Path, as_user: AsUser) -> None:
    """compact, verify, prune, archive, restore, repair, update, create and lists by root; then the owner goes on."""
    place_for(root, USER, USER, 0o700)
    assert as_user(USER, USER, fill, str(root)) == 4
    with Store(root, allow_shared=True) as store:
        store.list()
        assert "rewrite" in [action.action for action in store.compact().actions]
        store.patch("k1", {"by": "root"})
        store.create("made-by-root", {"n": 1})
        store.prune(max_entries=4)
        store.archive.restore("k0") if "k0" not in store else None
        disk.edit(disk.shard(root, "k2"), b"{}\n" + disk.shard(root, "k2").read_bytes())
        store.verify(repair=True)
        store.list()
    assert owners(root) == {(USER, USER)}
    assert as_user(USER, USER, use, str(root))[1:] == [(), True, True]


@needs_root
def test_the_index_that_root_makes_is_the_owners(root: Path, as_user: AsUser) -> None:
    """Root lists first: the owner's lists use that index, and write it."""
    place_for(root, USER, USER, 0o700)
    as_user(USER, USER, fill, str(root))
    for path in (root / "index").iterdir():
        path.unlink()
    with Store(root, allow_shared=True) as store:
        store.list()
    assert owners(root, index=True) == {(USER, USER)}


@needs_root
def test_directories_that_root_makes_again(root: Path, as_user: AsUser) -> None:
    """They belong to the owner of the store, as do the records of them."""
    place_for(root, USER, USER, 0o700)
    as_user(USER, USER, fill, str(root))
    people.directory_of(root, KEY).rmdir()
    with Store(root, allow_shared=True) as store:
        store.create(KEY, {"n": 1})
        store.verify(repair=True)
    assert owners(root) == {(USER, USER)}


def share(root: str) -> object:
    """Be the first member of a group."""
    with Store(root, allow_shared=True) as store:
        for number in range(30):
            store.patch(KEY, {"n": number, "pad": str(number % 10) * 1000})
        store.compact()
        store.patch(KEY, {"n": 1})
        return len(store.list())


def join(root: str) -> object:
    """Be the second one: read, write, list, maintain."""
    with Store(root, allow_shared=True) as store:
        seen = store[KEY]["n"]
        for number in range(200):
            store.patch(KEY, {"n": number, "pad": str(number % 10) * 1000})
        store.patch(OTHER, {"n": 2})
        reasons = [one.why for one in store.compact().skipped]
        assert all("permitted" in why for why in reasons), reasons
        return [seen, len(store.list()), store.verify().ok, store.prune(max_entries=10).ok]


@needs_root
def test_a_group_shares_a_store(root: Path, as_user: AsUser) -> None:
    """With allow_shared each member reads, writes, lists and maintains what the others made."""
    place_for(root, USER, GROUP, 0o2770)
    assert as_user(USER, GROUP, share, str(root)) == 1
    assert as_user(FRIEND, GROUP, join, str(root)) == [1, 2, True, True]
    assert as_user(USER, GROUP, join, str(root)) == [199, 2, True, True]
    assert {group for _, group in owners(root)} == {GROUP}


def refused(root: str) -> str:
    """Open a store without allow_shared; return the error's name."""
    try:
        Store(root).close()
    except ShardStoreError as error:
        return type(error).__name__
    return "opened"


@needs_root
def test_a_directory_of_another_user_is_left_untouched(root: Path, as_user: AsUser) -> None:
    """It is refused before anything is made in it, by root as by anybody."""
    place_for(root, USER, USER, 0o777)
    with pytest.raises(UnsafeStore):
        Store(root)
    assert as_user(FRIEND, FRIEND, refused, str(root)) == "UnsafeStore"
    assert list(root.iterdir()) == []
    root.rmdir()


def test_a_directory_that_others_may_write_to(root: Path) -> None:
    """It is refused before anything is made in it."""
    people.a_refused_directory_is_left_untouched(root)
    root.rmdir()


def look(root: str) -> list[object]:
    """List as somebody who may not read everything; return the keys, or the error."""
    with Store(root) as store:
        try:
            rows = sorted(info.key for info in store.list())
        except StoreIOError as error:
            return ["StoreIOError", str(error)]
        return [rows, len(store.stats().damaged)]


@needs_root
def test_who_cannot_read_some_sessions_is_told(root: Path, as_user: AsUser) -> None:
    """list leaves them out and stats counts them, or list raises: they are never just missing."""
    place_for(root, USER, USER, 0o700)
    as_user(USER, USER, fill, str(root))
    victim = disk.shard(root, "k1")
    os.chown(victim, 0, 0)
    victim.chmod(0o600)
    for path in (root / "index").iterdir():
        path.unlink()
    found = as_user(USER, USER, look, str(root))
    assert found == [["k0", "k2", "k3"], 1] or (found[0] == "StoreIOError" and victim.name in str(found[1])), found
    os.chown(victim, USER, USER)


def test_a_rewrite_keeps_the_mode(root: Path) -> None:
    """Whoever may read the file may do so after it was rewritten."""
    people.a_rewrite_keeps_the_mode(root)


ACL = "system.posix_acl_access"
NAMED_USER = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", tag, permission, who)
    for tag, permission, who in (
        (0x01, 6, 0xFFFFFFFF), (0x02, 4, FRIEND), (0x04, 0, 0xFFFFFFFF), (0x10, 4, 0xFFFFFFFF), (0x20, 0, 0xFFFFFFFF),
    )
)  # fmt: skip


@pytest.mark.skipif(not hasattr(os, "setxattr"), reason="needs extended attributes as Linux has them")
@pytest.mark.parametrize("how", ["compact", "update", "repair"])
def test_a_rewrite_keeps_the_access_control_list(root: Path, how: str) -> None:
    """A named user may read one session: still so after any kind of rewrite."""
    with Store(root, durability="relaxed") as store:
        for number in range(30):
            store.patch(KEY, {"pad": str(number % 10) * 1000})
        path = disk.shard(root, KEY)
        try:
            os.setxattr(path, ACL, NAMED_USER)
        except OSError as error:
            assert error.errno in (errno.EOPNOTSUPP, errno.EPERM), error
            pytest.skip("this file system keeps no access control lists")
        inode = path.stat().st_ino
        if how == "compact":
            store.compact()
        elif how == "update":
            for number in range(120):
                store.patch(KEY, {"pad": str(number % 10) * 1001})
        else:
            disk.edit(path, path.read_bytes().replace(b"\n", b"\r\n"))
            store.verify(repair=True)
        assert disk.shard(root, KEY).stat().st_ino != inode, "it was rewritten"
        assert os.getxattr(disk.shard(root, KEY), ACL) == NAMED_USER
        assert stat.S_IMODE(path.stat().st_mode) == 0o640


@needs_root
def test_a_rewrite_that_may_not_keep_the_owner_is_none(root: Path, as_user: AsUser) -> None:
    """A member of the group cannot give a file to its owner: the journal grows, or compact says why it was skipped."""
    place_for(root, USER, GROUP, 0o2770)
    as_user(USER, GROUP, share, str(root))
    before = disk.shard(root, KEY).stat()
    as_user(FRIEND, GROUP, join, str(root))
    after = disk.shard(root, KEY).stat()
    assert (after.st_uid, after.st_gid, after.st_mode) == (before.st_uid, before.st_gid, before.st_mode)
