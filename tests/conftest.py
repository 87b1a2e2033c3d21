"""Fixtures of every test: a place for a store, whose integrity is checked when the test ends."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from shardstore import Store
from tests.support import disk, leftovers, settling
from tests.support.left_out import (  # noqa: F401 - hooks
    pytest_deselected,
    pytest_sessionfinish,
    pytest_terminal_summary,
    pytest_testnodedown,
)
from tests.support.peer import Peer, Peers
from tests.support.readable import ReadableCopy
from tests.support.sound import check_store

leftovers.watch_connections()
hypothesis.settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")
_passed = pytest.StashKey[bool]()


def working_directory() -> str | None:
    """Choose where the stores of the tests are: SHARDSTORE_TEST_DIR, else memory where the system offers it.

    A store makes 260 directories, and most tests make a store. Nothing here depends on a medium: tests/torture does.
    """
    chosen = os.environ.get("SHARDSTORE_TEST_DIR")
    if chosen is None and os.access("/dev/shm", os.W_OK) and shutil.disk_usage("/dev/shm").free > 2 << 30:
        chosen = "/dev/shm"
    return chosen


def pytest_configure(config: pytest.Config) -> None:
    """Have Ctrl-C reach what the tests start: a run in the background inherits that it is ignored."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def nothing_stays_open() -> Iterator[None]:
    """Fail the test that leaves a connection, a pipe or a socket open, when everything else of it has ended."""
    before = leftovers.channels()
    yield
    assert leftovers.connections() == []
    assert leftovers.left_open(before) == {}


@pytest.fixture(autouse=True)
def constants_stay() -> Iterator[None]:
    """Put back what a scenario sets for its process: else all that this worker runs later settles early."""
    # Without the fixture monkeypatch, which must end before a test's store is checked.
    limit = settling.limit()
    yield
    settling.settle_at(limit)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Note whether the test itself failed, for the fixtures that end after it."""
    report: Any = yield
    if report.when == "call":
        item.stash[_passed] = report.passed
    return report


@pytest.fixture
def root(request: pytest.FixtureRequest) -> Iterator[Path]:
    """Yield a path for a store, and check the store when the test ends, unless the test says that it damages it."""
    base = Path(tempfile.mkdtemp(prefix="shardstore-test-", dir=working_directory()))
    path = base / "sessions"
    try:
        yield path
        if request.node.get_closest_marker("damages") is None and (path / "shardstore.json").exists():
            verify(path)
        # A failure keeps its frames, and what they hold; a test may say what nothing could close.
        if request.node.stash.get(_passed, False) and request.node.get_closest_marker("leaks") is None:
            assert leftovers.below(base) == []
    finally:
        shutil.rmtree(base, ignore_errors=True)


@pytest.fixture
def store(root: Path) -> Iterator[Store]:
    """Yield a new store."""
    with Store(root) as opened:
        yield opened


@pytest.fixture
def open_store(root: Path) -> Iterator[Callable[..., Store]]:
    """Yield a function that opens the same store again, with options."""
    opened: list[Store] = []

    def again(**options: Any) -> Store:
        opened.append(Store(root, **options))
        return opened[-1]

    yield again
    for one in opened:
        one.close()


@pytest.fixture(scope="session")
def _crew_for_life() -> Iterator[Peers]:
    group = Peers()
    yield group
    for peer in group:
        peer.close()


@pytest.fixture
def crew(_crew_for_life: Peers) -> Iterator[Callable[[int], Peers]]:
    """Yield a function that lends other processes, which tests share; a test that kills one starts its own."""
    lent = Peers()

    def lend(count: int) -> Peers:
        while len(_crew_for_life) < count:
            _crew_for_life.append(Peer())
            leftovers.share(*_crew_for_life[-1].descriptors())
        group = Peers(_crew_for_life[:count])
        lent.extend(peer for peer in group if peer not in lent)
        return group

    yield lend
    for peer in lent:
        try:
            assert peer.run(abs, -1, timeout=5.0) == 1
        except Exception:
            _crew_for_life.remove(peer)
            peer.kill()
            peer.close()


@pytest.fixture(scope="session")
def readable_copy() -> Iterator[ReadableCopy]:
    """Yield a copy of the checkout that every user can import from."""
    place = Path(tempfile.mkdtemp(prefix="shardstore-copy-", dir=working_directory()))
    try:
        yield ReadableCopy(place)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def verify(root: Path) -> None:
    """Check a quiet store twice: by its own answers, and with the tests' own reading of the format."""
    with Store(root, create=False, allow_shared=True) as store:
        before = disk.fingerprint(root)
        check_store(store)
    assert disk.fingerprint(root) == before, "checking a store changed its sessions"
    disk.check(root)
