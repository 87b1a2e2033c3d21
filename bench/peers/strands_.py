"""Strands' FileSessionManager, the entry held as an agent's state."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from strands.session.file_session_manager import FileSessionManager
from strands.types.session import SessionAgent

from bench.peers.base import Entry, Peer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

AGENT = "main"


class Strands(Peer):
    """Managers are kept, one a session. Nothing locks between read_agent and update_agent: updates can be lost."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.managers: dict[str, FileSessionManager] = {}

    def manager(self, key: str) -> FileSessionManager:
        """Return the kept manager of a key, made on first use."""
        manager = self.managers.get(key)
        if manager is None:
            name = blake2b(key.encode(), digest_size=16).hexdigest()
            manager = self.managers[key] = FileSessionManager(name, storage_dir=str(self.root / "sessions"))
        return manager

    def create(self, key: str, entry: Entry) -> None:
        manager = self.manager(key)
        manager.create_agent(manager.session_id, SessionAgent(AGENT, dict(entry), {}))

    def update(self, key: str, fn: Callable[[Any], None]) -> None:
        manager = self.manager(key)
        agent = manager.read_agent(manager.session_id, AGENT)
        if agent is None:
            raise KeyError(key)
        fn(agent.state)
        manager.update_agent(manager.session_id, agent)

    def get(self, key: str) -> Entry:
        manager = self.manager(key)
        agent = manager.read_agent(manager.session_id, AGENT)
        if agent is None:
            raise KeyError(key)
        return agent.state

    def delete(self, key: str) -> None:
        manager = self.manager(key)
        manager.delete_session(manager.session_id)
        del self.managers[key]


STORE = Strands
