"""Compaction: bound the disk, one locked session at a time, beside running writers.

Each step is whole by itself and decides again inside the lock, on what it reads there: stopping anywhere loses
nothing, and running again goes on where it stopped.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from shardstore._files.file import discard_dead, read_state
from shardstore._files.layout import INDEX, SHARDS, is_shard_of
from shardstore._files.maintenance.archive import archive
from shardstore._files.maintenance.scan import Found, walk
from shardstore.errors import CorruptShard, LockTimeout, ShardStoreError, StoreNotFound
from shardstore.query import parse
from shardstore.reports import Action, CompactReport, Skipped

if TYPE_CHECKING:
    from collections.abc import Callable

    from shardstore._files.engine import Engine
    from shardstore._files.index.progress import Progress
    from shardstore._files.shard import Shard
    from shardstore._journal.replay import State
    from shardstore._retention import Removal, Retention

BLOCK = 4096  # what a file system allocates at least
RECORD_OVERHEAD = 256  # a rewritten journal is its entry and about this much
IDLE_SECONDS = 3600  # room is given back when a session has rested this long


def compact(  # noqa: PLR0913  # what Store.compact is asked, and what it knows of its caller
    engine: Engine,
    rules: Retention,
    *,
    purge: bool,
    dry_run: bool,
    progress: Progress | None,
    scan_progress: Progress | None = None,
) -> CompactReport:
    """Do what Store.compact says."""
    return _Compaction(engine, scan_progress, purge=purge, dry_run=dry_run).run(rules, progress or _silent)


def _silent(_done: int, _total: int) -> None:
    pass


class _Compaction:
    def __init__(self, engine: Engine, scan_progress: Progress | None, *, purge: bool, dry_run: bool) -> None:
        self.engine = engine
        self.scan_progress = scan_progress
        self.purge = purge
        self.dry_run = dry_run
        self.actions: list[Action] = []
        self.skipped: list[Skipped] = []

    def run(self, rules: Retention, progress: Progress) -> CompactReport:
        removals = self._plan(rules)
        files = list(walk(self.engine.layout))
        total = len(removals) + len(files)
        for done, removal in enumerate(removals):
            progress(done, total)
            self._remove(removal)
        gone = {removal.info.key for removal in removals}
        for done, found in enumerate(files, len(removals)):
            progress(done, total)
            self._tend(found, gone)
        if not self.dry_run:
            self._tend_index()
        progress(total, total)
        freed = sum(action.bytes_freed for action in self.actions)
        return CompactReport(self.dry_run, tuple(self.actions), freed, tuple(self.skipped))

    def _tend_index(self) -> None:
        try:
            self.engine.index.refresh(self.scan_progress)
            freed = self.engine.index.vacuum()
        except (ShardStoreError, OSError) as error:
            self.skipped.append(Skipped(INDEX, None, str(error), failed=True))
            return
        if freed:
            self._did("refresh-index", None, 0, "unused room in the index", None, freed)

    def _plan(self, rules: Retention) -> list[Removal]:
        if not rules.removes:
            return []
        query = parse(rules.prefix, rules.where, "updated_at")
        return rules.plan(
            self.engine.index.select(query, refresh=not self.dry_run, progress=self.scan_progress),
        )

    # One session at a time

    def _remove(self, removal: Removal) -> None:
        """Archive or purge one session, unless it changed since it was chosen."""
        info, verb = removal.info, "purge" if self.purge else "archive"

        def act(shard: Shard, state: State) -> None:
            if state.version != info.version or not state.exists:
                self.skipped.append(Skipped(f"{SHARDS}/{shard.name}", info.key, "changed since it was chosen"))
                return
            size = os.path.getsize(shard.path)
            if self.purge:
                self._drop(shard)
            else:
                archive(self.engine, shard)
            self._did(verb, info.key, size, removal.why, removal.age, size if self.purge else 0)

        shard = self.engine.shards.shard(info.key)
        if self.dry_run:
            size = _size(shard.path)
            self._did(verb, info.key, size, removal.why, removal.age, size if self.purge else 0)
        else:
            self._locked(shard, info.key, act)

    def _tend(self, found: Found, gone: set[str]) -> None:
        """Rewrite, trim, drop or sweep one file, as it needs."""
        if found.owner is not None:
            self._sweep(found)
        elif found.shard:
            path = self.engine.layout.shard_path(found.name)
            try:
                state = read_state(path)
                size = os.path.getsize(path)
            except FileNotFoundError:
                return
            except CorruptShard as error:
                self.skipped.append(Skipped(found.path, error.key, f"damaged: {error.reason}; run verify", failed=True))
                return
            except OSError as error:
                self.skipped.append(Skipped(found.path, None, str(error), failed=True))
                return
            if state.key is not None and not is_shard_of(found.name, state.key):
                why = f"belongs to session {state.key!r}; run verify"
                self.skipped.append(Skipped(found.path, state.key, why, failed=True))
            elif state.key not in gone:
                self._tend_shard(found, state, size)

    def _tend_shard(self, found: Found, state: State, size: int) -> None:
        need = _need(state, size)
        if need is None:
            return
        verb, why, freed = need
        if self.dry_run:
            self._did(verb, state.key, size, why, _age(state), freed)
            return
        if state.key is None:
            self._drop_empty(found)
            return

        def act(shard: Shard, now: State) -> None:
            before = os.path.getsize(shard.path)
            if (_need(now, before) or ("",))[0] != verb:
                return  # it changed since it was looked at
            shard.repair_tail()
            self.engine.index.mark_changed(shard.name)  # its row holds the journal's length
            if verb == "rewrite":
                shard.rewrite()
            elif verb == "trim":
                shard.trim()
            else:
                self._drop(shard)
            self._did(verb, state.key, before, why, _age(now), before - _size(shard.path))

        self._locked(self.engine.shards.shard(state.key), state.key, act)

    def _drop_empty(self, found: Found) -> None:
        """Remove what a creator left that died before its first commit; its key is not known, so by the name."""
        shard = self.engine.shards.unnamed(found.name)

        def act(shard: Shard, state: State) -> None:
            if state.end == 0:
                shard.repair_tail()
                self._drop(shard)
                self._did("drop-tombstone", None, 0, "an empty shard", None, 0)

        self._locked(shard, None, act)

    def _sweep(self, found: Found) -> None:
        """Remove the temp of a rewrite that died. Only the holder of its shard's lock ever has one, and that is us."""
        assert found.owner is not None
        path = self.engine.layout.shard_path(found.name)
        size = _size(path)
        if self.dry_run:
            try:
                read_state(self.engine.layout.shard_path(found.owner))
            except ShardStoreError as error:
                self.skipped.append(Skipped(found.path, None, f"its shard is damaged: {error}", failed=True))
                return
            self._did("sweep-temp", None, size, "left by a rewrite that died", None, size)
            return

        def act(_shard: Shard, _state: State) -> None:
            if discard_dead(path):
                self._did("sweep-temp", None, size, "left by a rewrite that died", None, size)

        shard = self.engine.shards.unnamed(found.owner)
        try:
            self._locked(shard, None, act, create=True)
        finally:
            shard.close_if_idle()

    def _drop(self, shard: Shard) -> None:
        self.engine.index.mark_changed(shard.name)
        shard.remove()

    def _locked(
        self, shard: Shard, key: str | None, act: Callable[[Shard, State], None], *, create: bool = False
    ) -> None:
        """Call `act` inside the shard's lock if it is free right now; else, or when it fails, report it as skipped."""
        try:
            if not shard.lock(0.0, create=create):
                return
            try:
                act(shard, shard.refresh())
            finally:
                shard.unlock()
        except LockTimeout as error:
            owner = f" by process {error.pid}" if error.pid else ""
            self.skipped.append(Skipped(f"{SHARDS}/{shard.name}", key, f"in use{owner}"))
        except StoreNotFound:
            raise
        except (ShardStoreError, OSError) as error:
            self.skipped.append(Skipped(f"{SHARDS}/{shard.name}", key, str(error), failed=True))

    def _did(self, action: str, key: str | None, size: int, why: str, age: float | None, freed: int) -> None:  # noqa: PLR0913
        self.actions.append(Action(action, key, size, why, age, freed))


def _need(state: State, size: int) -> tuple[str, str, int] | None:
    """Give what a shard of this state and file size needs, why, and about how many bytes it frees."""
    if not state.exists:
        return "drop-tombstone", "deleted" if state.records else "an empty shard", size
    rewritten = _blocks(state.size + RECORD_OVERHEAD)
    if state.records > 1 and rewritten * 2 <= _blocks(state.end):
        return "rewrite", f"{state.records:,} records for {state.size:,} bytes", size - rewritten
    if _blocks(state.end) < _blocks(size) and _age(state) > IDLE_SECONDS:
        return "trim", "unused room", size - state.end
    return None


def _size(path: str) -> int:
    try:
        return os.path.getsize(path)
    except FileNotFoundError:
        return 0


def _blocks(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def _age(state: State) -> float:
    return time.time() - state.updated_at / 1000
