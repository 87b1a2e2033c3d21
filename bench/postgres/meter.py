"""What a call costs: its time, the CPU of client and server, the log that the server writes, and round trips."""

from __future__ import annotations

import statistics
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import psycopg

from shardstore._postgres.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Cost(NamedTuple):
    """Of one call."""

    seconds: float  # the median; of a crowd, the time of the run by the calls that were made
    client: float | None  # seconds of CPU
    server: float | None
    wal: float | None  # bytes
    trips: float | None


def middle(costs: Sequence[Cost]) -> Cost:
    """Return the median of each figure."""
    columns = zip(*costs, strict=True)
    return Cost(*(None if None in found else statistics.median(found) for found in columns))  # type: ignore[type-var]


class Server:
    """What a server has done so far."""

    def __init__(self, url: str) -> None:
        self._db = psycopg.connect(url, autocommit=True, application_name="bench")
        self._top = self._parent()

    def _parent(self) -> int:
        """Return the first process of a server on this machine; 0 where it is elsewhere."""
        row = self._db.execute("SELECT pg_backend_pid()").fetchone()
        with suppress(OSError):
            stat = Path(f"/proc/{row[0]}/stat").read_text()  # type: ignore[index]
            if "postgres" in stat:
                return int(stat.rpartition(")")[2].split()[1])
        return 0

    def wal(self) -> int:
        """Return how many bytes it has logged."""
        row = self._db.execute("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn").fetchone()
        return int(row[0])  # type: ignore[index]

    def cpu(self) -> dict[int, float]:
        """Return the seconds of CPU of each of its processes; empty where it is elsewhere."""
        found: dict[int, float] = {}
        if not self._top:
            return found
        for place in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if int((place / "stat").read_text().rpartition(")")[2].split()[1]) == self._top:
                    found[int(place.name)] = int((place / "schedstat").read_text().split()[0]) / 1e9
        return found

    def close(self) -> None:
        """End it."""
        self._db.close()


def between(before: dict[int, float], after: dict[int, float]) -> float | None:
    """Return the seconds of CPU that a server took from one look to the next."""
    if not after:
        return None
    return sum(seconds - before.get(pid, 0.0) for pid, seconds in after.items())


def measure(server: Server, act: Callable[[], object], seconds: float) -> Cost:
    """Call again and again for so long; return what one call costs."""
    act()
    took: list[float] = []
    cpu, wal, mine = server.cpu(), server.wal(), time.process_time()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or not took:
        began = time.perf_counter()
        act()
        took.append(time.perf_counter() - began)
    mine = time.process_time() - mine
    spent, logged = between(cpu, server.cpu()), server.wal() - wal
    calls = len(took)
    return Cost(
        statistics.median(took), mine / calls, None if spent is None else spent / calls, logged / calls, trips(act)
    )


def trips(act: Callable[[], object]) -> float:
    """Return how often one call waits for the server."""
    count = 0
    ask, wait = Wire._ask, psycopg.Connection.wait

    def asking(self: Wire, *args: Any, **kwargs: Any) -> Any:
        nonlocal count
        count += 1
        return ask(self, *args, **kwargs)

    def waiting(self: psycopg.Connection[Any], *args: Any, **kwargs: Any) -> Any:
        nonlocal count
        count += 1
        return wait(self, *args, **kwargs)

    Wire._ask = asking  # type: ignore[method-assign]
    psycopg.Connection.wait = waiting  # type: ignore[method-assign]
    try:
        act()
    finally:
        Wire._ask = ask  # type: ignore[method-assign]
        psycopg.Connection.wait = wait  # type: ignore[method-assign]
    return count
