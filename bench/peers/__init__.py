"""The stores of a comparison: their names, their durability, and how each is opened."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from pathlib import Path

    from bench.peers.base import Peer

RELAXED = "relaxed"  # what was acknowledged survives the death of the process
DURABLE = "durable"  # and a power cut


@dataclass(frozen=True)
class Spec:
    """One store at one durability level. Small and picklable: it travels to the worker processes."""

    name: str
    label: str
    level: str
    module: str  # below bench.peers
    needs: str  # what must be importable
    package: str  # whose version the conditions print; "" for the standard library
    how: str  # durability and settings, in words
    options: dict[str, Any] = field(default_factory=dict)
    atomic: bool = True  # False: its read-modify-write can lose updates, by design

    def open(self, root: Path) -> Peer:
        """Open the store below root in this process."""
        module = importlib.import_module(f"bench.peers.{self.module}")
        return cast("Peer", module.STORE(root, **self.options))

    def missing(self) -> str | None:
        """Return why this store cannot run here, or None when it can."""
        try:
            found = importlib.util.find_spec(self.needs) is not None
        except ModuleNotFoundError:
            found = False
        return None if found else f"{self.needs} is not installed"

    def version(self) -> str:
        """Return the version of the package behind it."""
        try:
            return importlib.metadata.version(self.package) if self.package else ""
        except importlib.metadata.PackageNotFoundError:
            return "from the source tree"


SPECS = {
    spec.name: spec
    for spec in (
        Spec("shardstore", "shardstore", RELAXED, "shard", "shardstore", "shardstore",
             'durability="relaxed"', {"durability": "relaxed"}),
        Spec("shardstore-indexed", "shardstore, indexed", RELAXED, "shard", "shardstore", "shardstore",
             'durability="relaxed", indexed=("status", "updatedAt")',
             {"durability": "relaxed", "indexed": ("status", "updatedAt")}),
        Spec("shardstore-commit", "shardstore commit", DURABLE, "shard", "shardstore", "shardstore",
             'durability="commit": fdatasync before the acknowledgement', {"durability": "commit"}),
        Spec("sqlite", "SQLite WAL NORMAL", RELAXED, "sqlite", "sqlite3", "",
             "row per key, orjson, BEGIN IMMEDIATE, patch by json_set; WAL, synchronous=NORMAL",
             {"synchronous": "NORMAL"}),
        Spec("sqlite-listed", "SQLite WAL NORMAL, indexed", RELAXED, "sqlite", "sqlite3", "",
             "with columns and indexes for updated and status, which a list needs",
             {"synchronous": "NORMAL", "listed": True}),
        Spec("sqlite-full", "SQLite WAL FULL", DURABLE, "sqlite", "sqlite3", "",
             "row per key, orjson, BEGIN IMMEDIATE; WAL, synchronous=FULL", {"synchronous": "FULL"}),
        Spec("lmdb-nosync", "LMDB nosync", RELAXED, "lmdb_", "lmdb", "lmdb",
             "value per key, orjson, one write transaction an update; MDB_NOSYNC", {"sync": False}),
        Spec("lmdb", "LMDB sync", DURABLE, "lmdb_", "lmdb", "lmdb",
             "value per key, orjson, one write transaction an update; sync at every commit", {"sync": True}),
        Spec("diskcache", "diskcache", RELAXED, "diskcache_", "diskcache", "diskcache",
             "transact(), orjson bytes kept in the database, no eviction; WAL, synchronous=NORMAL", {"synchronous": 1}),
        Spec("diskcache-full", "diskcache FULL", DURABLE, "diskcache_", "diskcache", "diskcache",
             "transact(), orjson bytes kept in the database, no eviction; WAL, synchronous=FULL",
             {"synchronous": 2}),
        Spec("perfile", "file per session", RELAXED, "perfile", "filelock", "filelock",
             "FileLock per session, orjson, temp and rename; no fsync", {"sync": False}),
        Spec("perfile-unlocked", "file per session, no lock", RELAXED, "perfile", "filelock", "",
             "orjson, temp and rename, nothing that excludes; no fsync",
             {"sync": False, "locked": False}, atomic=False),
        Spec("perfile-fsync", "file per session, fsync", DURABLE, "perfile", "filelock", "filelock",
             "FileLock per session, orjson, temp and rename; fsync of the temp and of the directory", {"sync": True}),
        Spec("onefile", "one sessions.json", RELAXED, "onefile", "filelock", "filelock",
             "FileLock, re-read, orjson, temp and rename; no fsync (the shape shardstore replaces)", {"sync": False}),
        Spec("onefile-fsync", "one sessions.json, fsync", DURABLE, "onefile", "filelock", "filelock",
             "FileLock, re-read, orjson, temp and rename; fsync of the temp and of the directory", {"sync": True}),
        Spec("nanobot", "nanobot", RELAXED, "nanobot_", "nanobot", "nanobot-ai",
             "SessionManager: read_session_snapshot, update_session_metadata; no fsync", {"sync": False}, atomic=False),
        Spec("nanobot-fsync", "nanobot fsync", DURABLE, "nanobot_", "nanobot", "nanobot-ai",
             "SessionManager: read_session_snapshot, update_session_metadata; fsync=True",
             {"sync": True}, atomic=False),
        Spec("strands", "Strands", RELAXED, "strands_", "strands", "strands-agents",
             "FileSessionManager: read_agent, update_agent (state); no fsync", atomic=False),
        Spec("openai", "OpenAI Agents", DURABLE, "openai_", "agents", "openai-agents",
             "SQLiteSession: get_items(1), add_items; WAL, synchronous=FULL (its default)", atomic=False),
        Spec("floor", "floor", RELAXED, "floor", "orjson", "",
             "hand-written: flock, fstat, orjson, append on one kept descriptor; no check, no index, no history"),
    )
}  # fmt: skip

LEFT_OUT = {
    "LangGraph SqliteStore, Google ADK, MS Agent Framework, PraisonAI, persidict, py-key-value":
        "each with many dependencies of its own; in an earlier comparison they took 0.8 to 5.3 ms for an update",
    "Redis, PostgreSQL": "servers: another kind of thing to install and to run",
}  # fmt: skip

RELAXED_STORES = ("shardstore", "sqlite", "lmdb-nosync", "diskcache", "perfile", "onefile", "nanobot", "strands")
DURABLE_STORES = (
    "shardstore-commit", "sqlite-full", "lmdb", "diskcache-full",
    "perfile-fsync", "onefile-fsync", "nanobot-fsync", "openai",
)  # fmt: skip
