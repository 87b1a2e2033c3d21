"""A journal as a value: from the bytes of a shard to the state of its session, and what is wrong with them.

Nothing here touches a file. A state is the last `put` and the changes after it; bytes that are not a record are
either a torn tail (a commit that a death or a power cut left unfinished: never acknowledged, stepped over) or damage.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from shardstore import _codec as codec
from shardstore._journal import record
from shardstore._journal import torn as tear

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shardstore._journal.record import Record

_PLAIN_MEMBERS = 5  # crc, rev, at, by, set


class State(NamedTuple):
    """What a journal says of its session, up to byte `end`. Immutable: shared by readers, drafts and snapshots."""

    fields: dict[str, bytes] | None = None  # raw JSON by field, in order; None: no such session. Never mutated.
    key: str | None = None
    rev: int = 0
    incarnation: str = ""
    created_at: int = 0  # milliseconds since the epoch, like updated_at
    updated_at: int = 0
    by: str = ""
    end: int = 0  # logical end of the journal in bytes; whatever lies behind it is room
    records: int = 0  # in this file
    live: int = 0  # bytes of the entry's fields as JSON, braces aside

    @property
    def exists(self) -> bool:
        """Whether there is a session: neither never made nor deleted."""
        return self.fields is not None

    @property
    def version(self) -> str:
        """Name this state of this incarnation; no other state of any session with this key ever has the same."""
        return f"{self.incarnation}.{self.rev}"

    @property
    def size(self) -> int:
        """Bytes of the entry as compact JSON."""
        return self.live + 1 if self.live else 2


ABSENT = State()


class Damage(NamedTuple):
    """Why a journal cannot be read past a byte."""

    offset: int
    reason: str


class Replay(NamedTuple):
    """The outcome of reading a journal: the state, and whatever unreadable bytes follow it."""

    state: State
    tail: bytes = b""  # torn: to be kept in quarantine and turned into room by the next writer
    damage: Damage | None = None


def field_size(name: str, raw: bytes) -> int:
    """Bytes a field takes in the entry's JSON: its name, a colon, its value and a comma."""
    return len(codec.member(name)) + len(raw) + 1


class Change(NamedTuple):
    """What one commit does to an entry: the same thing whether it was read or is about to be written."""

    changed: dict[str, bytes]  # raw JSON by field; never mutated
    removed: list[str]
    whole: bool = False  # `changed` is the whole entry
    delete: bool = False


def set_fields(fields: dict[str, bytes], changed: dict[str, bytes]) -> int:
    """Give fields new values, in place; return by how many bytes the entry grew."""
    grown = 0
    for name, raw in changed.items():
        before = fields.get(name)
        grown += field_size(name, raw) if before is None else len(raw) - len(before)
        fields[name] = raw
    return grown


_state = tuple.__new__  # a commit makes one State; this is half the price of calling the class


def advance(  # noqa: PLR0913  # what a record says beside its change
    state: State, change: Change, key: str | None, length: int, rev: int, at: int, by: str,
    incarnation: str, created_at: int,
) -> State:  # fmt: skip
    """Return the state after one more record of `length` bytes."""
    if change.delete:
        fields, live = None, 0
    elif change.whole or state.fields is None:
        fields, live = change.changed, sum([field_size(name, raw) for name, raw in change.changed.items()])
    else:
        fields, live = state.fields.copy(), state.live
        for name in change.removed:
            before = fields.pop(name, None)
            if before is not None:
                live -= field_size(name, before)
        live += set_fields(fields, change.changed)
    return _state(
        State, (fields, key, rev, incarnation, created_at, at, by, state.end + length, state.records + 1, live)
    )


def make_record(  # noqa: PLR0913  # what a record says
    state: State, change: Change, key: str, by: str, at: int | None = None, *, durable: bool
) -> tuple[bytes, State]:
    """Make the line that takes `state` through `change`, and the state after it. `at`: if not now, but earlier."""
    now = time.time_ns() // 1_000_000
    at = now if at is None or at > now else at
    at = max(at, state.updated_at)  # the clock may go back, a journal never does
    if state.fields is None:
        rev, incarnation, created = 1, os.urandom(12).hex(), at
        body = record.head(incarnation, key) + record.put_body(change.changed)
    else:
        rev, incarnation, created = state.rev + 1, state.incarnation, state.created_at
        if change.delete:
            body = record.DELETE_BODY
        elif change.whole:
            body = record.put_body(change.changed)
        else:
            body = record.change_body(change.changed, change.removed)
    line = record.line(rev, at, by, body, durable=durable)
    return line, advance(state, change, key, len(line), rev, at, by, incarnation, created)


