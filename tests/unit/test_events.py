"""What the store lets others see: records in logging, and that they cost nothing while nobody asked."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from shardstore import CorruptShard, LockTimeout, Store
from shardstore import _events as events
from tests.support import disk
from tests.support.peer import environment


@pytest.fixture
def records(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """Yield what is logged; the places that other tests damaged are forgotten."""
    events._noted.clear()
    with caplog.at_level(logging.INFO, "shardstore"):
        yield caplog


def _of(records: pytest.LogCaptureFixture, name: str) -> list[str]:
    return [f"{one.levelname} {one.getMessage()}" for one in records.records if one.name == f"shardstore.{name}"]


def test_a_slow_lock_is_told(root: Path, records: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of another thread of this process, and of another store object that waits for the kernel's lock."""
    monkeypatch.setattr(events, "SLOW_S", 0.05)
    with Store(root) as store:
        entered, waiting = threading.Event(), store._engine.pool.shard("agent:main").mutex

        def hold() -> None:
            with store.edit("agent:main"):
                entered.set()
                end = time.monotonic() + 30
                while not waiting.queue and time.monotonic() < end:
                    time.sleep(0.001)
                time.sleep(0.2)

        thread = threading.Thread(target=hold)
        thread.start()
        entered.wait(60)
        store.patch("agent:main", {"a": 1})
        thread.join()
    assert any("WARNING waited " in told and "'agent:main' in this process" in told for told in _of(records, "locks"))


def test_a_slow_lock_of_another_process_is_told(
    root: Path, records: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record comes also where the wait was given up."""
    code = f"import shardstore, sys\nwith shardstore.Store({str(root)!r}).edit('k'):\n    print('held', flush=True)\n    sys.stdin.read()"
    with Store(root, lock_timeout=0.2) as store:
        store.create("k", {})
        monkeypatch.setattr(events, "SLOW_S", 0.05)
        holder = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment()
        )
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"held\n"
            with pytest.raises(LockTimeout):
                store.patch("k", {"a": 1})
        finally:
            holder.communicate(b"", timeout=60)
    assert [told[:15] for told in _of(records, "locks")] == ["WARNING waited "]


@pytest.mark.damages
def test_rewrites_torn_tails_rebuilds_damage_and_maintenance_are_told(
    root: Path, records: pytest.LogCaptureFixture
) -> None:
    """Each in the logger of its part; damage once for each place."""
    with Store(root) as store:
        store.create("k", {"text": "x" * 60000})
        for n in range(8):
            store.patch("k", {"text": str(n) * 60000})
        assert any("INFO rewrote session 'k'" in told for told in _of(records, "journal"))
    path = disk.shard(root, "k")
    path.write_bytes(path.read_bytes().rstrip(b"\n") + b"\ntorn")
    with Store(root) as store:
        store.patch("k", {"n": 1})
        assert any("WARNING cut a torn commit off session 'k'" in told for told in _of(records, "journal"))
        store.list()
        assert any("INFO rebuilt the index" in told for told in _of(records, "index"))
        store.compact()
        assert any("compact: " in told for told in _of(records, "maintenance"))
        path.write_bytes(b"x" * 100 + b"\n" + path.read_bytes())
        for _ in range(3):
            with pytest.raises(CorruptShard):
                store.get("k")
        assert len(_of(records, "damage")) == 1
        assert not store.verify().ok
        assert any("verify: " in told for told in _of(records, "damage"))


@pytest.mark.damages
def test_an_index_that_cannot_be_used_and_a_lost_directory_are_told(
    root: Path, records: pytest.LogCaptureFixture
) -> None:
    """A list that reads every session says why; so does a writer that makes a directory again."""
    with Store(root) as store:
        store.create("k", {})
        prefix = disk.shard(root, "k").parent
    for path in prefix.iterdir():
        path.unlink()
    prefix.rmdir()
    with Store(root) as store:
        store.create("k", {})
        assert any("WARNING made the lost directory" in told for told in _of(records, "store"))
    with Store(root, read_only=True) as store:
        assert store.count() == 1  # there is no index yet, and this store makes none
    assert any("WARNING reading every shard" in told for told in _of(records, "index"))


def test_a_handler_that_fails_harms_no_commit(root: Path, records: pytest.LogCaptureFixture) -> None:
    """What it raises is dropped: the rewrite is committed."""

    class Failing(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            raise RuntimeError("the filter failed")

    failing = Failing()
    logger = logging.getLogger("shardstore.journal")
    logger.addFilter(failing)
    try:
        with Store(root) as store:
            store.create("k", {"text": "x" * 60000})
            for n in range(8):
                store.patch("k", {"text": str(n) * 60000})
            assert store["k"]["text"] == "7" * 60000
    finally:
        logger.removeFilter(failing)
    assert _of(records, "journal") == []


def test_where_nobody_listens_nothing_is_imported_or_printed(root: Path) -> None:
    """A program that configured nothing sees nothing on stderr, and does not import OpenTelemetry."""
    code = (
        "import sys\nfrom shardstore import Store, _events\n"
        f"with Store({str(root)!r}) as store:\n"
        "    store.create('k', {})\n    _events.note('locks', _events.WARNING, 'not seen')\n"
        "    assert 'opentelemetry' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment(), timeout=60, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
