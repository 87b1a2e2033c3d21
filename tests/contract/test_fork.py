"""A forked child is another process: it shares neither locks nor descriptors with its parent."""

from __future__ import annotations

import multiprocessing
import sys

import pytest

from shardstore import Store
from tests.contract import backend as peers
from tests.support.actions import add_one

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no fork")


@pytest.mark.processes
def test_parent_and_children_lose_no_increment(backend: peers.Backend, crew) -> None:
    """A store that was open and warm before a fork works on in parent and children, and they exclude each other."""
    (peer,) = crew(1)
    assert peer.run(peers.fork_and_increment, backend, "k", 60) == [0, 0]
    with backend.open() as store:
        assert store["k"]["n"] == 181


@pytest.mark.processes
def test_a_forked_child_signs_with_its_own_pid(backend: peers.Backend, crew) -> None:
    """The default actor is the pid of the process that writes, also after a fork."""
    parent, recorded, child = crew(1)[0].run(peers.fork_actors, backend, "k")
    assert recorded == str(child)
    assert recorded != parent


def _work(backend: peers.Backend, store: Store | None, times: int) -> None:
    opened = store if store is not None else backend.open()
    for _ in range(times):
        opened.update("k", lambda draft: add_one(draft, 0.0005))


@pytest.mark.processes
def test_the_spawn_method_of_multiprocessing(backend: peers.Backend) -> None:
    """Processes started by multiprocessing's spawn lose no increment."""
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_work, args=(backend, None, 40)) for _ in range(2)]
    try:
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(60)
        assert [worker.exitcode for worker in workers] == [0, 0]
    finally:
        for worker in workers:
            worker.kill()
            worker.join()
            worker.close()
    with backend.open() as store:
        assert store["k"]["n"] == 80
