"""`store.archive`: the sessions that prune moved out of the store, and their way back."""

from __future__ import annotations

import math
from datetime import datetime
from typing import TYPE_CHECKING

from shardstore._imports import late_imports
from shardstore._retention import seconds
from shardstore.errors import InvalidQuery
from shardstore.session import Session

if TYPE_CHECKING:
    import builtins
    from collections.abc import Callable
    from datetime import timedelta

    from shardstore.engine import Engine
    from shardstore.reports import ArchivedFile, PurgeReport, RestoreReport


class Archive:
    """The archive of one store; `store.archive` returns it.

    The example of each method goes on from here:

    >>> report = store.prune(max_entries=0, prefix="agent:main")
    >>> store.exists("agent:main")
    False
    """

    __slots__ = ("_check_writable", "_engine", "_timeout")

    def __init__(self, engine: Engine, timeout: float | None, check_writable: Callable[..., None]) -> None:
        self._engine = engine
        self._timeout = timeout
        self._check_writable = check_writable

    def list(self, prefix: str | None = None) -> builtins.list[ArchivedFile]:
        """Return the files in the archive and in quarantine, the oldest first.

        prefix: only sessions whose key begins so. Raises InvalidQuery, StoreIOError.

        >>> for file in store.archive.list("agent:"):
        ...     print(file.place, file.key)
        archive agent:main
        """
        return self._engine.archived(prefix)

    def restore(self, key: str) -> Session:
        """Bring back the newest archived file of a session, with its history; return the session.

        Raises SessionNotFound if nothing is archived, SessionExists if the session is there, CorruptShard if the
        archived copy is damaged (it stays where it is), LockTimeout.

        >>> session = store.archive.restore("agent:main")
        >>> session["status"]
        'new'
        """
        self._check_writable()
        return Session(key, self._engine.restore(key, self._timeout), self._engine.logs)

    def restore_many(self, prefix: str | None = None, since: datetime | None = None) -> RestoreReport:
        """Bring back the newest archived file of each session; return the keys that came back.

        prefix: only sessions whose key begins so.
        since: an aware datetime; only files archived then or later.

        A session that is there already, or in use, stays as it is and is reported; so is an archived copy that is
        damaged, which stays in the archive. Syncs are shared. Stopped anywhere, it can run again.

        Raises InvalidQuery, StoreIOError, CommitUncertain.

        >>> report = store.archive.restore_many("agent:")
        >>> report.restored
        ('agent:main',)
        """
        if since is not None and (not isinstance(since, datetime) or since.tzinfo is None):
            raise InvalidQuery(f"since is a datetime with a time zone, not {since!r}")
        self._check_writable()
        with late_imports:
            from shardstore._bulk import restore_many

        limit = -math.inf if since is None else since.timestamp()
        return restore_many(self._engine, prefix, limit, timeout=self._timeout)

    def purge(
        self,
        older_than: timedelta | float,
        *,
        prefix: str | None = None,
        dry_run: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> PurgeReport:
        """Remove for good the files archived more than `older_than` ago; files in quarantine stay.

        older_than: a timedelta, or seconds; 0 means all of it.
        prefix: only sessions whose key begins so.
        dry_run: report, and remove nothing. progress(done, total) is called along the way.

        Raises InvalidQuery for a malformed limit, before anything is removed; StoreIOError.

        >>> report = store.archive.purge(older_than=30 * 86400)  # what was archived today stays
        >>> report.removed
        ()
        """
        age = seconds(older_than)
        if age is None:
            raise InvalidQuery("purging the archive needs older_than; 0 means all of it")
        self._check_writable(harmless=dry_run)
        return self._engine.purge_archive(age, prefix=prefix, dry_run=dry_run, progress=progress)
