"""What pydantic models and Structs have in common: their library makes them of a JSON text, and dumps them whole."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from shardstore import _codec as codec

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping


class ExternalModel(ABC):
    """Both directions for a model of a library."""

    is_strict = False  # attributes can be set to anything
    names: frozenset[str] | None

    @abstractmethod
    def load(self, raw: bytes) -> Any:
        """Return the model of a JSON text. Raises Misfit."""

    @abstractmethod
    def dump(self, value: Any) -> Any:
        """Return the model as JSON. Raises Misfit."""

    def load_fields(self, fields: Mapping[str, bytes]) -> Any:
        """Return the model of fields that are JSON texts. Raises Misfit."""
        names = self.names
        return self.load(codec.join({name: raw for name, raw in fields.items() if names is None or name in names}))

    def early(self, value: Any, fields: Mapping[str, bytes]) -> dict[str, Any]:  # noqa: ARG002
        """Return all of the model."""
        found: dict[str, Any] = self.dump(value)
        return found

    def before(self, fields: Mapping[str, bytes], names: Collection[str], early: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG002
        """Return all of the model as it was."""
        return early
