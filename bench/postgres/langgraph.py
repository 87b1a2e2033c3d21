"""LangGraph's checkpoints in PostgreSQL, for scale: one step reads the newest checkpoint and puts the next one.

It locks nothing, and keeps every checkpoint. bench/postgres/requirements.txt has its packages; without them its rows
are left out.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import psycopg
from psycopg.rows import dict_row


def is_there() -> bool:
    """Return whether its packages are installed."""
    return importlib.util.find_spec("langgraph") is not None and (
        importlib.util.find_spec("langgraph.checkpoint.postgres") is not None
    )


class Checkpoints:
    """One connection, and a thread of checkpoints for each key, in a schema of its own."""

    def __init__(self, url: str, schema: str) -> None:
        from langgraph.checkpoint.postgres import PostgresSaver

        self._db = psycopg.connect(url, autocommit=True, prepare_threshold=0, row_factory=dict_row)
        self._db.execute("SET client_min_messages = warning", prepare=False)
        self._db.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}", prepare=False)
        self._db.execute(f"SET search_path = {schema}", prepare=False)
        self._saver = PostgresSaver(self._db)
        self._saver.setup()

    def fill(self, key: str, fields: dict[str, Any]) -> None:
        """Put the first checkpoint of a thread."""
        from langgraph.checkpoint.base import empty_checkpoint

        self._put(_config(key), empty_checkpoint(), fields)

    def update(self, key: str) -> None:
        """Add one to a field."""
        newest = self._saver.get_tuple(_config(key))
        fields = newest.checkpoint["channel_values"]["fields"]
        self._put(newest.config, newest.checkpoint, {**fields, "n": fields["n"] + 1})

    def get(self, key: str) -> None:
        """Read the newest checkpoint."""
        self._saver.get_tuple(_config(key))

    def close(self) -> None:
        """Close the connection."""
        self._db.close()

    def _put(self, config: Any, before: Any, fields: dict[str, Any]) -> None:
        from langgraph.checkpoint.base import create_checkpoint

        after = create_checkpoint(before, None, fields["n"])
        version = self._saver.get_next_version(before["channel_versions"].get("fields"), None)
        after["channel_values"] = {"fields": fields}
        after["channel_versions"] = {"fields": version}
        self._saver.put(config, after, {"source": "loop", "step": fields["n"], "parents": {}}, {"fields": version})


def _config(key: str) -> Any:
    return {"configurable": {"thread_id": key, "checkpoint_ns": ""}}
