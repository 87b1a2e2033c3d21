"""An update in a with block."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shardstore._verbs.expect import check_expected
from shardstore.draft import Draft
from shardstore.session import Session

if TYPE_CHECKING:
    from types import TracebackType

    from shardstore._verbs.opened import Opened
    from shardstore.engine import Transaction
    from shardstore.types import Expect


class Edit:
    """The with block of `Store.edit`: enter it, once, for the draft."""

    __slots__ = ("_create", "_draft", "_expect", "_inside", "_key", "_store", "_txn")

    def __init__(self, store: Opened, txn: Transaction, key: str, expect: Expect | None, *, create: bool) -> None:
        self._store = store
        self._txn: Transaction | None = txn  # until it is entered
        self._inside: Transaction | None = None  # until it is left: others use it again after that
        self._key = key
        self._expect = expect
        self._create = create
        self._draft: Draft | None = None

    def __enter__(self) -> Draft:
        entered, self._txn = self._txn, None
        if entered is None:
            raise RuntimeError("this edit() was entered before; call edit() once for each with block")
        try:
            self._inside = txn = entered.__enter__()
            if self._expect is not None:
                check_expected(self._key, txn.state, self._expect, create=self._create)
            self._draft = Draft(self._key, txn.state, self._store._engine.logs)  # noqa: SLF001
        except BaseException:
            self._inside = None
            entered.abandon()
            raise
        return self._draft

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        txn = self._inside
        try:
            draft, self._inside = self._draft, None
            if txn is None or draft is None:
                raise RuntimeError("this edit() is over")
            try:
                if kind is None:
                    self._store._commit(txn, draft)  # noqa: SLF001  # one class in two
                    draft.committed(Session(self._key, txn.state, self._store._engine.logs))  # noqa: SLF001
            finally:
                txn.__exit__(kind, error, trace)
        except BaseException:
            if txn is not None:
                txn.abandon()
            raise
