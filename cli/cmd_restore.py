"""`shardstore restore`: bring back sessions that prune archived."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from . import exits, output, parse, receipts, show
from .options import complete_key, plain_app
from .writing import Writing, writes

if TYPE_CHECKING:
    from datetime import datetime

    from shardstore import Session, Store

app = plain_app()


@app.command()
@writes
def restore(
    to: Writing,
    key: Annotated[
        str | None,
        typer.Argument(metavar="KEY", help="Key of the session.", autocompletion=complete_key, show_default=False),
    ] = None,
    prefix: Annotated[
        str | None, typer.Option("--prefix", metavar="TEXT", help="Every archived session whose key begins with this.")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="TIME", help="Every session archived then or later: ISO 8601, or an age."),
    ] = None,
) -> None:
    """Bring back an archived session.

    It takes the newest archived file of KEY. With --prefix, --since or both, it takes the newest one of each key.

    Exit code 3 if archive/ has none, 4 if the store has a session with this key. With --prefix or --since, such
    sessions stay as they are and are named.
    """
    several = prefix is not None or since is not None
    if several == (key is not None):
        message = "give either KEY, or --prefix, --since or both"
        raise typer.BadParameter(message, ctx=to.ctx, param_hint="KEY")
    moment = None if since is None else parse.moment(since, "--since")
    with to.open(create=False) as opened:
        if key is None:
            return _restore_many(opened, prefix, moment, as_json=to.json)
        with receipts.interruptible(key):
            session = _restore(opened, key)
    return receipts.restored(session, as_json=to.json)


def _restore(store: Store, key: str) -> Session:
    from shardstore.errors import SessionNotFound

    try:
        return store.archive.restore(key)
    except SessionNotFound:
        raise exits.CommandError(
            f"nothing is archived under {show.text(key)}",
            "`shardstore archive list` shows the archived sessions; `delete` keeps no copy",
            code=exits.NO_SESSION,
        ) from None


def _restore_many(store: Store, prefix: str | None, since: datetime | None, *, as_json: bool) -> None:
    with exits.interruptible("each session is restored whole or not at all; run it again for the rest"):
        report = store.archive.restore_many(prefix, since)
    if as_json:
        skipped = [{"key": one.key, "why": one.why, "failed": one.failed} for one in report.skipped]
        output.json_object({"restored": list(report.restored), "skipped": skipped, "ok": report.ok})
    else:
        output.line(f"restored {show.count(len(report.restored), 'session')}")
        for one in report.skipped:
            output.message(f"skipped {show.text(one.key or '')}: {show.text(one.why)}")
    if not report.ok:
        failed = show.count(sum(one.failed for one in report.skipped), "session")
        raise exits.CommandError(f"{failed} could not be restored", "their files stay in archive/; run it again")
