"""How a log stands in a journal: the members of a record that change it, and the `log` that a `put` names.

    "cut":7  "drop":2  "rep":[[3,item]]  "add":[item,…]  "ids":["u1",null]  "from":[[at,by],null]
    "put":{…},"log":{"dropped":2,"file":"0f…","count":900,"end":91834,"first":0,"add":[…],"ids":[…],"from":[…]}

docs/internals/format.md has the meaning of each. A malformed value behind a right checksum is damage, never a crash.
"""

from __future__ import annotations

import re
from typing import Any, Final

from shardstore import _codec as codec
from shardstore._log import NO_LOG, Item, LogChange, LogState, Settled, applied
from shardstore._model import REV_MAX, TIME_MAX_US

MEMBERS: Final = frozenset({"add", "ids", "from", "cut", "drop", "rep"})
_FILE_ID: Final = re.compile("[0-9a-f]{16}")
_PAIR: Final = 2  # a time and an actor; a number and an item
_REPLACED: Final = 4  # a number, an item, a time and an actor


def change_members(change: LogChange) -> bytes:
    """Return the members of a record that make this change, separated by commas."""
    cut, drop, rep, add = change
    if cut is None and drop is None and not rep:  # most changes
        return b",".join(_added(add))
    parts: list[bytes] = []
    if change.cut is not None:
        parts.append(b'"cut":%d' % change.cut)
    if change.drop is not None:
        parts.append(b'"drop":%d' % change.drop)
    if change.rep:
        pairs = [b"[%d,%b]" % (number, item.raw) for number, item in change.rep.items()]
        parts.append(b'"rep":[%b]' % b",".join(pairs))
    parts += _added(change.add)
    return b",".join(parts)


def _added(items: tuple[Item, ...]) -> list[bytes]:
    if not items:
        return []
    parts = [b'"add":[%b]' % b",".join([item.raw for item in items])]
    if any([item.id is not None for item in items]):  # noqa: C419  # a generator costs more than a few items
        parts.append(b'"ids":' + codec.dumps([item.id for item in items]))
    if any([item.at for item in items]):  # noqa: C419
        parts.append(b'"from":' + codec.dumps([[item.at, item.actor] if item.at else None for item in items]))
    return parts


def stamped(change: LogChange, at: int, actor: str) -> LogChange:
    """Return the change with the time and actor of its commit, where an item does not bring its own."""
    rep = change.rep and {number: item._replace(at=at, actor=actor) for number, item in change.rep.items()}
    add = tuple([item if item.at else Item(item.raw, item.id, at, actor) for item in change.add])
    return LogChange(change.cut, change.drop, rep, add)


def whole_member(log: LogState) -> bytes:
    """Return the member of a `put` that holds the whole log; empty where there never was one."""
    if log == NO_LOG:
        return b""
    parts = [b'"dropped":%d' % log.dropped]
    if log.kept > log.dropped:
        settled = log.settled
        parts.append(
            b'"file":"%b","count":%d,"end":%d,"first":%d'
            % (settled.file.encode(), settled.lines, settled.end, settled.first)
        )
        if log.kept < settled.first + settled.lines:
            parts.append(b'"kept":%d' % log.kept)
        if log.replaced:
            rep = [
                b"[%d,%b,%d,%b]" % (number, item.raw, item.at, codec.dumps(item.actor))
                for number, item in log.replaced.items()
            ]
            parts.append(b'"rep":[%b]' % b",".join(rep))
    parts += _added(log.pending)
    return b',"log":{%b}' % b",".join(parts)


# Reading. Types are checked first (`is_change`), then what they mean beside the log that they change.


def is_change(given: dict[str, Any]) -> bool:
    """Return whether the members of a record, as far as they are of the log, have the right types and lengths."""
    cut, drop, rep = given.get("cut"), given.get("drop"), given.get("rep")
    return (
        (cut is None or _is_number(cut))
        and (drop is None or _is_number(drop))
        and (rep is None or _is_list(rep, lambda one: _is_array(one, _PAIR) and _is_number(one[0])))
        and _is_added(given)
    )


def _is_added(given: dict[str, Any]) -> bool:
    add, ids, origin = given.get("add"), given.get("ids"), given.get("from")
    if add is None:
        return ids is None and origin is None
    return (
        type(add) is list
        and (ids is None or (_is_list(ids, lambda one: one is None or type(one) is str) and len(ids) == len(add)))
        and (origin is None or (_is_list(origin, _is_origin) and len(origin) == len(add)))
    )


def _is_origin(one: Any) -> bool:
    return one is None or (_is_array(one, _PAIR) and _is_moment(*one))


def _is_moment(at: Any, actor: Any) -> bool:
    return type(at) is int and 0 < at < TIME_MAX_US and type(actor) is str


def _is_list(value: Any, each: Any) -> bool:
    return type(value) is list and all(map(each, value))


def _is_array(value: Any, length: int) -> bool:
    return type(value) is list and len(value) == length


def _is_number(value: Any) -> bool:
    return type(value) is int and 0 <= value <= REV_MAX


def read_change(given: dict[str, Any], at: int, actor: str) -> LogChange:
    """Return the change that a record's members describe. REQUIRES: is_change(given)."""
    rep = {number: Item(codec.kept(value), None, at, actor) for number, value in given.get("rep", ())}
    return LogChange(given.get("cut"), given.get("drop"), rep or None, _items(given, at, actor))


def _items(given: dict[str, Any], at: int, actor: str) -> tuple[Item, ...]:
    add = given.get("add", ())
    ids, origin = given.get("ids"), given.get("from")
    return tuple(
        [
            Item(codec.kept(value), ids[n] if ids else None, *(origin[n] if origin and origin[n] else (at, actor)))
            for n, value in enumerate(add)
        ]
    )


def read_whole(given: object, at: int, actor: str) -> LogState | None:
    """Return the log that a `put` holds; None where it is malformed."""
    if type(given) is not dict or not _is_added(given):
        return None
    dropped, settled, rep = given.get("dropped", -1), _settled(given), given.get("rep", [])
    if not _is_number(dropped) or settled is None or not _is_list(rep, _is_replaced):
        return None
    behind = settled.first + settled.lines
    kept: Any = given.get("kept", behind if settled.file else dropped)
    if not _is_number(kept) or not (settled.first <= dropped <= kept <= behind if settled.file else kept == dropped):
        return None
    replaced = {number: Item(codec.kept(value), None, then, by) for number, value, then, by in rep}
    if not all(dropped <= number < kept for number in replaced):
        return None
    log = LogState(dropped, kept, (), 0, settled)
    return applied(log, LogChange(rep=replaced or None, add=_items(given, at, actor)))


def _is_replaced(one: Any) -> bool:
    return _is_array(one, _REPLACED) and _is_number(one[0]) and _is_moment(one[2], one[3])


def _settled(given: dict[str, Any]) -> Settled | None:
    file, lines, end, first = given.get("file", ""), given.get("count", 0), given.get("end", 0), given.get("first", 0)
    if not (type(file) is str and _is_number(lines) and _is_number(end) and _is_number(first)):
        return None
    if file and not (_FILE_ID.fullmatch(file) and 0 < lines <= end):
        return None
    return Settled(file, lines, end, first) if file else Settled()
