"""Journals for the tests of what reads them, made by the tests' own writer."""

from __future__ import annotations

from typing import Any

from shardstore._journal import replay as journal
from tests.support import disk

AT = 1_763_800_000_000_000


def lines(count: int, *, durable: bool, size: int = 20) -> list[bytes]:
    """Return a journal of so many records: a put and changes."""
    head: dict[str, Any] = {"durable": True} if durable else {}
    made = [
        disk.line(
            {"rev": 1, "at": AT, "by": "x", **head, "id": "0" * 24, "key": "k", "put": {"n": 1, "pad": "p" * size}}
        )
    ]
    made += [
        disk.line({"rev": n, "at": AT + n, "by": "x", **head, "set": {"n": n, "pad": f"{n}" * size}})
        for n in range(2, count + 1)
    ]
    return made


def rev_or_damage(data: bytes) -> int | str:
    """Return the revision a journal ends with (0: absent), or what is wrong with it."""
    found = journal.replay(data)
    return found.journal.state.rev if found.damage is None else found.damage.reason
