"""OpenAI Agents' SQLiteSession: items can only be added, so the newest item is the entry."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

from agents import SQLiteSession

from bench.peers.base import Entry, Peer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class OpenaiSession(Peer):
    """Sessions and one event loop are kept. Nothing holds between get_items and add_items: updates can be lost."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.loop = asyncio.new_event_loop()
        self.sessions: dict[str, SQLiteSession] = {}

    def session(self, key: str) -> SQLiteSession:
        """Return the kept session of a key."""
        session = self.sessions.get(key)
        if session is None:
            session = self.sessions[key] = SQLiteSession(key, self.root / "sessions.db")
        return session

    def create(self, key: str, entry: Entry) -> None:
        self.loop.run_until_complete(self.session(key).add_items([cast("Any", entry)]))

    def update(self, key: str, fn: Callable[[Any], None]) -> None:
        self.loop.run_until_complete(self._update(self.session(key), fn))

    async def _update(self, session: SQLiteSession, fn: Callable[[Any], None]) -> None:
        entry = (await session.get_items(limit=1))[0]
        fn(entry)
        await session.add_items([entry])

    def get(self, key: str) -> Entry:
        items = self.loop.run_until_complete(self.session(key).get_items(limit=1))
        return cast("Entry", items[0])

    def append_item(self, key: str, item: Entry, fields: Entry) -> None:
        del fields  # a session has items alone
        self.loop.run_until_complete(self.session(key).add_items([cast("Any", item)]))

    def append_items(self, key: str, items: list[Entry]) -> None:
        self.loop.run_until_complete(self.session(key).add_items(cast("Any", items)))

    def tail(self, key: str, count: int) -> list[Any]:
        return cast("list[Any]", self.loop.run_until_complete(self.session(key).get_items(limit=count)))

    def delete(self, key: str) -> None:
        self.loop.run_until_complete(self.session(key).clear_session())

    def close(self) -> None:
        for session in self.sessions.values():
            session.close()
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()


STORE = OpenaiSession
