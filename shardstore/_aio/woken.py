"""Rests on a loop: a follower or a watcher takes no thread while nothing happens."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shardstore._aio.loops import Loop
    from shardstore._wake import Rests
    from shardstore.store import Store


class Woken:
    """The rests of one follower. Used on one loop."""

    def __init__(self, loop: Loop, rests: Rests) -> None:
        self._loop = loop
        self._rests = rests
        self._signal = loop.signal()

    def listen(self, _store: Store) -> None:
        """Begin to listen, in a thread: something may have to be imported."""
        self._rests.listen(lambda: self._loop.soon(self._wake))

    def _wake(self) -> None:
        self._signal.set()

    async def wait(self, seconds: float) -> None:
        """Rest, so many seconds at most."""
        if await self._signal.wait(time.monotonic() + seconds):
            self._signal = self._loop.signal()
            self._rests.begin()
