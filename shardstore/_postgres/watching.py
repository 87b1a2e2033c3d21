"""The changes since a token, by the number of the transaction that wrote each row, and the snapshot that a token is.

A snapshot of the database says which transactions it sees. A session whose newest version was made by a transaction
that the token's snapshot does not see is news, however late that transaction was committed: neither a clock nor an
order of numbers would tell that. Rows that are gone leave a line in the table `gone`.

A standby that takes over gives the numbers of transactions that it never saw to other ones. It begins a new timeline,
so a token names its timeline. A standby does not say which transactions are still open, so its token begins in front
of the oldest of them. A look leaves out the changes that the look before it returned.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from shardstore._model import NEVER_WAS, Seen, State
from shardstore.errors import CorruptShard, DamagedSessions, WatchExpired, warn_caller

if TYPE_CHECKING:
    from shardstore._postgres.connection import Connection
    from shardstore._postgres.engine import PostgresEngine

_TOKEN: Final = re.compile(
    r"postgres\.(?P<store>[0-9a-f]{16})\.(?P<timeline>[0-9A-F]{8})\.(?P<snapshot>\d{1,20}:\d{1,20}:[\d,]*)", re.ASCII
)
# Any standby is on timeline 0 here: it has no name for its own that the server it follows would not have.
_TIMELINE: Final = """
CASE WHEN pg_is_in_recovery() THEN '00000000' ELSE substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8) END"""
_HERE: Final = f"""
{_TIMELINE} || '.' || CASE WHEN pg_is_in_recovery()
  THEN format('%1$s:%1$s:', pg_snapshot_xmin(pg_current_snapshot())) ELSE pg_current_snapshot()::text END"""
_GONE_MAX: Final = 10_000  # sessions without a row that `compact` leaves for watchers
_NEWS: Final = """
{0}.changed >= pg_snapshot_xmin(t.seen) AND NOT pg_visible_in_snapshot({0}.changed, t.seen)
 AND {0}.changed < pg_snapshot_xmax(pg_current_snapshot()) AND starts_with({0}.key, $2::text)"""


def here(engine: PostgresEngine, connection: Connection) -> str:
    """Return the token of this moment."""
    (row,) = connection.run(f"SELECT {_HERE}").rows
    return f"postgres.{engine.rows.store.id}.{(row[0] or b'').decode()}"


class PostgresChanges:
    """The changes from a token on."""

    def __init__(self, engine: PostgresEngine, prefix: str, token: str) -> None:
        """Check the token. Raises WatchExpired."""
        self._engine = engine
        self._prefix = prefix
        self._token = self._ahead = token
        self._returned: dict[str, str] = {}  # by key, which version of it
        self._ahead_returned: dict[str, str] = {}
        self._closed = False
        match = _TOKEN.fullmatch(token)
        if match is None or match["store"] != engine.rows.store.id:
            raise WatchExpired("this is no token of this store")
        engine.connections.using(self._check)

    @property
    def token(self) -> str:
        """The place up to which everything was returned, and `advance` called."""
        return self._token

    @property
    def ahead(self) -> str:
        """The place behind what the last look returned."""
        return self._ahead

    @property
    def _snapshot(self) -> str:
        return self._token.rpartition(".")[2]

    def has_waiting(self) -> bool:
        """Return False: a look sees all that is committed."""
        return False

    def may_have_news(self) -> bool:
        """Return True until `close`: whether there is any only the server knows."""
        return not self._closed

    def look(self) -> list[Seen]:
        """Return each session that is another one than the watcher knows. Raises WatchExpired, StoreUnavailable."""
        sessions, gone = self._engine.connections.using(self._news)
        seen = [self._seen(key, fresh=fresh) for key, fresh in sessions.items()]
        found = [one for one in seen if one is not None]
        found += [Seen(key, before, State()) for key, before in gone.items() if key not in sessions]
        self._ahead_returned = {one.key: one.state.version for one in found}
        return [one for one in found if self._returned.get(one.key) != one.state.version]

    def advance(self) -> None:
        """Go on behind what the last look returned."""
        self._token, self._returned = self._ahead, self._ahead_returned

    def close(self) -> None:
        """End: nothing is open."""
        self._closed = True

    def _check(self, connection: Connection) -> None:
        """Raise WatchExpired where something that changed since may be forgotten, or the database is another one."""
        (row,) = connection.run(
            "SELECT pg_snapshot_xmin(t.seen) <= s.forgotten OR pg_snapshot_xmax(t.seen) >"
            f" pg_snapshot_xmax(pg_current_snapshot()), $2::text <> {_TIMELINE}"
            f" FROM {self._engine.sql.store} s, (SELECT $1::text::pg_snapshot AS seen) t",
            (self._snapshot, self._token.split(".")[2]),
        ).rows
        if row[1] == b"\1":
            raise WatchExpired("another server has taken over, or this one became a standby or ceased to be one")
        if row[0] == b"\1":
            raise WatchExpired(
                "the token is too old, or from before a backup of the database was put back or its server crashed"
            )

    def _news(self, connection: Connection) -> tuple[dict[str, bool], dict[str, str]]:
        """Return the changed sessions, and whether each is a new one; and the last state of those that are gone."""
        self._check(connection)
        sql = self._engine.sql
        head = "SELECT key, NOT pg_visible_in_snapshot(born, t.seen), version"
        rows = connection.run(
            f"WITH t AS (SELECT $1::text::pg_snapshot AS seen) SELECT {_HERE}, n.* FROM (SELECT) one"
            f" LEFT JOIN ({head}, true AS here, changed FROM {sql.session} s, t WHERE n > 0 AND {_NEWS.format('s')}"
            f" UNION ALL {head}, false, changed FROM {sql.gone} g, t WHERE {_NEWS.format('g')}) n ON true"
            " ORDER BY n.changed",
            (self._snapshot, self._prefix),
        ).rows
        sessions: dict[str, bool] = {}
        gone: dict[str, str] = {}
        for snapshot, key, fresh, version, present, _ in rows:
            self._ahead = f"postgres.{self._engine.rows.store.id}.{(snapshot or b'').decode()}"
            if key is None:
                continue
            if present == b"\1":
                sessions[key.decode()] = fresh == b"\1"
            else:
                gone.setdefault(key.decode(), NEVER_WAS if fresh == b"\1" else (version or b"").decode())
        return sessions, gone

    def _seen(self, key: str, *, fresh: bool) -> Seen | None:
        try:
            state = self._engine.read(key)
        except CorruptShard:
            warn_caller(DamagedSessions("a session that changed is damaged; verify mends it"))
            return None
        return Seen(key, NEVER_WAS if fresh else state.version, state)


def trim(engine: PostgresEngine) -> None:
    """Forget which sessions are gone, but for the newest; tokens from before are too old then.

    It keeps sessions that were removed beside a transaction that still runs. A token taken now counts them as not
    seen: without them it would be too old at once.
    """
    sql = engine.sql
    engine.connections.using(
        lambda connection: connection.run(
            f"WITH old AS (DELETE FROM {sql.gone} WHERE ctid IN"
            f" (SELECT ctid FROM {sql.gone} ORDER BY changed DESC OFFSET {_GONE_MAX})"
            " AND changed < pg_snapshot_xmin(pg_current_snapshot()) RETURNING changed)"
            f" UPDATE {sql.store} SET forgotten = greatest(forgotten, (SELECT changed FROM old ORDER BY changed DESC"
            " LIMIT 1)) WHERE EXISTS (SELECT FROM old)"
        )
    )
