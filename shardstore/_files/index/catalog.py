"""The catalog: an SQLite file with one row a session, as of a mark in a change file.

Disposable, so its rollback journal is in memory and nothing is synced: whatever goes wrong, it is rebuilt. SQLite's
own locks keep readers and the publisher apart. They are the process's, and fall when any code in it opens and closes
the file: our own code never opens it but through SQLite, and a list compares it with its seal after the query.
"""

from __future__ import annotations

import os
import sqlite3
import weakref
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import quote

from shardstore._conditions import Term
from shardstore._files import disk
from shardstore._files.change_file.file import Unusable
from shardstore._files.direct.rows import NO_FILE, NoSession, SessionRow, digest_of
from shardstore._files.forking import begin_use, end_use
from shardstore._files.index.sql import SQLITE, where
from shardstore._files.layout import shard_name
from shardstore._row import PackedRow, Row, pack

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from shardstore._conditions import Part
    from shardstore.query import Query

CATALOG: Final = "catalog"
IN_MEMORY: Final = ":memory:"  # in place of a path: of this process alone
FORMAT: Final = 3

_TABLES: Final = """
CREATE TABLE meta(format INTEGER, settings TEXT, life TEXT, file TEXT, mark INTEGER);
CREATE TABLE session(digest BLOB NOT NULL, key TEXT NOT NULL, updated INTEGER NOT NULL, created INTEGER NOT NULL,
    size INTEGER NOT NULL, rev INTEGER NOT NULL, log_length INTEGER NOT NULL, packed BLOB NOT NULL, cut BLOB{columns},
    live INTEGER NOT NULL, "end" INTEGER NOT NULL, fingerprint INTEGER NOT NULL);
CREATE TABLE other(digest BLOB NOT NULL, name TEXT PRIMARY KEY, kind TEXT NOT NULL, reason TEXT NOT NULL,
    fingerprint INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE directory(prefix TEXT PRIMARY KEY, ctime INTEGER NOT NULL) WITHOUT ROWID;
"""
_INDEXES: Final = """
CREATE UNIQUE INDEX by_digest ON session(digest);
CREATE INDEX by_key ON session(key);
CREATE INDEX by_updated ON session(updated DESC, key);
CREATE INDEX damaged ON other(name) WHERE kind='damaged';
CREATE INDEX other_by_digest ON other(digest);
"""
_INDEXES_OF_COLUMN: Final = """
CREATE INDEX by_{0} ON session({0}, key);
CREATE INDEX by_{0}_updated ON session({0}, updated DESC, key);
"""
_OF_ROW: Final = ("digest", "key", "updated", "created", "size", "rev", "log_length", "packed", "cut")
_OF_FILE: Final = ("live", '"end"', "fingerprint")
_READING: Final = "PRAGMA cache_size=-4000;PRAGMA mmap_size=0"
_WRITING: Final = "PRAGMA journal_mode=MEMORY;PRAGMA synchronous=OFF;PRAGMA temp_store=MEMORY;PRAGMA cache_spill=0"
_FILLING: Final = "PRAGMA journal_mode=OFF;PRAGMA locking_mode=EXCLUSIVE"
_BUSY_S: Final = 0.05  # seconds; a publisher takes milliseconds
_FEW: Final = 1000  # keys with a prefix, up to which walking them all is quicker than walking the newest of all
_AT_ONCE: Final = 500  # values in one statement
_SECOND_NS: Final = 1_000_000_000
_LAST: Final = b"\xff" * 17  # behind every digest

_packed_row = partial(tuple.__new__, PackedRow)  # three times as fast as calling the class: a list makes one a row


class Meta(NamedTuple):
    """What a catalog says of itself."""

    settings: str  # what its rows were made with
    life: str  # of the machine and file system that it was written in
    file: str  # the change file it goes with
    mark: int  # it knows every change in front of this place

    @property
    def edition(self) -> tuple[str, int]:
        """What tells this catalog from every other one that was published."""
        return self.file, self.mark


