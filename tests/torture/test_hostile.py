"""What somebody else puts into the store's directories may cost that session, never another one, and never hangs.

Planted files are never followed out of the store, never written through, never taken for a session, never waited for.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shardstore import (
    CorruptShard,
    SessionNotFound,
    ShardStoreError,
    Store,
    StoreNotFound,
    UnsafeStore,
    UnsupportedFormat,
)
from tests.support.readable import ReadableCopy

from .arena import scratch
from .harness import linux_only, needs_root

VICTIM, OTHER, THIRD = "agent:main:victim", "agent:main:other", "agent:main:third"


@pytest.fixture
def place() -> Iterator[Path]:
    """Yield a directory of its own, whatever is planted in it."""
    path = scratch("hostile-")
    yield path
    for directory, names, _ in os.walk(path):
        for name in names:
            with contextlib.suppress(OSError):
                os.chmod(os.path.join(directory, name), 0o700)
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def root(place: Path) -> Path:
    """Return a store with three sessions and a current index, which no process has open."""
    root = place / "store"
    with Store(root) as store:
        for key in (VICTIM, OTHER, THIRD):
            store.update(key, lambda d, key=key: d.update(name=key, n=0))
        store.list()
    return root


BUSY = 8


@contextlib.contextmanager
def within(seconds: int) -> Iterator[None]:
    """Fail instead of hanging. A machine that has much else to do gets several times as long."""

    def late(_signal: int, _frame: object) -> None:
        raise AssertionError(f"still at it after {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(BUSY * seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def shard(root: Path, key: str) -> Path:
    """Find the shard of a key by its text."""
    return next(p for p in sorted(root.glob("shards/*/*.jsonl")) if f'"key":"{key}"'.encode() in p.read_bytes())


def use_everything(root: Path, *, victim_is_lost: bool) -> list[str]:
    """Call every verb; return what was raised for the victim.  Anything untyped fails the test, and so does a hang."""
    raised: list[str] = []

    def attempt(what: str, call: Callable[[], object]) -> None:
        try:
            call()
        except ShardStoreError as error:
            raised.append(f"{what} {type(error).__name__}")

    with within(20), Store(root, lock_timeout=2.0) as store:
        for key in (OTHER, THIRD):
            assert store[key]["name"] == key
            assert store.patch(key, {"n": store[key]["n"] + 1})["name"] == key
        attempt("get", lambda: store.get(VICTIM))
        attempt("contains", lambda: VICTIM in store)
        attempt("patch", lambda: store.patch(VICTIM, {"n": 1}))
        attempt("create", lambda: store.create(VICTIM, {"n": 1}))
        attempt("replace", lambda: store.replace(VICTIM, {"n": 1}))
        attempt("delete", lambda: store.delete(VICTIM))
        attempt("history", lambda: store.history(VICTIM))
        for _ in range(2):
            attempt("list", lambda: _others_listed(store))
        attempt("count", store.count)
        attempt("stats", store.stats)
        attempt("verify", store.verify)
        attempt("compact", lambda: store.prune(max_entries=1000))
        attempt("repair", lambda: store.verify(repair=True))
        for key in (OTHER, THIRD):
            assert store[key]["n"] == 1
        _others_listed(store)
    if victim_is_lost:
        for verb in ("get", "patch", "replace"):
            assert any(r.startswith(verb) for r in raised), f"{verb} made up an answer; raised only {raised}"
    others = [r for r in raised if r.split()[0] in ("list", "count", "stats", "verify", "compact", "repair")]
    assert not others, f"one bad file, and these fail for everybody: {others}"
    return raised


def _others_listed(store: Store) -> None:
    keys = {i.key for i in store.list()}
    assert {OTHER, THIRD} <= keys, keys


PLANTS: dict[str, Callable[[Path, Path], None]] = {
    "a symbolic link to another file": lambda p, outside: p.symlink_to(outside / "file"),
    "a symbolic link to nothing": lambda p, outside: p.symlink_to(outside / "nothing"),
    "a symbolic link to itself": lambda p, _: p.symlink_to(p),
    "a symbolic link to a directory": lambda p, outside: p.symlink_to(outside),
    "a FIFO": lambda p, _: os.mkfifo(p),
    "a directory": lambda p, _: p.mkdir(),
    "a directory with files": lambda p, _: (p.mkdir(), (p / "x").write_text("x")) and None,
    "a socket": lambda p, _: _socket(p),
    "a device": lambda p, _: p.symlink_to("/dev/zero"),
    "a terabyte of nothing": lambda p, _: _sparse(p, 1 << 40),
    "two gigabytes of nothing": lambda p, _: _sparse(p, 2 << 30),
    "garbage": lambda p, _: p.write_bytes(os.urandom(5000)),
}


def _socket(path: Path) -> None:
    sock = socket.socket(socket.AF_UNIX)
    here = os.getcwd()
    os.chdir(path.parent)  # a socket's address is short
    try:
        sock.bind("s")
        os.rename("s", path.name)
    finally:
        os.chdir(here)
        sock.close()


def _sparse(path: Path, size: int) -> None:
    with path.open("wb") as file:
        try:
            file.truncate(size)
        except OSError as error:
            pytest.skip(f"this file system has no file of {size} bytes: {error}")


def outside_of(place: Path) -> Path:
    """Return a directory with a file that nobody may touch."""
    outside = place / "outside"
    outside.mkdir()
    (outside / "file").write_text("mine\n")
    return outside


def untouched(outside: Path) -> bool:
    """Return whether the neighbour's directory is as it was."""
    return sorted(os.listdir(outside)) == ["file"] and (outside / "file").read_text() == "mine\n"


