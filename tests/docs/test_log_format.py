"""The section of the format page about logs is what the store writes and reads."""

from __future__ import annotations

import json
import re
import zlib
from pathlib import Path

from shardstore import Store
from shardstore._journal.log_lines import parse_line, seed_of
from tests.support import disk
from tests.support.peer import REPOSITORY

PAGE = (REPOSITORY / "docs" / "internals" / "format.md").read_text(encoding="utf-8")
SECTION = PAGE.partition("## A log\n")[2].partition("\n## ")[0]


def test_the_example_line_is_a_line_of_the_file_it_names() -> None:
    """Its checksum holds for the id on the page, and for no other."""
    [line] = re.findall(r"^(\{.*\})$", SECTION, re.MULTILINE)
    [file_id] = re.findall(r"whose id is `([0-9a-f]{16})`", SECTION)
    found = parse_line(line.encode(), seed_of(file_id))
    assert found is not None
    assert (found[0], found[1].id, json.loads(found[1].raw)["content"]) == (12, "msg-7f3a", "hi")
    assert parse_line(line.encode(), seed_of(file_id[::-1])) is None


def test_every_member_that_a_store_writes_is_in_the_tables(root: Path) -> None:
    """Records, the `log` of a rewritten journal, and the lines of the file."""
    written: set[str] = set()
    with Store(root, durability="relaxed") as store:
        for number in range(300):
            store.append("k", ["x" * 1_000], ids=[f"{number}"])
        [path] = root.glob("shards/*/*.log.jsonl")
        written |= json.loads(path.read_bytes().splitlines()[0]).keys()
        with store.edit("k") as draft:
            draft.log[3] = "new"
            del draft.log[:2]
            del draft.log[-70:]
        written |= {name for record in disk.journal(root, "k") for name in record}
        for number in range(40):
            store.patch("k", {"filler": f"{number}" * 20_000})
        for record in disk.journal(root, "k"):
            written |= record.keys() | record.get("log", {}).keys()
        store.append("small", ["a", "b", "c"])
        with store.edit("small") as draft:
            draft.log.keep([0, 2])
        written |= {name for record in disk.journal(root, "small") for name in record}
    assert {
        "add",
        "ids",
        "from",
        "cut",
        "drop",
        "rep",
        "log",
        "file",
        "count",
        "end",
        "first",
        "dropped",
        "kept",
    } <= written
    for name in written - {"filler"}:
        assert f"`{name}`" in PAGE, name


def test_a_second_reader_finds_the_same_log(root: Path) -> None:
    """A reader written from the page, sharing no code with the store, reads journal and file to the same items."""
    with Store(root, durability="relaxed") as store:
        for number in range(700):
            store.append("k", [{"n": number, "text": "x" * 1_000}], ids=[f"{number}" if number % 3 else None])
        with store.edit("k") as draft:
            draft.log[600] = "replaced"
            del draft.log[:5]
            draft.log.pop()
        session = store["k"]
    assert disk.log(root, "k") == session.log[:]
    assert [item for _, item in disk.log_lines(*_file(root))][:3] == session.log[:][:0] + [
        {"n": number, "text": "x" * 1_000} for number in range(3)
    ]


def _file(root: Path) -> tuple[Path, int]:
    [path] = root.glob("shards/*/*.log.jsonl")
    return path, path.stat().st_size


def test_the_checksum_of_the_page(root: Path) -> None:
    """CRC-32 over the id's digits and the rest of the line."""
    with Store(root, durability="relaxed") as store:
        for number in range(300):
            store.append("k", ["x" * 1_000 + str(number)])
    path, _ = _file(root)
    line = path.read_bytes().splitlines()[0]
    assert line[8:16] == b"%08x" % zlib.crc32(path.name.split(".")[1].encode() + line[18:])
