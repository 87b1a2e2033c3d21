"""The event loop that a call runs on: what AsyncStore needs of asyncio, and of trio.

A Signal is what a task waits for. Everything else is one function of the loop under one name.
"""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine


class Signal(Protocol):
    """Something that one task waits for, and that happens once."""

    def set(self) -> None:
        """Have it happened. On the loop."""

    async def wait(self, deadline: float | None) -> bool:
        """Wait for it until time.monotonic is `deadline`; return whether it has happened."""

    async def wait_through(self) -> None:
        """Wait for it also when cancelled; the cancellation is raised when it has happened."""


class Loop(Protocol):
    """The event loop of this thread."""

    identity: object  # two are of the same loop exactly when these are the same object

    def signal(self) -> Signal:
        """Return a new signal."""

    def soon(self, act: Callable[..., object], *args: Any) -> None:
        """Call something on the loop, from any thread. Does nothing where the loop has ended."""

    @property
    def ended(self) -> bool:
        """Whether nothing runs on it any more. From any thread."""

    async def turn(self) -> None:
        """Let other tasks go on."""

    async def sleep(self, seconds: float) -> None:
        """Wait."""

    async def to_the_end(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run something that a cancellation does not stop; it is raised afterwards."""


class AsyncioSignal:
    """A signal on asyncio."""

    __slots__ = ("_happened", "_loop", "_waiter")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._happened = False
        self._waiter: asyncio.Future[None] | None = None  # a new one for each wait: a cancellation ends it

    def set(self) -> None:
        """Have it happened."""
        self._happened = True
        if self._waiter is not None:
            _wake(self._waiter)

    async def wait(self, deadline: float | None) -> bool:
        """Wait for it until the deadline."""
        if self._happened:
            return True
        self._waiter = self._loop.create_future()
        if deadline is None:
            await self._waiter
            return True
        timer = self._loop.call_later(max(0.0, deadline - time.monotonic()), _wake, self._waiter)
        try:
            await self._waiter
        finally:
            timer.cancel()
        return self._happened

    async def wait_through(self) -> None:
        """Wait for it also when cancelled."""
        cancelled: asyncio.CancelledError | None = None
        while not self._happened:
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is not None:
            raise cancelled


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


async def _through(end: asyncio.Future[Any]) -> None:
    cancelled: asyncio.CancelledError | None = None
    while not end.done():
        try:
            await asyncio.wait((end,))
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled


class AsyncioLoop:
    """The loop of asyncio, uvloop's too."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.identity: object = self._loop

    def signal(self) -> AsyncioSignal:
        """Return a new signal."""
        return AsyncioSignal(self._loop)

    def soon(self, act: Callable[..., object], *args: Any) -> None:
        """Call something on the loop, from any thread."""
        with suppress(RuntimeError):  # it was closed: nobody waits for the result
            self._loop.call_soon_threadsafe(act, *args)

    @property
    def ended(self) -> bool:
        """Whether it was closed."""
        return self._loop.is_closed()

    async def turn(self) -> None:
        """Let other tasks go on."""
        await asyncio.sleep(0)

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)

    async def to_the_end(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run something that a cancellation does not stop."""
        task = self._loop.create_task(work())
        await _through(task)
        task.result()


def running_loop() -> Loop:
    """Return the loop of the task that calls. Raises RuntimeError where none runs."""
    if "trio" in sys.modules:
        from shardstore._aio.trio_loop import TrioLoop, in_trio

        if in_trio():
            return TrioLoop()
    return AsyncioLoop()


def identity() -> object:
    """Return the `Loop.identity` of the running loop. Raises RuntimeError without one."""
    if "trio" in sys.modules:
        from shardstore._aio.trio_loop import in_trio, token

        if in_trio():
            return token()
    return asyncio.get_running_loop()
