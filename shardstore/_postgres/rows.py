"""From a state to its session's row."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shardstore._row import Projection

if TYPE_CHECKING:
    from shardstore._postgres.known import Known, Slot
    from shardstore._postgres.schema import Store
    from shardstore._postgres.values import Value


class Rows:
    """The rows of one store, as its settings say now."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._projection = Projection(store.indexed)

    def facts(self, known: Known) -> list[Value]:
        """Return the values $4 to $19 of a commit."""
        state, log = known.state, known.state.log
        entry = state.fields
        fields, cut, hidden = (b"{}", None, None) if entry is None else self._projection.held(entry, state.size)
        keys = () if entry is None else self._projection.columns(entry)
        settled = log.settled
        return [
            state.version, entry is not None, state.rev, state.created_at, state.updated_at, state.size,
            state.log_length, known.journal.end, state.size + log.bytes + settled.end if entry is not None else 0,
            bytes.fromhex(settled.file) if settled.file else None, settled.end, fields, cut, hidden, keys,
            self.store.generation,
        ]  # fmt: skip

    def commit(self, slot: Slot, known: Known, line: bytes, *, durable: bool) -> list[Value]:
        """Return the values of the statement that commits a line."""
        return [slot.id, known.n, line, *self.facts(known), durable]