@pytest.mark.parametrize("plant", PLANTS)
def test_in_place_of_a_shard(root: Path, place: Path, plant: str) -> None:
    """The session is lost and says so; the others are as before; nothing outside is read into it or written."""
    outside = outside_of(place)
    victim = shard(root, VICTIM)
    victim.unlink()
    PLANTS[plant](victim, outside)
    use_everything(root, victim_is_lost=True)
    assert untouched(outside)


@pytest.mark.parametrize("plant", ["a symbolic link to a directory", "a symbolic link to itself", "a FIFO", "garbage"])
@pytest.mark.parametrize("which", ["archive", "quarantine", "index", "prefix"])
def test_in_place_of_a_directory(root: Path, place: Path, which: str, plant: str) -> None:
    """A directory of the store replaced by something else: typed errors or a repair, nothing written outside."""
    outside = outside_of(place)
    target = shard(root, VICTIM).parent if which == "prefix" else root / which
    if which == "prefix" and any(shard(root, k).parent == target for k in (OTHER, THIRD)):
        pytest.skip("the keys share a directory")
    shutil.rmtree(target)
    PLANTS[plant](target, outside)
    if which == "prefix":
        _victims_only(root)
    else:
        use_everything(root, victim_is_lost=False)
        with within(20), Store(root) as store, contextlib.suppress(ShardStoreError):
            store.prune(max_entries=1)
    assert untouched(outside)


def _victims_only(root: Path) -> None:
    """Use the sessions beside a missing directory, and see that the victim's raises or is absent."""
    with within(20), Store(root, lock_timeout=2.0) as store:
        for call in (
            lambda: store.get(VICTIM), lambda: store.patch(VICTIM, {"n": 1}), store.verify, store.compact, store.list,
            lambda: store.verify(repair=True),
        ):  # fmt: skip
            with contextlib.suppress(ShardStoreError):
                call()
        for key in (OTHER, THIRD):
            assert store.patch(key, {"n": 1})["name"] == key
        _others_listed(store)


@pytest.mark.parametrize("plant", ["a symbolic link to another file", "a FIFO", "a directory", "garbage", "a device"])
def test_in_place_of_every_file_of_the_index(root: Path, place: Path, plant: str) -> None:
    """The index is disposable: whatever becomes of one of its files, list is right and nothing hangs."""
    outside = outside_of(place)
    for name in sorted(p.relative_to(root / "index") for p in (root / "index").rglob("*") if p.is_file()):
        victim = root / "index" / name
        if not victim.exists() or victim.is_symlink():
            continue
        victim.unlink()
        PLANTS[plant](victim, outside)
        with within(20), Store(root) as store:
            rev = store.patch(VICTIM, {"n": 5, "at": str(name)}).rev
            rows = {i.key: i.rev for i in store.list()}
            assert set(rows) == {VICTIM, OTHER, THIRD}, (name, rows)
            assert rows[VICTIM] == rev, name
        assert untouched(outside), name


@pytest.mark.parametrize(
    "plant", ["a symbolic link to nothing", "a FIFO", "a directory", "garbage", "a device", "two gigabytes of nothing"]
)
def test_in_place_of_the_marker(root: Path, place: Path, plant: str) -> None:
    """A store whose marker is something else is refused, not made anew."""
    outside = outside_of(place)
    marker = root / "shardstore.json"
    marker.unlink()
    PLANTS[plant](marker, outside)
    with within(10), pytest.raises(ShardStoreError):
        Store(root)
    assert untouched(outside)


