"""What a typed store knows: its model, the type of the log's items, and what an absent session begins with."""

from __future__ import annotations

from copy import deepcopy
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar, cast, get_origin

from shardstore import _codec as codec
from shardstore._typed.converter import Misfit
from shardstore._typed.models import entry_converter, item_converter, no_model
from shardstore.errors import InvalidEntry

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    Before = Callable[[Mapping[str, bytes], Collection[str], dict[str, Any]], dict[str, Any]]

M = TypeVar("M")
I = TypeVar("I")  # noqa: E741  # an item


class Form(Generic[M, I]):
    """The model of the fields and the type of the items, in both directions. Errors name the place in the entry."""

    def __init__(self, model: type[M], default: M | Callable[[], M] | None, item: type[I] | None) -> None:
        if not isinstance(model, type):
            raise no_model(model)
        self.model: type[M] = model
        self.default: M | Callable[[], M] | None = default
        self.item: type[I] | None = item
        kind: Any = get_origin(model) or model
        self._entry = entry_converter(cast("Any", model))
        self._item = None if item is None else item_converter(cast("Any", item))
        self.names: frozenset[str] | None = self._entry.names
        self.is_strict: bool = self._entry.is_strict
        self.before: Before = self._entry.before
        self._kind: Any = dict if issubclass(kind, dict) else kind
        self._title = kind.__name__

    # Fields

    def open(self, fields: Mapping[str, bytes]) -> tuple[M, dict[str, Any]]:
        """Return the model of an entry's fields, and what has to be known of it early. Raises InvalidEntry."""
        try:
            found: M = self._entry.load_fields(fields)
            return found, self._entry.early(found, fields)
        except Misfit as misfit:
            self._refuse("entry", misfit, self._title)

    def load(self, fields: Mapping[str, bytes]) -> M:
        """Return the model of an entry's fields, which are JSON texts. Raises InvalidEntry."""
        try:
            found: M = self._entry.load_fields(fields)
        except Misfit as misfit:
            self._refuse("entry", misfit, self._title)
        return found

    def dump(self, value: M) -> dict[str, Any]:
        """Return the fields of a model. Raises InvalidEntry."""
        try:
            found: dict[str, Any] = self._entry.dump(value)
        except Misfit as misfit:
            self._refuse("entry", misfit, self._title)
        return found

    def entry(self, value: object) -> dict[str, Any]:
        """Return the fields of a model that the caller made, when they are sure to be read again."""
        found = self.dump(self.check(value))
        encoded = codec.encode_entry(found)
        if not self.is_strict:
            self.load(encoded)
        return found

    def absent(self, key: str) -> M:
        """Return what an absent session begins with. Raises TypeError where the model cannot say."""
        if self.default is not None:
            return self.default() if callable(self.default) else deepcopy(self.default)
        try:
            return self.model()
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"session {key!r} is absent, and {self._title}() has no value for every field; "
                "pass default= to typed(), or create the session first"
            ) from error

    def check(self, value: object) -> M:
        """Return `value`. Raises TypeError unless it is a model."""
        if isinstance(value, self._kind):
            return value  # type: ignore[no-any-return]
        if isinstance(value, CoroutineType):
            value.close()  # else Python warns, elsewhere, that it was never awaited
        raise TypeError(
            f"a typed session holds a {self._title}, not {type(value).__name__}; a mutator changes the model in place "
            f"and returns None, or returns a {self._title} or DELETE; it cannot be a coroutine"
        )

    # Items

    def load_item(self, value: Any, where: str) -> Any:
        """Return an item of the log as its type. Raises InvalidEntry; `where` names it."""
        if self._item is None:
            return value
        try:
            return self._item.load(codec.dumps(value))
        except Misfit as misfit:
            self._refuse(where, misfit, "the type of the items")

    def dump_item(self, value: Any, where: str) -> Any:
        """Return an item as JSON. Raises InvalidEntry."""
        if self._item is None:
            return value
        try:
            found = self._item.dump(value)
            self._item.load(codec.encode_item(found, where))
        except Misfit as misfit:
            self._refuse(where, misfit, "the type of the items")
        return found

    def dump_items(self, items: Iterable[I]) -> Iterable[Any]:
        """Return items as JSON; the store itself refuses anything but a list."""
        if self._item is None or isinstance(items, dict | str | bytes | bytearray):
            return items
        return [self.dump_item(item, f"items[{n}]") for n, item in enumerate(items)]

    def _refuse(self, where: str, misfit: Misfit, title: str) -> NoReturn:
        raise InvalidEntry(where + misfit.path, f"does not fit {title}: {misfit.reason}") from misfit.__cause__
