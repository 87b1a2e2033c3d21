"""Processes that each hold one store open, wait, and begin a job at the same moment."""

from __future__ import annotations

import multiprocessing
import signal
import time
import traceback
from typing import TYPE_CHECKING, Any, Self

from bench.measure import NS_PER_S
from bench.peers import SPECS

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection
    from pathlib import Path
    from types import TracebackType


# Fork from a server that has opened nothing: quick enough for 32 processes, and no store crosses a fork.
CONTEXT = multiprocessing.get_context("forkserver")
HEAD_START_NS = 3_000_000  # from "all are ready" to "begin", plus as much again for each four processes
PATIENCE_S = 300.0
JOIN_S = 20.0


class CrewError(RuntimeError):
    """A worker failed; the text is its traceback."""


def preload(stores: list[str]) -> None:
    """Have the fork server import the stores once, instead of every worker. Call before the first crew."""
    modules = {f"bench.peers.{SPECS[name].module}" for name in stores if name in SPECS and not SPECS[name].missing()}
    CONTEXT.set_forkserver_preload(["bench.crew", "bench.workloads", *sorted(modules)])


def _work(pipe: Connection, store: str, root: Path, rank: int) -> None:
    """Run jobs until told to stop. Every answer is (worked, result or traceback)."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the benchmark itself is told, and ends its workers
    try:
        peer = SPECS[store].open(root)
        pipe.send((True, None))
        while (order := pipe.recv()) is not None:
            job, arguments = order
            pipe.send((True, "ready"))
            if (moment := pipe.recv()) is None:
                break  # another worker failed before the job began
            _until(moment)
            pipe.send((True, job(peer, rank, *arguments)))
        peer.close()
    except (EOFError, BrokenPipeError):
        return  # the benchmark itself ended
    except Exception:
        pipe.send((False, traceback.format_exc()))


def _until(moment: int) -> None:
    """Sleep to the agreed moment of the monotonic clock, which all processes share; spin through the last bit."""
    while (ahead := moment - time.monotonic_ns()) > 0:
        if ahead > HEAD_START_NS // 2:
            time.sleep(ahead / NS_PER_S / 2)


class Crew:
    """So many processes of one store. A context manager; every job runs in all of them at once."""

    def __init__(self, store: str, root: Path, count: int) -> None:
        self.count = count
        self._pipes: list[Connection] = []
        self._processes: list[Any] = []
        for rank in range(self.count):
            here, there = CONTEXT.Pipe()
            process = CONTEXT.Process(target=_work, args=(there, store, root, rank), daemon=True)
            process.start()
            there.close()
            self._pipes.append(here)
            self._processes.append(process)
        self._answers()

    def run(self, job: Callable[..., Any], *arguments: object) -> list[Any]:
        """Run job(peer, rank, *arguments) in every process, begun together; return the results by rank.

        `job` is a function of a module. Raises CrewError when a process fails.
        """
        self.start(job, *arguments)
        return self.finish()

    def start(self, job: Callable[..., Any], *arguments: object) -> None:
        """Begin a job and return while it runs; finish() waits for it."""
        for pipe in self._pipes:
            pipe.send((job, arguments))
        self._answers()
        moment = time.monotonic_ns() + HEAD_START_NS * (1 + self.count // 4)
        for pipe in self._pipes:
            pipe.send(moment)

    def finish(self) -> list[Any]:
        """Wait for the job that was started; return its results by rank."""
        return self._answers()

    def _answers(self) -> list[Any]:
        results = []
        for pipe in self._pipes:
            if not pipe.poll(PATIENCE_S):
                raise CrewError(f"a worker said nothing for {PATIENCE_S:.0f} s")
            try:
                worked, result = pipe.recv()
            except EOFError as error:
                raise CrewError("a worker died") from error
            if not worked:
                raise CrewError(result)
            results.append(result)
        return results

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pipe in self._pipes:
            try:
                pipe.send(None)
            except OSError:
                continue  # it died; the join below collects it
        for process in self._processes:
            process.join(JOIN_S if kind is None else 0.0)
            if process.is_alive():
                process.kill()
                process.join()
