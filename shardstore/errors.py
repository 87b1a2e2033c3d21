"""The errors shardstore raises: a small closed set, each also the builtin a caller would expect where there is one.

    ShardStoreError(Exception)
    ├── SessionNotFound(KeyError)           no such session
    │   └── RevisionNotFound                its journal does not hold this revision
    ├── SessionExists                       create() met a session
    ├── LogReplaced(LookupError)            the file that held a session's log was replaced since it was read
    ├── WatchExpired                        the store no longer has the changes since this token
    ├── Conflict                            the expected version is not the current one
    ├── LockTimeout(TimeoutError)           another writer of this session held its lock too long
    ├── HoldExpired(TimeoutError)           this writer held a session's lock too long; nothing was written
    ├── NestedUpdate(RuntimeError)          an update from inside a mutator of the same session
    ├── StoreBusy(RuntimeError)             a call from beneath which the store is in the middle of something
    ├── CorruptShard                        a file is damaged; nothing was overwritten
    ├── InvalidKey(ValueError)              not usable as a session key
    ├── InvalidEntry(ValueError)            a value that JSON cannot hold exactly
    ├── InvalidQuery(ValueError)            a malformed where, order, limit or retention rule
    ├── StoreNotFound(FileNotFoundError)    no store there, or it vanished
    ├── StoreIncomplete(FileNotFoundError)  a part of the store is gone: a half-restored or half-copied tree
    ├── StoreUnavailable(ConnectionError)   the database server cannot be reached; nothing was changed
    ├── StoreClosed                         the store object was closed
    ├── UnsafeStore(PermissionError)        other users could write to the store
    ├── UnsupportedFormat                   written by another version, or not a store
    ├── UnsupportedFileSystem(OSError)      the file system cannot lock as needed
    ├── CommitUncertain(OSError)            a sync failed: unknown whether the change is on the disk
    └── StoreIOError(OSError)               any other system call that failed; nothing was changed
        └── StoreFull                       no space, quota or inode left; nothing was changed

Two warnings, UnknownField and DamagedSessions, both a ShardStoreWarning, mark answers that you may not have meant.

All can be pickled, so that they cross process boundaries unchanged.
"""

from __future__ import annotations

import errno
import os
import sys
import warnings
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "CommitUncertain",
    "Conflict",
    "CorruptShard",
    "DamagedSessions",
    "HoldExpired",
    "InvalidEntry",
    "InvalidKey",
    "InvalidQuery",
    "LockTimeout",
    "LogReplaced",
    "NestedUpdate",
    "RevisionNotFound",
    "SessionExists",
    "SessionNotFound",
    "ShardStoreError",
    "ShardStoreWarning",
    "StoreBusy",
    "StoreClosed",
    "StoreFull",
    "StoreIOError",
    "StoreIncomplete",
    "StoreNotFound",
    "StoreUnavailable",
    "UnknownField",
    "UnsafeStore",
    "UnsupportedFileSystem",
    "UnsupportedFormat",
    "WatchExpired",
]

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class ShardStoreError(Exception):
    """Base of every error this package raises on purpose.

    >>> try:
    ...     store["agent:nobody"]
    ... except ShardStoreError as error:
    ...     print(type(error).__name__, error)
    SessionNotFound no session 'agent:nobody'
    """

    _fields: tuple[str, ...] = ()

    def __reduce__(self) -> tuple[Any, ...]:
        """Rebuild from the named fields: the formatted message alone would lose them."""
        return (type(self), tuple(getattr(self, name) for name in self._fields) or self.args)

    def __str__(self) -> str:
        """Return the message alone (KeyError would quote it, OSError would prefix it)."""
        return str(self.args[-1]) if self.args else type(self).__name__


class SessionNotFound(ShardStoreError, KeyError):
    """No session has this key. `.key`."""

    _fields: tuple[str, ...] = ("key",)

    key: str

    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__(f"no session {key!r}")


