"""Pictures of raw results, for docs/internals/images. The only module that needs matplotlib."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.figure import Figure

from bench.judge import number
from bench.report import label
from bench.workloads.listing import BARE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from bench.results import Results

OURS = "#c2410c"
OTHERS = "#94a3b8"
LINES = ("#c2410c", "#1d4ed8", "#0f766e", "#7c3aed", "#64748b", "#b45309", "#be185d", "#4d7c0f", "#0e7490")
BYTES = {"140 B": 155, "1 KB": 1_300, "15 KB": 15_000, "42 KB": 42_000, "110 KB": 110_000, "400 KB": 400_000}
STYLE: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e2e8f0",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
}

Panel = tuple[str, str, str, str, str, float]  # title, workload, case, metric, unit, scale


def draw(results: Results, directory: Path) -> list[Path]:
    """Draw every picture that the results have numbers for; return the files."""
    directory.mkdir(parents=True, exist_ok=True)
    pictures: dict[str, Callable[[Results], Figure | None]] = {
        "headline": headline,
        "sizes": sizes,
        "waiting": waiting,
        "durable": durable,
        "fanout": fanout,
        "list": listing,
        "churn": churn,
    }
    made = []
    with mpl.rc_context(STYLE):
        for name, picture in pictures.items():
            figure = picture(results)
            if figure is not None:
                path = directory / f"{name}.png"
                figure.savefig(path, dpi=130, metadata={"Software": None})
                made.append(path)
    return made


def _figure(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Figure, list[Any]]:
    figure = Figure(figsize=(width, height))
    axes = figure.subplots(rows, columns, squeeze=False)
    return figure, [axis for row in axes for axis in row]


def _bars(axis: Any, results: Results, panel: Panel) -> None:
    """Draw one horizontal bar a store, ours in colour; what lost updates is hatched and says how many."""
    title, workload, case, metric, unit, scale = panel
    measured = [(store, results.value(workload, case, store, metric)) for store in results.stores(workload)]
    rows = [(store, value * scale) for store, value in measured if value is not None][::-1]
    colours = [OURS if store.startswith("shardstore") else OTHERS for store, _ in rows]
    bars = axis.barh([label(store) for store, _ in rows], [value for _, value in rows], color=colours)
    top = max((value for _, value in rows), default=1)
    logarithmic = metric != "fairness" and top > 30 * min((value for _, value in rows), default=1)
    for bar, (store, value) in zip(bars, rows, strict=True):
        lost = results.value(workload, case, store, "lost") or 0
        if lost:
            bar.set_hatch("///")
        text = f" {number(value, '')}"
        axis.text(
            value,
            bar.get_y() + bar.get_height() / 2,
            text + (f", lost {lost:,.0f}" if lost else ""),
            va="center",
            size=8,
        )
    axis.set_title(title, loc="left", size=9)
    axis.set_xlabel(unit + (", logarithmic" if logarithmic else ""), size=8)
    axis.grid(visible=False, axis="y")
    if logarithmic:
        axis.set_xscale("log")
    axis.set_xlim(right=top * (12 if logarithmic else 1.3))


def _panels(results: Results, panels: Sequence[Panel], columns: int) -> Figure | None:
    there = [panel for panel in panels if panel[2] in results.cases(panel[1])]
    if not there:
        return None
    columns = min(columns, len(there))
    rows = -(-len(there) // columns)
    figure, axes = _figure(4.6 * columns, 2.7 * rows, rows, columns)
    for axis in axes[len(there) :]:
        axis.set_visible(False)
    for axis, panel in zip(axes, there, strict=False):
        _bars(axis, results, panel)
    return figure


def headline(results: Results) -> Figure | None:
    """Draw the README's picture: the most frequent work of a host."""
    panels = (
        ("Change one field of a 42 KB session, relaxed", "touch", "update 42 KB", "p50_us", "µs, median", 1.0),
        ("Read one field of a 42 KB session", "get", "42 KB, one field", "p50_us", "µs, median", 1.0),
        ("8 processes on one session, relaxed", "hotkey", "8 processes", "ops_s",
         "updates a second, more is better", 1.0),
        ("8 processes, 8 sessions, commit (each update synced)", "durable-spread", "8 processes", "ops_s",
         "updates a second, more is better", 1.0),
    )  # fmt: skip
    return _panels(results, panels, 2)


def durable(results: Results) -> Figure | None:
    """Draw durable throughput on each file system."""
    panels = []
    for where in ("", " on ext4", " on xfs"):
        name = where or " on the machine's own file system"
        panels.append((f"1 process{name}", "durable", f"1 process{where}", "ops_s", "durable updates a second", 1.0))
        panels.append((f"8 processes, 8 sessions{name}", "durable-spread", f"8 processes{where}", "ops_s",
                       "durable updates a second", 1.0))  # fmt: skip
    return _panels(results, panels, 2)


