"""Waiting until something in a directory changes: woken by `watchfiles` where it is installed, else by polling.

Only a hint. Whoever waits looks by itself all the same, at least once a second. One thread for each directory asks the
operating system on behalf of everybody in this process.
"""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from shardstore._files.locks.waiter import is_cooperative
from shardstore._imports import late_imports

if TYPE_CHECKING:
    from collections.abc import Callable

SOON_S: Final = 0.005  # the first pause of whoever waits; each further one is twice as long
OFTEN_S: Final = 0.25  # the longest, where nothing wakes it
SELDOM_S: Final = 1.0  # the longest, where something does
_NOTIFIERS_MAX: Final = 8  # of one process: each takes a thread that is never quite idle
_STEP_MS: Final = 20  # between two looks of watchfiles at what the system has told it; it reports after one or two more
_ROUND_MS: Final = 60_000
_END_S: Final = 1.0

_notifiers: dict[str, _Notifier] = {}  # by directory
_registry = threading.RLock()  # re-entrant: a waker may be collected, and closed, in the middle of anything


class Waker:
    """Ends a wait when something in a directory changes. Used by one thread; close it when done."""

    def __init__(self, directory: str | None, wake: Callable[[], object] | None = None) -> None:
        """Begin to listen; `wake`: called from another thread at each change, for those who do not call `wait`."""
        self._event = threading.Event()
        self.wake: Callable[[], object] = wake or self._event.set
        self._notifier = _notifier(directory, self)

    @property
    def longest(self) -> float:
        """How many seconds whoever uses it may wait before it looks by itself."""
        return OFTEN_S if self._notifier is None or self._notifier.ended else SELDOM_S

    def wait(self, seconds: float) -> bool:
        """Wait until something changed since the last call, or so many seconds; return whether it was woken."""
        woken = self._event.wait(seconds)
        self._event.clear()
        return woken

    def close(self) -> None:
        """Listen no more. A second call does nothing."""
        notifier, self._notifier = self._notifier, None
        if notifier is not None:
            notifier.remove(self)

    def __del__(self) -> None:
        if getattr(self, "_notifier", None) is not None:  # not there where `__init__` was interrupted
            self.close()


class Rests:
    """How long whoever looks again and again rests in between: longer each time, until something wakes it.

    Used by one thread; close it when done.
    """

    def __init__(self, directory: str | None) -> None:
        """`directory`: where something is written when there is something to see; None: look, and look again."""
        self._directory = directory
        self._next = SOON_S
        self._waker: Waker | None = None

    def begin(self, pause: float = SOON_S) -> None:
        """Begin with short rests: something was seen, or is about to be."""
        self._next = pause

    def pause(self, *, least: float = 0.0, most: float | None = None, waiting: bool = False) -> float:
        """Return how many seconds to rest now. `waiting`: nothing may wake it though there is something to see."""
        longest = OFTEN_S if waiting else self.listen().longest
        pause, self._next = max(self._next, min(least, SELDOM_S)), min(2 * self._next, longest)
        return pause if most is None else max(0.0, min(pause, most))

    def listen(self, wake: Callable[[], object] | None = None) -> Waker:
        """Return the waker that ends a rest early; `wake` as for a Waker."""
        if self._waker is None:
            self._waker = Waker(self._directory, wake)
        return self._waker

    def wait(self, pause: float) -> None:
        """Rest, so many seconds at most."""
        if self.listen().wait(pause):
            self.begin()

    def close(self) -> None:
        """Listen no more."""
        if self._waker is not None:
            self._waker.close()


class _Notifier(threading.Thread):
    """Asks the operating system about one directory, until nobody in this process listens any more."""

    def __init__(self, directory: str, source: Any) -> None:
        super().__init__(name="shardstore-watch", daemon=True)
        self.directory = directory
        self.listeners: list[weakref.ref[Waker]] = []  # weak: a watcher that is dropped listens no more
        self.ended = False
        self._source = source  # a RustNotify
        self._over = threading.Event()  # not _stop: a method of Thread has that name

    def run(self) -> None:
        """Wake every listener at each change."""
        try:
            while not self._over.is_set():
                found = self._source.watch(_STEP_MS, _STEP_MS, _ROUND_MS, self._over)
                if isinstance(found, set):
                    for listener in self.listeners:
                        waker = listener()
                        if waker is not None:
                            with suppress(RuntimeError):  # its event loop is closed
                                waker.wake()
                        del waker  # a finalizer of the last reference must not be left to this thread for long
        finally:
            self.ended = True  # whoever listens polls from here on

    def remove(self, waker: Waker) -> None:
        """Take out a listener; the last one takes the thread with it."""
        with _registry:
            self.listeners = [one for one in self.listeners if one() not in (None, waker)]
            if not self.listeners:
                self.stop()

    def stop(self) -> None:
        """End soon."""
        self._over.set()
        with _registry:
            if _notifiers.get(self.directory) is self:
                del _notifiers[self.directory]


def _notifier(directory: str | None, waker: Waker) -> _Notifier | None:
    """Return who asks about a directory, and have it wake this waker; None where polling is all there is."""
    if directory is None or is_cooperative():
        return None
    with _registry:
        notifier = _notifiers.get(directory)
        if notifier is None or notifier.ended:
            notifier = _start(directory) if len(_notifiers) < _NOTIFIERS_MAX else None
        if notifier is not None:
            notifier.listeners = [*notifier.listeners, weakref.ref(waker)]
        return notifier


def _start(directory: str) -> _Notifier | None:
    with late_imports:
        try:
            from watchfiles._rust_notify import RustNotify  # type: ignore[import-not-found,unused-ignore]
        except ImportError:
            return None
    try:
        source = RustNotify([directory], False, False, 0, False, False)  # not recursive
        notifier = _notifiers[directory] = _Notifier(directory, source)
        notifier.start()
    except (OSError, RuntimeError):  # no directory, no inotify watch, or no thread can be had
        _notifiers.pop(directory, None)
        return None
    return notifier


def _end_all() -> None:
    """End every thread before the interpreter does: inside a library in Rust it could not end by itself."""
    for notifier in list(_notifiers.values()):
        notifier.stop()
        notifier.join(_END_S)


def _after_fork() -> None:
    """Forget, in a forked child, the threads of the parent: whoever waits there polls."""
    global _registry  # noqa: PLW0603  # the old one may be held by a thread that the child does not have
    _registry = threading.RLock()
    for notifier in _notifiers.values():
        notifier.ended = True
    _notifiers.clear()


atexit.register(_end_all)
os.register_at_fork(after_in_child=_after_fork)
