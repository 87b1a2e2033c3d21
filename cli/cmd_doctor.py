"""`shardstore doctor`: test whether a store is safe on this disk."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import exits, output, show, tables
from .options import JsonOption, StoreOption, open_existing, place_of, plain_app, store_path

if TYPE_CHECKING:
    from shardstore import DoctorReport

app = plain_app()


@app.command()
def doctor(
    ctx: typer.Context,
    directory: Annotated[
        str | None,
        typer.Argument(metavar="DIRECTORY", help="Examine this directory or database instead of a store's."),
    ] = None,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Test whether a store is safe on this disk.

    It tests that locks exclude other processes, and that appends, renames and syncs work. It leaves nothing behind. A
    database's server is asked for its settings. Exit code 1 if a store would not be safe there.
    """
    from shardstore import engine

    if directory is None:
        with open_existing(ctx, store, read_only=True) as opened:
            named = store_path(ctx, store)
            report = engine.doctor(named if opened.root is None and isinstance(named, str) else Path(opened.location))
    else:
        report = engine.doctor(_place(ctx, directory))
    if json:
        checks = [{"name": one.name, "status": one.status, "detail": one.detail} for one in report.checks]
        fields = {
            "directory": report.directory,
            "file_system": report.file_system,
            "ok": report.ok,
        }
        output.json_object({**fields, "checks": checks})
    else:
        _print_report(report)
    if not report.ok:
        raise exits.CommandError("a store would not be safe here", _advice(report))


def _advice(report: DoctorReport) -> str:
    """Blame the file system only where it is not a local one: a full disk fails the same checks."""
    if report.checks[0].status != "pass":
        return "move it to a local disk"
    return "the lines with `fail` say why; where it is space, a quota or a permission, mend that and run it again"


def _place(ctx: typer.Context, name: str) -> Path | str:
    path = place_of(name)
    if isinstance(path, str):
        return path
    if not path.is_dir():
        message = f"{show.text(name)} is not a directory"
        raise typer.BadParameter(message, ctx=ctx, param_hint="DIRECTORY")
    return path


def _print_report(report: DoctorReport) -> None:
    output.pairs(
        [
            ("Directory", show.text(report.directory)),
            ("File system", show.text(report.file_system)),
        ],
        whole=("Directory",),
    )
    output.line()
    columns = (
        tables.Column("result"),
        tables.Column("check", lead=True),
        tables.Column("detail", fold=True),
    )
    output.table(columns, [(one.status, one.name, show.text(one.detail)) for one in report.checks])