def waiting(results: Results) -> Figure | None:
    """Draw what the unluckiest wait when many want one key, and how evenly turns are given."""
    panels = []
    for count in (8, 32):
        for hold in ("", ", 2 ms each"):
            case = f"{count} processes{hold}"
            panels.append((f"p99 of an update: {case}", "hotkey", case, "p99_us", "ms", 1e-3))
            panels.append((f"fewest turns / most: {case}", "hotkey", case, "fairness", "1 is fair", 1.0))
    return _panels(results, panels, 2)


def sizes(results: Results) -> Figure | None:
    """Draw the cost of changing one field against the size of the entry."""
    if "touch" not in results.workloads():
        return None
    figure, (axis,) = _figure(7, 4)
    for colour, store in zip(LINES, results.stores("touch"), strict=False):
        points = [(BYTES[size], results.value("touch", f"update {size}", store, "p50_us")) for size in BYTES]
        there = [(size, value) for size, value in points if value is not None]
        if there:
            axis.plot(*zip(*there, strict=True), marker="o", ms=3, color=colour, label=label(store),
                      lw=2.5 if store == "shardstore" else 1.2)  # fmt: skip
    axis.set(xscale="log", yscale="log", xlabel="bytes of the entry", ylabel="µs, median")
    axis.set_title("update(fn) that changes one field, one process, relaxed", loc="left", size=10)
    axis.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def fanout(results: Results) -> Figure | None:
    """Draw the bystander's p99 alone, beside the same load elsewhere, and disturbed."""
    cases = results.cases("fanout")
    if not cases:
        return None
    figure, axes = _figure(4.2 * len(cases), 3.2, 1, len(cases))
    stores = results.stores("fanout")
    for axis, case in zip(axes, cases, strict=True):
        for place, (name, colour) in enumerate((("alone", "#cbd5e1"), ("beside", "#94a3b8"), ("disturbed", OURS))):
            values = [(results.value("fanout", case, store, f"{name}_p99_us") or 0) / 1e3 for store in stores]
            axis.bar([x + (place - 1) * 0.27 for x in range(len(stores))], values, 0.27, color=colour, label=name)
        axis.set_xticks(range(len(stores)), [label(store) for store in stores], rotation=30, ha="right", size=8)
        axis.set(yscale="log", ylabel="bystander's p99, ms")
        axis.set_title(case, loc="left", size=10)
    axes[0].legend(fontsize=8)
    return figure


def listing(results: Results) -> Figure | None:
    """Draw list(100) against the number of sessions, idle and beside writers."""
    found = [case for case in results.cases("list") if case.endswith(("idle", "writers"))]
    if not found:
        return None
    figure, (axis,) = _figure(7, 4)
    lines = [("shardstore", "idle"), ("shardstore", "5 writers"), (BARE, "idle"), ("sqlite-listed", "5 writers"),
             ("perfile", "idle"), ("onefile", "idle")]  # fmt: skip
    for colour, (store, ending) in zip(LINES, lines, strict=False):
        points = [(int(case.split()[0].replace(",", "")), results.value("list", case, store, "p50_us"))
                  for case in found if case.endswith(ending)]  # fmt: skip
        there = [(count, value / 1e3) for count, value in points if value is not None]
        if there:
            axis.plot(*zip(*there, strict=True), marker="o", ms=3, color=colour, label=f"{label(store)}, {ending}",
                      lw=2.5 if store == "shardstore" else 1.2)  # fmt: skip
    axis.set(xscale="log", yscale="log", xlabel="sessions", ylabel="ms, median")
    axis.set_title("the newest 100 sessions", loc="left", size=10)
    axis.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def churn(results: Results) -> Figure | None:
    """Draw latency and disk over the days."""
    days = [row for row in results.rows if row.workload == "churn" and row.store == "shardstore"]
    if not days:
        return None
    figure, (latency, disk) = _figure(9, 3, 1, 2)
    at = [row.round + 1 for row in days]
    for colour, name in zip(LINES, ("create", "update", "list"), strict=False):
        latency.plot(at, [row.metrics[f"{name}_p50_us"] for row in days], marker="o", ms=3, color=colour, label=name)
    latency.set(xlabel="day", ylabel="µs, median", yscale="log", xticks=at)
    latency.set_title("latency, 378 new sessions a day", loc="left", size=10)
    latency.legend(fontsize=8)
    for colour, name, text in (
        (LINES[0], "disk_bytes", "sessions and index"),
        (LINES[4], "archived_bytes", "archive/"),
    ):
        disk.plot(at, [row.metrics[name] / 2**20 for row in days], marker="o", ms=3, color=colour, label=text)
    disk.set(xlabel="day", ylabel="MB on disk", ylim=(0, None), xticks=at)
    disk.set_title("disk, pruned to 2,703 sessions each night", loc="left", size=10)
    disk.legend(fontsize=8)
    return figure
