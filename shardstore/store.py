"""The store: its settings, and the verbs that write.

Each of these is a transaction: it decides inside the session's lock, on the latest committed state. `update` shows how.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from shardstore._imports import late_imports
from shardstore._model import NEVER_WAS
from shardstore._transcripts import Follower, NewItems, Pair, copy_of
from shardstore._verbs.arguments import field_names, mapping, microseconds, rows
from shardstore._verbs.edit import Edit
from shardstore._verbs.expect import check_expected, check_version, version_of
from shardstore._verbs.listing import Listing
from shardstore._verbs.opened import typed_errors
from shardstore._verbs.reading import Reading
from shardstore._verbs.upkeep import Upkeep
from shardstore.draft import Draft, patcher
from shardstore.engine import open_engine
from shardstore.errors import Conflict, SessionExists, SessionNotFound, StoreIncomplete
from shardstore.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime

    from shardstore._model import Change, State
    from shardstore.typed import TypedStore
    from shardstore.types import JSON, Durability, Expect, Mutator, Row
    from shardstore.watch import Watch

_M = TypeVar("_M")  # a model
_I = TypeVar("_I")  # an item of a log


class Store(Reading, Listing, Upkeep):
    """A store of sessions. Threads may share it, and a forked child may use it.

    root: a directory, created on first use; or the URL of a database, "postgresql://host/db".
    durability: "commit": once a call returned, its effect survives a power cut; "relaxed": it survives the death of
        the process.
    lock_timeout: seconds that a write may wait for its session, counted from the call; None: for ever.
    actor: 1 to 256 characters that stand in every record written; by default the process id.
    create: False raises StoreNotFound instead of making the store.
    read_only: True writes nothing at all, not even the index.
    allow_shared: True opens a store that other users own or can write to.
    indexed: the names of the fields that have an index of their own, so that filtering and ordering by them costs as
        much as the rows returned; None: as the store has it. ValueError if it has others: `reindex` changes them.
    scan_progress: called with (done, total) while a list has to read every session, because the index is missing or
        unusable. Others may wait for it, so keep it short, and do not use the store in it.

    Raises ValueError, StoreNotFound, UnsafeStore, UnsupportedFormat, StoreIOError.

    The example of each verb goes on from here:

    >>> store = Store("agents/main/sessions")
    >>> main = store.create("agent:main", {"status": "new", "turns": 1})
    >>> chat = store.append("agent:chat", [{"role": "user", "content": "hi"}], ids=["m-1"])
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
        fields = None if indexed is None else field_names(indexed)
        engine = open_engine(root, create=create, read_only=read_only, allow_shared=allow_shared, indexed=fields)
        self._join(engine, None if engine.root is None else Path(os.path.abspath(root)))

    # Writing

    def update(self, key: str, fn: Mutator, *, create: bool = True, expect: Expect | None = None) -> Session:
        """Change a session by a function that runs inside its lock, on the latest committed state.

        key: text of 1 to 4,096 bytes of UTF-8.
        fn: called with a Draft. It changes the draft, or returns a mapping of all fields, or DELETE. Unchanged fields
            are not written; an exception writes nothing. It cannot be a coroutine: await first, then update.
        create: True creates an absent session, even if `fn` adds no field; False raises SessionNotFound.
        expect: a Session, SessionInfo or version. If the session has another version by now, Conflict is raised, and
            `fn` is not called.

        Returns the session as it is afterwards; after DELETE its `exists` is False.

        Raises LockTimeout, NestedUpdate, Conflict, InvalidKey, InvalidEntry, CorruptShard, StoreFull, StoreIOError,
        CommitUncertain; TypeError for a result of another type.

        >>> session = store.update("agent:main", lambda draft: draft.update(turns=draft["turns"] + 1))
        >>> session["turns"]
        2
        """
        if self._read_only:
            self._check_writable()
        logs = self._engine.logs
        txn = self._engine.transaction(key, self.lock_timeout, create=create or expect is not None)
        try:
            with txn:
                if expect is not None:
                    check_expected(key, txn.state, expect, create=create)
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
        """Update in a with block: its end commits the draft; an exception writes nothing.

        `draft.delete()` and `draft.replace(mapping)` do the same as a mutator's result. `draft.session` is the
        committed session afterwards. Await nothing inside: the session's other writers would wait for it.

        Arguments and errors are those of `update`. Raises RuntimeError for a with block that is entered again.

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

        >>> session = store.patch("agent:main", {"status": "done"}, unset=["turns"])
        >>> session.data
        {'status': 'done'}
        """
        change = patcher({} if fields is None else fields, unset)
        return self.update(key, change, create=create, expect=expect)

    def create(
        self, key: str, data: Mapping[str, object], *, expect: Expect | None = None, at: datetime | None = None
    ) -> Session:
        """Create a session and return it. Raises SessionExists if it is there, otherwise as `update`.

        data: the fields, a mapping of names to JSON values.
        at: for importers, the time of its last change in the source; a moment in the future counts as now.

        >>> session = store.create("agent:new", {"status": "new"})
        >>> session.rev
        1
        """
        mapping(data)
        since = microseconds(at)
        self._check_writable()
        txn = self._engine.transaction(key, self.lock_timeout)
        try:
            with txn:
                if expect is not None:
                    check_version(key, txn.state, expect)
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
        """Return the session; create it from `data` if it is absent. All concurrent callers get the same one.

        data: a mapping, or a function that returns one. It is called inside the session's lock, and only if needed.
        Raises as `update`.

        >>> session = store.get_or_create("agent:main", {"turns": 0})
        >>> session["turns"]
        1
        """
        if not callable(data):
            mapping(data)

        def make(draft: Draft) -> Mapping[str, object] | None:
            if draft.exists:
                return None
            made = data() if callable(data) else data
            return mapping(made) if made is None else made

        try:
            found = self.get(key)
        except StoreIncomplete:  # whether it was there nobody knows; a new one can be made
            found = None
        return found or self.update(key, make)

    def replace(self, key: str, data: Mapping[str, object], *, expect: Expect | None = None) -> Session:
        """Replace the whole entry by `data`; return the session. Creates an absent one. Raises as `update`.

        >>> seen = store.get("agent:main")
        >>> session = store.replace("agent:main", {"turns": 0}, expect=seen)
        >>> session.data
        {'turns': 0}
        """
        mapping(data)
        return self.update(key, lambda _draft: data, expect=expect)

    def delete(self, key: str, *, expect: Expect | None = None) -> bool:
        """Delete a session for good; return whether it was there. Raises as `update`.

        >>> store.delete("agent:main")
        True
        >>> store.delete("agent:main")
        False
        """
        self._check_writable()
        try:
            txn = self._engine.transaction(key, self.lock_timeout, create=False)
            try:
                with txn:
                    if expect is not None:
                        check_version(key, txn.state, expect)
                    draft = Draft(key, txn.state, self._engine.logs)
                    draft.delete()
                    self._commit(txn, draft)
            except BaseException:
                txn.abandon()
                raise
        except SessionNotFound:
            if expect is not None and version_of(expect) != NEVER_WAS:
                raise Conflict(key, version_of(expect), None) from None
            return False
        return True

    def create_many(
        self,
        pairs: Mapping[str, Mapping[str, object]] | Iterable[Row],
        *,
        on_exists: Literal["raise", "skip"] = "raise",
    ) -> int:
        """Create many sessions, whose syncs are shared; return how many were created. Each is whole by itself.

        pairs: (key, entry), or (key, entry, at) as for `create`; or a mapping. The store takes them one at a time, and
            holds no lock meanwhile.
        on_exists: "skip" leaves an existing session as it is, and does not count it. So you can repeat a call that was
            interrupted.

        When it returns, every created or skipped session survives a power cut, as `durability` says. An error leaves
        the sessions that were created before it, synced. Raises SessionExists, otherwise as `create`.

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
            rows(pairs),
            skip=on_exists == "skip",
            actor=self._actor or self._engine.process,
            durable=self._durable,
            timeout=self.lock_timeout,
        )

    def delete_all(self, prefix: str) -> int:
        """Delete every session whose key begins with `prefix`, for good; return how many there were.

        Each session is locked by itself, and syncs are shared. Sessions created meanwhile may stay; damaged ones stay.
        If it is interrupted, call it again. Raises ValueError for an empty prefix, otherwise as `delete`.

        >>> store.delete_all("agent:")
        2
        """
        if type(prefix) is not str:
            raise TypeError(f"prefix is a str, not {type(prefix).__name__}")
        if not prefix:
            raise ValueError("an empty prefix would delete every session; prune(older_than=0, purge=True) does that")
        self._check_writable()
        with late_imports:
            from shardstore._bulk import delete_all

        with typed_errors("deleting"):
            return delete_all(self._engine, prefix, durable=self._durable, timeout=self.lock_timeout)

    def revert(self, key: str, rev: int, *, expect: Expect | None = None) -> Session:
        """Put the fields of an earlier revision back, as a new commit; return the session.

        Raises RevisionNotFound if the journal no longer has that revision; otherwise as `update`.

        >>> session = store.replace("agent:main", {"status": "broken"})
        >>> session = store.revert("agent:main", 1)
        >>> session.rev, session.data
        (3, {'status': 'new', 'turns': 1})
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
        patch: fields to set, or a function that is called with the Draft, whose log has the items already; it returns
            None, or a mapping of all fields.
        ids: an id or None for each item. An item whose id is in the log already is left out. If that is every item, the
            call does nothing: `patch` is not run, and `expect` is not checked. So a retry is safe.

        Raises TypeError if items is a mapping or a text, or if `patch` deletes; InvalidEntry naming `items[3]`;
        otherwise as `update`.

        >>> answer = {"role": "assistant", "content": "Hello!"}
        >>> session = store.append("agent:chat", [answer], {"status": "answered"}, ids=["m-2"])
        >>> session["status"], session.log.ids()
        ('answered', ['m-1', 'm-2'])
        """
        new = NewItems(items, ids)
        self._check_writable()
        txn = self._engine.transaction(key, self.lock_timeout, create=create)
        try:
            with txn:
                state = txn.state
                if new.is_plain(patch, state):
                    if expect is not None:
                        check_version(key, state, expect)
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
            check_version(key, state, expect)
        return new.change(draft, patch)

    def follow(self, key: str, start: int | None = None) -> Follower:
        """Return an iterator over the items of one log as they come. It waits for the next one and never ends.

        start: None for new items only; -n for the newest n items first; otherwise the number of the first item, counted
            from the first that the session ever had (`log.dropped + index`).

        It looks at least once a second, and waits for an absent session. `close()` ends it. Raises as `get`.

        >>> items = store.follow("agent:chat", -20)
        >>> next(items)
        {'role': 'user', 'content': 'hi'}
        >>> items.close()
        """
        return Follower(self, key, start)

    # Sessions whole

    def copy(self, source: str, target: str, *, stop: int | None = None) -> Session:
        """Create the session `target` from the fields of `source` and its log[:stop]; return it.

        Items keep their ids, times and actors. Both sessions are locked, within one lock_timeout. Raises
        SessionNotFound for the source, SessionExists for the target, CorruptShard; otherwise as `update`.

        >>> session = store.copy("agent:chat", "agent:branch", stop=1)
        >>> session.key, len(session.log)
        ('agent:branch', 1)
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

        A crash may leave both, the target complete; call it again to finish. Raises as `copy`, and Conflict.

        >>> session = store.rename("agent:chat", "agent:kept")
        >>> session.log.ids()
        ['m-1']
        """
        self._check_writable()
        pair = Pair(self._engine, source, target, self.lock_timeout)
        try:
            with pair as (one, other):
                if expect is not None:
                    check_version(source, one.state, expect)
                if other.state.exists and other.state.version != one.state.version:
                    raise SessionExists(target)
                one.rename(other)
                return Session(target, other.state, self._engine.logs)
        except BaseException:
            pair.abandon()
            raise

    # Watching, and models

    def watch(self, prefix: str | None = None, *, since: str | None = None, timeout: float | None = None) -> Watch:
        """Return an iterator over changes of sessions as they come: (key, kind, rev, version, updated_at, token).

        prefix: only sessions whose key begins with this.
        since: a token, of `token()` or of an earlier change; None: from this call on.
        timeout: seconds without a change after which the iteration ends; None: it never ends.

        Each changed session comes at least once, as it is now. Several commits may be one change, and a later change is
        never older. A session that was created and deleted meanwhile comes as deleted; a read-only Store without an
        index may miss it. The iterator waits for no writer, and looks at least once a second. `close()` ends it.

        Raises WatchExpired, also later on, if the store no longer has the changes; otherwise as `list`.

        >>> token = store.token()
        >>> session = store.patch("agent:main", {"status": "done"})
        >>> [(change.key, change.kind) for change in store.watch("agent:", since=token, timeout=0)]
        [('agent:main', 'changed')]
        """
        with late_imports:
            from shardstore.watch import Watch

        with typed_errors("watching"):
            return Watch(self, prefix, since, timeout, write=not self._read_only)

    def token(self) -> str:
        """Return the store's present position, for `watch`: take it, list, then watch(since=it), and you miss nothing.

        You may store it, and use it in another process. Raises as `list`.

        >>> before = store.token()
        >>> session = store.patch("agent:main", {"status": "done"})
        >>> store.token() == before
        False
        """
        with typed_errors("watching"):
            return self._engine.token(write=not self._read_only)

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
        default: the model that an absent session begins with, or a function that returns it; by default `model()`.
        item: the type of the log's items: one of the above, or any other type that converts to JSON.

        Raises TypeError for a model that does not convert to JSON.

        >>> from dataclasses import dataclass
        >>> @dataclass
        ... class Chat:
        ...     turns: int = 0
        >>> store.typed(Chat).update("agent:main", lambda chat: Chat(chat.turns + 1)).value
        Chat(turns=2)
        """
        with late_imports:
            from shardstore._typed.form import Form
            from shardstore.typed import TypedStore

        return TypedStore(self, Form(model, default, item))
