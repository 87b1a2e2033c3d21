"""Types for the annotations in your code."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, TypeAlias, Union

from shardstore.draft import Delete, Draft

#: What a session may hold. At run time a list is a list and a dict a dict: tuples and other mappings are refused.
JSON: TypeAlias = Union[bool, int, float, str, Sequence["JSON"], Mapping[str, "JSON"], None]  # noqa: UP007  # recursive

#: What `Store.update` calls inside the session's lock.
Mutator: TypeAlias = Callable[[Draft], Mapping[str, object] | Delete | None]

#: How a condition compares.
Operator: TypeAlias = Literal["==", "!=", "<", "<=", ">", ">=", "in", "exists"]

#: Which sessions: field -> value, or field -> (operator, value).
Where: TypeAlias = Mapping[str, JSON | tuple[Operator, JSON]]