class Catalog:
    """One connection. Not for two threads at once."""

    def __init__(self, path: str, indexed: Sequence[str], *, write: bool) -> None:
        """Open a catalog that is there. Raises sqlite3.Error."""
        begin_use(self)
        self.path = path
        self.indexed = tuple(indexed)
        self.writable = write
        mode = "memory" if path == IN_MEMORY else "rw" if write else "ro"
        self._db = sqlite3.connect(
            f"file:{quote(os.fsencode(path))}?mode={mode}",  # a root may have any name
            uri=True, isolation_level=None, check_same_thread=False, timeout=_BUSY_S,
        )  # fmt: skip
        # A connection warns when the garbage collector finds it open. Its catalog closes it first, also in a cycle.
        weakref.finalize(self, self._db.close).atexit = False
        try:
            self._db.executescript(f"{_READING};{_WRITING if write else ''}")
        except BaseException:
            self.close()
            raise
        self._columns = [f"i{number}" for number in range(len(self.indexed))]
        names = [*_OF_ROW, *self._columns, *_OF_FILE]
        self._insert = f"INSERT INTO session({','.join(names)}) VALUES({','.join('?' * len(names))})"
        changed = ",".join(f"{name}=excluded.{name}" for name in names[2:])
        self._upsert = f"{self._insert} ON CONFLICT(digest) DO UPDATE SET {changed}"

    @classmethod
    def create(cls, path: str, indexed: Sequence[str]) -> Catalog:
        """Create an empty one, to be filled by one call of `fill`. Raises OSError, sqlite3.Error."""
        if path != IN_MEMORY:
            os.close(disk.create(path))
        made = cls(path, indexed, write=True)
        try:
            made._db.executescript(_FILLING)
            made._db.executescript(_TABLES.format(columns="".join(f",{name} BLOB" for name in made._columns)))
        except BaseException:
            made.close()
            raise
        return made

    def close(self) -> None:
        """Close the connection."""
        begin_use(self)
        self._db.close()
        end_use(self)

    # A transaction: one moment of the file

    def begin(self) -> Meta:
        """Begin to read, and return what the catalog says of itself. Raises Unusable, sqlite3.Error."""
        self._db.execute("BEGIN")
        return self.meta()

    def meta(self) -> Meta:
        """Return what the catalog says of itself. Raises Unusable, sqlite3.Error."""
        found = self._db.execute("SELECT * FROM meta").fetchall()
        if len(found) != 1 or found[0][0] != FORMAT:
            raise Unusable("the catalog is of another format")
        return Meta._make(found[0][1:])

    def end(self) -> None:
        """End the transaction of `begin`."""
        self._db.execute("COMMIT")

    # Reading. REQUIRES, for everything below: a transaction.

    def part(self, query: Query, part: Part, terms: Sequence[Term], most: int | None) -> Iterator[PackedRow]:
        """Return the rows of one part of a query's order."""
        if query.prefix and query.order != "key" and not self._few(query.prefix):
            terms = [_without_index(term) for term in terms]
        clause, values = where((*terms, *part.terms))
        limit = "" if most is None else f" LIMIT {most}"
        sql = f"SELECT key,{part.position},packed FROM session{clause} ORDER BY {part.order}{limit}"  # noqa: S608 - constants
        return map(_packed_row, self._db.execute(sql, values))

    def narrowed(self, terms: Sequence[Term]) -> Iterator[PackedRow]:
        """Return the rows that meet these conditions."""
        clause, values = where(terms)
        rows = self._db.execute(f"SELECT key,NULL,packed FROM session{clause}", values)  # noqa: S608 - constants
        return map(_packed_row, rows)

    def _few(self, prefix: str) -> bool:
        clause, values = where(SQLITE.prefixed(prefix))
        sql = f"SELECT count(*) FROM (SELECT 1 FROM session{clause} LIMIT {_FEW})"  # noqa: S608 - constants
        found = self._db.execute(sql, values).fetchone()
        return bool(found[0] < _FEW)

    def sums(self, what: str, terms: Sequence[Term], without: Collection[str]) -> list[int]:
        """Return sums over the rows that meet these conditions, but for some keys; `what`: their SQL."""

        def ask(*more: Term) -> list[int]:
            clause, values = where((*terms, *more))
            sums = self._db.execute(f"SELECT {what} FROM session{clause}", values).fetchone()  # noqa: S608 - constants
            return list(map(int, sums))

        found, keys = ask(), list(without)
        for start in range(0, len(keys), _AT_ONCE):
            some = tuple(keys[start : start + _AT_ONCE])
            less = ask(Term(f"key IN ({','.join('?' * len(some))})", some))
            found = [one - other for one, other in zip(found, less, strict=True)]
        return found

    def keys(self, after: str, count: int) -> list[str]:
        """Return the next keys in ascending order."""
        found = self._db.execute("SELECT key FROM session WHERE key>? ORDER BY key LIMIT ?", (after, count))
        return [key for (key,) in found]

    def row(self, name: str) -> Row | None:
        """Return the row of the session whose shard has this name, if the catalog holds it."""
        sql = "SELECT key,NULL,packed FROM session WHERE digest=?"
        found = self._db.execute(sql, (digest_of(name),)).fetchone()
        # A copy that somebody left beside the shard has its digest, and a name that is no session's.
        return _packed_row(found).row if found is not None and shard_name(found[0]) == name else None

    def key_of(self, name: str) -> str | None:
        """Return the key of the session whose shard has this name, if the catalog holds it."""
        found = self._db.execute("SELECT key FROM session WHERE digest=?", (digest_of(name),)).fetchone()
        return str(found[0]) if found is not None and shard_name(found[0]) == name else None

    def holds(self, one: SessionRow) -> bool:
        """Return whether everything that the catalog holds of a session is as it is here, the file's length aside."""
        columns = ",".join((*_OF_ROW, *self._columns))
        sql = f"SELECT {columns} FROM session WHERE digest=?"  # noqa: S608 - constants
        found = self._db.execute(sql, (digest_of(one.name),)).fetchone()
        return bool(found == _record(one)[: -len(_OF_FILE)])

    def known(self, behind: bytes, until: bytes = _LAST, most: int = -1) -> list[tuple[bytes, str, int]]:
        """Return the digest, name and fingerprint of the shards that the catalog knows, by their digests.

        The digests lie between two bounds; the two-digit prefix of a directory is such a bound.
        """
        rows = self._db.execute(
            "SELECT digest, key, NULL, fingerprint FROM session WHERE digest>? AND digest<? UNION ALL "
            "SELECT digest, NULL, name, fingerprint FROM other WHERE digest>? AND digest<? ORDER BY 1 LIMIT ?",
            (behind, until, behind, until, most),
        )
        return [(digest, name or shard_name(key), fingerprint) for digest, key, name, fingerprint in rows]

    def fingerprints(self, prefix: str) -> dict[str, int]:
        """Return the names of all shards in a directory that the catalog knows, each with its file's fingerprint."""
        low = bytes.fromhex(prefix)
        until = bytes([low[0] + 1]) if low < b"\xff" else _LAST
        return {name: fingerprint for _, name, fingerprint in self.known(low, until)}

    def damaged(self) -> list[str]:
        """Return the names of the shards that could not be read."""
        return [name for (name,) in self._db.execute("SELECT name FROM other WHERE kind='damaged' ORDER BY name")]

    def directories(self) -> dict[str, int]:
        """Return each directory's ctime in nanoseconds, as it was before it was last compared."""
        return dict(self._db.execute("SELECT prefix, ctime FROM directory"))

    # Writing. REQUIRES, for everything below: the index lock.

    def fill(self, batches: Iterable[list[SessionRow | NoSession]], directories: dict[str, int], meta: Meta) -> None:
        """Fill a new catalog; `directories` may grow while the batches come. Raises sqlite3.Error."""
        self._db.execute("BEGIN")
        for batch in self._outside(batches):
            self._db.executemany(self._insert, [_record(one) for one in batch if isinstance(one, SessionRow)])
            self._set_others(batch)
        self._db.executemany("INSERT INTO directory VALUES(?,?)", directories.items())
        statements = _INDEXES + "".join(_INDEXES_OF_COLUMN.format(name) for name in self._columns)
        for statement in filter(str.strip, statements.split(";")):
            self._db.execute(statement)
        self._set_meta(meta)
        self._db.execute("COMMIT")

    def _outside(self, batches: Iterable[list[SessionRow | NoSession]]) -> Iterator[list[SessionRow | NoSession]]:
        """Yield batches; while each is read, which takes long, no fork waits for this connection."""
        left = iter(batches)
        while True:
            end_use(self)
            try:
                batch = next(left, None)
            finally:
                begin_use(self)
            if batch is None:
                return
            yield batch

    @contextmanager
    def writing(self, *, exclusive: bool) -> Iterator[None]:
        """Publish what the block publishes in one transaction. `exclusive`: wait for readers now, not at its end."""
        self._db.execute(f"BEGIN {'EXCLUSIVE' if exclusive else 'IMMEDIATE'}")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            self._db.rollback()
            raise

    def publish(self, changes: Sequence[SessionRow | NoSession], directories: dict[str, int], meta: Meta) -> None:
        """Take in changed shards. REQUIRES: `writing`. Raises sqlite3.Error."""
        gone = [(key,) for one in changes if isinstance(one, NoSession) and (key := self.key_of(one.name)) is not None]
        self._db.executemany("DELETE FROM session WHERE key=?", gone)
        self._db.executemany(self._upsert, [_record(one) for one in changes if isinstance(one, SessionRow)])
        if self._db.execute("SELECT 1 FROM other LIMIT 1").fetchone():
            self._db.executemany("DELETE FROM other WHERE name=?", [(one.name,) for one in changes])
        self._set_others(changes)
        self._db.executemany("INSERT OR REPLACE INTO directory VALUES(?,?)", directories.items())
        self._set_meta(meta)

    def _set_others(self, found: Iterable[SessionRow | NoSession]) -> None:
        others = [(digest_of(one.name), *one) for one in found if isinstance(one, NoSession) and one.reason != NO_FILE]
        self._db.executemany("INSERT OR REPLACE INTO other VALUES(?,?,?,?,?)", others)

    def _set_meta(self, meta: Meta) -> None:
        self._db.execute("DELETE FROM meta")
        self._db.execute("INSERT INTO meta VALUES(?,?,?,?,?)", (FORMAT, *meta))

    def vacuum(self, share: float) -> bool:
        """Return unused pages to the file system if they are at least this share; return whether the file changed."""
        free, pages = [self._db.execute(f"PRAGMA {what}").fetchone()[0] for what in ("freelist_count", "page_count")]
        if free < share * max(1, pages):
            return False
        self._db.execute("VACUUM")
        return True


def stamp(path: str) -> str:
    """Set a time that no later write leaves the catalog, and return its fingerprint for a seal. Raises OSError.

    A write within the same tick of the file system's clock would leave the time as it is. So the publisher sets one
    of its own, somewhere before 2005, never the same twice.
    """
    time = (int.from_bytes(os.urandom(4)) >> 2) * _SECOND_NS
    os.utime(path, ns=(time, time), follow_symlinks=False)
    return fingerprint(path)


def fingerprint(path: str) -> str:
    """Return the catalog's inode, size and times, as a seal holds them. Raises OSError."""
    status = os.lstat(path)
    return f"{status.st_ino} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"


def _record(one: SessionRow) -> tuple[Any, ...]:
    name, row, live, end, columns, seen = one
    return (
        digest_of(name), row.key, row.updated, row.created, row.size, row.rev, row.log_length, pack(row), row.cut,
        *columns, live, end, seen,
    )  # fmt: skip


def _without_index(term: Term) -> Term:
    """Have SQLite decide a condition on the key row by row: the plus keeps it from walking the index of keys."""
    return term._replace(sql=f"+{term.sql}") if term.sql.startswith("key") else term
