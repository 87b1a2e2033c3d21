"""Repair: what a damaged shard still holds, and where the original goes."""

from __future__ import annotations

from pathlib import Path

import pytest

from shardstore import Store
from shardstore._files.engine import FileEngine
from shardstore._files.layout import shard_name
from shardstore._files.maintenance.repair import Salvaged, is_sound, key_in, salvage, touched_in
from tests.support import disk
from tests.unit.journals import lines


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b'{"crc":"00000000","rev":2,"set":{"a":1,"b":2}}\n', ("a", "b")),
        (b'{"crc":"00000000","rev":2,"unset":["c"],"set":{"a":1}}\r\n', ("a", "c")),
        (b'{"crc":"00000000","rev":1,"put":{"a":1}}\n{"crc":"00000000","set":{"a":2,"d":1}}\n', ("a", "d")),
        (b'{"crc":"00000000","rev":2,"set":{"a"\n', ()),
        (b"[1]\n7\n", ()),
        (b"".join(lines(3, durable=False)), ()),
    ],
)
def test_the_fields_that_damaged_records_changed(data: bytes, expected: tuple[str, ...]) -> None:
    """Of a record that is whole nothing is lost, and remains that are no JSON tell nothing."""
    assert touched_in(data) == expected


def test_the_key_in_remains_is_the_one_that_the_name_was_made_from() -> None:
    """Text of a user may look like a key."""
    name = shard_name('a"b')
    data = b'{"put":{"key":"other"},"key":"a\\"b","x":'
    assert key_in(data, name) == 'a"b'
    assert key_in(b'"key":"other"', name) is None
    assert key_in(b'"key":"\\x"', name) is None


@pytest.fixture
def broken(store: Store, engine: FileEngine) -> Path:
    """Return the file of session k, whose second of four records is damaged."""
    for number in range(4):
        store.patch("k", {"n": number, f"f{number}": number})
    path = disk.shard(engine.root, "k")
    first, second, *rest = path.read_bytes().splitlines(keepends=True)
    disk.edit(path, first + second.replace(b'"n":1', b'"n":7') + b"".join(rest))
    return path


def mend(engine: FileEngine, name: str, keep_as: str) -> Salvaged:
    shard = engine.pool.unnamed(name)
    assert not is_sound(shard)
    with engine.pool.transaction_on_file(shard, read=False) as txn:
        done = salvage(shard, txn, keep_as)
    assert is_sound(shard)
    shard.close_if_idle()
    return done


def test_a_shard_goes_on_with_its_whole_records(store: Store, engine: FileEngine, broken: Path) -> None:
    """The newest values win; revision 2 is missing, and the original is kept byte for byte."""
    original, kept = broken.read_bytes(), engine.root.with_name("kept")
    done = mend(engine, shard_name("k"), str(kept))
    assert (done.missing, done.touched, done.deleted) == ((2,), ("n", "f1"), False)
    assert done.fields == 4
    assert kept.read_bytes() == original
    assert store["k"].data == {"n": 3, "f0": 0, "f2": 2, "f3": 3}


def test_of_noise_nothing_is_left(store: Store, engine: FileEngine, broken: Path) -> None:
    """The file goes, so that the session is absent and not damaged; the bytes are kept."""
    disk.edit(broken, b"noise" * 1000)
    kept = engine.root.with_name("kept")
    done = mend(engine, shard_name("k"), str(kept))
    assert done == Salvaged(None, ())
    assert not broken.exists()
    assert kept.read_bytes() == b"noise" * 1000
    assert store.get("k") is None
