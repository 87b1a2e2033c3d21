"""The common part of every kind of model: a converter, and the error of a value that does not fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

M = TypeVar("M")


class Misfit(Exception):
    """A value that is not what the model says. The path grows while the error leaves the containers around it."""

    def __init__(self, reason: str, path: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.path = path

    def inside(self, part: str | int) -> Misfit:
        """Note that the value stands in a container, at this name or index."""
        self.path = f"[{part!r}]{self.path}"
        return self


class Pair(NamedTuple):
    """Both directions for the values of one type. Both raise Misfit, and share nothing with what they are given."""

    load: Callable[[Any], Any]  # from decoded JSON, which the caller does not need any more
    dump: Callable[[Any], Any]  # to values that JSON holds
    same: frozenset[type] = frozenset()  # values of these very types are what JSON has: no direction need be called


class Converter(Protocol[M]):
    """Both directions for one model."""

    names: frozenset[str] | None  # the fields that it reads and writes; None: it wants to see all of them
    is_strict: bool  # whether `dump` refuses all that `load` would not accept again

    def load(self, raw: bytes) -> M:
        """Return the model of a JSON text. Raises Misfit."""

    def load_fields(self, fields: Mapping[str, bytes]) -> M:
        """Return the model of fields that are JSON texts. Raises Misfit."""

    def dump(self, value: M) -> Any:
        """Return what the model is as JSON, sharing nothing with it. Raises Misfit."""

    def early(self, value: M, fields: Mapping[str, bytes]) -> dict[str, Any]:
        """Return what the model of these fields dumps, which is not changed yet: at least what `before` cannot tell."""

    def before(self, fields: Mapping[str, bytes], names: Collection[str], early: dict[str, Any]) -> dict[str, Any]:
        """Return at least the fields of these names as the model of `fields` dumped them before it was changed.

        early: what the method of this name returned then.
        """


def kind_of(value: object) -> str:
    """Return how a message calls the type of a value."""
    return "null" if value is None else type(value).__name__
