"""The messages of writing commands: created, changed, restored, nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import exits, output, show

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from shardstore import Session, Store


def interruptible(key: str) -> AbstractContextManager[None]:
    """Turn Ctrl-C in a write into an error that names the history: the commit may be made already."""
    return exits.interruptible(f"`shardstore history {show.text(key)}` shows whether the change was made")


def before(store: Store, key: str) -> Session | None:
    """Return the session as it is before a write; None too where its directory is gone: the write may make it again.

    A write that may create nothing raises StoreIncomplete by itself.
    """
    from shardstore import StoreIncomplete

    try:
        return store.get(key)
    except StoreIncomplete:
        return None


def written(session: Session, before: Session | None, *, as_json: bool) -> None:
    """Print the outcome of a write, with the version for --expect. `before`: the session as read before the write.

    A new session stands in capitals: a mistyped key makes one, too.
    """
    created = before is None and session.rev == 1
    if as_json:
        fields = {"key": session.key, "rev": session.rev, "version": session.version}
        return output.json_object({**fields, "created": created, "changed": _changed(session, before)})
    done = "CREATED, a new session" if created else f"revision {session.rev}"
    unchanged = "" if _changed(session, before) else " (nothing changed)"
    return output.message(f"{show.text(session.key)}: {done}{unchanged}, version {session.version}")


def nothing(key: str, session: Session | None, *, as_json: bool) -> None:
    """Print that no item came, so that nothing was changed or made. `session`: None where there is none."""
    if as_json:
        rev, version = (0, "absent") if session is None else (session.rev, session.version)
        given = {"key": key, "rev": rev, "version": version, "created": False, "changed": False}
        return output.json_object(given)
    return output.message(f"{show.text(key)}: no item came from stdin; nothing was changed")


def restored(session: Session, *, as_json: bool) -> None:
    """Print that a session is back."""
    if as_json:
        return output.json_object({"key": session.key, "rev": session.rev, "version": session.version})
    return output.message(f"{show.text(session.key)}: restored at revision {session.rev}, version {session.version}")


def _changed(session: Session, before: Session | None) -> bool:
    return before is None or before.version != session.version
