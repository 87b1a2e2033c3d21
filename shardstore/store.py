"""The verbs. Every one that writes is an update: a function, run inside the session's lock, on what is on disk then."""

from __future__ import annotations

import errno
import os
import re
import threading
from collections.abc import Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn, Self, overload

from shardstore._files.engine import open_engine
from shardstore._files.layout import Layout
from shardstore._files.marker import Settings, make_store, read_settings
from shardstore.draft import DELETE, Delete, Draft
from shardstore.errors import (
    Conflict,
    InvalidEntry,
    InvalidQuery,
    SessionExists,
    SessionNotFound,
    ShardStoreError,
    StoreClosed,
    StoreIOError,
    UnknownField,
    raise_io_error,
    warn_caller,
)
from shardstore.query import Bounds, Condition, Query, parse
from shardstore.session import Session, SessionInfo, ticks

if TYPE_CHECKING:
    import builtins  # inside the class, `list` is the verb
    from collections.abc import Callable, Iterable, Iterator
    from datetime import timedelta
    from types import TracebackType

    from shardstore._files.engine import Engine
    from shardstore._files.shard import Shard
    from shardstore.query import Where
    from shardstore.reports import CompactReport, Kept, PurgeReport, StoreStats, VerifyReport

_ENCODABLE = re.compile("[^\ud800-\udfff]*", re.DOTALL)
_TEXT = re.compile("[^\ud800-\udfff]{1,256}", re.DOTALL)
Durability = Literal["commit", "relaxed"]


