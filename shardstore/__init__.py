"""A session store for agents that share one machine: one session key, one plain-text file, one kernel lock.

    from shardstore import Store

    store = Store("agents/main/sessions")
    store.update("agent:main:main", lambda draft: draft.update(turns=draft.get("turns", 0) + 1))

Start reading at `shardstore.store.Store.update`; docs/internals/architecture.md has the map.
"""

import sys
import typing

if sys.platform == "win32":
    raise ImportError("shardstore needs POSIX file locks and renames; it runs on Linux and macOS, not on Windows")

from shardstore._version import __version__
from shardstore.draft import DELETE, Draft
from shardstore.errors import (
    CommitUncertain,
    Conflict,
    CorruptShard,
    InvalidEntry,
    InvalidKey,
    InvalidQuery,
    LockTimeout,
    LogReplaced,
    NestedUpdate,
    RevisionNotFound,
    SessionExists,
    SessionNotFound,
    ShardStoreError,
    StoreBusy,
    StoreClosed,
    StoreFull,
    StoreIncomplete,
    StoreIOError,
    StoreNotFound,
    UnsafeStore,
    UnsupportedFileSystem,
    UnsupportedFormat,
)
from shardstore.log import Log, LogItem
from shardstore.session import Session, SessionInfo
from shardstore.store import Store

if typing.TYPE_CHECKING:
    from shardstore.reports import (
        Action,
        ArchivedFile,
        Check,
        CompactReport,
        DoctorReport,
        EraseReport,
        LockHolder,
        Problem,
        PruneReport,
        PurgeReport,
        Skipped,
        StoreStats,
        VerifyReport,
    )

__all__ = [
    "DELETE",
    "Action",
    "ArchivedFile",
    "Check",
    "CommitUncertain",
    "CompactReport",
    "Conflict",
    "CorruptShard",
    "DoctorReport",
    "Draft",
    "EraseReport",
    "InvalidEntry",
    "InvalidKey",
    "InvalidQuery",
    "LockHolder",
    "LockTimeout",
    "Log",
    "LogItem",
    "LogReplaced",
    "NestedUpdate",
    "Problem",
    "PruneReport",
    "PurgeReport",
    "RevisionNotFound",
    "Session",
    "SessionExists",
    "SessionInfo",
    "SessionNotFound",
    "ShardStoreError",
    "Skipped",
    "Store",
    "StoreBusy",
    "StoreClosed",
    "StoreFull",
    "StoreIOError",
    "StoreIncomplete",
    "StoreNotFound",
    "StoreStats",
    "UnsafeStore",
    "UnsupportedFileSystem",
    "UnsupportedFormat",
    "VerifyReport",
    "__version__",
]

_REPORTS = frozenset(
    {
        "Action",
        "ArchivedFile",
        "Check",
        "CompactReport",
        "DoctorReport",
        "EraseReport",
        "LockHolder",
        "Problem",
        "PruneReport",
        "PurgeReport",
        "Skipped",
        "StoreStats",
        "VerifyReport",
    }
)


def __getattr__(name: str) -> object:
    """Import the reports when they are asked for: making dataclasses takes longer than a `shardstore get`."""
    if name not in _REPORTS:
        raise AttributeError(f"module 'shardstore' has no attribute {name!r}")
    from shardstore import reports

    made: object = getattr(reports, name)
    return made
