"""Verification: every shard, every record, the index against the shards, and foreign files.

Checking takes no lock, so it runs beside writers. Repairing locks the one shard it mends.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from shardstore._files import disk
from shardstore._files.file import FILE_BYTES_MAX, read_file, read_journal
from shardstore._files.index.catalog import CATALOG
from shardstore._files.index.upkeep import audit, refresh_all
from shardstore._files.layout import (
    ARCHIVE,
    INDEX,
    MARKER,
    QUARANTINE,
    SHARDS,
    is_shard_of,
    log_name,
    stamped_name,
)
from shardstore._files.maintenance import logs
from shardstore._files.maintenance.acknowledged import (
    Short,
    find_short,
    forget,
    is_back,
    keep_evidence,
    recorded,
    sentence,
)
from shardstore._files.maintenance.remarks import remarks
from shardstore._files.maintenance.repair import Salvaged, is_sound, key_in, salvage
from shardstore._files.maintenance.scan import StoreFile, scan
from shardstore._files.missing import make_whole, missing, records
from shardstore.errors import (
    CorruptShard,
    SessionNotFound,
    ShardStoreError,
    StoreIncomplete,
    StoreIOError,
    raise_io_error,
)
from shardstore.reports import Problem, VerifyReport

if TYPE_CHECKING:
    from collections.abc import Callable

    from shardstore._files.engine import FileEngine
    from shardstore._files.shard import Shard
    from shardstore._files.transaction import FileTransaction
    from shardstore._model import State

_KNOWN = frozenset({MARKER, SHARDS, INDEX, ARCHIVE, QUARANTINE})
_LOST = "LOST"
_WAIT_S = 1.0  # for the lock of a shard that is to be repaired
_RUNS_MAX = 8  # runs of revisions that are named
_FIELDS_MAX = 8  # fields that are named


def verify(
    engine: FileEngine, *, repair: bool, note: bool, progress: Callable[[int, int], None] | None
) -> VerifyReport:
    """Implement Store.verify; `note`: lists may learn of damage."""
    return _Verification(engine, repair=repair, note=note).run(progress)


class _Verification:
    def __init__(self, engine: FileEngine, *, repair: bool, note: bool) -> None:
        self.engine = engine
        self.repair = repair
        self.note = note
        self.problems: list[Problem] = []
        self.notes: list[Problem] = []
        self.unrecorded: set[str] = set()  # names of shards whose losses could not be recorded
        self.shards = self.records = self.sessions = 0

    def run(self, progress: Callable[[int, int], None] | None) -> VerifyReport:
        self._check_acknowledged()
        files = self._files()
        for done, file in enumerate(files):
            if progress is not None:
                progress(done, len(files))
            self._check(file)
        self._check_directories()
        self._check_root()
        self._check_index()
        if progress is not None:
            progress(len(files), len(files))
        return VerifyReport(tuple(self.problems), tuple(self.notes), self.shards, self.records, self.sessions)

    def _files(self) -> list[StoreFile]:
        """List the store's files; none where shards/ itself is gone, which is named with its directories."""
        try:
            return list(scan(self.engine.layout))
        except StoreIncomplete:
            return []

    def _check(self, file: StoreFile) -> None:
        if file.log is not None:
            why = None if file.owner is None else logs.why_unused(self.engine.layout, file.owner, file.log)
            if why is not None:
                self._note(file.path, "unused-log", why)
        elif file.owner is not None:
            self._note(file.path, "temp", "left by a rewrite that died, or one under way; compact sweeps it")
        elif not file.shard:
            self._note(file.path, "foreign", "no file of this store; it is left alone")
        else:
            self._check_shard(file)

    def _check_shard(self, file: StoreFile) -> None:
        """Read one shard whole; a file that vanished since it was listed is no problem."""
        path = self.engine.layout.shard_path(file.name)
        try:
            journal, tail = read_file(path)
        except CorruptShard as error:
            self._problem(file, error.key, "damaged", f"byte {error.offset}: {error.reason}")
            return
        except StoreIOError as error:
            self.problems.append(Problem(file.path, None, "unreadable", str(error)))
            return
        self.shards += 1
        state = journal.state
        self.records += journal.records
        self.sessions += state.exists
        if state.key is not None and not is_shard_of(file.name, state.key):
            detail = f"it claims to be session {state.key!r}; the session whose file this was is missing"
            self._problem(file, state.key, "misplaced", detail)
            return
        if journal.crlf:
            self._problem(file, state.key, "line-endings", "its lines end in CR LF; a tool converted the file")
        for kind, detail in remarks(path, journal, tail):
            self.notes.append(Problem(file.path, state.key, kind, detail))
        self._check_mode(file, path)
        self._check_log(file, state)

    def _check_log(self, file: StoreFile, state: State) -> None:
        """Read the file of a session's log whole."""
        found = logs.losses(self.engine, file.name, state.log)
        if found is None:
            return
        again, _ = read_file(self.engine.layout.shard_path(file.name))
        if again.state.log.settled != state.log.settled:  # it was replaced meanwhile, so the old file is gone
            if again.state.exists:
                self._check_log(file, again.state)
            return
        path, detail, repaired = log_name(file.name, state.log.settled.file), found.detail, False
        if self.repair:
            repaired, outcome = self._mend_log(file)
        else:
            outcome = logs.PUT_BACK
        detail = f"{detail}; {outcome}"
        self.problems.append(Problem(f"{SHARDS}/{path}", state.key, "log", detail, repaired))

    def _mend_log(self, file: StoreFile) -> tuple[bool, str]:
        """Salvage a log; return whether it worked, and a sentence about it."""
        shard = self.engine.pool.unnamed(file.name)
        try:
            with self.engine.pool.transaction_on_file(shard, _WAIT_S) as txn:
                shard.bind_key(txn.state.key or "")  # the repair is a commit, which needs to know whose it is
                return True, logs.repair(self.engine, txn, file.name)
        except SessionNotFound:
            return True, "it vanished meanwhile"
        except (ShardStoreError, OSError) as error:
            return False, f"not repaired: {error}"
        finally:
            shard.close_if_idle()

    def _check_mode(self, file: StoreFile, path: str) -> None:
        try:
            mode = stat.S_IMODE(os.lstat(path).st_mode)
            shared = disk.is_shared(os.path.dirname(path))  # then its group is meant to open it
        except FileNotFoundError:
            return
        if mode & (0o007 if shared else 0o077):
            who, how = ("others", "o-rwx") if shared else ("its group or others", "600")
            self._note(file.path, "mode", f"{who} may open it (mode {mode:04o}); chmod {how} closes it")

    def _check_acknowledged(self) -> None:
        """Name the revisions that the index knows and no shard holds, now or as an earlier verify recorded."""
        named = self._check_recorded()
        found = [short for short in find_short(self.engine) if short.shard not in named]
        for short in found:
            there = disk.exists(os.path.dirname(self.engine.layout.shard_path(short.shard)))
            keeps = self.repair or (self.note and there)  # lists keep what they know while a directory is away
            self._lost(short, self._keep(short) if keeps else "")
        if self.repair and (named or found):
            # Or the catalog would know it better at the next verify, too.
            self._try(partial(refresh_all, self.engine.index.lister))

    def _check_recorded(self) -> set[str]:
        """Name what an earlier verify recorded, unless it is back; return the names of the shards."""
        layout, done, named = self.engine.layout, [], set[str]()
        for record, short in recorded(layout):
            back = is_back(layout, short)
            if not back:
                self._lost(short)
                named.add(short.shard)
            if self.repair or (self.note and back):
                done.append(record)
        if done:
            self._try(lambda: forget(layout, done))
        return named

    def _keep(self, short: Short) -> str:
        """Keep the evidence; return what is to be said where that fails. Lists then keep what they know."""
        failed = self._try(lambda: keep_evidence(self.engine, short, record=not self.repair))
        if failed:
            self.unrecorded.add(short.shard)
        return failed

    @staticmethod
    def _try(action: Callable[[], object]) -> str:
        """Call it; return what is to be said where the disk is full or read-only: that is no reason to name nothing."""
        try:
            action()
        except (ShardStoreError, OSError) as error:
            return f"; not done: {error}"
        return ""

    def _lost(self, short: Short, more: str = "") -> None:
        repaired = self.repair and not more
        detail = sentence(short) + more
        self.problems.append(Problem(f"{SHARDS}/{short.shard}", short.key, "lost", detail, repaired, lost=True))

    def _check_directories(self) -> None:
        """Name the directories that are gone, or were and had to be made again: sessions may have been in them."""
        layout = self.engine.layout
        gone = dict.fromkeys(missing(layout), "is gone; the sessions in it, if there were any, are missing")
        again = {
            prefix: "was gone, and a writer made it again; the sessions that were in it are missing"
            for prefix, _ in records(layout)
        }
        outcome = ""
        if self.repair and (gone or again):
            outcome = self._try(lambda: make_whole(layout)) or "; made again"
        repaired = outcome == "; made again"
        for prefix, detail in sorted({**again, **gone}.items()):
            text = f"the directory {detail}; restore it from a backup{outcome}"
            self.problems.append(Problem(f"{SHARDS}/{prefix}", None, "incomplete", text, repaired))

    def _check_root(self) -> None:
        """Name foreign files in the root; transcripts and the like may live there."""
        for name in sorted(os.listdir(self.engine.layout.root)):
            if name not in _KNOWN:
                self._note(name, "foreign", "no file of this store; it is left alone")
            elif name != MARKER and not stat.S_ISDIR(os.lstat(self.engine.layout.root / name).st_mode):
                detail = "it should be a directory, and no link to one; move it back, or mount the other place there"
                self.problems.append(Problem(name, None, "misplaced", detail))

    def _check_index(self) -> None:
        try:
            wrong = audit(self.engine.index.lister)
        except StoreIncomplete:
            return  # a directory is gone, which is named as such
        mended, failed = False, ""
        if self.repair and wrong:
            try:
                mended = self.engine.index.lister.rebuild()
            except StoreIOError as error:
                failed = f"; not done: {error}"
        if self.note and not mended:
            self._have_read([name for name, _ in wrong])
        self.problems += [Problem(f"{INDEX}/{CATALOG}", None, "index", detail + failed, mended) for _, detail in wrong]

    def _have_read(self, names: list[str]) -> None:
        """Have the next list read shards that changed, or went bad, by themselves: nobody marked them.

        Lists keep what they know of a lost directory, and of losses that could not be recorded.
        """
        for name in names:
            there = disk.exists(os.path.dirname(self.engine.layout.shard_path(name)))
            if there and name not in self.unrecorded:
                with suppress(ShardStoreError):  # nothing can be written here; what is wrong is named all the same
                    self.engine.pool.mark_changed(name)

    def _problem(self, file: StoreFile, key: str | None, kind: str, detail: str) -> None:
        repaired = lost = False
        if self.repair:
            keep_as = str(self.engine.layout.quarantine / stamped_name(file.name))
            repaired, outcome = self._mend(file, kind, keep_as)
            lost = outcome.startswith(_LOST)
            key = _key_of(keep_as, file.name) if lost and key is None else key
            detail = f"{detail}; {outcome}"
        elif self.note and kind == "damaged":
            self._have_read([file.name])
        self.problems.append(Problem(file.path, key, kind, detail, repaired, lost))

    def _mend(self, file: StoreFile, kind: str, keep_as: str) -> tuple[bool, str]:
        """Salvage one shard, or move it aside if it is none; return whether it worked, and a sentence about it."""
        shard = self.engine.pool.unnamed(file.name)
        try:
            if not disk.is_regular(shard.path):
                return True, self._set_aside_unlocked(shard, keep_as)
            with self.engine.pool.transaction_on_file(shard, _WAIT_S, read=False) as txn:
                return self._mend_locked(shard, txn, kind, keep_as)
        except SessionNotFound:
            return True, "it vanished meanwhile"
        except (ShardStoreError, OSError) as error:
            return False, f"not repaired: {error}"
        finally:
            shard.close_if_idle()

    def _mend_locked(self, shard: Shard, txn: FileTransaction, kind: str, keep_as: str) -> tuple[bool, str]:
        """Decide again inside the lock: another repair may have been faster."""
        if kind == "line-endings":
            return self._normalise(shard, txn, keep_as)
        if is_sound(shard):
            return True, "it is whole by now"
        if kind == "misplaced":
            txn.move_to(keep_as, "moving a file to quarantine")
            return True, f"moved to {QUARANTINE}/{os.path.basename(keep_as)}"
        return _outcome(salvage(shard, txn, keep_as), keep_as)

    def _normalise(self, shard: Shard, txn: FileTransaction, keep_as: str) -> tuple[bool, str]:
        """Rewrite a journal whose lines end in CR LF as its newest revision; the original goes to quarantine/."""
        journal, _ = read_file(shard.path)
        kept = f"the original is {QUARANTINE}/{os.path.basename(keep_as)}"
        if not journal.state.exists:
            txn.move_to(keep_as, "moving a file to quarantine")
            return True, f"the session was deleted; {kept}"
        txn.keep_copy(keep_as)
        txn.rewrite(journal.state)
        return True, f"rewritten; {kept}"

    def _set_aside_unlocked(self, shard: Shard, keep_as: str) -> str:
        """Move an object that is no regular file, and so has no lock to take, to quarantine/."""
        try:
            disk.add_directory(self.engine.layout.quarantine)
            self.engine.pool.mark_changed(shard.name)
            os.rename(shard.path, keep_as)
            disk.sync_directory(os.path.dirname(keep_as))
            disk.sync_directory(os.path.dirname(shard.path))
        except OSError as error:
            raise_io_error(error, "moving a file to quarantine", shard.path)
        return f"moved to {QUARANTINE}/{os.path.basename(keep_as)}"

    def _note(self, path: str, kind: str, detail: str) -> None:
        self.notes.append(Problem(path, None, kind, detail))


