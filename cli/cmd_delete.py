"""`shardstore delete`: remove sessions by key."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from . import exits, output, show
from .options import (
    ActorOption,
    ExpectOption,
    JsonOption,
    StoreOption,
    TimeoutOption,
    complete_key,
    open_for_writing,
    plain_app,
)

if TYPE_CHECKING:
    from shardstore import Store

app = plain_app()
_AGAIN = "run it again for the rest; it says of those already deleted that there are none"


@app.command()
def delete(
    ctx: typer.Context,
    keys: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY", help="Keys of the sessions.", autocompletion=complete_key, show_default=False),
    ] = None,
    prefix: Annotated[
        str | None,
        typer.Option("--prefix", metavar="TEXT", help="Every session whose key begins with this; asks, unless --yes."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="With --prefix: do not ask.")] = False,
    expect: ExpectOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be deleted; delete nothing.")] = False,
    store: StoreOption = None,
    lock_timeout: TimeoutOption = "10",
    actor: ActorOption = None,
    json: JsonOption = False,
) -> None:
    """Delete sessions for good. If one is missing, the others are deleted and the exit code is 3.

    With --prefix it counts the sessions and asks before it deletes them.

    To remove many by age, number, size or status, use `prune`, which keeps them in archive/.
    """
    if prefix is not None:
        if keys or expect is not None or not prefix:
            message = "takes a text that is not empty, and neither KEY nor --expect beside it"
            raise typer.BadParameter(message, ctx=ctx, param_hint="--prefix")
        with open_for_writing(ctx, store, lock_timeout=lock_timeout, actor=actor, create=False) as opened:
            return _delete_all(opened, prefix, yes=yes, dry_run=dry_run, as_json=json)
    if not keys:
        message = "give KEY or --prefix"
        raise typer.BadParameter(message, ctx=ctx, param_hint="KEY")
    if expect is not None and len(keys) > 1:
        message = "belongs to one session; give one KEY"
        raise typer.BadParameter(message, ctx=ctx, param_hint="--expect")
    there: dict[str, bool] = {}
    with (
        exits.interruptible(_AGAIN, lambda: f"{len(there):,} of {show.count(len(keys), 'session')} done"),
        open_for_writing(ctx, store, lock_timeout=lock_timeout, actor=actor, create=False) as opened,
    ):
        for key in keys:
            there[key] = _delete(opened, key, expect, dry_run=dry_run)
    deleted, missing = [key for key in there if there[key]], [key for key in there if not there[key]]
    if json:
        output.json_object({"dry_run": dry_run, "deleted": deleted, "missing": missing})
    for key in deleted if not json else ():
        output.line(f"{'would delete' if dry_run else 'deleted'} {show.text(key)} for good")
    if missing:
        raise exits.CommandError(
            f"no session {', '.join(repr(show.text(key)) for key in missing)}", code=exits.NO_SESSION
        )
    return None


def _delete_all(store: Store, prefix: str, *, yes: bool, dry_run: bool, as_json: bool) -> None:
    """Delete the sessions of a prefix, once that was said to be meant."""
    found = store.count(prefix)
    named = f"{show.count(found, 'session')} whose keys begin with {show.text(prefix)}"
    if found and not (yes or dry_run or _is_meant(f"delete {named} for good?")):
        raise exits.CommandError("nothing was deleted", "--yes deletes without asking")
    deleted = 0
    if not dry_run:
        with exits.interruptible("run it again for the rest; each session is deleted whole or not at all"):
            deleted = store.delete_all(prefix)
    if as_json:
        output.json_object({"dry_run": dry_run, "prefix": prefix, "found": found, "deleted": deleted})
    elif dry_run:
        output.line(f"would delete {named} for good")
    else:
        output.line(f"deleted {show.count(deleted, 'session')} for good")


def _is_meant(question: str) -> bool:
    """Ask a person; where nobody is there to answer, the answer is no."""
    if not sys.stdin.isatty():
        output.message(question.replace("?", ": nobody is there to say yes"))
        return False
    return typer.confirm(question, err=True)


def _delete(store: Store, key: str, expect: str | None, *, dry_run: bool) -> bool:
    """Delete one session; say whether it was there. A dry run refuses what the real one would."""
    if not dry_run:
        return store.delete(key, expect=expect)
    session = store.get(key)
    if expect is not None and (session is None or session.version != expect):
        from shardstore.errors import Conflict

        raise Conflict(key, expect, session.version if session else None)
    return session is not None
