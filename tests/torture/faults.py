"""Faults: what goes wrong, at which call.

Two ways to strike.  `Patched` replaces the functions of `os` in the child itself: needs no tool, can stop in the
middle of a write, but sees only what goes through `os`.  `Strace` has the kernel do it from outside: it sees
every system call, SQLite's and the interpreter's too.  `SizeLimit` makes the kernel write less than asked.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import resource
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

STRACE = shutil.which("strace")


class Fault:
    """Base: nothing goes wrong."""

    leaks = 0
    """Descriptors that the fault itself leaves open (a close that was made to fail did not close)."""

    late = False
    """Whether it may strike behind the operation, which does not always make the same calls."""

    @contextlib.contextmanager
    def armed(self) -> Iterator[None]:
        """Cause the fault inside the block, in the process that runs the operation."""
        yield

    @contextlib.contextmanager
    def attached(self, pid: int) -> Iterator[None]:
        """Cause the fault inside the block, from the parent."""
        yield


_VARIABLE = re.compile(r"[0-9a-f]{2,}|[0-9]+")


def likeness(text: str) -> str:
    """Reduce a path or a call to what it has in common with those of other sessions, directories and temps."""
    return _VARIABLE.sub("#", text)


def thinned(likenesses: list[str], *, ends: int = 2, step: int = 32) -> list[int]:
    """Choose which of many calls to try: of those that look alike the first and last two, and each 32nd between.

    Listing 256 directories is 1,000 calls in which a death means the same.
    """
    places: dict[str, list[int]] = {}
    for at, text in enumerate(likenesses):
        places.setdefault(text, []).append(at)
    return sorted({at for same in places.values() for at in (*same[:ends], *same[-ends:], *same[::step])})


# -- from inside ------------------------------------------------------------------------------------------

WRITES = ("write", "pwrite")
CALLS = (
    *("open", "close", "read", "pread", *WRITES, "pwritev", "writev", "preadv"),
    *("fsync", "fdatasync", "ftruncate", "truncate", "posix_fallocate", "lseek"),
    *("rename", "replace", "unlink", "remove", "rmdir", "mkdir", "link", "symlink"),
    *("stat", "fstat", "lstat", "scandir", "listdir", "chmod", "fchmod", "access", "utime"),
)


def _patchable() -> dict[tuple[Any, str], Callable[..., Any]]:
    found = {(os, name): getattr(os, name) for name in CALLS if hasattr(os, name)}
    found[fcntl, "flock"] = fcntl.flock
    found[fcntl, "fcntl"] = fcntl.fcntl
    return found


class Patched(Fault):
    """Strike at the n-th call (from 1) that goes through `os` or `fcntl`.

    `action`: "count" only notes the calls; "before", "after" kill; "half", "first", "last" kill when half, one byte
    or all but one byte of a write is done; "short" writes half and goes on; an errno fails the call.
    """

    def __init__(self, nth: int, action: str | int, *, log: str | None = None) -> None:
        """Choose the call and what befalls it."""
        self.nth, self.action, self.log = nth, action, log
        self.leaks = int(isinstance(action, int))
        self._calls: list[str] = []

    def __str__(self) -> str:
        """Name it for a report."""
        return f"call {self.nth} {errno.errorcode.get(self.action, self.action)}"  # type: ignore[call-overload]

    @contextlib.contextmanager
    def armed(self) -> Iterator[None]:
        """Replace the functions; put them back afterwards."""
        originals = _patchable()
        for (module, name), function in originals.items():
            setattr(module, name, self._wrapped(name, function))
        try:
            yield
        finally:
            for (module, name), function in originals.items():
                setattr(module, name, function)
            if self.log is not None:
                Path(self.log).write_text("\n".join(self._calls))

    def _wrapped(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self._calls.append(f"{name} {likeness(str(args[0]) if args else '')}")
            if len(self._calls) != self.nth or self.action == "count":
                return function(*args, **kwargs)
            return self._strike(name, function, args, kwargs)

        return call

    def _strike(self, name: str, function: Callable[..., Any], args: tuple, kwargs: dict) -> Any:
        if isinstance(self.action, int):
            raise OSError(self.action, os.strerror(self.action))
        if name in WRITES and self.action in ("half", "first", "last", "short"):
            data = bytes(args[1])
            size = {"half": len(data) // 2, "short": (len(data) + 1) // 2, "first": 1, "last": len(data) - 1}[
                self.action
            ]
            done = function(args[0], data[:size], *args[2:])
            if self.action == "short":
                return done
        elif self.action == "short":
            return function(*args, **kwargs)  # this time it is another call
        elif self.action != "before":
            function(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("killed, and still here")


# -- from outside -----------------------------------------------------------------------------------------

SYSCALLS = ",".join(
    "?" + name
    for name in (
        "open openat openat2 creat close read pread64 readv preadv write pwrite64 writev pwritev pwritev2 "
        "fsync fdatasync sync_file_range syncfs ftruncate truncate fallocate lseek copy_file_range sendfile "
        "rename renameat renameat2 unlink unlinkat rmdir mkdir mkdirat link linkat symlink symlinkat "
        "flock fcntl stat fstat lstat newfstatat statx getdents64 mmap msync "
        "chmod fchmod fchmodat chown fchown utimensat access faccessat faccessat2 readlink readlinkat "
        "statfs fstatfs chdir fchdir dup dup2 dup3 ioctl"
    ).split()
)
_LINE = re.compile(r"^(?P<pid>\d+)\s+(?P<name>\w+)\((?P<args>.*)")


@dataclass(frozen=True)
class Call:
    """The n-th call of one name that a thread makes."""

    name: str
    nth: int
    text: str = ""

    def __str__(self) -> str:
        """Name it for a report."""
        return f"{self.name} {self.nth}"


class Strace(Fault):
    """Attach strace to the child and strike at one call: `how` is what strace's inject= takes."""

    def __init__(self, call: Call | None, how: str = "", *, log: Path | None = None) -> None:
        """Choose the call and what befalls it; without a call only the log is written."""
        self.call, self.how, self.log = call, how, log
        self.leaks = int(call is not None and call.name == "close" and "error" in how)
        self.late = "error" in how

    def __str__(self) -> str:
        """Name it for a report."""
        return f"{self.call} {self.how}"

    @contextlib.contextmanager
    def attached(self, pid: int) -> Iterator[None]:
        """Trace the child inside the block."""
        assert STRACE is not None
        if self.call is None:
            what = ["-y", "-e", f"trace={SYSCALLS}"]
        else:
            name = self.call.name
            what = ["-e", f"trace={name}", "-e", f"inject={name}:{self.how}:when={self.call.nth}"]
        command = [STRACE, "-f", "-qq", "-o", str(self.log or os.devnull), "-p", str(pid), *what]
        tracer = subprocess.Popen(command, stderr=subprocess.PIPE)
        try:
            _wait_until_traced(pid, tracer)
            yield
        finally:
            try:
                tracer.wait(10)
            except subprocess.TimeoutExpired:
                tracer.kill()
                tracer.wait()
            assert tracer.stderr is not None
            tracer.stderr.close()


