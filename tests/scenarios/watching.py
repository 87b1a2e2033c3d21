"""Watching: nothing is missed while the token is kept."""

from __future__ import annotations

import random
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from shardstore import LockTimeout, Session, SessionExists, SessionNotFound, Store, WatchExpired
from shardstore._files.file import JournalFile
from shardstore._files.index import refresh
from shardstore._files.index.upkeep import refresh_all
from shardstore.watch import Change, Watch
from tests.support.peer import Peer, one_peer, peers, say

PATIENCE_S = 30.0


class Knowledge:
    """What somebody knows who has a list and the changes since."""

    def __init__(self) -> None:
        self.versions: dict[str, str] = {}  # of the sessions that are there
        self.revs: dict[str, tuple[str, int]] = {}  # the newest: incarnation and revision

    def take(self, changes: list[Change]) -> None:
        """Take in changes, which come in each session's order."""
        for change in changes:
            # Of a session that was removed whole nobody knows how far it had come.
            incarnation, rev = _parts(change.version) if change.updated_at else ("", 0)
            before = self.revs.get(change.key, ("", 0))
            assert rev >= before[1] or incarnation != before[0], "an older state after a newer one"
            self.revs[change.key] = incarnation, rev
            if change.kind == "deleted":
                self.versions.pop(change.key, None)
            else:
                self.versions[change.key] = change.version

    def knows(self, key: str, version: str) -> bool:
        """Return whether a change that was acknowledged is known: this version of the session, or what came of it."""
        incarnation, rev = _parts(version)
        known = self.revs.get(key)
        return known is not None and (known[0] != incarnation or known[1] >= rev)


def check_known(knowledge: Knowledge, acknowledged: list[tuple[str, str]]) -> None:
    """Fail unless everything that was acknowledged before a look is known after it."""
    for key, version in acknowledged:
        assert knowledge.knows(key, version), f"{key} was seen at {knowledge.revs.get(key)}, not at {version}"


def _parts(version: str) -> tuple[str, int]:
    incarnation, _, rest = version.partition(".")
    return incarnation, int(rest.partition("-")[0] or 0)


def truth(store: Store) -> dict[str, str]:
    """Return the version of every session, as the sessions themselves say."""
    return {session.key: session.version for session in store.sessions()}