class RevisionNotFound(SessionNotFound):
    """The session's journal does not go back, or not up, to this revision. `.key .rev .first .last`.

    `.first` and `.last` are the revisions that are kept, 0 where there are none.
    """

    _fields = ("key", "rev", "first", "last")

    rev: int
    first: int
    last: int

    def __init__(self, key: str, rev: int, first: int, last: int) -> None:
        super().__init__(key)
        self.rev, self.first, self.last = rev, first, last

    def __str__(self) -> str:
        """Return the message."""
        kept = f"its history goes from revision {self.first} to {self.last}" if self.last else "no session has this key"
        return f"no revision {self.rev} of session {self.key!r}: {kept}"


class SessionExists(ShardStoreError):
    """`create` met a session that is already there. `.key`."""

    _fields = ("key",)

    key: str

    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__(f"session {key!r} exists already; use update(), patch() or replace()")


class LogReplaced(ShardStoreError, LookupError):
    """The file that held this Session's log was replaced, or is gone, since the Session was read. `.key`.

    Read the session again. A Session that was pickled without its store raises it as well.
    """

    _fields = ("key",)

    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__(f"the log of session {key!r} was replaced since it was read; get the session again")


class WatchExpired(ShardStoreError):
    """The store no longer has the changes since a token: take a new one, list, and watch from there.

    So it is when the index was rebuilt, when the token is too old, or when it is of another store. In a database, also
    when a backup was put back, another server took over, or the server crashed.
    """

    def __init__(self, reason: str = "the token is too old, or of another store") -> None:
        super().__init__(f"{reason}; take a new token(), list, and watch from there")
        self.reason = reason

    _fields = ("reason",)


class Conflict(ShardStoreError):
    """The session is not at the version that was expected; nothing was written. `.key .expected .found`.

    `.found` is None when the session is absent.
    """

    _fields = ("key", "expected", "found")

    key: str
    expected: str
    found: str | None

    def __init__(self, key: str, expected: str, found: str | None) -> None:
        self.key, self.expected, self.found = key, expected, found
        state = f"at version {found}" if found else "absent"
        super().__init__(f"session {key!r} is {state}, expected {expected}; read it again and decide again")


class LockTimeout(ShardStoreError, TimeoutError):
    """The session's lock was not free in time; nothing was written. `.key .waited .pid .holder`.

    `.waited` is in seconds and counts from the call. `.pid` is the holder's, or None where the system does not show it;
    it is looked up when it is first asked for, which takes milliseconds, and may be another one's by then. `.holder`
    describes the holder where a process id alone would not do, as on another host.
    """

    key: str
    waited: float

    def __init__(
        self,
        key: str,
        waited: float,
        pid: int | None = None,
        holder: str | None = None,
        *,
        find: Callable[[], int | tuple[int | None, str | None] | None] | None = None,
    ) -> None:
        self.key, self.waited = key, waited
        self._pid, self._holder, self._find = pid, holder, find
        super().__init__(key)

    def _look(self) -> None:
        find, self._find = self._find, None
        if find is not None:
            found = find()
            self._pid, self._holder = found if isinstance(found, tuple) else (found, None)

    @property
    def pid(self) -> int | None:
        """The process that holds the lock; None where the system does not show it."""
        self._look()
        return self._pid

    @property
    def holder(self) -> str | None:
        """The holder for people, where its process id alone does not name it: "4711@host"."""
        self._look()
        return self._holder

    def of(self, waited: float) -> LockTimeout:
        """Return the error of another call, which waited for the same lock so many seconds."""
        return LockTimeout(self.key, waited, self._pid, self._holder, find=self._find)

    def __str__(self) -> str:
        """Return the message, with the holder."""
        name = self.holder or self.pid
        owner = f"held by process {name}" if name else "its holder is unknown"
        return f"session {self.key!r} was locked for {self.waited:.1f} s ({owner}); try again or raise lock_timeout"

    def __reduce__(self) -> tuple[Any, ...]:
        """Rebuild in another process with the holder as seen from this one."""
        return (type(self), (self.key, self.waited, self.pid, self.holder))


