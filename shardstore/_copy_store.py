"""Copying all sessions of one store into another one, of whichever engine: journals, so versions and history survive.

Each session is whole in the target or not touched at all. A session with the same version stays, so the same call
copies only the sessions that changed since. It leaves alone, and reports, a session that was changed in the target
meanwhile, and sessions that only the target has.

Archived sessions go to the archive of the target, which knows them by their key and the moment at which they moved.
They are only ever added. Damaged files in quarantine stay where they are.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol, cast

from shardstore._journal import replay
from shardstore.errors import (
    CorruptShard,
    InvalidEntry,
    LockTimeout,
    LogReplaced,
    SessionNotFound,
    ShardStoreError,
    StoreNotFound,
    StoreUnavailable,
)
from shardstore.log import read_items
from shardstore.reports import Skipped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from shardstore._log import Item
    from shardstore._model import State
    from shardstore.engine import Engine, Transaction
    from shardstore.reports import ArchivedFile

CHANGED_THERE: Final = "it was changed in the target"
_TRIES: Final = 8  # of reading a journal and its log of the same moment


class Movable(Protocol):
    """An engine that keeps journals: files and PostgreSQL."""

    def journal(self, key: str) -> tuple[bytes, list[Item]]:
        """Return a session's journal, and the settled items of its log. Raises CorruptShard, LogReplaced."""

    def put_journal(self, txn: Transaction, key: str, data: bytes, items: Iterable[Item]) -> None:
        """Put a journal in the place of a session's own, inside its transaction, on the medium."""

    def archived_journal(self, archived: ArchivedFile) -> tuple[bytes, list[Item]]:
        """Return the same of an archived session. Raises CorruptShard, LogReplaced, SessionNotFound."""

    def put_archived(self, key: str, data: bytes, items: Iterable[Item], moved_at: float) -> None:
        """Put a journal into the archive, as if it had moved there at this moment, on the medium."""


