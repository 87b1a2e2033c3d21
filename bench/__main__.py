"""The command: python -m bench list | run | report | compare."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

from bench import compare, conditions, crew, goals, mounts, report, runner
from bench.ending import Ending
from bench.peers import LEFT_OUT, SPECS
from bench.plan import Plan, Stage
from bench.results import Results
from bench.workloads import WORKLOADS

OUT = Console()
ERR = Console(stderr=True)
USES_IMAGES = {"durable", "durable-spread"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code (1 when a store failed or a commit could not be run)."""
    options = _parser().parse_args(arguments)
    code: int = options.action(options)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="shardstore beside what a user would pick instead"
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    listing = commands.add_parser("list", help="name the workloads and the stores")
    listing.set_defaults(action=_list)
    run = commands.add_parser("run", help="measure")
    _add_run_options(run)
    run.add_argument("--out", type=Path, default=Path("raw.json"), help="where the raw results go (raw.json)")
    run.set_defaults(action=_run)
    reporting = commands.add_parser("report", help="tables, goals and pictures from raw results")
    reporting.add_argument("raw", type=Path)
    reporting.add_argument("--markdown", type=Path, help="write the tables into this page, between its markers")
    reporting.add_argument("--readme", type=Path, help="write the one table into this README, between its markers")
    reporting.add_argument("--plots", type=Path, help="write PNG pictures into this directory")
    reporting.set_defaults(action=_report)
    comparing = commands.add_parser("compare", help="two raw files, or two commits of the library")
    comparing.add_argument("before", help="a raw.json, or a commit")
    comparing.add_argument("after", help="a raw.json, or a commit")
    _add_run_options(comparing)
    comparing.set_defaults(action=_compare)
    return parser


def _add_run_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("workloads", nargs="*", metavar="WORKLOAD", help="all of them when none is named")
    parser.add_argument("--quick", action="store_true", help="small and short: the shape, not the proof")
    parser.add_argument("--rounds", type=int, help="alternating rounds of each case")
    parser.add_argument(
        "--seconds", type=float, help="of a round in one process; several processes get five times that"
    )
    parser.add_argument("--stores", help="only these, separated by commas (shardstore,sqlite)")
    parser.add_argument("--case", help="only cases whose name contains this")
    parser.add_argument("--dir", type=Path, help="a directory on the disk to measure (default: /var/tmp, or here)")
    parser.add_argument("--no-images", action="store_true", help="mount no ext4 and xfs images")


def plan_of(options: argparse.Namespace) -> Plan:
    """Return the plan that the options ask for."""
    changes: dict[str, Any] = {}
    if options.rounds:
        changes["rounds"] = options.rounds
    if options.seconds:
        changes |= {"seconds": options.seconds, "window": options.seconds * 5}
    return Plan.brief(**changes) if options.quick else Plan(**changes)


def _list(_: argparse.Namespace) -> int:
    for title, rows in (
        ("workloads", [(name, workload.ABOUT) for name, workload in WORKLOADS.items()]),
        ("stores", [(spec.name, spec.missing() or f"{spec.level}: {spec.how}") for spec in SPECS.values()]),
        ("left out", list(LEFT_OUT.items())),
    ):
        table = Table(title=title, title_justify="left", show_header=False, box=None)
        for row in rows:
            table.add_row(*row)
        OUT.print(table)
    return 0


def _run(options: argparse.Namespace) -> int:
    options.out.parent.mkdir(parents=True, exist_ok=True)
    results = measure(options)
    results.save(options.out)
    _tell_results(results)
    OUT.print(f"raw results: {options.out}")
    return 1 if any(note["why"].startswith("failed") for note in results.left_out) else 0


def measure(options: argparse.Namespace) -> Results:
    """Run the workloads that the options name; print the conditions first. Everything on disk is removed."""
    names = _known(options.workloads) or list(WORKLOADS)
    plan = plan_of(options)
    with ExitStack() as stack:
        ending = stack.enter_context(Ending())
        root = Path(tempfile.mkdtemp(prefix="shardstore-bench-", dir=options.dir or conditions.default_directory()))
        stack.callback(shutil.rmtree, root, ignore_errors=True)
        reasons: dict[str, str] = {}
        wants_images = USES_IMAGES.intersection(names) and not options.no_images
        filesystems = stack.enter_context(mounts.images(root, reasons)) if wants_images else {}
        stage = Stage(plan, root, filesystems)
        cases = list(_chosen(options, names, stage))
        stores = list(dict.fromkeys(store for case in cases for store in case.stores))
        results = Results(conditions.gather(root, plan, stores, filesystems))
        results.left_out += [
            {"workload": "durable", "case": "on an image", "store": k, "why": w} for k, w in reasons.items()
        ]
        for line in conditions.lines(results.conditions):
            OUT.print(line, highlight=False, soft_wrap=True)
        crew.preload(stores)
        with _progress() as progress:
            total = sum((1 + (case.rounds or plan.rounds)) * len(case.stores) for case in cases)
            task = progress.add_task("", total=total)

            def tell(case: Any, store: str, number: int) -> None:
                if number < 0 and "out" in options:
                    results.save(options.out)  # what a run has measured when it is ended half way is not lost
                ending.check()
                what = "sets up" if number < 0 else f"round {number + 1}"
                progress.update(task, advance=1, description=f"{case.workload}: {case.name}: {store} {what}")

            runner.run(cases, stage, results, tell)
        return results


def _known(names: Sequence[str]) -> list[str]:
    unknown = [name for name in names if name not in WORKLOADS]
    if unknown:
        ERR.print(f"no workload called {', '.join(unknown)}; there are: {', '.join(WORKLOADS)}")
        raise SystemExit(2)
    return list(names)


def _chosen(options: argparse.Namespace, names: Sequence[str], stage: Stage) -> Iterator[Any]:
    only = options.stores.split(",") if options.stores else None
    for name in names:
        for case in WORKLOADS[name].cases(stage):
            if options.case and options.case not in case.name:
                continue
            kept = tuple(store for store in case.stores if only is None or store in only or store not in SPECS)
            if kept:
                yield replace(case, stores=kept)


def _progress() -> Progress:
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    return Progress(*columns, console=ERR, transient=True, disable=not ERR.is_terminal)


def _tell_results(results: Results) -> None:
    OUT.print(report.text(results), highlight=False, soft_wrap=True, markup=False)
    OUT.print(goals.text(goals.evaluate(results)), highlight=False, soft_wrap=True, markup=False)
    for note in results.left_out:
        OUT.print(
            f"left out: {note['workload']}, {note['case']}, {note['store']}: {note['why']}",
            markup=False,
            soft_wrap=True,
        )


def _report(options: argparse.Namespace) -> int:
    results = Results.load(options.raw)
    if options.plots:
        from bench import plots

        for path in plots.draw(results, options.plots):
            OUT.print(f"wrote {path}")
    for page, write in ((options.markdown, report.write_page), (options.readme, report.write_readme)):
        if page:
            write(results, page)
            OUT.print(f"wrote {page}")
    if not (options.markdown or options.readme or options.plots):
        _tell_results(results)
    return 0


def _compare(options: argparse.Namespace) -> int:
    if all(Path(name).is_file() for name in (options.before, options.after)):
        before, after = Results.load(Path(options.before)), Results.load(Path(options.after))
    else:
        before, after = compare.commits(options, tell=lambda line: OUT.print(line, highlight=False))
    OUT.print(compare.text(before, after), highlight=False, soft_wrap=True, markup=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
