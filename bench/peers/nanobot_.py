"""nanobot's SessionManager, the entry held as a session's metadata."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from loguru import logger
from nanobot.session.manager import Session, SessionManager

from bench.peers.base import Entry, Peer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

logger.disable("nanobot")  # its log would be part of the measured time


class Nanobot(Peer):
    """Reads past its cache (another process may have written) and writes with its own atomic metadata call.

    The read and the write are two locked steps with nothing between them: increments can be lost.
    """

    def __init__(self, root: Path, *, sync: bool) -> None:
        super().__init__(root)
        self.sync = sync
        self.manager = SessionManager(root / "workspace", sessions_root=root / "sessions")

    def create(self, key: str, entry: Entry) -> None:
        self.manager.save(Session(key, metadata=dict(entry)), fsync=self.sync)
        self.manager.invalidate(key)

    def update(self, key: str, fn: Callable[[Any], None]) -> None:
        entry = self.get(key)
        before = dict(entry)
        fn(entry)
        changed = {name: value for name, value in entry.items() if name not in before or before[name] is not value}
        self.manager.update_session_metadata(key, changed, fsync=self.sync)

    def patch(self, key: str, fields: Entry) -> None:
        self.manager.update_session_metadata(key, fields, fsync=self.sync)

    def get(self, key: str) -> Entry:
        session = self.manager.read_session_snapshot(key)
        if session is None:
            raise KeyError(key)
        entry: Entry = session.metadata
        return entry

    def delete(self, key: str) -> None:
        self.manager.delete_session(key)


STORE = Nanobot
