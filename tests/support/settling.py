"""From how many bytes on the items of a log move out of the journal: fewer here, so that a short run settles often."""

from __future__ import annotations

from shardstore._files import locked, transaction


def settle_at(size: int) -> None:
    """Set the limit, for this process and those forked from it."""
    transaction.SETTLE_BYTES = locked.SETTLE_BYTES = size


def limit() -> int:
    """Return the limit."""
    assert transaction.SETTLE_BYTES == locked.SETTLE_BYTES
    return transaction.SETTLE_BYTES
