"""`shardstore reindex`: choose the fields that have an index."""

from __future__ import annotations

from typing import Annotated

import typer

from . import exits, output, show
from .options import JsonOption, StoreOption, open_existing, plain_app

app = plain_app()


@app.command()
def reindex(
    ctx: typer.Context,
    fields: Annotated[
        list[str] | None, typer.Argument(metavar="FIELD", help="Names of the fields.", show_default=False)
    ] = None,
    none: Annotated[bool, typer.Option("--none", help="Index no field.")] = False,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Index these fields instead of the present ones.

    Filtering and sorting by an indexed field costs as much as the rows it prints. The command reads every session once,
    beside running writers. Processes that have the store open use the new fields by themselves.
    """
    names = fields or []
    if bool(names) == none:
        raise exits.CommandError("name the fields to be indexed, or --none", code=exits.USAGE)
    with open_existing(ctx, store) as opened:
        opened.reindex(names)
    if json:
        return output.json_object({"indexed": names})
    return output.message(f"indexed: {', '.join(map(show.text, names)) or 'no field'}")
