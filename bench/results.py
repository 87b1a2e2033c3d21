"""Raw results: rows of numbers, one a round, and the JSON file that keeps them all."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from bench.measure import median

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SCHEMA = 1
WORST_OF_ALL_ROUNDS = ("max", "lost", "problems")  # metrics where a median would hide the thing itself


@dataclass(frozen=True)
class Row:
    """What one store did in one round of one case."""

    workload: str
    case: str
    store: str
    round: int
    metrics: dict[str, float]

    @property
    def place(self) -> tuple[str, str, str]:
        """Return what makes rows of different rounds, or of two files, comparable."""
        return (self.workload, self.case, self.store)


@dataclass
class Results:
    """All rows of a run with the conditions they were taken under, and what was left out and why."""

    conditions: dict[str, Any]
    rows: list[Row] = field(default_factory=list)
    left_out: list[dict[str, str]] = field(default_factory=list)

    def save(self, path: Path) -> None:
        """Write everything as JSON; a number is never rounded here."""
        body = {"schema": SCHEMA, **asdict(self)}
        path.write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Results:
        """Read what save wrote. Raises ValueError for a file of another schema."""
        body = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(body, dict) or body.get("schema") != SCHEMA:
            raise ValueError(f"{path}: not raw results of this benchmark (schema {SCHEMA})")
        return cls(body["conditions"], [Row(**row) for row in body["rows"]], body["left_out"])

    def values(self, workload: str, case: str, store: str, metric: str) -> list[float]:
        """Return one metric of one place, a value a round; empty when it was not measured."""
        wanted = (workload, case, store)
        return [row.metrics[metric] for row in self.rows if row.place == wanted and metric in row.metrics]

    def value(self, workload: str, case: str, store: str, metric: str) -> float | None:
        """Return the median over the rounds, of `max_us`, `lost` and `problems` the worst; None if not measured."""
        values = self.values(workload, case, store, metric)
        if not values:
            return None
        worst = any(part in WORST_OF_ALL_ROUNDS for part in metric.split("_"))
        return max(values) if worst else median(values)

    def cases(self, workload: str) -> list[str]:
        """Return the cases of a workload in the order they ran."""
        return list(dict.fromkeys(row.case for row in self.rows if row.workload == workload))

    def stores(self, workload: str) -> list[str]:
        """Return the stores that took part in a workload, in the order they ran."""
        return list(dict.fromkeys(row.store for row in self.rows if row.workload == workload))

    def workloads(self) -> list[str]:
        """Return the workloads in the order they ran."""
        return list(dict.fromkeys(row.workload for row in self.rows))

    def places(self) -> Iterator[tuple[tuple[str, str, str], list[Row]]]:
        """Yield each place with its rows, one a round."""
        grouped: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
        for row in self.rows:
            grouped[row.place].append(row)
        yield from grouped.items()
