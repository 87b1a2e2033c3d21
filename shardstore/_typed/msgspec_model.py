"""Structs of msgspec. They say themselves what they accept, and under which names they are stored."""

from __future__ import annotations

import re
from typing import Any, Final

from shardstore._imports import late_imports
from shardstore._typed.converter import Misfit, kind_of
from shardstore._typed.external_model import ExternalModel

_PLACE: Final = re.compile(r"(.*) - at `\$(.*)`", re.DOTALL)
_PART: Final = re.compile(r"\.([^.\[]+)|\[([^\]]*)\]")


def is_struct(cls: Any) -> bool:
    """Return whether this is a Struct, without importing msgspec: whoever has a Struct has imported it."""
    return isinstance(cls, type) and hasattr(cls, "__struct_fields__") and hasattr(cls, "__struct_config__")


class MsgspecModel(ExternalModel):
    """Both directions for a Struct."""

    def __init__(self, model: Any) -> None:
        with late_imports:
            import msgspec

        if model.__struct_config__.array_like:
            raise TypeError(f"{model.__name__} is array_like; the fields of a session have names")
        self._model = model
        self._decode = msgspec.json.Decoder(model).decode
        self._to_builtins = msgspec.to_builtins
        self._refused = msgspec.ValidationError
        self._tag = model.__struct_config__.tag_field
        strict = model.__struct_config__.forbid_unknown_fields
        names = {*model.__struct_encode_fields__} | ({self._tag} if self._tag else set())
        self.names = None if strict else frozenset(names)

    def load(self, raw: bytes) -> Any:
        """Return the Struct of a JSON text."""
        try:
            return self._decode(raw)
        except self._refused as error:
            found = _PLACE.fullmatch(str(error))
            raise (Misfit(found[1], _path(found[2])) if found else Misfit(str(error))) from error

    def dump(self, value: Any) -> Any:
        """Return the Struct as JSON."""
        if not isinstance(value, self._model):
            raise Misfit(f"{kind_of(value)} where a {self._model.__name__} belongs")
        try:
            return self._to_builtins(value, str_keys=True)
        except (TypeError, ValueError, RecursionError) as error:
            raise Misfit(str(error)) from error


def _path(text: str) -> str:
    """Return a place in an entry, of the text that msgspec has for it: `.origin.ids[3]`; `[...]` is any key."""
    parts = []
    for name, index in _PART.findall(text):
        parts.append(f"[{name!r}]" if name else f"[{index}]")
    return "".join(parts)
