"""Which converter a model has. The one of each kind is imported when the first model of that kind comes."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from shardstore import _codec as codec
from shardstore._imports import late_imports
from shardstore._typed.converter import Converter, Pair
from shardstore._typed.members import Members
from shardstore._typed.msgspec_model import MsgspecModel, is_struct
from shardstore._typed.pydantic_model import PydanticModel, is_pydantic

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from shardstore._typed.hints import Compiler

_NONE: Final = Members("", {}, frozenset(), getattr)  # of a type that is no class


class _OwnModel:
    """A model that is checked by its hints alone."""

    def __init__(self, compiler: Compiler, model: Any) -> None:
        self._load, self.dump, _ = compiler.pair(model)
        self.is_strict = compiler.is_strict
        self._members = compiler.members.get(model, _NONE)
        self.names: frozenset[str] | None = self._members.names

    def load(self, raw: bytes) -> Any:
        return self._load(codec.loads(raw))

    def load_fields(self, fields: Mapping[str, bytes]) -> Any:
        return self._load({name: codec.loads(fields[name]) for name in self._members.names if name in fields})

    def early(self, value: Any, fields: Mapping[str, bytes]) -> dict[str, Any]:
        """Return the members that are not stored, for a default may be another one each time."""
        if fields.keys() >= self._members.names:
            return {}
        return {name: one for name, one in self.dump(value).items() if name not in fields}

    def before(self, fields: Mapping[str, bytes], names: Collection[str], early: dict[str, Any]) -> dict[str, Any]:
        """Return these members, loaded and dumped once more, and the early ones."""
        return self._members.again(fields, names) | early


def no_model(model: object) -> TypeError:
    """Return the error for a class that is no model."""
    return TypeError(f"a model is a dataclass, a TypedDict, a pydantic model or a msgspec.Struct, not {model!r}")


@lru_cache(maxsize=256)
def entry_converter(model: Any) -> Converter[Any]:
    """Return the converter of a model for the fields of a session. Raises TypeError if it is no such model."""
    with late_imports:
        from shardstore._typed.hints import Compiler
        from shardstore._typed.typeddict_model import is_typeddict

    if is_pydantic(model) and getattr(model, "__pydantic_root_model__", False):
        raise TypeError(f"{model.__name__} is a RootModel; the fields of a session have names")
    found = _of_a_library(model)
    if found is not None:
        return found
    if not (hasattr(model, "__dataclass_fields__") or is_typeddict(model)):
        raise no_model(model)
    return _OwnModel(Compiler(_foreign), model)


@lru_cache(maxsize=256)
def item_converter(item: Any) -> Converter[Any]:
    """Return the converter of a model, or of any type that converts to JSON, for the items of a log."""
    with late_imports:
        from shardstore._typed.hints import Compiler

    return _of_a_library(item) or _OwnModel(Compiler(_foreign), item)


def _of_a_library(model: Any) -> Converter[Any] | None:
    if is_struct(model):
        return MsgspecModel(model)
    return PydanticModel(model) if is_pydantic(model) else None


def _foreign(model: Any) -> Pair | None:
    """Return the pair of a class of a library that stands inside of a dataclass or TypedDict."""
    converter = _of_a_library(model)
    if converter is None:
        return None
    return Pair(lambda value: converter.load(codec.dumps(value)), converter.dump)
