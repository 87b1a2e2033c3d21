"""The verbs. Every one that writes is a transaction: it decides inside the session's lock, on what is there then."""

from __future__ import annotations

import errno
import os
import re
import threading
from collections.abc import Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn, Self, TypeVar, overload

from shardstore import _events as events
from shardstore._imports import late_imports
from shardstore._model import NEVER_WAS
from shardstore._transcripts import Follower, NewItems, Pair, copy_of, read_log
from shardstore.draft import Draft, patcher
from shardstore.engine import Engine, open_engine
from shardstore.errors import (
    Conflict,
    CorruptShard,
    InvalidEntry,
    InvalidQuery,
    RevisionNotFound,
    SessionExists,
    SessionNotFound,
    ShardStoreError,
    StoreClosed,
    StoreIncomplete,
    StoreIOError,
    UnknownField,
    raise_io_error,
    warn_caller,
)
from shardstore.log import ticks
from shardstore.query import Bounds, Condition, Query, parse
from shardstore.session import Session, SessionInfo

if TYPE_CHECKING:
    import builtins  # inside the class, `list` is the verb
    from collections.abc import Callable, Iterable, Iterator
    from datetime import timedelta
    from types import TracebackType

    from shardstore._model import Change, State
    from shardstore.archive import Archive
    from shardstore.engine import Transaction
    from shardstore.reports import CompactReport, EraseReport, PruneReport, StoreStats, VerifyReport
    from shardstore.typed import TypedStore
    from shardstore.types import JSON, Mutator, Where
    from shardstore.watch import Watch

Durability = Literal["commit", "relaxed"]
Expect = Session | SessionInfo | str
OnDamage = Literal["raise", "skip"]
Row = tuple[str, Mapping[str, object]] | tuple[str, Mapping[str, object], datetime | None]

_ENCODABLE: Final = re.compile("[^\ud800-\udfff]*", re.DOTALL)
_TEXT: Final = re.compile("[^\ud800-\udfff]{1,256}", re.DOTALL)
_PAIR: Final = (2, 3)  # members
_V = TypeVar("_V")
_M = TypeVar("_M")  # a model
_I = TypeVar("_I")  # an item of a log
_UNCHANGED: Final[Any] = object()  # a setting of `using` that was not given


