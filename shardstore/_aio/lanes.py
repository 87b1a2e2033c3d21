"""The queues of an AsyncStore, one for each session that has calls under way, in the order of the calls.

One thread at a time serves a lane: it locks the session and runs call after call in that visit, each a record of its
own. One sync is for all of them. It tries the lock first. Where that is held, the lane goes to a second set of threads,
which wait. So sessions that are held elsewhere take no thread from the others.
"""

from __future__ import annotations

import copy
import time
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from shardstore._aio.calls import Call, Place
from shardstore._aio.threads import Threads
from shardstore._aio.visits import Inside, Joining
from shardstore._inside import refuse_inside
from shardstore.errors import CommitUncertain, LockTimeout, SessionNotFound

if TYPE_CHECKING:
    from shardstore._aio.loops import Loop
    from shardstore._inside import Token
    from shardstore.engine import Engine, Visit
    from shardstore.store import Store

THREADS: Final = 16  # that work, and as many that wait for locks
TOGETHER: Final = 64  # calls in one visit ...
TOGETHER_S: Final = 0.005  # ... and seconds after which no other one begins in it: then the lock goes round
_WAIT_S: Final = 0.25  # seconds that a thread waits for one lock, before it takes the next lane that waits


class Lane:
    """The calls on one session that have not begun, and whoever serves them."""

    __slots__ = ("calls", "inside", "key")

    def __init__(self, key: str) -> None:
        self.key = key
        self.inside: Token | None = None  # of the visit that is under way
        self.calls: deque[Place] = deque()

    def head(self) -> Place | None:
        """Return the first one that was not withdrawn, and leave it there."""
        while self.calls:
            place = self.calls[0]
            if not place.is_over:
                return place
            self.calls.popleft()
        return None


