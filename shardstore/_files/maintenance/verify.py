"""Verification: every shard, every record, the index against the shards, and what else lies about.

Checking takes no lock, so it runs beside writers. Repairing locks the one shard it mends; telling the index of a
damaged one locks it too, if it is free.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

from shardstore._files import disk
from shardstore._files.file import FILE_BYTES_MAX, read_journal, read_state
from shardstore._files.layout import ARCHIVE, INDEX, MARKER, QUARANTINE, SHARDS, is_shard_of, stamped_name
from shardstore._files.maintenance.repair import is_sound, key_in, salvage
from shardstore._files.maintenance.scan import Found, walk
from shardstore.errors import CorruptShard, ShardStoreError, StoreIOError, raise_io_error
from shardstore.reports import Problem, VerifyReport

if TYPE_CHECKING:
    from collections.abc import Callable

    from shardstore._files.engine import Engine

_KNOWN = frozenset({MARKER, SHARDS, INDEX, ARCHIVE, QUARANTINE})
_LOST = "LOST"


def verify(engine: Engine, *, repair: bool, note: bool, progress: Callable[[int, int], None] | None) -> VerifyReport:
    """Do what Store.verify says; `note`: the index may be told of damage."""
    return _Verification(engine, repair=repair, note=note).run(progress)


class _Verification:
    def __init__(self, engine: Engine, *, repair: bool, note: bool) -> None:
        self.engine = engine
        self.repair = repair
        self.note = note
        self.problems: list[Problem] = []
        self.notes: list[Problem] = []
        self.shards = self.records = self.sessions = 0

    def run(self, progress: Callable[[int, int], None] | None) -> VerifyReport:
        files = list(walk(self.engine.layout))
        for done, found in enumerate(files):
            if progress is not None:
                progress(done, len(files))
            self._check(found)
        self._check_root()
        self._check_index()
        if progress is not None:
            progress(len(files), len(files))
        return VerifyReport(tuple(self.problems), tuple(self.notes), self.shards, self.records, self.sessions)

    def _check(self, found: Found) -> None:
        if found.owner is not None:
            self._note(found.path, "temp", "left by a rewrite that died, or one under way; compact sweeps it")
        elif not found.shard:
            self._note(found.path, "foreign", "no file of this store; it is left alone")
        else:
            self._check_shard(found)

    def _check_shard(self, found: Found) -> None:
        """Read one shard whole; a file that vanished since it was listed is no problem."""
        path = self.engine.layout.shard_path(found.name)
        try:
            state = read_state(path)
        except CorruptShard as error:
            self._problem(found, error.key, "damaged", f"byte {error.offset}: {error.reason}")
            return
        except StoreIOError as error:
            self.problems.append(Problem(found.path, None, "unreadable", str(error)))
            return
        self.shards += 1
        self.records += state.records
        self.sessions += state.exists
        if state.key is not None and not is_shard_of(found.name, state.key):
            self._problem(found, state.key, "misplaced", f"it claims to be session {state.key!r}")
            return
        self._check_mode(found, path)

    def _check_mode(self, found: Found, path: str) -> None:
        try:
            mode = stat.S_IMODE(os.lstat(path).st_mode)
        except FileNotFoundError:
            return
        if mode & 0o077:
            self._note(found.path, "mode", f"others may open it (mode {mode:04o}); chmod 600 closes it")

    def _check_root(self) -> None:
        """Name what does not belong into the root; transcripts and the like may live there."""
        for name in sorted(os.listdir(self.engine.layout.root)):
            if name not in _KNOWN:
                self._note(name, "foreign", "no file of this store; it is left alone")
            elif name != MARKER and not stat.S_ISDIR(os.lstat(self.engine.layout.root / name).st_mode):
                self.problems.append(Problem(name, None, "misplaced", "it should be a directory, and no link to one"))

    def _check_index(self) -> None:
        wrong = self.engine.index.audit()
        mended = self.repair and bool(wrong) and self.engine.index.rebuild()
        self.problems += [Problem(f"{INDEX}/{path}", None, "index", detail, mended) for path, detail in wrong]

    def _problem(self, found: Found, key: str | None, kind: str, detail: str) -> None:
        repaired = lost = False
        if self.repair:
            keep_as = str(self.engine.layout.quarantine / stamped_name(found.name))
            repaired, outcome = self._mend(found, kind, keep_as)
            lost = outcome.startswith(_LOST)
            key = _key_of(keep_as, found.name) if lost and key is None else key
            detail = f"{detail}; {outcome}"
        elif self.note and kind == "damaged":
            self._tell_index(found.name)
        self.problems.append(Problem(found.path, key, kind, detail, repaired, lost))

    def _tell_index(self, name: str) -> None:
        """Have the next list read this shard, and find the damage: bytes that went bad by themselves nobody noted.

        A busy shard is passed over: its holder reads it, or notes it, himself.
        """
        shard = self.engine.shards.unnamed(name)
        with suppress(ShardStoreError, OSError):
            if stat.S_ISREG(os.lstat(shard.path).st_mode) and shard.lock(0.0, create=False):
                try:
                    self.engine.index.mark_changed(name)
                finally:
                    shard.unlock()
        shard.close_if_idle()

    def _mend(self, found: Found, kind: str, keep_as: str) -> tuple[bool, str]:
        """Salvage one shard, or move aside what is none; return whether it worked, and what was done."""
        layout = self.engine.layout
        try:
            if kind == "misplaced" or not stat.S_ISREG(os.lstat(layout.shard_path(found.name)).st_mode):
                return True, self._set_aside(found.name, keep_as)
            return self._salvage(found.name, keep_as)
        except (ShardStoreError, OSError) as error:
            return False, f"not repaired: {error}"

    def _set_aside(self, name: str, keep_as: str) -> str:
        """Move what is no shard of this name to quarantine/; what is no file at all has no lock to take."""
        shard = self.engine.shards.unnamed(name)
        locked = os.path.isfile(shard.path) and not os.path.islink(shard.path) and shard.lock(1.0, create=False)
        try:
            if locked and is_sound(shard):
                return "it is whole by now"
            disk.make_directory(self.engine.layout.quarantine)
            self.engine.index.mark_changed(name)
            os.rename(shard.path, keep_as)
            disk.sync_directory(os.path.dirname(keep_as))
            disk.sync_directory(os.path.dirname(shard.path))
        except OSError as error:
            raise_io_error(error, "moving a file to quarantine", shard.path)
        finally:
            if locked:
                shard.unlock()
            shard.close_if_idle()
        return f"moved to {QUARANTINE}/{os.path.basename(keep_as)}"

    def _salvage(self, name: str, keep_as: str) -> tuple[bool, str]:
        shard = self.engine.shards.unnamed(name)
        if not shard.lock(1.0, create=False):
            return True, "it vanished meanwhile"
        try:
            if is_sound(shard):
                return True, "it is whole by now"
            self.engine.index.mark_changed(name)
            state = salvage(shard, keep_as)
        finally:
            shard.unlock()
            shard.close_if_idle()
        kept = f"the original is {QUARANTINE}/{os.path.basename(keep_as)}"
        if state is None:
            return False, f"{_LOST}: no record of it is whole; {kept}"
        return True, f"salvaged {len(state.fields or ())} fields; {kept}"

    def _note(self, path: str, kind: str, detail: str) -> None:
        self.notes.append(Problem(path, None, kind, detail))


def _key_of(path: str, name: str) -> str | None:
    """Find whose session a shard was that nothing could be salvaged of; None where its remains do not tell."""
    try:
        return key_in(read_journal(path), name) if os.path.getsize(path) <= FILE_BYTES_MAX else None
    except (ShardStoreError, OSError):
        return None