class Store:
    """A session store. Safe to share between threads and across fork.

    root: a directory, made on first use.
    durability: "commit": once a call returned, its effect survives a power cut; "relaxed": it survives the death of
        the process.
    lock_timeout: seconds that a write may wait for its session, counted from the call; None: for ever.
    actor: 1 to 256 characters that stand in every record written; by default the process id.
    create: False raises StoreNotFound instead of making the store.
    read_only: True writes nothing at all, not even the index.
    allow_shared: True opens a store that other users own or can write to.
    indexed: the names of the fields that have an index of their own, so that filtering and ordering by them costs as
        much as the rows returned; None: as the store has it. ValueError where it has others: `reindex` changes them.
    scan_progress: called with (done, total) whenever a list has to read every session, because there is no index to
        believe. Others may be waiting for it, so it should be quick and not use the store.

    Raises ValueError, StoreNotFound, UnsafeStore, UnsupportedFormat, StoreIOError.

    >>> store = Store("agents/main/sessions")
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
        self._settings(durability, lock_timeout, actor)
        self._read_only = read_only
        self._scan_progress = scan_progress
        fields = None if indexed is None else _field_names(indexed)
        engine = open_engine(root, create=create, read_only=read_only, allow_shared=allow_shared, indexed=fields)
        self._join(engine, None if engine.root is None else Path(os.path.abspath(root)))

    @classmethod
    def memory(
        cls, *, durability: Durability = "commit", lock_timeout: float | None = 10.0, actor: str | None = None
    ) -> Self:
        """Return a new store that lives in this object alone, for tests: the same verbs, nothing on disk.

        Its durability is checked and has no effect. Other settings are as for Store(...). Raises ValueError.

        >>> Store.memory().create("agent:main", {"status": "new"}).rev
        1
        """
        with late_imports:
            from shardstore._memory import MemoryEngine

        store = cls.__new__(cls)
        store._settings(durability, lock_timeout, actor)  # noqa: SLF001  # made here
        store._read_only, store._scan_progress = False, None  # noqa: SLF001
        store._join(MemoryEngine(), None)  # noqa: SLF001
        return store

    def using(
        self,
        *,
        durability: Durability = _UNCHANGED,
        lock_timeout: float | None = _UNCHANGED,
        actor: str | None = _UNCHANGED,
    ) -> Self:
        """Return another Store on the same sessions, with other settings; both are closed independently.

        Raises ValueError, StoreClosed.

        >>> hot = store.using(actor="web", durability="relaxed")
        """
        view = type(self).__new__(type(self))
        view._settings(  # noqa: SLF001  # made here
            self.durability if durability is _UNCHANGED else durability,
            self.lock_timeout if lock_timeout is _UNCHANGED else lock_timeout,
            self._actor if actor is _UNCHANGED else actor,
        )
        view._read_only, view._scan_progress = self._read_only, self._scan_progress  # noqa: SLF001
        self._engine.join()
        view._join(self._engine, self.root)  # noqa: SLF001
        return view

    def _settings(self, durability: Durability, lock_timeout: float | None, actor: str | None) -> None:
        if durability not in ("commit", "relaxed"):
            raise ValueError(f'durability is "commit" or "relaxed", not {durability!r}')
        if lock_timeout is not None and (type(lock_timeout) not in (int, float) or not lock_timeout >= 0):
            raise ValueError(f"lock_timeout is a number of seconds from 0 on, or None, not {lock_timeout!r}")
        if actor is not None and (type(actor) is not str or not _TEXT.fullmatch(actor)):
            raise ValueError(f"actor is a text of 1 to 256 characters that UTF-8 can encode, not {actor!r}")
        self.durability: Durability = durability
        self._durable = durability == "commit"
        self.lock_timeout: float | None = (
            None if lock_timeout is None or lock_timeout > threading.TIMEOUT_MAX else lock_timeout
        )
        self._actor = actor

    def _join(self, engine: Engine, root: Path | None) -> None:
        self.root: Path | None = root
        self.location: str = engine.location
        self._engine: Engine = engine if events.wrap is None else events.wrap(engine)

    # Writing

    def update(self, key: str, fn: Mutator, *, create: bool = True, expect: Expect | None = None) -> Session:
        """Change a session by a function that runs inside its lock, on what is committed at that moment.

        key: text of 1 to 4,096 bytes of UTF-8.
        fn: is called with a Draft, which it changes, or returns a mapping of all fields, or DELETE. Fields that it
            leaves as they were are not written; an exception writes nothing. It is no coroutine: await first,
            then update.
        create: an absent session is made, even if `fn` adds no field; False raises SessionNotFound.
        expect: a Session, SessionInfo or version; unless it is the present one, `fn` is not called: Conflict.

        Returns the session as it is afterwards; after DELETE its `exists` is False.

        Raises LockTimeout, NestedUpdate, Conflict, InvalidKey, InvalidEntry, CorruptShard, StoreFull, StoreIOError,
        CommitUncertain; TypeError for a result of another type.

        >>> store.update("agent:main", lambda draft: draft.update(turns=draft.get("turns", 0) + 1))["turns"]
        1
        """
        if self._read_only:
            self._check_writable()
        logs = self._engine.logs
        txn = self._engine.transaction(key, self.lock_timeout, create=create or expect is not None)
        try:
            with txn:
                if expect is not None:
                    _check_expected(key, txn.state, expect, create=create)
                draft = Draft(key, txn.state, logs)
                draft.accept(fn(draft))
                change = draft.change()
                if change is not None:
                    txn.commit(change, self._actor or self._engine.process, durable=self._durable)
                state = txn.state
        except BaseException:
            txn.abandon()
            raise
        return Session(key, state, logs)

    def edit(self, key: str, *, create: bool = True, expect: Expect | None = None) -> Edit:
        """Update as a with block: the draft is committed at its end; an exception writes nothing.

        `draft.delete()` and `draft.replace(mapping)` do the same as a mutator's result. `draft.session` is the
        committed session afterwards. Arguments and errors are those of `update`. Await nothing inside: the session's
        other writers would wait for it.

        >>> with store.edit("agent:main") as draft:
        ...     draft["status"] = "running"
        >>> draft.session["status"]
        'running'
        """
        self._check_writable()
        txn = self._engine.transaction(key, self.lock_timeout, create=create or expect is not None)
        return Edit(self, txn, key, expect, create=create)

    def patch(
        self,
        key: str,
        fields: Mapping[str, JSON] | None = None,
        *,
        unset: Iterable[str] = (),
        create: bool = True,
        expect: Expect | None = None,
    ) -> Session:
        """Set the named fields and remove those in `unset`; touch no other. Return the session.

        Raises InvalidEntry where a field is in both; otherwise as `update`.

        >>> store.patch("agent:main", {"model": "m-2"}, unset=["error"])["model"]
        'm-2'
        """
        change = patcher({} if fields is None else fields, unset)
        return self.update(key, change, create=create, expect=expect)

    def create(
        self, key: str, data: Mapping[str, object], *, expect: Expect | None = None, at: datetime | None = None
    ) -> Session:
        """Create a session and return it. Raises SessionExists if it is there, otherwise as `update`.

        at: for importers, the time of its last change in the source; a moment in the future counts as now.

        >>> store.create("agent:new", {"status": "new"}).rev
        1
        """
        _mapping(data)
        since = _microseconds(at)
        self._check_writable()
        txn = self._engine.transaction(key, self.lock_timeout)
        try:
            with txn:
                if expect is not None:
                    _check_version(key, txn.state, expect)
                if txn.state.exists:
                    raise SessionExists(key)
                draft = Draft(key, txn.state, self._engine.logs)
                draft.replace(data)
                self._commit(txn, draft, at=since)
                return Session(key, txn.state, self._engine.logs)
        except BaseException:
            txn.abandon()
            raise

    def get_or_create(self, key: str, data: Mapping[str, object] | Callable[[], Mapping[str, object]]) -> Session:
        """Return the session, made from `data` if absent; all concurrent callers get the same one.

        data: a mapping, or a function, which is called inside the session's lock, and only to make it.
        Raises as `update`.

        >>> store.get_or_create("agent:main", {"turns": 0}).key
        'agent:main'
        """
        if not callable(data):
            _mapping(data)

        def make(draft: Draft) -> Mapping[str, object] | None:
            if draft.exists:
                return None
            made = data() if callable(data) else data
            return _mapping(made) if made is None else made

        try:
            found = self.get(key)
        except StoreIncomplete:  # whether it was there nobody knows; a new one can be made
            found = None
        return found or self.update(key, make)

    def replace(self, key: str, data: Mapping[str, object], *, expect: Expect | None = None) -> Session:
        """Put `data` in place of the whole entry; return the session. An absent one is made. Raises as `update`.

        >>> seen = store["agent:main"]
        >>> store.replace("agent:main", {"turns": 0}, expect=seen).data
        {'turns': 0}
        """
        _mapping(data)
        return self.update(key, lambda _draft: data, expect=expect)

    def delete(self, key: str, *, expect: Expect | None = None) -> bool:
        """Delete a session for good; return whether it was there. Raises Conflict as `update`, and its other errors.

        >>> store.delete("agent:old")
        False
        """
        self._check_writable()
        try:
            txn = self._engine.transaction(key, self.lock_timeout, create=False)
            try:
                with txn:
                    if expect is not None:
                        _check_version(key, txn.state, expect)
                    draft = Draft(key, txn.state, self._engine.logs)
                    draft.delete()
                    self._commit(txn, draft)
            except BaseException:
                txn.abandon()
                raise
        except SessionNotFound:
            if expect is not None and _version(expect) != NEVER_WAS:
                raise Conflict(key, _version(expect), None) from None
            return False
        return True

    def create_many(
        self,
        pairs: Mapping[str, Mapping[str, object]] | Iterable[Row],
        *,
        on_exists: Literal["raise", "skip"] = "raise",
    ) -> int:
        """Create many sessions, whose syncs are shared; return how many were created. Each is whole by itself.

        pairs: (key, entry), or (key, entry, at) as for `create`; or a mapping. They are asked for one at a time, while
            no lock is held.
        on_exists: "skip" leaves a session that is there as it is, and does not count it. So the same call finishes
            one that was stopped.

        Once it returned, every session made or skipped survives a power cut, as `durability` says. An error leaves
        the sessions made before it, synced. Raises SessionExists, otherwise as `create`.

        >>> store.create_many({"agent:a": {"n": 1}, "agent:b": {"n": 2}})
        2
        """
        if on_exists not in ("raise", "skip"):
            raise ValueError(f'on_exists is "raise" or "skip", not {on_exists!r}')
        self._check_writable()
        with late_imports:
            from shardstore._bulk import create_many

        return create_many(
            self._engine,
            _rows(pairs),
            skip=on_exists == "skip",
            actor=self._actor or self._engine.process,
            durable=self._durable,
            timeout=self.lock_timeout,
        )

    def delete_all(self, prefix: str) -> int:
        """Delete every session whose key begins with `prefix`, for good; return how many there were.

        Each is locked by itself; those made meanwhile may stay, and so do damaged ones, which lists leave out. Syncs
        are shared. Stopped anywhere, the same call goes on. Raises ValueError for an empty prefix, else as `delete`.

        >>> store.delete_all("agent:old:")
        0
        """
        if type(prefix) is not str:
            raise TypeError(f"prefix is a str, not {type(prefix).__name__}")
        if not prefix:
            raise ValueError("an empty prefix would delete every session; prune(older_than=0, purge=True) does that")
        self._check_writable()
        with late_imports:
            from shardstore._bulk import delete_all

        with _typed("deleting"):
            return delete_all(self._engine, prefix, durable=self._durable, timeout=self.lock_timeout)

    def revert(self, key: str, rev: int, *, expect: Expect | None = None) -> Session:
        """Put the fields of an earlier revision back, as a new commit; return the session.

        Raises RevisionNotFound where the journal does not hold that revision; otherwise as `update`.

        >>> store.revert("agent:main", 1).data
        {'turns': 1}
        """
        return self.update(key, lambda _draft: self._revision(key, rev).data, create=False, expect=expect)

    # The log

    def append(  # noqa: PLR0913  # what one turn of an agent writes
        self,
        key: str,
        items: Iterable[Any],
        patch: Mapping[str, Any] | Callable[[Draft], Mapping[str, Any] | None] | None = None,
        *,
        ids: Iterable[str | None] | None = None,
        expect: Expect | None = None,
        create: bool = True,
    ) -> Session:
        """Add items to the end of a session's log, and change fields beside them, in one commit. Return the session.

        items: a list of JSON values, together at most 64 MiB.
        patch: fields to set, or a function that is called with the Draft, in whose log the items stand already; it
            returns None, or a mapping of all fields.
        ids: an id or None for each item. An item whose id stands in the log is left out. If that is every item, the
            call does nothing: `patch` is not run, `expect` is not looked at. So a retry is safe.

        Raises TypeError where items is a mapping or a text, or `patch` deletes; InvalidEntry naming `items[3]`;
        otherwise as `update`.

        >>> store.append("agent:chat", [{"role": "user", "content": "hi"}], {"status": "running"}).log[-1]["role"]
        'user'
        """
        new = NewItems(items, ids)
        self._check_writable()
        txn = self._engine.transaction(key, self.lock_timeout, create=create)
        try:
            with txn:
                state = txn.state
                if new.is_plain(patch, state):
                    if expect is not None:
                        _check_version(key, state, expect)
                    change = new.plain_change(patch, state)
                else:
                    change = self._append_change(key, state, new, patch, expect)
                if change is not None:
                    txn.commit(change, self._actor or self._engine.process, durable=self._durable)
                return Session(key, txn.state, self._engine.logs)
        except BaseException:
            txn.abandon()
            raise

    def _append_change(self, key: str, state: State, new: NewItems, patch: Any, expect: Expect | None) -> Change | None:
        """Return the change of an append that needs a draft; None where every item is known."""
        draft = Draft(key, state, self._engine.logs)
        if new.all_known(draft):
            return None
        if expect is not None:
            _check_version(key, state, expect)
        return new.change(draft, patch)

    def log(self, key: str, start: int | None = None, stop: int | None = None) -> builtins.list[Any]:
        """Return the items log[start:stop] of a session, as a slice does: `store.log(key, -20)` is the newest 20.

        Waits for nobody. Raises SessionNotFound, CorruptShard where an item asked for is damaged; otherwise as `get`.

        >>> store.log("agent:chat", -1)
        [{'role': 'user', 'content': 'hi'}]
        """
        return read_log(self._engine, key, start, stop)

    def follow(self, key: str, start: int | None = None) -> Follower:
        """Return an iterator over the items of one log as they come. It waits for the next one and never ends.

        start: None for what is added from now on; a negative number for the newest so many first; else the number of
            the first item wanted, counted from the first that the session ever had (`log.dropped + index`).

        It looks at least once a second. An absent session is waited for. `close()` ends it. Raises as `get`.

        >>> next(store.follow("agent:chat", -1))["content"]
        'hi'
        """
        return Follower(self, key, start)

    # Watching

    def watch(self, prefix: str | None = None, *, since: str | None = None, timeout: float | None = None) -> Watch:
        """Return an iterator over changes of sessions as they come: (key, kind, rev, version, updated_at, token).

        prefix: only keys that begin so.
        since: a token, of `token()` or of an earlier change; None: from this call on.
        timeout: the iteration ends after so many seconds without a change; None: it never does.

        A session that changed comes at least once, as it is now: several commits may be one change, and a later change
        is never older. One that was made and deleted meanwhile comes as deleted. It waits for no writer, and looks at
        least once a second. `close()` ends it.

        Raises WatchExpired, also later on, if the store no longer knows what changed; otherwise as `list`.

        >>> token = store.token()
        >>> done = store.patch("agent:main", {"status": "done"})
        >>> [(change.key, change.kind) for change in store.watch("agent:", since=token, timeout=0)]
        [('agent:main', 'changed')]
        """
        with late_imports:
            from shardstore.watch import Watch

        with _typed("watching"):
            return Watch(self, prefix, since, timeout, write=not self._read_only)

    def token(self) -> str:
        """Return the place where the store is now, for `watch`: take it, list, then watch(since=it); nothing is missed.

        It may be kept, and used in another process. Raises as `list`.
        """
        with _typed("watching"):
            return self._engine.token(write=not self._read_only)

    # Sessions whole

    def copy(self, source: str, target: str, *, stop: int | None = None) -> Session:
        """Create the session `target` from the fields of `source` and its log[:stop]; return it.

        Items keep their ids, times and actors. Both sessions are locked, within one lock_timeout. Raises
        SessionNotFound for the source, SessionExists for the target, CorruptShard; otherwise as `update`.

        >>> store.copy("agent:chat", "agent:branch", stop=1).log[:]
        [{'role': 'user', 'content': 'hi'}]
        """
        self._check_writable()
        pair = Pair(self._engine, source, target, self.lock_timeout)
        try:
            with pair as (one, other):
                if other.state.exists:
                    raise SessionExists(target)
                change = copy_of(self._engine, source, one.state, stop)
                other.commit(change, self._actor or self._engine.process, durable=self._durable)
                return Session(target, other.state, self._engine.logs)
        except BaseException:
            pair.abandon()
            raise

    def rename(self, source: str, target: str, *, expect: Expect | None = None) -> Session:
        """Move a session to another key; return it. It keeps its incarnation, versions, times, history and log.

        A crash leaves both, the target complete; repeating the call finishes it. Raises as `copy`, and Conflict.

        >>> store.rename("agent:branch", "agent:kept").key
        'agent:kept'
        """
        self._check_writable()
        pair = Pair(self._engine, source, target, self.lock_timeout)
        try:
            with pair as (one, other):
                if expect is not None:
                    _check_version(source, one.state, expect)
                if other.state.exists and other.state.version != one.state.version:
                    raise SessionExists(target)
                one.rename(other)
                return Session(target, other.state, self._engine.logs)
        except BaseException:
            pair.abandon()
            raise

    def erase_history(self, key: str) -> EraseReport:
        """Remove for good the past of a session: old revisions, dropped and replaced items, copies set aside.

        The session stays as it is. The report names the files that went, and the places that the store cannot reach.
        Raises SessionNotFound; otherwise as `update`.

        >>> store.erase_history("agent:chat").unreached[0]
        'backups, and copies that somebody made of the files'
        """
        self._check_writable()
        with _typed("erasing history"):
            return self._engine.erase_history(key, self.lock_timeout)

    def _commit(self, txn: Transaction, draft: Draft, *, at: int | None = None) -> None:
        change = draft.change()
        if change is not None:
            txn.commit(change, self._actor or self._engine.process, durable=self._durable, at=at)

    # Reading

    def get(self, key: str, *, rev: int | None = None) -> Session | None:
        """Return the session as last committed, or None if there is none. Waits for nobody.

        rev: return this revision instead; RevisionNotFound where the journal does not hold it.

        Raises CorruptShard, StoreIOError, StoreNotFound, StoreIncomplete; never answers "absent" for any of these.

        >>> store.get("agent:nobody") is None
        True
        """
        if rev is not None:
            return self._revision(key, rev)
        state = self._engine.read(key)
        return Session(key, state, self._engine.logs) if state.fields is not None else None

    def _revision(self, key: str, rev: int) -> Session:
        """Return a revision that the journal holds. Raises RevisionNotFound."""
        states = self._engine.history(key)
        for state in states:
            if state.rev == rev:
                return Session(key, state, self._engine.logs)
        raise RevisionNotFound(key, rev, states[0].rev if states else 0, states[-1].rev if states else 0)

    def get_many(self, keys: Iterable[str], *, on_damage: OnDamage = "raise") -> dict[str, Session]:
        """Return the sessions of these keys that are there, in the order asked. Waits for nobody.

        Faster than as many calls of `get`, and opens nothing for long. on_damage: "skip" leaves damaged sessions out.
        Raises as `get`.

        >>> list(store.get_many(["agent:main", "agent:nobody"]))
        ['agent:main']
        """
        if isinstance(keys, str):
            raise TypeError(f"keys is several keys, not one; write get_many([{keys!r}])")
        skip, asked = _skips(on_damage), dict.fromkeys(keys)
        found: dict[str, Session] = {}
        for key, state in self._engine.read_many(asked):
            if isinstance(state, CorruptShard):
                if not skip:
                    raise state
            elif state.exists:
                found[key] = Session(key, state, self._engine.logs)
        return {key: found[key] for key in asked if key in found}

    def sessions(
        self, prefix: str | None = None, where: Where | None = None, *, on_damage: OnDamage = "raise"
    ) -> Iterator[Session]:
        """Return an iterator over whole sessions, in the order of their files, which is the fastest to read.

        Takes `prefix` and `where` as `list` does. The keys are chosen at the first step, and each session is read at
        its own: one that is gone by then, or no longer matches, is left out.

        on_damage: "raise" raises CorruptShard where a session that may belong here is damaged; "skip" leaves it out.
        Raises InvalidQuery.

        >>> [session.data for session in store.sessions("agent:a")]
        [{'n': 1}]
        """
        with late_imports:
            from shardstore._bulk import sessions
            from shardstore.query import parse

        return sessions(self._engine, parse(prefix, where), skip=_skips(on_damage), refresh=not self._read_only)

    def exists(self, key: str) -> bool:
        """Return whether there is a session. Raises as `get`."""
        return self._engine.read(key).fields is not None

    def __getitem__(self, key: str) -> Session:
        session = self.get(key)
        if session is None:
            raise SessionNotFound(key)
        return session

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self.exists(key)

    def __len__(self) -> int:
        return self.count()

    def __bool__(self) -> bool:
        return True  # an empty store is a store

    def __iter__(self) -> Iterator[str]:
        # A generator, and so a reference to this Store: one that nobody else holds may not be collected half way.
        yield from self._engine.keys(refresh=not self._read_only, progress=self._scan_progress)

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

        prefix: only keys that begin with this.
        where: {field: value} or {field: (op, value)} with op one of == != < <= > >= in exists.
        order_by: a field, updated_at, created_at, size, log_length, rev or key; with a leading "-" descending. Like
            `where`, it is quickest for the store's `indexed` fields.
        limit, offset: at most so many, and how many to leave out in front of them.
        after: continue behind this SessionInfo of an earlier list, or its `.cursor`. A session that did not move
            meanwhile is neither skipped nor repeated. Not together with offset.
        fields: show these fields, whatever their size; None: those whose values are small.
        updated_since, updated_before: aware datetimes.
        larger_than: bytes of the entry.

        Warns (DamagedSessions) where sessions are left out because their files are damaged, and (UnknownField) where
        nothing matches and no session has a field of that name. Raises InvalidQuery.

        >>> [info.key for info in store.list("agent:", {"status": ("!=", "done")}, order_by="key", limit=1)]
        ['agent:a']
        """
        bounds = _bounds(updated_since, updated_before, larger_than)
        query = parse(prefix, where, order_by, limit, offset, bounds, after, fields)
        with _typed("listing"):
            found = self._engine.select(query, **self._how_to_list())
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
        """Count the sessions that `list` would return. Warns and raises as it does."""
        query = parse(prefix, where, bounds=_bounds(updated_since, updated_before, larger_than))
        with _typed("counting"):
            found = self._engine.count(query, **self._how_to_list())
            if not found and query.conditions:
                self._warn_of_unknown_fields(query)
        return found

    def _how_to_list(self) -> dict[str, Any]:
        return {"refresh": not self._read_only, "progress": self._scan_progress}

    def _warn_of_unknown_fields(self, query: Query) -> None:
        """Warn of fields in a filter that found nothing and that no session has: once a field and process."""
        engine = self._engine
        for condition in query.conditions:
            field = (self.location, condition.field)
            if field in _looked_up:
                continue
            having = Query(conditions=(Condition(condition.field, "exists", True),), limit=1)
            if engine.select(having, **self._how_to_list()):
                _looked_up.add(field)
            elif engine.count(Query(), **self._how_to_list()):
                _looked_up.add(field)
                warn_caller(UnknownField(f"where: no session in this store has a field {condition.field!r}"))

    def history(self, key: str) -> builtins.list[Session]:
        """Return the session's revisions, oldest first, as far back as its journal goes; empty if absent.

        Begins anew when the session was deleted and made again. Raises CorruptShard, StoreIOError.
        """
        return [Session(key, state, self._engine.logs) for state in self._engine.history(key)]

    # Maintenance

    def compact(self, *, dry_run: bool = False, progress: Callable[[int, int], None] | None = None) -> CompactReport:
        """Run the housekeeping: rewrite grown journals, give unused space back, sweep dead files, tend the index.

        Removes no session; `prune` does. Runs beside writers: one session is locked at a time, a busy one is skipped
        and reported. Stopped anywhere it loses nothing, and it can run again.

        dry_run: report what would be done, and change nothing. progress(done, total) is called along the way.
        Raises StoreNotFound, StoreIOError.

        >>> store.compact(dry_run=True).ok
        True
        """
        self._check_writable(harmless=dry_run)
        with _typed("compacting"):
            report = self._engine.compact(dry_run=dry_run, progress=progress, scan_progress=self._scan_progress)
        _note_maintenance("compact", report)
        return report

    def prune(  # noqa: PLR0913  # each is a rule of its own
        self,
        *,
        older_than: timedelta | float | None = None,
        max_entries: int | None = None,
        max_bytes: int | None = None,
        where: Where | None = None,
        prefix: str | None = None,
        keep: Iterable[str] = (),
        purge: bool = False,
        trust_clock: bool = False,
        dry_run: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> PruneReport:
        """Move sessions out of the store by the given rules: to the archive, or with `purge` for good.

        older_than: a timedelta, or seconds since the last change.
        max_entries, max_bytes: how many sessions, and bytes of entries, may stay; those changed longest ago go first.
        where, prefix: only sessions that match may be removed, and only they are counted.
        keep: keys, and prefixes that end in "*", that are never touched.
        trust_clock: purge though the newest session is older than `older_than` and every one would go, which is how a
            clock that jumped looks.
        dry_run: report what would be removed, and change nothing. progress(done, total) is called along the way.

        A session that is in use, or changed since it was chosen, stays and is reported. Stopped anywhere, it can run
        again.

        Raises InvalidQuery without a rule, for a malformed one, and for a purge that needs trust_clock, before anything
        is removed.

        >>> store.prune(older_than=30 * 86400, where={"status": "done"}, dry_run=True).ok
        True
        """
        with late_imports:
            from shardstore._prune import prune
            from shardstore._retention import Retention

        rules = Retention.parse(older_than, max_entries, max_bytes, where, prefix, keep)
        if not rules.removes:
            raise InvalidQuery("prune needs a rule: older_than, max_entries, max_bytes or where")
        self._check_writable(harmless=dry_run)
        with _typed("pruning"):
            report = prune(
                self._engine,
                rules,
                purge=purge,
                trust_clock=trust_clock,
                dry_run=dry_run,
                progress=progress,
                scan_progress=self._scan_progress,
            )
        _note_maintenance("prune", report)
        return report

    @property
    def archive(self) -> Archive:
        """The sessions that `prune` moved out of the store: list, restore, purge."""
        with late_imports:
            from shardstore.archive import Archive

        return Archive(self._engine, self.lock_timeout, self._check_writable)

    def verify(self, *, repair: bool = False, progress: Callable[[int, int], None] | None = None) -> VerifyReport:
        """Check every session, every record, and the index against the sessions.

        repair: the whole parts of a damaged session become readable again, and the damaged original is moved to
            quarantine; nothing is deleted. Without it no session is changed, but unless this Store is read-only the
            damage is noted for lists, and `stats().damaged` names it from then on.
        progress(done, total) is called along the way. Raises StoreNotFound, StoreIOError.

        >>> store.verify().ok
        True
        """
        if repair:
            self._check_writable()
        with _typed("verifying"):
            report = self._engine.verify(repair=repair, note=not self._read_only, progress=progress)
        for one in report.problems:
            events.note(
                "damage", events.WARNING, "verify: %s: %s%s", one.path, one.detail, " (repaired)" * one.repaired
            )
        return report

    def stats(self) -> StoreStats:
        """Return counts and sizes of the sessions, and of the work that waits for maintenance.

        Raises StoreNotFound, StoreIOError.
        """
        with _typed("counting"):
            return self._engine.stats(refresh=not self._read_only, progress=self._scan_progress)

    def reindex(self, fields: Iterable[str]) -> None:
        """Have these fields indexed instead of the present ones, in every process that has the store open.

        fields: at most 64 names. Reads every session once, beside running writers.
        Raises ValueError for anything but a list of names, StoreIOError.

        >>> store.reindex(["status", "user"])
        """
        names = _field_names(fields)
        self._check_writable()
        with _typed("indexing"):
            self._engine.reindex(names, self._scan_progress)

    # Models

    @overload
    def typed(self, model: type[_M], *, default: _M | Callable[[], _M] | None = None) -> TypedStore[_M, Any]: ...
    @overload
    def typed(
        self, model: type[_M], *, default: _M | Callable[[], _M] | None = None, item: type[_I]
    ) -> TypedStore[_M, _I]: ...
    def typed(
        self, model: type[_M], *, default: _M | Callable[[], _M] | None = None, item: type[Any] | None = None
    ) -> TypedStore[_M, Any]:
        """Return the verbs of this Store for sessions of one model, with models in place of mappings.

        model: a dataclass, a TypedDict, a pydantic model or a msgspec.Struct.
        default: what an absent session begins with, or a function that makes it; by default `model()`.
        item: the type of the log's items: one of the above, or any other type that JSON has a form for.

        Raises TypeError for a model that JSON has no form for.

        >>> from dataclasses import dataclass
        >>> @dataclass
        ... class Chat:
        ...     turns: int = 0
        >>> store.typed(Chat).update("agent:typed", lambda chat: Chat(chat.turns + 1)).value
        Chat(turns=1)
        """
        with late_imports:
            from shardstore._typed.form import Form
            from shardstore.typed import TypedStore

        return TypedStore(self, Form(model, default, item))

    # Life

    @property
    def engine(self) -> Engine:
        """Where the sessions are kept (engine.py); for maintenance tools and for new verbs."""
        return self._engine

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
        return f"Store({self.location!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("a Store cannot be pickled: open it again, by its root, in the other process")

    def _check_writable(self, *, harmless: bool = False) -> None:
        """Raise StoreIOError if this Store is read-only, unless what follows is harmless."""
        if self._read_only and not harmless:
            raise StoreIOError(errno.EROFS, f"{self.location} was opened with read_only=True", self.location)


class Edit:
    """What `Store.edit` returns: enter it, once, for the draft."""

    __slots__ = ("_create", "_draft", "_expect", "_inside", "_key", "_store", "_txn")

    def __init__(self, store: Store, txn: Transaction, key: str, expect: Expect | None, *, create: bool) -> None:
        self._store = store
        self._txn: Transaction | None = txn  # until it is entered
        self._inside: Transaction | None = None  # until it is left: others use it again after that
        self._key = key
        self._expect = expect
        self._create = create
        self._draft: Draft | None = None

    def __enter__(self) -> Draft:
        entered, self._txn = self._txn, None
        if entered is None:
            raise RuntimeError("what edit() returned was entered before; call edit() for each with block")
        try:
            self._inside = txn = entered.__enter__()
            if self._expect is not None:
                _check_expected(self._key, txn.state, self._expect, create=self._create)
            self._draft = Draft(self._key, txn.state, self._store._engine.logs)  # noqa: SLF001
        except BaseException:
            self._inside = None
            entered.abandon()
            raise
        return self._draft

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        txn = self._inside
        try:
            draft, self._inside = self._draft, None
            if txn is None or draft is None:
                raise RuntimeError("this edit() is over")
            try:
                if kind is None:
                    self._store._commit(txn, draft)  # noqa: SLF001  # one class in two
                    draft.committed(Session(self._key, txn.state, self._store._engine.logs))  # noqa: SLF001
            finally:
                txn.__exit__(kind, error, trace)
        except BaseException:
            if txn is not None:
                txn.abandon()
            raise


@contextmanager
def _typed(doing: str) -> Iterator[None]:
    """Raise the typed error for a system call that failed on the way, whichever it was."""
    try:
        yield
    except ShardStoreError:
        raise
    except OSError as error:
        raise_io_error(error, doing)


def _note_maintenance(verb: str, report: CompactReport | PruneReport) -> None:
    """Note what was done to whom, and what failed."""
    failed = sum(skipped.failed for skipped in report.skipped)
    level = events.WARNING if failed else events.INFO
    if not report.dry_run:
        message = "%s: %d done, %d failed, %d bytes freed"
        events.note("maintenance", level, message, verb, len(report.actions), failed, report.bytes_freed)


class _Closed:
    """What stands in the engine's place once a Store was closed."""

    def __getattr__(self, name: str) -> NoReturn:
        raise StoreClosed


_CLOSED: Final[Any] = _Closed()


def _microseconds(moment: datetime | None) -> int | None:
    if moment is None:
        return None
    if not isinstance(moment, datetime) or moment.tzinfo is None:
        raise InvalidQuery(f"a bound in time is a datetime with a time zone, not {moment!r}")
    return ticks(moment)


def _bounds(since: datetime | None, before: datetime | None, larger_than: int | None) -> Bounds:
    return Bounds(_microseconds(since), _microseconds(before), larger_than)


def _rows(
    pairs: Mapping[str, Mapping[str, object]] | Iterable[Row],
) -> Iterator[tuple[str, Mapping[str, object], int | None]]:
    """Yield key, entry and time of each pair. Raises TypeError, InvalidEntry, InvalidQuery."""
    for pair in pairs.items() if isinstance(pairs, Mapping) else pairs:
        if not isinstance(pair, tuple | list) or len(pair) not in _PAIR:
            raise TypeError(f"a pair is (key, entry) or (key, entry, at), not {pair!r:.100}")
        at = pair[2] if len(pair) == _PAIR[-1] else None
        yield pair[0], _mapping(pair[1]), _microseconds(at)


def _skips(on_damage: str) -> bool:
    if on_damage not in ("raise", "skip"):
        raise ValueError(f'on_damage is "raise" or "skip", not {on_damage!r}')
    return on_damage == "skip"


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


def _mapping(data: Mapping[str, _V]) -> Mapping[str, _V]:
    """Return `data`; raise InvalidEntry unless it is a mapping."""
    if not isinstance(data, Mapping):
        raise InvalidEntry("entry", f"{type(data).__name__} is not a mapping of fields")
    return data


def _version(expect: Expect) -> str:
    if isinstance(expect, Session):
        return expect.version if expect.exists else NEVER_WAS
    if isinstance(expect, SessionInfo):
        return expect.version
    if not isinstance(expect, str):
        raise TypeError(f"expect is a Session, a SessionInfo or a version, not {type(expect).__name__}")
    return expect


def _check_expected(key: str, state: State, expect: Expect, *, create: bool) -> None:
    """Raise Conflict as `_check_version` does; SessionNotFound where absence was expected and nothing is to be made."""
    _check_version(key, state, expect)
    if not create and not state.exists:
        raise SessionNotFound(key)


def _check_version(key: str, state: State, expect: Expect) -> None:
    """Raise Conflict unless the session is at the expected version. Inside the lock: read, compare and swap are one."""
    found, wanted = state.version if state.exists else None, _version(expect)
    if wanted != (found or NEVER_WAS):
        raise Conflict(key, wanted, found)