def test_a_symbolic_link_in_place_of_the_marker_is_not_written_through(root: Path, place: Path) -> None:
    """A marker that points at the neighbour's file: refused, and that file stays."""
    outside = outside_of(place)
    (root / "shardstore.json").unlink()
    (root / "shardstore.json").symlink_to(outside / "file")
    with within(10), pytest.raises(ShardStoreError):
        Store(root)
    assert untouched(outside)


def test_a_hard_linked_backup_is_not_written_through(root: Path, place: Path) -> None:
    """A backup made of hard links keeps what it had when the session goes on, is rewritten and deleted."""
    backup = place / "backup.jsonl"
    os.link(shard(root, VICTIM), backup)
    before = backup.read_bytes()
    with Store(root) as store:
        for n in range(3):
            store.patch(VICTIM, {"n": n})
        assert backup.read_bytes() == before
        os.unlink(backup)
        os.link(shard(root, VICTIM), backup)
        before = backup.read_bytes()
        store.delete(VICTIM)
        assert backup.read_bytes() == before
        assert VICTIM not in store
        assert store.verify().ok


def test_a_shard_that_belongs_to_another_session(root: Path) -> None:
    """Copied over another's shard it is never read as that one, never overwritten, and does not appear twice."""
    source, victim = shard(root, OTHER), shard(root, VICTIM)
    victim.write_bytes(source.read_bytes())
    with Store(root) as store:
        for call in (lambda: store.get(VICTIM), lambda: store.patch(VICTIM, {"n": 9}), lambda: store.delete(VICTIM)):
            with pytest.raises(CorruptShard):
                call()
        assert victim.read_bytes() == source.read_bytes()
        assert store[OTHER]["n"] == 0
        assert [i.key for i in store.list()].count(OTHER) == 1
        assert not store.verify().ok


def test_a_shard_in_the_wrong_directory(root: Path) -> None:
    """A copy that lies where no key can lead is no session; verify names it."""
    source = shard(root, OTHER)
    wrong = next(d for d in sorted((root / "shards").iterdir()) if d != source.parent)
    shutil.copy(source, wrong / source.name)
    with Store(root) as store:
        assert [i.key for i in store.list()].count(OTHER) == 1
        report = store.verify()
        assert any(source.name in p.path for p in (*report.problems, *report.notes))
        store.prune(max_entries=1000)
        assert store[OTHER]["n"] == 0


def test_two_names_for_one_hash(root: Path) -> None:
    """The hash decides, not the slug: a second file with the same hash and another slug does not become a second session."""
    source = shard(root, OTHER)
    twin = source.with_name("something-else~" + source.name.partition("~")[2])
    shutil.copy(source, twin)
    with Store(root) as store:
        store.patch(OTHER, {"n": 7})
        rows = [i for i in store.list() if i.key == OTHER]
        assert [(i.key, i.rev) for i in rows] == [(OTHER, 2)]
        assert store[OTHER]["n"] == 7
        report = store.verify()
        assert any(twin.name in p.path for p in (*report.problems, *report.notes))


def test_a_sparse_tail_does_not_cost_memory_or_the_session(root: Path) -> None:
    """A shard inflated to 20 MB of zeros: a typed error or the session, in time, and the file is not lost."""
    victim = shard(root, VICTIM)
    with victim.open("r+b") as file:
        file.truncate(20 << 20)
    with within(10), Store(root) as store:
        with contextlib.suppress(CorruptShard):
            assert store[VICTIM]["n"] == 0
        began = time.monotonic()
        for n in range(100):
            store.patch(OTHER, {"n": n})
        assert time.monotonic() - began < 5
        store.verify(repair=True)
        assert store[VICTIM]["n"] == 0


def test_planted_temps_are_neither_read_nor_trusted(root: Path, place: Path) -> None:
    """Files that look like the store's temps, links among them: no session appears, and compact follows none of them."""
    outside = outside_of(place)
    directory = shard(root, VICTIM).parent
    name = shard(root, VICTIM).name
    (directory / f".tmp-0000000000000000~{name}").symlink_to(outside / "file")
    (directory / f".tmp-1111111111111111~{name}").mkdir()
    os.mkfifo(directory / f".tmp-2222222222222222~{name}")
    (directory / f".tmp-3333333333333333~{name}").write_bytes(b"half a rec")
    with within(20), Store(root) as store:
        assert len(store) == 3
        store.compact()
        store.verify(repair=True)
        assert store[VICTIM]["n"] == 0
    assert untouched(outside)


@pytest.mark.parametrize("mode", [0o777, 0o707, 0o770, 0o772])
def test_a_store_that_others_may_write_is_refused(root: Path, mode: int) -> None:
    """Group- or world-writable: UnsafeStore, which names the way out; with allow_shared it opens."""
    root.chmod(mode)
    with pytest.raises(UnsafeStore):
        Store(root)
    with pytest.raises(UnsafeStore):
        Store(root, create=False)
    with Store(root, allow_shared=True) as store:
        assert store[VICTIM]["n"] == 0