def _wait_until_traced(pid: int, tracer: subprocess.Popen[bytes]) -> None:
    status = Path(f"/proc/{pid}/status")
    until = time.monotonic() + 10
    while "TracerPid:\t0\n" in status.read_text():
        if tracer.poll() is not None or time.monotonic() > until:
            assert tracer.stderr is not None
            raise RuntimeError(f"strace did not attach: {tracer.stderr.read().decode()}")
        time.sleep(0.0005)


def traced_calls(log: Path, root: Path) -> list[Call]:
    """Read what strace wrote: every call that touches the store, numbered as strace's `when` counts them."""
    counts: Counter[tuple[str, str]] = Counter()
    found = []
    for line in log.read_text(errors="replace").splitlines():
        match = _LINE.match(line)
        if match is None:
            continue
        counts[match["pid"], match["name"]] += 1
        if str(root) in match["args"]:
            found.append(Call(match["name"], counts[match["pid"], match["name"]], match["args"][:200]))
    return found


class SizeLimit(Fault):
    """Let the kernel write no file past `limit` bytes: a short write first, EFBIG next (SIGXFSZ is ignored)."""

    def __init__(self, limit: int) -> None:
        """Choose the limit in bytes."""
        self.limit = limit

    def __str__(self) -> str:
        """Name it for a report."""
        return f"RLIMIT_FSIZE {self.limit}"

    @contextlib.contextmanager
    def armed(self) -> Iterator[None]:
        """Lower the soft limit inside the block."""
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.limit, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
