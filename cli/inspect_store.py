"""The summary of a store: its sessions, sizes, held locks and damage."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from . import output, show
from .cmd_list import info_as_json, print_table
from .holders import command_of
from .population import Population, population

if TYPE_CHECKING:
    from shardstore import LockHolder, SessionInfo, Store, StoreStats

TOP = 10
_NOT_COUNTED = "(preallocated space not counted)"


def print_store(store: Store, *, as_json: bool) -> None:
    """Print the summary."""
    stats = store.stats()
    biggest = store.list(order_by="-size", limit=TOP)
    revised = store.list(order_by="-rev", limit=TOP)
    held = store.engine.holders()
    kinds = population(store, TOP, indexed=stats.index_unusable is None)
    if as_json:
        return output.json_object({**_for_programs(store, stats, biggest, revised, held), **_of_kinds(kinds)})
    output.pairs([*_facts(store, stats, held), *_kinds(kinds)], whole=("Store",))
    if kinds.running:
        output.heading("Running, and changed longest ago")
        print_table(kinds.running)
    if biggest:
        output.heading(_first(biggest, "biggest session"))
        print_table(biggest)
        output.heading(_first(revised, "most revised session"))
        print_table(revised)
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
        facts.append(("Keys", ", ".join(f"{show.text(prefix)} {count:,}" for prefix, count in kinds.prefixes)))
    if kinds.statuses:
        facts.append(("Status", ", ".join(f"{status} {count:,}" for status, count in kinds.statuses)))
    return facts


def _first(found: list[SessionInfo], thing: str) -> str:
    return show.count(len(found), thing) if len(found) > 1 else f"The {thing}"


def _for_programs(
    store: Store,
    stats: StoreStats,
    biggest: list[SessionInfo],
    revised: list[SessionInfo],
    held: list[LockHolder],
) -> dict[str, Any]:
    return {
        "root": store.location,
        **asdict(stats),
        "biggest": [info_as_json(info) for info in biggest],
        "most_revised": [info_as_json(info) for info in revised],
        "locks": [
            {"key": one.key, "path": one.path, "pid": one.pid, "command": command_of(one.pid) if store.root else ""}
            for one in held
        ],
    }


def _facts(store: Store, stats: StoreStats, held: list[LockHolder]) -> list[tuple[str, str]]:
    share = stats.bytes_dead / stats.bytes_total if stats.bytes_total else 0.0
    dead = f"history and record overhead {show.size(stats.bytes_dead)} ({share:.0%})"
    live = f"entries {show.size(stats.bytes_live)}"
    facts = [
        ("Store", show.text(store.location)),
        (
            "Sessions",
            f"{stats.sessions:,}" + (f" (and {stats.tombstones:,} deleted)" if stats.tombstones else ""),
        ),
        (
            "Size",
            f"{show.size(stats.bytes_total)}: {live}, {dead} {_NOT_COUNTED}",
        ),
        ("Index", _index(stats)),
        ("Archive", _archive(stats)),
        ("Damage", _damage(stats)),
    ]
    return facts + [("Locks" if n == 0 else "", text) for n, text in enumerate(_locks(store, held))]


def _archive(stats: StoreStats) -> str:
    return f"{show.count(stats.archived, 'file')} in archive/, {show.count(stats.quarantined, 'file')} in quarantine/"


def _index(stats: StoreStats) -> str:
    if stats.index_unusable is not None:
        return f"{stats.index_unusable}: every session was read; `shardstore list` rebuilds it"
    if not stats.pending_changes:
        return "up to date"
    return f"the next list reads {show.count(stats.pending_changes, 'changed session')}"


def _damage(stats: StoreStats) -> str:
    if not stats.damaged:
        return "none known; `shardstore verify` reads every record"
    named = ", ".join(show.text(path) for path in stats.damaged[:3])
    return f"{show.count(len(stats.damaged), 'shard')} cannot be read: {named}; run `shardstore verify`"


def _locks(store: Store, held: list[LockHolder]) -> list[str]:
    if not held:
        return ["none held"]
    lines = []
    for one in held:
        if store.root is None:  # the process may be on another host
            lines.append(f"{show.text(str(one.key))} held by {show.text(one.path.rpartition('#')[2])}")
            continue
        name = one.key if one.key is not None else os.path.relpath(one.path, store.location)
        lines.append(
            f"{show.text(name)} held by {one.pid}" + (f" ({command_of(one.pid)})" if command_of(one.pid) else "")
        )
    return lines
