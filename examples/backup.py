"""A backup of a live store into another one: first all sessions, then those that changed since.

Each session is copied as one commit left it, fields and log together, while writers go on. The backup is a store like
any other: open it to look, or copy sessions back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shardstore import LogReplaced, Store, WatchExpired

if TYPE_CHECKING:
    from shardstore import Draft, Session

STATE = "backup:state"  # a session of the backup: how far it goes


def back_up(store: Store, backup: Store) -> int:
    """Copy the sessions that changed since the last call; return how many were copied or removed.

    The token is taken before anything is read. So the next call copies a session that changes meanwhile.
    """
    state = backup.get_or_create(STATE, {"token": None})
    token = store.token()
    copied = sum(_one(store, backup, key) for key in _changed(store, backup, state["token"]))
    backup.patch(STATE, {"token": token})  # not before all of it is copied
    return copied


def _changed(store: Store, backup: Store, since: str | None) -> set[str]:
    """Return the keys of the sessions that changed since a token; all keys without a token, or if it expired."""
    if since is not None:
        try:
            return {change.key for change in store.watch(since=since, timeout=0)}
        except WatchExpired:  # the index was rebuilt meanwhile
            pass
    return {*store, *backup} - {STATE}


def _one(store: Store, backup: Store, key: str) -> bool:
    """Copy a session, or remove it where it is gone; return whether anything was done."""
    while True:
        session = store.get(key)
        if session is None:
            return backup.delete(key)
        try:
            return _copy(session, backup)
        except LogReplaced:  # it was rewound or compacted while we read it
            continue


def _copy(session: Session, backup: Store) -> bool:
    values, ids = session.log[:], session.log.ids()

    def write(draft: Draft) -> dict[str, Any]:
        if draft.log.ids() != ids or draft.log[:] != values:
            draft.log.clear()
            for value, name in zip(values, ids, strict=True):
                draft.log.append(value, name)
        return session.data

    before = backup.get(session.key)
    return backup.update(session.key, write) != before


if __name__ == "__main__":
    with Store("sessions") as store, Store("backup") as backup:
        print(back_up(store, backup), "sessions copied")
