"""Compaction: give unused space back, one locked session at a time, beside running writers. Removes no session.

Each step is whole by itself, and decides again inside the lock on the journal that it reads there. So an interruption
loses nothing, and the next run goes on. Names are synced for many steps together, and a report has only synced steps.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Final

from shardstore._files.file import discard_dead, read_file
from shardstore._files.index.upkeep import refresh_all, vacuum
from shardstore._files.layout import ARCHIVE, INDEX, is_shard_of
from shardstore._files.maintenance import logs
from shardstore._files.maintenance.scan import StoreFile, scan
from shardstore.errors import (
    CommitUncertain,
    CorruptShard,
    LockTimeout,
    SessionNotFound,
    ShardStoreError,
    StoreNotFound,
)
from shardstore.reports import Action, CompactReport, Skipped

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from shardstore._files.engine import FileEngine
    from shardstore._files.shard import Shard
    from shardstore._files.transaction import FileTransaction
    from shardstore._journal.replay import Journal
    from shardstore._model import State
    from shardstore._progress import Progress

BLOCK: Final = 4096  # bytes: what a file system allocates at least
RECORD_OVERHEAD: Final = 256  # bytes: a rewritten journal is its entry and about this much
IDLE_SECONDS: Final = 3600  # space is given back when a session has rested this long


def compact(
    engine: FileEngine, *, dry_run: bool, progress: Progress | None, scan_progress: Progress | None = None
) -> CompactReport:
    """Implement Store.compact."""
    return _Compaction(engine, dry_run=dry_run).run(progress or _silent, scan_progress)


def _silent(_done: int, _total: int) -> None:
    pass


class _Compaction:
    def __init__(self, engine: FileEngine, *, dry_run: bool) -> None:
        self.engine = engine
        self.dry_run = dry_run
        self.batch = engine.batch(durable=True)
        self.waiting: list[Action] = []  # done, and not synced yet
        self.actions: list[Action] = []
        self.skipped: list[Skipped] = []

    def run(self, progress: Progress, scan_progress: Progress | None) -> CompactReport:
        files = list(scan(self.engine.layout))
        with self.batch:
            for done, file in enumerate(files):
                progress(done, len(files))
                if self.batch.due:
                    self._sync()
                if file.log is not None:
                    self._sweep_log(file)
                elif file.owner is not None:
                    self._sweep(file)
                elif file.shard:
                    self._tend(file)
            self._sync()
        self._sweep_archive()
        if not self.dry_run:
            self._tend_index(scan_progress)
            self._sync()
        progress(len(files), len(files))
        freed = sum(action.bytes_freed for action in self.actions)
        return CompactReport(self.dry_run, tuple(self.actions), freed, tuple(self.skipped))

    def _sync(self) -> None:
        """Sync the group, and report its actions as done, or as failed if the sync failed."""
        waiting, self.waiting = self.waiting, []
        try:
            self.batch.sync()
        except CommitUncertain as error:
            self.skipped += [Skipped("", one.key, str(error), failed=True) for one in waiting]
        else:
            self.actions += waiting

    def _tend_index(self, scan_progress: Progress | None) -> None:
        try:
            refresh_all(self.engine.index.lister, scan_progress)
            freed = vacuum(self.engine.index.lister)
        except (ShardStoreError, OSError) as error:
            self.skipped.append(Skipped(INDEX, None, str(error), failed=True))
            return
        if freed:
            self._did("refresh-index", None, 0, "unused space in the index", freed=freed)

    # One file at a time

    def _tend(self, file: StoreFile) -> None:
        """Rewrite, trim or drop one shard, as it needs."""
        path = self.engine.layout.shard_path(file.name)
        try:
            journal, _ = read_file(path)
            size = os.path.getsize(path)
        except FileNotFoundError:
            return
        except CorruptShard as error:
            self.skipped.append(Skipped(file.path, error.key, f"damaged: {error.reason}; run verify", failed=True))
            return
        except OSError as error:
            self.skipped.append(Skipped(file.path, None, str(error), failed=True))
            return
        key = journal.state.key
        if key is not None and not is_shard_of(file.name, key):
            why = f"belongs to session {key!r}; run verify"
            self.skipped.append(Skipped(file.path, key, why, failed=True))
            return
        need = _need(journal, size)
        if need is None:
            return
        verb, why, freed = need
        if self.dry_run:
            self._did(verb, key, size, why, age=_age(journal.state), freed=freed)
        elif key is None:
            shard = self.engine.pool.unnamed(file.name)
            try:
                self._do(file, shard, verb, why)
            finally:
                shard.close_if_idle()
        else:
            self._do(file, self.engine.pool.shard(key), verb, why)

    def _do(self, file: StoreFile, shard: Shard, verb: str, why: str) -> None:
        """Carry out the action that one shard needs, unless the shard changed since."""

        def act(txn: FileTransaction) -> None:
            before, age = txn.journal_size, _age(txn.state)
            need = _need(txn.journal, before)
            if need is None or need[0] != verb:
                return
            txn.repair_tail()
            if verb == "rewrite":
                txn.rewrite()
            elif verb == "rewrite-log":
                freed = need[2]
                txn.rewrite(new_log=True)
                self._did(verb, txn.state.key or file_key, before, why, age=age, freed=freed)
                return
            elif verb == "trim":
                txn.trim()
            else:
                if txn.journal.records:
                    logs.sweep_all(txn, self.engine.layout, shard.name)
                txn.remove()
            after = 0 if verb == "drop-tombstone" else txn.journal_size
            self._did(verb, txn.state.key or file_key, before, why, age=age, freed=before - after)

        file_key = None if shard.key == shard.name else shard.key
        self._locked(file, shard, act)

    def _sweep(self, file: StoreFile) -> None:
        """Remove a temp that no living writer has, unless its shard is damaged: it may be all that is left.

        The shard's lock keeps out a writer that has just made it.
        """
        path = self.engine.layout.shard_path(file.name)
        try:
            size = os.path.getsize(path)
        except OSError:
            return  # renamed into place meanwhile
        if self.dry_run:
            self._did("sweep-temp", None, size, "left by a rewrite that died", freed=size)
            return

        def act(_txn: FileTransaction) -> None:
            if discard_dead(path):
                self._did("sweep-temp", None, size, "left by a rewrite that died", freed=size)

        assert file.owner is not None
        self._locked_by_name(file, file.owner, act)

    def _sweep_log(self, file: StoreFile) -> None:
        """Remove a log file that no journal names, or keep it in quarantine/."""
        owner, file_id = file.owner, file.log
        assert owner is not None
        assert file_id is not None
        if not logs.is_unused(self.engine.layout, owner, file_id):
            return
        try:
            size = os.path.getsize(self.engine.layout.shard_path(file.name))
        except OSError:
            return  # gone meanwhile
        if self.dry_run:
            self._did("sweep-log", None, size, "no journal names it", freed=size)
            return

        def act(txn: FileTransaction) -> None:
            swept = logs.sweep(self.engine, txn, owner, file_id)
            if swept is not None:
                self._did("sweep-log", None, size, swept.why, freed=0 if swept.kept else size)

        self._locked_by_name(file, owner, act)

    def _sweep_archive(self) -> None:
        """Remove log files in archive/ that belong to no archived session: a move that died left them."""
        layout = self.engine.layout
        for owner, name in logs.unused_in_archive(layout):
            file, path = StoreFile(f"../{ARCHIVE}/{name}", shard=False), layout.archive / name

            def act(_txn: FileTransaction, owner: str = owner, name: str = name, path: Path = path) -> None:
                if logs.is_unused_in_archive(layout, owner, name):
                    size = path.stat().st_size
                    path.unlink()
                    self._did("sweep-log", None, size, "no archived session names it", freed=size)

            if self.dry_run:
                size = path.stat().st_size
                self._did("sweep-log", None, size, "no archived session names it", freed=size)
            else:
                self._locked_by_name(file, owner, act)

    def _locked_by_name(self, file: StoreFile, owner: str, act: Callable[[FileTransaction], None]) -> None:
        """Call `act` inside the lock of the shard with this name, which is made for that where there is none."""
        shard = self.engine.pool.unnamed(owner)
        try:
            self._locked(file, shard, act, create=True)
        finally:
            shard.close_if_idle()

    def _locked(
        self, file: StoreFile, shard: Shard, act: Callable[[FileTransaction], None], *, create: bool = False
    ) -> None:
        """Call `act` inside the shard's lock if it is free right now; else, or when it fails, report it as skipped."""
        key = None if shard.key == shard.name else shard.key
        try:
            with self.batch.transaction_on_file(shard, create=create) as txn:
                act(txn)
        except SessionNotFound:
            return  # its file is gone
        except LockTimeout as error:
            owner = f" by process {error.pid}" if error.pid else ""
            self.skipped.append(Skipped(file.path, key, f"in use{owner}"))
        except StoreNotFound:
            raise
        except (ShardStoreError, OSError) as error:
            self.skipped.append(Skipped(file.path, key, str(error), failed=True))

    def _did(  # noqa: PLR0913  # the members of an Action
        self, action: str, key: str | None, size: int, why: str, *, age: float | None = None, freed: int = 0
    ) -> None:
        self.waiting.append(Action(action, key, size, why, age, freed))


def _need(journal: Journal, size: int) -> tuple[str, str, int] | None:
    """Return what a shard with this journal and file size needs, why, and about how many bytes that frees."""
    state = journal.state
    if not state.exists:
        return "drop-tombstone", "deleted" if journal.records else "an empty shard", size
    log, settled = state.log, state.log.settled
    dead = settled.lines - (log.kept - log.dropped)
    if settled.file and 2 * dead > settled.lines:
        return "rewrite-log", f"{dead:,} of {settled.lines:,} items were dropped", settled.end * dead // settled.lines
    rewritten = _blocks(state.size + log.bytes + RECORD_OVERHEAD)
    if journal.records > 1 and rewritten * 2 <= _blocks(journal.end):
        return "rewrite", f"{journal.records:,} records for {state.size:,} bytes", size - rewritten
    if _blocks(journal.end) < _blocks(size) and _age(state) > IDLE_SECONDS:
        return "trim", "unused space", size - journal.end
    return None


def _blocks(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def _age(state: State) -> float:
    return time.time() - state.updated_at / 1e6
