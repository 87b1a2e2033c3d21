"""Every name on disk: made and parsed by one module, and the two agree."""

from __future__ import annotations

import hashlib
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shardstore._files import layout as names
from shardstore._files.layout import (
    NAME_BYTES_MAX,
    PREFIXES,
    Layout,
    count_shards,
    is_shard_name,
    is_shard_of,
    log_file,
    log_name,
    log_owner,
    lost_name,
    new_log_id,
    parse_log,
    parse_lost,
    parse_short,
    parse_stamped,
    parse_temp,
    shard_name,
    short_name,
    stamped_name,
    temp_name,
)
from shardstore.errors import InvalidKey
from tests.inputs.strategies import keys

H = "0807dbb7baa1f67840826a0521c09df4"  # blake2b-128 of "agent:main:main"

TABLE = [
    # name below ROOT/shards, is it a shard, whose temp is it
    (f"08/agent-main-main~{H}.jsonl", True, None),
    (f"08/key~{H}.jsonl", True, None),
    (f"08/a~{H}.jsonl", True, None),
    (f"09/agent-main-main~{H}.jsonl", False, None),
    (f"8/agent-main-main~{H}.jsonl", False, None),
    (f"080/agent-main-main~{H}.jsonl", False, None),
    (f"/agent-main-main~{H}.jsonl", False, None),
    (f"agent-main-main~{H}.jsonl", False, None),
    (f"08/Agent-main-main~{H}.jsonl", False, None),
    (f"08/agent_main~{H}.jsonl", False, None),
    (f"08/~{H}.jsonl", False, None),
    (f"08/agent~{H.upper()}.jsonl", False, None),
    (f"08/agent~{H[:-1]}.jsonl", False, None),
    (f"08/agent~{H}0.jsonl", False, None),
    (f"08/agent~{H}.json", False, None),
    (f"08/agent~{H}.jsonl.bak", False, None),
    (f"08/agent~{H}.jsonl\n", False, None),
    (f"08/{'a' * 200}~{H}.jsonl", False, None),
    (f"08/.tmp-0123456789abcdef~agent-main-main~{H}.jsonl", False, f"08/agent-main-main~{H}.jsonl"),
    (f"08/.tmp-~agent~{H}.jsonl", False, f"08/agent~{H}.jsonl"),
    (f"09/.tmp-0123456789abcdef~agent-main-main~{H}.jsonl", False, None),
    ("08/.tmp-0123456789abcdef", False, None),
    ("08/.tmp-mine~notes.txt", False, None),
    ("08/README.txt", False, None),
    ("08/.DS_Store", False, None),
    ("08/", False, None),
    ("", False, None),
]


@pytest.mark.parametrize(("name", "shard", "owner"), TABLE, ids=[row[0][:60] for row in TABLE])
def test_names_are_told_apart(name: str, shard: bool, owner: str | None) -> None:
    """A name is a shard's, a temp's or nobody's; nothing foreign is taken for one's own."""
    assert is_shard_name(name) is shard
    if name.count("/") == 1:
        assert parse_temp(name) == owner


NAMES = [
    ("agent:main:main", f"08/agent-main-main~{H}.jsonl"),
    ("A", "a~"),
    ("../../etc/passwd", "etc-passwd~"),
    ("(multiple)", "multiple~"),
    ("🙂", "key~"),
    ("é", "key~"),
    (" a  b ", "a-b~"),
    ("CON", "con~"),
    ("a" * 4_096, "a" * 80 + "~"),
    ("_" * 159 + "ab", "a~"),
    ("_" * 160 + "ab", "key~"),
]


@pytest.mark.parametrize(("key", "expected"), NAMES, ids=[row[0][:20] for row in NAMES])
def test_a_shards_name_is_a_slug_and_the_hash_of_the_key(key: str, expected: str) -> None:
    """The slug is for people; directory and hash come from the key's UTF-8 bytes alone."""
    digest = hashlib.blake2b(key.encode(), digest_size=16).hexdigest()
    name = shard_name(key)
    assert name.partition("/")[2].startswith(expected.partition("/")[2] or expected)
    assert name.startswith(f"{digest[:2]}/")
    assert name.endswith(f"~{digest}.jsonl")


@settings(deadline=None)
@given(one=keys, two=keys)
def test_names_are_injective_and_portable(one: str, two: str) -> None:
    """Different keys have different names, also for a file system that folds case; all are short lower-case ASCII."""
    first, second = shard_name(one), shard_name(two)
    assert (first.casefold() == second.casefold()) is (one == two)
    for name in (first, second):
        prefix, _, file = name.partition("/")
        assert prefix in PREFIXES
        assert file.isascii()
        assert file == file.lower()
        assert not set(file) - set("abcdefghijklmnopqrstuvwxyz0123456789-~.")
        assert is_shard_name(name)
        for longest in (file, temp_name(name).partition("/")[2], stamped_name(name)):
            assert len(longest) <= NAME_BYTES_MAX
            assert "/" not in longest


