"""Tables from raw results: for a terminal, and for the page that publishes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench import conditions, goals
from bench.judge import number
from bench.peers import DURABLE, LEFT_OUT, RELAXED, SPECS
from bench.workloads import WORKLOADS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from bench.results import Results

BEGIN = "<!-- measured: begin. Written by `python -m bench report`; edit the text around it instead. -->"
END = "<!-- measured: end -->"
README_BEGIN, README_END = "<!-- benchmarks: begin -->", "<!-- benchmarks: end -->"
ANY = "any"  # a read syncs nothing: it costs the same at each durability
SUMMARY = (  # its name, its durability, workload, case, metric; the default durability first
    ("change one field, 1 KB session", DURABLE, "durable", "1 process", "p50_us"),
    ("1 process, one session, without a pause", DURABLE, "durable", "1 process", "ops_s"),
    ("8 processes, each on its own session", DURABLE, "durable-spread", "8 processes", "ops_s"),
    ("change one field, 1 KB session", RELAXED, "touch", "update 1 KB", "p50_us"),
    ("change one field, 42 KB session", RELAXED, "touch", "update 42 KB", "p50_us"),
    ("one reply: 13 patches, 12 reads, 15 KB session", RELAXED, "turn", "one reply", "p50_us"),
    ("8 processes, each on its own session", RELAXED, "spread", "8 processes, 8 keys", "ops_s"),
    ("8 processes, all on one session", RELAXED, "hotkey", "8 processes", "ops_s"),
    ("read one field, 1 KB session", ANY, "get", "1 KB, one field", "p50_us"),
    ("read one field, 42 KB session", ANY, "get", "42 KB, one field", "p50_us"),
)
DURABILITY_SHOWN = {DURABLE: "commit", RELAXED: "relaxed", ANY: "any"}  # as Store(durability=...) names it
SUMMARY_LEGEND = (
    "`commit`, the default: a finished call survives a power cut "
    "(SQLite `synchronous=FULL`, LMDB with its syncs, files with `fsync`). "
    "`relaxed`: it survives the death of the process (SQLite `NORMAL`, LMDB `MDB_NOSYNC`, files without `fsync`). "
    "Bold marks the best store of a row."
)
SUMMARY_STORES = {  # store: the same at the durable level
    "shardstore": "shardstore-commit", "sqlite": "sqlite-full", "lmdb-nosync": "lmdb", "diskcache": "diskcache-full",
    "perfile": "perfile-fsync", "onefile": "onefile-fsync",
}  # fmt: skip
MS_FROM_US = 10_000  # medians above are shown in ms


@dataclass(frozen=True)
class Grid:
    """One table: a row a case, a column a store."""

    title: str
    about: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def label(store: str) -> str:
    """Return the name that a table shows for a store, or for something that isn't one."""
    return SPECS[store].label if store in SPECS else store


def us(value: float) -> str:
    """Return a duration given in microseconds, in µs or ms."""
    scaled, unit = (value, "µs") if value < MS_FROM_US else (value / 1e3, "ms")
    return number(scaled, unit)


def _latency(value: Callable[[str], float | None]) -> str:
    return "" if (p50 := value("p50_us")) is None else f"{us(p50)} / {us(value('p99_us') or 0)}"


def _throughput(value: Callable[[str], float | None]) -> str:
    if (rate := value("ops_s")) is None:
        return ""
    fair = value("fairness")
    return f"{rate:,.0f}/s, {us(value('p99_us') or 0)}" + ("" if fair is None else f", {fair:.2f}")


def _bystander(value: Callable[[str], float | None]) -> str:
    parts = [value(f"{name}_p99_us") for name in ("alone", "beside", "disturbed")]
    return " / ".join(us(part) for part in parts if part is not None)


def _seconds(value: Callable[[str], float | None]) -> str:
    return "" if (seconds := value("seconds")) is None else f"{seconds:.2f} s"


def _memory(value: Callable[[str], float | None]) -> str:
    return "" if (resident := value("resident_mb")) is None else f"{resident:.1f} MB, grew {value('grown_mb') or 0:.1f}"


