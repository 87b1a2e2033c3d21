"""A second reading of the format, written from its description and sharing no code with the store.

What the tests check files with, and make files with. docs/internals/format.md is the description.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import time
import zlib
from pathlib import Path
from typing import Any

DAY_US = 86_400_000_000
TIME_MAX_US = 253_402_300_800_000_000  # the year 10000
CHECK_S = 0.01  # docs/internals/locking.md
_SHARD = re.compile(r"[a-z0-9-]{1,80}~[0-9a-f]{32}\.jsonl")
_LOG_MEMBERS = {"cut", "drop", "rep", "add", "ids", "from"}  # what changes a log
CRC_FIELD = len('{"crc":"00000000",')


def shard(root: str | Path, key: str) -> Path:
    """Find the file of a key by its hash alone: the directory and what follows the tilde."""
    digest = hashlib.blake2b(key.encode(), digest_size=16).hexdigest()
    found = [path for path in Path(root, "shards", digest[:2]).glob(f"*~{digest}.jsonl") if _SHARD.fullmatch(path.name)]
    assert len(found) == 1, f"{len(found)} shards of {key!r}"
    return found[0]


def edit(path: Path, data: bytes) -> None:
    """Write a shard's bytes as an editor would, and wait until a process that has it open looks whether anybody did."""
    time.sleep(2 * CHECK_S)  # for an older kernel, whose clock of files ticks every few milliseconds
    path.write_bytes(data)
    time.sleep(2 * CHECK_S)


def shards(root: str | Path) -> list[Path]:
    """List every file that can be a shard."""
    found: list[Path] = []
    for place in _names(f"{root}/shards"):
        names = [name for name in _names(f"{root}/shards/{place}") if _SHARD.fullmatch(name)]
        found += [Path(root, "shards", place, name) for name in names if name.rpartition("~")[2].startswith(place)]
    return sorted(path for path in found if path.is_file())


def _names(directory: str) -> list[str]:
    """List a directory; what is none, or cannot be read, has no names. Most of a store's directories are empty."""
    try:
        return os.listdir(directory)
    except OSError:
        return []


def line(record: dict[str, Any]) -> bytes:
    """Return one journal line of a record (without its crc)."""
    rest = json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode()[1:]
    return b'{"crc":"%08x",' % zlib.crc32(rest) + rest + b"\n"


def records(data: bytes) -> list[dict[str, Any]]:
    """Read every line of a whole journal; room at its end is skipped. AssertionError when a line is not whole."""
    found = []
    end = len(data.rstrip(b"\n"))
    assert end == len(data) or data[end : end + 1] == b"\n"
    assert end == 0 or end < len(data), "the last record has no newline"
    for line_ in data[:end].split(b"\n") if end else []:
        raw = line_
        if raw.endswith(b"\r") and raw[8:16] != b"%08x" % zlib.crc32(raw[CRC_FIELD:]):
            raw = raw[:-1]  # somebody's tool converted the file
        crc, rest = raw[8:16], raw[CRC_FIELD:]
        assert raw[:8] == b'{"crc":"', raw[:40]
        assert raw[16:18] == b'",', raw[:40]
        assert crc == b"%08x" % zlib.crc32(rest), f"crc of {raw[:60]!r}"
        record = json.loads(raw)
        assert next(iter(record)) == "crc"
        _check_members(record)
        found.append(record)
    starts = [number for number, record in enumerate(found) if "id" in record]
    assert not found or starts[:1] == [0], "a change of nothing"
    assert all(found[number]["rev"] == 1 for number in starts[1:]), "begun again above revision 1"
    assert all("delete" in found[number - 1] for number in starts[1:]), "begun twice"
    assert len({record["key"] for record in found if "key" in record}) < 2, "the key changes"
    assert not any("delete" in one and "id" not in after for one, after in itertools.pairwise(found))
    revs = [record["rev"] for record in found]
    assert all(later == earlier + 1 or later == 1 for earlier, later in itertools.pairwise(revs)), revs
    times = [record["at"] for record in found]
    assert all(later >= earlier or earlier - later > DAY_US for earlier, later in itertools.pairwise(times)), (
        "time went back"
    )
    return found


def _check_members(record: dict[str, Any]) -> None:
    """Check bounds and combinations. AssertionError where the description does not allow them."""
    assert 0 < record["rev"] < 2**53
    assert 0 <= record["at"] < TIME_MAX_US
    assert 0 <= record.get("created", 0) < TIME_MAX_US
    changes = ("put" in record) + ("set" in record or "unset" in record) + ("delete" in record)
    log = not _LOG_MEMBERS.isdisjoint(record)
    assert changes == 1 or (changes == 0 and log), "one change a record, of the fields or of the log alone"
    assert not (log and "delete" in record), "a delete ends the log"
    assert "log" not in record or ("id" in record and "put" in record), "a whole log begins a file"
    assert isinstance(record.get("put", {}), dict)
    assert ("id" in record) == ("key" in record)


