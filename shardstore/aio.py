"""A Store for asyncio: the same verbs, awaited. No call stops the event loop while it waits for a lock or a disk.

`get` and `exists` of a store in files run on the loop: they wait for nobody. Every other verb runs in a small pool of
threads, and so do these where a network is in between. Calls that write to one session stand in a queue, in their
order, and one of them at a time takes a thread. So a session that somebody holds takes one thread, however many tasks
wait for it.

A cancelled call that has not begun does nothing. One that has begun cannot be taken back: the task waits for its end,
and is cancelled then. So nothing is committed after the `await` has returned.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, Final, ParamSpec, Self, TypedDict, TypeVar, Unpack, overload

from shardstore._imports import late_imports
from shardstore.archive import Archive
from shardstore.errors import LockTimeout, StoreClosed
from shardstore.store import Store

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Coroutine, Iterable, Iterator
    from pathlib import Path
    from types import TracebackType

    from shardstore._transcripts import Follower
    from shardstore._wake import Rests
    from shardstore.session import Session
    from shardstore.store import Durability, OnDamage
    from shardstore.typed import AsyncTypedStore
    from shardstore.types import Where
    from shardstore.watch import Change, Watch

_P = ParamSpec("_P")
_T = TypeVar("_T")
_M = TypeVar("_M")  # a model
_I = TypeVar("_I")  # an item of a log
_THREADS: Final = 16  # calls of one AsyncStore that are under way at a time
_SOON_S: Final = 0.01  # a queue that took no longer is not counted: another view costs more than it mends
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


class _Queues:
    """Who may write to which session next. Used on one loop."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}  # of each session that a call is at

    async def enter(self, key: str, deadline: float | None) -> None:
        """Wait until every earlier call on the session is over. Raises LockTimeout."""
        queue = self._waiting.get(key)
        if queue is None:
            self._waiting[key] = deque()
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.append(turn)
        began = time.monotonic()
        try:
            async with asyncio.timeout(_left(deadline)):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():  # handed over in this very moment: pass it on
                self.leave(key)
            if isinstance(error, TimeoutError):
                raise LockTimeout(key, time.monotonic() - began) from None
            raise

    def leave(self, key: str) -> None:
        """Hand over to whoever waits longest. A call that was cancelled is not waiting any more."""
        queue = self._waiting[key]
        while queue:
            turn = queue.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        del self._waiting[key]


class _Workers:
    """The queues and the threads of an AsyncStore and of its views, on the loop that they are used on."""

    def __init__(self) -> None:
        self.views = 1
        self._binding = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._queues = _Queues()
        self._threads: ThreadPoolExecutor | None = None

    async def call(self, keys: Collection[str], store: Store, run: Callable[[Store], _T]) -> _T:
        """Run a verb in a thread, when every earlier call on the same sessions is over. Returns or raises as it."""
        threads = self.bind()
        limit = store.lock_timeout if keys else None  # bulk verbs wait so long for each session, not from the call on
        deadline = None if limit is None else time.monotonic() + limit
        entered: list[str] = []
        try:
            for key in sorted(set(keys)):  # all in the same order: two calls on two sessions never wait for each other
                await self._queues.enter(key, deadline)
                entered.append(key)
            context = contextvars.copy_context()  # it knows which sessions the caller is inside of: NestedUpdate
            return await _end_of(threads, lambda: context.run(_run_until, deadline, store, run))
        finally:
            for key in entered:
                self._queues.leave(key)

    def leave(self) -> None:
        """Count one view less; the last one ends the threads, none of which has anything to do."""
        self.views -= 1
        if not self.views and self._threads is not None:
            self._threads.shutdown()

    def bind(self) -> ThreadPoolExecutor:
        """Return the threads. Raises RuntimeError on another loop than the one that is in use."""
        loop = asyncio.get_running_loop()
        with self._binding:
            if self._loop is not loop:
                if self._loop is not None and not self._loop.is_closed():
                    raise RuntimeError("this AsyncStore is in use on another event loop; share its Store instead")
                self._loop, self._queues = loop, _Queues()
            if self._threads is None:
                self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="shardstore")
            return self._threads


def _left(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - time.monotonic())


def _run_until(deadline: float | None, store: Store, run: Callable[[Store], _T]) -> _T:
    """Run a verb that may wait until the deadline: time spent in a queue counts as waiting for the lock."""
    left, limit = _left(deadline), store.lock_timeout
    if left is None or limit is None or limit - left < _SOON_S:
        return run(store)
    try:
        with store.using(lock_timeout=left) as hurried:
            return run(hurried)
    except LockTimeout as error:
        error.waited += limit - left
        raise


