"""Editors and git that turn line ends into CR LF."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from shardstore import Store
from tests.scenarios import people
from tests.scenarios.people import KEY
from tests.support import disk


def test_a_converted_file(root: Path) -> None:
    """It is read, named, and written back by a repair."""
    people.a_converted_file_is_read_named_and_normalised(root)


def first_line(data: bytes) -> bytes:
    """Convert one line: somebody edited the file by hand."""
    return data.replace(b"\n", b"\r\n", 1)


def records_alone(data: bytes) -> bytes:
    """Convert the records, and drop the space behind them, as an editor that trims does."""
    return data.rstrip(b"\n").replace(b"\n", b"\r\n") + b"\r\n"


def without_the_last(data: bytes) -> bytes:
    """Convert every line but the last."""
    return data.rstrip(b"\n").replace(b"\n", b"\r\n") + b"\n"


def twice(data: bytes) -> bytes:
    """Convert it again: an editor and git, or a transfer as text, each did."""
    return data.replace(b"\n", b"\r\r\n")


@pytest.mark.parametrize("convert", [twice, first_line, records_alone, without_the_last])
def test_a_half_converted_file(root: Path, convert: Callable[[bytes], bytes]) -> None:
    """Whatever part was converted: a reader, a writer that goes on behind it, and maintenance lose nothing."""
    with Store(root) as store:
        for number in range(3):
            store.patch(KEY, {"n": number})
        path = disk.shard(root, KEY)
        disk.edit(path, convert(path.read_bytes()))
        assert (store[KEY].rev, store[KEY]["n"]) == (3, 2)
        assert store.patch(KEY, {"m": 1}).data == {"n": 2, "m": 1}
    with Store(root) as store:
        assert [one.rev for one in store.history(KEY)] == [1, 2, 3, 4]
        assert [problem.kind for problem in store.verify().problems] == ["line-endings"]
        assert store.verify(repair=True).ok
        assert store[KEY].data == {"n": 2, "m": 1}
        assert store.verify().ok


def test_a_converted_file_of_a_deleted_session(root: Path) -> None:
    """It stays deleted, and can be created again."""
    with Store(root) as store:
        store.patch(KEY, {"n": 1})
        store.delete(KEY)
        path = disk.shard(root, KEY)
        disk.edit(path, path.read_bytes().replace(b"\n", b"\r\n"))
        assert KEY not in store
        assert store.verify(repair=True).ok
        assert KEY not in store
        assert store.create(KEY, {"n": 2}).rev == 1


def test_a_converted_torn_tail(root: Path) -> None:
    """The last record was cut before the conversion: it is stepped over as ever, and the rest is read."""
    with Store(root) as store:
        for number in range(3):
            store.patch(KEY, {"n": number})
        path = disk.shard(root, KEY)
        cut = path.read_bytes().rstrip(b"\n")[:-20]
        disk.edit(path, cut.replace(b"\n", b"\r\n"))
        assert store[KEY]["n"] == 1
        assert store.patch(KEY, {"n": 9}).rev == 3
        assert store.verify(repair=True).ok
        assert store[KEY]["n"] == 9
