"""`store.archive`: what prune moved out of the store, and the way back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shardstore._retention import seconds
from shardstore.errors import InvalidQuery
from shardstore.session import Session

if TYPE_CHECKING:
    import builtins
    from collections.abc import Callable
    from datetime import timedelta

    from shardstore.engine import Engine
    from shardstore.reports import ArchivedFile, PurgeReport


class Archive:
    """The archive of one store; `store.archive` returns it."""

    __slots__ = ("_check_writable", "_engine", "_timeout")

    def __init__(self, engine: Engine, timeout: float | None, check_writable: Callable[..., None]) -> None:
        self._engine = engine
        self._timeout = timeout
        self._check_writable = check_writable

    def list(self, prefix: str | None = None) -> builtins.list[ArchivedFile]:
        """Return what lies in the archive, and in quarantine, what was moved there first in front.

        prefix: only sessions whose key begins so. Raises InvalidQuery, StoreIOError.

        >>> store.archive.list("agent:old:")
        []
        """
        return self._engine.archived(prefix)

    def restore(self, key: str) -> Session:
        """Bring back what was archived last of a session, with its history; return it.

        Raises SessionNotFound if nothing is archived, SessionExists if the session is there, CorruptShard if the
        archived copy is damaged (it stays where it is), LockTimeout.
        """
        self._check_writable()
        return Session(key, self._engine.restore(key, self._timeout), self._engine.logs)

    def purge(
        self,
        older_than: timedelta | float,
        *,
        prefix: str | None = None,
        dry_run: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> PurgeReport:
        """Remove for good what was archived more than `older_than` ago; what lies in quarantine stays.

        older_than: a timedelta, or seconds; 0 means all of it. dry_run: report, and remove nothing.
        progress(done, total) is called along the way. Raises InvalidQuery for a malformed limit, before anything is
        removed.
        """
        age = seconds(older_than)
        if age is None:
            raise InvalidQuery("purging the archive needs older_than; 0 means all of it")
        self._check_writable(harmless=dry_run)
        return self._engine.purge_archive(age, prefix=prefix, dry_run=dry_run, progress=progress)
