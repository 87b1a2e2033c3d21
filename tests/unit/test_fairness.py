"""The queue before a lock, and the time slices of busy processes."""

from __future__ import annotations

import fcntl
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from shardstore._files.locks import fairness
from shardstore._files.locks.fairness import SLICE_S, FairLock, Queue, QueueFile
from shardstore._files.locks.flock import KernelLock
from shardstore._inside import new_token
from tests.support.actions import in_background
from tests.support.peer import one_peer

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a line is made of Linux's locks")

NAME = "ab/some-key~ab0123456789abcdef0123456789abcd.jsonl"
OTHER = "ac/some-key~ac0123456789abcdef0123456789abcd.jsonl"


def until(happened: Callable[[], bool]) -> None:
    """Wait for what another thread, or the kernel, is about to do."""
    deadline = soon(5)
    while not happened():
        assert time.monotonic() < deadline, "it does not happen"
        time.sleep(0.001)


def soon(seconds: float = 0.1) -> float:
    return time.monotonic() + seconds


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    path = tmp_path / "marker"
    path.write_bytes(b"{}")
    return path


@pytest.fixture
def three(marker: Path) -> Iterator[list[Queue]]:
    """Yield three queues on one file, through three descriptors, as three processes have them."""
    files = [QueueFile(marker) for _ in range(3)]
    yield [Queue(file, NAME) for file in files]
    for file in files:
        file.close()


def test_one_is_first_and_the_others_see_it(three: list[Queue]) -> None:
    one, two, _ = three
    assert not two.is_taken()
    one.enter(None)
    assert two.is_taken()
    assert not one.is_taken(), "one does not have to let oneself go first"
    one.leave()
    one.leave()
    assert not two.is_taken()


def test_the_line_is_in_the_order_of_arrival(three: list[Queue], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fairness, "_IN_QUEUE_S", 30)
    one, two, three_ = three
    order: list[int] = []

    def enter(line: Queue, me: int) -> None:
        line.enter(soon(30))
        order.append(me)
        line.leave()

    one.enter(None)
    waits = []
    for me, line in ((2, two), (3, three_)):
        waits.append(in_background(enter, line, me))
        until(lambda line=line: line._waiter is not None)  # type: ignore[misc]
        time.sleep(0.05)
    assert order == []
    one.leave()
    for wait in waits:
        wait()
    assert order == [2, 3]
    assert not one.is_taken()


def test_each_shard_has_its_own_line(marker: Path) -> None:
    one, two = QueueFile(marker), QueueFile(marker)
    Queue(one, NAME).enter(None)
    other = Queue(two, OTHER)
    assert not other.is_taken()
    other.enter(soon())
    assert Queue(one, OTHER).is_taken()
    one.close()
    assert not Queue(two, NAME).is_taken(), "closing the file leaves every line"
    two.close()


def test_a_place_that_was_given_up_is_passed_on_or_taken_over(
    three: list[Queue], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fairness, "_IN_QUEUE_S", 30)
    one, two, three_ = three
    for _ in range(5):
        one.enter(None)
        two.enter(soon(0.02))
        assert two._held < 0
        one.leave()
        until(lambda: two._waiter is None or two._waiter.over)
        until(lambda: not three_.is_taken())  # or the place of one who had given up is still taken
        one.enter(None)
        two.enter(soon(0.02))
        back = in_background(two.enter, soon(30))
        time.sleep(0.01)
        one.leave()
        back()
        assert three_.is_taken()
        two.leave()
        assert not three_.is_taken()