def caught_up(watch: Watch, knowledge: Knowledge, expected: dict[str, str]) -> None:
    """Look until what is known is what is there, in a store that nobody writes to."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        knowledge.take(watch.ready())
        if knowledge.versions == expected:
            return
        assert time.monotonic() < deadline, (knowledge.versions, expected)
        time.sleep(0.005)


def looked(watch: Watch, times: int = 3) -> list[str]:
    """Look some times; return the keys of the changes."""
    return [change.key for _ in range(times) for change in watch.ready()]


@contextmanager
def paused_commit(store: Store, key: str) -> Iterator[threading.Event]:
    """Have a thread of its own stop between marking a session and committing to it; setting the event lets it go on."""
    arrived, go_on = threading.Event(), threading.Event()
    real = JournalFile.append

    def append(self: JournalFile, *args: Any, **options: Any) -> None:
        if threading.current_thread() is writer:
            arrived.set()
            assert go_on.wait(PATIENCE_S)
        real(self, *args, **options)

    writer = threading.Thread(target=lambda: store.patch(key, {"paused": True}))
    JournalFile.append = append  # type: ignore[method-assign]
    try:
        writer.start()
        assert arrived.wait(PATIENCE_S)
        yield go_on
    finally:
        go_on.set()
        writer.join()
        JournalFile.append = real  # type: ignore[method-assign]


def a_commit_that_was_only_marked_is_seen_later(root: Path) -> None:
    """The change line comes before the commit: whoever reads it in between comes back."""
    for key in ("old", "new"):
        with Store(root, durability="relaxed") as store:
            store.update("old", lambda draft: draft.update(n=0))
            with store.watch() as watch:
                with paused_commit(store, key) as go_on:
                    token = store.token()
                    assert looked(watch) == []
                    taken = watch.token
                    go_on.set()
                assert looked(watch) == [key]
            for since in (token, taken):
                assert [change.key for change in store.watch(since=since, timeout=0)] == [key]


def a_session_that_changes_again_is_seen_again(root: Path) -> None:
    """Also where its writer has marked it already, in this process and in another one."""
    with Store(root, durability="relaxed") as store, one_peer() as peer, store.watch() as watch:
        for n in range(10):
            store.patch("mine", {"n": n})
            peer.run(patch, root, "theirs", n)
            assert sorted(looked(watch)) == ["mine", "theirs"]


def patch(root: Path, key: str, value: int) -> None:
    """In a peer: patch a session, by a store that stays open."""
    if root not in _open:
        _open[root] = Store(root, durability="relaxed")
    _open[root].patch(key, {"n": value})


_open: dict[Path, Store] = {}


def a_session_made_and_deleted_between_two_looks_is_seen(root: Path) -> None:
    """As deleted, whether a record of it is left or nothing at all."""
    with Store(root, durability="relaxed") as store, store.watch() as watch:
        store.create("short", {})
        store.delete("short")
        store.create("whole:1", {})
        store.delete_all("whole:")
        assert sorted((change.key, change.kind) for change in watch.ready()) == [
            ("short", "deleted"), ("whole:1", "deleted"),
        ]  # fmt: skip


def a_session_removed_whole_is_seen_while_it_is_made_anew(root: Path) -> None:
    """At once, as deleted, though whoever makes it anew stands still; and by a watcher that may not write."""
    with Store(root, durability="relaxed") as store, Store(root, read_only=True) as reader:
        store.create("whole:0", {})
        store.list()
        watches = [store.watch(), reader.watch()]
        for _ in range(3):
            store.create("whole:1", {})
            store.delete_all("whole:1")
            with store.edit("whole:1"):
                for watch in watches:
                    assert [(one.key, one.kind) for one in watch.ready()] == [("whole:1", "deleted")]
                    assert looked(watch) == []
            for watch in watches:
                assert [(one.key, one.kind) for one in watch.ready()] == [("whole:1", "created")]
            store.delete_all("whole:1")
            for watch in watches:
                assert [(one.key, one.kind) for one in watch.ready()] == [("whole:1", "deleted")]
        for watch in watches:
            watch.close()


def an_index_made_anew_ends_a_watch(root: Path) -> None:
    """What was changed while there was no index nobody knows: WatchExpired, for the watcher and for the token."""
    with Store(root, durability="relaxed") as store:
        store.create("k", {})
        token, watch = store.token(), store.watch()
        assert store.engine.index.lister.rebuild()  # type: ignore[attr-defined]
        store.patch("k", {"n": 1})
        for ask in (watch.ready, lambda: list(store.watch(since=token, timeout=0))):
            try:
                raise AssertionError(ask())
            except WatchExpired:
                pass
        watch.close()


def a_change_file_that_goes_on_is_followed(root: Path) -> None:
    """Each refresh begins a new one here: live watchers go along, and a token is good beyond one of them."""
    refresh.BYTES_MAX = 0  # type: ignore[misc]
    with Store(root, durability="relaxed") as store, store.watch() as watch:
        for n in range(5):
            token = store.token()
            store.patch("before", {"n": n})
            refresh_all(store.engine.index.lister)  # type: ignore[attr-defined]
            store.patch("after", {"n": n})
            assert sorted(looked(watch)) == ["after", "before"]
            assert sorted(change.key for change in store.watch(since=token, timeout=0)) == ["after", "before"]
        for n in range(3):
            store.patch("last", {"n": n})
            refresh_all(store.engine.index.lister)  # type: ignore[attr-defined]
        try:
            raise AssertionError(watch.ready(), list(store.watch(since=token, timeout=0)))
        except WatchExpired:
            pass


def an_interrupted_look_loses_nothing(root: Path) -> None:
    """An exception from outside at any line of a look: what it found comes with the next one."""
    with Store(root, durability="relaxed") as store, store.watch() as watch:
        line, interrupted = 0, True
        while interrupted:
            line += 1
            store.patch("k", {"n": line})
            interrupted = _interrupted_at(line, watch)
            assert "k" in looked(watch, 2) or not interrupted
        assert line > 20


def _interrupted_at(line: int, watch: Watch) -> bool:
    """Look, and be interrupted at the n-th line that is run of the watcher's code; return whether it came so far."""
    left = line

    def trace(frame: FrameType, event: str, _arg: object) -> Any:
        nonlocal left
        name = frame.f_globals.get("__name__", "")
        if frame.f_code.co_name == "__del__" or not (
            name.startswith("shardstore._files.watch") or name == "shardstore.watch"
        ):
            return None
        if event == "line":
            left -= 1
            if left == 0:
                raise KeyboardInterrupt
        return trace

    sys.settrace(trace)
    try:
        watch.look()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(None)
    return False


