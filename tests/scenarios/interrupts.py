"""An exception from outside, or a signal handler that uses the store, at every single bytecode of a call.

A signal handler's exception, a soft time limit's or a KeyboardInterrupt may arrive between any two bytecodes. sys.settrace
puts it at each of them in turn, one a run, and at the calls and returns in between.
"""

from __future__ import annotations

import contextlib
import dis
import fcntl
import gc
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, ClassVar, Self

import shardstore
from shardstore import NestedUpdate, Store, StoreBusy
from shardstore._verbs.edit import Edit
from tests.support import actions, leftovers
from tests.support.peer import one_peer

KEY, OTHER = "agent:main:main", "agent:main:other"
SOON_S = 2.0
_PACKAGE = str(Path(shardstore.__file__).parent)
_MOST = 20_000  # positions of one call
# Python 3.13 tells a trace function of a bytecode only where the code was traced before, and forgets that as soon as
# anybody runs it untraced. There the exception strikes at calls, at returns, and at some bytecodes.
EVERY_BYTECODE = sys.version_info < (3, 13)
_LOST_MOST = 20  # descriptors that are lost, of all positions of one call


class FromOutside(BaseException):
    """What the code beneath did not raise."""


class _Positions:
    """What the compiler says of one piece of code: where its exceptions go, and where signals are looked for."""

    _known: ClassVar[dict[int, _Positions]] = {}  # by id: hashing a code object costs more than running it

    def __init__(self, code: CodeType) -> None:
        self.code = code
        table: list[Any] = dis._parse_exception_table(code)  # type: ignore[attr-defined]
        self.handler: dict[int, int] = {}
        for entry in table:
            self.handler.update(dict.fromkeys(range(entry.start, entry.end, 2), entry.target))
        names = ("CALL", "RESUME", "JUMP_BACKWARD")
        self.checks = {one.offset for one in dis.get_instructions(code) if one.opname.startswith(names)}

    @classmethod
    def of(cls, code: CodeType) -> _Positions:
        found = cls._known.get(id(code))
        return found if found is not None else cls._known.setdefault(id(code), cls(code))


class At:
    """Act at the n-th position of what runs inside the block: before a bytecode, at a call or at a return.

    The interpreter looks for signals behind a call, so its exception goes where that one's does; the trace function comes
    before the next bytecode. Where another handler begins, up to the next call, there is no position: above all not
    between the body of a `with` and the call that ends it.
    """

    def __init__(self, position: int, action: Callable[[], None]) -> None:
        self.left = position
        self.action = action
        self.where = ""
        self._tracer = self._trace  # one object, which outlives its use by the interpreter
        self._last: dict[FrameType, int] = {}
        self._between: set[FrameType] = set()

    def __enter__(self) -> Self:
        sys.settrace(self._tracer)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)
        self._last.clear()
        self._between.clear()

    def _is_possible(self, frame: FrameType, event: str) -> bool:
        if event == "return":  # behind that of `__enter__` no signal is looked for before the block's first call
            return frame.f_code is not Edit.__enter__.__code__
        if event != "opcode":
            return event == "call"
        last, self._last[frame] = self._last.get(frame, 0), frame.f_lasti
        code = _Positions.of(frame.f_code)
        if code.handler.get(last) != code.handler.get(frame.f_lasti):
            self._between.add(frame)
        elif last in code.checks:
            self._between.discard(frame)
        return frame not in self._between

    def _trace(self, frame: FrameType, event: str, _arg: object) -> Any:
        code = frame.f_code
        if not code.co_filename.startswith(_PACKAGE) and not code.co_name.startswith("traced_"):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        if not self.where and self._is_possible(frame, event):
            self.left -= 1
            if not self.left:
                self.where = f"{Path(code.co_filename).name}:{frame.f_lineno} {code.co_qualname} ({event})"
                sys.settrace(None)
                self._last.clear()
                self._between.clear()
                self.action()
                return None
        return None if self.where else self._tracer


def _raise() -> None:
    raise FromOutside


