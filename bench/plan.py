"""What a run is: how many rounds, how long, how large; and what a workload gets to stand on."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.peers import SPECS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from bench.peers.base import Peer

Metrics = dict[str, float]


@dataclass(frozen=True)
class Plan:
    """The sizes of a run. `quick` shrinks populations and processes too: its numbers show shape, not proof."""

    rounds: int = 5
    seconds: float = 0.3  # of a round in one process
    window: float = 1.5  # of a round with several processes
    warm_up: float = 0.1
    quick: bool = False
    entry_sizes: tuple[str, ...] = ("140 B", "1 KB", "15 KB", "42 KB", "110 KB", "400 KB")  # of the touch workload
    list_sizes: tuple[int, ...] = (124, 1_000, 10_000, 100_000)
    processes: tuple[int, ...] = (2, 8, 32)
    children: tuple[int, ...] = (15, 50, 192)
    operations: int = 100_000  # of the memory workload
    days: int = 14  # of the churn workload

    @classmethod
    def brief(cls, **changes: Any) -> Plan:
        """Return the plan of --quick."""
        sizes: dict[str, Any] = {
            "rounds": 2, "seconds": 0.1, "window": 0.5, "warm_up": 0.02, "quick": True, "list_sizes": (124, 2_000),
            "processes": (2, 8), "children": (15, 50), "operations": 5_000, "days": 4,
            "entry_sizes": ("1 KB", "42 KB", "400 KB"),
        }  # fmt: skip
        return cls(**{**sizes, **changes})


@dataclass
class Stage:
    """Where one run keeps its stores: a directory of its own, removed at the end."""

    plan: Plan
    root: Path
    filesystems: dict[str, Path] = field(default_factory=dict)  # mounted images, by name
    _shared: dict[str, Any] = field(default_factory=dict)

    @contextmanager
    def fresh(self, filesystem: str | None = None) -> Iterator[Path]:
        """Yield an empty directory, removed afterwards."""
        below = self.filesystems[filesystem] if filesystem else self.root
        path = Path(tempfile.mkdtemp(dir=below))
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def shared(self, name: str, build: Callable[[Path], Any]) -> Any:
        """Build something expensive once a run, say 100,000 sessions, and give the same to all who ask."""
        if name not in self._shared:
            path = self.root / f"shared-{name}"
            path.mkdir()
            self._shared[name] = build(path)
        return self._shared[name]


@dataclass(frozen=True)
class Case:
    """One thing to measure on several stores.

    `stand(stage, store)` is a context manager: it sets everything up, untimed, gives a function that runs one
    round, and takes everything down. All stands of a case are up before the first round.
    """

    workload: str
    name: str
    stores: tuple[str, ...]
    stand: Callable[[Stage, str], AbstractContextManager[Callable[[float], Metrics]]]
    seconds: float  # of one round
    rounds: int | None = None  # where not the plan's


@contextmanager
def opened(store: str, root: Path) -> Iterator[Peer]:
    """Open a store by its name in this process, and close it."""
    peer = SPECS[store].open(root)
    try:
        yield peer
    finally:
        peer.close()
