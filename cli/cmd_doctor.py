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

    place = store_path(ctx, store) if directory is None else _place(ctx, directory)
    if isinstance(place, str):  # a database is asked although no store is there yet
        report = _of_server(ctx, place)
    elif directory is None:
        with open_existing(ctx, store, read_only=True) as opened:
            report = engine.doctor(Path(opened.location))
    else:
        report = engine.doctor(place)
    if json:
        checks = [{"name": one.name, "status": one.status, "detail": one.detail} for one in report.checks]
        fields = {
            "directory": report.directory,
            "file_system": report.file_system,
            "ok": report.ok,
        }
        output.json_object({**fields, "checks": checks})
    else:
        _print_report(report, of_server=isinstance(place, str))
    if not report.ok:
        raise exits.CommandError("a store would not be safe here", _advice(report))


def _of_server(ctx: typer.Context, url: str) -> DoctorReport:
    """Ask the server of a database. Raises CommandError where psycopg is missing; a wrong URL is a usage error."""
    from shardstore import engine, errors

    try:
        return engine.doctor(url)
    except errors.StoreUnavailable as error:  # the usual advice is to run this command
        raise exits.CommandError(str(error), "check the URL, and that the server runs") from None
    except ModuleNotFoundError as error:
        if error.name != "psycopg":
            raise
        raise exits.CommandError(str(error)) from None
    except ValueError as error:
        raise typer.BadParameter(str(error), ctx=ctx, param_hint="URL") from None


def _advice(report: DoctorReport) -> str:
    """Blame the file system only where it is not a local one: a full disk fails the same checks."""
    if report.checks[0].status != "pass" and report.checks[0].name != "server":
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


def _print_report(report: DoctorReport, *, of_server: bool) -> None:
    where, kind = ("Database", "Server") if of_server else ("Directory", "File system")
    output.pairs(
        [
            (where, show.text(report.directory)),
            (kind, show.text(report.file_system)),
        ],
        whole=(where,),
    )
    output.line()
    columns = (
        tables.Column("result"),
        tables.Column("check", lead=True),
        tables.Column("detail", fold=True),
    )
    output.table(columns, [(one.status, one.name, show.text(one.detail)) for one in report.checks])
