"""The backend under contract. To hold another one to it, override `backend` where these tests are collected again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from shardstore import Store
from tests.contract.backend import Elsewhere, FileBackend, MemoryBackend
from tests.support.peer import Peers


@pytest.fixture
def backend(request: pytest.FixtureRequest) -> Iterator[FileBackend | MemoryBackend]:
    """Give the place where this test's store is: files, and memory where a test needs no more than the verbs."""
    if getattr(request, "param", "files") == "files":
        yield FileBackend(request.getfixturevalue("root"))
        return
    made = MemoryBackend()
    yield made
    made.close()


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
    if "backend" in metafunc.fixturenames:
        kinds = ["files"] if _needs_more(metafunc) else ["files", "memory"]
        metafunc.parametrize("backend", kinds, indirect=True)
    if "store" in metafunc.fixturenames and getattr(metafunc.module, "BOTH_DURABILITIES", False):
        metafunc.parametrize("store", ["commit", "relaxed"], indirect=True)


@pytest.fixture
def store(request: pytest.FixtureRequest, store_factory: Callable[..., Store]) -> Store:
    """Give a new store."""
    return store_factory(durability=getattr(request, "param", "commit"))


_FILES_ALONE = {"root", "elsewhere", "crew", "open_store"}  # fixtures: the files themselves, or other processes


def _needs_more(metafunc: pytest.Metafunc) -> bool:
    """Return whether a test needs files or other processes, which a store in memory does not have."""
    if any(metafunc.definition.get_closest_marker(name) for name in ("files", "processes")):
        return True
    return bool(_FILES_ALONE & set(metafunc.fixturenames))


def pytest_report_header() -> str:
    """Say what is left out for the store in memory."""
    return (
        "contract on memory: left out where a test needs files or other processes (marks and fixtures of these names)"
    )