def _noting(value: Callable[[str], float | None]) -> str:
    pairs = [(value(a), value(b)) for a, b in (("noted_p50_us", "noting_p50_us"), ("without_p50_us", "with_p50_us"))]
    return "".join(f"{us(less)} → {us(more)}" for less, more in pairs if less is not None and more is not None)


def _day(value: Callable[[str], float | None]) -> str:
    names = ("create", "update", "list")
    return ", ".join(f"{name} {us(p50)}" for name in names if (p50 := value(f"{name}_p50_us")) is not None)


def _watching(value: Callable[[str], float | None]) -> str:
    if (cpu := value("cpu_us")) is not None:
        return us(cpu)
    if (share := value("cpu_percent")) is not None:
        return f"{share:.2f} %"
    return "" if (middle := value("median_ms")) is None else f"{middle:.0f} / {value('max_ms') or 0:.0f} ms"


LATENCY = ("median / p99", _latency)
THROUGHPUT = ("operations a second of all processes, p99, fewest turns over most", _throughput)
CELLS: dict[str, tuple[str, Callable[[Callable[[str], float | None]], str]]] = {
    "hotkey": THROUGHPUT,
    "spread": THROUGHPUT,
    "durable-spread": THROUGHPUT,
    "mixed": THROUGHPUT,
    "fanout": ("bystander's p99 alone / beside the same load in another store / disturbed", _bystander),
    "rebuild": ("whole", _seconds),
    "bulk": ("whole", _seconds),
    "memory": ("resident in the end, and growth", _memory),
    "indexcost": ("median without → with the index's work", _noting),
    "churn": ("median, all days", _day),
    "watching": (
        "processor's time of an update; median / longest until seen; share of one processor when idle",
        _watching,
    ),
}


def grids(results: Results) -> list[Grid]:
    """Return a table for each workload, and one for churn's days."""
    made = [_grid(results, workload) for workload in results.workloads()]
    return made + ([_days(results)] if "churn" in results.workloads() else [])


def _grid(results: Results, workload: str) -> Grid:
    what, show = CELLS.get(workload, LATENCY)
    stores = results.stores(workload)
    rows = []
    for case in results.cases(workload):
        cells = [_with_loss(show, lambda m, c=case, s=store: results.value(workload, c, s, m)) for store in stores]  # type: ignore[misc]
        rows.append((case, *cells))
    about = WORKLOADS[workload].ABOUT if workload in WORKLOADS else ""
    cells_are = f"{what[0].upper()}{what[1:]}."
    return Grid(workload, f"{about}. {cells_are}{_durability(stores)}", ("", *map(label, stores)), tuple(rows))


def _durability(stores: Sequence[str]) -> str:
    """Return a sentence that names the durability of each column; nothing where no column is a store."""
    levels: dict[str, list[str]] = {}
    for store in stores:
        if store in SPECS:
            levels.setdefault(DURABILITY_SHOWN[SPECS[store].level], []).append(label(store))
    if len(levels) < 2:
        return "".join(f" Durability: {level}." for level in levels)
    return " Durability: " + "; ".join(f"{level} for {', '.join(names)}" for level, names in levels.items()) + "."


def _with_loss(show: Callable[[Callable[[str], float | None]], str], value: Callable[[str], float | None]) -> str:
    """Return a cell; of a store that lost updates the number it lost comes first: its speed is not a result."""
    lost, problems = value("lost") or 0, value("problems") or 0
    marks = [f"LOST {lost:,.0f} updates"] if lost > 0 else []
    marks += [f"{problems:,.0f} PROBLEMS found by its own check"] if problems > 0 else []
    return "; ".join([*marks, show(value)])


def _days(results: Results) -> Grid:
    """Return churn's days as rows: latencies and disk of the first store that ran."""
    names = (
        "create_p50_us",
        "update_p50_us",
        "update_p99_us",
        "list_p50_us",
        "prune_ms",
        "disk_bytes",
        "archived_bytes",
    )
    header = ("day", "create", "update", "update p99", "list", "prune", "on disk", "in archive/")
    rows = []
    for row in (row for row in results.rows if row.workload == "churn" and row.store == "shardstore"):
        times = [us(row.metrics[name]) for name in names[:4]]
        sizes = [f"{row.metrics[name] / 2**20:.1f} MB" for name in names[5:]]
        rows.append((str(row.round + 1), *times, f"{row.metrics['prune_ms']:.0f} ms", *sizes))
    return Grid("churn, shardstore, day by day", "Medians of each day.", header, tuple(rows))


