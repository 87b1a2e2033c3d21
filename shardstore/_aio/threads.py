"""The threads of an AsyncStore: a few, started when they are needed, and ended when they are idle.

Not concurrent.futures: an executor that cannot start a thread raises, and keeps the work all the same. It would be
done later, behind the caller's back.
"""

from __future__ import annotations

import threading
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    Job = Callable[[], None]

_IDLE_S: Final = 10.0  # seconds after which a thread that has nothing to do ends


class Threads:
    """Up to `most` threads that run jobs in the order in which they came. A job raises nothing."""

    def __init__(self, most: int, name: str) -> None:
        self._most = most
        self._name = name
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._mutex = threading.Lock()
        self._threads: set[threading.Thread] = set()
        self._free = 0  # threads that wait for a job, less the jobs that wait for a thread

    def run(self, job: Job) -> None:
        """Have a thread run a job. Raises RuntimeError where one would have to start and cannot: then it never runs."""
        with self._mutex:
            if self._free <= 0 and len(self._threads) < self._most:
                self._start()
                self._free += 1
            self._free -= 1
            self._jobs.put(job)

    def _start(self) -> None:
        thread = threading.Thread(target=self._work, name=f"{self._name}_{len(self._threads)}", daemon=True)
        self._threads.add(thread)
        try:
            thread.start()
        except BaseException:
            self._threads.discard(thread)
            raise

    def _work(self) -> None:
        while True:
            try:
                job = self._jobs.get(timeout=_IDLE_S)
            except Empty:
                if self._ends():
                    return
                continue
            if job is None:
                return
            job()
            job = None
            with self._mutex:
                self._free += 1

    def _ends(self) -> bool:
        """Count this thread out, unless a job came in this very moment; return whether it is to end."""
        with self._mutex:
            if not self._jobs.empty():
                return False
            self._free -= 1
            self._threads.discard(threading.current_thread())
            return True

    def end(self) -> None:
        """End every thread, and wait for that. REQUIRES: no job is under way, and none comes."""
        with self._mutex:
            threads, self._threads, self._free = self._threads, set(), 0
            for _ in threads:
                self._jobs.put(None)
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join()
