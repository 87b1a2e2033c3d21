"""`shardstore get`: print a session's entry, or one field of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import exits, output, parse, show
from .options import JsonOption, KeyArgument, StoreOption, open_existing, plain_app

if TYPE_CHECKING:
    from shardstore import Session

app = plain_app()


@app.command()
def get(
    ctx: typer.Context,
    key: KeyArgument,
    field: Annotated[
        str | None, typer.Argument(metavar="FIELD", help="Print only this field.", show_default=False)
    ] = None,
    rev: Annotated[
        str | None, typer.Option("--rev", metavar="N", help="Print this revision, if the history still has it.")
    ] = None,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Print a session's entry as JSON, or one field of it.

    With --json the entry is in `data`, beside the revision and the version (for `set --expect`).
    """
    number = None if rev is None else parse.number(rev, "--rev")
    with open_existing(ctx, store) as opened:
        session = opened.get(key, rev=number) or opened[key]
    if field is not None and field not in session.data:
        names = ", ".join(map(show.text, session.data)) or "none"
        raise exits.CommandError(
            f"session {show.quoted(key)} has no field {show.quoted(field)}", f"its fields: {names}"
        )
    data = session.data if field is None else session.data[field]
    if json:
        output.json_object({**describe(session), "data": data})
    else:
        output.json_value(data)


def describe(session: Session) -> dict[str, Any]:
    """Return the facts about a session beside its entry, for JSON."""
    return {
        "key": session.key,
        "rev": session.rev,
        "version": session.version,
        "created_at": show.iso(session.created_at),
        "updated_at": show.iso(session.updated_at),
        "actor": session.actor,
        "log_length": len(session.log),
    }
