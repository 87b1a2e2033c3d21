"""Merge a changed model into the stored entry: members that the model does not know stay, at every depth."""

from __future__ import annotations

from typing import Any

from shardstore import _codec as codec


def same(one: Any, other: Any) -> bool:
    """Return whether two JSON values are the same text: True is not 1, and 1 not 1.0."""
    return bool(one == other) and (type(one) is str or codec.dumps(one) == codec.dumps(other))


def merged(stored: Any, before: Any, after: Any) -> Any:
    """Return the value to be stored.

    stored: the entry; before: the model read from it, as JSON again; after: the changed model, as JSON.
    """
    if type(stored) is dict and type(before) is dict and type(after) is dict:
        return _members(stored, before, after)
    if type(stored) is list and type(before) is list and type(after) is list and len(stored) == len(before):
        return _items(stored, before, after)
    return after


def _members(stored: dict[str, Any], before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    found = {name: value for name, value in stored.items() if name in after or name not in before}
    for name, value in after.items():
        if name not in before or not same(before[name], value):
            found[name] = merged(stored.get(name), before.get(name), value)
    return found


def _items(stored: list[Any], before: list[Any], after: list[Any]) -> list[Any]:
    """Find each item again where it is now; one that was changed in its place keeps what the model does not know."""
    places: dict[bytes, list[int]] = {}
    for place, value in enumerate(before):
        places.setdefault(codec.dumps(value), []).append(place)
    found_at: list[int | None] = []
    for place, value in enumerate(after):
        alike = places.get(codec.dumps(value), [])
        found_at.append(alike.pop(alike.index(place) if place in alike else 0) if alike else None)
    used = set(found_at)
    items = []
    for place, (at, value) in enumerate(zip(found_at, after, strict=True)):
        if at is not None:
            items.append(stored[at])
        elif len(after) == len(before) and place not in used:
            items.append(merged(stored[place], before[place], value))
        else:
            items.append(value)
    return items
