"""A session store for agents that share one machine: one session key, one plain-text file, one kernel lock.

    from shardstore import Store

    store = Store("agents/main/sessions")
    store.update("agent:main:main", lambda draft: draft.update(turns=draft.get("turns", 0) + 1))

Start reading at `shardstore.store.Store.update`; docs/architecture.md has the map.
"""

import sys

if sys.platform == "win32":
    raise ImportError("shardstore needs POSIX file locks and renames; it runs on Linux and macOS, not on Windows")

from shardstore.draft import DELETE, Draft
from shardstore.errors import (
    CommitUncertain,
    Conflict,
    CorruptShard,
    InvalidEntry,
    InvalidKey,
    InvalidQuery,
    LockTimeout,
    NestedUpdate,
    SessionExists,
    SessionNotFound,
    ShardStoreError,
    StoreClosed,
    StoreFull,
    StoreIOError,
    StoreNotFound,
    UnsafeStore,
    UnsupportedFileSystem,
    UnsupportedFormat,
)
from shardstore.reports import Action, CompactReport, Problem, Skipped, StoreStats, VerifyReport
from shardstore.session import Session, SessionInfo
from shardstore.store import Store
from shardstore.version import __version__

__all__ = [
    "DELETE",
    "Action",
    "CommitUncertain",
    "CompactReport",
    "Conflict",
    "CorruptShard",
    "Draft",
    "InvalidEntry",
    "InvalidKey",
    "InvalidQuery",
    "LockTimeout",
    "NestedUpdate",
    "Problem",
    "Session",
    "SessionExists",
    "SessionInfo",
    "SessionNotFound",
    "ShardStoreError",
    "Skipped",
    "Store",
    "StoreClosed",
    "StoreFull",
    "StoreIOError",
    "StoreNotFound",
    "StoreStats",
    "UnsafeStore",
    "UnsupportedFileSystem",
    "UnsupportedFormat",
    "VerifyReport",
    "__version__",
]
