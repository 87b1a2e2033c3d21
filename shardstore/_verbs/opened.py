"""An opened store: its settings, its engine, and their end. The verbs stand in the classes that inherit from it."""

from __future__ import annotations

import errno
import re
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self

from shardstore import _events as events
from shardstore._imports import late_imports
from shardstore.errors import ShardStoreError, StoreClosed, StoreIOError, raise_io_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import TracebackType

    from shardstore.draft import Draft
    from shardstore.engine import Engine, Transaction
    from shardstore.types import Durability

_TEXT: Final = re.compile("[^\ud800-\udfff]{1,256}", re.DOTALL)
_UNCHANGED: Final[Any] = object()  # a setting of `using` that was not given


class Opened:
    """The settings and the engine of a Store."""

    _read_only: bool
    _scan_progress: Callable[[int, int], None] | None

    @classmethod
    def memory(
        cls, *, durability: Durability = "commit", lock_timeout: float | None = 10.0, actor: str | None = None
    ) -> Self:
        """Return a new store that lives in this object alone, for tests: the same verbs, nothing on disk.

        Its durability is checked and has no effect. Other settings are as for Store(...). Raises ValueError.

        >>> Store.memory().create("agent:main", {"status": "new"}).rev
        1
        """
        with late_imports:
            from shardstore._memory import MemoryEngine

        store = cls.__new__(cls)
        store._settings(durability, lock_timeout, actor)  # noqa: SLF001  # made here
        store._read_only, store._scan_progress = False, None  # noqa: SLF001
        store._join(MemoryEngine(), None)  # noqa: SLF001
        return store

    def using(
        self,
        *,
        durability: Durability = _UNCHANGED,
        lock_timeout: float | None = _UNCHANGED,
        actor: str | None = _UNCHANGED,
    ) -> Self:
        """Return another Store on the same sessions, with other settings; both are closed independently.

        durability, lock_timeout, actor: as for Store(...); what you leave out stays as it is here.

        Raises ValueError, StoreClosed.

        >>> hot = store.using(actor="web", durability="relaxed")
        >>> hot.patch("agent:main", {"status": "running"}).actor
        'web'
        """
        view = type(self).__new__(type(self))
        view._settings(  # noqa: SLF001  # made here
            self.durability if durability is _UNCHANGED else durability,
            self.lock_timeout if lock_timeout is _UNCHANGED else lock_timeout,
            self._actor if actor is _UNCHANGED else actor,
        )
        view._read_only, view._scan_progress = self._read_only, self._scan_progress  # noqa: SLF001
        self._engine.join()
        view._join(self._engine, self.root)  # noqa: SLF001
        return view

    def _settings(self, durability: Durability, lock_timeout: float | None, actor: str | None) -> None:
        if durability not in ("commit", "relaxed"):
            raise ValueError(f'durability is "commit" or "relaxed", not {durability!r}')
        if lock_timeout is not None and (type(lock_timeout) not in (int, float) or not lock_timeout >= 0):
            raise ValueError(f"lock_timeout is a number of seconds from 0 on, or None, not {lock_timeout!r}")
        if actor is not None and (type(actor) is not str or not _TEXT.fullmatch(actor)):
            raise ValueError(f"actor is a text of 1 to 256 characters that UTF-8 can encode, not {actor!r}")
        self.durability: Durability = durability
        self._durable = durability == "commit"
        self.lock_timeout: float | None = (
            None if lock_timeout is None or lock_timeout > threading.TIMEOUT_MAX else lock_timeout
        )
        self._actor = actor

    def _join(self, engine: Engine, root: Path | None) -> None:
        self.root: Path | None = root
        self.location: str = engine.location
        self._engine: Engine = engine if events.wrap is None else events.wrap(engine)

    # Life

    @property
    def engine(self) -> Engine:
        """The engine that stores the sessions (engine.py); for maintenance tools and for new verbs.

        The sessions that are locked at this moment, and by which processes:

        >>> store.engine.holders()
        []
        """
        return self._engine

    def close(self) -> None:
        """Close this object. A second call does nothing; every other call on it raises StoreClosed.

        `with Store(...) as store` calls it at the end.

        >>> store.close()
        >>> store.get("agent:main")
        Traceback (most recent call last):
            ...
        shardstore.errors.StoreClosed: this Store is closed; open another one
        """
        engine, self._engine = self._engine, _CLOSED
        if engine is not _CLOSED:
            engine.leave()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Store({self.location!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("a Store cannot be pickled: open it again, by its root, in the other process")

    def _check_writable(self, *, harmless: bool = False) -> None:
        """Raise StoreIOError if this Store is read-only, unless the call is harmless."""
        if self._read_only and not harmless:
            raise StoreIOError(errno.EROFS, f"{self.location} was opened with read_only=True", self.location)

    def _commit(self, txn: Transaction, draft: Draft, *, at: int | None = None) -> None:
        change = draft.change()
        if change is not None:
            txn.commit(change, self._actor or self._engine.process, durable=self._durable, at=at)


@contextmanager
def typed_errors(doing: str) -> Iterator[None]:
    """Raise the typed error for a failed system call."""
    try:
        yield
    except ShardStoreError:
        raise
    except OSError as error:
        raise_io_error(error, doing)


class _Closed:
    """The engine of a closed Store: each use raises StoreClosed."""

    def __getattr__(self, name: str) -> NoReturn:
        raise StoreClosed


_CLOSED: Final[Any] = _Closed()
