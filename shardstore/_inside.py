"""Who is inside which session's lock in this process: the FIFO mutex between threads, and the nesting guard.

flock does not exclude threads that share a descriptor, so every session has a mutex in the process as well. It is
handed over in the order of arrival: threading.Lock lets the thread that has just released it take it again before any
waiter wakes.

An exception from outside (a signal handler's, a soft time limit's) may arrive between any two bytecodes, and a signal
handler may call the store again. So nothing here waits for another mutex, each step that matters is one call of C
(dict.setdefault, deque.remove), and a waiter looks by itself, now and then, whether a dying thread handed over to it.
"""

from __future__ import annotations

import contextvars
import sys
import threading
import time
from collections import deque
from typing import Any, Final

from shardstore import _events as events
from shardstore.errors import NestedUpdate

# In Python 3.11 a garbage collection may run in the middle of ContextVar.set. A finalizer that sets a variable then
# frees the map which that call still reads, and the interpreter crashes. A copy of the context keeps the map.
_keep_context: Final = contextvars.copy_context if sys.version_info < (3, 12) else bool
_CHECK_S: Final = 0.25  # seconds between a waiter's own looks; a hand-over wakes it at once


class FifoMutex:
    """The mutex of one session between the threads of this process.

    A `Token`, made anew for each attempt, stands for whoever is inside. `leave` does nothing unless its token is.

    A tenure is a dict: item 0 is who is inside, item 1 the tenure that follows. Each is set once, in one step, by
    setdefault. So a thread that ends a tenure late, or as the second one, ends that tenure and nobody else's.
    """

    __slots__ = ("holder", "name", "place", "queue")

    def __init__(self, name: str, place: str) -> None:
        self.name = name  # the session's key, for NestedUpdate
        self.place = place  # what is locked: a thread may still be at a mutex of it that was replaced by another one
        self.holder: _Tenure = {}  # the present tenure, or one that `_present` follows to it
        self.queue: deque[_Waiter] = deque()

    def enter(self, token: Token, timeout: float | None) -> bool:
        """Enter, waiting up to `timeout` seconds (None: for ever); return whether the token is inside.

        Raises NestedUpdate where waiting would never end: this thread, or this chain of calls, is inside or waiting.
        """
        outer = _inside.get()
        if outer or self.queue or self.holder.setdefault(0, token) is not token:
            self._refuse_nesting(outer)
            if not self.try_enter(token) and not self._wait(token, timeout):
                return False
            outer = tuple([o for o in outer if o[1].holds(o)])  # an exception from outside may have left others there
        _kept = _keep_context()
        _inside.set((*outer, token))
        return True

    def try_enter(self, token: Token) -> bool:
        """Enter if nobody is inside or waiting; return whether the token is inside. The nesting guard is left out."""
        return not self.queue and self._present().setdefault(0, token) is token

    def leave(self, token: Token) -> None:
        """Leave, and hand over to whoever waits longest. Does nothing where the token is not inside."""
        tenure = self.holder
        if tenure.get(0) is token or _token_in(tenure := self._present()) is token:
            self.holder = tenure.setdefault(1, {})
        outer = _inside.get()
        if outer:
            _kept = _keep_context()
            _inside.set(() if len(outer) == 1 and outer[0] is token else tuple([o for o in outer if o is not token]))
        if self.queue:
            self._hand_over()

    def holds(self, token: Token) -> bool:
        """Return whether the token is inside."""
        return _token_in(self._present()) is token

    def is_free(self) -> bool:
        """Return whether nobody is inside right now."""
        return not self._present()

    def after_fork(self) -> None:
        """Forget, in a forked child, whichever thread of the parent is inside."""
        tenure = self._present()
        if tenure:
            self.holder = tenure.setdefault(1, {})
        self.queue.clear()

    def _present(self) -> _Tenure:
        """Return the tenure that has not ended: empty, or of whoever is inside."""
        tenure = self.holder
        while 1 in tenure:
            tenure = tenure[1]
        self.holder = tenure
        return tenure

    def _refuse_nesting(self, outer: tuple[Token, ...]) -> None:
        me = threading.get_ident()
        inside = _token_in(self._present())
        waiting = [waiter.token for waiter in list(self.queue)]
        if any(token[1].place == self.place and token[1].holds(token) for token in outer) or any(
            token is not None and token[0] == me for token in (inside, *waiting)
        ):
            raise NestedUpdate(self.name)

    def _wait(self, token: Token, timeout: float | None) -> bool:
        """Stand in the queue until it is our turn; return whether it came."""
        began = time.monotonic()
        deadline = None if timeout is None else began + timeout
        waiter = _Waiter(token)
        try:
            self.queue.append(waiter)
            self._hand_over()  # it may have become free before we stood in the queue
            while not self._is_granted(waiter, deadline):
                if deadline is not None and time.monotonic() >= deadline:
                    return not self._withdraw(waiter)
                self._hand_over()
            if (waited := time.monotonic() - began) >= events.SLOW_S:
                events.note("locks", events.WARNING, "waited %.1f s for session %r in this process", waited, self.name)
        except BaseException:
            if not self._withdraw(waiter):
                self.leave(token)
            raise
        return True

    def _is_granted(self, waiter: _Waiter, deadline: float | None) -> bool:
        pause = _CHECK_S if deadline is None else max(0.0, min(_CHECK_S, deadline - time.monotonic()))
        if waiter.woken.acquire(timeout=pause):
            return True
        if self.holds(waiter.token):  # whoever granted it has not woken us yet, or died before
            waiter.taken = True
            self._withdraw(waiter)
            return True
        return False

    def _withdraw(self, waiter: _Waiter) -> bool:
        """Take a waiter out of the queue; return False where it is granted by now, and not in the queue any more."""
        try:
            self.queue.remove(waiter)
        except ValueError:
            return not self.holds(waiter.token)
        return True

    def _hand_over(self) -> None:
        """Grant a free mutex to whoever waits longest."""
        while self.queue and not (tenure := self._present()):
            try:
                waiter = self.queue[0]
            except IndexError:
                return
            grant = _Grant(waiter)
            if tenure.setdefault(0, grant) is not grant:
                return
            try:
                self.queue.remove(waiter)
            except ValueError:
                if waiter.taken:
                    return
                tenure.setdefault(1, {})  # it gave up in this very moment
            else:
                waiter.woken.release()
                return