async def _end_of(threads: ThreadPoolExecutor, run: Callable[[], _T]) -> _T:
    """Run something in a thread. Cancelled before it began, it never does; after that, its end is waited for."""
    results: list[_T] = []
    errors: list[BaseException] = []
    end: Future[None] = Future()

    def begin() -> None:  # a future of asyncio cannot carry every exception: StopIteration would hang its task
        if not end.set_running_or_notify_cancel():
            return
        try:
            results.append(run())
        except BaseException as error:  # noqa: BLE001  # raised again below
            errors.append(error)
        end.set_result(None)

    try:
        threads.submit(begin)
    except RuntimeError:  # no thread could be started; the work may stand in the executor's queue all the same
        if end.cancel():
            raise
    await _wait_for(asyncio.wrap_future(end), end.cancel)
    if errors:
        raise errors.pop()
    return results.pop()


async def _wait_for(end: asyncio.Future[Any], cancel: Callable[[], bool]) -> None:
    """Wait for an end, also when cancelled meanwhile, unless `cancel` prevents the beginning; then raise that."""
    cancelled: asyncio.CancelledError | None = None
    while not end.done():
        try:
            await asyncio.wait({end})
        except asyncio.CancelledError as error:
            if cancel():
                raise
            cancelled = error
    if cancelled is not None:
        raise cancelled