def test_nobody_waits_in_line_for_ever(three: list[Queue], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is first may have been stopped: after a second the others go on without it."""
    monkeypatch.setattr(fairness, "_IN_QUEUE_S", 0.1)
    one, two, _ = three
    one.enter(None)
    assert not two.enter(None)
    assert two._held < 0
    two.leave()
    one.leave()


def test_closing_under_a_helper_leaves_nothing_taken(marker: Path) -> None:
    one, two = QueueFile(marker), QueueFile(marker)
    first, second = Queue(one, NAME), Queue(two, NAME)
    first.enter(None)
    second.enter(soon(0.05))
    assert second._waiter is not None
    two.close()
    first.leave()
    until(lambda: second._waiter is None or second._waiter.over)
    until(lambda: not first.is_taken())
    assert not first.is_taken()
    one.close()


@pytest.mark.parametrize("mode", ["absent", "read-only", "no locks"])
def test_without_a_line_it_goes_on(marker: Path, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> bytes:
        raise OSError(22, "Invalid argument")

    if mode == "absent":
        marker.unlink()
    elif mode == "read-only":
        monkeypatch.setattr(fairness.disk, "WRITE", os.O_RDONLY)
    else:
        monkeypatch.setattr(fcntl, "fcntl", refuse)
    lines = QueueFile(marker)
    line = Queue(lines, NAME)
    assert not line.enter(soon())
    assert line._held < 0
    assert not line.is_taken()
    line.leave()
    lines.close()


@pytest.fixture
def two(tmp_path: Path, marker: Path) -> Iterator[list[tuple[FairLock, KernelLock]]]:
    """Yield two processes' fair locks and kernel locks of one shard."""
    path = tmp_path / "shard"
    path.write_bytes(b"")
    files = [QueueFile(marker) for _ in range(2)]
    pairs = [(FairLock(lines, NAME), KernelLock(os.open(path, os.O_RDWR))) for lines in files]
    yield pairs
    for _, lock in pairs:
        lock.close()
    for lines in files:
        lines.close()


def test_a_free_lock_is_left_to_those_in_line(
    two: list[tuple[FairLock, KernelLock]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that used up its slice, and finds another in the queue, leaves the free lock to it."""
    monkeypatch.setattr(fairness, "_IN_QUEUE_S", 30)
    (mine, lock), (theirs, other) = two
    assert mine.wait(lock, None, 0)
    mine.leave()
    lock.release()
    theirs._queue.enter(None)
    mine.ends = 0.0
    blocked = in_background(mine.wait, lock, soon(20), 1)
    time.sleep(0.1)
    assert other.try_acquire(), "it was taken, past the one in line"
    other.release()
    theirs._queue.leave()
    assert blocked() is True
    mine.leave()


def test_the_first_turn_looks_at_no_line(two: list[tuple[FairLock, KernelLock]]) -> None:
    """Who comes once does not queue for a lock that is free."""
    (mine, lock), (theirs, _) = two
    theirs._queue.enter(None)
    assert mine.wait(lock, soon(), 0)
    assert not mine._waiting, "it stood in line"
    lock.release()
    theirs._queue.leave()


def test_a_round_is_for_who_is_busy(two: list[tuple[FairLock, KernelLock]]) -> None:
    """Updates without a pause make the next time slices long; slow ones keep them short."""
    (mine, lock), _ = two
    assert mine.wait(lock, None, 0)
    assert mine.ends == fairness.NEVER, "nobody waited yet"
    lock.release()
    mine._contended_until = fairness.NEVER
    mine._began = time.monotonic() - fairness._FIRST_SLICE_S  # 50 turns since then
    assert mine.wait(lock, None, 50)
    assert mine.ends - mine._began == pytest.approx(SLICE_S)
    lock.release()
    mine._began -= 4 * fairness._BUSY_S  # 4 more turns, slow ones
    mine.ends = 0.0
    assert mine.wait(lock, None, 54)
    assert mine.ends - mine._began == pytest.approx(fairness._FIRST_SLICE_S)
    lock.release()


def test_the_place_in_line_is_kept_when_the_file_was_replaced(two: list[tuple[FairLock, KernelLock]]) -> None:
    """Between the lock of the old file and that of the new one nobody gets past."""
    (mine, lock), (theirs, other) = two
    assert other.try_acquire()
    waiting = in_background(mine.wait, lock, soon(30), 0)
    until(theirs._queue.is_taken)
    other.release()
    assert waiting() is True
    assert theirs._queue.is_taken()
    lock.release()
    assert mine.wait(lock, soon(), 0)
    assert theirs._queue.is_taken()
    mine.leave()
    assert not theirs._queue.is_taken()
    lock.release()


def test_a_line_that_does_not_move_is_passed_by(three: list[Queue], monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is first in line may be stopped for hours: that costs the others one wait, not one for every turn."""
    monkeypatch.setattr(fairness, "_IN_QUEUE_S", 0.2)
    stopped, line, _ = three
    stopped.enter(None)
    waits = []
    for _ in range(50):
        began = time.monotonic()
        assert not line.enter(None)
        assert not line.is_taken()
        line.leave()
        waits.append(time.monotonic() - began > 0.1)
    assert waits[0]
    assert sum(waits[1:]) < 5, "it is waited for again"
    stopped.leave()
    until(lambda: line._waiter is None or line._waiter.over)
    stopped.enter(None)
    assert line.is_taken(), "it moves again"
    stopped.leave()


def test_a_wait_in_line_leaves_time_for_the_lock(three: list[Queue]) -> None:
    """At most half of the caller's time is spent in line; with none left nobody enters it, and no helper is made."""
    first, line, _ = three
    first.enter(None)
    assert not line.enter(time.monotonic())
    assert not line.enter(time.monotonic() - 1)
    assert line._waiter is None
    deadline = time.monotonic() + 2.0
    assert not line.enter(deadline)
    assert time.monotonic() < deadline, "nothing is left for the lock"
    first.leave()


@pytest.mark.parametrize("moment", ["entered", "waiting"])
def test_an_interrupt_leaves_the_line(root: Path, moment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception from outside, between entering the line and remembering it, leaves nobody in it."""
    from shardstore import Store
    from shardstore._files.layout import shard_name

    with Store(root, durability="relaxed") as store:
        store.create("k", {"n": 0})
        watch = QueueFile(store._engine.layout.marker)
        line = Queue(watch, shard_name("k"))
        path = store._engine.pool.shard("k").path
        other = KernelLock(os.open(path, os.O_RDWR))
        assert other.try_acquire()
        if moment == "entered":
            enter = Queue.enter

            def interrupted(self: Queue, deadline: float | None) -> bool:
                enter(self, deadline)
                self._held = -1
                raise KeyboardInterrupt

            monkeypatch.setattr(Queue, "enter", interrupted)
        else:

            def interrupt(self: FairLock, lock: KernelLock, deadline: float | None) -> bool:
                raise KeyboardInterrupt

            monkeypatch.setattr(FairLock, "_await_slice", interrupt)
        with pytest.raises(KeyboardInterrupt):
            store.patch("k", {"n": 1})
        assert not line.is_taken()
        monkeypatch.undo()
        other.close()
        assert store.patch("k", {"n": 2}).rev == 2
        watch.close()


def test_a_closed_file_of_lines_stays_closed(marker: Path) -> None:
    """A thread that still waits when its Store is closed opens it no more."""
    lines = QueueFile(marker)
    assert lines.fd() >= 0
    lines.after_fork()
    assert lines.fd() >= 0
    lines.close()
    assert lines.fd() == -1
    assert lines.opened == -1


def test_who_stands_in_line_holds_no_other_lock(root: Path) -> None:
    """The lock of a file that was replaced is given back before anything is waited for."""
    from shardstore import Store

    with Store(root, durability="relaxed") as store:
        store.create("k", {"n": 0})
        shard = store._engine.pool.shard("k")
        old = KernelLock(os.open(shard.path, os.O_RDWR))
        os.rename(shard.path, root / "old")
        shard.fair.ends, shard._queue_file.check_at = fairness.NEVER, fairness.NEVER
        token = new_token(shard.mutex)
        assert shard.mutex.try_enter(token)
        assert shard.lock_at_once() is None
        assert old.try_acquire(), "the lock of the old file is held"
        shard.mutex.leave(token)
        old.close()
        (root / "old").unlink()


def _die_in_line(path: str) -> None:
    from tests.support.peer import hear, say

    Queue(QueueFile(path), NAME).enter(None)
    say("first")
    hear()


def test_a_death_leaves_the_line(marker: Path) -> None:
    lines = QueueFile(marker)
    line = Queue(lines, NAME)
    with one_peer() as peer:
        peer.start(_die_in_line, str(marker))
        assert peer.heard() == "first"
        assert line.is_taken()
        peer.kill()
    until(lambda: not line.is_taken())
    assert not line.is_taken()
    lines.close()


def test_a_forked_child_keeps_no_line(root: Path) -> None:
    """A child closes the file it inherits, so the line ends with the parent's."""
    from shardstore import Store

    with Store(root) as store:
        pool = store._engine.pool
        line = Queue(pool._queue_file, NAME)
        line.enter(None)
        child = os.fork()
        if not child:
            os._exit(0 if pool._queue_file._fd < 0 else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        watch = QueueFile(store._engine.layout.marker)
        assert Queue(watch, NAME).is_taken()
        line.leave()
        assert not Queue(watch, NAME).is_taken()
        watch.close()


def test_the_place_in_the_marker_is_the_same_in_every_version(marker: Path) -> None:
    """Processes with two versions of this library stand in one queue: a byte for each shard, named by its hash."""
    name, next_name = (f"ab/k~ab0123456789{end}00000000000000000.jsonl" for end in ("abc", "abd"))
    lines = QueueFile(marker)
    with open(marker, "r+b") as file:
        place = fairness._FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, (1 << 62) + 0xAB0123456789ABC, 1, 0)
        fcntl.fcntl(file, fcntl.F_OFD_SETLK, place)
        assert Queue(lines, name).is_taken()
        assert not Queue(lines, next_name).is_taken()
    queue = Queue(lines, name)
    assert queue.enter(None)
    watch = QueueFile(marker)
    assert Queue(watch, name).is_taken()
    assert not Queue(watch, next_name).is_taken(), "a place is one byte"
    watch.close()
    lines.close()


def test_where_the_system_has_no_queues_no_file_is_opened(marker: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fairness, "_HAVE_QUEUES", False)
    lines = QueueFile(marker)
    assert lines.fd() == -1
    assert not Queue(lines, NAME).enter(None)


def test_an_interrupted_wait_in_line_passes_its_place_on(three: list[Queue], monkeypatch: pytest.MonkeyPatch) -> None:
    """The helper may get the place after the caller has gone."""

    def interrupt(*_: object) -> bool:
        raise KeyboardInterrupt

    one, two, three_ = three
    one.enter(None)
    with monkeypatch.context() as patch:
        patch.setattr(fairness.LockWaiter, "wait", interrupt)
        with pytest.raises(KeyboardInterrupt):
            two.enter(None)
    helper = two._waiter
    assert helper is not None
    two.forget()
    one.leave()
    until(lambda: helper.over)
    until(lambda: not three_.is_taken())
    assert three_.enter(soon(5))
    three_.leave()


def test_a_wait_in_line_that_fails_is_no_place(three: list[Queue], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(37, "No locks available")

    one, two, _ = three
    one.enter(None)
    with monkeypatch.context() as patch:
        patch.setattr(Queue, "_wait", fail)
        assert not two.enter(soon(20))
    assert two._held < 0
    one.leave()
    assert two.enter(soon(20))


class Clock:
    """Stands in for the module time: sleeping takes exactly as long as was asked."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Return the clock of fairness.py, whose times can be added up without an error."""
    made = Clock()
    monkeypatch.setattr(fairness, "time", made)
    monkeypatch.setattr(fairness, "SLICE_S", 1.0)
    monkeypatch.setattr(fairness, "_POLL_S", 0.25)
    return made


@pytest.mark.parametrize(
    ("deadline", "latest"), [(None, 1000.5), (1010.0, 1000.5), (1001.0, 1000.5), (1000.5, 1000.25), (1000.25, None)]
)
def test_how_long_a_place_in_line_is_waited_for(
    three: list[Queue], clock: Clock, monkeypatch: pytest.MonkeyPatch, deadline: float | None, latest: float | None
) -> None:
    """For half of the time that there is, and not for ever; not at all where no time is left for the lock."""
    monkeypatch.setattr(fairness, "_IN_QUEUE_S", 0.5)
    asked: list[float] = []
    waiter = SimpleNamespace(wait=lambda until: asked.append(until), over=False)
    monkeypatch.setattr(fairness, "LockWaiter", lambda *_: waiter)
    one, two, _ = three
    one.enter(None)
    assert not two.enter(deadline)
    assert asked == ([] if latest is None else [latest])
    assert not two._stuck
    assert two.is_taken()


def test_a_line_is_passed_by_from_a_moment_on(
    three: list[Queue], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A place that was asked for _IN_QUEUE_S ago and not reached."""
    monkeypatch.setattr(fairness, "_IN_QUEUE_S", 0.5)
    waiter = SimpleNamespace(wait=lambda _: False, rejoin=lambda: True, over=False)
    monkeypatch.setattr(fairness, "LockWaiter", lambda *_: waiter)
    one, two, _ = three
    one.enter(None)
    for passed, stuck in ((0.0, False), (0.375, False), (0.125, True)):
        clock.now += passed
        assert not two.enter(None)
        assert two._stuck is stuck
    assert not two.is_taken()
    waiter.over = True
    assert two.is_taken()


class Lock:
    """Stands in for a kernel lock: it is free at the try of this number, counted from 1."""

    def __init__(self, free_at: int = 1) -> None:
        self.free_at, self.tries, self.asked = free_at, 0, list[Any]()
        self.abandoned: object = None

    def try_acquire(self) -> bool:
        self.tries += 1
        return self.tries == self.free_at

    def try_shortly(self, deadline: float | None) -> bool:
        self.asked.append(("shortly", deadline))
        return self.free_at == 1

    def acquire(self, deadline: float | None) -> bool:
        self.asked.append(("acquire", deadline))
        return True


class Line:
    """Stands in for the queue."""

    def __init__(self, *, taken: bool = False, first: bool = True) -> None:
        self.taken, self.first, self.calls = taken, first, list[str]()

    def is_taken(self) -> bool:
        self.calls.append("is_taken")
        return self.taken

    def enter(self, _deadline: float | None) -> bool:
        self.calls.append("enter")
        return self.first

    def leave(self) -> None:
        self.calls.append("leave")

    def forget(self) -> None:
        self.calls.append("forget")


def fair_lock(marker: Path, line: Line) -> Any:
    made: Any = FairLock(QueueFile(marker), NAME)
    made._queue = line
    return made


@pytest.mark.parametrize(
    ("updates", "pause", "busy_until"),
    [(3, 0.0, 0.0), (3, -0.0001, 1.0), (4, -0.001, 1.0), (4, 0.5, 0.0), (2, -0.0001, 77.0), (0, 0.0, 77.0)],
)
def test_a_process_is_busy_after_three_updates_without_a_pause(
    marker: Path, updates: int, pause: float, busy_until: float
) -> None:
    """Of fewer it is not known; `pause`: seconds beside those that the updates may take."""
    fair = fair_lock(marker, Line())
    fair._busy_until, fair._count, fair._began = 77.0, 10, -(updates * fairness._BUSY_S) - pause
    fair._measure(0.0, 10 + updates)
    assert fair._busy_until == (fairness._REMEMBERED_S if busy_until == 1.0 else busy_until)


@pytest.mark.parametrize(
    ("contended_until", "busy_until", "ends"),
    [(100, 999, fairness.NEVER), (101, 100, 100 + fairness._FIRST_SLICE_S), (101, 101, 100 + SLICE_S)],
)
def test_a_time_slice_ends(marker: Path, contended_until: float, busy_until: float, ends: float) -> None:
    """Never where nobody waited lately; soon where the process is not known to be busy."""
    fair = fair_lock(marker, Line())
    fair._contended_until, fair._busy_until = contended_until, busy_until
    fair._begin(100.0, 7)
    assert (fair._began, fair._count, fair.ends) == (100.0, 7, ends)


@pytest.mark.parametrize(
    ("ends", "count", "asked"),
    [(fairness.NEVER, 1, True), (1000.0, 1, True), (999.0, 1, True), (1000.5, 1, False), (fairness.NEVER, 0, False)],
)
@pytest.mark.parametrize("taken", [False, True])
def test_the_queue_is_looked_at_when_a_time_slice_is_over(  # noqa: PLR0913  # a state, and what is expected
    marker: Path, clock: Clock, ends: float, count: int, asked: bool, taken: bool
) -> None:
    """Not in a time slice, and not by the first update of a process; a look begins another slice."""
    line = Line(taken=taken)
    fair, lock = fair_lock(marker, line), Lock()
    fair.ends = ends
    assert fair.try_politely(lock, count) is (not taken or not asked)
    assert line.calls == ["is_taken"] * asked
    assert lock.tries == (0 if taken and asked else 1)
    assert fair._queue_file.check_at == 1000.0 + fairness._CHECK_S
    assert (fair._began, fair._count) == ((0.0, 0) if ends == 1000.5 else (1000.0, count))
    fair.ends = 0.0
    clock.now += 3 * fairness._BUSY_S / 2
    fair.try_politely(lock, fair._count + 3)
    assert fair._busy_until == (clock.now + fairness._REMEMBERED_S if ends != 1000.5 else 0.0)


def test_a_free_lock_is_had_without_standing_in_line(marker: Path, clock: Clock) -> None:
    """A busy process tries once; any other one tries for a moment."""
    line, lock = Line(), Lock()
    fair = fair_lock(marker, line)
    assert fair.wait(lock, 1005.0, 0)
    assert (lock.asked, lock.tries) == ([("shortly", 1005.0)], 0)
    fair._busy_until = 1001.0
    assert fair.wait(lock, 1005.0, 0)
    assert (lock.asked, lock.tries) == ([("shortly", 1005.0)], 1)
    assert line.calls == []
    assert (fair._waiting, fair.ends) == (False, fairness.NEVER)


@pytest.mark.parametrize(("busy", "first"), [(True, True), (True, False), (False, True), (False, False)])
def test_who_waited_has_a_time_slice(marker: Path, clock: Clock, busy: bool, first: bool) -> None:
    """And lets the slice of a busy process before it pass, where it is the first in line and busy itself."""
    line, lock = Line(first=first), Lock(free_at=9)
    fair = fair_lock(marker, line)
    fair._busy_until = 1000.0 + 99 * busy
    assert fair.wait(lock, None, 2)
    assert line.calls == ["is_taken", "enter"]
    assert clock.slept == ([1.0, 0.25, 0.25, 0.25, 0.25] if busy and first else [])
    assert fair._slice_ahead == (1001.0 if busy and first else 0.0)
    assert lock.asked == [("shortly", None)] * (not busy) + [("acquire", None)]
    assert fair._contended_until == clock.now + fairness._REMEMBERED_S
    assert (fair._began, fair._count) == (clock.now, 2)
    assert fair.ends == clock.now + (1.0 if busy else fairness._FIRST_SLICE_S)
    assert fair.wait(lock, None, 3)
    assert line.calls == ["is_taken", "enter"], "it keeps its place"
    for end in ("leave", "forget"):
        fair._waiting, fair._slice_ahead = True, 1.0
        getattr(fair, end)()
        assert line.calls[-1] == end
        assert (fair._waiting, fair._slice_ahead) == (False, 0.0)


@pytest.mark.parametrize(
    ("deadline", "free_at", "slept", "tries", "got"),
    [
        (None, 0, [1.0, 0.25, 0.25, 0.25, 0.25], 4, False),
        (None, 3, [1.0, 0.25, 0.25], 3, True),
        (1001.5, 0, [1.0, 0.25, 0.25], 2, False),
        (1001.125, 0, [1.0, 0.125], 1, False),
        (1000.5, 0, [0.5], 0, False),
        (1000.0, 0, [], 0, False),
    ],
)
def test_the_slice_ahead_is_slept_through(  # noqa: PLR0913  # times, and what is expected
    marker: Path, clock: Clock, deadline: float | None, free_at: int, slept: list[float], tries: int, got: bool
) -> None:
    """Then the lock is tried often, for another slice, and never past the deadline."""
    fair, lock = fair_lock(marker, Line()), Lock(free_at)
    fair._slice_ahead = 1001.0
    assert fair._await_slice(lock, deadline) is got
    assert (clock.slept, lock.tries) == (slept, tries)


def test_a_wait_that_was_given_up_is_gone_on_with(marker: Path, clock: Clock) -> None:
    """It still stands in the kernel's queue."""
    fair, lock = fair_lock(marker, Line()), Lock()
    fair._slice_ahead, lock.abandoned = 1001.0, object()
    assert not fair._await_slice(lock, None)
    assert (clock.slept, lock.tries) == ([], 0)
