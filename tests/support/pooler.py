"""PgBouncer in front of a server, for the tests: in transaction mode, where each transaction gets another connection."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

VARIABLE = "SHARDSTORE_TEST_POOLER"  # runs the contract through it
_START_S = 30.0
_SETTINGS = """
[databases]
* = host={host} port={port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen}
unix_socket_dir =
auth_type = trust
auth_file = {place}/users
logfile = {place}/log
pool_mode = {mode}
max_client_conn = 500
default_pool_size = {size}
ignore_startup_parameters = extra_float_digits,options
"""


class Pooler:
    """One PgBouncer of a test's own."""

    def __init__(self, place: Path, server: str, *, size: int, mode: str) -> None:
        self._place = place
        self._server = urlsplit(server)
        self._settings = {"size": size, "mode": mode}
        self._port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def url(self) -> str:
        """Return the URL of the server, through the pooler."""
        there = self._server
        return there._replace(netloc=f"{there.username or 'postgres'}@127.0.0.1:{self._port}").geturl()

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        where = {"host": self._server.hostname, "port": self._server.port or 5432, "listen": self._port}
        settings = _SETTINGS.format(**where, **self._settings, place=self._place)
        (self._place / "settings.ini").write_text(settings)
        (self._place / "users").write_text(f'"{self._server.username or "postgres"}" ""\n')
        user: dict[str, Any] = {}
        if os.geteuid() == 0:  # it refuses to be root
            nobody = pwd.getpwnam("nobody")
            os.chown(self._place, nobody.pw_uid, nobody.pw_gid)
            user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        self._process = subprocess.Popen(
            [str(program()), "-q", str(self._place / "settings.ini")],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/", **user,
        )  # fmt: skip
        self._await()

    def _await(self) -> None:
        deadline = time.monotonic() + _START_S
        while True:
            assert self._process is not None
            assert self._process.poll() is None, (
                f"the pooler did not start: {(self._place / 'log').read_text()[-2000:]}"
            )
            assert time.monotonic() < deadline, "the pooler does not answer"
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._port)):
                return
            time.sleep(0.02)

    def stop(self) -> None:
        """End it, and with it every connection through it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


def program() -> str | None:
    """Return where PgBouncer is; None where it is not installed."""
    return shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


@contextlib.contextmanager
def pooled(server: str, *, size: int = 60, mode: str = "transaction") -> Iterator[Pooler]:
    """Run a pooler in front of a server; skip the test where there is none."""
    if program() is None:
        import pytest

        pytest.skip("PgBouncer is not installed here: apt-get install pgbouncer")
    place = Path(tempfile.mkdtemp(prefix="shardstore-pooler-"))
    place.chmod(0o755)
    pooler = Pooler(place, server, size=size, mode=mode)
    try:
        pooler.start()
        yield pooler
    finally:
        pooler.stop()
        shutil.rmtree(place, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port