class Thread:
    """One other thread, which calls what it is given."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[object] = queue.SimpleQueue()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                self._done.put(job())
            except BaseException as error:
                self._done.put(error)

    def call(self, job: Callable[[], object]) -> object:
        self._jobs.put(job)
        try:
            found = self._done.get(timeout=SOON_S + 5)
        except queue.Empty:
            raise AssertionError("another thread waits for ever") from None
        if isinstance(found, BaseException):
            raise found
        return found

    def end(self) -> None:
        self._jobs.put(None)


def add_one(draft: Any) -> None:
    draft["n"] = draft.get("n", 0) + 1


def traced_edit(store: Store, key: str) -> None:
    """Edit, with the `with` itself among what is interrupted."""
    with store.edit(key) as draft:
        draft["n"] = draft.get("n", 0) + 1


CALLS: dict[str, Callable[[Store, str], object]] = {
    "update": lambda store, key: store.update(key, actions.add_one),
    "edit": traced_edit,
    "delete": lambda store, key: store.delete(key),
    "append": lambda store, key: store.append(key, ["an item"], add_one),
    "get_or_create": lambda store, key: store.get_or_create(key, {"n": 1}),
    "get": lambda store, key: store.get(key),
    "refresh": lambda store, key: store.engine.pool.shard(key).read_if_free(),  # type: ignore[attr-defined]
}


def _stores(root: Path, kind: str) -> Store:
    options: dict[str, Any] = {"durability": "relaxed", "lock_timeout": SOON_S}
    return Store.memory(**options) if kind == "memory" else Store(root, **options)


def an_exception_at_any_bytecode_unlocks(
    root: Path, kind: str = "files", call: str = "update", state: str = "hot", step: int = 1
) -> int:
    """Wherever it strikes, the session is free at once: for this thread, another thread and another process.

    state: "hot" (the same open session again and again), "cold" (closed before each call) or "new" (never made).
    Return how many positions there were.
    """
    thread = Thread()
    with _stores(root, kind) as store:
        try:
            for _ in range(100):
                store.update(KEY, actions.add_one)
            for position in range(1, _MOST, step):
                key = f"k{position}" if state == "new" else KEY
                if state != "new" and call != "delete":
                    store.update(key, actions.add_one)
                elif state != "new":
                    store.replace(key, {"n": 1})
                if state == "cold" and kind == "files":
                    store.engine.pool.close_idle()  # type: ignore[attr-defined]
                kept: list[BaseException] = []
                where = _strike(store, CALLS[call], key, position, kept)
                _is_free(store, thread, key, where)
                if not where:
                    break
            else:
                raise AssertionError("the call does not end")
            report = store.verify()
            assert report.ok, report.problems
        finally:
            thread.end()
    assert _close_what_nobody_has(root) <= _LOST_MOST
    return position // step


def _close_what_nobody_has(root: Path) -> int:
    """Close the descriptors whose numbers were lost between os.open and the object that closes them; return how many.

    Nothing in Python can keep such a number. None of them is locked: that is asked of every session.
    """
    gc.collect()
    lost = [fd for fd, path in leftovers.descriptors().items() if path.startswith(f"{root}/shards/")]
    for fd in lost:
        os.close(fd)
    return len(lost)


def _strike(
    store: Store,
    call: Callable[[Store, str], object],
    key: str,
    position: int,
    kept: list[BaseException] | None = None,
) -> str:
    """Call, with the exception at a position; return where that was, nothing if the call was over before.

    With `kept` the exception stays, with its traceback, and with every object that the frames in it refer to.
    """
    before = _number(store, key)
    at = At(position, _raise)
    raised: list[object] = []
    usual, sys.unraisablehook = sys.unraisablehook, lambda args: raised.append(args.exc_type)  # in __del__
    try:
        with at:
            call(store, key)
    except FromOutside as error:
        raised.append(FromOutside)
        if kept is not None:
            kept.append(error)
    finally:
        sys.unraisablehook = usual
    assert raised == [FromOutside] * bool(at.where), f"at {at.where}: {raised}"
    after = _number(store, key)
    assert after in (before, (before or 0) + 1, None), f"{before} became {after} by an exception at {at.where}"
    return at.where


def _number(store: Store, key: str) -> int | None:
    session = store.get(key)
    return None if session is None else session["n"]


def _is_free(store: Store, thread: Thread, key: str, where: str) -> None:
    began = time.monotonic()
    before = _number(store, key) or 0
    try:
        path = store.engine.place(key)
        if path is not None and os.path.exists(path):
            with open(path, "rb") as file:  # as another process has it
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        thread.call(lambda: store.update(key, actions.add_one))
        store.update(key, actions.add_one)
    except (shardstore.ShardStoreError, BlockingIOError, AssertionError) as error:
        raise AssertionError(f"after an exception at {where}: {error!r}") from error
    assert time.monotonic() - began < SOON_S, f"slow after an exception at {where}"
    assert _number(store, key) == before + 2, f"an update was lost after an exception at {where}"


def an_exception_at_any_bytecode_unlocks_for_processes(root: Path) -> None:
    """The same in short, judged by a real other process, which updates at once."""
    with Store(root, durability="relaxed", lock_timeout=SOON_S) as store, one_peer() as peer:
        store.create(KEY, {"n": 0})
        for position in range(1, _MOST, 97):
            where = _strike(store, CALLS["update"], KEY, position)
            began = time.monotonic()
            peer.run(actions.call, root, "patch", KEY, {"peer": position})
            assert time.monotonic() - began < SOON_S, where
            if not where:
                break
        assert store[KEY]["peer"] == position


def an_exception_unlocks_what_was_just_entered(root: Path) -> None:
    """Files, the hot path: small enough for a mutation to be tried on it."""
    gc.disable()  # nothing may rest on a collection of cycles
    try:
        assert an_exception_at_any_bytecode_unlocks(root) > (300 if EVERY_BYTECODE else 20)
    finally:
        gc.enable()


def an_exception_unlocks_an_edit(root: Path) -> None:
    """Its `with` is the caller's, so what it entered unlocks when it is dropped."""
    assert an_exception_at_any_bytecode_unlocks(root, call="edit") > 300