def apply(state: State, entry: Record, length: int) -> State | str:
    """Return the state after one more record of `length` bytes that was read, or why it cannot follow."""
    key, incarnation, created = state.key, state.incarnation, state.created_at
    if entry.id is None:
        if state.fields is None:
            return f"revision {entry.rev} of a session that does not exist at this point"
        if entry.rev != state.rev + 1:
            return f"revision {entry.rev} follows revision {state.rev}"
    elif state.fields is not None or (entry.rev != 1 and state.records):
        return f"a journal begins again with revision {entry.rev}"
    elif key is not None and entry.key != key:
        return f"the key changes to {entry.key!r}"
    else:
        key, incarnation = entry.key, entry.id
        created = entry.at if entry.created is None else entry.created
    if entry.at < state.updated_at:
        return "time goes back"
    return advance(state, change_of(entry), key, length, entry.rev, entry.at, entry.by, incarnation, created)


def change_of(entry: Record) -> Change:
    """Give the change that a record was made of."""
    given = entry.put if entry.put is not None else entry.set or {}
    raw = {name: codec.dumps(value) for name, value in given.items()}
    return Change(raw, entry.unset or [], entry.put is not None, entry.delete)


def states(data: bytes, state: State = ABSENT) -> Iterator[State | Damage]:
    """Yield the state after each record of `data`, which begins where `state` ends; at last maybe a Damage.

    Stops at the first byte that is not part of a whole record that can follow, and says why unless only
    blank lines are left there.
    """
    start = 0
    while start < len(data):
        stop = data.find(b"\n", start)
        if stop == start:
            if data.count(b"\n", start) < len(data) - start:
                yield Damage(state.end, "more follows the room at the end")
            return
        if stop < 0:
            yield Damage(state.end, "the last line is not finished")
            return
        entry = record.parse(data[start:stop])
        after = entry if isinstance(entry, str) else apply(state, entry, stop + 1 - start)
        if isinstance(after, str):
            yield Damage(state.end, after)
            return
        state = after
        start = stop + 1
        yield state


def _follow(data: bytes, state: State) -> State:
    """Apply the plain changes that `data` begins with, and return the state after the last of them.

    Plain: an intact line that follows, and sets fields and nothing else; anything else is left to `states`, which
    is several times slower. This is what a writer does inside the lock with the commits of all others, so there is one
    new state for all of them, and of a field that many of them set only the last value is encoded.
    """
    if state.fields is None:
        return state
    stop = data.find(b"\n\n")
    texts = data[: stop if stop >= 0 else max(0, data.rfind(b"\n"))].split(b"\n")
    rev, at, by, changed, records = state.rev, state.updated_at, state.by, dict[str, Any](), 0
    for text in texts:
        if not record.intact(text):
            break
        try:
            entry = codec.loads(text)
        except codec.JSONDecodeError:
            break
        if not (_is_plain(entry) and entry["rev"] == rev + 1 and entry["at"] >= at):
            break
        rev, at, by = rev + 1, entry["at"], entry["by"]
        changed.update(entry["set"])
        records += 1
    if not records:
        return state
    fields = state.fields.copy()
    live = state.live + set_fields(fields, {name: codec.dumps(value) for name, value in changed.items()})
    end = state.end + sum(map(len, texts[:records])) + records
    return State(
        fields, state.key, rev, state.incarnation, state.created_at, at, by, end, state.records + records, live
    )


def _is_plain(entry: Any) -> bool:
    """Tell whether an intact line sets fields and does nothing else."""
    try:
        return (
            type(entry["set"]) is dict
            and type(entry["rev"]) is int
            and type(entry["at"]) is int
            and type(entry["by"]) is str
            and len(entry) == _PLAIN_MEMBERS + (entry.get("durable") is True)
        )
    except (KeyError, TypeError):
        return False


def replay(data: bytes, state: State = ABSENT) -> Replay:
    """Read a journal, or what was added to one since `state`, and judge what cannot be read."""
    base, problem = state.end, None
    if state.fields is None:  # what a journal begins with is not plain
        state = next((step for step in states(data[: data.find(b"\n") + 1], state) if isinstance(step, State)), state)
    state = _follow(data[state.end - base :], state)
    for step in states(data[state.end - base :], state):
        if isinstance(step, State):
            state = step
        else:
            problem = step
    if problem is None:
        return Replay(state)
    tail = data[state.end - base :]
    reason = tear.judge(tail, state.end, first=state.records == 0)
    if reason is None:
        return Replay(state, tail=tail)
    return Replay(state, damage=Damage(state.end, reason or problem.reason))


def salvage(data: bytes, incarnation: str) -> State | None:
    """Apply every intact record of a damaged journal in its order; None where there is none.

    The result is a new incarnation: it may be a content that no version ever had.
    """
    state = None
    for text in data.split(b"\n"):
        entry = record.parse(text)
        if isinstance(entry, str):
            continue
        before = ABSENT if state is None else state
        state = advance(
            before, change_of(entry), entry.key or before.key, 0, max(before.rev, entry.rev) + 1,
            max(before.updated_at, entry.at), entry.by, incarnation,
            entry.created or before.created_at or entry.at,
        )  # fmt: skip
    return state
