"""The verbs that find sessions. They read the index, which catches up first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shardstore._verbs.arguments import bounds
from shardstore._verbs.opened import Opened, typed_errors
from shardstore.errors import UnknownField, warn_caller
from shardstore.query import Condition, Query, parse
from shardstore.session import has_place

if TYPE_CHECKING:
    import builtins  # inside the class, `list` is the verb
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from shardstore.session import SessionInfo
    from shardstore.types import Where

_looked_up: set[tuple[str, str]] = set()  # fields of filters and orders, each with the store's location


class Listing(Opened):
    """The verbs that find sessions."""

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
        where: {field: value} or {field: (op, value)} with op one of == != < <= > >= in exists. `log_length` is how
            many items a log has.
        order_by: a field, updated_at, created_at, size, log_length, rev or key; with a leading "-" descending. Like
            `where`, it is quickest for the store's `indexed` fields.
        limit, offset: the largest number of rows, and how many to skip in front of them.
        after: continue behind this SessionInfo of an earlier list, or its `.cursor`. A session that did not move
            meanwhile is neither skipped nor repeated. Not together with offset.
        fields: show these fields, whatever their size; None: those whose values are small.
        updated_since, updated_before: aware datetimes.
        larger_than: bytes of the entry.

        Warns with DamagedSessions if damaged sessions are left out. Warns with UnknownField if no session has a field
        that `order_by` names, or that `where` names and nothing matches. Raises InvalidQuery.

        >>> for info in store.list("agent:", {"status": ("!=", "done")}, order_by="key", limit=2):
        ...     print(info.key, info.fields)
        agent:chat {}
        agent:main {'status': 'new', 'turns': 1}
        """
        within = bounds(updated_since, updated_before, larger_than)
        query = parse(prefix, where, order_by, limit, offset, within, after, fields)
        with typed_errors("listing"):
            found = self._engine.select(query, **self._how_to_list())
            if not found:
                self._warn_of_unknown_fields("where", [condition.field for condition in query.conditions])
            elif not query.by_column and not has_place(found[0]):  # sessions without the field come last
                self._warn_of_unknown_fields("order_by", [query.order])
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
        """Count the sessions that `list` would return; `len(store)` counts all.

        Arguments, warnings and errors are those of `list`.

        >>> store.count("agent:"), store.count(where={"status": "new"})
        (2, 1)
        """
        query = parse(prefix, where, bounds=bounds(updated_since, updated_before, larger_than))
        with typed_errors("counting"):
            found = self._engine.count(query, **self._how_to_list())
            if not found:
                self._warn_of_unknown_fields("where", [condition.field for condition in query.conditions])
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

    def _warn_of_unknown_fields(self, argument: str, names: Iterable[str]) -> None:
        """Warn of each named field that no session has: once a field and process."""
        engine = self._engine
        for name in names:
            field = (self.location, name)
            if field in _looked_up:
                continue
            having = Query(conditions=(Condition(name, "exists", True),), limit=1)
            if engine.select(having, **self._how_to_list()):
                _looked_up.add(field)
            elif engine.count(Query(), **self._how_to_list()):
                _looked_up.add(field)
                warn_caller(UnknownField(f"{argument}: no session in this store has a field {name!r}"))
