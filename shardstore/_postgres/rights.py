"""What a user lacks to make a store, as the statement that an owner of the database runs to grant it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from shardstore._postgres.connection import Connection

_NEEDS: Final = """
SELECT CASE
  WHEN to_regnamespace($1::text) IS NULL AND NOT has_database_privilege(current_database(), 'CREATE')
    THEN format('GRANT CREATE ON DATABASE %I TO %I', current_database(), current_user)
  WHEN to_regnamespace($1) IS NULL THEN NULL
  WHEN NOT (has_schema_privilege(to_regnamespace($1), 'USAGE') AND has_schema_privilege(to_regnamespace($1), 'CREATE'))
    THEN format('GRANT USAGE, CREATE ON SCHEMA %s TO %I', $1, current_user) END"""
_WRITES: Final = """
SELECT bool_and(has_table_privilege(oid, 'INSERT') AND has_table_privilege(oid, 'UPDATE')
  AND has_table_privilege(oid, 'DELETE')) FROM pg_class
WHERE relnamespace = to_regnamespace($1::text) AND relname IN ('session', 'line', 'item', 'archive', 'gone')
  AND relkind = 'r'"""


def to_make_it(connection: Connection, schema: str) -> str | None:
    """Return the GRANT without which this user cannot make the tables; None where none is missing. Raises Lost."""
    (row,) = connection.run(_NEEDS, (f'"{schema}"',), once=True).rows
    return None if row[0] is None else row[0].decode()


def may_write(connection: Connection, schema: str) -> bool:
    """Return whether this user may change sessions of a store that is there. Raises Lost, Refused."""
    (row,) = connection.run(_WRITES, (f'"{schema}"',), once=True).rows
    return row[0] == b"\1"
