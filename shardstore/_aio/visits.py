"""Engines for verbs that find the lock held: their transaction is a visit that is inside already."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from shardstore._inside import count_inside, count_outside
from shardstore.errors import SessionNotFound

if TYPE_CHECKING:
    from collections.abc import Callable

    from shardstore._model import State
    from shardstore.engine import Engine, Visit
    from shardstore.log import LogSource


class Inside:
    """An engine, and its one transaction: a visit that was entered here. Everything else is the real engine's."""

    __slots__ = ("_create", "_engine", "commit", "logs", "process", "visit")

    commit: Callable[..., None]  # the visit's
    visit: Visit

    def __init__(self, engine: Engine, logs: LogSource) -> None:
        self._engine = engine
        self.process = engine.process
        self.logs = logs
        self._create = True

    def join(self, visit: Visit) -> None:
        """Have the next verb find this visit."""
        self.visit, self.commit = visit, visit.commit

    def transaction(self, _key: str, _timeout: float | None, *, create: bool = True) -> Self:
        """Return the transaction."""
        self._create = create
        return self

    @property
    def state(self) -> State:
        """The committed state."""
        return self.visit.state

    def __enter__(self) -> Self:
        if not self._create and not self.visit.state.exists:
            raise SessionNotFound(self.visit.key)
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the lock to the visit."""

    def abandon(self) -> None:
        """Leave the lock to the visit."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)


class Joining(Inside):
    """The same for a verb whose context did not enter the visit: the nesting guard is to know that it is inside."""

    def __enter__(self) -> Self:
        super().__enter__()
        if self.visit.token is not None:
            count_inside(self.visit.token)
        return self

    def __exit__(self, *_: object) -> None:
        token = self.visit.token
        if token is not None:
            count_outside(token)