@dataclass
class CopyReport:
    """The outcome of a copy, or of its dry run."""

    dry_run: bool
    copied: list[str] = field(default_factory=list)  # keys
    removed: list[str] = field(default_factory=list)  # keys of sessions that are gone from the source since
    archived: list[str] = field(default_factory=list)  # keys of archived sessions that were copied
    quarantined: int = 0  # files, or rows, of the source that are damaged, and stay there
    unchanged: int = 0
    verified: int = 0
    skipped: list[Skipped] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing failed: the target has every session as the source has it."""
        return not any(one.failed for one in self.skipped)


def copy_store(  # noqa: PLR0913  # one for each option of the command
    source: Engine,
    target: Engine,
    *,
    prefix: str = "",
    dry_run: bool,
    verify: bool,
    timeout: float | None,
    progress: Callable[[int, int], None],
) -> CopyReport:
    """Copy every session whose key begins with `prefix`. Raises StoreNotFound, StoreUnavailable."""
    run = _Copying(source, target, CopyReport(dry_run), timeout)
    run.copy_archive(prefix, verify=verify)
    keys = [key for key in source.keys(refresh=True, progress=None) if key.startswith(prefix)]
    for done, key in enumerate(keys):
        progress(done, len(keys))
        run.guarded(key, run.copy)
        if verify and not dry_run:
            run.guarded(key, run.compare)
    there = set(keys)
    for key in target.keys(refresh=True, progress=None):
        if key.startswith(prefix) and key not in there:
            run.guarded(key, run.remove)
    progress(len(keys), len(keys))
    return run.report


class _Copying:
    """One run."""

    def __init__(self, source: Engine, target: Engine, report: CopyReport, timeout: float | None) -> None:
        self._source = source
        self._target = target
        self._timeout = timeout
        self._archived: dict[str, ArchivedFile] = {}  # by key, the newest in the archive of the source
        self.report = report

    def guarded(self, key: str, act: Callable[[str], None]) -> None:
        """Run a step on one session, and report its failure."""
        try:
            act(key)
        except (StoreNotFound, StoreUnavailable):
            raise
        except LockTimeout as error:
            owner = error.holder or error.pid
            self._skip(key, f"in use{f' by process {owner}' if owner else ''}")
        except ShardStoreError as error:
            self._skip(key, str(error))

    def _skip(self, key: str, why: str, *, failed: bool = True) -> None:
        self.report.skipped.append(Skipped(key, key, why, failed=failed))

    def copy(self, key: str) -> None:
        """Bring one session up to date."""
        state = self._source.read(key)
        if not state.exists:
            return  # deleted meanwhile: the next run sees that
        if self._target.read(key).version == state.version:
            self.report.unchanged += 1
            return
        if self.report.dry_run:
            self._decide(key, self._target.read(key))
            return
        with self._target.transaction(key, self._timeout) as txn:
            data = self._decide(key, txn.state)
            if data is not None:
                cast("Movable", self._target).put_journal(txn, key, *data)

    def _decide(self, key: str, there: State) -> tuple[bytes, list[Item]] | None:
        """Return the state that replaces `there`; None if that would undo a change."""
        data, items = self._whole(key)
        found = [state for state in replay.history(data) if state.exists]
        if there.exists and not _is_past(there, found, data) and not self._is_archived(key, there):
            self._skip(key, f"{CHANGED_THERE}, which is at version {there.version}")
            return None
        self.report.copied.append(key)
        return data, items

    def _whole(self, key: str) -> tuple[bytes, list[Item]]:
        """Return journal and log of one moment."""
        for _ in range(_TRIES):
            try:
                data, items = cast("Movable", self._source).journal(key)
            except LogReplaced:
                continue
            if not replay.replay(data).journal.state.exists:
                raise SessionNotFound(key)
            return data, items
        raise LogReplaced(key)

    def remove(self, key: str) -> None:
        """Remove from the target the sessions that were deleted in the source since they were copied."""
        gone = self._source.read(key)
        there = self._target.read(key)
        if gone.exists or not there.exists:
            return
        deleted = gone.rev and gone.incarnation == there.incarnation and there.rev < gone.rev
        if not deleted and not self._is_archived(key, there):
            self._skip(key, "only the target has it", failed=False)
            return
        self.report.removed.append(key)
        if not self.report.dry_run:
            with self._target.transaction(key, self._timeout, create=False) as txn:
                if txn.state.version == there.version:
                    txn.remove()

    def copy_archive(self, prefix: str, *, verify: bool) -> None:
        """Copy the archived sessions that the target's archive lacks."""
        there = Counter(map(_identity, self._target.archived(prefix or None)))
        for one in self._source.archived(prefix or None):
            if one.place != "archive":
                self.report.quarantined += 1
                continue
            if one.key is not None:
                self._archived[one.key] = one
            if there[_identity(one)]:
                there[_identity(one)] -= 1
            else:
                self.guarded(one.key or one.path, partial(self._copy_archived, one, verify=verify))

    def _copy_archived(self, one: ArchivedFile, key: str, *, verify: bool) -> None:
        data, items = cast("Movable", self._source).archived_journal(one)
        self.report.archived.append(key)
        if self.report.dry_run:
            return
        cast("Movable", self._target).put_archived(key, data, items, one.moved_at)
        if verify:
            self._compare_archived(one, replay.replay(data).journal.state, items)

    def _compare_archived(self, one: ArchivedFile, state: State, items: list[Item]) -> None:
        for copy in self._target.archived(one.key):
            if _identity(copy) == _identity(one):
                data, copied = cast("Movable", self._target).archived_journal(copy)
                if replay.replay(data).journal.state.version == state.version and copied == items:
                    self.report.verified += 1
                    return
        raise CorruptShard(self._target.location, 0, "the archived copy differs from its source", one.key)

    def _is_archived(self, key: str, there: State) -> bool:
        """Return whether the source archived the session that the target still has, and the copy is done."""
        if key not in self._archived:
            return False
        last = replay.replay(cast("Movable", self._source).archived_journal(self._archived[key])[0]).journal.state
        return last.incarnation == there.incarnation and there.rev <= last.rev

    def compare(self, key: str) -> None:
        """Compare one session in both stores, item by item."""
        one, other = self._source.read(key), self._target.read(key)
        if one.version != other.version:
            if one.version == self._source.read(key).version and not self._was_skipped(key):
                raise InvalidEntry(key, f"the target has version {other.version}, the source {one.version}")
            return  # it goes on being changed
        mine = read_items(self._source.logs, key, one.log, one.log.dropped, one.log.end)
        copied = read_items(self._target.logs, key, other.log, other.log.dropped, other.log.end)
        if one.fields != other.fields or mine != copied:
            raise CorruptShard(self._target.location, 0, "the copy differs from its source", key)
        self.report.verified += 1

    def _was_skipped(self, key: str) -> bool:
        return any(one.key == key for one in self.report.skipped)


def _identity(one: ArchivedFile) -> tuple[str | None, str, int]:
    """Return the name of an archived session in every store: key, place and moment. Files know milliseconds."""
    return one.key, one.place, round(one.moved_at * 1000)


def _is_past(there: State, found: list[State], data: bytes) -> bool:
    """Return whether the target's content is one that the source had, so that replacing it undoes nothing."""
    same = [state for state in found if state.incarnation == there.incarnation]
    if not same:
        return b'"id":"%b"' % there.incarnation.encode() in data  # of a life before the last delete
    if there.rev < same[0].rev:
        return True  # from before the journal was rewritten
    return any(state.version == there.version for state in same)
