"""One line of a journal: written here, checked and read here (docs/internals/format.md has it byte for byte).

    {"crc":"9f1c2a3b","rev":1,"at":1763800000123456,"by":"4711","durable":true,"id":"6b0c…","key":"…","put":{…}}

`crc` is the CRC-32 of every byte after `{"crc":"9f1c2a3b",` up to and including the closing brace.
"""

from __future__ import annotations

import os
import time
from functools import lru_cache
from typing import Any, Final
from zlib import crc32

from shardstore import _codec as codec
from shardstore._journal.log import MEMBERS, change_members, is_change, stamped, whole_member
from shardstore._log import ITEM_OVERHEAD, NO_LOG, Item, LogChange, LogState, applied
from shardstore._model import REV_MAX, TIME_MAX_US, Change, State, newest_commit, order_time
from shardstore.errors import InvalidEntry

PREFIX: Final = b'{"crc":"'
BODY: Final = len(b'{"crc":"9f1c2a3b",')
_HEX: Final = frozenset("0123456789abcdef")
_TAG_DIGITS: Final = 8

_quoted = lru_cache(maxsize=256)(codec.kept)  # an actor writes its name again and again
_new = tuple.__new__  # a commit makes one State; this is half the price of calling the class


def field_size(name: str, raw: bytes) -> int:
    """Return the bytes that a field takes in the entry's JSON: its name, a colon, its value and a comma."""
    return len(codec.member(name)) + len(raw) + 1


def entry_bytes(fields: dict[str, bytes]) -> int:
    """Return what `field_size` says of all fields together."""
    return sum(map(len, fields.values())) + sum(map(len, map(codec.member, fields))) + len(fields)


def next_record(  # noqa: PLR0913  # what a record says
    state: State, change: Change, key: str, actor: str, *, durable: bool, at: int | None = None
) -> tuple[bytes, State]:
    """Return the line that takes `state` through `change`, newline included, and the state after it.

    `at` is the time of the change, in microseconds since the epoch, where it was not made now; it is never later.
    """
    now = time.time_ns() // 1000
    if newest_commit[0] < now > state.updated_at:
        newest_commit[0] = now
    else:
        now = order_time(now, state.updated_at)
    if at is not None and at < now:
        now = min(now, max(at, state.updated_at))  # the session's last time may be one that a wrong clock gave
    changed, removed, whole, delete, log_change = change
    before, log = state.fields, state.log
    if before is None or removed or whole or delete:
        rev, incarnation, created, body, fields, size = _other_change(state, change, key, now)
        if fields is None or before is None:
            log = NO_LOG
    else:  # most commits
        rev, incarnation, created = state.rev + 1, state.incarnation, state.created_at
        fields, size, body = before.copy(), state.entry_bytes, b'"set":{'
        for name, raw in changed.items():
            member = codec.member(name) + raw
            body += member + b","
            old = before.get(name)
            size += len(member) + 1 if old is None else len(raw) - len(old)
            fields[name] = raw
        body = body[:-1] + b"}" if changed else b""
    if log_change is not None and fields is not None:
        log, members = _log_change(log, log_change, now, actor)
        body = b"%b,%b" % (body, members) if body and members else body + members
    flag = b'"durable":true,' if durable else b""
    rest = b'"rev":%d,"at":%d,"by":%b,%b%b}' % (rev, now, _quoted(actor), flag, body)
    if rev > REV_MAX:
        raise InvalidEntry("entry", f"the session has had {REV_MAX:,} revisions; delete it and create it again")
    tag = f"{crc32(rest):08x}"
    after = _new(State, (fields, key, rev, incarnation, tag, created, now, actor, size, log))
    return b'{"crc":"%b",%b\n' % (tag.encode(), rest), after


def _other_change(
    state: State, change: Change, key: str, now: int
) -> tuple[int, str, int, bytes, dict[str, bytes] | None, int]:
    """Return rev, incarnation, creation, body, fields and entry_bytes of a change that does not only set fields."""
    changed, removed, whole, delete, _ = change
    if state.fields is None:
        incarnation = os.urandom(12).hex()
        body = b'"id":"%b","key":%b,"put":%b' % (incarnation.encode(), codec.dumps(key), codec.join(changed))
        return 1, incarnation, now, body, changed, entry_bytes(changed)
    head = state.rev + 1, state.incarnation, state.created_at
    if delete:
        return *head, b'"delete":true', None, 0
    if whole:
        return *head, b'"put":' + codec.join(changed), changed, entry_bytes(changed)
    unset = b'"unset":' + codec.dumps(removed)
    body = b'"set":' + codec.join(changed) + b"," + unset if changed else unset
    fields = {name: raw for name, raw in state.fields.items() if name not in removed} | changed
    return *head, body, fields, entry_bytes(fields)


