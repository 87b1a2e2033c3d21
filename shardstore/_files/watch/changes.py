"""The changes since a place in the change file. docs/internals/watch.md shows why nothing is missed.

Each look reads the lines behind the place, sets a mark behind them, so that every later commit writes a line again, and
reads the sessions that they name. A session whose writer is inside just then is looked at again.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from shardstore import _codec as codec
from shardstore._files import disk
from shardstore._files.change_file.file import BEFORE, MARK, ChangeFile, Unusable, change_files
from shardstore._files.direct.reading import reading
from shardstore._files.direct.rows import Busy, is_damaged
from shardstore._files.index.lister import BEHIND_BYTES_MAX
from shardstore._files.locks.flock import try_share, unlock
from shardstore._files.watch.position import BRIEF, GONE, NOTHING, Known, Position, life_text
from shardstore._model import NEVER_WAS, UNKNOWN, UNSEEN, Seen, State, seen_of
from shardstore.errors import DamagedSessions, ShardStoreError, StoreNotFound, WatchExpired, warn_caller

if TYPE_CHECKING:
    from shardstore._files.direct.rows import Found
    from shardstore._files.index.lister import Lister

_IN_TOKEN_MAX: Final = 64  # sessions that a token names; with more of them it is of an earlier place
_LINE_BYTES_MAX: Final = 64  # of a line that names another change file
_CHECKSUM_BYTES: Final = 9
_TRIES: Final = 5
_REBUILT: Final = "the index was deleted or rebuilt"


class FileChanges:
    """The changes from a position on."""

    def __init__(self, lister: Lister, prefix: str, position: Position, *, write: bool) -> None:
        """Open the change file. Raises WatchExpired, OSError."""
        self._lister = lister
        self._place = lister.place
        self._prefix = prefix
        self._write = write
        self._life = life_text(self._place)
        self._position = self._next = position
        # Sessions that no mark stands behind, as far as is known.
        self._loose = self._next_loose = frozenset(position.waiting)
        # What the last look saw. It may have seen commits that were marked behind the place: they come no second time.
        self._reported: dict[str, Known] = {}
        self._next_reported: dict[str, Known] = {}
        self._tended = position.place  # up to where the index was refreshed last
        self._file = self._next_file = self._open(position.file)

    @property
    def token(self) -> str:
        """The place up to which everything was returned, and `advance` called."""
        return self._position.token(self._life)

    @property
    def ahead(self) -> str:
        """The place behind what the last look returned."""
        return self._next.token(self._life)

    def has_waiting(self) -> bool:
        """Return whether a session may be committed to without a further line."""
        return bool(self._position.waiting)

    def may_have_news(self) -> bool:
        """Return False where nothing was written since the last look: one call of the system."""
        file = self._file
        if self._position.waiting or file.fd < 0 or file.filename != file.name:
            return True
        try:
            status = os.lstat(file.path)
        except OSError:
            return True
        return (status.st_ino, status.st_dev) != file.identity or status.st_size != self._position.place

    def look(self) -> list[Seen]:
        """Return each session that is another one than the watcher knows. Raises WatchExpired, StoreIOError."""
        self._tend()
        notes, loose, file, end = self._read()
        for name in notes.keys() & self._reported.keys() - self._position.waiting.keys():
            if self._reported[name].seen != GONE:  # else it was made again, as the lines say
                notes[name] = self._reported[name]
        found, waiting = self._examine(notes, loose)
        self._next, self._next_file = Position(file.name, end, waiting), file
        self._next_loose = frozenset(loose & waiting.keys())
        return found

    def advance(self) -> None:
        """Go on behind what the last look returned."""
        self._reported, self._loose = self._next_reported, self._next_loose
        self._file, self._position = self._next_file, self._next

    def present(self) -> Position:
        """Return the position behind everything that was committed before this call; report nothing."""
        notes, loose, file, end = self._read(every=True)
        waiting: dict[str, Known] = {}
        for name, known in notes.items():
            inside = self._is_inside(name)
            if inside or name in loose:
                now = self._state(name)
                seen = seen_of(now) if isinstance(now, State) else UNKNOWN
                waiting[name] = Known(known.key, GONE if seen == NEVER_WAS and not inside else seen)
                if len(waiting) > _IN_TOKEN_MAX:
                    return self._position  # earlier, so what changed since then is returned again
        return Position(file.name, end, waiting)

    def close(self) -> None:
        """Close the change file."""
        self._file.close()
        self._next_file.close()

    # Which sessions may have changed

    def _read(self, *, every: bool = False) -> tuple[dict[str, Known], set[str], ChangeFile, int]:
        """Read the lines behind the position, set a mark behind them, and return what they say.

        That is the sessions that may have changed; those of them that no mark stands behind; the change file, and
        where to go on in it. `every`: also where no watcher sees a difference. Raises WatchExpired.
        """
        try:
            notes, loose, file, end = self._lines(every=every)
        except (Unusable, OSError) as error:
            raise self._expired(_REBUILT) from error
        if loose and self._write:
            with suppress(OSError):  # no space: these sessions are looked at each time
                length = file.write(MARK)
                end, loose = (end + length if file.size() == end + length else end), set()
        return notes, loose, file, end

    def _lines(self, *, every: bool) -> tuple[dict[str, Known], set[str], ChangeFile, int]:
        """Read the lines behind the position, through every change file that goes on from the one before."""
        if self._file.fd < 0:  # a forked child closes what it inherits
            self._file = self._open(self._position.file)
        file, place = self._file, self._position.place
        notes, loose = dict(self._position.waiting), set(self._loose)
        while True:
            current = file.filename == file.name and file.is_named()  # asked first: then nothing follows these lines
            texts, place = file.lines(place)
            for text in texts:
                if text == MARK.encode():
                    loose.clear()
                elif not text.startswith((b"=", b"<")):
                    _note(text, notes, loose, every=every)
            if current:
                return notes, loose, file, place
            file, loose = self._successor(file.name), set()  # a writer whose file is gone marks in another one
            place = file.start

    def _successor(self, name: str) -> ChangeFile:
        """Open the change file that goes on from the one of this name. Raises WatchExpired."""
        for _ in range(_TRIES):
            for file in (*change_files(self._place.directory), BEFORE):
                with suppress(OSError, Unusable):  # replaced meanwhile, or not ours
                    found = self._open_file(file)
                    if _goes_on_from(found) == name:
                        return found
        raise self._expired(_REBUILT)

    def _open(self, name: str) -> ChangeFile:
        """Open a change file, which may be the one before by now. Raises WatchExpired."""
        for file in (name, BEFORE):
            with suppress(OSError, Unusable):
                found = self._open_file(file)
                if found.name == name:
                    return found
        raise self._expired("the token is too old, or from before the index was rebuilt")

    def _open_file(self, file: str) -> ChangeFile:
        path = f"{self._place.directory}/{file}"
        return ChangeFile.open(self._place.directory, file, write=self._write and os.access(path, os.W_OK))

    def _expired(self, reason: str) -> ShardStoreError:
        root = self._place.layout
        return WatchExpired(reason) if disk.exists(root.marker) else StoreNotFound(str(root.root))

    def _tend(self) -> None:
        """Have the index refreshed now and then: else the change file would grow for ever where nobody lists."""
        if self._write and not 0 <= self._position.place - self._tended < BEHIND_BYTES_MAX:
            self._tended = self._position.place
            self._lister.answer(lambda _: None, refresh=True, progress=None)

    # What they are now

    def _examine(self, notes: dict[str, Known], loose: set[str]) -> tuple[list[Seen], dict[str, Known]]:
        """Return the changes, and the known versions of sessions that may change without a further line."""
        found: list[Seen] = []
        waiting: dict[str, Known] = {}
        reported: dict[str, Known] = {}
        for name, known in notes.items():
            inside = self._is_inside(name)  # asked first: a writer who comes later marks behind our mark
            waits = inside or name in loose
            if known.key.startswith(self._prefix) or not known.key:
                now = self._state(name)
                waits = waits or now is None
                seen = _seen(known, now, inside=inside)
                if seen is not None and seen.key.startswith(self._prefix):
                    found.append(seen)
                if isinstance(now, State):
                    reported[name] = _known(known, now, inside=inside)
            if waits:
                waiting[name] = reported.get(name, known)
        self._next_reported = reported
        return found, waiting

    def _state(self, name: str) -> State | Found | None:
        """Return a session's committed state; None if that is not known now; the readable part of a damaged one."""
        found, state = self._place.shards.state(name)
        if isinstance(found, Busy):
            return None
        if is_damaged(found):
            warn_caller(DamagedSessions("a session that changed is damaged; verify mends it"))
            return found
        if not state.rev and not os.path.isdir(os.path.dirname(self._place.layout.shard_path(name))):
            return None  # lost, not absent
        return state

    def _is_inside(self, name: str) -> bool:
        """Return whether a writer is inside the session's lock, or that cannot be reported."""
        path = self._place.layout.shard_path(name)
        while True:
            try:
                file = _Opened(path)
            except FileNotFoundError:
                return False
            except OSError:
                return True
            try:
                with reading(path):
                    if not try_share(file.fd):
                        return True
                    try:
                        status, named = os.fstat(file.fd), os.lstat(path)
                    finally:
                        unlock(file.fd)  # closing alone would leave it to a child that was forked meanwhile
            except OSError:
                return True
            if (status.st_ino, status.st_dev) == (named.st_ino, named.st_dev):
                return False


