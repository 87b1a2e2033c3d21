"""The backend under contract. To hold another one to it, override `backend` where these tests are collected again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from shardstore import Store
from tests.contract.backend import Elsewhere, FileBackend
from tests.support.peer import Peers


@pytest.fixture
def backend(root: Path) -> FileBackend:
    """Give the place where this test's store is."""
    return FileBackend(root)


@pytest.fixture
def store_factory(backend: FileBackend) -> Iterator[Callable[..., Store]]:
    """Give a function that opens the one store of this test, again each time, with options."""
    opened: list[Store] = []

    def factory(**options: Any) -> Store:
        opened.append(backend.open(**options))
        return opened[-1]

    yield factory
    for one in opened:
        one.close()


@pytest.fixture
def elsewhere(backend: FileBackend, crew: Callable[[int], Peers]) -> Elsewhere:
    """Give a way to read the store in another process; a second Store object of this one shares what it remembers."""
    return Elsewhere(crew(1)[0], backend)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the tests of a module that asks for it (BOTH_DURABILITIES) once at each durability."""
    if "store" in metafunc.fixturenames and getattr(metafunc.module, "BOTH_DURABILITIES", False):
        metafunc.parametrize("store", ["commit", "relaxed"], indirect=True)


@pytest.fixture
def store(request: pytest.FixtureRequest, store_factory: Callable[..., Store]) -> Store:
    """Give a new store."""
    return store_factory(durability=getattr(request, "param", "commit"))