class HoldExpired(ShardStoreError, TimeoutError):
    """This writer held a session's lock longer than the store's hold_timeout; nothing was written. `.key .limit`.

    The server gave the lock to others meanwhile. Read the session again, and do slow work before the update.
    """

    _fields = ("key", "limit")

    key: str
    limit: float

    def __init__(self, key: str, limit: float) -> None:
        self.key, self.limit = key, limit
        super().__init__(
            f"session {key!r} was held longer than hold_timeout={limit:g} s, so its lock was given to others; "
            "nothing was written"
        )


class NestedUpdate(ShardStoreError, RuntimeError):
    """The same session is being updated further up this call chain, or by another task of this thread. `.key`."""

    _fields = ("key",)

    key: str

    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__(
            f"session {key!r} is being updated further up this call chain, or by another task of this thread "
            "that awaits inside edit(); use the draft it was given"
        )


class CorruptShard(ShardStoreError):
    """A shard is damaged, or is not this session's; it was not touched. `.path .offset .reason .key`.

    `.offset` is in bytes from the start of the file.
    """

    _fields = ("path", "offset", "reason", "key")

    path: str
    offset: int
    reason: str
    key: str | None

    def __init__(self, path: str, offset: int, reason: str, key: str | None = None) -> None:
        self.path, self.offset, self.reason, self.key = path, offset, reason, key
        whose = f" of session {key!r}" if key is not None else ""
        super().__init__(
            f"damaged shard{whose}: {path}, byte {offset}: {reason}; nothing was overwritten; "
            "verify(repair=True) or `shardstore verify --repair` salvages the whole parts"
        )


class InvalidKey(ShardStoreError, ValueError):
    """Not a session key: keys are non-empty text up to 4,096 UTF-8 bytes, without NUL or lone surrogates."""


class InvalidEntry(ShardStoreError, ValueError):
    """A value that JSON cannot hold exactly; nothing was written. `.path .reason`.

    `.path` names the value, as in `entry["origin"]["ids"][3]`.
    """

    _fields = ("path", "reason")

    path: str
    reason: str

    def __init__(self, path: str, reason: str) -> None:
        self.path, self.reason = path, reason
        super().__init__(f"{path}: {reason}")


class InvalidQuery(ShardStoreError, ValueError):
    """A malformed filter, order, limit or retention rule; nothing was read or removed."""


class StoreNotFound(ShardStoreError, FileNotFoundError):
    """There is no store at this path, or it vanished while open; it is never re-created by a write. `.root`."""

    _fields = ("root",)

    root: str

    def __init__(self, root: str) -> None:
        self.root = root
        super().__init__(errno.ENOENT, f"no store at {root}; check the path, and whether its disk is mounted")
        self.filename = root


class StoreIncomplete(ShardStoreError, FileNotFoundError):
    """A directory of the store is gone, so whether a session exists is not known. `.path`.

    Tools that leave empty directories out (git, zip, object storage) and half-restored backups do this.
    """

    _fields = ("path",)

    path: str

    def __init__(self, path: str) -> None:
        self.path = path
        super().__init__(
            errno.ENOENT,
            f"the store lacks its directory {path}; restore it from where the store was copied from, "
            "or run verify(repair=True) or `shardstore verify --repair`, which creates it again, without sessions",
        )
        self.filename = path


class StoreUnavailable(ShardStoreError, ConnectionError):
    """The database server cannot be reached, or went away before anything was changed. `.location`.

    Writes of an open store wait within lock_timeout for a server that is restarting, unless a mutator has run already,
    and reads for 5 seconds. Opening a store does not wait.
    """

    _fields = ("location", "reason")

    location: str
    reason: str

    def __init__(self, location: str, reason: str) -> None:
        self.location, self.reason = location, reason
        super().__init__(errno.ECONNREFUSED, f"{location} cannot be reached: {reason}; nothing was changed")


class StoreClosed(ShardStoreError):
    """The store object was closed."""

    def __init__(self, message: str = "this Store is closed; open another one") -> None:
        super().__init__(message)


