"""The warning of every command that lists sessions: damaged ones are in no list."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import output, show

if TYPE_CHECKING:
    from shardstore import Store


def tell(store: Store) -> int:
    """Report on stderr how many sessions cannot be read; return the count. Call it after the list, never before."""
    damaged = len(store.stats().damaged)
    if damaged:
        left_out = f"{show.count(damaged, 'damaged session')} left out"
        output.message(f"Warning: {left_out}; `shardstore verify` names them, `verify --repair` salvages them")
    return damaged
