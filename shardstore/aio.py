"""A Store for event loops: the same verbs, awaited. No call stops the loop while it waits for a lock or a disk.

A call that takes microseconds runs on the loop: `get` and `exists` of a session that is open here, the newest items of
its log, and a relaxed write that finds its session free. Everything else runs in a few threads. Calls that write to one
session begin in their order; those that wait together share one lock, one thread and one sync.

A cancelled call that has not begun does nothing. One that has begun cannot be taken back: the task waits for its end,
and is cancelled then. So nothing is committed after the `await` has returned.
"""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, Final, ParamSpec, Self, TypedDict, TypeVar, Unpack, overload

from shardstore._aio.caller import AT_ONCE, NOT_AT_HAND, Caller, as_on_a_loop
from shardstore._aio.home import Home
from shardstore._aio.woken import Woken
from shardstore._imports import late_imports
from shardstore.archive import Archive
from shardstore.log import NOT_ON_A_LOOP, Log
from shardstore.session import Session
from shardstore.store import Store

if TYPE_CHECKING:
    import builtins  # inside the class, `list` is the verb
    import os
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterable, Iterator
    from types import TracebackType

    from shardstore._transcripts import Follower
    from shardstore.typed import AsyncTypedStore
    from shardstore.types import Durability, OnDamage, Where
    from shardstore.watch import Change, Watch

_P = ParamSpec("_P")
_T = TypeVar("_T")
_M = TypeVar("_M")  # a model
_I = TypeVar("_I")  # an item of a log
_STEP: Final = 64  # items that `async for` fetches at a time


class Options(TypedDict, total=False):
    """The settings of a Store, as keywords."""

    durability: Durability
    lock_timeout: float | None
    actor: str | None
    create: bool
    read_only: bool
    allow_shared: bool
    indexed: Iterable[str] | None
    scan_progress: Callable[[int, int], None] | None


class View(TypedDict, total=False):
    """The settings that `using` changes, as keywords."""

    durability: Durability
    lock_timeout: float | None
    actor: str | None