class StoreBusy(ShardStoreError, RuntimeError):
    """A signal handler, finalizer or callback called into the store in the middle of another call of its own thread.

    Waiting would never end. Nothing was changed; call again once the interrupted call has returned. `.doing`.
    """

    _fields = ("doing",)

    def __init__(self, doing: str = "another call of this thread") -> None:
        self.doing = doing
        super().__init__(f"interrupted in the middle of {doing}, which this call would have to wait for; call it later")


class UnsafeStore(ShardStoreError, PermissionError):
    """The store belongs to another user, or others may write to it. `.root .reason`."""

    _fields = ("root", "reason")

    root: str
    reason: str

    def __init__(self, root: str, reason: str) -> None:
        self.root, self.reason = root, reason
        super().__init__(
            errno.EPERM, f"{root} {reason}; pass allow_shared=True if every one of them may change every session"
        )
        self.filename = root


class UnsupportedFormat(ShardStoreError):
    """The directory holds something this version cannot read."""


class UnsupportedFileSystem(ShardStoreError, OSError):
    """The file system cannot give the locks the store depends on."""


class StoreIOError(ShardStoreError, OSError):
    """A system call failed; earlier commits are untouched. `.errno .filename` name the failure and the file.

    Raised from the OSError itself, which is its `__cause__`.
    """

    def __init__(self, number: int, message: str, filename: str | None = None) -> None:
        super().__init__(number, message)
        self.filename = filename

    def __reduce__(self) -> tuple[Any, ...]:
        """Keep the file name, which OSError drops when its message is not the system's own."""
        return (type(self), (self.errno, self.args[-1], self.filename))


class StoreFull(StoreIOError):
    """No space, quota, inode or file size is left; nothing was changed, and deleting still works."""


class CommitUncertain(ShardStoreError, OSError):
    """A sync failed: whether the change is on the disk is unknown until the session is read again. `.filename`.

    The sync is never tried again: after a failed one the kernel calls the page clean, and a second
    one succeeds without writing anything.
    """

    def __init__(self, number: int, message: str, filename: str | None = None) -> None:
        super().__init__(number, message)
        self.filename = filename

    def __reduce__(self) -> tuple[Any, ...]:
        """Keep the file name, which OSError drops when its message is not the system's own."""
        return (type(self), (self.errno, self.args[-1], self.filename))


def raise_uncertain(error: OSError, doing: str, path: str) -> NoReturn:
    """Raise CommitUncertain for a failed sync; `doing` completes "while ..."."""
    number = error.errno or errno.EIO
    text = f"{os.strerror(number)} while {doing}: {path}; the outcome is unknown until the session is read again"
    raise CommitUncertain(number, text, path) from error


def raise_io_error(error: OSError, doing: str, path: str | None = None) -> NoReturn:
    """Raise the typed error for a failed system call; `doing` completes "while ..."."""
    where = path if path is not None else error.filename
    number = error.errno or errno.EIO
    kind = StoreFull if number in _FULL else StoreIOError
    text = os.strerror(number)
    hint = "; all directories of a store have to be on one file system" if number == errno.EXDEV else ""
    raise kind(number, f"{text} while {doing}" + (f": {where}" if where else "") + hint, where) from error


class ShardStoreWarning(UserWarning):
    """An answer that you may not have meant.

    >>> import warnings
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("error", ShardStoreWarning)
    ...     store.list(where={"stauts": "new"})
    Traceback (most recent call last):
        ...
    shardstore.errors.UnknownField: where: no session in this store has a field 'stauts'
    """


class UnknownField(ShardStoreWarning):
    """A list filters or sorts by a field that no session has: its name may be misspelled."""


class DamagedSessions(ShardStoreWarning):
    """A list left out sessions whose files are damaged; `stats().damaged` names the files, and verify mends them."""


def warn_caller(warning: ShardStoreWarning) -> None:
    """Issue a warning that names the line which called into this package."""
    frame, depth = sys._getframe(1), 2  # noqa: SLF001  # there is no public way on Python 3.11
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "shardstore":
        frame, depth = frame.f_back, depth + 1
    warnings.warn(warning, stacklevel=depth)