def _named(names: tuple[str, ...], args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[str]:
    """Return the keys among the arguments of a call; what is no key the verb itself refuses."""
    given = [args[place] if place < len(args) else kwargs.get(name) for place, name in enumerate(names)]
    return [key for key in given if isinstance(key, str)]


def _verb(
    verb: Callable[Concatenate[Store, _P], _T], *names: str
) -> Callable[Concatenate[AsyncStore, _P], Coroutine[Any, Any, _T]]:
    """Return a verb of Store as one of AsyncStore; the first arguments, of these names, are keys to queue for."""

    @wraps(verb)
    async def call(store: AsyncStore, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        return await store._call(_named(names, args, kwargs), lambda sync: verb(sync, *args, **kwargs))  # noqa: SLF001

    return call


def _archive_verb(
    verb: Callable[Concatenate[Archive, _P], _T], *names: str
) -> Callable[Concatenate[AsyncArchive, _P], Coroutine[Any, Any, _T]]:
    """Return a verb of Archive as one of AsyncArchive, as `_verb` does."""

    @wraps(verb)
    async def call(archive: AsyncArchive, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        keys, store = _named(names, args, kwargs), archive._store  # noqa: SLF001
        return await store._call(keys, lambda sync: verb(sync.archive, *args, **kwargs))  # noqa: SLF001

    return call


class _Woken:
    """Rests on the loop, which takes no thread. Used on one loop."""

    def __init__(self, rests: Rests) -> None:
        self._rests = rests
        self._event = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def listen(self, _store: Store) -> None:
        """Begin to listen, in a thread: something may have to be imported."""
        self._rests.listen(lambda: self._loop.call_soon_threadsafe(self._event.set))

    async def wait(self, seconds: float) -> None:
        """Rest, so many seconds at most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._event.wait()
            self._event.clear()
            self._rests.begin()


class AsyncStore:
    """A Store for asyncio: its verbs with the same arguments, results and errors, to be awaited.

    root: a path, with the settings of a Store; or a Store, whose sessions and settings this one shares. Both are closed
        independently. Opening a path touches the disk, so do it before the loop runs.

    Mutators are plain functions, called in a thread. Waiting behind earlier calls counts towards `lock_timeout`. One
    event loop uses it at a time; for several, share one Store between several of these.

    Raises as Store; RuntimeError for a call on another event loop.
    """

    def __init__(self, root: str | os.PathLike[str] | Store, **options: Unpack[Options]) -> None:
        if isinstance(root, Store):
            if options:
                raise TypeError("AsyncStore(store) has the settings of that Store; change them by store.using(...)")
            self._join(root.using(), _Workers())
        else:
            self._join(Store(root, **options), _Workers())

    def using(self, **settings: Unpack[View]) -> Self:
        """Return another AsyncStore on the same sessions, with other settings, as `Store.using` does."""
        view = type(self).__new__(type(self))
        view._join(self._opened().using(**settings), self._workers)  # noqa: SLF001  # made here
        self._workers.views += 1
        return view

    def _join(self, store: Store, workers: _Workers) -> None:
        self._store = store
        self._workers = workers
        self._under_way = 0
        self._idle: asyncio.Future[None] | None = None  # what `close` waits for
        self._closing: asyncio.Task[None] | None = None
        self.root: Path | None = store.root
        self.location: str = store.location

    async def _call(self, keys: Collection[str], run: Callable[[Store], _T]) -> _T:
        store = self._opened()
        self._under_way += 1
        try:
            return await self._workers.call(keys, store, run)
        finally:
            self._under_way -= 1
            if not self._under_way and self._idle is not None and not self._idle.done():
                self._idle.set_result(None)

    def _opened(self) -> Store:
        if self._closing is not None:
            raise StoreClosed
        return self._store

    # Writing: in the order of the calls on each session

    update: Final = _verb(Store.update, "key")
    patch: Final = _verb(Store.patch, "key")
    append: Final = _verb(Store.append, "key")
    create: Final = _verb(Store.create, "key")
    get_or_create: Final = _verb(Store.get_or_create, "key")
    replace: Final = _verb(Store.replace, "key")
    delete: Final = _verb(Store.delete, "key")
    revert: Final = _verb(Store.revert, "key")
    erase_history: Final = _verb(Store.erase_history, "key")
    copy: Final = _verb(Store.copy, "source", "target")
    rename: Final = _verb(Store.rename, "source", "target")
    create_many: Final = _verb(Store.create_many)
    delete_all: Final = _verb(Store.delete_all)

    # Reading

    async def get(self, key: str, *, rev: int | None = None) -> Session | None:
        """Return the session as `Store.get` does: from files on the loop, at once; else in a thread."""
        store = self._opened()
        if rev is None and store.engine.at_hand:
            return store.get(key)
        return await self._call((), lambda store: store.get(key, rev=rev))

    async def exists(self, key: str) -> bool:
        """Return whether there is a session. Raises as `get`."""
        store = self._opened()
        return store.exists(key) if store.engine.at_hand else await self._call((), lambda sync: sync.exists(key))

    log: Final = _verb(Store.log)
    history: Final = _verb(Store.history)
    get_many: Final = _verb(Store.get_many)
    list: Final = _verb(Store.list)
    count: Final = _verb(Store.count)

    def sessions(
        self, prefix: str | None = None, where: Where | None = None, *, on_damage: OnDamage = "raise"
    ) -> AsyncGenerator[Session, None]:
        """Return an iterator for `async for`, over what `Store.sessions` yields. Raises as it."""
        return self._each(self._opened().sessions(prefix, where, on_damage=on_damage))

    def keys(self) -> AsyncGenerator[str, None]:
        """Return an iterator for `async for` over every key in ascending order, as `iter` of a Store."""
        return self._each(iter(self._opened()))

    def __aiter__(self) -> AsyncIterator[str]:
        return self.keys()

    async def _each(self, found: Iterator[_T]) -> AsyncGenerator[_T, None]:
        end: BaseException | None = None
        while end is None:
            items, end = await self._call((), lambda _store: _step(found))
            for item in items:
                yield item
        if not isinstance(end, StopIteration):
            raise end

    def follow(self, key: str, start: int | None = None) -> AsyncGenerator[Any, None]:
        """Return an iterator for `async for` over the items of one log as they come, as `Store.follow` does."""
        store = self._opened()
        begun = store.follow(key, start) if store.engine.at_hand else None
        return self._followed(begun, lambda sync: sync.follow(key, start))

    async def _followed(self, begun: Follower | None, begin: Callable[[Store], Follower]) -> AsyncGenerator[Any, None]:
        follower = begun or await self._call((), begin)
        woken = _Woken(follower.rests)
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

        Without `since` it begins at the first step: to begin earlier, take a token first. Raises at that step.
        """
        return self._watched(lambda store: store.watch(prefix, since=since, timeout=timeout))

    async def _watched(self, begin: Callable[[Store], Watch]) -> AsyncGenerator[Change, None]:
        watch = await self._call((), begin)
        woken = _Woken(watch.rests)
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
        """What `prune` moved out of the store: list, restore, restore_many, purge."""
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
        """Return the verbs of this store for sessions of one model, as `Store.typed` does."""
        with late_imports:
            from shardstore._typed.form import Form
            from shardstore.typed import AsyncTypedStore

        return AsyncTypedStore(self, Form(model, default, item))

    # Life

    async def close(self) -> None:
        """Close it, when the calls made before have ended. Every later call but this one raises StoreClosed."""
        if self._closing is None:
            self._workers.bind()
            self._closing = asyncio.create_task(self._close())
        await _wait_for(self._closing, lambda: False)
        self._closing.result()

    async def _close(self) -> None:
        if self._under_way:
            self._idle = asyncio.get_running_loop().create_future()
            await self._idle
        await self._workers.call((), self._store, Store.close)
        self._workers.leave()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"AsyncStore({self.location!r})"


class AsyncArchive:
    """The archive of one store; `AsyncStore.archive` returns it."""

    def __init__(self, store: AsyncStore) -> None:
        self._store = store

    list: Final = _archive_verb(Archive.list)
    restore: Final = _archive_verb(Archive.restore, "key")
    restore_many: Final = _archive_verb(Archive.restore_many)
    purge: Final = _archive_verb(Archive.purge)


def _step(found: Iterator[_T]) -> tuple[list[_T], BaseException | None]:
    """Return the next items, and what ended the iteration, if it is over: nothing before an error is lost."""
    items: list[_T] = []
    try:
        while len(items) < _STEP:
            items.append(next(found))
    except Exception as end:  # noqa: BLE001  # raised by the caller, behind the items
        return items, end
    return items, None
