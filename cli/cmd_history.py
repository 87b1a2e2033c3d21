"""`shardstore history`: list the revisions of a session, as far as its journal keeps them."""

from __future__ import annotations

import typer

from . import changes, output, show, tables
from .cmd_get import describe
from .options import JsonOption, KeyArgument, StoreOption, open_existing, plain_app

app = plain_app()
_FIELDS_SHOWN = 6


@app.command()
def history(ctx: typer.Context, key: KeyArgument, store: StoreOption = None, json: JsonOption = False) -> None:
    """List a session's revisions with their changes.

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
        tables.Column("actor", fold=True),
        tables.Column("changed", fold=True),
    )
    return output.table(columns, [_row(step) for step in changes.steps(revisions)])


def _row(step: changes.Step) -> tuple[str, ...]:
    """Show a revision: `+` added, `-` removed, the bare name changed; last, in brackets, the change of the log."""
    mark = {"added": "+", "removed": "-", "changed": ""}
    names = [mark[change.kind] + show.text(change.field) for change in step.changes]
    if len(names) > _FIELDS_SHOWN:
        names[_FIELDS_SHOWN:] = [f"and {len(names) - _FIELDS_SHOWN} more"]
    if step.log is not None:
        names.append(f"[log: {step.log.as_text()}]")
    session = step.session
    return str(session.rev), show.time(session.updated_at), show.text(session.actor), ", ".join(names)