class Lanes:
    """All lanes, and their threads, on one loop. Everything but `_serve` runs on the loop."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.by_key: dict[str, Lane] = {}
        self._working = Threads(THREADS, "shardstore")
        self._waiting = Threads(THREADS, "shardstore_wait")

    def end(self) -> None:
        """End the threads. REQUIRES: nothing is under way."""
        self._working.end()
        self._waiting.end()

    # One call

    async def call(self, key: str, call: Call) -> Any:
        """Run a call when the earlier ones on its session have begun and ended. Returns or raises as it."""
        behind = key in self.by_key
        self.add(key, call)
        deadline = call.deadline if behind else None  # the first one gets at least a try, however late
        await self._end_of(key, call, deadline)
        return call.outcome()

    def add(self, key: str, call: Call) -> None:
        """Have a call run, whether or not somebody waits for it. Raises NestedUpdate."""
        lane = self.by_key.get(key)
        if lane is not None:
            refuse_inside(lane.inside, key)
            lane.calls.append(call)
            return
        lane = self.by_key[key] = Lane(key)
        lane.calls.append(call)
        self._go_on(lane)

    async def run(self, call: Call, *, waits: bool = False) -> Any:
        """Run a call in a thread, behind nobody. `waits`: it may wait for a lock."""
        (self._waiting if waits else self._working).run(partial(self._run, call))
        await self._end_of("", call, None)
        return call.outcome()

    def _run(self, call: Call) -> None:
        if not self.loop.ended and call.take():
            call.execute()
            self.loop.soon(call.signal.set)

    async def _end_of(self, key: str, call: Call, deadline: float | None) -> None:
        """Wait for the end of a call. Cancelled before it began, it never does; after that, its end is waited for."""
        try:
            happened = await call.signal.wait(deadline)
        except GeneratorExit:  # its loop was closed under it: there is nobody to wait
            call.withdraw()
            raise
        except BaseException:
            if not call.withdraw():
                await call.signal.wait_through()
            raise
        if happened:
            return
        if call.withdraw():
            raise _timed_out(key, call)
        await call.signal.wait_through()

    # Both lanes of a verb on two sessions: it stands in one after the other, and holds them while it runs

    async def enter(self, key: str, store: Store, deadline: float | None) -> None:
        """Wait until every earlier call on the session is over, and hold its lane. Raises LockTimeout."""
        lane = self.by_key.get(key)
        if lane is None:
            self.by_key[key] = Lane(key)
            return
        refuse_inside(lane.inside, key)
        began, place = time.monotonic(), Place(self.loop.signal())
        lane.calls.append(place)
        try:
            happened = await place.signal.wait(deadline)
        except BaseException:
            if not place.withdraw():  # handed over in this very moment: pass it on
                self.leave(key)
            raise
        if not happened and place.withdraw():
            raise LockTimeout(key, time.monotonic() - began, find=partial(_holder, store.engine, key))

    def leave(self, key: str) -> None:
        """Hand over to whoever stands in the lane first."""
        self._go_on(self.by_key[key])

    # Serving

    def _go_on(self, lane: Lane, *, busy: bool = False) -> None:
        """Have the first in the lane served; the lane ends where nobody is in it."""
        while (place := lane.head()) is not None:
            if isinstance(place, Call):
                waits = busy or place.alone
                try:
                    (self._waiting if waits else self._working).run(partial(self._serve, lane, waits=waits))
                except RuntimeError as error:
                    self._fail(lane, error)
                    continue
                return
            lane.calls.popleft()
            if place.take():
                place.signal.set()
                return
        del self.by_key[lane.key]

    def _fail(self, lane: Lane, error: BaseException) -> None:
        """Fail the first call of a lane, for which no thread starts."""
        place = lane.calls.popleft()
        if isinstance(place, Call) and place.take():
            place.error = error
            place.signal.set()

    def _over(self, lane: Lane, done: list[Call], busy: bool) -> None:  # noqa: FBT001  # a callback
        """Hand out what a visit has done, and go on."""
        for call in done:
            call.signal.set()
        self._go_on(lane, busy=busy)

    def _serve(self, lane: Lane, *, waits: bool) -> None:
        """Serve a lane. In a thread; whatever happens the lane goes on."""
        done: list[Call] = []
        busy = False
        try:
            busy = Service(self.loop, lane, done).serve(waits=waits)
        finally:
            self.loop.soon(self._over, lane, done, busy)


class Service:
    """One visit of a thread to one lane."""

    def __init__(self, loop: Loop, lane: Lane, done: list[Call]) -> None:
        self._loop, self._lane, self._done = loop, lane, done

    def serve(self, *, waits: bool) -> bool:
        """Run some calls of the lane, and put them among those done; return whether the session's lock was held."""
        first = self._lane.head()
        if not isinstance(first, Call):
            return False
        if first.alone:
            self._run_alone(first)
            return False
        try:
            engine = first.store.engine
            timeout = 0.0 if not waits else _WAIT_S if first.left is None else min(first.left, _WAIT_S)
            visit = engine.group(self._lane.key, timeout, create=first.creates)
            if visit is None:
                self._run_alone(first)
                return False
            first.context.run(visit.__enter__)
        except LockTimeout as error:
            self._expire(error)
            return True
        except SessionNotFound:  # the verb says itself what that means
            self._run_alone(first)
        except BaseException as error:  # noqa: BLE001  # the first call's own; the next one has its own
            if first.take():
                first.error = error
                self._done.append(first)
        else:
            self._visit(engine, visit, first)
        return False

    def _visit(self, engine: Engine, visit: Visit, first: Call) -> None:
        """Run calls in a visit that is inside."""
        began = time.monotonic()
        self._lane.inside = visit.token
        lost: BaseException | None = None
        try:
            while (call := self._take()) is not None:
                inside = (Inside if call is first else Joining)(engine, engine.logs)
                inside.join(visit)
                call.execute(inside)  # type: ignore[arg-type]  # the rest is the engine's
                self._done.append(call)
                if isinstance(call.error, CommitUncertain):
                    lost = call.error
                if isinstance(call.error, OSError):
                    break
                if len(self._done) >= TOGETHER or time.monotonic() - began >= TOGETHER_S:
                    break
            if lost is None:
                visit.sync()
        except BaseException as error:  # noqa: BLE001  # of whoever takes part
            lost = error
        try:
            first.context.run(visit.__exit__, None, None, None)
        except BaseException as error:  # noqa: BLE001
            lost = error
        self._lane.inside = None
        if lost is not None:
            for call in self._done:
                call.error = call.error or copy.copy(lost)

    def _take(self) -> Call | None:
        """Take the next call that may share this visit; None where there is none."""
        while isinstance(place := self._lane.head(), Call) and not place.alone and not self._loop.ended:
            self._lane.calls.popleft()
            if place.take():
                return place
        return None

    def _run_alone(self, call: Call) -> None:
        """Run a call that makes its own transaction."""
        if not self._loop.ended and call.take():
            call.execute()
            self._done.append(call)

    def _expire(self, error: LockTimeout) -> None:
        """End the calls that have waited for as long as they may."""
        now = time.monotonic()
        for call in list(self._lane.calls):
            if isinstance(call, Call) and call.deadline is not None and now >= call.deadline and call.take():
                call.error = error.of(now - call.began)
                self._done.append(call)


def _timed_out(key: str, call: Call) -> LockTimeout:
    return LockTimeout(key, time.monotonic() - call.began, find=partial(_holder, call.store.engine, key))


def _holder(engine: Engine, key: str) -> int | None:
    """Return the process that holds a session's lock, where that can be seen."""
    return next((holder.pid for holder in engine.holders() if holder.key == key), None)
