"""`shardstore restore`: bring back a session that prune archived."""

from __future__ import annotations

import typer

from . import exits, receipts, show
from .options import (
    ActorOption,
    JsonOption,
    KeyArgument,
    StoreOption,
    TimeoutOption,
    open_for_writing,
    plain_app,
)

app = plain_app()


@app.command()
def restore(
    ctx: typer.Context,
    key: KeyArgument,
    store: StoreOption = None,
    lock_timeout: TimeoutOption = "10",
    actor: ActorOption = None,
    json: JsonOption = False,
) -> None:
    """Bring back the session that was archived.

    The one archived last under this key.

    Exit code 3 when there is none in archive/, 4 when a session of this key is there already.
    """
    with (
        receipts.interruptible(key),
        open_for_writing(ctx, store, lock_timeout=lock_timeout, actor=actor, create=False) as opened,
    ):
        from shardstore.errors import SessionNotFound

        try:
            session = opened.archive.restore(key)
        except SessionNotFound:
            raise exits.CommandError(
                f"nothing is archived under {show.text(key)}",
                "`shardstore archive list` shows what is; what `delete` took away is gone",
                code=exits.NO_SESSION,
            ) from None
    receipts.restored(session, as_json=json)
