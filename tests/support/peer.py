"""Other processes, started once and told what to run.

A `Peer` is never a fork of the test run, whose threads it would inherit half alive. It is a fork of the stem (stem.py),
which has one thread and no store; or a new interpreter where the test changes what Python reads when it starts. It runs
top-level functions of test modules, by name, and sends back what they return or raise. A function that must meet its
test half-way calls `say` and `hear`.

    with peers(4) as group:
        group.run(increment, root, 500)            # in all four at once; the results, in order
        waiting = group[0].start(hold, root, key)
        group[0].heard()                           # what hold() said
        group[0].tell("go on")
        group[0].result()
"""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from tests.support.forked import Forked

REPOSITORY = Path(__file__).resolve().parents[2]
PATIENCE = 60.0  # seconds that any answer may take before the test fails instead of hanging
_LENGTH = struct.Struct("<I")
_PIPES: list[IO[bytes]] = []  # in a peer: commands in, answers out


class PeerDied(AssertionError):
    """The other process ended without an answer."""


class PeerSilent(AssertionError):
    """The other process did not answer in time."""


def environment(**extra: str) -> dict[str, str]:
    """Return the environment in which a child finds this checkout, whatever its working directory."""
    paths = [str(REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **extra}


class Peer:
    """One other process."""

    def __init__(self, *, cwd: str | Path | None = None, prefix: tuple[str, ...] = (), **env: str) -> None:
        """Start it; `prefix` is a command that runs another (unshare, setpriv), `env` is added to the environment."""
        self._process: subprocess.Popen[bytes] | Forked
        if prefix or any(name.startswith("PYTHON") for name in env):
            self._begin([*prefix, sys.executable, "-m", "tests.support.peer"], cwd, environment(**env))
        else:
            self._fork(os.fspath(cwd or os.getcwd()), environment(**env))
        self._said: list[Any] = []
        self._buffer = bytearray()

    def _begin(self, command: list[str], cwd: str | Path | None, env: dict[str, str]) -> None:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=cwd, env=env)
        assert process.stdin is not None
        assert process.stdout is not None
        self._process, self._in, self._out = process, process.stdin, process.stdout

    def _fork(self, cwd: str, env: dict[str, str]) -> None:
        (theirs_in, mine_in), (mine_out, theirs_out) = os.pipe(), os.pipe()
        self._in, self._out = os.fdopen(mine_in, "wb"), os.fdopen(mine_out, "rb")
        try:
            self._process = Forked(
                "tests.support.peer", files=(theirs_in, theirs_out, 2), directory=cwd, environment=env
            )
        except BaseException:
            self._in.close()
            self._out.close()
            raise
        finally:
            os.close(theirs_in)
            os.close(theirs_out)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def descriptors(self) -> list[int]:
        """Return the pipes to it."""
        forked = [self._process.fileno()] if isinstance(self._process, Forked) else []
        return [self._in.fileno(), self._out.fileno(), *forked]

    def start(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Begin `function(*args)` there; it must be importable by its module and name."""
        _send(self._in, ("run", f"{function.__module__}:{function.__qualname__}", args, kwargs))

    def result(self, timeout: float = PATIENCE) -> Any:
        """Wait for what was begun; return its value or raise its exception."""
        deadline = time.monotonic() + timeout
        while True:
            kind, value = self._receive(deadline)
            if kind == "say":
                self._said.append(value)
            elif kind == "raised":
                raise value
            else:
                return value

    def run(self, function: Callable[..., Any], *args: Any, timeout: float = PATIENCE, **kwargs: Any) -> Any:
        """Run `function(*args)` there and return its value."""
        self.start(function, *args, **kwargs)
        return self.result(timeout)

    def heard(self, timeout: float = PATIENCE) -> Any:
        """Wait for the next thing that the running function says."""
        if self._said:
            return self._said.pop(0)
        kind, value = self._receive(time.monotonic() + timeout)
        if kind == "raised":
            raise value
        assert kind == "say", f"it returned {value!r} without saying anything"
        return value

    def tell(self, value: Any = None) -> None:
        """Send the running function what it waits for in `hear`."""
        _send(self._in, ("tell", value))

    def signal(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def stop(self) -> None:
        """Stop it as a debugger or a busy machine would, and wait until all its threads stand still."""
        self.signal(signal.SIGSTOP)
        if isinstance(self._process, Forked):
            self._process.wait_until_stopped()
        else:
            os.waitpid(self.pid, os.WUNTRACED)

    def resume(self) -> None:
        """Let a stopped process go on."""
        self.signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it at once, as the system's out-of-memory killer would, and wait until it is gone."""
        with contextlib.suppress(ProcessLookupError):
            self.signal(signal.SIGKILL)
        self._process.wait()

    def close(self) -> None:
        """End it, stopped or not, and free its pipes."""
        with contextlib.suppress(BrokenPipeError):
            self._in.close()
        with contextlib.suppress(ProcessLookupError):
            if self._process.poll() is None:
                self.signal(signal.SIGCONT)
        try:
            self._process.wait(2.0)
        except subprocess.TimeoutExpired:
            self.kill()
        self._out.close()

    def _receive(self, deadline: float) -> tuple[str, Any]:
        size = _LENGTH.unpack(self._read(_LENGTH.size, deadline))[0]
        kind, value = pickle.loads(self._read(size, deadline))
        return kind, value

    def _read(self, count: int, deadline: float) -> bytes:
        while len(self._buffer) < count:
            ready, _, _ = select.select([self._out], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise PeerSilent(f"process {self.pid} did not answer in time")
            chunk = os.read(self._out.fileno(), 1 << 16)
            if not chunk:
                raise PeerDied(f"process {self.pid} ended with {self._process.wait()}")
            self._buffer += chunk
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken


class Peers(list[Peer]):
    """Several other processes."""

    def run(self, function: Callable[..., Any], *args: Any, timeout: float = PATIENCE, **kwargs: Any) -> list[Any]:
        """Run `function(*args)` in all of them at once; return the values in order, or raise the first exception."""
        return self.each(function, [args] * len(self), timeout=timeout, **kwargs)

    def each(
        self, function: Callable[..., Any], args: list[tuple[Any, ...]], timeout: float = PATIENCE, **kw: Any
    ) -> list[Any]:
        """Run `function(*args[n])` in process n, all at once; return the values in order."""
        for peer, mine in zip(self, args, strict=True):
            peer.start(function, *mine, **kw)
        return [peer.result(timeout) for peer in self]


@contextlib.contextmanager
def peers(count: int, **options: Any) -> Iterator[Peers]:
    """Start `count` processes, ready to run, and end them all afterwards, whatever happened."""
    group = Peers()
    try:
        for _ in range(count):
            group.append(Peer(**options))
        group.run(abs, 0)
        yield group
    finally:
        for peer in group:
            peer.close()


@contextlib.contextmanager
def one_peer(**options: Any) -> Iterator[Peer]:
    """Start one process and end it afterwards."""
    with peers(1, **options) as group:
        yield group[0]


def say(value: Any = None) -> None:
    """In a peer's function: tell the test something."""
    _send(_PIPES[1], ("say", value))


def hear() -> Any:
    """In a peer's function: wait for what the test tells. Ends the process when the test is gone."""
    message = _take(_PIPES[0])
    if message is None:
        os._exit(0)
    assert message[0] == "tell", message
    return message[1]


def resolve(name: str) -> Callable[..., Any]:
    """Find a function by `module:name`."""
    module, _, path = name.partition(":")
    __import__(module)
    found: Any = sys.modules[module]
    for part in path.split("."):
        found = getattr(found, part)
    result: Callable[..., Any] = found
    return result


def _send(stream: IO[bytes], message: Any) -> None:
    data = pickle.dumps(message)
    stream.write(_LENGTH.pack(len(data)) + data)
    stream.flush()


def _take(stream: IO[bytes]) -> Any:
    head = stream.read(_LENGTH.size)
    return None if len(head) < _LENGTH.size else pickle.loads(stream.read(_LENGTH.unpack(head)[0]))


def _serve() -> None:
    """Run what is asked for until the pipe closes."""
    while (message := _take(_PIPES[0])) is not None:
        _, name, args, kwargs = message
        try:
            answer: tuple[str, Any] = ("returned", resolve(name)(*args, **kwargs))
        except BaseException as error:
            answer = ("raised", _portable(error))
        _send(_PIPES[1], answer)


def _portable(error: BaseException) -> BaseException:
    """Return the error if it survives the pipe, with its traceback as a note; a description of it otherwise."""
    import traceback

    text = "".join(traceback.format_exception(error))
    error.add_note(f"in process {os.getpid()}:\n{text}")
    try:
        return error if type(pickle.loads(pickle.dumps(error))) is type(error) else RuntimeError(text)
    except Exception:
        return RuntimeError(text)


def main() -> None:
    """Be the other process: commands from stdin, answers to stdout, everything printed to stderr."""
    # Through the module's importable name: functions under test import `say` from there, not from __main__.
    this = sys.modules.setdefault("tests.support.peer", sys.modules["__main__"])
    commands, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    this._PIPES[:] = [commands, answers]
    import tests.support.actions  # noqa: F401 - what almost every function needs; imported before the clock runs
    from tests.support import mutate

    mutate.apply_from_environment()
    _serve()


if __name__ == "__main__":
    main()