def _log_change(log: LogState, change: LogChange, now: int, actor: str) -> tuple[LogState, bytes]:
    """Return the log after a change, and the members of the record that make it."""
    cut, drop, rep, add = change
    if cut is not None or drop is not None or rep:
        return applied(log, stamped(change, now, actor)), change_members(change)
    dropped, kept, pending, size, settled, replaced, names = log
    raws, items = [], []
    plain = names is None
    for raw, name, at, by in add:  # most changes: in one loop, for every append pays for it
        raws.append(raw)
        items.append(_new(Item, (raw, name, at or now, by if at else actor)))
        size += len(raw) + ITEM_OVERHEAD
        plain = plain and name is None and not at
    if not plain:
        return applied(log, LogChange(add=tuple(items))), change_members(change)
    after = _new(LogState, (dropped, kept, pending + tuple(items), size, settled, replaced, None))
    return after, b'"add":[%b]' % b",".join(raws)


def whole_record(state: State) -> bytes:
    """Return the line that a rewritten journal consists of: it leads to `state` at once, and is always durable."""
    assert state.fields is not None
    assert state.key is not None
    rest = b'"rev":%d,"at":%d,"by":%b,"durable":true,"id":"%b","key":%b,"created":%d,"tag":"%b","put":%b%b}' % (
        state.rev, state.updated_at, _quoted(state.actor), state.incarnation.encode(), codec.dumps(state.key),
        state.created_at, state.tag.encode(), codec.join(state.fields), whole_member(state.log),
    )  # fmt: skip
    return b'{"crc":"%08x",%b\n' % (crc32(rest), rest)


def with_key(text: bytes, key: str, log: str | None = None) -> bytes:
    """Return the first record of an incarnation, or of a file, as the one of another key. Its tag stays what it was.

    log: the id of the file that its log has from now on, where it has one.
    """
    given = codec.loads(text)
    if log is not None and "file" in given.get("log", ()):
        given["log"]["file"] = log
    tag = given.pop("crc")
    head = {
        name: given.pop(name) for name in ("rev", "at", "by", "durable", "id", "key", "created", "tag") if name in given
    }
    rest = codec.dumps({**head, "key": key, "tag": head.get("tag", tag), **given})[1:]
    return b'{"crc":"%08x",%b' % (crc32(rest), rest)


def is_intact(text: bytes) -> bool:
    """Return whether a line, given without its newline, is exactly as its writer wrote it."""
    return text[:BODY] == b'{"crc":"%08x",' % crc32(text[BODY:])


def load(text: bytes) -> dict[str, Any] | str:
    """Return the members of an intact line, given without its newline; the problem if it is none."""
    if text[:BODY] != b'{"crc":"%08x",' % crc32(text[BODY:]):
        return "the checksum does not match"
    try:
        given: dict[str, Any] = codec.loads(text)
    except codec.JSONDecodeError as error:
        return f"not JSON behind a right checksum: {error}"
    return given


def malformed(given: dict[str, Any]) -> str:
    """Return the problem of an intact line's members; an empty text for a record."""
    return "" if _is_record(given) else "not a record behind a right checksum"


def parse(text: bytes) -> dict[str, Any] | str:
    """Return the members of a record, given without its newline; the problem if it is none."""
    given = load(text)
    return given if isinstance(given, str) else malformed(given) or given


def _is_record(given: dict[str, Any]) -> bool:
    """Check types, bounds and combinations: a right checksum shows who wrote a line, not that it makes sense."""
    get = given.get
    put, changed, removed, delete, created = get("put"), get("set"), get("unset"), get("delete", False), get("created")
    changes, logs = changed is not None or removed is not None, not MEMBERS.isdisjoint(given)
    return (
        is_rev(get("rev"))
        and is_time(get("at"))
        and type(get("by")) is str
        and type(get("durable", False)) is bool
        and (type(put) is dict) + (changes or (logs and put is None)) + (delete is True) == 1
        and (put is None or type(put) is dict)
        and (changed is None or type(changed) is dict)
        and (removed is None or (type(removed) is list and all(type(name) is str for name in removed)))
        and _is_start(get("id"), get("key"), get("tag"), put)
        and (not logs or is_change(given))
        and ("log" not in given or "id" in given)
        and (created is None or is_time(created))
    )


def _is_start(incarnation: Any, key: Any, tag: Any, put: Any) -> bool:
    """Check the members that only the first record of a journal or of an incarnation has."""
    if incarnation is None:
        return key is None and tag is None
    if type(incarnation) is not str or type(key) is not str or put is None:
        return False
    return tag is None or (type(tag) is str and len(tag) == _TAG_DIGITS and _HEX.issuperset(tag))


def is_rev(value: object) -> bool:
    """Return whether this is a revision number."""
    return type(value) is int and 0 < value <= REV_MAX


def is_time(value: object) -> bool:
    """Return whether this is a time in microseconds since the epoch, before the year 10000."""
    return type(value) is int and 0 <= value < TIME_MAX_US