class _Opened:
    """A file that is closed when it is let go of: no exception from outside leaves its lock taken."""

    __slots__ = ("fd",)

    def __init__(self, path: str) -> None:
        self.fd = -1
        self.fd = os.open(path, disk.READ)

    def __del__(self) -> None:
        if getattr(self, "fd", -1) >= 0:  # not there where `__init__` was interrupted
            os.close(self.fd)


def _goes_on_from(file: ChangeFile) -> str:
    """Return the name of the change file that this one goes on from; no name for a rebuilt one."""
    line = os.pread(file.fd, _LINE_BYTES_MAX, file.start).partition(b"\n")[0]
    return line[_CHECKSUM_BYTES:].decode().removeprefix("< ")  # a change is no name of a change file


def _parse(text: bytes) -> tuple[str, str, str]:
    """Return the name, the seen version and the key of a change line; the key is empty if the line has none."""
    name, _, rest = text.decode().partition(" ")
    seen, _, key = rest.partition(" ")
    return name, seen or UNKNOWN, codec.loads(key) if key else ""


def _note(text: bytes, notes: dict[str, Known], loose: set[str], *, every: bool) -> None:
    """Take in a change. What was known of the session first is what the watcher knows.

    A version behind "absent" says that the session was there. It is news that nothing is left of it, whoever is inside.
    """
    name, seen, key = _parse(text)
    if seen != UNSEEN or every:
        named, before = notes.get(name, NOTHING)
        if before == GONE:
            before = seen
        elif before == NEVER_WAS and "." in seen:
            before = BRIEF
        notes[name] = Known(named or key, before)
        loose.add(name)


def _seen(known: Known, now: object, *, inside: bool) -> Seen | None:
    """Return what a watcher that knew this sees now; None where that is nothing new, or has no name."""
    if not isinstance(now, State):
        return None
    before, after, key = known.seen, seen_of(now), known.key or now.key
    news = before != after
    if after == NEVER_WAS:  # nothing is left of it: as it was, or about to be made, or made and removed meanwhile
        news = before != GONE and not (inside and before == NEVER_WAS)
    return Seen(key, before, now) if news and key else None


def _known(known: Known, now: State, *, inside: bool) -> Known:
    """Return what a watcher knows that has seen this."""
    after = seen_of(now)
    if after == NEVER_WAS and not (inside and known.seen == NEVER_WAS):
        after = GONE
    return Known(known.key or now.key or "", after)
