"""The protocol as a model: every interleaving of writers, refreshers, makers, a list and somebody who deletes the index.

Any process may die at any step. One shard is enough: shards do not know of each other. Safety: a list never shows less
than what was committed before it began. Each rule of the protocol, left out, gives a wrong list. (The rules themselves,
in the real code: test_deviations.py.)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from tests.index.explore import Explored, explore

CHANGE, MARK = "c", "+"
DEAD = "dead"
FREE = -1


class File(NamedTuple):
    """A change file."""

    named: bool = True  # whether its name still leads to it
    text: str = ""
    lock: int = FREE  # the process that holds the index lock on it


class Catalog(NamedTuple):
    file: int
    mark: int  # it knows the changes in front of this place in the file
    row: int  # the revision that it shows


class Shared(NamedTuple):
    """What is on the disk, and who holds which lock."""

    files: tuple[File, ...] = (File(),)
    catalog: Catalog | None = Catalog(0, 0, 0)
    revision: int = 0  # of the shard
    lock: int = FREE
    deletions: int = 0  # how often the index may still be deleted

    def put(self, number: int, **changes: Any) -> Shared:
        """Change one file."""
        files = list(self.files)
        files[number] = files[number]._replace(**changes)
        return self._replace(files=tuple(files))

    def append(self, number: int, what: str) -> Shared:
        return self.put(number, text=self.files[number].text + what)

    def named(self) -> tuple[int, ...]:
        return tuple(number for number, file in enumerate(self.files) if file.named)

    def without(self, me: int) -> Shared:
        """What the kernel does when a process dies: its locks are free."""
        files = tuple(file._replace(lock=FREE) if file.lock == me else file for file in self.files)
        return self._replace(files=files, lock=FREE if self.lock == me else self.lock)


class Seen(NamedTuple):
    """What a writer knows of one change file."""

    file: int
    marked: bool = False  # its change stands behind the last mark in front of `size`
    size: int = 0


class Writer(NamedTuple):
    at: str = "idle"
    updates: int = 1
    known: tuple[Seen, ...] = ()
    todo: int = 0  # which of them is next


def writer(rules: frozenset[str]) -> Any:
    late = "marked after the commit" in rules

    def step(s: Shared, p: Writer, me: int) -> Iterator[tuple[Shared, Writer]]:
        if p.at == "idle":
            if p.updates and s.lock == FREE:
                yield s._replace(lock=me), p._replace(at="commit" if late else "follow")
        elif p.at == "follow":
            known = p.known
            if not known or not all(s.files[seen.file].named for seen in known):
                before = {seen.file: seen for seen in known}
                known = tuple(before.get(n, Seen(n, size=len(s.files[n].text))) for n in s.named())
            yield s, p._replace(at="search" if known else "check", known=known, todo=0)
        elif p.at == "search":
            seen, text = p.known[p.todo], s.files[p.known[p.todo].file].text
            over = MARK in text[seen.size :] and "marks are not searched for" not in rules
            seen = Seen(seen.file, seen.marked and not over, len(text))
            after = p._replace(known=(*p.known[: p.todo], seen, *p.known[p.todo + 1 :]))
            yield s, after._replace(at="append") if not seen.marked else marked(after)
        elif p.at == "append":
            seen = p.known[p.todo]
            known = (*p.known[: p.todo], seen._replace(marked=True), *p.known[p.todo + 1 :])
            yield s.append(seen.file, CHANGE), marked(p._replace(known=known))
        elif p.at == "check":
            right = "the name is not looked at" in rules or all(s.files[seen.file].named for seen in p.known)
            yield s, p._replace(at=("unlock" if late else "commit") if right else "follow")
        elif p.at == "commit":
            yield s._replace(revision=s.revision + 1), p._replace(at="follow" if late else "unlock")
        elif p.at == "unlock":
            yield s._replace(lock=FREE), p._replace(at="idle", updates=p.updates - 1)
        if p.at not in ("idle", DEAD):
            yield s.without(me), Writer(DEAD)

    return step


def marked(p: Writer) -> Writer:
    """Go on to the next change file."""
    return p._replace(at="search", todo=p.todo + 1) if p.todo + 1 < len(p.known) else p._replace(at="check")


class Refresher(NamedTuple):
    at: str = "idle"
    rounds: int = 1
    old: int = 0
    new: int = 0
    mark: int = -1
    row: int = -1  # what it read; -1: nothing
    rotates: bool = False
    after: str = ""


def refresher(rules: frozenset[str]) -> Any:
    early = "the mark is set after the changes are read" not in rules

    def step(s: Shared, p: Refresher, me: int) -> Iterator[tuple[Shared, Refresher]]:
        idle = Refresher(rounds=p.rounds - 1, rotates=p.rotates)
        if p.at == "idle":
            old = s.catalog.file if s.catalog else -1
            if p.rounds and old >= 0 and s.files[old].named and s.files[old].lock == FREE:
                yield s.put(old, lock=me), p._replace(at="begin", old=old)
        elif p.at == "begin":
            if s.catalog is None or s.catalog.file != p.old or not s.files[p.old].named:
                yield s.without(me), idle
            elif p.rotates:
                new = len(s.files)
                made = s._replace(files=(*s.files, File(text=MARK, lock=me)))
                late = "the old file is unlinked after it was read" in rules
                yield made, p._replace(at="read" if late else "unlink", new=new, mark=1)
            elif early:
                made = s.append(p.old, MARK)
                yield made, p._replace(at="read", new=p.old, mark=len(made.files[p.old].text))
            else:
                yield s, p._replace(at="read", new=p.old)
        elif p.at == "unlink":
            yield s.put(p.old, named=False), p._replace(at="read")
        elif p.at == "read":
            assert s.catalog is not None
            text = s.files[p.old].text[s.catalog.mark :] if s.catalog.file == p.old else ""
            after = "shard" if CHANGE in text else "mark"
            yield s, p._replace(at="late" if p.rotates and s.files[p.old].named else after, row=-1, after=after)
        elif p.at == "late":
            yield s.put(p.old, named=False), p._replace(at=p.after)
        elif p.at == "shard":
            if s.lock == FREE or "shards are read without their locks" in rules:
                yield s, p._replace(at="mark", row=s.revision)
            elif "busy shards are not marked again" in rules:
                yield s, p._replace(at="mark")
            else:
                yield s.append(p.new, CHANGE), p._replace(at="mark")
        elif p.at == "mark":
            if p.mark < 0:
                s = s.append(p.new, MARK)
                p = p._replace(mark=len(s.files[p.new].text))
            yield s, p._replace(at="publish")
        elif p.at == "publish":
            row = s.catalog.row if p.row < 0 and s.catalog else p.row
            yield s._replace(catalog=Catalog(p.new, p.mark, row)).without(me), idle
        if p.at not in ("idle", DEAD):
            yield s.without(me), Refresher(DEAD)

    return step


class Maker(NamedTuple):
    at: str = "idle"
    rounds: int = 1
    todo: tuple[int, ...] = ()
    file: int = -1
    mark: int = 0
    row: int = -1


def maker(rules: frozenset[str]) -> Any:
    def step(s: Shared, p: Maker, me: int) -> Iterator[tuple[Shared, Maker]]:
        idle = Maker(rounds=p.rounds - 1)
        if p.at == "idle":
            unusable = s.catalog is None or not s.files[s.catalog.file].named
            if p.rounds and unusable:
                yield s, p._replace(at="lock", todo=s.named())
        elif p.at == "lock":
            if not p.todo:
                yield s, p._replace(at="make")
            elif s.files[p.todo[0]].lock != FREE:
                yield s.without(me), idle
            else:
                yield s.put(p.todo[0], named=False), p._replace(todo=p.todo[1:])
        elif p.at == "make":
            made = s.without(me)._replace(files=(*s.without(me).files, File(lock=me)))
            yield made, p._replace(at="alone", file=len(made.files) - 1)
        elif p.at == "alone":
            if s.named() == (p.file,):
                made = s.append(p.file, MARK)
                yield made, p._replace(at="read", mark=len(made.files[p.file].text))
            else:
                yield s.put(p.file, named=False).without(me), idle
        elif p.at == "read":
            if s.lock == FREE or "shards are read without their locks" in rules:
                yield s, p._replace(at="publish", row=s.revision)
            elif "busy shards are not marked again" in rules:
                yield s, p._replace(at="publish", row=s.revision)
            else:
                yield s.append(p.file, CHANGE), p._replace(at="publish", row=s.revision)
        elif p.at == "publish":
            published = s._replace(catalog=Catalog(p.file, p.mark, p.row)) if s.files[p.file].named else s
            yield published.without(me), idle
        if p.at not in ("idle", DEAD):
            yield s.without(me), Maker(DEAD)

    return step


def deleter(s: Shared, p: int, me: int) -> Iterator[tuple[Shared, int]]:
    """Somebody deletes the change files."""
    if s.deletions and s.named():
        gone = tuple(file._replace(named=False) for file in s.files)
        yield s._replace(files=gone, deletions=s.deletions - 1), p


class Lister(NamedTuple):
    at: str = "idle"
    must: int = 0  # the revision that was committed when it began
    catalog: Catalog | None = None
    shown: int = 0


def lister(rules: frozenset[str]) -> Any:
    changes_first = "the catalog is asked before the transaction" in rules

    def step(s: Shared, p: Lister, me: int) -> Iterator[tuple[Shared, Lister]]:
        if p.at == "idle":
            yield s, p._replace(at="begin", must=s.revision)
        elif p.at == "begin":
            yield s, p._replace(at="changes" if s.catalog else "scan", catalog=s.catalog)
        elif p.at == "changes":
            assert p.catalog is not None
            if changes_first:
                # As if the rows were read in another transaction than the mark.
                catalog = s.catalog._replace(row=p.catalog.row) if s.catalog else p.catalog
            else:
                catalog = p.catalog
            changed = CHANGE in s.files[catalog.file].text[catalog.mark :]
            yield s, p._replace(at="shard" if changed else "check", catalog=catalog, shown=p.catalog.row)
        elif p.at == "shard":
            yield s, p._replace(at="check", shown=s.revision)
        elif p.at == "check":
            assert p.catalog is not None
            stands = s.files[p.catalog.file].named or "the change file is not looked at" in rules
            yield s, p._replace(at="done" if stands else "scan")
        elif p.at == "scan":
            yield s, p._replace(at="done", shown=s.revision)

    return step


def wrong(s: Shared, locals_: tuple[Any, ...]) -> str | None:
    shown = locals_[-1]
    if shown.at == "done" and shown.shown < shown.must:
        return f"revision {shown.must} was committed before the list began, which shows {shown.shown}"
    return None


def explored(
    *rules: str,
    updates: tuple[int, ...] = (2,),
    refreshes: tuple[int, ...] = (),
    rotates: bool = False,
    makes: tuple[int, ...] = (),
    deletions: int = 0,
) -> Explored:
    """Explore so many writers, refreshers and makers with so many rounds each, with some rules left out."""
    left_out = frozenset(rules)
    processes: list[Any] = [(writer(left_out), Writer(updates=count)) for count in updates]
    processes += [(refresher(left_out), Refresher(rounds=count, rotates=rotates)) for count in refreshes]
    processes += [(maker(left_out), Maker(rounds=count)) for count in makes]
    start = Shared(deletions=deletions)
    return explore(start, [*processes, (deleter, 0), (lister(left_out), Lister())], wrong, limit=12_000_000)


SMALL: dict[str, dict[str, Any]] = {
    "refreshed": {"updates": (2,), "refreshes": (2,)},
    "two writers, one refresh": {"updates": (1, 1), "refreshes": (1,)},
    "two refreshers": {"updates": (1,), "refreshes": (1, 1)},
    "rotated": {"updates": (1,), "refreshes": (1, 1), "rotates": True},
    "made anew": {"updates": (2,), "makes": (1,), "deletions": 1},
}
LARGE: dict[str, dict[str, Any]] = {
    "two writers": {"updates": (1, 1), "refreshes": (2,)},
    "two refreshers, two updates": {"updates": (2,), "refreshes": (1, 1)},
    "rotated, two updates": {"updates": (2,), "refreshes": (1, 1), "rotates": True},
    "made anew by two": {"updates": (1,), "makes": (1, 1), "deletions": 1},
    "made anew and refreshed": {"updates": (2,), "refreshes": (1,), "makes": (1,), "deletions": 1},
    "two makers": {"updates": (2,), "makes": (1, 1), "deletions": 1},
    "rotated and made anew": {"updates": (1,), "refreshes": (1,), "rotates": True, "makes": (1,), "deletions": 1},
    "two of each": {"updates": (2, 1), "refreshes": (1, 1)},
    "everything": {"updates": (1, 1), "refreshes": (1,), "makes": (1,), "deletions": 1},
}


@pytest.mark.parametrize(
    "size", [*SMALL, *(pytest.param(name, marks=pytest.mark.exhaustive) for name in LARGE)], ids=lambda name: name
)
def test_the_protocol_is_right(size: str) -> None:
    """Whoever dies wherever: no list shows less than was committed before it began. Explored to the end."""
    found = explored(**{**SMALL, **LARGE}[size])
    assert found.wrong is None, "\n".join(map(str, found.trace))
    assert found.states > 5_000


RULES: dict[str, str] = {
    "marked after the commit": "refreshed",
    "marks are not searched for": "refreshed",
    "the mark is set after the changes are read": "refreshed",
    "busy shards are not marked again": "refreshed",
    "shards are read without their locks": "refreshed",
    "the catalog is asked before the transaction": "refreshed",
    "the old file is unlinked after it was read": "rotated",
    "the name is not looked at": "rotated",
    "the change file is not looked at": "made anew",
}


@pytest.mark.parametrize("rule", RULES)
def test_without_one_rule_it_is_wrong(rule: str) -> None:
    """Each rule is needed."""
    assert explored(rule, **SMALL[RULES[rule]]).wrong is not None


@pytest.mark.parametrize("rule", ["busy shards are not marked again", "shards are read without their locks"])
def test_without_one_rule_making_it_anew_is_wrong(rule: str) -> None:
    """A maker needs them as a refresher does."""
    assert explored(rule, **SMALL["made anew"]).wrong is not None
