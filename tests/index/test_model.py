"""The protocol as a model: every interleaving of writers, refreshers and a list, any of which may die at any step.

One shard is enough: shards do not know of each other. Safety: a list never shows less than what was committed before
it began. Each rule of the protocol, left out, gives a wrong list. (The rules themselves, in the real code:
test_deviations.py.)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from tests.index.explore import Explored, explore


class Shared(NamedTuple):
    """What is on the disk, and who holds which lock."""

    generation: int = 0
    notes: frozenset[int] = frozenset()  # the generations that hold a note of the shard
    base: int = 0  # the catalogue knows what was noted before this generation
    row: int = 0  # the revision that the catalogue shows
    revision: int = 0  # of the shard
    lock: int = -1  # the process that holds the shard's lock
    index_lock: int = -1


class Writer(NamedTuple):
    at: str = "idle"
    noted: int = -1  # the generation in which this process has noted the shard
    seen: int = 0
    updates: int = 1


class Refresher(NamedTuple):
    at: str = "idle"
    old: int = 0  # the generation that was current when it began
    row: int = -1  # what it read; -1: nothing to publish
    rounds: int = 1


class Lister(NamedTuple):
    at: str = "idle"
    must: int = 0  # the revision that was committed, by a call that had returned, when it began
    named: bool = False
    row: int = 0
    shown: int = 0


DEAD = "dead"


def released(s: Shared, me: int) -> Shared:
    """What the kernel does when a process dies."""
    return s._replace(lock=-1 if s.lock == me else s.lock, index_lock=-1 if s.index_lock == me else s.index_lock)


def writer(rules: frozenset[str]) -> Any:
    def step(s: Shared, p: Writer, me: int) -> Iterator[tuple[Shared, Writer]]:
        note_first = "note after the commit" not in rules
        if p.at == "idle":
            if p.updates and s.lock < 0:
                yield s._replace(lock=me), p._replace(at="check" if note_first else "commit")
        elif p.at == "check":
            after = "commit" if note_first else "unlock"
            yield s, p._replace(at=after) if p.noted == s.generation else p._replace(at="note", seen=s.generation)
        elif p.at == "note":
            again = "no second look" not in rules and note_first
            noted = p if again else p._replace(noted=p.seen)
            yield (
                s._replace(notes=s.notes | {p.seen}),
                noted._replace(at="look" if again else "commit" if note_first else "unlock"),
            )
        elif p.at == "look":
            yield (
                s,
                p._replace(at="commit", noted=p.seen)
                if s.generation == p.seen
                else p._replace(at="note", seen=s.generation),
            )
        elif p.at == "commit":
            yield s._replace(revision=s.revision + 1), p._replace(at="unlock" if note_first else "check")
        elif p.at == "unlock":
            yield s._replace(lock=-1), p._replace(at="idle", updates=p.updates - 1)
        if p.at not in ("idle", DEAD):
            yield released(s, me), Writer(DEAD)

    return step


def refresher(rules: frozenset[str]) -> Any:
    early = "generation advanced late" not in rules

    def step(s: Shared, p: Refresher, me: int) -> Iterator[tuple[Shared, Refresher]]:
        if p.at == "idle":
            if p.rounds and s.index_lock < 0:
                yield s._replace(index_lock=me), p._replace(at="advance" if early else "notes", old=s.generation)
        elif p.at == "advance":
            yield s._replace(generation=p.old + 1), p._replace(at="notes" if early else "publish")
        elif p.at == "notes":
            named = any(s.base <= number <= p.old for number in s.notes)
            yield s, p._replace(at="shard" if named else "publish" if early else "advance", row=-1)
        elif p.at == "shard":
            following = "publish" if early else "advance"
            if s.lock < 0 or "read without the lock" in rules:
                yield s, p._replace(at=following, row=s.revision)
            elif "busy not carried over" in rules:
                yield s, p._replace(at=following)
            else:
                yield s._replace(notes=s.notes | {p.old + 1}), p._replace(at=following)
        elif p.at == "publish":
            row = s.row if p.row < 0 else p.row
            yield s._replace(row=row, base=p.old + 1), p._replace(at="delete")
        elif p.at == "delete":
            kept = frozenset(number for number in s.notes if number > p.old)
            yield released(s._replace(notes=kept), me), Refresher(rounds=p.rounds - 1)
        if p.at not in ("idle", DEAD):
            yield released(s, me), Refresher(DEAD)

    return step


def lister(rules: frozenset[str]) -> Any:
    def names(s: Shared) -> bool:
        return any(s.base <= number <= s.generation for number in s.notes)

    def step(s: Shared, p: Lister, me: int) -> Iterator[tuple[Shared, Lister]]:
        notes_first = "catalogue before notes" not in rules
        if p.at == "idle":
            yield s, p._replace(at="begin", must=s.revision)
        elif p.at == "begin":
            yield s, p._replace(at="second", named=names(s)) if notes_first else p._replace(at="second", row=s.row)
        elif p.at == "second":
            yield s, p._replace(at="shard", row=s.row) if notes_first else p._replace(at="shard", named=names(s))
        elif p.at == "shard":
            yield s, p._replace(at="done", shown=s.revision if p.named else p.row)

    return step


def wrong(s: Shared, locals_: tuple[Any, ...]) -> str | None:
    shown = locals_[-1]
    if shown.at == "done" and shown.shown < shown.must:
        return f"revision {shown.must} was committed before the list began, which shows {shown.shown}"
    return None


def refreshing(*rules: str, updates: tuple[int, ...] = (2,), rounds: tuple[int, ...] = (2,)) -> Explored:
    """Explore writers that make so many updates and refreshers that refresh so often, with some rules left out."""
    left_out = frozenset(rules)
    processes = [(writer(left_out), Writer(updates=count)) for count in updates]
    processes += [(refresher(left_out), Refresher(rounds=count)) for count in rounds]
    return explore(Shared(), [*processes, (lister(left_out), Lister())], wrong)


@pytest.mark.parametrize(
    ("updates", "rounds"),
    [((2,), (2,)), ((1, 1), (2,)), ((2,), (1, 1)), pytest.param((2, 1), (1, 1), marks=pytest.mark.torture)],
)
def test_the_refresh_is_right(updates: tuple[int, ...], rounds: tuple[int, ...]) -> None:
    """Writers, refreshers, a list, death at any step: no list shows less than was committed before it began."""
    explored = refreshing(updates=updates, rounds=rounds)
    assert explored.wrong is None, "\n".join(map(str, explored.trace))
    assert explored.states > 10_000


@pytest.mark.parametrize(
    "rule",
    ["no second look", "note after the commit", "generation advanced late", "busy not carried over", "read without the lock",
     "catalogue before notes"],
)  # fmt: skip
def test_without_one_rule_the_refresh_is_wrong(rule: str) -> None:
    """Each rule is needed."""
    assert refreshing(rule).wrong is not None


# The other half: the generation file is deleted at any moment, and made anew by whoever lists.


class Store(NamedTuple):
    epoch: int = 0  # of the generation file that the path names; 0: there is none
    made: int = 0  # epochs ever made
    notes: frozenset[int] = frozenset()  # the epochs that hold a note; those of a deleted file go unread
    sealed: int = 0  # the epoch whose catalogue is finished
    row: int = 0
    revision: int = 0
    lock: int = -1
    expired: int = 0  # the last epoch before which no look of any writer is believed any more
    deletions: int = 1


class Noter(NamedTuple):
    at: str = "idle"
    believed: int = -1  # the epoch seen at the last look; 0: that there is none; -1: never looked
    noted: int = -1
    updates: int = 2
    since: int = 0  # epochs made when it looked


class Maker(NamedTuple):
    at: str = "idle"
    epoch: int = 0
    row: int = -1
    rounds: int = 2


def noter(rules: frozenset[str]) -> Any:
    def step(s: Store, p: Noter, me: int) -> Iterator[tuple[Store, Noter]]:
        if p.at == "idle":
            if p.updates and s.lock < 0:
                yield s._replace(lock=me), p._replace(at="check")
        elif p.at == "check":
            fresh = p.believed >= 0 and p.since >= s.expired
            if not fresh:
                yield (
                    s,
                    p._replace(believed=s.epoch, since=s.made, noted=p.noted if p.noted == s.epoch else -1, at="check"),
                )
            elif p.believed in (0, p.noted):
                yield s, p._replace(at="commit")
            else:
                yield s._replace(notes=s.notes | {p.believed}), p._replace(at="commit", noted=p.believed)
            if fresh and p.believed != s.epoch:
                yield s, p._replace(believed=-1)  # the lease ran out by itself
        elif p.at == "commit":
            yield s._replace(revision=s.revision + 1), p._replace(at="unlock")
        elif p.at == "unlock":
            yield s._replace(lock=-1), p._replace(at="idle", updates=p.updates - 1)
        if p.at not in ("idle", DEAD):
            yield s._replace(lock=-1 if s.lock == me else s.lock), Noter(DEAD)

    return step


def maker(rules: frozenset[str]) -> Any:
    def step(s: Store, p: Maker, me: int) -> Iterator[tuple[Store, Maker]]:
        if p.at == "idle":
            if p.rounds and s.epoch == 0:
                yield s._replace(epoch=s.made + 1, made=s.made + 1), p._replace(at="wait", epoch=s.made + 1)
        elif p.at == "wait":
            # Every look before this epoch was made is older than a lease from now on.
            expired = s.expired if "no wait" in rules else max(s.expired, p.epoch)
            yield s._replace(expired=expired), p._replace(at="read")
        elif p.at == "read":
            if s.lock < 0 or "read without the lock" in rules:
                yield s, p._replace(at="seal", row=s.revision)
            elif "busy not noted" in rules:
                yield s, p._replace(at="seal", row=s.revision)
            else:
                yield s._replace(notes=s.notes | {p.epoch}), p._replace(at="seal", row=s.revision)
        elif p.at == "seal":
            # The seal goes into the file that was made; the path may name another by now.
            yield (s._replace(sealed=p.epoch, row=p.row) if s.epoch == p.epoch else s), Maker(rounds=p.rounds - 1)
        if p.at not in ("idle", DEAD):
            yield s, Maker(DEAD)

    return step


def deleter(s: Store, p: int, me: int) -> Iterator[tuple[Store, int]]:
    """Somebody deletes the index, any number of times up to a bound."""
    if s.deletions and s.epoch:
        yield s._replace(epoch=0, deletions=s.deletions - 1), p


def reader(s: Store, p: Lister, me: int) -> Iterator[tuple[Store, Lister]]:
    if p.at == "idle":
        yield s, p._replace(at="names", must=s.revision)
    elif p.at == "names":
        if s.epoch and s.sealed == s.epoch:
            yield s, p._replace(at="shard", named=s.epoch in s.notes, row=s.row)
        else:
            yield s, p._replace(at="shard", named=True)  # it reads every shard
    elif p.at == "shard":
        yield s, p._replace(at="done", shown=s.revision if p.named else p.row)


def deleting(*rules: str, updates: tuple[int, ...] = (2,)) -> Explored:
    """Explore deletion and making anew with some rules left out."""
    left_out = frozenset(rules)
    writers = [(noter(left_out), Noter(updates=count)) for count in updates]
    return explore(Store(), [*writers, (maker(left_out), Maker()), (deleter, 0), (reader, Lister())], wrong)


@pytest.mark.parametrize("updates", [(2,), pytest.param((2, 1), marks=pytest.mark.torture)])
def test_deleting_the_index_is_harmless(updates: tuple[int, ...]) -> None:
    """Writers that believe their last look for a while, a maker, somebody who deletes, a list, death at any step."""
    explored = deleting(updates=updates)
    assert explored.wrong is None, "\n".join(map(str, explored.trace))
    assert explored.states > 1_000


@pytest.mark.parametrize("rule", ["no wait", "read without the lock", "busy not noted"])
def test_without_one_rule_deleting_is_not(rule: str) -> None:
    """Each rule is needed."""
    assert deleting(rule).wrong is not None
