"""Run the command line as a user does: in a process of its own, with the environment under control."""

from __future__ import annotations

import atexit
import json
import os
import pty
import select
import subprocess
import sys
import tempfile
import termios
import time
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from tests.support import leftovers
from tests.support.peer import REPOSITORY
from tests.support.peer import environment as peer_environment

COMMAND = (sys.executable, "-m", "shardstore_cli")
_INHERITED = ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "TERM", "SHARDSTORE_PATH")
SECONDS = 60


@dataclass(frozen=True)
class Done:
    """A process that has ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def environment(**variables: str) -> dict[str, str]:
    """Return an environment without a terminal, a width or a store, and with the given variables."""
    clean = {name: value for name, value in os.environ.items() if name not in _INHERITED}
    return {**clean, "LC_ALL": "C.UTF-8", **variables}


@dataclass
class Shell:
    """A directory with a store that may not exist yet."""

    directory: Path
    variables: dict[str, str] = field(default_factory=dict)
    swaps: tuple[tuple[str, str], ...] = ()  # of mutated.py

    @property
    def store(self) -> Path:
        return self.directory / "store"

    def __call__(self, *arguments: str | Path, stdin: str | bytes = b"", named: bool = True, **variables: str) -> Done:
        """Run a command on the store; `named=False` leaves it to the caller to say which store."""
        words = [*map(str, arguments), *(["--store", str(self.store)] if named else [])]
        files = [self._file("in"), self._file("out"), self._file("err")]
        files[0].write_bytes(stdin.encode() if isinstance(stdin, str) else stdin)
        try:
            code = _zygote().run(words, files, environment(**self.variables, **variables), self.directory, self.swaps)
            out, err = files[1].read_text(encoding="utf-8"), files[2].read_text(encoding="utf-8")
        finally:
            for file in files:
                file.unlink()
        assert self.swaps or "Traceback" not in err, err
        assert "TargetGone" not in err, err
        return Done(code, out, err)

    def fresh(self, *arguments: str | Path, named: bool = True, **variables: str) -> Done:
        """Run a command in a Python that was started for it: for what depends on how Python starts."""
        store = ["--store", str(self.store)] if named else []
        done = subprocess.run(
            [*COMMAND, *map(str, arguments), *store],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=environment(**self.variables, **variables),
            cwd=self.directory,
            timeout=SECONDS,
        )
        assert b"Traceback" not in done.stderr, done.stderr.decode()
        return Done(done.returncode, done.stdout.decode(), done.stderr.decode())

    def _file(self, name: str) -> Path:
        handle, path = tempfile.mkstemp(prefix=f"shell-{name}-")
        os.close(handle)
        return Path(path)

    def on_terminal(self, *arguments: str | Path, columns: int = 80, **variables: str) -> Done:
        """Run a command whose stdout and stderr are one terminal of so many columns; `err` stays empty."""
        leader, follower = pty.openpty()
        termios.tcsetwinsize(follower, (24, columns))
        process = subprocess.Popen(
            [*COMMAND, *map(str, arguments), "--store", str(self.store)],
            stdin=subprocess.DEVNULL,
            stdout=follower,
            stderr=follower,
            env=environment(TERM="xterm-256color", **variables),
            cwd=self.directory,
        )
        os.close(follower)
        out = _read_all(leader, process)
        return Done(process.wait(SECONDS), out.replace("\r\n", "\n"), "")


def _read_all(leader: int, process: subprocess.Popen[bytes]) -> str:
    chunks = []
    try:
        while select.select([leader], [], [], SECONDS)[0]:
            chunk = os.read(leader, 65536)
            if not chunk:
                break
            chunks.append(chunk)
    except OSError:  # EIO: the terminal's last user is gone
        pass
    finally:
        os.close(leader)
    return b"".join(chunks).decode()


class Zygote:
    """The process that forks the commands; see zygote.py. It ends when this process does: its stdin is closed."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.cli.zygote"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=REPOSITORY,
            env=peer_environment(),
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        leftovers.share(self._process.stdin.fileno(), self._process.stdout.fileno())

    def run(
        self,
        arguments: list[str],
        files: list[Path],
        variables: dict[str, str],
        directory: Path,
        swaps: tuple[tuple[str, str], ...],
    ) -> int:
        """Run a command and return its exit code."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        request = {
            "arguments": arguments,
            "files": [str(file) for file in files],
            "environment": variables,
            "directory": str(directory),
            "swaps": swaps,
        }
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        ready, _, _ = select.select([self._process.stdout], [], [], SECONDS)
        assert ready, f"{arguments} takes longer than {SECONDS} s"
        return int(self._process.stdout.readline())

    def close(self) -> None:
        """End the process."""
        self._process.communicate(timeout=SECONDS)


@cache
def _zygote() -> Zygote:
    made = Zygote()
    atexit.register(made.close)
    return made


def it_waits(pid: int) -> bool:
    """Wait until a command has a shard open, and a little longer; return whether it came to that."""
    if sys.platform != "linux":
        time.sleep(5)
        return True
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                if str(entry.readlink()).endswith(".jsonl"):
                    time.sleep(0.2)
                    return True
        time.sleep(0.02)
    return False
