"""Pydantic models, of version 2. They say themselves what they accept, and under which names they are stored."""

from __future__ import annotations

from typing import Any

from shardstore import _codec as codec
from shardstore._imports import late_imports
from shardstore._typed.converter import Misfit, kind_of
from shardstore._typed.external_model import ExternalModel


def is_pydantic(cls: Any) -> bool:
    """Return whether this is a pydantic model, without importing pydantic: whoever has a model has imported it."""
    return isinstance(cls, type) and hasattr(cls, "model_validate_json") and hasattr(cls, "__pydantic_validator__")


class PydanticModel(ExternalModel):
    """Both directions for a pydantic model."""

    def __init__(self, model: Any) -> None:
        with late_imports:
            from pydantic import ValidationError
            from pydantic_core import PydanticSerializationError

        self._model = model
        self._refused = ValidationError
        self._not_json = PydanticSerializationError
        _check_names(model)
        self.names = _known_names(model)

    def load(self, raw: bytes) -> Any:
        """Return the model of a JSON text."""
        try:
            return self._model.model_validate_json(raw)
        except self._refused as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            raise Misfit(first["msg"], _path(first["loc"], codec.loads(raw))) from error

    def dump(self, value: Any) -> Any:
        """Return the model as JSON, under the names that it is read by, without computed fields."""
        if not isinstance(value, self._model):
            raise Misfit(f"{kind_of(value)} where a {self._model.__name__} belongs")
        try:
            return value.model_dump(mode="json", by_alias=True, round_trip=True, warnings=False)
        except self._not_json as error:
            raise Misfit(str(error)) from error


def _path(loc: tuple[Any, ...], value: Any) -> str:
    """Return a place in the entry. Pydantic puts names of types between the names of members: those are left out."""
    path = ""
    for n, part in enumerate(loc):
        if (isinstance(value, dict) and part in value) or (isinstance(value, list) and part in range(len(value))):
            value = value[part]
            path += f"[{part!r}]"
        elif isinstance(value, dict) and n == len(loc) - 1:  # missing
            path += f"[{part!r}]"
    return path


def _read_by(field: Any, name: str, config: Any) -> set[str] | None:
    """Return the names that a field is read by; None where it is not known, because it looks inside of others."""
    alias = field.validation_alias or field.alias or name
    choices = getattr(alias, "choices", [alias])
    if not all(isinstance(choice, str) for choice in choices):
        return None
    by_name = config.get("populate_by_name") or config.get("validate_by_name")
    return {*choices, name} if by_name else {*choices}


def _check_names(model: Any) -> None:
    """Raise TypeError where a field is written under a name that it is not read by."""
    for name, field in model.model_fields.items():
        written = field.serialization_alias or field.alias or name
        read = _read_by(field, name, model.model_config)
        if read is not None and written not in read and not field.exclude:
            raise TypeError(f"{model.__name__}.{name} would be written as {written!r} and read as {sorted(read)}")


def _known_names(model: Any) -> frozenset[str] | None:
    """Return the names of the fields; None where the model may look at others too."""
    validators = getattr(model, "__pydantic_decorators__", None)
    early = [one for one in getattr(validators, "model_validators", {}).values() if one.info.mode != "after"]
    if early or model.model_config.get("extra", "ignore") != "ignore":
        return None
    found: set[str] = set()
    for name, field in model.model_fields.items():
        read = _read_by(field, name, model.model_config)
        if read is None:
            return None
        found |= read
    return frozenset(found)
