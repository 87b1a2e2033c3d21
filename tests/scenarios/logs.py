"""The log of a session: appends of many processes, and what a settle that died leaves behind."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from shardstore import CorruptShard, LockTimeout, LogReplaced, SessionExists, SessionNotFound, Store
from shardstore._files import logfile
from tests.support import actions, disk, settling
from tests.support.peer import Peer, Peers, peers

KEY = "agent:main:chat"
_MORE_S = 60.0  # seconds that a race on a busy machine goes on


def small_settles() -> None:
    """Let the journal of this process keep few items, so that a short run settles often."""
    settling.settle_at(4096)


def item(writer: int, number: int) -> dict[str, Any]:
    """Return an item that shows by itself whether it is whole."""
    return {"writer": writer, "number": number, "text": f"{writer}:{number}," * (10 + number % 60)}


def count(draft: Any) -> None:
    """Write into the fields how long the log is that they are committed with."""
    draft["length"], draft["dropped"] = len(draft.log), draft.log.dropped


def append_many(root: Path, writer: int, first: int, times: int, pause: float = 0.0) -> None:
    """In a peer: append one item after the other, each with a pause between reading and writing."""
    small_settles()

    def change(draft: Any) -> None:
        count(draft)
        time.sleep(pause)

    with Store(root, durability="relaxed", lock_timeout=60.0) as store:
        for number in range(first, first + times):
            store.append(KEY, [item(writer, number)], change if pause else count, ids=[f"{writer}-{number}"])


def append_until_killed(root: Path, writer: int, journal: str) -> None:
    """In a peer: append for ever; write down what was acknowledged."""
    small_settles()
    with Store(root, durability="relaxed", lock_timeout=60.0) as store, open(journal, "a") as done:
        number = sum(1 for _ in open(journal))
        while True:
            store.append(KEY, [item(writer, number)], count, ids=[f"{writer}-{number}"])
            done.write(f"{number}\n")
            done.flush()
            number += 1


def check(session: Any) -> list[dict[str, Any]]:
    """Check one snapshot: fields and log of one commit, each item whole, each writer's items in order. Return them."""
    items = session.log[:]
    assert len(items) == len(session.log)
    if "length" in session:
        assert (session["length"], session["dropped"]) == (len(items), session.log.dropped), "fields and log disagree"
    seen: dict[int, int] = {}
    for one in items:
        assert one == item(one["writer"], one["number"]), "a spliced item"
        assert one["number"] > seen.get(one["writer"], -1), "an item twice, or out of order"
        seen[one["writer"]] = one["number"]
    return items


def many_writers(root: Path, writers: int = 4, times: int = 120, pause: float = 0.0) -> None:
    """Processes append to one session: nothing is lost, doubled or spliced, and each writer's order stays."""
    with peers(writers) as group:
        group.each(append_many, [(root, number, 0, times, pause) for number in range(writers)])
    with Store(root) as store:
        items = check(store[KEY])
    found = {number: [one["number"] for one in items if one["writer"] == number] for number in range(writers)}
    assert found == {number: list(range(times)) for number in range(writers)}


def many_writers_retry(root: Path, writers: int = 2, times: int = 60) -> None:
    """Every append is sent twice, as a host does that saw no answer: each item stands there once."""
    many = [(root, number, 0, times) for number in range(writers)]
    with peers(writers) as group:
        group.each(append_many, many)
        group.each(append_many, many)
    with Store(root) as store:
        assert len(check(store[KEY])) == writers * times