def an_exception_unlocks_while_its_traceback_is_kept(root: Path) -> None:
    """A handler looks at the exception, and so keeps every object that its frames refer to, while it uses the store."""
    assert an_exception_at_any_bytecode_unlocks(root, call="delete") > 250


def tokens_left_behind_are_forgotten(root: Path) -> None:
    """An exception on the way out may leave a token in the chain of calls: the next update takes it away."""
    from shardstore._inside import _inside

    with Store(root, durability="relaxed") as store:
        store.create(KEY, {"n": 0})
        for position in range(1, 900):
            _strike(store, CALLS["update"], KEY, position)
            store.update(KEY, actions.add_one)
            store.update(KEY, actions.add_one)
            assert len(_inside.get()) == 0, f"{len(_inside.get())} tokens are left behind"


# A handler that uses the store

HANDLERS: dict[str, Callable[[Store], object]] = {
    "get": lambda store: store.get(KEY),
    "update": lambda store: store.update(KEY, lambda draft: draft.update(m=draft.get("m", 0) + 1)),
    "update other": lambda store: store.update(OTHER, actions.add_one),
    "update new": lambda store: store.update(f"new:{time.monotonic_ns()}", actions.add_one),
    "list": lambda store: store.list(limit=1),
}


@contextlib.contextmanager
def _alarm() -> Iterator[None]:
    """Raise where something hangs for longer than soon."""

    def late(*_: object) -> None:
        raise AssertionError("it hangs")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, SOON_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def a_handler_at_any_bytecode_gets_an_answer(  # noqa: PLR0913  # what comes in, and into what
    root: Path, handler: str, call: str = "update", kind: str = "files", state: str = "hot", step: int = 1
) -> int:
    """At once: a value, NestedUpdate or StoreBusy; and neither the call beneath nor the handler's loses its update.

    Return how many positions there were.
    """
    made: list[str] = []

    def use(store: Store) -> None:
        try:
            HANDLERS[handler](store)
            made.append("answer")
        except (NestedUpdate, StoreBusy) as error:
            made.append(type(error).__name__)

    with _stores(root, kind) as store:
        store.replace(KEY, {"n": 0, "m": 0})
        store.replace(OTHER, {"n": 0})
        for _ in range(100):
            store.update(KEY, actions.add_one)
        for position in range(1, _MOST, step):
            if state == "cold" and kind == "files":
                store.engine.pool.close_idle()  # type: ignore[attr-defined]
            before, other = store[KEY].data, store[OTHER]["n"]
            made.clear()
            at = At(position, lambda: use(store))
            try:
                with _alarm(), at:
                    CALLS[call](store, KEY)
            except (AssertionError, shardstore.ShardStoreError) as error:
                raise AssertionError(f"{handler} at {at.where}, inside {call}: {error!r}") from error
            if not at.where:
                return position // step
            after, answered = store[KEY].data, made == ["answer"]
            assert after["n"] == before["n"] + (call == "update"), f"{handler} at {at.where}: {before} became {after}"
            assert after["m"] == before["m"] + (handler == "update" and answered), f"at {at.where}: {after}"
            assert store[OTHER]["n"] == other + (handler == "update other" and answered), f"at {at.where}"
    raise AssertionError("the call does not end")
