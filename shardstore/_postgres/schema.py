"""The tables of a store: one schema of a database, made on first use.

    store     one row: the format, an id of the store, the indexed fields and their generation
    session   one row a session: the lock, where its journal stands, and what lists show
    line      the journals, one line a row: the bytes that a file would have
    item      the settled items of logs, one line a row, by the id of their log and their number
    archive   whole sessions that were set aside: journals as files would have them
    gone      sessions of which no row is left, for watchers: the newest ones

A session is found by a hash of its key: a key of 4,096 bytes is too long for a B-tree. Rows of deleted sessions stay
until `compact`, with live = false. docs/internals/postgres.md has the reasons.
"""

from __future__ import annotations

import os
import random
import time
from typing import TYPE_CHECKING, Final, NamedTuple, NoReturn

from shardstore import _codec as codec
from shardstore._postgres.failures import FORBIDDEN, raise_refused
from shardstore._postgres.rights import to_make_it
from shardstore._postgres.values import Refused, number
from shardstore.errors import StoreNotFound, UnsupportedFormat

if TYPE_CHECKING:
    from shardstore._postgres.connection import Connection
    from shardstore._postgres.connections import Connections

FORMAT: Final = 1
PREFIX: Final = 200  # characters of a key, and bytes of a sort key, that stand in an index
_RACES: Final = frozenset({"23505", "42P06", "42P07", "42710", "40P01", "XX000"})  # somebody else made the same
_TAKEN: Final = "42P07"  # a table of this name is there, though no store is
_TRIES: Final = 20

_TABLES: Final = """
BEGIN;
{schema}
CREATE TABLE "{s}".store (
  one boolean PRIMARY KEY DEFAULT true CHECK (one),
  format bigint NOT NULL,
  id text NOT NULL,
  indexed text NOT NULL,                     -- a JSON list
  generation bigint NOT NULL DEFAULT 0,      -- of the indexed fields
  ready bigint NOT NULL DEFAULT 0,           -- the generation that every row is of
  forgotten xid8 NOT NULL DEFAULT '0'        -- of what is not in `gone` any more: the newest `changed`
);
CREATE TABLE "{s}".session (
  id bytea PRIMARY KEY,                      -- blake2b-128 of the key
  key text COLLATE "C" NOT NULL,
  live boolean NOT NULL DEFAULT false,
  n bigint NOT NULL DEFAULT 0,               -- the number of its last line; 0: being made
  version text NOT NULL DEFAULT '',
  rev bigint NOT NULL DEFAULT 0,
  created bigint NOT NULL DEFAULT 0,         -- microseconds since the epoch, as updated
  updated bigint NOT NULL DEFAULT 0,
  size bigint NOT NULL DEFAULT 0,            -- bytes of the entry as compact JSON
  log_length bigint NOT NULL DEFAULT 0,
  journal bigint NOT NULL DEFAULT 0,         -- bytes of its lines
  bytes bigint NOT NULL DEFAULT 0,           -- of the entry and the log
  settled bytea,                             -- the id of its log in `item`
  settled_bytes bigint NOT NULL DEFAULT 0,
  fields bytea NOT NULL DEFAULT '{{}}',      -- the small ones
  cut bytea,
  hidden bytea,
  keys bytea[] NOT NULL DEFAULT '{{}}',      -- what the indexed fields sort by
  generation bigint NOT NULL DEFAULT 0,      -- of `keys`
  born xid8 NOT NULL DEFAULT '0',            -- the transaction that made this incarnation
  changed xid8 NOT NULL DEFAULT '0'          -- the one that made this version, for watchers
) WITH (fillfactor = 85);
CREATE INDEX session_key ON "{s}".session (left(key, {prefix})) WHERE live;
CREATE INDEX session_updated ON "{s}".session (updated) WHERE live;
CREATE INDEX session_changed ON "{s}".session (changed);
CREATE TABLE "{s}".gone (
  key text COLLATE "C" NOT NULL, version text NOT NULL, born xid8 NOT NULL, changed xid8 NOT NULL);
CREATE INDEX gone_changed ON "{s}".gone (changed);
CREATE TABLE "{s}".line (
  id bytea NOT NULL, n bigint NOT NULL, line bytea NOT NULL, PRIMARY KEY (id, n));
CREATE TABLE "{s}".item (
  log bytea NOT NULL, n bigint NOT NULL, name bytea, line bytea NOT NULL, PRIMARY KEY (log, n));
CREATE INDEX item_name ON "{s}".item (log, name) WHERE name IS NOT NULL;
CREATE TABLE "{s}".archive (
  n bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  place text NOT NULL, id bytea NOT NULL, key text COLLATE "C" NOT NULL, moved double precision NOT NULL,
  settled bytea, settled_bytes bigint NOT NULL, journal bytea NOT NULL);
CREATE INDEX archive_id ON "{s}".archive (id);
INSERT INTO "{s}".store (format, id, indexed) VALUES ({format}, '{id}', convert_from('\\x{indexed}', 'UTF8'));
COMMIT
"""
# Only where it is missing: with IF NOT EXISTS, too, the server asks for the right to create schemas.
_SCHEMA: Final = 'CREATE SCHEMA IF NOT EXISTS "{s}";'


