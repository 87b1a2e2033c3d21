"""The catalogue: an SQLite file with one row a session, as of the generation that its seal names.

Disposable, so it has no journal on the disk and is never synced: whatever goes wrong, it is made anew. It is used
without SQLite's own locks: the publisher is alone by the index lock, and a reader looks at the seal before and after.
What a reader was given in between counts only if the seal stayed.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from typing import TYPE_CHECKING, Any, Final

from shardstore._files.index.files import catalogue_name
from shardstore._files.index.generation import Seal
from shardstore._files.index.rows import CUT_ANY, Other, Row, digest_of
from shardstore._files.layout import FILE_MODE, shard_name
from shardstore.query import COLUMNS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from shardstore.query import Query

_TABLES: Final = """
CREATE TABLE session(digest BLOB NOT NULL, key TEXT NOT NULL, rev INTEGER NOT NULL, version TEXT NOT NULL,
    created INTEGER NOT NULL, updated INTEGER NOT NULL, size INTEGER NOT NULL, "end" INTEGER NOT NULL,
    fields BLOB NOT NULL, cut BLOB);
CREATE TABLE other(digest BLOB PRIMARY KEY, name TEXT NOT NULL, kind TEXT NOT NULL, reason TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE directory(prefix TEXT PRIMARY KEY, mtime INTEGER NOT NULL) WITHOUT ROWID;
"""
_INDEXES: Final = """
CREATE UNIQUE INDEX by_digest ON session(digest);
CREATE INDEX by_key ON session(key);
CREATE INDEX by_updated ON session(updated DESC, key);
CREATE INDEX figures ON session(size, rev, created, "end");
"""
_COLUMNS: Final = 'digest, key, rev, version, created, updated, size, "end", fields, cut'
_INSERT: Final = f"INSERT INTO session({_COLUMNS}) VALUES(?,?,?,?,?,?,?,?,?,?)"
# The key stays: the digest is the key's own, and naming it would write its index anew for each change.
_UPSERT: Final = f"""{_INSERT} ON CONFLICT(digest) DO UPDATE SET rev=excluded.rev, version=excluded.version,
    created=excluded.created, updated=excluded.updated, size=excluded.size,
    "end"=excluded."end", fields=excluded.fields, cut=excluded.cut"""
_CACHE_KIB: Final = 2048
_MANY: Final = 2000  # keys with a prefix beyond which going through the order's index is quicker than sorting
_SECOND_NS: Final = 1_000_000_000

CatalogueError = sqlite3.Error


class Catalogue:
    """One catalogue file, seen through one connection. Not for two threads at once."""

    __slots__ = ("_db", "path", "writable")

    def __init__(self, directory: str, epoch: str, *, mode: str = "ro") -> None:
        """Open it; `mode` is SQLite's: ro, rw or rwc. Raises sqlite3.Error."""
        self.path = f"{directory}/{catalogue_name(epoch)}"
        self.writable = mode != "ro"
        self._db = _connect(self.path, mode)
        try:
            self._db.executescript(
                "PRAGMA journal_mode=MEMORY; PRAGMA synchronous=OFF; PRAGMA temp_store=MEMORY; "
                f"PRAGMA cache_size=-{_CACHE_KIB};"
                if self.writable
                else f"PRAGMA cache_size=-{_CACHE_KIB}; PRAGMA query_only=ON"
            )
        except BaseException:
            self._db.close()  # else it stays open until it is collected
            raise

    def close(self) -> None:
        """Close the connection."""
        self._db.close()

    # Reading

    def rows(self, query: Query, without: set[bytes]) -> tuple[Iterator[Row], bool]:
        """Give the rows that can answer a query, but those of the digests in `without`; and whether in its order."""
        where, values = _conditions(query)
        source, order, ordered = "session", "", query.by_column
        if ordered:
            column = COLUMNS[query.order]
            order = f' ORDER BY "{column}" {"DESC" if query.descending else "ASC"}' + (
                ", key" if column != "key" else ""
            )
            if query.prefix and column != "key" and self._few(query.prefix):
                source = "session INDEXED BY by_key"
            elif query.prefix and column == "updated":
                source = "session INDEXED BY by_updated"
        limit = ""
        if ordered and query.limit is not None and not query.conditions:
            limit = f" LIMIT {query.limit + query.offset + len(without)}"
        sql = f"SELECT {_COLUMNS} FROM {source}{where}{order}{limit}"  # noqa: S608 - made of constants
        found = map(Row._make, self._db.execute(sql, values))
        if without:
            found = (row for row in found if row.digest not in without)  # type: ignore[assignment]
        return iter(found), ordered

    def _few(self, prefix: str) -> bool:
        where, values = _key_range(prefix)
        counted = self._db.execute(
            f"SELECT count(*) FROM (SELECT 1 FROM session WHERE {where} LIMIT {_MANY})",  # noqa: S608 - constants
            values,
        )
        return bool(counted.fetchone()[0] < _MANY)

    def totals(self, without: Iterable[bytes]) -> tuple[int, int, int]:
        """Give the number of sessions, the bytes of their entries and of their journals, but for some digests."""
        count, size, end = self._db.execute('SELECT count(*), total(size), total("end") FROM session').fetchone()
        for digest in without:
            row = self._db.execute('SELECT size, "end" FROM session WHERE digest=?', (digest,)).fetchone()
            if row is not None:
                count, size, end = count - 1, size - row[0], end - row[1]
        return count, int(size), int(end)

    def row(self, digest: bytes) -> Row | None:
        """Give one session's row."""
        found = self._db.execute(f"SELECT {_COLUMNS} FROM session WHERE digest=?", (digest,)).fetchone()  # noqa: S608
        return None if found is None else Row._make(found)

    def keys(self, after: str | None, count: int) -> list[tuple[bytes, str]]:
        """Give the digests and keys of the next sessions in the order of keys."""
        sql = "SELECT digest, key FROM session WHERE key > ? ORDER BY key LIMIT ?"
        return self._db.execute(sql, (after or "", count)).fetchall()

    def known(self, prefix: str) -> set[bytes]:
        """Give the digests of every shard in a directory that the catalogue knows, sessions or not."""
        low = bytes.fromhex(prefix)
        high = bytes([low[0] + 1]) if low < b"\xff" else b"\xff" * 17
        found: set[bytes] = set()
        for table in ("session", "other"):
            sql = f"SELECT digest FROM {table} WHERE digest >= ? AND digest < ?"  # noqa: S608 - constants
            found.update(digest for (digest,) in self._db.execute(sql, (low, high)))
        return found

    def name(self, digest: bytes) -> str | None:
        """Give the name of a shard that the catalogue knows."""
        row = self.row(digest)
        if row is not None:
            return shard_name(row.key)
        found = self._db.execute("SELECT name FROM other WHERE digest=?", (digest,)).fetchone()
        return None if found is None else str(found[0])

    def is_copy(self, name: str) -> bool:
        """Tell whether a session has another name than this one with the same digest: what lies here is not its."""
        row = self.row(digest_of(name))
        return row is not None and shard_name(row.key) != name

    def others(self, kind: str) -> dict[bytes, Other]:
        """Give the shards of this kind that are no sessions, by digest."""
        sql = "SELECT digest, name, kind, reason FROM other WHERE kind=? ORDER BY name"
        return {digest: Other(*rest) for digest, *rest in self._db.execute(sql, (kind,))}

    def directories(self) -> dict[str, int]:
        """Give each directory's mtime in nanoseconds, as it was before it was last compared."""
        return dict(self._db.execute("SELECT prefix, mtime FROM directory"))

    # Writing. REQUIRES, for everything below: the index lock; the seal is broken.

    def create(self, batches: Iterable[list[Row | Other]], directories: dict[str, int]) -> None:
        """Fill a new catalogue in one transaction; `directories` may be filled while the batches come."""
        self._db.executescript(_TABLES)
        self._db.execute("BEGIN")
        for batch in batches:
            rows = [row for row in batch if isinstance(row, Row)]
            self._db.executemany(_INSERT, rows)
            self._set_others(row for row in batch if isinstance(row, Other))
        self._db.executemany("INSERT INTO directory VALUES(?, ?)", directories.items())
        self._db.execute("COMMIT")
        self._db.executescript(_INDEXES)

    def publish(self, changes: list[Row | Other], directories: dict[str, int]) -> None:
        """Take in changed shards in one transaction."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            rows = [change for change in changes if isinstance(change, Row)]
            others = [change for change in changes if isinstance(change, Other)]
            self._db.executemany(_UPSERT, rows)
            if self._db.execute("SELECT 1 FROM other LIMIT 1").fetchone():
                self._db.executemany("DELETE FROM other WHERE digest=?", ((row.digest,) for row in rows))
            gone = [(digest_of(one.name),) for one in others if not self.is_copy(one.name)]
            self._db.executemany("DELETE FROM session WHERE digest=?", gone)
            self._set_others(others)
            self._db.executemany("INSERT OR REPLACE INTO directory VALUES(?, ?)", directories.items())
            self._db.execute("COMMIT")
        except BaseException:
            self._db.rollback()
            raise

    def _set_others(self, others: Iterable[Other]) -> None:
        """Remember shards that are no sessions; one without a file is forgotten."""
        for other in others:
            digest = digest_of(other.name)
            if other.kind == "absent" and other.reason == "no file":
                self._db.execute("DELETE FROM other WHERE digest=?", (digest,))
            else:
                self._db.execute("INSERT OR REPLACE INTO other VALUES(?, ?, ?, ?)", (digest, *other))

    def vacuum(self) -> None:
        """Give unused pages back to the file system."""
        self._db.execute("VACUUM")

    def slack(self) -> float:
        """Give the share of pages that are not used."""
        free, all_pages = (
            self._db.execute(f"PRAGMA {what}").fetchone()[0] for what in ("freelist_count", "page_count")
        )
        return float(free / max(1, all_pages))


_UNQUOTED = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-~")
_BEFORE_SURROGATES, _AFTER_SURROGATES = 0xD7FF, 0xE000


def _connect(path: str, mode: str) -> sqlite3.Connection:
    """Open a database; the path's bytes are escaped, for a root may have any name."""
    quoted = "".join(chr(b) if chr(b) in _UNQUOTED else f"%{b:02x}" for b in os.fsencode(path))
    if mode == "rwc":
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, FILE_MODE))
        mode = "rw"
    return sqlite3.connect(
        f"file:{quoted}?mode={mode}&vfs=unix-none", uri=True, isolation_level=None, check_same_thread=False
    )


