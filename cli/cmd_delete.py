"""`shardstore delete`: remove sessions by key."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from . import exits, output, show
from .options import ExpectOption, complete_key, plain_app
from .writing import Writing, writes

if TYPE_CHECKING:
    from shardstore import Store

app = plain_app()
_AGAIN = "run it again for the rest; it then reports the sessions that are deleted already as missing"


@app.command()
@writes
def delete(
    to: Writing,
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
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the sessions that would be deleted; delete nothing.")
    ] = False,
) -> None:
    """Delete sessions for good. If one is missing, the others are deleted and the exit code is 3.

    With --prefix it counts the sessions and asks before it deletes them.

    To remove many by age, number, size or status, use `prune`, which keeps them in archive/.
    """
    named = keys or []
    _refuse_misuse(to.ctx, named, prefix, expect)
    if prefix is not None:
        with to.open(create=False) as opened:
            return _delete_all(opened, prefix, yes=yes, dry_run=dry_run, as_json=to.json)
    there: dict[str, bool] = {}
    with (
        exits.interruptible(_AGAIN, lambda: f"{len(there):,} of {show.count(len(named), 'session')} done"),
        to.open(create=False) as opened,
    ):
        for key in named:
            there[key] = _delete(opened, key, expect, dry_run=dry_run)
    return _report(there, dry_run=dry_run, as_json=to.json)


def _refuse_misuse(ctx: typer.Context, keys: list[str], prefix: str | None, expect: str | None) -> None:
    """Exit 2 for arguments that exclude each other, and where nothing is named."""
    if prefix is not None and (keys or expect is not None or not prefix):
        message = "takes a text that is not empty, and neither KEY nor --expect beside it"
        raise typer.BadParameter(message, ctx=ctx, param_hint="--prefix")
    if prefix is None and not keys:
        message = "give KEY or --prefix"
        raise typer.BadParameter(message, ctx=ctx, param_hint="KEY")
    if expect is not None and len(keys) > 1:
        message = "belongs to one session; give one KEY"
        raise typer.BadParameter(message, ctx=ctx, param_hint="--expect")


def _report(there: dict[str, bool], *, dry_run: bool, as_json: bool) -> None:
    """Print the deleted keys; exit 3 if one was not there."""
    deleted, missing = [key for key in there if there[key]], [key for key in there if not there[key]]
    if as_json:
        output.json_object({"dry_run": dry_run, "deleted": deleted, "missing": missing})
    for key in deleted if not as_json else ():
        output.line(f"{'would delete' if dry_run else 'deleted'} {show.text(key)} for good")
    if missing:
        names = ", ".join(show.quoted(key) for key in missing)
        raise exits.CommandError(f"no session {names}", code=exits.NO_SESSION)


def _delete_all(store: Store, prefix: str, *, yes: bool, dry_run: bool, as_json: bool) -> None:
    """Delete the sessions of a prefix, once a person or --yes confirmed it."""
    found = store.count(prefix)
    named = f"{show.count(found, 'session')} whose keys begin with {show.text(prefix)}"
    if found and not (yes or dry_run or _is_confirmed(f"delete {named} for good?")):
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


def _is_confirmed(question: str) -> bool:
    """Ask a person; without a terminal the answer is no."""
    if not sys.stdin.isatty():
        output.message(question.replace("?", ": no terminal to ask on"))
        return False
    return typer.confirm(question, err=True)


def _delete(store: Store, key: str, expect: str | None, *, dry_run: bool) -> bool:
    """Delete one session; return whether it was there. A dry run raises Conflict as the real one does."""
    if not dry_run:
        return store.delete(key, expect=expect)
    session = store.get(key)
    if expect is not None and (session is None or session.version != expect):
        from shardstore.errors import Conflict

        raise Conflict(key, expect, session.version if session else None)
    return session is not None
