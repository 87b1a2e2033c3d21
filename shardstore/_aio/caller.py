"""How AsyncStore makes a call: on the loop where that takes microseconds, otherwise in a thread, in order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

from shardstore._aio.borrowed import on_engine
from shardstore._aio.calls import Call
from shardstore._aio.visits import Inside
from shardstore.errors import StoreClosed
from shardstore.log import NOT_ON_A_LOOP
from shardstore.session import Session, unread
from shardstore.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

    from shardstore._aio.home import Home
    from shardstore._aio.loops import Signal

_T = TypeVar("_T")
AT_ONCE: Final = 64  # calls done on the loop, after which other tasks go on first
_REST_S: Final = 0.002
NOT_AT_HAND: Final[Any] = object()


class Caller:
    """A Store, and the calls on it that are under way on one loop."""

    def _join(self, store: Store, home: Home) -> None:
        self._store = store
        self._home = home
        home.views.add(self)
        self._under_way: set[object] = set()
        self._idle: Signal | None = None  # what `close` waits for
        self._closing: list[Signal] | None = None  # of those who wait for whoever closes it
        self._closed = False
        self._relaxed = store.durability == "relaxed"
        self._inside = Inside(
            store.engine, NOT_ON_A_LOOP
        )  # for what is done on the loop, where no two calls are at once
        self._hot = on_engine(store, self._inside, 0.0)  # type: ignore[arg-type]  # the rest is the engine's
        self.root: Path | None = store.root
        self.location: str = store.location

    def _forget_calls(self) -> None:
        """Forget the calls of a loop that has ended, or of the process that forked this one: no task waits for them."""
        self._under_way, self._idle = set(), None
        if not self._closed:
            self._closing = None  # whoever was about to close it is gone as well

    def _opened(self) -> Store:
        if self._closing is not None:
            raise StoreClosed
        return self._store

    async def _call(self, keys: Collection[str], run: Callable[[Store], _T]) -> _T:
        """Run a verb in a thread, when every earlier call on the same sessions is over."""
        lanes, store, entered = self._home.lanes(), self._opened(), list[str]()
        call = Call(lanes.loop.signal(), store, run, in_time=bool(keys))  # bulk verbs wait so long for each session
        self._under_way.add(call)
        try:
            for key in sorted(set(keys)):  # all in the same order: two calls on two sessions never wait for each other
                await lanes.enter(key, store, call.deadline)
                entered.append(key)
            result: _T = as_on_a_loop(await lanes.run(call, waits=bool(keys)))
            return result
        finally:
            for key in entered:
                lanes.leave(key)
            self._ended(call)

    async def _queued(self, key: str, run: Callable[[Store], _T], *, creates: bool) -> _T:
        """Run a verb that makes one commit, in its session's lane."""
        if type(key) is not str:
            return await self._call((), run)  # it raises what it raises for no key
        lanes, store = self._home.lanes(), self._opened()
        call = Call(lanes.loop.signal(), store, run, creates=creates)
        self._under_way.add(call)
        try:
            result: _T = as_on_a_loop(await lanes.call(key, call))
            return result
        finally:
            self._ended(call)

    def _at_once(self, key: str, run: Callable[[Store], _T], *, reads_log: bool) -> _T:
        """Run a verb on the loop, if its session is at hand; a thread finishes the rest.

        Return NOT_AT_HAND where the call is to stand in its session's lane. Otherwise returns or raises as the verb.
        """
        store = self._opened()
        nothing: _T = NOT_AT_HAND
        if not self._relaxed or key in self._home.lanes().by_key:
            return nothing
        visit = store.engine.at_hand(key)
        if visit is None:
            return nothing
        due = False
        try:
            if reads_log and visit.state.log.settled.file:
                return nothing
            self._inside.join(visit)
            result = run(self._hot)
            due = visit.rewrite_due
        finally:
            visit.__exit__(None, None, None)
        if due:
            self._tend(key)
        self._home.at_once += 1
        return result

    def _tend(self, key: str) -> None:
        """Have a journal rewritten that has grown, before the next call on its session.

        An error is nobody's: the journal is as good as before, and a later commit rewrites it, or raises the error.
        """
        lanes, store = self._home.lanes(), self._store
        ending = _Ending(self._home)
        lanes.add(key, Call(ending, store, lambda sync: sync.engine.tend(key, sync.lock_timeout), alone=True))

    async def _breathe(self) -> None:
        """Let other tasks run now and then: a call that is done on the loop does not suspend its task."""
        self._home.at_once = 0
        await self._home.lanes().loop.turn()

    def _ended(self, call: object) -> None:
        self._under_way.discard(call)
        if not self._under_way and self._idle is not None:
            self._idle.set()

    # Life

    async def close(self) -> None:
        """Close it, when the calls made before have ended. Every later call but this one raises StoreClosed.

        `async with AsyncStore(...) as store` calls it at the end.

        >>> await store.close()
        >>> await store.get("agent:main")
        Traceback (most recent call last):
            ...
        shardstore.errors.StoreClosed: this Store is closed; open another one
        """
        lanes = self._home.lanes()
        if self._closing is None:
            self._closing = []
            await lanes.loop.to_the_end(self._close)
        elif not self._closed:
            other = lanes.loop.signal()
            self._closing.append(other)
            await other.wait_through()

    async def _close(self) -> None:
        lanes = self._home.lanes()
        if self._under_way:
            self._idle = lanes.loop.signal()
            await self._idle.wait(None)
        while self._home.tending:  # for any view: they use the engine that is left here
            await lanes.loop.sleep(_REST_S)
        try:
            await lanes.run(Call(lanes.loop.signal(), self._store, Store.close, in_time=False))
        except RuntimeError:  # no thread starts
            self._store.close()
        self._closed = True
        del self._hot, self._inside  # they keep the engine, and with it its descriptors
        self._home.leave(self)
        for other in self._closing or ():
            other.set()


class _Ending:
    """The signal of a call that no task waits for."""

    def __init__(self, home: Home) -> None:
        self._home = home
        home.tending.add(self)

    def set(self) -> None:
        """Have it happened."""
        self._home.tending.discard(self)

    async def wait(self, deadline: float | None) -> bool:
        """Return at once."""
        return deadline is None

    async def wait_through(self) -> None:
        """Return at once."""


def as_on_a_loop(result: _T) -> _T:
    """Return the result of a verb with sessions whose logs read no file."""
    found: Any = result
    if isinstance(found, Session):
        found = unread(found)
    elif isinstance(found, list) and found and isinstance(found[0], Session):
        found = [unread(session) for session in found]
    elif isinstance(found, dict) and found and isinstance(next(iter(found.values())), Session):
        found = {key: unread(session) for key, session in found.items()}
    return found  # type: ignore[no-any-return]