def _outcome(salvaged: Salvaged, keep_as: str) -> tuple[bool, str]:
    kept = f"the original is {QUARANTINE}/{os.path.basename(keep_as)}"
    if salvaged.deleted:
        return True, f"its last whole record says that the session was deleted; {kept}"
    if salvaged.fields is None:
        return False, f"{_LOST}: no record of it is whole; {kept}"
    missing = f"; {_revisions(salvaged.missing)} could not be read" if salvaged.missing else ""
    if missing and salvaged.touched:
        names = ", ".join(map(repr, salvaged.touched[:_FIELDS_MAX])) + ", ..." * (len(salvaged.touched) > _FIELDS_MAX)
        missing += f" (changes of {names})"
    fields = "1 field" if salvaged.fields == 1 else f"{salvaged.fields} fields"
    return True, f"salvaged {fields}{missing}; {kept}"


def _revisions(revs: tuple[int, ...]) -> str:
    """Name revisions, a run of them as its first and last."""
    runs: list[list[int]] = []
    for rev in revs:
        if runs and rev == runs[-1][1] + 1:
            runs[-1][1] = rev
        else:
            runs.append([rev, rev])
    named = [str(first) if first == last else f"{first} to {last}" for first, last in runs[:_RUNS_MAX]]
    more = " and more" if len(runs) > _RUNS_MAX else ""
    return f"revision{'s' if len(revs) > 1 else ''} {', '.join(named)}{more}"


def _key_of(path: str, name: str) -> str | None:
    """Find whose session a shard was that nothing could be salvaged of; None where its remains do not tell."""
    try:
        return key_in(read_journal(path), name) if os.path.getsize(path) <= FILE_BYTES_MAX else None
    except (ShardStoreError, OSError):
        return None