def aligned(grid: Grid) -> str:
    """Return a table as aligned text, turned so that it fits: a line for each case and store."""
    lines = [f"\n{grid.title}: {grid.about}"]
    width = max(len(name) for name in grid.header)
    for case, *cells in grid.rows:
        lines.append(f"  {case}")
        lines += [f"    {name:{width}}  {cell}" for name, cell in zip(grid.header[1:], cells, strict=True) if cell]
    return "\n".join(lines)


def markdown(grid: Grid) -> str:
    """Return a table as Markdown."""
    return f"### {grid.title}\n\n{grid.about}\n\n{_table(grid.header, grid.rows)}"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    rule = "|".join(["---", *["---:"] * (len(header) - 1)])
    first, *others = [f"| {' | '.join(row)} |" for row in (header, *rows)]
    return "\n".join([first, f"|{rule}|", *others])


def text(results: Results) -> str:
    """Return all tables as text."""
    return "\n".join(aligned(grid) for grid in grids(results))


def page(results: Results) -> str:
    """Return the generated part of the page: conditions, goals, tables, what was left out."""
    head = "\n".join(["## Conditions", "", "```", *conditions.lines(results.conditions), "```"])
    rows = [verdict.cells() for verdict in goals.evaluate(results)]
    judged = Grid(
        "Goals",
        "The goals, and how far this run reached each of them.",
        ("", "", "goal", "reached", "verdict"),
        tuple(rows),
    )
    missing = [f"- {n['workload']}, {n['case']}, {label(n['store'])}: {n['why']}" for n in results.left_out]
    missing += [f"- {name}: {why}" for name, why in LEFT_OUT.items()]
    tables = [markdown(grid) for grid in grids(results)]
    return "\n\n".join(
        [head, markdown(judged).replace("### ", "## ", 1), "## Tables", *tables, "## Left out", "\n".join(missing)]
    )


def summary(results: Results) -> str:
    """Return the README's table: a host's most frequent work, by shardstore and by the usual alternatives."""
    names = [label(store).removesuffix(" NORMAL").removesuffix(" nosync") for store in SUMMARY_STORES]
    rows = []
    for name, level, workload, case, metric in SUMMARY:
        stores = [SUMMARY_STORES[store] if level == DURABLE else store for store in SUMMARY_STORES]
        values = [results.value(workload, case, store, metric) for store in stores]
        rows.append((name, DURABILITY_SHOWN[level], *_best_in_bold(values, metric)))
    return _table(("", "durability", *names), rows)


def _best_in_bold(values: Sequence[float | None], metric: str) -> list[str]:
    """Return a row's cells; bold marks the shortest time or the highest rate, whichever store it belongs to."""
    measured = [value for value in values if value is not None]
    best = (min if metric == "p50_us" else max)(measured, default=None)
    shown = ["" if value is None else us(value) if metric == "p50_us" else f"{value:,.0f}/s" for value in values]
    return [f"**{cell}**" if cell and value == best else cell for cell, value in zip(shown, values, strict=True)]


def write_between(path: Path, begin: str, end: str, text: str) -> None:
    """Put text between the two markers of a page, or at its end when it has none yet."""
    old = path.read_text(encoding="utf-8") if path.exists() else ""
    before, _, rest = old.partition(begin)
    after = rest.partition(end)[2] or "\n"
    path.write_text(f"{before.rstrip()}\n\n{begin}\n\n{text}\n\n{end}{after}", encoding="utf-8")


def write_page(results: Results, path: Path) -> None:
    """Put the tables into the page that publishes them."""
    write_between(path, BEGIN, END, page(results))


def write_readme(results: Results, path: Path) -> None:
    """Put the one table into the README, with its conditions."""
    met = results.conditions
    disk = met["filesystem"].split(" (")[0]
    under = f"{met['machine']}, {met['cores']} cores, {disk}, {met['python']}, SQLite {met['sqlite']}."
    write_between(path, README_BEGIN, README_END, f"{summary(results)}\n\nMedians on {under} {SUMMARY_LEGEND}")
