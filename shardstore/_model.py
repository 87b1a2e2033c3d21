"""The values that every engine shares: the state of a session, and a change to it.

Nothing here does I/O. A state is immutable, so readers, drafts and snapshots share it.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from shardstore._log import NO_LOG, LogChange, LogState

DAY_US: Final = 86_400_000_000
TIME_MAX_US: Final = 253_402_300_800_000_000  # the year 10000
REV_MAX: Final = 2**53 - 1  # JavaScript and jq read larger numbers inexactly
NEVER_WAS: Final = "absent"  # the version of a session that was never made
UNKNOWN: Final = "?"  # in place of a version, for watchers: it could not be read
DELETED: Final = "~"  # in front of a version, for watchers: the session was deleted
UNSEEN: Final = "-"  # in place of a version, for watchers: nothing that they see changes


class State(NamedTuple):
    """The committed state of one session. Immutable."""

    fields: dict[str, bytes] | None = None  # raw JSON by field, in order; None: no such session. Never mutated.
    key: str | None = None
    rev: int = 0
    incarnation: str = ""
    tag: str = ""  # the crc of this revision's record as it was first committed
    created_at: int = 0  # microseconds since the epoch, like updated_at
    updated_at: int = 0
    actor: str = ""
    entry_bytes: int = 0  # of the fields as members of a JSON object, each with a comma; without the braces
    log: LogState = NO_LOG

    @property
    def exists(self) -> bool:
        """Whether there is a session: neither never made nor deleted."""
        return self.fields is not None

    @property
    def version(self) -> str:
        """Name this content: no other content of any session with this key ever has the same version."""
        return f"{self.incarnation}.{self.rev}-{self.tag}" if self.rev else NEVER_WAS

    @property
    def size(self) -> int:
        """Bytes of the entry as compact JSON."""
        return self.entry_bytes + 1 if self.entry_bytes else 2

    @property
    def log_length(self) -> int:
        """How many items the log has."""
        return self.log.length


ABSENT: Final = State()


def seen_of(state: State) -> str:
    """Return what a watcher has seen of a session, as a text that differs where a watcher sees a difference."""
    return state.version if state.exists or not state.rev else f"{DELETED}{state.version}"


class Seen(NamedTuple):
    """A session that a watcher sees to be another than before."""

    key: str
    before: str  # what was seen of it before, as by `seen_of`, or UNKNOWN
    state: State


class Change(NamedTuple):
    """The change of one commit to an entry: the same value whether it was read or is about to be written."""

    changed: dict[str, bytes]  # raw JSON by field; never mutated
    removed: list[str]
    whole: bool = False  # `changed` is the whole entry
    delete: bool = False
    log: LogChange | None = None


newest_commit: Final = [0]  # microseconds since the epoch: the newest time that this process gave to a commit


def order_time(now: int, last: int) -> int:
    """Return the time of a commit where the clock did not advance since the last one, of this process or session.

    now: the clock, in microseconds since the epoch; last: the time of the session's last commit.

    The times of one process' commits rise, and so do those of one session, whatever the clock does. But a time that
    lies more than a day ahead of the clock came from a wrong clock: it does not hold later commits in the future.
    """
    newest_commit[0] = now = _after(newest_commit[0], now)
    return _after(last, now)


def _after(earlier: int, now: int) -> int:
    return earlier + 1 if earlier - DAY_US <= now <= earlier else now
