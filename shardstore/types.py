"""Types for the annotations in your code."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Literal, TypeAlias, Union

from shardstore.draft import Delete, Draft
from shardstore.session import Session, SessionInfo

#: What a session may hold. At run time a list is a list and a dict a dict: tuples and other mappings are refused.
JSON: TypeAlias = Union[bool, int, float, str, Sequence["JSON"], Mapping[str, "JSON"], None]  # noqa: UP007  # recursive

#: What `Store.update` calls inside the session's lock.
Mutator: TypeAlias = Callable[[Draft], Mapping[str, object] | Delete | None]

#: How a condition compares.
Operator: TypeAlias = Literal["==", "!=", "<", "<=", ">", ">=", "in", "exists"]

#: Which sessions: field -> value, or field -> (operator, value).
Where: TypeAlias = Mapping[str, JSON | tuple[Operator, JSON]]

#: What a finished call survives: "commit" a power cut, "relaxed" the death of the process.
Durability: TypeAlias = Literal["commit", "relaxed"]

#: What a writing verb may be told to expect: the session as it was read, as it was listed, or its version.
Expect: TypeAlias = Session | SessionInfo | str

#: What reading several sessions does with a damaged one.
OnDamage: TypeAlias = Literal["raise", "skip"]

#: What `create_many` takes: key and entry, or these and the time of the last change.
Row: TypeAlias = tuple[str, Mapping[str, object]] | tuple[str, Mapping[str, object], datetime | None]