# Several processes, which may be killed or stopped anywhere


def write_on(root: Path, seed: int, names: int, path: str) -> None:
    """In a peer: write to random sessions until killed; note each acknowledged change in a file of its own."""
    rng = random.Random(seed)
    with Store(root, durability="relaxed", lock_timeout=0.2) as store, open(path, "a", buffering=1) as acknowledged:
        say("writing")
        while True:
            key = f"k{rng.randrange(names)}"
            try:
                session = _write(store, key, rng)
            except (LockTimeout, SessionExists, SessionNotFound):
                continue
            if session is not None:
                acknowledged.write(f"{session.key} {session.version}\n")


def _write(store: Store, key: str, rng: random.Random) -> Session | None:
    """Change a session somehow; return it, or None where nothing was there to be done to."""
    move = rng.random()
    if move < 0.6:
        return store.patch(key, {"n": rng.random()})
    if move < 0.7:
        return store.append(key, [rng.random()])
    if move < 0.8:
        session = store.get(key)
        return session if session is not None and store.delete(key) else None
    if move < 0.85:
        store.delete_all(key)
        return None
    if move < 0.9:
        return store.rename(key, f"moved{rng.randrange(10**9)}")
    if move < 0.95:
        store.list(limit=3)
        return None
    made = store.create(f"short{rng.randrange(10**9)}", {})
    store.delete(made.key)
    return made


def nothing_is_missed_under_kills(root: Path, seconds: float = 2.5, seed: int = 0) -> None:
    """Writers are killed and stopped anywhere: each acknowledged change has been seen, and the last state is right."""
    rng = random.Random(seed)
    paths = [root.with_name(f"acknowledged{n}") for n in range(3)]
    read = dict.fromkeys(paths, 0)
    with Store(root, durability="relaxed") as store, peers(3) as group:
        knowledge, watch, expired = Knowledge(), store.watch(), 0
        unsure: set[Path] = set()  # of writers that may acknowledge one more change from before the token
        deadline = time.monotonic() + seconds
        rebuild_at = deadline - seconds / 2
        _start(group, root, rng, paths)
        while time.monotonic() < deadline:
            if time.monotonic() > rebuild_at and store.engine.index.lister.rebuild():  # type: ignore[attr-defined]
                rebuild_at = deadline
            number = rng.randrange(3)
            if rng.random() < 0.3:
                group[number].kill()
                group[number].close()
                group[number] = Peer()
                _begin(group[number], root, rng, paths[number])
            elif rng.random() < 0.3:
                group[number].stop()
            time.sleep(rng.random() * 0.05)
            acknowledged = list(_acknowledged(read, unsure))
            try:
                knowledge.take(watch.ready())
            except WatchExpired:  # a refresher that was killed left an index that is made anew
                expired += 1
                watch.close()
                watch, knowledge = _begin_anew(store)
                list(_acknowledged(read, unsure))
                unsure = set(paths)
            else:
                try:
                    check_known(knowledge, acknowledged)
                except AssertionError as error:
                    error.add_note(f"the watch had expired {expired} times")
                    raise
            for peer in group:
                peer.resume()
        for peer in group:
            peer.kill()
        acknowledged = list(_acknowledged(read, unsure))
        try:
            caught_up(watch, knowledge, truth(store))
            check_known(knowledge, acknowledged)
        except WatchExpired:
            watch.close()
            watch, knowledge = _begin_anew(store)
            caught_up(watch, knowledge, truth(store))
        watch.close()


