"""The summary of a store: its sessions, sizes, held locks and damage."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from . import output
from . import show as looks
from .cmd_list import info_as_json, print_table
from .holders import command_of
from .population import Population, population

if TYPE_CHECKING:
    from shardstore import LockHolder, SessionInfo, Store, StoreStats

TOP = 10
_NOT_COUNTED = "(preallocated space not counted)"


def show(store: Store, *, as_json: bool) -> None:
    """Print the summary."""
    stats = store.stats()
    biggest = store.list(order_by="-size", limit=TOP)
    rewritten = store.list(order_by="-rev", limit=TOP)
    held = store.engine.holders()
    kinds = population(store, TOP, indexed=stats.index_unusable is None)
    if as_json:
        return output.json_object({**_for_programs(store, stats, biggest, rewritten, held), **_of_kinds(kinds)})
    output.pairs([*_facts(store, stats, held), *_kinds(kinds)], whole=("Store",))
    if kinds.running:
        output.heading("Running, and changed longest ago")
        print_table(kinds.running)
    if biggest:
        output.heading(_first(biggest, "biggest session"))
        print_table(biggest)
        output.heading(_first(rewritten, "most rewritten session"))
        print_table(rewritten)
    return None


def _of_kinds(kinds: Population) -> dict[str, Any]:
    return {
        "by_prefix": [{"prefix": prefix, "count": count} for prefix, count in kinds.prefixes],
        "by_status": [{"status": status, "count": count} for status, count in kinds.statuses],
        "oldest_running": [info_as_json(info) for info in kinds.running],
    }


def _kinds(kinds: Population) -> list[tuple[str, str]]:
    """Return how many sessions there are of each prefix and each status; nothing where they are all alike."""
    facts = []
    if len(kinds.prefixes) > 1:
        facts.append(("Keys", ", ".join(f"{looks.text(prefix)} {count:,}" for prefix, count in kinds.prefixes)))
    if kinds.statuses:
        facts.append(("Status", ", ".join(f"{status} {count:,}" for status, count in kinds.statuses)))
    return facts


def _first(found: list[SessionInfo], thing: str) -> str:
    return looks.count(len(found), thing) if len(found) > 1 else f"The {thing}"


def _for_programs(
    store: Store,
    stats: StoreStats,
    biggest: list[SessionInfo],
    rewritten: list[SessionInfo],
    held: list[LockHolder],
) -> dict[str, Any]:
    return {
        "root": store.location,
        **asdict(stats),
        "biggest": [info_as_json(info) for info in biggest],
        "most_rewritten": [info_as_json(info) for info in rewritten],
        "locks": [{"key": one.key, "path": one.path, "pid": one.pid, "command": command_of(one.pid)} for one in held],
    }


def _facts(store: Store, stats: StoreStats, held: list[LockHolder]) -> list[tuple[str, str]]:
    share = stats.bytes_dead / stats.bytes_total if stats.bytes_total else 0.0
    dead = f"history and record overhead {looks.size(stats.bytes_dead)} ({share:.0%})"
    live = f"entries {looks.size(stats.bytes_live)}"
    facts = [
        ("Store", looks.text(store.location)),
        (
            "Sessions",
            f"{stats.sessions:,}" + (f" (and {stats.tombstones:,} deleted)" if stats.tombstones else ""),
        ),
        (
            "Size",
            f"{looks.size(stats.bytes_total)}: {live}, {dead} {_NOT_COUNTED}",
        ),
        ("Index", _index(stats)),
        ("Archive", _archive(stats)),
        ("Damage", _damage(stats)),
    ]
    return facts + [("Locks" if n == 0 else "", text) for n, text in enumerate(_locks(store, held))]


def _archive(stats: StoreStats) -> str:
    return f"{looks.count(stats.archived, 'file')} in archive/, {looks.count(stats.quarantined, 'file')} in quarantine/"


def _index(stats: StoreStats) -> str:
    if stats.index_unusable is not None:
        return f"{stats.index_unusable}: every session was read; `shardstore list` makes it anew"
    return f"{looks.count(stats.pending_changes, 'changed session')} to read again"


def _damage(stats: StoreStats) -> str:
    if not stats.damaged:
        return "none known; `shardstore verify` reads every record"
    named = ", ".join(looks.text(path) for path in stats.damaged[:3])
    return f"{looks.count(len(stats.damaged), 'shard')} cannot be read: {named}; run `shardstore verify`"


def _locks(store: Store, held: list[LockHolder]) -> list[str]:
    if not held:
        return ["none held"]
    lines = []
    for one in held:
        if store.root is None:  # the process may be on another host
            lines.append(f"{looks.text(str(one.key))} held by {looks.text(one.path.rpartition('#')[2])}")
            continue
        name = one.key if one.key is not None else os.path.relpath(one.path, store.location)
        lines.append(
            f"{looks.text(name)} held by {one.pid}" + (f" ({command_of(one.pid)})" if command_of(one.pid) else "")
        )
    return lines
