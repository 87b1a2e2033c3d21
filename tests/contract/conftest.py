"""The backends under contract, each of which is held to every test here that its kind of store can pass."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from shardstore import Store
from tests.contract.backend import BACKENDS, Backend, Elsewhere, PooledBackend
from tests.support.peer import Peers
from tests.support.pooler import pooled
from tests.support.postgres import server_or_skip


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test on every backend that it is for, and in some modules (BOTH_DURABILITIES) at each durability."""
    if "backend" in metafunc.fixturenames:
        marks = {mark.name for mark in metafunc.definition.iter_markers()}
        module = metafunc.module.__name__.rpartition(".")[2]
        test = metafunc.function.__name__
        names = [name for name, kind in BACKENDS.items() if is_for(kind, marks, module) and test not in kind.leaves_out]
        metafunc.parametrize("backend", names, indirect=True)
    if "store" in metafunc.fixturenames and getattr(metafunc.module, "BOTH_DURABILITIES", False):
        metafunc.parametrize("store", ["commit", "relaxed"], indirect=True)


def is_for(backend: type[Backend], marks: set[str], module: str) -> bool:
    """Return whether a test with these markers is for this backend."""
    if backend.asked_by and not os.environ.get(backend.asked_by):
        return False
    if backend.modules and module not in backend.modules and not os.environ.get("SHARDSTORE_TEST_WHOLE_CONTRACT"):
        return False
    return (backend.in_files or "files" not in marks) and (backend.shared_between_processes or "processes" not in marks)


@pytest.fixture(scope="session")
def pooler() -> Iterator[str]:
    """Yield the URL of the run's server through a pooler of this process."""
    with pooled(server_or_skip()) as made:
        yield made.url()


@pytest.fixture
def backend(request: pytest.FixtureRequest, root: Path) -> Iterator[Backend]:
    """Yield the place where this test's store is; it is checked when the test ends."""
    if request.param == "postgres":
        server_or_skip()
    if request.param == "pooled":
        made: Backend = PooledBackend(root, server_or_skip(), request.getfixturevalue("pooler"))
    else:
        made = BACKENDS[request.param](root)
    try:
        yield made
        if request.node.get_closest_marker("damages") is None:
            made.check()
    finally:
        made.drop()


@pytest.fixture
def store_factory(backend: Backend) -> Iterator[Callable[..., Store]]:
    """Yield a function that opens the one store of this test, again each time, with options."""
    opened: list[Store] = []

    def factory(**options: Any) -> Store:
        opened.append(backend.open(**options))
        return opened[-1]

    yield factory
    for one in opened:
        one.close()


@pytest.fixture
def elsewhere(request: pytest.FixtureRequest, backend: Backend) -> Elsewhere:
    """Return a way to read the store as whoever remembers nothing of it: in another process, where it has others."""
    if not backend.shared_between_processes:
        return Elsewhere(None, backend)
    crew: Callable[[int], Peers] = request.getfixturevalue("crew")
    return Elsewhere(crew(1)[0], backend)


@pytest.fixture
def store(request: pytest.FixtureRequest, store_factory: Callable[..., Store]) -> Store:
    """Return a new store."""
    return store_factory(durability=getattr(request, "param", "commit"))