@settings(deadline=None)
@given(key=keys)
def test_temps_and_stamped_names_are_parsed_back(key: str) -> None:
    """What makes a name and what parses it agree, and every name made is a new one."""
    name = shard_name(key)
    temps = {temp_name(name) for _ in range(5)}
    assert len(temps) == 5
    assert {parse_temp(temp) for temp in temps} == {name}
    assert not any(is_shard_name(temp) for temp in temps)
    stamps = {stamped_name(name) for _ in range(5)}
    assert len(stamps) == 5
    for stamp in stamps:
        parsed = parse_stamped(stamp)
        assert parsed is not None
        assert parsed[0] == name
        assert parsed[1] > 1_700_000_000_000


@pytest.mark.parametrize(
    "file",
    [
        "",
        "notes.txt",
        f"a~{H}.jsonl",
        f"a~{H}.jsonl.123-00000000",
        "x.jsonl.1763800000123-0123abcd",
        f"a~{H}.jsonl.1763800000123-0123ABCD",
    ],
)
def test_a_foreign_file_in_the_archive_is_nobodys(file: str) -> None:
    """Only names that this module made are parsed as archived shards."""
    assert parse_stamped(file) is None


@settings(deadline=None)
@given(st.text(max_size=300))
def test_parsers_take_any_text(name: str) -> None:
    """No name that a directory may hold makes a parser raise."""
    is_shard_name(name)
    parse_temp(name)
    parse_stamped(name)


def test_the_hash_covers_the_whole_key() -> None:
    """Two keys that differ in their 4,096th byte only have different names."""
    assert shard_name("a" * 4_095 + "b") != shard_name("a" * 4_096)


@pytest.mark.parametrize("key", ["", "\0", "a\0", "\ud800", "a" * 4_097, "é" * 2_049])
def test_bad_keys_have_no_name(key: str) -> None:
    """What is no key is refused before it becomes a path."""
    with pytest.raises(InvalidKey):
        shard_name(key)


def test_every_path_is_below_the_root() -> None:
    """Each directory of a store, and each shard, is below its root."""
    layout = Layout("/x/y")
    assert str(layout.marker) == "/x/y/shardstore.json"
    assert layout.shard_path(shard_name("../..")).startswith("/x/y/shards/")
    assert len({layout.shards, layout.index, layout.archive, layout.quarantine}) == 4


def test_records_in_quarantine_are_told_from_files() -> None:
    """The names of a lost directory's record, of a short shard's, and of a shard that was moved are three things."""
    shard = shard_name("agent:main:main")
    lost, short, moved = lost_name("08"), short_name(shard), stamped_name(shard)
    assert [parse_lost(name) for name in (lost, short, moved)] == ["08", None, None]
    assert [parse_short(name) for name in (lost, short, moved)] == [False, True, False]
    assert [parse_stamped(name) is not None for name in (lost, short, moved)] == [False, False, True]
    assert short.startswith(f"short-{H}.")
    assert short != short_name(shard)


def test_counting_shards_is_parsing_their_names() -> None:
    """One pass over a directory's files counts what `is_shard_name` knows."""
    files = [name.partition("/")[2] for name, _, _ in TABLE if name.startswith("08/")]
    assert count_shards("08", files) == sum(is_shard_name(f"08/{file}") for file in files)
    assert count_shards("09", files) == 0
    assert count_shards("08", []) == 0


def test_what_every_version_has_to_keep() -> None:
    """Stores outlive versions, and processes with different ones use the same store at the same time."""
    assert names.FORMAT == 1
    assert (names.DIRECTORY_MODE, names.FILE_MODE) == (0o700, 0o600)
    assert (names.GROUP_DIRECTORY_MODE, names.GROUP_FILE_MODE) == (0o2770, 0o660)
    assert NAME_BYTES_MAX == 143
    assert PREFIXES == tuple(f"{first}{second}" for first in "0123456789abcdef" for second in "0123456789abcdef")


def test_a_shard_is_that_of_one_key() -> None:
    shard = shard_name("agent:main:main")
    assert is_shard_of(shard, "agent:main:main")
    assert not is_shard_of(shard, "another")
    assert not is_shard_of(shard, "")
    assert not is_shard_of("", "")


def test_log_files_are_named_after_their_shard() -> None:
    """In shards/, and without the directory in archive/ and quarantine/; nothing else is taken for one."""
    shard, file_id = shard_name("agent:main:main"), new_log_id()
    name = log_name(shard, file_id)
    assert name == f"08/agent-main-main~{H}.{file_id}.log.jsonl"
    assert log_file(shard, file_id) == name.partition("/")[2]
    assert parse_log(name) == (shard, file_id)
    assert log_owner(log_file(shard, file_id)) == shard
    for wrong in (shard, f"09/{log_file(shard, file_id)}", log_file(shard, file_id), name + "x", log_name(shard, "1")):
        assert parse_log(wrong) is None
    for wrong in (shard.partition("/")[2], name, log_file(shard, "1")):
        assert log_owner(wrong) is None
    assert new_log_id() != file_id


def test_names_hold_the_time_of_the_move() -> None:
    """In milliseconds: what is kept is sorted by it, and retention goes by it."""
    shard = shard_name("agent:main:main")
    before = time.time_ns() // 1_000_000
    found = [stamped_name(shard), lost_name("08"), short_name(shard)]
    after = time.time_ns() // 1_000_000
    for name in found:
        assert before <= int(name.rpartition(".")[2].partition("-")[0]) <= after
    parsed = parse_stamped(found[0])
    assert parsed is not None
    assert before <= parsed[1] <= after
