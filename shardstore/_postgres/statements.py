"""The statements on one session, each in one place, with the schema's name in them."""

from __future__ import annotations

from typing import Final

# What the server is asked to survive is decided inside the statement that writes: a durable commit is one also where
# somebody turned synchronous_commit off for the whole server, and stricter settings than `on` are left alone.
_DURABILITY: Final = """
CASE WHEN NOT {durable} THEN set_config('synchronous_commit', 'off', true)
  WHEN current_setting('synchronous_commit') = 'off' THEN set_config('synchronous_commit', 'on', true) END"""


class Statements:
    """SQL for one schema."""

    def __init__(self, schema: str) -> None:
        s = f'"{schema}"'
        self.session, self.line, self.item = f"{s}.session", f"{s}.line", f"{s}.item"
        self.archive, self.store, self.gone = f"{s}.archive", f"{s}.store", f"{s}.gone"
        # One statement, so of one moment. Lines without their session's row are seen, too: that is damage. Of what
        # is known already (n, version) only the beginning of its last line comes, for its checksum.
        self.read = f"""
SELECT s.n, s.version, s.key, l.n, CASE WHEN l.n = $2::bigint THEN substr(l.line, 1, 17) ELSE l.line END
FROM (SELECT $1::bytea AS id) q LEFT JOIN {self.session} s ON s.id = q.id
LEFT JOIN {self.line} l ON l.id = q.id AND l.n >= $2 AND (s.n, s.version) IS DISTINCT FROM ($2, $3::text)
ORDER BY l.n"""
        self.look = f"SELECT n, version, key FROM {self.session} WHERE id = $1::bytea"
        self.settings = f"SELECT format, id, indexed, generation, ready FROM {self.store}"
        # The lock. What the session's lines hold is read in a later statement: this one would see them as they were
        # before it waited. So it sees the settings: a row that reindex wrote meanwhile knows better than they. Reindex
        # leaves deleted sessions alone: -1 has their settings read again.
        self.lock = f"""
SELECT s.n, s.version, s.key,
  CASE WHEN s.live THEN greatest(s.generation, (SELECT generation FROM {self.store})) ELSE -1 END
FROM {self.session} s WHERE id = $1::bytea FOR UPDATE OF s"""
        self.lock_at_once = self.lock + " NOWAIT"
        # An absent session is locked by a row that nobody else sees before it is committed.
        self.place = f"""
INSERT INTO {self.session} (id, key) VALUES ($1::bytea, $2::text) ON CONFLICT (id) DO NOTHING
RETURNING EXISTS (SELECT FROM {self.line} l WHERE l.id = $1)"""
        # One statement writes a line and its session's row. Where the row is not there, or the database's owner has a
        # trigger that leaves it as it is, the line has no id, so the server refuses the transaction.
        self.append = f"""
WITH s AS (UPDATE {self.session} SET n = $2::bigint, version = $4::text, live = $5::boolean, rev = $6::bigint,
  created = $7::bigint, updated = $8::bigint, size = $9::bigint, log_length = $10::bigint, journal = $11::bigint,
  bytes = $12::bigint, settled = $13::bytea, settled_bytes = $14::bigint, fields = $15::bytea, cut = $16::bytea,
  hidden = $17::bytea, keys = $18::bytea[], generation = $19::bigint,
  born = CASE WHEN live THEN born ELSE pg_current_xact_id() END,
  changed = CASE WHEN version = $4 AND live = $5 THEN changed ELSE pg_current_xact_id() END
  WHERE id = $1::bytea RETURNING id, {_DURABILITY.format(durable="$20::boolean")})
INSERT INTO {self.line} (id, n, line) SELECT s.id, $2, $3::bytea FROM (SELECT) one LEFT JOIN s ON true"""
        self.settled = f"SELECT settled FROM {self.session} WHERE id = $1::bytea"
        self.size = f"SELECT journal + settled_bytes FROM {self.session} WHERE id = $1::bytea"
        self.refresh_row = f"""
UPDATE {self.session} SET keys = $3::bytea[], generation = $4::bigint, fields = $5::bytea, cut = $6::bytea,
  hidden = $7::bytea WHERE id = $1::bytea AND n = $2::bigint"""
        self.lines = f"SELECT line FROM {self.line} WHERE id = $1::bytea ORDER BY n"
        self.forget_lines = f"DELETE FROM {self.line} WHERE id = $1::bytea"
        self.put_line = f"INSERT INTO {self.line} (id, n, line) VALUES ($1::bytea, $2::bigint, $3::bytea)"
        self.put_lines = f"""
INSERT INTO {self.line} (id, n, line)
SELECT $1::bytea, $2::bigint + place - 1, line FROM unnest($3::bytea[]) WITH ORDINALITY AS t (line, place)"""
        # For watchers: that a session is gone is news unless it was deleted before.
        self.forget_session = f"""
WITH g AS (DELETE FROM {self.session} WHERE id = $1::bytea RETURNING *)
INSERT INTO {self.gone} (key, version, born, changed)
SELECT key, version, born, CASE WHEN live THEN pg_current_xact_id() ELSE changed END FROM g WHERE n > 0"""
        self.forget_items = f"DELETE FROM {self.item} WHERE log = $1::bytea"
        self.put_items = f"""
INSERT INTO {self.item} (log, n, name, line)
SELECT $1::bytea, $2::bigint + place - 1, name, line
FROM unnest($3::bytea[], $4::bytea[]) WITH ORDINALITY AS t (name, line, place)"""
        self.copy_items = f"""
INSERT INTO {self.item} (log, n, name, line)
SELECT $2::bytea, n, name, line FROM {self.item} WHERE log = $1::bytea"""
        self.items = f"""
SELECT n, line FROM {self.item} WHERE log = $1::bytea AND n >= $2::bigint AND n < $3::bigint ORDER BY n"""
        self.item_of = f"SELECT n, line FROM {self.item} WHERE log = $1::bytea AND name = $2::bytea"
        self.set_durability = f"SELECT {_DURABILITY.format(durable='$1::boolean')}"
        # Flushes what was committed before it: locking a row writes to the log of the database.
        self.flush = f"SELECT {_DURABILITY.format(durable='true')} FROM {self.store} FOR KEY SHARE"
        self.unarchive = f"DELETE FROM {self.archive} WHERE n = $1::bigint"
        self.archived = f"""
INSERT INTO {self.archive} (place, id, key, moved, settled, settled_bytes, journal)
SELECT 'archive', $1::bytea, $2::text, $3::text::double precision, $4::bytea, $5::bigint, $6::bytea
WHERE NOT EXISTS (SELECT FROM {self.archive} WHERE id = $1 AND moved = $3::double precision)
RETURNING {_DURABILITY.format(durable="true")}"""
        # Somebody may have deleted every line of a damaged session. An archived one without lines is refused.
        self.set_aside = f"""
INSERT INTO {self.archive} (place, id, key, moved, settled, settled_bytes, journal)
SELECT $2::text, $1::bytea, $3::text, extract(epoch FROM clock_timestamp()), $4::bytea, $5::bigint,
  coalesce(string_agg(line, ''::bytea ORDER BY n), CASE WHEN $2 = 'quarantine' THEN ''::bytea END)
FROM {self.line} WHERE id = $1"""
