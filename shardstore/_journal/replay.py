"""The one interpreter of a journal: from the bytes of a shard to the state of its session, or to its damage.

get, a writer that takes over from another process, the index, history and salvage all read through `_Entry.apply`.
Nothing here touches a file. A state is the last `put` and the changes after it. Bytes that are no record are either a
torn tail (a commit that a death or a power cut left unfinished: never acknowledged, stepped over) or damage.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from shardstore import _codec as codec
from shardstore._journal import record, torn
from shardstore._journal.log import MEMBERS, read_change, read_whole
from shardstore._log import NO_LOG, LogState, applied, misfit
from shardstore._model import ABSENT, DAY_US, REV_MAX, TIME_MAX_US, State

if TYPE_CHECKING:
    from collections.abc import Iterator

_PLAIN_MEMBERS: Final = 5  # crc, rev, at, by, set
_ALL: Final = 1 << 62  # records
_NAMED_MAX: Final = 100_000  # revisions
_SPACE: Final = b"\n" * 65536  # the space behind most journals; comparing is faster than stripping
_NOTHING: Final[dict[str, bytes]] = {}


class Journal(NamedTuple):
    """A journal as far as it was read or written."""

    state: State = ABSENT
    end: int = 0  # bytes up to and including the last record's newline; what follows is preallocated space
    records: int = 0  # in this file
    crc: bytes = b""  # the eight digits that the last record begins with: with `end` they name what was read
    crlf: bool = False  # some lines end in CR LF: somebody's tool converted the file


EMPTY: Final = Journal()


class Damage(NamedTuple):
    """Why a journal cannot be read past a byte."""

    offset: int
    reason: str


class Replay(NamedTuple):
    """The outcome of reading a journal, and whatever unreadable bytes follow it."""

    journal: Journal
    tail: bytes = b""  # torn: to be kept in quarantine and cut off by the next writer
    damage: Damage | None = None


class _Entry:
    """A session while records are applied to it: values are encoded at the end, and of each field only the last."""

    __slots__ = (
        "actor",
        "at",
        "base",
        "base_bytes",
        "created",
        "fields",
        "incarnation",
        "key",
        "log",
        "rev",
        "tag",
        "touched",
    )

    def __init__(self, state: State) -> None:
        fields, self.key, self.rev, self.incarnation, self.tag, self.created, self.at, self.actor, size, self.log = (
            state
        )
        self.base = _NOTHING if fields is None else fields
        self.base_bytes = size
        self.fields: dict[str, Any] | None = None if fields is None else fields.copy()  # bytes: raw JSON, not changed
        self.touched: dict[str, Any] = {}  # the names of the fields that were changed since

    def apply_plain(self, given: dict[str, Any], crc: str) -> bool:
        """Apply a record that sets fields and is like most records; return False for any other, which `apply` takes.

        A writer reads what the others committed through this, inside the lock, so it checks and applies in one go.
        """
        changed, rev, at, fields = given.get("set"), given.get("rev"), given.get("at"), self.fields
        if (
            type(changed) is not dict
            or rev != self.rev + 1
            or type(rev) is not int
            or type(at) is not int
            or not self.at <= at < TIME_MAX_US
            or fields is None
            or type(given.get("by")) is not str
            or len(given) != _PLAIN_MEMBERS + (given.get("durable") is True)
            or rev > REV_MAX
        ):
            return False
        self.rev, self.at, self.actor, self.tag = rev, at, given["by"], crc
        fields.update(changed)
        self.touched.update(changed)
        return True

    def apply(self, given: dict[str, Any], crc: str) -> None:
        """Apply one record. REQUIRES: it is one, and the caller decided that it may follow."""
        self.rev, self.at, self.actor = given["rev"], given["at"], given["by"]
        self.tag = given.get("tag", crc)
        if "id" in given:
            self.incarnation, self.key = given["id"], given["key"]
            self.created = given.get("created", self.at)
            self.log = read_whole(given["log"], self.at, self.actor) or NO_LOG if "log" in given else NO_LOG
        if "delete" in given:
            self.log = NO_LOG
        elif not MEMBERS.isdisjoint(given):
            self.log = applied(self.log, read_change(given, self.at, self.actor))
        put = given.get("put")
        if put is not None or "delete" in given:
            self.base, self.base_bytes, self.fields, self.touched = _NOTHING, 0, put, dict.fromkeys(put or ())
            return
        fields = self.fields
        assert fields is not None
        for name in given.get("unset", ()):
            fields.pop(name, None)
            self.touched[name] = None
        changed = given.get("set")
        if changed:
            fields.update(changed)
            self.touched.update(changed)

    def state(self) -> State:
        """Return the state that the records lead to."""
        size, fields = self.base_bytes, self.fields
        if fields is None:
            size = 0
        elif not self.base:  # everything is new: most files are read whole
            dumps = codec.dumps
            fields = {name: b"%b" % dumps(value) for name, value in fields.items()}  # as codec.kept
            size = record.entry_bytes(fields)
        else:
            base, dumps, member, field_size = self.base, codec.dumps, codec.member, record.field_size
            for name in self.touched:
                before = base.get(name)
                if before is not None:
                    size -= field_size(name, before)
                if name in fields:
                    raw = fields[name] = b"%b" % dumps(fields[name])  # as codec.kept
                    size += len(member(name)) + len(raw) + 1  # as field_size has it
        return State(
            fields, self.key, self.rev, self.incarnation, self.tag, self.created, self.at, self.actor, size, self.log
        )


def read_records(data: bytes, start: Journal, *, place: int = 0, most: int = _ALL) -> tuple[Journal, str]:
    """Apply the records from data[place] on, at most so many of them; return the journal, and why reading ended there.

    data[place] is the byte where `start` ends. The reason is empty where `most` records were read, or nothing but blank
    lines is left.
    """
    entry, base = _Entry(start.state), start.end - place
    count, crc, crlf, why = 0, start.crc, start.crlf, ""
    while count < most:
        stop = data.find(b"\n", place)
        text = data[place:stop] if stop >= 0 else data[place:]
        if stop < 0 or not text or text[:1] == b"\r":
            rest = data[place:]
            if rest != _SPACE[: len(rest)] and rest.strip(b"\r\n"):
                why = "the last line is not finished" if stop < 0 else "more follows the space at the end"
            break
        if text.endswith(b"\r") and not record.is_intact(text):
            text, crlf = text.rstrip(b"\r"), True  # converted twice, there are two
        given = record.load(text)
        if isinstance(given, str):
            why = given
            break
        digits = text[len(record.PREFIX) : record.BODY - 2]
        if not entry.apply_plain(given, digits.decode()):
            why = record.malformed(given) or _refusal(entry, given, start.records + count)
            if why:
                break
            entry.apply(given, digits.decode())
        place, count, crc = stop + 1, count + 1, digits
    if not count:
        return start, why
    try:
        state = entry.state()
    except TypeError:  # no writer of ours wrote it: orjson reads more levels than it writes
        return start, "a value is nested too deeply"
    return Journal(state, base + place, start.records + count, crc, crlf), why


def _refusal(entry: _Entry, given: dict[str, Any], records: int) -> str:
    """Return why a record cannot follow `records` others in this file; an empty text where it can."""
    rev, at = given["rev"], given["at"]
    if "id" not in given:
        if entry.fields is None:
            return f"revision {rev} of a session that does not exist at this point"
        if rev != entry.rev + 1:
            return f"revision {rev} follows revision {entry.rev}"
    elif entry.fields is not None or (rev != 1 and records):
        return f"a journal begins again with revision {rev}"
    elif entry.key is not None and given["key"] != entry.key:
        return f"the key changes to {given['key']!r}"
    if entry.at - DAY_US <= at < entry.at:
        return "time goes back"  # a wrong clock is corrected by more
    return _log_refusal(entry.log, given)


def _log_refusal(log: LogState, given: dict[str, Any]) -> str:
    """Return why what a record says of the log makes no sense after `log`; an empty text where it does."""
    if "id" in given:
        read = read_whole(given["log"], given["at"], given["by"]) if "log" in given else NO_LOG
        if read is None:
            return "the log is malformed behind a right checksum"
        log = read
    if MEMBERS.isdisjoint(given):
        return ""
    return misfit(log, read_change(given, given["at"], given["by"]))


def replay(data: bytes, start: Journal = EMPTY) -> Replay:
    """Read a journal, or the records added since `start`, and classify bytes that cannot be read."""
    journal, why = read_records(data, start)
    if not why:
        return Replay(journal)
    tail = data[journal.end - start.end :]
    reason = torn.classify_tail(tail, journal.end, first=journal.records == 0)
    if reason is None:
        return Replay(journal, tail=tail)
    return Replay(journal, damage=Damage(journal.end, reason or why))


def history(data: bytes) -> Iterator[State]:
    """Yield the state after each whole record of a journal."""
    before, (journal, _) = EMPTY, read_records(data, EMPTY, most=1)
    while journal is not before:
        yield journal.state
        before, (journal, _) = journal, read_records(data, journal, place=journal.end, most=1)


def with_key(data: bytes, key: str, log: str | None = None) -> tuple[bytes, Journal]:
    """Return the present incarnation of a whole journal as a journal of another key, and what it leads to.

    Versions stay what they are: the first record carries its tag along. log: the id of its log's file from now on.
    """
    lines = [line if record.is_intact(line) else line[:-1] for line in data.split(b"\n")[:-1]]
    start = max(n for n, line in enumerate(lines) if "id" in codec.loads(line))
    text = b"\n".join([record.with_key(lines[start], key, log), *lines[start + 1 :], b""])
    journal, why = read_records(text, EMPTY)
    assert not why, why
    return text, journal


class Salvage(NamedTuple):
    """The readable part of a damaged journal."""

    state: State | None  # None: no record is whole
    missing: tuple[int, ...]  # the revisions that are not whole, below the newest one that is


def salvage(data: bytes, incarnation: str) -> Salvage:
    """Apply every intact record of a damaged journal in its order.

    The result is a new incarnation: it may be a content that no version ever had.
    """
    entry, revs, created = _Entry(ABSENT), set[int](), 0
    for line in data.split(b"\n"):
        text = line if record.is_intact(line) else line.rstrip(b"\r")
        given = record.parse(text)
        if isinstance(given, str) or not _can_be_written(given):
            continue
        if entry.fields is None:
            entry.fields = {}
        rev, at, key = entry.rev, entry.at, entry.key
        entry.apply(given, text[len(record.PREFIX) : record.BODY - 2].decode())
        revs.add(entry.rev)
        created = created or given.get("created", entry.at)
        entry.rev, entry.at, entry.key = max(rev, entry.rev), max(at, entry.at), entry.key or key
    if not revs:
        return Salvage(None, ())
    entry.rev, entry.incarnation, entry.created = min(entry.rev + 1, REV_MAX), incarnation, created
    return Salvage(entry.state(), _missing(revs))


def _can_be_written(given: dict[str, Any]) -> bool:
    try:
        codec.dumps(given)
    except TypeError:
        return False
    return True


def _missing(revs: set[int]) -> tuple[int, ...]:
    """Return the revisions between the oldest and the newest one; a planted number may be very large."""
    newest = max(revs)
    return tuple(rev for rev in range(max(min(revs), newest - _NAMED_MAX), newest) if rev not in revs)
