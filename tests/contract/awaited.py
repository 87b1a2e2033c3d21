"""A Store whose verbs go through an AsyncStore on a loop in another thread, so that the contract holds that one too."""

from __future__ import annotations

import asyncio
import inspect
import os
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Self

from shardstore import Session, SessionNotFound, Store
from shardstore.aio import AsyncStore

LIMIT = 60.0  # seconds after which a call fails instead of hanging


class LoopThread:
    """An event loop in a thread of its own; in a forked child another one, for it has none of the parent's threads."""

    def __init__(self) -> None:
        self._parents: list[asyncio.AbstractEventLoop] = []  # kept: a loop that is dropped while it runs warns
        self._begin()

    def _begin(self) -> None:
        self._process = os.getpid()
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="test-loop", daemon=True)
        self._thread.start()

    @property
    def is_here(self) -> bool:
        """Whether this thread is the loop's."""
        return threading.current_thread() is self._thread

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run something on the loop, in the caller's context."""
        if self._process != os.getpid():
            self._parents.append(self.loop)
            self._begin()
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(LIMIT)

    def close(self) -> None:
        """End the loop."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(LIMIT)
        self.loop.close()


class AwaitedStore:
    """A Store as tests use it. What AsyncStore does not have, such as `edit`, goes to the Store beneath.

    So does what a mutator asks for on the loop: it would wait for itself.
    """

    def __init__(self, sync: Store, thread: LoopThread | None = None) -> None:
        self._sync = sync
        self._own = thread is None
        self._thread = thread or LoopThread()
        self._async = AsyncStore(sync)
        self._closed = False

    def __getattr__(self, name: str) -> Any:
        verb = getattr(AsyncStore, name, None)
        if self._closed or self._thread.is_here or not inspect.iscoroutinefunction(verb):
            return getattr(self._sync, name)
        return self._awaited(getattr(self._async, name))

    def _awaited(self, verb: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            return readable(self._thread.run(self._to_the_end(verb, *args, **kwargs)), self._sync)

        return call

    async def _to_the_end(self, verb: Callable[..., Coroutine[Any, Any, Any]], *args: Any, **kwargs: Any) -> Any:
        """Await a verb, and the rewrite that it left to a thread: it may replace the log's file behind a snapshot."""
        try:
            return await verb(*args, **kwargs)
        finally:
            while self._async._home.tending:  # noqa: ASYNC110  # nothing tells of its end
                await asyncio.sleep(0.001)

    def using(self, **settings: Any) -> AwaitedStore:
        """Return a view on the same loop."""
        return AwaitedStore(self._sync.using(**settings), self._thread)

    def __getitem__(self, key: str) -> Session:
        found: Session | None = self.get(key)
        if found is None:
            raise SessionNotFound(key)
        return found

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and bool(self.exists(key))

    def __len__(self) -> int:
        return int(self.count())

    def __bool__(self) -> bool:
        return True

    def __iter__(self) -> Iterator[str]:
        async def keys() -> list[str]:
            return [key async for key in self._async.keys()]  # it is no mapping

        return iter(self._sync if self._closed or self._thread.is_here else self._thread.run(keys()))

    def __repr__(self) -> str:
        return repr(self._sync)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close both, and the loop."""
        if not self._closed:
            self._closed = True
            self._thread.run(self._async.close())
            self._sync.close()
            if self._own:
                self._thread.close()


def readable(result: Any, store: Store) -> Any:
    """Return what a Store would: the tests read the logs of sessions without a loop."""
    if isinstance(result, Session):
        return Session(result.key, result._state, store.engine.logs)
    if isinstance(result, list):
        return [readable(one, store) for one in result]
    if isinstance(result, dict):
        return {key: readable(one, store) for key, one in result.items()}
    return result