class Race:
    """Writers that are killed and stopped, beside readers of tails, cuts, compaction, archive and restore."""

    def __init__(self, root: Path, seconds: float, writers: int, seed: int) -> None:
        """Create the session."""
        small_settles()
        self.root, self.random = root, random.Random(seed)
        self.journals = [root.parent / f"acknowledged-{number}" for number in range(writers)]
        for journal in self.journals:
            journal.touch()
        self.counts = {"reads": 0, "cuts": 0, "kills": 0, "moves": 0}
        self.gone: set[tuple[int, int]] = set()  # items that were dropped on purpose
        self.failures: list[str] = []
        self.store = Store(root, durability="relaxed", lock_timeout=30.0)
        self.store.create(KEY, {})
        self.until = time.monotonic() + _MORE_S

    def goes_on(self) -> bool:
        """Return whether nothing is wrong, and there is time left, or the machine is so busy that little was done."""
        now, counts = time.monotonic(), self.counts
        little = counts["kills"] < 2 or counts["reads"] < 101 or counts["cuts"] < 2
        return not self.failures and (now < self.until or (little and now < self.until + _MORE_S))

    def read(self) -> None:
        """Read tails and ranges, and now and then everything."""
        with Store(self.root, read_only=True, create=False) as reader:
            while self.goes_on():
                session = reader.get(KEY)
                try:
                    log = session.log if session is not None else []
                    start = self.random.randrange(len(log) + 1)
                    for some in (log[-5:], log[start : start + 5], log[start - 70 : start + 70]):
                        assert all(one == item(one["writer"], one["number"]) for one in some)
                    if session is not None and self.counts["reads"] % 10 == 0:
                        check(session)
                except LogReplaced:
                    continue
                except (AssertionError, CorruptShard) as error:
                    self.failures.append(repr(error))
                self.counts["reads"] += 1

    def change(self) -> None:
        """Drop the older half, cut the newest, compact, archive and restore."""
        while self.goes_on():
            choice = self.random.random()
            try:
                if choice < 0.4:
                    self._remove(lambda log: slice(len(log) // 2))
                elif choice < 0.6:
                    self._remove(lambda log: slice(-self.random.randrange(1, 9), None))
                elif choice < 0.8:
                    self.store.compact()
                elif self.store.prune(max_entries=0).actions:
                    self._restore()
            except (SessionNotFound, LockTimeout):
                pass
            time.sleep(0.05)

    def _remove(self, which: Callable[[Any], slice]) -> None:
        with self.store.edit(KEY, create=False) as draft:
            places = which(draft.log)
            gone = [(one["writer"], one["number"]) for one in draft.log[places]]
            del draft.log[places]
            count(draft)
        self.gone.update(gone)
        self.counts["cuts"] += 1

    def _restore(self) -> None:
        """Bring the session back; what a writer has made meanwhile under its key goes in front of it."""
        while True:
            try:
                self.store.archive.restore(KEY)
                break
            except SessionExists:
                with suppress(SessionNotFound), self.store.edit(KEY, create=False) as draft:
                    self.gone.update((one["writer"], one["number"]) for one in draft.log)
                    draft.delete()
        self.counts["moves"] += 1

    def disturb(self, group: Peers) -> None:
        """Kill and stop writers now and then."""
        while self.goes_on():
            time.sleep(0.2)
            number = self.random.randrange(len(group))
            if self.random.random() < 0.3:
                group[number].stop()
                time.sleep(0.1)
                group[number].resume()
                continue
            group[number].kill()
            group[number].close()
            group[number] = Peer()
            group[number].start(append_until_killed, self.root, number, str(self.journals[number]))
            self.counts["kills"] += 1


def a_race(root: Path, seconds: float = 6.0, writers: int = 8, seed: int = 1) -> dict[str, int]:
    """Run the race; every acknowledged item stands in the log, once and whole, or was dropped on purpose."""
    race = Race(root, seconds, writers, seed)
    with peers(writers) as group:
        for number, peer in enumerate(group):
            peer.start(append_until_killed, root, number, str(race.journals[number]))
        waits = [actions.in_background(work) for work in (race.read, race.read, race.change)]
        race.until = time.monotonic() + seconds  # starting them may take seconds by itself
        race.disturb(group)
        for wait in waits:
            wait()
        for peer in group:
            peer.kill()
    race.store.close()
    assert not race.failures, race.failures
    _nothing_is_lost(root, race.journals, race.gone)
    return race.counts


def _nothing_is_lost(root: Path, journals: list[Path], gone: set[tuple[int, int]]) -> None:
    """Everything that was acknowledged stands in the log, or was dropped on purpose."""
    with Store(root) as store:
        session = store.get(KEY) or store.archive.restore(KEY)
        here = {(one["writer"], one["number"]) for one in check(session)}
    for number, journal in enumerate(journals):
        done = {(number, int(line)) for line in journal.read_text().split()}
        assert done <= here | gone, f"lost of writer {number}: {sorted(done - here - gone)[:5]}"


def two_writers(root: Path) -> None:
    """Two processes append to one session at once, with a millisecond between reading and writing."""
    many_writers(root, writers=2, times=100, pause=0.001)


def a_changed_item_is_refused(root: Path) -> None:
    """One byte of a settled item is another one: no read returns it, alone or among others."""
    small_settles()
    with Store(root) as store:
        for number in range(40):
            store.append(KEY, [item(0, number)], ids=[f"id{number}"])
        log = store.engine.read(KEY).log
        path = Path(logfile.LogFiles(str(root)).path(_name(store), log.settled))
        data = path.read_bytes()
        path.write_bytes(data.replace(b'"text":"0:3,', b'"text":"0:7,', 1))
        assert path.read_bytes() != data
        for start, stop in ((3, 4), (0, 5), (0, log.kept)):
            for read in (store[KEY].log.__getitem__, lambda places: store[KEY].log.ids(places.start, places.stop)):
                try:
                    found = read(slice(start, stop))
                except CorruptShard:
                    continue
                raise AssertionError(f"items {start} to {stop} were read: {found}")
        path.write_bytes(data)


def after_a_settle_that_died(root: Path) -> None:
    """What a settle wrote before its writer died never happened: the next one writes over it, and all is read back."""
    small_settles()
    with Store(root) as store:
        for number in range(40):
            store.append(KEY, [item(0, number)], count)
        log = store.engine.read(KEY).log
        assert log.settled.file
        path = Path(logfile.LogFiles(str(root)).path(_name(store), log.settled))
        with path.open("ab") as file:
            file.write(path.read_bytes()[-700:] + b"half a line")
        for number in range(40, 80):
            store.append(KEY, [item(0, number)], count)
        assert [one["number"] for one in check(store[KEY])] == list(range(80))


def _name(store: Store) -> str:
    return os.path.relpath(str(store.engine.place(KEY)), f"{store.root}/shards")


def a_snapshot_never_reads_what_came_later(root: Path) -> None:
    """A session whose log was cut and written anew says so; it never hands out the new items as its own."""
    small_settles()
    with Store(root) as store:
        for number in range(40):
            store.append(KEY, [item(0, number)])
        before = store[KEY]
        with store.edit(KEY) as draft:
            del draft.log[5:]
        for number in range(40):
            store.append(KEY, [item(1, number)])
        try:
            found = before.log[:]
        except LogReplaced:
            return
        assert found == [item(0, number) for number in range(40)], "items of another time"


def the_log_is_synced_before_the_journal_names_it(root: Path) -> None:
    """In the order of the system calls: bytes of the log, its sync, the rename of the journal."""
    from shardstore._files import disk

    small_settles()
    events: list[str] = []
    sync, rename = disk.sync, os.rename

    def synced(fd: int) -> None:
        name = os.readlink(f"/proc/self/fd/{fd}")
        sync(fd)
        events.append("log" if name.endswith(".log.jsonl") else "journal")

    def renamed(source: str, target: str) -> None:
        rename(source, target)
        events.append("rename")

    with Store(root) as store:
        disk.sync, os.rename = synced, renamed
        try:
            settles = 0
            for number in range(60):
                events.clear()
                store.append(KEY, [item(0, number)])
                if "rename" in events:
                    settles += 1
                    assert "log" in events[: events.index("rename")], events
            assert settles > 2
        finally:
            disk.sync, os.rename = sync, rename


def an_older_journal_put_back_alone(root: Path) -> None:
    """Its log's file holds newer items behind the end: they are no part of what comes, and no snapshot reads a mixture."""

    def some(first: int, stop: int, prefix: str, store: Store) -> None:
        items = [{"n": number, "by": prefix, "text": "x" * 1_000} for number in range(first, stop)]
        store.append(KEY, items, ids=[f"{prefix}{number}" for number in range(first, stop)])

    with Store(root) as store:
        some(0, 400, "i", store)
        journal = disk.shard(root, KEY)
        backup = journal.read_bytes()
        some(400, 1_200, "i", store)
        newer = store[KEY]
        assert newer.log.find("i900") == 900
        aside = journal.with_suffix(".aside")
        aside.write_bytes(backup)
        aside.replace(journal)
        time.sleep(2 * disk.CHECK_S)
        assert len(store[KEY].log) == 400
        assert store[KEY].log.find("i900") is None
        some(400, 750, "j", store)
        assert [store[KEY].log.find(name) for name in ("j500", "i399", "i500")] == [500, 399, None]
        some(500, 501, "j", store)
        assert len(store[KEY].log) == 750, "an item that stands in the log was added a second time"
        with suppress(LogReplaced):
            assert [item["by"] for item in newer.log] == ["i"] * 1_200
        assert [item["n"] for item in store[KEY].log] == list(range(750))
        assert store.verify().ok