def _named(names: tuple[str, ...], args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[str]:
    """Return the keys among the arguments of a call; the verb itself refuses a value that is no key."""
    given = [args[place] if place < len(args) else kwargs.get(name) for place, name in enumerate(names)]
    return [key for key in given if isinstance(key, str)]


def _awaited(doc: str | None) -> str | None:
    """Return the docstring of a verb of Store with its examples awaited; None where Python runs without docstrings."""
    contract, begin, examples = (doc or "").partition(">>> ")
    return doc and contract + begin + examples.replace("store.", "await store.")


def _verb(
    verb: Callable[Concatenate[Store, _P], _T], *names: str
) -> Callable[Concatenate[AsyncStore, _P], Coroutine[Any, Any, _T]]:
    """Return a verb of Store as one of AsyncStore; the first arguments, of these names, are keys to queue for."""

    @wraps(verb)
    async def call(store: AsyncStore, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        return await store._call(_named(names, args, kwargs), lambda sync: verb(sync, *args, **kwargs))  # noqa: SLF001

    call.__doc__ = _awaited(verb.__doc__)
    return call


def _commit(
    verb: Callable[Concatenate[Store, _P], _T],
    *,
    creates: bool = True,
    reads_log: Callable[[tuple[Any, ...], dict[str, Any]], bool] | None = None,
) -> Callable[Concatenate[AsyncStore, _P], Coroutine[Any, Any, _T]]:
    """Return a verb of Store that makes one commit as one of AsyncStore. It shares locks and syncs with others.

    creates: whether it makes an absent session. reads_log: whether a call may need items that are not in memory; None:
        it reads files in any case, and is never done on the loop.
    """

    @wraps(verb)
    async def call(store: AsyncStore, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        key: Any = args[0] if args else kwargs.get("key")

        def run(sync: Store) -> _T:
            return verb(sync, *args, **kwargs)

        if reads_log is not None and type(key) is str:
            result = store._at_once(key, run, reads_log=reads_log(args, kwargs))  # noqa: SLF001
            if result is not NOT_AT_HAND:
                if store._home.at_once >= AT_ONCE:  # noqa: SLF001
                    await store._breathe()  # noqa: SLF001
                return result
        makes = creates and kwargs.get("create", True) is True
        return await store._queued(key, run, creates=makes)  # noqa: SLF001

    call.__doc__ = _awaited(verb.__doc__)
    return call


def _never(_args: tuple[Any, ...], _kwargs: dict[str, Any]) -> bool:
    return False


def _perhaps(_args: tuple[Any, ...], _kwargs: dict[str, Any]) -> bool:
    return True


def _append_reads_log(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Return whether an append looks for known ids, or runs a function that may read the log."""
    patch = args[2] if len(args) > 2 else kwargs.get("patch")  # noqa: PLR2004  # key, items, patch
    return kwargs.get("ids") is not None or callable(patch)


def _archive_verb(
    verb: Callable[Concatenate[Archive, _P], _T], *names: str
) -> Callable[Concatenate[AsyncArchive, _P], Coroutine[Any, Any, _T]]:
    """Return a verb of Archive as one of AsyncArchive, as `_verb` does."""

    @wraps(verb)
    async def call(archive: AsyncArchive, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        keys, store = _named(names, args, kwargs), archive._store  # noqa: SLF001
        return await store._call(keys, lambda sync: verb(sync.archive, *args, **kwargs))  # noqa: SLF001

    call.__doc__ = _awaited(verb.__doc__)
    return call


class AsyncStore(Caller):
    """A Store for asyncio or trio: its verbs with the same arguments, results and errors, to be awaited.

    root: a path, with the settings of a Store; or a Store, whose sessions and settings this one shares. Both are closed
        independently. Opening a path touches the disk, so do it before the loop runs.

    Mutators are plain functions. With durability="relaxed" they may be called on the loop, otherwise in a thread.
    Waiting behind earlier calls counts towards `lock_timeout`. One event loop uses it at a time; for several loops,
    open several of these on one Store.

    A session that it returns has `len(session.log)`; items that are not in memory are a TypeError: await `log`.

    Raises as Store; RuntimeError for a call on another event loop.

    The example of each verb goes on from here. `python -m asyncio` takes them as they stand; a program has them in an
    `async def`.

    >>> from shardstore.aio import AsyncStore
    >>> store = AsyncStore("agents/main/sessions")
    >>> main = await store.create("agent:main", {"status": "new", "turns": 1})
    >>> chat = await store.append("agent:chat", [{"role": "user", "content": "hi"}], ids=["m-1"])
    """

    def __init__(self, root: str | os.PathLike[str] | Store, **options: Unpack[Options]) -> None:
        if isinstance(root, Store):
            if options:
                raise TypeError("AsyncStore(store) has the settings of that Store; change them by store.using(...)")
            self._join(root.using(), Home())
        else:
            self._join(Store(root, **options), Home())

    def using(self, **settings: Unpack[View]) -> Self:
        """Return another AsyncStore on the same sessions, with other settings, as `Store.using` does.

        settings: durability, lock_timeout, actor. Raises ValueError, StoreClosed.

        >>> hot = store.using(actor="web", durability="relaxed")
        >>> session = await hot.patch("agent:main", {"status": "running"})
        >>> session.actor
        'web'
        """
        view = type(self).__new__(type(self))
        view._join(self._opened().using(**settings), self._home)  # noqa: SLF001  # made here
        return view

    # Writing: in the order of the calls on each session

    update: Final = _commit(Store.update, reads_log=_perhaps)
    patch: Final = _commit(Store.patch, reads_log=_never)
    append: Final = _commit(Store.append, reads_log=_append_reads_log)
    create: Final = _commit(Store.create, reads_log=_never)
    get_or_create: Final = _commit(Store.get_or_create)
    replace: Final = _commit(Store.replace, reads_log=_never)
    delete: Final = _commit(Store.delete, creates=False, reads_log=_perhaps)
    revert: Final = _commit(Store.revert, creates=False)
    erase_history: Final = _verb(Store.erase_history, "key")
    copy: Final = _verb(Store.copy, "source", "target")
    rename: Final = _verb(Store.rename, "source", "target")
    create_many: Final = _verb(Store.create_many)
    delete_all: Final = _verb(Store.delete_all)

    # Reading

    async def get(self, key: str, *, rev: int | None = None) -> Session | None:
        """Return the session as `Store.get` does: at once where it is open here, otherwise in a thread.

        rev: return this revision instead. Raises as `Store.get`.

        >>> session = await store.get("agent:main")
        >>> session["status"]
        'new'
        """
        if rev is not None or not self._is_ready(key):
            return await self._call((), lambda store: store.get(key, rev=rev))
        state = self._store.engine.read(key)
        if self._home.at_once >= AT_ONCE:
            await self._breathe()
        return Session(key, state, NOT_ON_A_LOOP) if state.fields is not None else None

    async def exists(self, key: str) -> bool:
        """Return whether there is a session. Raises as `get`.

        >>> await store.exists("agent:main")
        True
        """
        return await self.get(key) is not None

    async def log(self, key: str, start: int | None = None, stop: int | None = None) -> builtins.list[Any]:
        """Return the items log[start:stop] as `Store.log` does: at once where they are in memory. Raises as it.

        >>> await store.log("agent:chat", -20)
        [{'role': 'user', 'content': 'hi'}]
        """
        if self._is_ready(key):
            state = self._store.engine.read(key)
            places = range(state.log.length)[start:stop]
            if state.exists and 0 < len(places) <= _STEP and state.log.dropped + places[0] >= state.log.kept:
                return Log(key, state.log, None)[start:stop]
        return await self._call((), lambda store: store.log(key, start, stop))

    def _is_ready(self, key: str) -> bool:
        """Return whether a session can be read on the loop."""
        store, home = self._opened(), self._home
        home.lanes()
        home.at_once += 1
        return type(key) is str and store.engine.is_ready(key)

    history: Final = _verb(Store.history)
    get_many: Final = _verb(Store.get_many)
    list: Final = _verb(Store.list)
    count: Final = _verb(Store.count)

    def sessions(
        self, prefix: str | None = None, where: Where | None = None, *, on_damage: OnDamage = "raise"
    ) -> AsyncGenerator[Session, None]:
        """Return an iterator for `async for` over whole sessions, as `Store.sessions` does. Raises as it.

        >>> async for session in store.sessions("agent:", {"status": "new"}):
        ...     print(session.key, session.data)
        agent:main {'status': 'new', 'turns': 1}
        """
        return self._each(self._opened().sessions(prefix, where, on_damage=on_damage))

    def keys(self) -> AsyncGenerator[str, None]:
        """Return an iterator for `async for` over every key in ascending order, as `iter` of a Store. Raises as `list`.

        >>> [key async for key in store.keys()]
        ['agent:chat', 'agent:main']
        """
        return self._each(iter(self._opened()))

    def __aiter__(self) -> AsyncIterator[str]:
        return self.keys()

    async def _each(self, found: Iterator[_T]) -> AsyncGenerator[_T, None]:
        end: BaseException | None = None
        while end is None:
            items, end = await self._call((), lambda _store: _step(found))
            for item in items:
                yield as_on_a_loop(item)
        if not isinstance(end, StopIteration):
            raise end

    def follow(self, key: str, start: int | None = None) -> AsyncGenerator[Any, None]:
        """Return an iterator for `async for` over the items of one log as they come, as `Store.follow` does.

        start: None for new items only; -n for the newest n items first; otherwise the number of the first item.

        It never ends by itself: leave the loop, or cancel its task. Raises as `Store.follow`.

        >>> async for item in store.follow("agent:chat", -20):
        ...     print(item)
        ...     break
        {'role': 'user', 'content': 'hi'}
        """
        store = self._opened()
        begun = None if store.engine.remote else store.follow(key, start)
        return self._followed(begun, lambda sync: sync.follow(key, start))

    async def _followed(self, begun: Follower | None, begin: Callable[[Store], Follower]) -> AsyncGenerator[Any, None]:
        follower: Follower = begun if begun is not None else await self._call((), begin)
        woken = Woken(self._home.lanes().loop, follower.rests)
        try:
            await self._call((), woken.listen)
            while True:
                items = await self._call((), lambda _store: follower.ready())
                for item in items:
                    yield item
                if not items:
                    await woken.wait(follower.rests.pause())
        finally:
            follower.close()

    token: Final = _verb(Store.token)

    def watch(
        self, prefix: str | None = None, *, since: str | None = None, timeout: float | None = None
    ) -> AsyncGenerator[Change, None]:
        """Return an iterator for `async for` over changes as they come, as `Store.watch` does.

        timeout: seconds without a change after which it ends; None: it never ends.

        Without `since` it begins at the first step: to begin earlier, take a token first. Raises as `Store.watch`, at
        that step.

        >>> token = await store.token()
        >>> session = await store.patch("agent:main", {"status": "done"})
        >>> async for change in store.watch("agent:", since=token, timeout=0):
        ...     print(change.key, change.kind)
        agent:main changed
        """
        return self._watched(lambda store: store.watch(prefix, since=since, timeout=timeout))

    async def _watched(self, begin: Callable[[Store], Watch]) -> AsyncGenerator[Change, None]:
        watch = await self._call((), begin)
        woken = Woken(self._home.lanes().loop, watch.rests)
        try:
            await self._call((), woken.listen)
            while True:
                self._opened()
                found = await self._call((), lambda _store: watch.ready()) if watch.may_have_news() else []
                for change in found:
                    yield change
                if not found:
                    pause = watch.pause()
                    if pause is None:
                        return
                    await woken.wait(pause)
        finally:
            watch.close()

    # Maintenance

    compact: Final = _verb(Store.compact)
    prune: Final = _verb(Store.prune)
    verify: Final = _verb(Store.verify)
    stats: Final = _verb(Store.stats)
    reindex: Final = _verb(Store.reindex)

    @property
    def archive(self) -> AsyncArchive:
        """The sessions that `prune` moved out of the store: list, restore, restore_many, purge.

        >>> report = await store.prune(max_entries=0, prefix="agent:chat")
        >>> session = await store.archive.restore("agent:chat")
        >>> session.key
        'agent:chat'
        """
        return AsyncArchive(self)

    # Models

    @overload
    def typed(self, model: type[_M], *, default: _M | Callable[[], _M] | None = None) -> AsyncTypedStore[_M, Any]: ...
    @overload
    def typed(
        self, model: type[_M], *, default: _M | Callable[[], _M] | None = None, item: type[_I]
    ) -> AsyncTypedStore[_M, _I]: ...
    def typed(
        self, model: type[_M], *, default: _M | Callable[[], _M] | None = None, item: type[Any] | None = None
    ) -> AsyncTypedStore[_M, Any]:
        """Return the verbs of this store for sessions of one model. Arguments and errors are those of `Store.typed`.

        >>> from dataclasses import dataclass
        >>> @dataclass
        ... class Chat:
        ...     turns: int = 0
        >>> session = await store.typed(Chat).update("agent:main", lambda chat: Chat(chat.turns + 1))
        >>> session.value
        Chat(turns=2)
        """
        with late_imports:
            from shardstore._typed.form import Form
            from shardstore.typed import AsyncTypedStore

        return AsyncTypedStore(self, Form(model, default, item))

    # Life

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"AsyncStore({self.location!r})"


class AsyncArchive:
    """The archive of one store; `AsyncStore.archive` returns it.

    The example of each method goes on from here:

    >>> report = await store.prune(max_entries=0, prefix="agent:main")
    >>> await store.exists("agent:main")
    False
    """

    def __init__(self, store: AsyncStore) -> None:
        self._store = store

    list: Final = _archive_verb(Archive.list)
    restore: Final = _archive_verb(Archive.restore, "key")
    restore_many: Final = _archive_verb(Archive.restore_many)
    purge: Final = _archive_verb(Archive.purge)


def _step(found: Iterator[_T]) -> tuple[list[_T], BaseException | None]:
    """Return the next items, and the exception that ended the iteration, if any: no item before an error is lost."""
    items: list[_T] = []
    try:
        while len(items) < _STEP:
            items.append(next(found))
    except Exception as end:  # noqa: BLE001  # raised by the caller, behind the items
        return items, end
    return items, None
