"""The verbs that read one session or several. They wait for nobody."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shardstore._imports import late_imports
from shardstore._transcripts import read_log
from shardstore._verbs.arguments import skips
from shardstore._verbs.opened import Opened
from shardstore.errors import CorruptShard, RevisionNotFound, SessionNotFound
from shardstore.session import Session

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from shardstore.types import OnDamage, Where


class Reading(Opened):
    """The verbs that read sessions whose keys are known."""

    def get(self, key: str, *, rev: int | None = None) -> Session | None:
        """Return the session as last committed, or None if there is none. Waits for nobody.

        rev: return this revision instead; RevisionNotFound if the journal no longer has it.

        Raises CorruptShard, StoreIOError, StoreNotFound, StoreIncomplete; never answers "absent" for any of these.

        >>> session = store.get("agent:main")
        >>> session["status"]
        'new'
        >>> store.get("agent:nobody") is None
        True
        """
        if rev is not None:
            return self._revision(key, rev)
        state = self._engine.read(key)
        return Session(key, state, self._engine.logs) if state.fields is not None else None

    def _revision(self, key: str, rev: int) -> Session:
        """Return a revision that the journal holds. Raises RevisionNotFound."""
        states = self._engine.history(key)
        for state in states:
            if state.rev == rev:
                return Session(key, state, self._engine.logs)
        raise RevisionNotFound(key, rev, states[0].rev if states else 0, states[-1].rev if states else 0)

    def get_many(self, keys: Iterable[str], *, on_damage: OnDamage = "raise") -> dict[str, Session]:
        """Return the existing sessions of these keys, in the given order. Waits for nobody.

        Faster than a `get` for each key; keeps no file open.
        on_damage: "skip" leaves damaged sessions out.

        Raises TypeError for a single key; otherwise as `get`.

        >>> list(store.get_many(["agent:main", "agent:nobody", "agent:chat"]))
        ['agent:main', 'agent:chat']
        """
        if isinstance(keys, str):
            raise TypeError(f"keys is several keys, not one; write get_many([{keys!r}])")
        skip, asked = skips(on_damage), dict.fromkeys(keys)
        found: dict[str, Session] = {}
        for key, state in self._engine.read_many(asked):
            if isinstance(state, CorruptShard):
                if not skip:
                    raise state
            elif state.exists:
                found[key] = Session(key, state, self._engine.logs)
        return {key: found[key] for key in asked if key in found}

    def sessions(
        self, prefix: str | None = None, where: Where | None = None, *, on_damage: OnDamage = "raise"
    ) -> Iterator[Session]:
        """Return an iterator over whole sessions, in the order of their files, which is the fastest to read.

        Takes `prefix` and `where` as `list` does. The keys are chosen at the first step. Each session is read at its
        own step, and left out if it is gone by then, or no longer matches.

        on_damage: "raise" raises CorruptShard if a session that may match is damaged; "skip" leaves it out.
        Raises InvalidQuery.

        >>> for session in store.sessions("agent:", {"status": "new"}):
        ...     print(session.key, session.data)
        agent:main {'status': 'new', 'turns': 1}
        """
        with late_imports:
            from shardstore._bulk import sessions
            from shardstore.query import parse

        return sessions(self._engine, parse(prefix, where), skip=skips(on_damage), refresh=not self._read_only)

    def exists(self, key: str) -> bool:
        """Return whether there is a session; `key in store` does the same. Waits for nobody. Raises as `get`.

        >>> store.exists("agent:main"), store.exists("agent:nobody")
        (True, False)
        """
        return self._engine.read(key).fields is not None

    def __getitem__(self, key: str) -> Session:
        session = self.get(key)
        if session is None:
            raise SessionNotFound(key)
        return session

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self.exists(key)

    def history(self, key: str) -> list[Session]:
        """Return the session's revisions, oldest first, as far back as its journal goes; empty if absent.

        A session that was deleted and created again has a new history. Raises as `get`.

        >>> session = store.patch("agent:main", {"status": "running"})
        >>> [(one.rev, one["status"]) for one in store.history("agent:main")]
        [(1, 'new'), (2, 'running')]
        """
        return [Session(key, state, self._engine.logs) for state in self._engine.history(key)]

    def log(self, key: str, start: int | None = None, stop: int | None = None) -> list[Any]:
        """Return the items log[start:stop] of a session, as a slice does: `store.log(key, -20)` is the newest 20.

        Waits for nobody. Raises SessionNotFound, CorruptShard if one of these items is damaged; otherwise as `get`.

        >>> store.log("agent:chat", -20)
        [{'role': 'user', 'content': 'hi'}]
        """
        return read_log(self._engine, key, start, stop)