class Store(NamedTuple):
    """What a store says of itself."""

    id: str
    indexed: tuple[str, ...]
    generation: int = 0
    ready: int = 0

    @property
    def is_indexed(self) -> bool:
        """Whether lists may believe the sort keys in the rows."""
        return self.ready == self.generation


def make(connections: Connections, schema: str, indexed: tuple[str, ...], location: str) -> None:
    """Create the tables unless they are there. Raises StoreIOError, StoreUnavailable, UnsupportedFormat."""
    connections.using(lambda connection: _make(connection, schema, indexed, location), patience=0.0)


def _make(connection: Connection, schema: str, indexed: tuple[str, ...], location: str) -> None:
    for attempt in range(_TRIES):
        found = connection.run(
            "SELECT current_setting('server_encoding'), to_regnamespace($1::text) IS NOT NULL,"
            " EXISTS (SELECT FROM pg_class WHERE relnamespace = to_regnamespace($1) AND relname = 'store')",
            (f'"{schema}"',),
        ).rows[0]
        encoding = (found[0] or b"").decode()
        if encoding != "UTF8":
            raise UnsupportedFormat(f"{location}: the database's encoding is {encoding}; a store needs UTF8")
        if found[2] == b"\1":
            return
        try:
            connection.script(
                _TABLES.format(
                    s=schema, prefix=PREFIX, format=FORMAT, id=os.urandom(8).hex(), indexed=codec.dumps(indexed).hex(),
                    schema="" if found[1] == b"\1" else _SCHEMA.format(s=schema),
                )
            )  # fmt: skip
        except Refused as error:
            connection.script("ROLLBACK")
            if error.state not in _RACES or attempt == _TRIES - 1:
                _raise_not_made(error, connection, schema, location)
            time.sleep(random.uniform(0.001, 0.02))  # noqa: S311  # IF NOT EXISTS looks before it locks
        else:
            for n in range(len(indexed)):
                make_index(connection, schema, n)
            return


def _raise_not_made(error: Refused, connection: Connection, schema: str, location: str) -> NoReturn:
    """Raise the error that says why the tables could not be made, and what helps."""
    if error.state == _TAKEN:
        raise UnsupportedFormat(
            f"schema {schema} of {location} holds a table of somebody else: {error.message}; choose another schema"
        ) from error
    right = to_make_it(connection, schema) if error.state == FORBIDDEN else None
    raise_refused(error, location, advice=f"the owner of the database can run: {right}" if right else "")


def make_index(connection: Connection, schema: str, n: int) -> None:
    """Create the indexes of one indexed field, by its place. REQUIRES: no transaction; writers go on meanwhile."""
    key = f"substr(keys[{n + 1}], 1, {PREFIX})"
    connection.script("RESET lock_timeout")
    connection.forget_limits()
    for name, second in ((f"session_i{n}", f"left(key, {PREFIX})"), (f"session_i{n}_updated", "updated")):
        connection.script(
            f'CREATE INDEX CONCURRENTLY IF NOT EXISTS {name} ON "{schema}".session (({key}), {second}) WHERE live'
        )


def read(connection: Connection, settings: str, location: str) -> Store:
    """Return what a store says of itself. `settings` is `Statements.settings`.

    Raises StoreNotFound, UnsupportedFormat, Lost.
    """
    try:
        rows = connection.run(settings, once=True).rows
    except Refused as error:
        raise_refused(error, location)
    return understood(rows, location)


def understood(rows: list[tuple[bytes | None, ...]], location: str) -> Store:
    """Return what the answer to `Statements.settings` means. Raises StoreNotFound, UnsupportedFormat."""
    if not rows:
        raise StoreNotFound(location)
    form, store_id, indexed, generation, ready = rows[0]
    if number(form) != FORMAT:
        raise UnsupportedFormat(
            f"{location} has format {number(form)}; this version of shardstore reads format {FORMAT}"
        )
    return Store((store_id or b"").decode(), tuple(codec.loads(indexed or b"[]")), number(generation), number(ready))
