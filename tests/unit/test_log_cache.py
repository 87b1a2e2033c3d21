"""What a process remembers of log files stays within its bounds, and no other thread or handler disturbs it."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator

import pytest

from shardstore._files import log_cache
from shardstore._files.log_cache import KnownIds, LastLine, id_key, nothing_known


def _read(known: KnownIds, file_id: str, *names: str) -> None:
    known.extend(file_id, nothing_known(), 100, [(name, n) for n, name in enumerate(names)], LastLine(90, b"line"))


def _files(known: KnownIds, count: int) -> list[str]:
    return [f"f{n}" for n in range(count) if known.of(f"f{n}").end]


def test_the_files_read_longest_ago_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_cache, "_ID_FILES_MAX", 3)
    known = KnownIds()
    for n in range(4):
        _read(known, f"f{n}", "a")
    assert _files(known, 4) == ["f1", "f2", "f3"]
    _read(known, "f1", "a", "b")
    _read(known, "f4", "a")
    assert _files(known, 5) == ["f1", "f3", "f4"]
    assert known.of("f1").numbers == {"a": 0, "b": 1}


def test_the_ids_are_bounded_but_for_those_of_the_newest_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_cache, "_IDS_MAX", 4)
    known = KnownIds()
    _read(known, "f0", "a", "b")
    _read(known, "f1", "c", "d")
    assert _files(known, 2) == ["f0", "f1"]
    _read(known, "f2", "e")
    assert _files(known, 3) == ["f1", "f2"]
    _read(known, "f3", *"fghijk")
    assert _files(known, 4) == ["f3"]


def test_a_handler_may_forget_files_between_any_two_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes in while the sizes are added up: neither an error, nor a file that comes back."""
    known = KnownIds()

    class Sizes(dict[str | bytes, int]):
        def __len__(self) -> int:
            known.forget("f0")
            known.forget("f1")
            return super().__len__()

    monkeypatch.setattr(log_cache, "_IDS_MAX", 1)
    monkeypatch.setattr(log_cache, "nothing_known", lambda: log_cache.Known(0, LastLine(0, b""), Sizes()))
    for n in range(3):
        known.extend(f"f{n}", log_cache.nothing_known(), 100, [("a", 0), ("b", 1)], LastLine(90, b"line"))
    assert _files(known, 3) == ["f2"]


def test_a_garbage_collection_may_forget_files_at_any_step() -> None:
    """A finalizer lets another thread, or itself, forget one: in Python 3.11 also while a copy is made."""
    known = KnownIds()
    for n in range(40):
        _read(known, f"f{n}", "a")
    forgotten = iter(range(40))

    def forget(phase: str, _info: object) -> None:
        if phase == "stop":
            known.forget(f"f{next(forgotten, 0)}")

    pairs = [(n, n) for n in range(5_000)]  # else a pair takes the memory of an old one, and starts no collection
    before = gc.get_threshold()
    gc.callbacks.append(forget)
    try:
        gc.set_threshold(1)
        for _ in range(100):
            known._bound()
    finally:
        gc.set_threshold(*before)
        gc.callbacks.remove(forget)
    assert next(forgotten, None) is None, "there were collections"
    assert len(pairs) == 5_000


def test_threads_forget_and_read_at_once() -> None:
    known = KnownIds()
    failures: list[BaseException] = []

    def forever() -> Iterator[int]:
        n = 0
        while not done.is_set():
            n += 1
            yield n

    def forget() -> None:
        for n in forever():
            known.forget(f"f{n % 40}")

    def read() -> None:
        try:
            for n in range(3_000):
                _read(known, f"f{n % 40}", "a", "b")
        except BaseException as error:
            failures.append(error)

    done = threading.Event()
    other = threading.Thread(target=forget)
    other.start()
    try:
        read()
    finally:
        done.set()
        other.join()
    assert not failures


def test_a_long_id_is_remembered_by_its_hash() -> None:
    assert id_key("a" * 48) == "a" * 48
    assert id_key("a" * 49) != id_key("a" * 50)
    assert len(id_key("a" * 10_000)) == 16
