"""A supervisor: jobs are sessions, workers are processes, and a job of a dead worker is done by another one.

A job is queued, running or done. A worker takes a job by one update, so no two take the same. The supervisor starts
workers, sees which of them ended, and puts their unfinished jobs back into the queue.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from shardstore import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from shardstore import Draft


def take_job(store: Store, worker: str) -> str | None:
    """Take the job that was queued first; return its key, or None where none is queued."""
    for info in store.list("job:", where={"status": "queued"}, order_by="created_at"):
        taken = False

        def take(draft: Draft) -> None:
            nonlocal taken
            taken = draft.get("status") == "queued"
            if taken:
                draft.update(status="running", worker=worker, tries=draft.get("tries", 0) + 1)

        store.update(info.key, take)
        if taken:
            return info.key
    return None


def finish(store: Store, key: str, worker: str, result: Any) -> bool:
    """Note the result of a job; return False where it was given to somebody else meanwhile."""
    mine = False

    def end(draft: Draft) -> None:
        nonlocal mine
        mine = draft["status"] == "running" and draft["worker"] == worker
        if mine:
            draft.update(status="done", result=result)

    store.update(key, end, create=False)
    return mine


def work(store: Store, worker: str, do: Callable[[str], Any]) -> None:
    """Work on jobs until none is queued."""
    while (key := take_job(store, worker)) is not None:
        finish(store, key, worker, do(key))


def requeue(store: Store, worker: str) -> list[str]:
    """Put the jobs of a worker that is dead back into the queue; return their keys."""

    def back(draft: Draft) -> None:
        if draft["status"] == "running" and draft["worker"] == worker:
            draft["status"] = "queued"

    keys = [info.key for info in store.list("job:", where={"status": "running", "worker": worker})]
    for key in keys:
        store.update(key, back, create=False)
    return keys


def supervise(store: Store, command: Sequence[str], workers: int) -> None:
    """Run workers until every job is done. `command` gets the name of the worker as its last argument."""
    running: dict[str, subprocess.Popen[bytes]] = {}
    started = 0
    try:
        while store.count("job:", where={"status": ("in", ["queued", "running"])}):
            for name, process in [*running.items()]:
                if process.poll() is not None:
                    del running[name]
                    requeue(store, name)
            while len(running) < workers and store.count("job:", where={"status": "queued"}):
                started += 1
                name = f"{os.getpid()}-{started}"
                running[name] = subprocess.Popen([*command, name])
            time.sleep(0.02)
    finally:
        _end(running.values())


def _end(processes: Iterable[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        process.terminate()
    for process in processes:
        process.wait()


if __name__ == "__main__":
    with Store("sessions") as store:
        if len(sys.argv) > 1:
            work(store, sys.argv[-1], lambda key: key.upper())
        else:
            store.create_many({f"job:{n}": {"status": "queued"} for n in range(4)}, on_exists="skip")
            supervise(store, [sys.executable, __file__], workers=2)
            print(store.count("job:", where={"status": "done"}), "jobs done")