def _begin_anew(store: Store) -> tuple[Watch, Knowledge]:
    """Take a token, list, and watch from there."""
    while True:
        knowledge, token = Knowledge(), store.token()
        knowledge.versions = {info.key: info.version for info in store.list()}
        knowledge.revs = {key: _parts(version) for key, version in knowledge.versions.items()}
        try:
            return store.watch(since=token), knowledge
        except WatchExpired:
            continue


def _start(group: list[Peer], root: Path, rng: random.Random, paths: list[Path]) -> None:
    for peer, path in zip(group, paths, strict=True):
        _begin(peer, root, rng, path)


def _begin(peer: Peer, root: Path, rng: random.Random, path: Path) -> None:
    peer.start(write_on, root, rng.randrange(10**9), 20, str(path))
    assert peer.heard() == "writing"


def _acknowledged(read: dict[Path, int], unsure: set[Path]) -> Iterator[tuple[str, str]]:
    """Yield key and version of each change that was acknowledged since the last call, but for the first of `unsure`."""
    for path, place in list(read.items()):
        if path.exists():
            data = path.read_bytes()
            read[path] = data.rfind(b"\n") + 1
            for line in data[place : read[path]].decode().splitlines():
                key, version = line.split()
                if path in unsure:
                    unsure.discard(path)
                else:
                    yield key, version


# Bulk verbs


def in_bulk(root: Path, verb: str, count: int) -> int:
    """In a peer: create, restore or delete many sessions by one call."""
    with Store(root) as store:
        if verb == "delete":
            say("begins")
            return store.delete_all("bulk:")
        if verb == "restore":
            say("begins")
            return len(store.archive.restore_many("bulk:").restored)
        pairs = ((f"bulk:{n}", {"n": n}) for n in range(count))
        say("begins")
        return store.create_many(pairs, on_exists="skip")


def bulk_verbs_that_are_killed_are_finished_by_the_same_call(root: Path, count: int = 500) -> None:
    """Killed anywhere in the middle, several times: the last call does the rest, and a watcher has seen all of it."""
    with Store(root) as store:
        store.create("other", {})
        knowledge, watch = Knowledge(), store.watch()
        for verb, expected in (("create", set(range(count))), ("restore", set(range(count))), ("delete", set())):
            cut_short = 0
            if verb == "restore":
                store.prune(prefix="bulk:", older_than=0)
            for moment in (0.001, 0.005, 0.02, 0.05):
                before = store.count("bulk:")
                with one_peer() as peer:
                    peer.start(in_bulk, root, verb, count)
                    assert peer.heard() == "begins"
                    time.sleep(moment)
                    peer.kill()
                after = store.count("bulk:")
                assert (after <= before) if verb == "delete" else (before <= after)
                cut_short += after != len(expected)
                knowledge.take(watch.ready())
            with one_peer() as peer:
                assert peer.run(in_bulk, root, verb, count) == abs(len(expected) - after)
            assert cut_short, "every call was over before it was killed"
            found = {session.key: session["n"] for session in store.sessions("bulk:")}
            assert found == {f"bulk:{n}": n for n in expected}
            caught_up(watch, knowledge, {key: version for key, version in truth(store).items() if key != "other"})
        watch.close()