def _key_range(prefix: str) -> tuple[str, list[Any]]:
    """Make the SQL for keys that begin with a prefix; SQLite compares text by its UTF-8, that is by code points."""
    if not prefix:
        return "1", []
    stem = prefix.rstrip("\U0010ffff")
    if not stem:
        return "key >= ?", [prefix]
    last = ord(stem[-1])
    after = _AFTER_SURROGATES if last == _BEFORE_SURROGATES else last + 1  # surrogates have no UTF-8
    return "key >= ? AND key < ?", [prefix, stem[:-1] + chr(after)]


def _conditions(query: Query) -> tuple[str, list[Any]]:
    """Make the SQL that no answer fails; what it lets through is still decided by the query itself."""
    where, values = _key_range(query.prefix)
    terms = [] if where == "1" else [where]
    for bound, term in zip(query.bounds, ("updated >= ?", "updated < ?", "size > ?"), strict=True):
        if bound is not None:
            terms.append(term)
            values.append(max(-(2**63), min(bound, 2**63 - 1)))
    for condition in query.conditions:
        needles = condition.needles()
        if needles is None or len(needles) > 8:  # noqa: PLR2004 - more are quicker to decide one by one
            continue
        found = "".join("instr(fields, ?) OR " for _ in needles)
        terms.append(f"({found}(cut IS NOT NULL AND (cut = ? OR instr(cut, ?))))")
        values += [*needles, CUT_ANY, _name_in_cut(condition.field)]
    return (" WHERE " + " AND ".join(terms) if terms else ""), values


