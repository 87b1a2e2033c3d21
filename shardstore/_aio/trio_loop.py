"""The same on trio. Imported only where the program has imported trio."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import trio

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine


def in_trio() -> bool:
    """Return whether a task of trio calls."""
    return trio.lowlevel.in_trio_task()


def token() -> object:
    """Return an object that stands for the run of trio in this thread."""
    return trio.lowlevel.current_trio_token()


class TrioSignal:
    """A signal on trio."""

    def __init__(self) -> None:
        self._event = trio.Event()

    def set(self) -> None:
        """Have it happened."""
        self._event.set()

    async def wait(self, deadline: float | None) -> bool:
        """Wait for it until the deadline."""
        with trio.move_on_after(float("inf") if deadline is None else max(0.0, deadline - time.monotonic())):
            await self._event.wait()
        return self._event.is_set()

    async def wait_through(self) -> None:
        """Wait for it also when cancelled."""
        with trio.CancelScope(shield=True):
            await self._event.wait()
        await trio.lowlevel.checkpoint_if_cancelled()


class TrioLoop:
    """The run of trio in this thread."""

    def __init__(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self.identity: object = self._token

    def signal(self) -> TrioSignal:
        """Return a new signal."""
        return TrioSignal()

    def soon(self, act: Callable[..., object], *args: Any) -> None:
        """Call something on the loop, from any thread."""
        with suppress(trio.RunFinishedError):  # nobody waits for the result
            self._token.run_sync_soon(act, *args)

    @property
    def ended(self) -> bool:
        """Whether the run is over."""
        try:
            self._token.run_sync_soon(_nothing, idempotent=True)
        except trio.RunFinishedError:
            return True
        return False

    async def turn(self) -> None:
        """Let other tasks go on."""
        await trio.lowlevel.checkpoint()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await trio.sleep(seconds)

    async def to_the_end(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run something that a cancellation does not stop."""
        with trio.CancelScope(shield=True):
            await work()
        await trio.lowlevel.checkpoint_if_cancelled()


def _nothing() -> None:
    """Return at once."""
