"""`shardstore history`: the revisions of a session, as far as its journal keeps them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from . import changes, output, show, tables
from .cmd_get import describe
from .options import JsonOption, KeyArgument, StoreOption, open_existing, plain_app

if TYPE_CHECKING:
    from shardstore import Session

app = plain_app()
_FIELDS_SHOWN = 6


@app.command()
def history(ctx: typer.Context, key: KeyArgument, store: StoreOption = None, json: JsonOption = False) -> None:
    """List a session's revisions: when, by whom, which fields.

    The oldest comes first, as far back as the session's file goes. --json prints every revision whole, in `data`.
    `inspect KEY --history` shows the values that changed.
    """
    with open_existing(ctx, store) as opened:
        revisions = opened.history(key) or [opened[key]]
    if json:
        rows = ({**describe(session), "data": session.data} for session in revisions)
        return output.json_rows("revisions", rows, key=key)
    columns = (
        tables.Column("rev", right=True, lead=True),
        tables.Column("time"),
        tables.Column("by", fold=True),
        tables.Column("changed", fold=True),
    )
    return output.table(columns, [_row(session, changed) for session, changed in changes.steps(revisions)])


def _row(session: Session, changed: list[changes.Change]) -> tuple[str, ...]:
    """Show a revision: `+` added, `-` removed, the bare name changed."""
    mark = {"added": "+", "removed": "-", "changed": ""}
    names = [mark[change.kind] + show.text(change.field) for change in changed]
    if len(names) > _FIELDS_SHOWN:
        names[_FIELDS_SHOWN:] = [f"and {len(names) - _FIELDS_SHOWN} more"]
    return str(session.rev), show.time(session.updated_at), show.text(session.actor), ", ".join(names)
