"""The verbs that find sessions. They read the index, which catches up first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shardstore._verbs.arguments import bounds
from shardstore._verbs.opened import Opened, typed_errors
from shardstore.errors import UnknownField, warn_caller
from shardstore.query import Condition, Query, parse

if TYPE_CHECKING:
    import builtins  # inside the class, `list` is the verb
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from shardstore.session import SessionInfo
    from shardstore.types import Where

_looked_up: set[tuple[str, str]] = set()  # fields of filters, each with the store's root


class Listing(Opened):
    """Which sessions there are."""

    def list(  # noqa: PLR0913  # each narrows the list in its own way
        self,
        prefix: str | None = None,
        where: Where | None = None,
        order_by: str = "-updated_at",
        limit: int | None = None,
        offset: int = 0,
        *,
        after: SessionInfo | str | None = None,
        fields: Iterable[str] | None = None,
        updated_since: datetime | None = None,
        updated_before: datetime | None = None,
        larger_than: int | None = None,
    ) -> builtins.list[SessionInfo]:
        """List sessions from the index: exact as of some moment during the call.

        prefix: only keys that begin with this.
        where: {field: value} or {field: (op, value)} with op one of == != < <= > >= in exists.
        order_by: a field, updated_at, created_at, size, log_length, rev or key; with a leading "-" descending. Like
            `where`, it is quickest for the store's `indexed` fields.
        limit, offset: at most so many, and how many to leave out in front of them.
        after: continue behind this SessionInfo of an earlier list, or its `.cursor`. A session that did not move
            meanwhile is neither skipped nor repeated. Not together with offset.
        fields: show these fields, whatever their size; None: those whose values are small.
        updated_since, updated_before: aware datetimes.
        larger_than: bytes of the entry.

        Warns (DamagedSessions) where sessions are left out because their files are damaged, and (UnknownField) where
        nothing matches and no session has a field of that name. Raises InvalidQuery.

        >>> [info.key for info in store.list("agent:", {"status": ("!=", "done")}, order_by="key", limit=1)]
        ['agent:a']
        """
        within = bounds(updated_since, updated_before, larger_than)
        query = parse(prefix, where, order_by, limit, offset, within, after, fields)
        with typed_errors("listing"):
            found = self._engine.select(query, **self._how_to_list())
            if not found and query.conditions:
                self._warn_of_unknown_fields(query)
        return found

    def count(  # as list
        self,
        prefix: str | None = None,
        where: Where | None = None,
        *,
        updated_since: datetime | None = None,
        updated_before: datetime | None = None,
        larger_than: int | None = None,
    ) -> int:
        """Count the sessions that `list` would return. Warns and raises as it does."""
        query = parse(prefix, where, bounds=bounds(updated_since, updated_before, larger_than))
        with typed_errors("counting"):
            found = self._engine.count(query, **self._how_to_list())
            if not found and query.conditions:
                self._warn_of_unknown_fields(query)
        return found

    def __len__(self) -> int:
        return self.count()

    def __bool__(self) -> bool:
        return True  # an empty store is a store

    def __iter__(self) -> Iterator[str]:
        # A generator, and so a reference to this Store: one that nobody else holds may not be collected half way.
        yield from self._engine.keys(refresh=not self._read_only, progress=self._scan_progress)

    def _how_to_list(self) -> dict[str, Any]:
        return {"refresh": not self._read_only, "progress": self._scan_progress}

    def _warn_of_unknown_fields(self, query: Query) -> None:
        """Warn of fields in a filter that found nothing and that no session has: once a field and process."""
        engine = self._engine
        for condition in query.conditions:
            field = (self.location, condition.field)
            if field in _looked_up:
                continue
            having = Query(conditions=(Condition(condition.field, "exists", True),), limit=1)
            if engine.select(having, **self._how_to_list()):
                _looked_up.add(field)
            elif engine.count(Query(), **self._how_to_list()):
                _looked_up.add(field)
                warn_caller(UnknownField(f"where: no session in this store has a field {condition.field!r}"))
