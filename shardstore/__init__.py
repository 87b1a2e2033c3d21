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
    DamagedSessions,
    HoldExpired,
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
    ShardStoreWarning,
    StoreBusy,
    StoreClosed,
    StoreFull,
    StoreIncomplete,
    StoreIOError,
    StoreNotFound,
    StoreUnavailable,
    UnknownField,
    UnsafeStore,
    UnsupportedFileSystem,
    UnsupportedFormat,
    WatchExpired,
)
from shardstore.log import Log, LogItem
from shardstore.session import Session, SessionInfo
from shardstore.store import Store
from shardstore.types import JSON, Mutator, Where

if typing.TYPE_CHECKING:
    from shardstore.convert import join_key, jsonable, split_key
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
        RestoreReport,
        Skipped,
        StoreStats,
        VerifyReport,
    )

__all__ = [
    "DELETE",
    "JSON",
    "Action",
    "ArchivedFile",
    "Check",
    "CommitUncertain",
    "CompactReport",
    "Conflict",
    "CorruptShard",
    "DamagedSessions",
    "DoctorReport",
    "Draft",
    "EraseReport",
    "HoldExpired",
    "InvalidEntry",
    "InvalidKey",
    "InvalidQuery",
    "LockHolder",
    "LockTimeout",
    "Log",
    "LogItem",
    "LogReplaced",
    "Mutator",
    "NestedUpdate",
    "Problem",
    "PruneReport",
    "PurgeReport",
    "RestoreReport",
    "RevisionNotFound",
    "Session",
    "SessionExists",
    "SessionInfo",
    "SessionNotFound",
    "ShardStoreError",
    "ShardStoreWarning",
    "Skipped",
    "Store",
    "StoreBusy",
    "StoreClosed",
    "StoreFull",
    "StoreIOError",
    "StoreIncomplete",
    "StoreNotFound",
    "StoreStats",
    "StoreUnavailable",
    "UnknownField",
    "UnsafeStore",
    "UnsupportedFileSystem",
    "UnsupportedFormat",
    "VerifyReport",
    "WatchExpired",
    "Where",
    "__version__",
    "join_key",
    "jsonable",
    "split_key",
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
        "RestoreReport",
        "Skipped",
        "StoreStats",
        "VerifyReport",
    }
)
_CONVERT = frozenset({"join_key", "jsonable", "split_key"})


def __getattr__(name: str) -> object:
    """Import reports and conversions when they are asked for: dataclasses take longer than a `shardstore get`."""
    if name in _REPORTS:
        from shardstore import reports

        found: object = getattr(reports, name)
    elif name in _CONVERT:
        from shardstore import convert

        found = getattr(convert, name)
    else:
        raise AttributeError(f"module 'shardstore' has no attribute {name!r}")
    return found