AsNobody = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def as_nobody(readable_copy: ReadableCopy) -> AsNobody:
    """Return a way to run a script as user 65534."""
    prelude = "import os, sys; os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"

    def run(script: str, *args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", prelude + script, *args],
            cwd=readable_copy.place,
            env={**os.environ, **readable_copy.environment()},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


def give_to_nobody(path: Path) -> None:
    """Change the owner of a tree, and open the way to it."""
    path.parent.chmod(0o755)
    for directory, _, files in os.walk(path):
        os.chown(directory, 65534, 65534)
        for name in files:
            os.chown(os.path.join(directory, name), 65534, 65534)


@needs_root
@linux_only
def test_a_store_of_another_user_is_refused(as_nobody: AsNobody, root: Path) -> None:
    """Root opens nobody's store only when asked to share; nobody cannot open root's at all."""
    denied = as_nobody("import shardstore; s = shardstore.Store(sys.argv[1], create=False)", str(root))
    assert "shardstore.errors." in denied.stderr.strip().splitlines()[-1], denied.stderr
    give_to_nobody(root)
    with pytest.raises(UnsafeStore):
        Store(root)
    with Store(root, allow_shared=True) as store:
        assert store[VICTIM]["n"] == 0


@needs_root
@linux_only
def test_files_of_another_user_inside(as_nobody: AsNobody, root: Path) -> None:
    """A shard, a note, an archive that this user may not read: that session raises, all others go on, list too."""
    give_to_nobody(root)
    victim = shard(root, VICTIM)
    os.chown(victim, 0, 0)
    victim.chmod(0o600)
    script = f"""
import shardstore
store = shardstore.Store(sys.argv[1])
for call in (lambda: store.get({VICTIM!r}), lambda: store.patch({VICTIM!r}, {{"n": 1}})):
    try:
        call()
    except shardstore.ShardStoreError as error:
        print(type(error).__name__)
print(store.patch({OTHER!r}, {{"n": 1}})["n"], sorted(i.key for i in store.list())[:1])
store.verify(); store.compact()
"""
    done = as_nobody(script, str(root))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.split("\n")
    assert lines[:2] == ["StoreIOError", "StoreIOError"], done.stdout
    assert lines[2].startswith("1 "), done.stdout


def test_files_are_private_from_the_first_write(place: Path) -> None:
    """Whatever the umask: directories 0700, files 0600, also those of rewrites, index, archive and quarantine."""
    root = place / "store"
    before = os.umask(0)
    try:
        with Store(root) as store:
            for n in range(60):
                store.update(VICTIM, lambda d, n=n: d.update(n=n, filler="x" * 4000))
            store.update(OTHER, lambda d: d.update(n=1))
            store.list()
            store.prune(max_entries=1)
    finally:
        os.umask(before)
    for directory, names, files in os.walk(root):
        for name in names:
            assert stat.S_IMODE(os.lstat(os.path.join(directory, name)).st_mode) == 0o700, name
        for name in files:
            assert stat.S_IMODE(os.lstat(os.path.join(directory, name)).st_mode) == 0o600, (directory, name)


def test_a_root_that_vanishes_is_not_made_again(root: Path) -> None:
    """Removed under an open store: every write raises StoreNotFound, nothing reappears."""
    with Store(root) as store:
        store.patch(VICTIM, {"n": 1})
        shutil.rmtree(root)
        for call in (
            lambda: store.patch(VICTIM, {"n": 2}), lambda: store.create("new", {}), lambda: store.delete(OTHER),
            lambda: store.get("never"), lambda: store.list(), lambda: store.compact(),
        ):  # fmt: skip
            with pytest.raises((StoreNotFound, SessionNotFound)):
                call()
        assert not root.exists()


def test_not_a_store(place: Path) -> None:
    """A file, somebody's directory, a FIFO in place of the root: refused with a typed error, and left alone."""
    (place / "file").write_text("mine")
    os.mkfifo(place / "fifo")
    for name in ("file", "fifo"):
        with within(5), pytest.raises(ShardStoreError):
            Store(place / name)
    (place / "loop").symlink_to(place / "loop")
    with within(5), pytest.raises(ShardStoreError):
        Store(place / "loop")
    (place / "old").mkdir()
    (place / "old" / "shardstore.json").write_text('{"shardstore":{"format":99,"created_at":1,"indexed":[]}}')
    with pytest.raises(UnsupportedFormat):
        Store(place / "old")
    assert (place / "file").read_text() == "mine"
