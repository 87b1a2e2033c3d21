"""Whether a database is fit for a store: asked of the server, which is changed by nothing here."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from shardstore._postgres import address, schema
from shardstore._postgres.connection import Connection
from shardstore._postgres.failures import raise_unavailable
from shardstore._postgres.rights import may_write, to_make_it
from shardstore._postgres.statements import Statements
from shardstore._postgres.values import Lost, Refused, number
from shardstore._postgres.wire import Settings
from shardstore.errors import ShardStoreError, StoreIOError, StoreNotFound, StoreUnavailable
from shardstore.reports import Check, DoctorReport

if TYPE_CHECKING:
    from collections.abc import Iterator

_OLDEST: Final = 130000  # PostgreSQL 13
_SKEW_WARN_S, _SKEW_FAIL_S = 1.0, 86_400.0  # order_time mends less than a day
_LOOK_S: Final = 2.0
_FEW: Final = 20  # connections


def examine(url: str) -> DoctorReport:
    """Ask the server at a URL. Raises ValueError, StoreUnavailable."""
    at = address.parse(url)
    settings = Settings(at)
    try:
        connection = Connection(settings, None)
    except Lost as error:
        if _is_missing(settings):
            why = f"there is no database {settings.database} on this server: `createdb {settings.database}` makes it"
            raise StoreUnavailable(at.location, why) from error
        raise_unavailable(error, at.location)
    try:
        version = connection.server_version
        checks = tuple(_checks(connection, at))
    except (Lost, Refused) as error:
        raise_unavailable(error, at.location)
    finally:
        connection.close()
    return DoctorReport(at.location, f"PostgreSQL {version // 10000}.{version % 10000}", checks)


def _is_missing(settings: Settings) -> bool:
    """Return whether the server is there and the database is not. libpq keeps no SQLSTATE of a failed connect."""
    try:
        other = Connection(Settings(settings.address, database="postgres"), time.monotonic() + _LOOK_S)
    except Lost:
        return False
    try:
        rows = other.run("SELECT FROM pg_database WHERE datname = $1::text", (settings.database,), once=True).rows
    except (Lost, Refused):
        return False
    finally:
        other.close()
    return bool(settings.database) and not rows


def _checks(connection: Connection, at: address.Address) -> Iterator[Check]:
    have = _settings(connection)
    version = connection.server_version
    yield _judged("server", version >= _OLDEST, "fail", f"version {version // 10000}", "13 or newer is needed")
    yield _judged("encoding", have["server_encoding"] == "UTF8", "fail", have["server_encoding"], "UTF8 is needed")
    for name in ("fsync", "full_page_writes"):
        why = "a power cut may lose or damage commits"
        yield _judged(name, have[name] == "on", "warn", have[name], why)
    waits = have["synchronous_commit"]
    yield Check("synchronous_commit", "pass", f"{waits}; a durable commit waits for the disk in any case")
    read_only = "a standby" if connection.standby else "read-only" if have["transaction_read_only"] == "on" else ""
    yield _judged("writable", not read_only, "warn", read_only or "yes", "no session can be changed there")
    yield _judged("pooler", not connection.pooled, "warn", "one stands in between" if connection.pooled else "none",
                  "statements are not prepared; transaction mode works, statement mode does not")  # fmt: skip
    few = int(have["max_connections"])
    yield _judged("connections", few >= _FEW, "warn", f"at most {few}", "each writer of a moment takes one")
    yield _clock(connection)
    yield _store(connection, at)


def _judged(name: str, good: bool, status: str, seen: str, why: str) -> Check:  # noqa: FBT001
    return Check(name, "pass", seen) if good else Check(name, status, f"{seen}: {why}")  # type: ignore[arg-type]


def _settings(connection: Connection) -> dict[str, str]:
    names = ("server_encoding", "fsync", "full_page_writes", "synchronous_commit", "transaction_read_only",
             "max_connections")  # fmt: skip
    row = connection.run(f"SELECT {', '.join(f'current_setting({name!r})' for name in names)}", once=True).rows[0]
    return {name: (value or b"").decode() for name, value in zip(names, row, strict=True)}


def _clock(connection: Connection) -> Check:
    """Compare the clocks: times of sessions are those of the hosts that write."""
    before = time.time()
    sql = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
    there = number(connection.run(sql, once=True).rows[0][0]) / 1e6
    now = time.time()
    skew = max(0.0, there - now, before - there)
    if skew < _SKEW_WARN_S:
        return Check("clock", "pass", "as the server's")
    status = "warn" if skew < _SKEW_FAIL_S else "fail"
    return Check("clock", status, f"{skew:.1f} s away from the server's: lists by time will not be in order")  # type: ignore[arg-type]


def _store(connection: Connection, at: address.Address) -> Check:
    right = None if connection.standby else to_make_it(connection, at.schema)
    try:
        found = schema.read(connection, Statements(at.schema).settings, at.location)
    except StoreNotFound:
        if right is not None:
            return Check("store", "fail", f"none in schema {at.schema}, and this user may not make it; run: {right}")
        return Check("store", "pass", f"no store in schema {at.schema} yet; the first writer makes it")
    except ShardStoreError as error:
        refused = right is not None and isinstance(error, StoreIOError)
        return Check("store", "fail", f"{error}; run: {right}" if refused else str(error))
    fields = ", ".join(found.indexed) or "none"
    if not may_write(connection, at.schema):
        return Check("store", "warn", f"schema {at.schema}: this user may read its tables, and not write to them")
    ready = "" if found.is_indexed else "; `shardstore reindex` was not finished"
    return Check("store", "pass" if not ready else "warn", f"schema {at.schema}, indexed fields: {fields}{ready}")
