"""One call of a verb, between the task that waits for it and the thread that runs it."""

from __future__ import annotations

import contextvars
import time
from typing import TYPE_CHECKING, Any, Final

from shardstore._aio.borrowed import on_engine

if TYPE_CHECKING:
    from collections.abc import Callable

    from shardstore._aio.loops import Signal
    from shardstore.engine import Engine
    from shardstore.store import Store

_TAKEN: Final = object()
_WITHDRAWN: Final = object()


class Place:
    """A place in a queue: taken by whoever serves the queue, or withdrawn by whoever stands there; never both."""

    __slots__ = ("_fate", "signal")

    def __init__(self, signal: Signal) -> None:
        self.signal = signal
        self._fate: dict[int, object] = {}  # set once, by one call of C: a thread and the loop may come at once

    def take(self) -> bool:
        """Take it; return whether it was still there. Only once."""
        return self._fate.setdefault(0, _TAKEN) is _TAKEN

    def withdraw(self) -> bool:
        """Withdraw it; return whether it was still there."""
        return self._fate.setdefault(0, _WITHDRAWN) is _WITHDRAWN

    @property
    def is_over(self) -> bool:
        """Whether it was taken or withdrawn."""
        return bool(self._fate)


class Call(Place):
    """A call of a verb. Taken: it has begun, and its end is waited for."""

    __slots__ = ("_result", "alone", "began", "context", "creates", "deadline", "error", "run", "store")

    def __init__(  # noqa: PLR0913  # what a call is
        self,
        signal: Signal,
        store: Store,
        run: Callable[[Store], Any],
        *,
        creates: bool = True,
        alone: bool = False,
        in_time: bool = True,
    ) -> None:
        """Stand somewhere with a verb to run.

        creates: whether it makes an absent session. alone: whether it is more, or less, than one commit. in_time:
        whether lock_timeout counts from now on.
        """
        super().__init__(signal)
        self.store = store
        self.run = run
        self.creates = creates
        self.alone = alone
        self.began = time.monotonic()
        limit = store.lock_timeout if in_time else None
        self.deadline = None if limit is None else self.began + limit
        self.context = contextvars.copy_context()  # it knows which sessions the caller is inside of: NestedUpdate
        self.error: BaseException | None = None
        self._result: Any = None

    @property
    def left(self) -> float | None:
        """Seconds that it may still wait for a lock; None: as many as its store says, if any."""
        return None if self.deadline is None else max(0.0, self.deadline - time.monotonic())

    def execute(self, engine: Engine | None = None) -> None:
        """Run the verb, on another engine if one is given, and keep its result or its error."""
        store = self.store
        try:
            if engine is not None:
                store = on_engine(store, engine, self.left)
            elif self.deadline is not None:
                store = on_engine(store, store.engine, self.left)
            self._result = self.context.run(self.run, store)
        except BaseException as error:  # noqa: BLE001  # raised by `outcome`, in the task
            self.error = error

    def outcome(self) -> Any:
        """Return the verb's result, or raise its error."""
        error, self.error = self.error, None
        if error is None:
            return self._result
        try:
            raise error
        finally:
            del error  # or its traceback would keep it, and the store with it, in a circle
