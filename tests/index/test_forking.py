"""A fork waits for whoever is inside SQLite, and whoever wants to go inside waits for the fork."""

from __future__ import annotations

import gc
import threading
import time

import pytest

from shardstore._files import forking
from tests.support import actions


class Connection:
    """Something that can be used."""


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin where nobody uses anything."""
    monkeypatch.setattr(forking, "_users", {})
    monkeypatch.setattr(forking, "_forking", 0)


def in_another_thread(function: object, *args: object) -> None:
    actions.in_background(function, *args)(30.0)  # type: ignore[arg-type]


def test_a_fork_waits_for_the_other_threads_alone() -> None:
    own, other = Connection(), Connection()
    forking.begin_use(own)
    assert not forking._others(), "who forks may be in the middle of a call of its own"
    in_another_thread(forking.begin_use, other)
    assert forking._others()
    forking.end_use(other)
    assert not forking._others()


def test_a_dropped_connection_holds_up_nobody() -> None:
    """Its thread was interrupted, and never said that it is done."""
    other = Connection()
    in_another_thread(forking.begin_use, other)
    del other
    gc.collect()
    assert not forking._others()


def test_a_fork_goes_on_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rebuilding the index may take longer than anybody wants to wait."""
    monkeypatch.setattr(forking, "_PATIENCE_S", 0.05)
    other = Connection()
    in_another_thread(forking.begin_use, other)
    forking._before_fork()
    assert forking._forking == threading.get_ident()
    forking._after_fork_in_parent()
    assert forking._forking == 0


def test_who_is_inside_already_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal handler lists in the middle of a list: the fork waits for the list, so the handler must not wait for it."""
    forking.begin_use(beneath := Connection())
    monkeypatch.setattr(forking, "_forking", threading.get_ident() + 1)
    monkeypatch.setattr(forking.time, "sleep", lambda _: pytest.fail("it waits"))
    forking.begin_use(Connection())
    forking.end_use(beneath)


def test_nobody_goes_inside_while_another_thread_forks() -> None:
    forking._before_fork()
    connection = Connection()
    forking.begin_use(connection)  # by the thread that forks: at once
    forking.end_use(connection)
    wait = actions.in_background(forking.begin_use, connection)
    time.sleep(0.05)
    assert not forking._others(), "it was let in"
    forking._after_fork_in_parent()
    wait(30.0)
    assert forking._others()


def test_a_child_knows_of_no_user() -> None:
    """The parent's other threads are not there."""
    other = Connection()
    in_another_thread(forking.begin_use, other)
    forking._after_fork_in_child()
    assert not forking._others()
    assert forking._users == {}
