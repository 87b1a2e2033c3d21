"""What the log of a typed session and the log of a typed draft have in common: items are read as their type."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

if TYPE_CHECKING:
    from shardstore._draft_log import DraftLog
    from shardstore._typed.form import Form
    from shardstore.log import Log

I = TypeVar("I")  # noqa: E741  # an item


class TypedItems(Generic[I]):
    """A log whose items are checked when they are read: InvalidEntry."""

    __slots__ = ("_form", "_log")

    def __init__(self, log: Log | DraftLog, form: Form[Any, I]) -> None:
        self._log = log
        self._form = form

    def __len__(self) -> int:
        return len(self._log)

    @overload
    def __getitem__(self, place: int) -> I: ...
    @overload
    def __getitem__(self, place: slice) -> list[I]: ...
    def __getitem__(self, place: int | slice) -> I | list[I]:
        places = range(len(self._log))[place]
        if isinstance(places, range):
            return [self._load(value, at) for at, value in zip(places, self._log[place], strict=True)]
        return self._load(self._log[place], places)

    def _load(self, value: Any, place: int) -> I:
        item: I = self._form.load_item(value, f"log[{place}]")
        return item

    def __repr__(self) -> str:
        return f"Typed{self._log!r}"

    @property
    def dropped(self) -> int:
        """How many items were dropped at the front since the session was made.

        >>> chats["agent:chat"].log.dropped
        0
        """
        return self._log.dropped

    def find(self, id: str) -> int | None:  # noqa: A002  # as in append
        """Return the index of the item with this id; None where no item that stands has it. Raises as `Log.find`.

        >>> chats["agent:chat"].log.find("m-1")
        0
        """
        return self._log.find(id)

    def ids(self, start: int | None = None, stop: int | None = None) -> list[str | None]:
        """Return the ids of log[start:stop], None for an item without one. Raises as `Log.ids`.

        >>> chats["agent:chat"].log.ids(-20)
        ['m-1']
        """
        return self._log.ids(start, stop)
