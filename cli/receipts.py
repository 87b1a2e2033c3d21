"""What the commands that write say when they have written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import output, show

if TYPE_CHECKING:
    from shardstore import Session


def written(session: Session, *, as_json: bool) -> None:
    """Tell which revision the session has now; its version is what --expect takes."""
    if as_json:
        output.json_object({"key": session.key, "rev": session.rev, "version": session.version})
    else:
        output.message(f"{show.text(session.key)}: revision {session.rev}, version {session.version}")
