"""An update in a with block."""

from __future__ import annotations

import weakref
from functools import partial
from typing import TYPE_CHECKING, Any

from shardstore._verbs.expect import check_expected
from shardstore.draft import Draft
from shardstore.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from shardstore._verbs.opened import Opened
    from shardstore.engine import Transaction
    from shardstore.types import Expect


class _Entered:
    """The transaction and the draft of an Edit. Dropped inside the block, the transaction unlocks the session."""

    __slots__ = ("__weakref__", "draft", "txn")

    def __init__(self) -> None:
        self.txn: Transaction | None = None  # until it is left: others use it again after that
        self.draft: Draft | None = None


class _Exit:
    """The `__exit__` of Edit: for a `with` block a call of C, for an ExitStack, which asks the class, a function."""

    def __get__(self, edit: Edit | None, owner: type[Edit]) -> Any:
        return owner.leave if edit is None else edit.end_of_block()


class Edit:
    """The with block of `Store.edit`: enter it, once, for the draft. Raises RuntimeError the second time.

    >>> with store.edit("agent:main") as draft:
    ...     draft["turns"] += 1
    """

    __slots__ = ("_create", "_expect", "_kept", "_key", "_seen", "_store", "_txn")

    def __init__(self, store: Opened, txn: Transaction, key: str, expect: Expect | None, *, create: bool) -> None:
        self._store = store
        self._txn: Transaction | None = txn  # until it is entered
        self._key = key
        self._expect = expect
        self._create = create
        self._kept: _Entered | None = None
        self._seen: weakref.ref[_Entered] | None = None

    def _entered(self) -> _Entered:
        """Return what this is inside of, or will be, and keep it unless a `with` block does."""
        found = None if self._seen is None else self._seen()
        if found is None:
            found = self._kept = _Entered()
            self._seen = weakref.ref(found)
        return found

    def __enter__(self) -> Draft:
        txn, self._txn = self._txn, None
        if txn is None:
            raise RuntimeError("this edit() was entered before; call edit() once for each with block")
        entered = self._entered()
        try:
            entered.txn = txn.__enter__()
            if self._expect is not None:
                check_expected(self._key, txn.state, self._expect, create=self._create)
            entered.draft = draft = Draft(self._key, txn.state, self._store._engine.logs)  # noqa: SLF001
        except BaseException:
            entered.txn = None
            txn.abandon()
            raise
        return draft

    if TYPE_CHECKING:

        def __exit__(
            self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
        ) -> None: ...

    else:
        __exit__ = _Exit()

    def end_of_block(self) -> Callable[..., None]:
        """Return what a `with` block calls at its end: a call of C, which alone owns the transaction meanwhile.

        An exception from outside may come before the first bytecode of a function of Python's, and its traceback keeps
        what the function was called with. So that is a weak reference, and the block lets go of the owner.
        """
        entered = self._entered()
        leave: Any = partial(_leave, self._store, self._key, weakref.ref(entered))
        leave.owner = entered
        if entered.txn is None:  # a block looks this up before it begins
            self._kept = None
        return leave  # type: ignore[no-any-return]

    def leave(self, *error: Any) -> None:
        """End what `__enter__` began, with the three arguments of an `__exit__`."""
        _leave(self._store, self._key, self._entered, *error)


def _leave(
    store: Opened, key: str, find: Callable[[], _Entered | None], kind: type[BaseException] | None, *more: object
) -> None:
    """Commit, unless the block raised, and unlock."""
    entered = txn = None
    try:
        entered = find()
        if entered is None or entered.txn is None or entered.draft is None:
            raise RuntimeError("this edit() is over")
        txn, entered.txn = entered.txn, None
        try:
            if kind is None:
                store._commit(txn, entered.draft)  # noqa: SLF001  # one class in two
                entered.draft.committed(Session(key, txn.state, store._engine.logs))  # noqa: SLF001
        finally:
            txn.__exit__(kind, *more)
    except BaseException:
        if txn is None and entered is not None:
            txn = entered.txn
        if txn is not None:
            txn.abandon()
        raise
