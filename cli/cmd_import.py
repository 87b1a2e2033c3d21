"""`shardstore import openclaw`: bring in the sessions of an OpenClaw sessions.json or database."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import exits, import_report, output, progress, show
from .options import plain_app, store_path
from .writing import Writing, writes

if TYPE_CHECKING:
    from shardstore import Store

    from .openclaw import Source
    from .transcripts import Line

app = plain_app()
_AGAIN = "each session is imported whole or not at all; run the same command again for the rest"


@app.callback()
def formats() -> None:
    """Bring in sessions from another program's files."""


@app.command()
@writes
def openclaw(
    to: Writing,
    path: Annotated[
        str,
        typer.Argument(
            metavar="PATH",
            help="A sessions.json, an openclaw-agent.sqlite, or the directory that contains one.",
            show_default=False,
        ),
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Read and check everything; write nothing.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Overwrite sessions that differ in the store.")
    ] = False,
    skip_invalid: Annotated[
        bool,
        typer.Option(
            "--skip-invalid",
            help="Skip entries and lines that the store cannot hold; keep them in STORE.skipped-TIME.jsonl.",
        ),
    ] = False,
    replace_invalid: Annotated[
        bool,
        typer.Option("--replace-invalid", help="Replace halves of emoji (lone surrogates) by U+FFFD, and print where."),
    ] = False,
    no_transcripts: Annotated[
        bool, typer.Option("--no-transcripts", help="Leave out the transcripts that lie beside the file.")
    ] = False,
) -> None:
    """Import OpenClaw's sessions. Checks all of the source first; never changes it.

    You may run it again, also after an interruption. A session that has other fields in the store stays as it is, and
    is reported (exit code 4), unless you pass --overwrite.

    Transcripts beside the file become the logs of the sessions. A line that a log has already is not added again.
    A line's id is its own, or the one that an export kept beside it, or its number.

    `updatedAt` becomes the time of the last change: ISO 8601, or a number whose magnitude tells its unit (below 10^11
    seconds, below 10^14 milliseconds, then micro- and nanoseconds).
    """
    from . import importing
    from . import openclaw as sessions

    place = store_path(to.ctx, to.store)  # a missing --store should not wait for 56 MB to be parsed
    source = sessions.read(Path(path), skip_invalid=skip_invalid, replace_invalid=replace_invalid)
    if source.warning:
        output.message(f"Note: {source.warning}")
    logs = None if no_transcripts else _transcripts(source, skip=skip_invalid, repair=replace_invalid)
    opened = _open(to, dry_run=dry_run)
    try:
        skipped = _keep_odd(source, place if isinstance(place, Path) else source.path) if not dry_run else None
        with progress.bar("Checking" if dry_run else "Importing", _AGAIN) as shown:
            outcome = importing.Import(source, logs, opened, dry_run=dry_run, overwrite=overwrite).run(shown)
    finally:
        if opened is not None:
            opened.close()
    import_report.print_report(source, outcome, skipped, dry_run=dry_run, as_json=to.json)


def _open(to: Writing, *, dry_run: bool) -> Store | None:
    """Open the store, making it if need be; None for a dry run where there is none."""
    from shardstore.errors import StoreNotFound

    try:
        return to.open(create=not dry_run, announce=False, actor="import:openclaw")
    except StoreNotFound:
        if dry_run:
            return None
        raise


def _keep_odd(source: Source, store: Path) -> Path | None:
    """Write the odd entries to a new file beside the store, before the first of the others is imported; return it."""
    from .openclaw_export import keep_lines

    return keep_lines(store, [one.as_line() for one in source.odd]) if source.odd else None


def _transcripts(source: Source, *, skip: bool, repair: bool) -> dict[str, list[Line]]:
    """Read the transcripts that lie beside a sessions.json, by key.

    Raises CommandError for a line that no log can hold; with `skip` it is put with the source's odd entries.
    """
    from . import transcripts

    logs: dict[str, list[Line]] = {}
    for key, entry in source.entries.items():
        path = transcripts.find(source.path, key, entry)
        if path is None:
            continue
        logs[key], odd, replaced = transcripts.read(path, key, repair=repair)
        if odd and not skip:
            hint = "nothing was imported; --skip-invalid leaves such lines out, --no-transcripts all transcripts"
            raise exits.CommandError(f"{show.text(odd[0].place)}: {show.text(odd[0].reason)}", hint)
        source.odd.extend(odd)
        source.replaced.extend(replaced)
    return logs
