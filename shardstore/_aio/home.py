"""Where the calls of an AsyncStore run: its loop, and its lanes there."""

from __future__ import annotations

import os
import threading
import weakref
from typing import TYPE_CHECKING

from shardstore._aio.lanes import Lanes
from shardstore._aio.loops import identity, running_loop

if TYPE_CHECKING:
    from shardstore._aio.caller import Caller
    from shardstore._aio.loops import Loop


class Home:
    """The loop that an AsyncStore and its views are used on, and their lanes there."""

    def __init__(self) -> None:
        self.views: weakref.WeakSet[Caller] = weakref.WeakSet()  # one may be dropped without being closed
        self.tending: set[object] = set()  # rewrites under way
        self.at_once = 0  # calls done on the loop since another task went on
        self._binding = threading.Lock()
        self._loop: Loop | None = None
        self._process = 0
        self._lanes: Lanes | None = None

    def lanes(self) -> Lanes:
        """Return the lanes. Raises RuntimeError on another loop than the one that is in use."""
        lanes, loop = self._lanes, self._loop
        if lanes is not None and loop is not None and loop.identity is identity() and self._process == os.getpid():
            return lanes
        with self._binding:
            loop = running_loop()
            here = self._process == os.getpid()  # not in a forked child
            if here and self._loop is not None and self._loop.identity is not loop.identity and not self._loop.ended:
                raise RuntimeError("this AsyncStore is in use on another event loop; share its Store instead")
            self._loop, self._process = loop, os.getpid()
            lanes = self._lanes = Lanes(loop)
            self.tending = set()
            for view in list(self.views):
                view._forget_calls()  # noqa: SLF001  # theirs alone
            return lanes

    def leave(self, view: Caller) -> None:
        """Take out a view; the last one ends the threads, none of which has anything to do."""
        self.views.discard(view)
        if not self.views and self._lanes is not None:
            self._lanes.end()
