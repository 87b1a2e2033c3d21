"""A Store with the settings of another one, on another engine: one that is already inside a session, or waits less."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shardstore.engine import Engine
    from shardstore.store import Store


def on_engine(store: Store, engine: Engine, lock_timeout: float | None) -> Store:
    """Return a Store with the same settings on an engine that it does not own. It is not to be closed."""
    view: Store = object.__new__(type(store))
    view.__dict__.update(store.__dict__)
    view._engine, view.lock_timeout = engine, lock_timeout  # noqa: SLF001  # made here
    return view