def _name_in_cut(field: str) -> bytes:
    from shardstore import _codec as codec

    return codec.dumps(field)


def seal_of(path: str, base: int) -> Seal:
    """Give a catalogue that was just published a time that no later write leaves it, and return its seal.

    Clocks tick in milliseconds: a change in the same tick as the publication would leave the time as it is. So the
    publisher sets one of its own, somewhere before 2005, never the same twice. Raises OSError.
    """
    stamp = (int.from_bytes(os.urandom(4)) >> 2) * _SECOND_NS
    os.utime(path, ns=(stamp, stamp), follow_symlinks=False)
    return look_at(path, base)


def look_at(path: str, base: int) -> Seal:
    """Describe the catalogue file as it is now. Raises OSError."""
    status = os.stat(path, follow_symlinks=False)
    return Seal(base, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


class Connections:
    """Open catalogues that no thread uses right now, of the epoch that was looked at last.

    A thread takes one or opens another, so none waits for the other. Whoever published asks through the same one next:
    it has the pages that changed. A forked child may not even close what it inherited: it keeps it, unused.
    """

    __slots__ = ("_directory", "_idle", "_key", "_mutex")

    _inherited: list[Catalogue] = []  # noqa: RUF012 - of all stores, on purpose

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._mutex = threading.Lock()
        self._idle: list[Catalogue] = []
        self._key: tuple[str, int] = ("", 0)

    def take(self, epoch: str, inode: int, *, write: bool = False) -> Catalogue:
        """Give a connection to the catalogue of an epoch, which is the file `inode`. Raises sqlite3.Error."""
        stale = []
        with self._mutex:
            if self._key != (epoch, inode):
                stale, self._idle, self._key = self._idle, [], (epoch, inode)
            found = self._pop(write=write)
        for one in stale:
            one.close()
        return found or Catalogue(self._directory, epoch, mode="rw" if write else "ro")

    def _pop(self, *, write: bool) -> Catalogue | None:
        """Take out the one used last that will do. REQUIRES: the mutex."""
        for number in reversed(range(len(self._idle))):
            if self._idle[number].writable or not write:
                return self._idle.pop(number)
        return None

    def give_back(self, epoch: str, inode: int, catalogue: Catalogue) -> None:
        """Keep a connection for the next, unless its epoch is over."""
        with self._mutex:
            if self._key == (epoch, inode):
                self._idle.append(catalogue)
                return
        catalogue.close()

    def close(self, *, wait: bool = True) -> None:
        """Close what is idle; without `wait`, unless a thread takes or gives back one in this moment."""
        if not self._mutex.acquire(blocking=wait):
            return
        try:
            idle, self._idle, self._key = self._idle, [], ("", 0)
        finally:
            self._mutex.release()
        for one in idle:
            one.close()

    def after_fork(self) -> None:
        """Forget, in a forked child, what it inherited."""
        Connections._inherited.extend(self._idle)
        self._mutex, self._idle, self._key = threading.Lock(), [], ("", 0)