class Store:
    """A session store in the directory `root`, made on first use. Safe to share between threads and across fork.

    `durability`: "commit": what a call did survives a power cut once it returned; "relaxed": it survives the death
    of the process. `lock_timeout`: seconds a write may wait for its session, counted from the call; None: for ever.
    `actor` stands in every record written; by default the process id. `create=False` raises StoreNotFound instead of
    making the store. `read_only=True` writes nothing at all, not even the index. `allow_shared` opens a store that
    other users own or can write to. `indexed` names the fields that have an index, so that filtering and ordering
    by them costs as much as the rows returned; None: as the store has it. `scan_progress(done, total)`
    is called whenever a list has to read every session, because there is no index to believe; others may be waiting for
    it, so it should be quick and not use the store.

    Raises StoreNotFound, UnsafeStore, UnsupportedFormat, StoreIOError; ValueError where `indexed` is not what the store
    was made with, or was given by `reindex` since.
    """

    def __init__(  # noqa: PLR0913  # each is a setting of its own
        self,
        root: str | os.PathLike[str],
        *,
        durability: Durability = "commit",
        lock_timeout: float | None = 10.0,
        actor: str | None = None,
        create: bool = True,
        read_only: bool = False,
        allow_shared: bool = False,
        indexed: Iterable[str] | None = None,
        scan_progress: Callable[[int, int], None] | None = None,
    ) -> None:
        if durability not in ("commit", "relaxed"):
            raise ValueError(f'durability is "commit" or "relaxed", not {durability!r}')
        if lock_timeout is not None and (type(lock_timeout) not in (int, float) or not lock_timeout >= 0):
            raise ValueError(f"lock_timeout is a number of seconds from 0 on, or None, not {lock_timeout!r}")
        if actor is not None and (type(actor) is not str or not _TEXT.fullmatch(actor)):
            raise ValueError(f"actor is a text of 1 to 256 characters that UTF-8 can encode, not {actor!r}")
        self.root = Path(os.path.abspath(root))
        self._durable = durability == "commit"
        self._timeout = None if lock_timeout is None or lock_timeout > threading.TIMEOUT_MAX else lock_timeout
        self._actor = actor
        self._read_only = read_only
        self._scan_progress = scan_progress
        fields = None if indexed is None else _field_names(indexed)
        if create and not read_only:
            make_store(Layout(self.root), Settings(indexed=fields or ()))
        self._engine: Engine = open_engine(self.root, allow_shared=allow_shared)
        if fields is not None:
            self._check_indexed(fields)

    # Writing

    @overload
    def update(self, key: str, fn: Callable[[Draft], Mapping[str, Any] | None], *, create: bool = True) -> Session: ...
    @overload
    def update(
        self, key: str, fn: Callable[[Draft], Mapping[str, Any] | Delete | None], *, create: bool = True
    ) -> Session | None: ...

    def update(
        self, key: str, fn: Callable[[Draft], Mapping[str, Any] | Delete | None], *, create: bool = True
    ) -> Session | None:
        """Change a session by a function that runs inside its lock, on what is on the disk at that moment.

        `fn` mutates the draft it is given, or returns a mapping that replaces it, or DELETE. What it leaves as it was
        is not written; an exception writes nothing. Returns the session as it is afterwards; None if deleted. An
        absent session is made (even if `fn` adds no field), or with create=False raises SessionNotFound.

        Raises LockTimeout, NestedUpdate, InvalidKey, InvalidEntry, CorruptShard, StoreFull, StoreIOError,
        CommitUncertain; TypeError for a coroutine function or a result of another type.
        """
        shard = self._shard(key)
        hold: list[int] = []
        try:
            if not shard.lock(self._timeout, create=create, hold=hold):
                raise SessionNotFound(key)
            state = shard.refresh()
            draft = Draft(key, state, create=create)
            result = fn(draft)
            if result is not None:
                draft.accept(result)
            change = draft.change()
            if change is not None:
                self._engine.index.mark_changed(shard.name)
                state = shard.commit(change, self._by(), durable=self._durable, at=draft.at)
        finally:
            shard.unlock(hold)
        return Session(key, state) if state.exists else None

    @contextmanager
    def edit(self, key: str, *, create: bool = True) -> Iterator[Draft]:
        """Update as a with block: the draft is committed at its end; an exception writes nothing.

        Raises what `update` raises. Await nothing inside: the session's other writers would wait for it.
        """
        shard = self._shard(key)
        hold: list[int] = []
        try:
            if not shard.lock(self._timeout, create=create, hold=hold):
                raise SessionNotFound(key)
            draft = Draft(key, shard.refresh(), create=create)
            yield draft
            change = draft.change()
            if change is not None:
                self._engine.index.mark_changed(shard.name)
                shard.commit(change, self._by(), durable=self._durable)
        finally:
            shard.unlock(hold)

    def patch(
        self, key: str, fields: Mapping[str, Any] | None = None, *, unset: Iterable[str] = (), create: bool = True
    ) -> Session:
        """Give the named fields new values and take those in `unset` away; touch no other. Raises as `update`."""
        fields = {} if fields is None else _mapping(fields)
        removed = (unset,) if isinstance(unset, str) else tuple(unset)
        both = [name for name in removed if name in fields]
        if both:
            raise InvalidEntry(f"entry[{both[0]!r}]", "both given a value and unset")

        def change(draft: Draft) -> None:
            for name in fields:
                draft[name] = fields[name]
            for name in removed:
                draft.pop(name, None)

        return self.update(key, change, create=create)

    def create(self, key: str, data: Mapping[str, Any], *, at: datetime | None = None) -> Session:
        """Make a session. Raises SessionExists if it is there, else as `update`.

        `at`, for importers: when it last changed where it comes from; a moment in the future counts as now.
        """
        _mapping(data)
        since = _ticks(at)

        def make(draft: Draft) -> Mapping[str, Any]:
            if draft.state.exists:
                raise SessionExists(key)
            draft.at = since
            return data

        session: Session = self.update(key, make)
        return session

    def get_or_create(self, key: str, data: Mapping[str, Any] | Callable[[], Mapping[str, Any]]) -> Session:
        """Return the session, made from `data` if absent; all concurrent callers get the same one.

        `data` may be a function; it is called inside the session's lock, and only to make it. Raises as `update`.
        """
        if not callable(data):
            _mapping(data)

        def make(draft: Draft) -> Mapping[str, Any] | None:
            if draft.state.exists:
                return None
            made = data() if callable(data) else data
            return _mapping(made) if made is None else made

        return self.get(key) or self.update(key, make)

    def replace(
        self, key: str, data: Mapping[str, Any], *, expect: Session | SessionInfo | str | None = None
    ) -> Session:
        """Put `data` in place of the whole entry.

        `expect`: a Session or its version; raises Conflict, and writes nothing, unless that is the current one.
        Otherwise raises as `update`.
        """
        _mapping(data)

        def swap(draft: Draft) -> Mapping[str, Any]:
            _check_version(draft, expect)
            return data

        session: Session = self.update(key, swap)
        return session

    def delete(self, key: str, *, expect: Session | SessionInfo | str | None = None) -> bool:
        """Delete a session; tell whether it was there. Raises Conflict as `replace` does, else as `update`."""
        there = False

        def drop(draft: Draft) -> Delete:
            nonlocal there
            _check_version(draft, expect)
            there = True
            return DELETE

        try:
            self.update(key, drop, create=False)
        except SessionNotFound:
            if expect is not None:
                raise Conflict(key, _version(expect), None) from None
        return there

    # Reading

    def get(self, key: str) -> Session | None:
        """Return the session as last committed, or None if there is none. Waits for nobody.

        Raises CorruptShard, StoreIOError, StoreNotFound; never answers "absent" for any of these.
        """
        state = self._engine.shards.shard(key).read()
        return Session(key, state) if state.exists else None

    def __getitem__(self, key: str) -> Session:
        session = self.get(key)
        if session is None:
            raise SessionNotFound(key)
        return session

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self.get(key) is not None

    def __len__(self) -> int:
        return self.count()

    def __bool__(self) -> bool:
        return True  # an empty store is a store

    def __iter__(self) -> Iterator[str]:
        return iter(self._engine.index.keys(refresh=not self._read_only, progress=self._scan_progress))

    def list(  # noqa: PLR0913  # each narrows the list in its own way
        self,
        prefix: str | None = None,
        where: Where | None = None,
        order_by: str = "-updated_at",
        limit: int | None = None,
        offset: int = 0,
        *,
        after: SessionInfo | str | None = None,
        fields: Iterable[str] | None = None,
        updated_since: datetime | None = None,
        updated_before: datetime | None = None,
        larger_than: int | None = None,
    ) -> builtins.list[SessionInfo]:
        """List sessions from the index: exact as of some moment during the call.

        `where`: {field: value} or {field: (op, value)} with op one of == != < <= > >= in exists. `order_by`: a field,
        updated_at, created_at, size, rev or key; with a leading "-" descending. Both are quickest for the store's
        `indexed` fields. `after`: go on behind this SessionInfo of an earlier list, or its `.cursor`; a session that
        did not move meanwhile is neither skipped nor repeated. `fields`: show these fields, whatever their size.
        `updated_since`, `updated_before` (aware datetimes) and `larger_than` (bytes) narrow the list further.

        Warns (DamagedSessions) where sessions are left out because their files are damaged, and (UnknownField) where
        nothing matches and no session has a field of that name. Raises InvalidQuery.
        """
        bounds = _bounds(updated_since, updated_before, larger_than)
        query = parse(prefix, where, order_by, limit, offset, bounds, after, fields)
        with _typed("listing"):
            found = self._engine.index.select(query, **self._how_to_list())
            if not found and query.conditions:
                self._warn_of_unknown_fields(query)
        return found

    def count(  # as list
        self,
        prefix: str | None = None,
        where: Where | None = None,
        *,
        updated_since: datetime | None = None,
        updated_before: datetime | None = None,
        larger_than: int | None = None,
    ) -> int:
        """Count what `list` would return. Warns and raises as it does."""
        query = parse(prefix, where, bounds=_bounds(updated_since, updated_before, larger_than))
        with _typed("counting"):
            found = self._engine.index.count(query, **self._how_to_list())
            if not found and query.conditions:
                self._warn_of_unknown_fields(query)
        return found

    def _how_to_list(self) -> dict[str, Any]:
        return {"refresh": not self._read_only, "progress": self._scan_progress}

    def _warn_of_unknown_fields(self, query: Query) -> None:
        """Warn of fields in a filter that found nothing and that no session has: once a field and process."""
        index = self._engine.index
        for condition in query.conditions:
            field = (os.fspath(self.root), condition.field)
            if field in _looked_up:
                continue
            having = Query(conditions=(Condition(condition.field, "exists", True),), limit=1)
            if index.select(having, **self._how_to_list()):
                _looked_up.add(field)
            elif index.count(Query(), **self._how_to_list()):
                _looked_up.add(field)
                warn_caller(UnknownField(f"where: no session in this store has a field {condition.field!r}"))

    def history(self, key: str) -> builtins.list[Session]:
        """Return the session's states, oldest first, as far back as its journal goes; empty if absent.

        Begins anew when the session was deleted and made again. Raises CorruptShard, StoreIOError.
        """
        shard = self._engine.shards.shard(key)
        return [Session(key, state) for state in shard.history()]

    # Maintenance

    def compact(  # noqa: PLR0913  # each is a rule of its own
        self,
        *,
        older_than: timedelta | float | None = None,
        max_entries: int | None = None,
        max_bytes: int | None = None,
        where: Where | None = None,
        prefix: str | None = None,
        keep: Iterable[str] = (),
        purge: bool = False,
        dry_run: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> CompactReport:
        """Rewrite grown journals, sweep what is dead, and remove what the given rules say.

        Without a rule no session is removed. `older_than`: seconds since the last change. `max_entries`, `max_bytes`:
        the sessions changed longest ago go first. `where` and `prefix` narrow what may be removed; `keep` (keys, or
        prefixes that end in "*") is never touched. What is removed goes to archive/, or with `purge` for good.
        Runs beside writers: one session is locked at a time, a busy one is skipped and reported. Stopped anywhere it
        loses nothing, and it can run again. `dry_run` changes nothing. `progress(done, total)` is called along the way.

        Raises InvalidQuery for a malformed rule, before anything is removed.
        """
        from shardstore._files.maintenance.compact import compact
        from shardstore._retention import Retention

        rules = Retention.parse(older_than, max_entries, max_bytes, where, prefix, keep)
        self._check_writable(harmless=dry_run)
        with _typed("compacting"):
            return compact(
                self._engine,
                rules,
                purge=purge,
                dry_run=dry_run,
                progress=progress,
                scan_progress=self._scan_progress,
            )

    def restore(self, key: str) -> Session:
        """Bring back what compact archived last of this session.

        Raises SessionNotFound if nothing is archived, SessionExists if the session is there.
        """
        from shardstore._files.maintenance.archive import restore

        self._check_writable()
        with _typed("restoring a session"):
            return Session(key, restore(self._engine, key, self._timeout))

    def kept(self, *, prefix: str | None = None) -> builtins.list[Kept]:
        """List what lies in archive/ and quarantine/, what was moved there first in front."""
        from shardstore._files.maintenance.archive_listing import kept

        with _typed("listing the archive"):
            return kept(self._engine, prefix)

    def purge_archive(
        self,
        older_than: timedelta | float,
        *,
        prefix: str | None = None,
        dry_run: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> PurgeReport:
        """Remove for good what was moved to archive/ more than `older_than` (seconds) ago; quarantine/ stays.

        Raises InvalidQuery for a malformed limit, before anything is removed.
        """
        from shardstore._files.maintenance.archive_listing import purge

        self._check_writable(harmless=dry_run)
        with _typed("purging the archive"):
            return purge(self._engine, older_than, prefix=prefix, dry_run=dry_run, progress=progress)

    def verify(self, *, repair: bool = False, progress: Callable[[int, int], None] | None = None) -> VerifyReport:
        """Check every shard, every record, and the index against the shards.

        With `repair`, what can be salvaged of a damaged shard becomes readable again, and the damaged original is
        moved to quarantine/; nothing is deleted. Without it no shard is changed, but unless this Store is read-only
        the index is told of the damage, and `stats().damaged` names it from then on.
        """
        from shardstore._files.maintenance.verify import verify

        if repair:
            self._check_writable()
        with _typed("verifying"):
            return verify(self._engine, repair=repair, note=not self._read_only, progress=progress)

    def stats(self) -> StoreStats:
        """Count sessions, bytes, and what is waiting for maintenance."""
        from shardstore._files.maintenance.stats import stats

        with _typed("counting"):
            return stats(self._engine, refresh=not self._read_only, progress=self._scan_progress)

    def reindex(self, fields: Iterable[str]) -> None:
        """Have these fields indexed instead of the present ones, in every process that has the store open.

        Reads every session once, beside running writers. Raises ValueError for what is no list of names.
        """
        names = _field_names(fields)
        self._check_writable()
        with _typed("indexing"):
            self._engine.index.reindex(names, self._scan_progress)

    # Life

    def _check_indexed(self, fields: tuple[str, ...]) -> None:
        """Close and raise ValueError unless these are the indexed fields."""
        found = read_settings(self._engine.layout).indexed
        if set(found) != set(fields):
            self.close()
            raise ValueError(f"the indexed fields are {found!r}, not {fields!r}; Store.reindex changes them")

    def close(self) -> None:
        """Close what this object has open. A second call does nothing; every other one raises StoreClosed."""
        engine, self._engine = self._engine, _CLOSED
        if engine is not _CLOSED:
            engine.leave()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Store({str(self.root)!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("a Store cannot be pickled: open it again, by its root, in the other process")

    def _shard(self, key: str) -> Shard:
        """Give the shard to be written to. Raises InvalidKey, StoreClosed, StoreIOError for a read-only Store."""
        if self._read_only:
            self._check_writable()
        return self._engine.shards.shard(key)

    def _by(self) -> str:
        return self._actor or self._engine.process

    def _check_writable(self, *, harmless: bool = False) -> None:
        if self._read_only and not harmless:
            raise StoreIOError(errno.EROFS, f"{self.root} was opened with read_only=True", str(self.root))


@contextmanager
def _typed(doing: str) -> Iterator[None]:
    """Raise the typed error for a system call that failed on the way, whichever it was."""
    try:
        yield
    except ShardStoreError:
        raise
    except OSError as error:
        raise_io_error(error, doing)


class _Closed:
    """What stands in the engine's place once a Store was closed."""

    def __getattr__(self, name: str) -> NoReturn:
        raise StoreClosed


_CLOSED: Final[Any] = _Closed()


def _ticks(moment: datetime | None) -> int | None:
    if moment is None:
        return None
    if not isinstance(moment, datetime) or moment.tzinfo is None:
        raise InvalidQuery(f"a bound in time is a datetime with a time zone, not {moment!r}")
    return ticks(moment)


def _bounds(since: datetime | None, before: datetime | None, larger_than: int | None) -> Bounds:
    return Bounds(_ticks(since), _ticks(before), larger_than)


def _field_names(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names of fields to be indexed, each once. Raises ValueError."""
    found = () if isinstance(names, str) else tuple(dict.fromkeys(names))
    if isinstance(names, str) or not all(type(name) is str and _ENCODABLE.fullmatch(name) for name in found):
        raise ValueError(f"indexed is a list of field names, not {names!r}")
    if len(found) > _INDEXED_MAX:
        raise ValueError(f"{len(found)} fields to be indexed; at most {_INDEXED_MAX} are allowed")
    return found


_INDEXED_MAX: Final = 64  # each makes every refresh dearer
_looked_up: set[tuple[str, str]] = set()  # fields of filters, each with the store's root


def _mapping(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return `data`; raise InvalidEntry unless it is a mapping."""
    if not isinstance(data, Mapping):
        raise InvalidEntry("entry", f"{type(data).__name__} is not a mapping of fields")
    return data


def _version(expect: Session | SessionInfo | str) -> str:
    if isinstance(expect, Session | SessionInfo):
        return expect.version
    if not isinstance(expect, str):
        raise TypeError(f"expect is a Session, a SessionInfo or a version, not {type(expect).__name__}")
    return expect


def _check_version(draft: Draft, expect: Session | SessionInfo | str | None) -> None:
    """Raise Conflict unless the session is at the expected version. Inside the lock: read, compare and swap are one."""
    if expect is None:
        return
    found = draft.state.version if draft.state.exists else None
    if found != _version(expect):
        raise Conflict(draft.key, _version(expect), found)