_Tenure = dict[int, Any]
Token = tuple[int, FifoMutex]  # of a thread: made anew for each attempt, so that no two are the same object


class _Waiter:
    __slots__ = ("taken", "token", "woken")

    def __init__(self, token: Token) -> None:
        self.token = token
        self.taken = False  # the waiter saw the grant by itself
        self.woken = threading.Lock()
        self.woken.acquire()


class _Grant:
    """The mutex given to a waiter. Whoever grants makes a new one, so that two who grant at once know who did."""

    __slots__ = ("waiter",)

    def __init__(self, waiter: _Waiter) -> None:
        self.waiter = waiter


def _token_in(tenure: _Tenure) -> Token | None:
    """Return the token of whoever is inside, or None."""
    holder: Token | _Grant | None = tenure.get(0)
    return holder.waiter.token if isinstance(holder, _Grant) else holder


# The tokens that this chain of calls is inside of. A copied context may outlive them: `holds` tells.
_inside: contextvars.ContextVar[tuple[Token, ...]] = contextvars.ContextVar("shardstore_inside", default=())


def new_token(mutex: FifoMutex) -> Token:
    """Return a token of this thread."""
    return (threading.get_ident(), mutex)


def inside_update() -> bool:
    """Return whether this chain of calls is inside a session's lock: then it may wait for nothing that others hold."""
    return any(token[1].holds(token) for token in _inside.get())


def count_inside(token: Token) -> None:
    """Have the nesting guard count this chain of calls as inside: another one entered for it."""
    _kept = _keep_context()
    _inside.set((*_inside.get(), token))


def count_outside(token: Token) -> None:
    """Take `count_inside` back."""
    _kept = _keep_context()
    _inside.set(tuple([o for o in _inside.get() if o is not token]))


def refuse_inside(token: Token | None, name: str) -> None:
    """Raise NestedUpdate where this chain of calls is inside of what the token stands for."""
    if token is not None and any(one is token for one in _inside.get()):
        raise NestedUpdate(name)


class Visit:
    """A short stay in a mutex, by whoever does not wait for it.

    Dropped while it is inside (an exception from outside came before `leave` began), it leaves when it is collected.
    """

    __slots__ = ("_mutex", "_token")

    def __init__(self, mutex: FifoMutex) -> None:
        self._mutex = mutex
        self._token = new_token(mutex)

    def try_enter(self) -> bool:
        """Enter if nobody is inside or waiting; return whether this visit is inside."""
        return self._mutex.try_enter(self._token)

    @property
    def is_inside(self) -> bool:
        """Whether it entered, and did not leave."""
        return self._mutex.holds(self._token)

    def go_inside(self) -> None:
        """Have the nesting guard count this visit as an update; `leave` takes that back."""
        _inside.set((*_inside.get(), self._token))

    def leave(self) -> None:
        """Leave. Does nothing where the visit is not inside."""
        self._mutex.leave(self._token)

    def __del__(self) -> None:
        if hasattr(self, "_token"):  # not where `__init__` was interrupted
            self.leave()