def version(data: bytes) -> str:
    """Return the version that a whole journal ends with."""
    name = "absent"
    for record in records(data):
        incarnation = record["id"] if "id" in record else name.partition(".")[0]
        name = f"{incarnation}.{record['rev']}-{record.get('tag', record['crc'])}"
    return name


def state(data: bytes) -> dict[str, Any] | None:
    """Apply a journal: the entry it describes, or None when it is absent or deleted."""
    entry: dict[str, Any] | None = None
    for record in records(data):
        if "put" in record:
            entry = dict(record["put"])
        elif record.get("delete"):
            entry = None
        else:
            assert entry is not None, "a change of nothing"
            for name in record.get("unset", ()):
                entry.pop(name, None)
            entry.update(record.get("set", {}))
    return entry


def log_lines(path: Path, end: int) -> list[tuple[int, Any]]:
    """Read the committed lines of a log file: number and item. AssertionError when a line is not whole."""
    data = path.read_bytes()
    assert len(data) >= end, f"{path} is shorter than its journal says"
    file_id, found = path.name.split(".")[1].encode(), []
    for raw in data[:end].split(b"\n")[:-1]:
        assert raw[8:16] == b"%08x" % zlib.crc32(file_id + raw[CRC_FIELD:]), f"crc of {raw[:60]!r}"
        line = json.loads(raw)
        found.append((line["n"], line["item"]))
    assert all(later == earlier + 1 for (earlier, _), (later, _) in itertools.pairwise(found)), "numbers have a gap"
    return found


def log(root: str | Path, key: str) -> list[Any]:
    """Read the log of a key, from its journal and its file."""
    return log_of(shard(root, key))


def log_of(path: Path) -> list[Any]:
    """Apply a journal: the items of the log that it describes."""
    items: dict[int, Any] = {}
    following = 0
    found = records(path.read_bytes())
    starts = [n for n, record in enumerate(found) if "id" in record or record.get("delete")]
    for record in found[starts[-1] :] if starts else []:  # the file of a deleted log is gone
        if "id" in record or record.get("delete"):
            items, following = whole_log(path, record.get("log", {}))
        if "cut" in record:
            items = {n: item for n, item in items.items() if n < record["cut"]}
            following = record["cut"]
        items = {n: item for n, item in items.items() if n >= record.get("drop", 0)}
        items.update(dict(record.get("rep", ())))
        for item in record.get("add", ()):
            items[following] = item
            following += 1
    assert sorted(items) == list(range(following - len(items), following)), "numbers have a gap"
    return [items[n] for n in sorted(items)]


def whole_log(path: Path, given: dict[str, Any]) -> tuple[dict[int, Any], int]:
    """Read what a `put` says of its log: the items by number, and the number of the next one."""
    items: dict[int, Any] = {}
    following = given.get("dropped", 0)
    if "file" in given:
        file = path.with_name(f"{path.name.removesuffix('.jsonl')}.{given['file']}.log.jsonl")
        lines = log_lines(file, given["end"])
        assert (len(lines), lines[0][0]) == (given["count"], given["first"])
        following = given.get("kept", given["first"] + given["count"])
        items = {n: item for n, item in lines if given["dropped"] <= n < following}
        items.update({n: item for n, item, _, _ in given.get("rep", ())})
    for item in given.get("add", ()):
        items[following] = item
        following += 1
    return items, following


def journal(root: str | Path, key: str) -> list[dict[str, Any]]:
    """Read the journal of a key."""
    return records(shard(root, key).read_bytes())


def end(data: bytes) -> int:
    """Return the logical end: the offset after the last record's newline."""
    stripped = len(data.rstrip(b"\n"))
    return stripped + 1 if stripped else 0


def fingerprint(root: str | Path, *, without: tuple[str, ...] = ("index",)) -> dict[str, tuple[Any, ...]]:
    """Describe every file under a directory so that two are equal only if nothing was written in between."""
    seen: dict[str, tuple[Any, ...]] = {}
    below = [""]
    while below:
        place = below.pop()
        try:
            entries = os.scandir(f"{os.fspath(root)}/{place}")  # os.walk takes twice as long for 256 directories
        except OSError:
            continue  # it cannot be read, or is gone
        with entries:
            for entry in entries:
                name = f"{place}{entry.name}"
                if entry.is_dir(follow_symlinks=False):
                    if name not in without:
                        below.append(f"{name}/")
                    continue
                status = entry.stat(follow_symlinks=False)
                data = Path(entry.path).read_bytes() if entry.is_file(follow_symlinks=False) else None
                seen[name] = (status.st_ino, status.st_mtime_ns, status.st_mode, data)
    return seen


def check(root: str | Path) -> None:
    """Read every shard of a quiet store with this module's own eyes."""
    for path in shards(root):
        if path.stat().st_size:
            try:
                state(path.read_bytes())
                log_of(path)
            except (AssertionError, ValueError) as error:
                raise AssertionError(f"{path}: {error}") from error
