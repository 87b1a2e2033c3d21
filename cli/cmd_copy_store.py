"""`shardstore copy-store`: copy every session into another store, of files or in a database."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from . import exits, output, parse, progress, show
from .options import JsonOption, PrefixOption, TimeoutOption, open_store, plain_app

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shardstore import Store
    from shardstore._copy_store import CopyReport

app = plain_app()

_AGAIN = "every copied session is whole; run it again for the rest"


@app.command()
def copy_store(
    ctx: typer.Context,
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="Directory or URL of the store to copy.")],
    target: Annotated[
        str, typer.Argument(metavar="TARGET", help="Directory or URL of the target; a missing store is created.")
    ],
    prefix: PrefixOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print how many sessions would be copied; change nothing.")
    ] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Read every copy again and compare it.")] = False,
    lock_timeout: TimeoutOption = "10",
    json: JsonOption = False,
) -> None:
    """Copy all sessions, and the archive, into another store.

    Either is a directory or a database. Versions, history and logs go along. Run it again while writers go on, and a
    last time after they stopped: it copies the sessions that changed since. It leaves a session alone, and names it, if
    somebody changed it in the target; the exit code is then 1. Damaged files in quarantine stay where they are; it
    counts them.
    """
    from shardstore._copy_store import copy_store as copying

    wait = parse.seconds(lock_timeout, "--lock-timeout")
    with (
        open_store(ctx, source, create=False, read_only=True) as old,
        _target(ctx, target, dry_run=dry_run) as new,
        progress.bar("Copying", _AGAIN) as shown,
    ):
        there = new.engine.location  # without a password
        report = copying(
            old.engine, new.engine, prefix=prefix or "", dry_run=dry_run, verify=verify, timeout=wait, progress=shown
        )
    if json:
        output.json_object({**asdict(report), "ok": report.ok})
    else:
        _print(report)
    if not report.ok:
        failed = sum(one.failed for one in report.skipped)
        raise exits.CommandError(f"{show.count(failed, 'session')} could not be copied", _next(report, there))


@contextmanager
def _target(ctx: typer.Context, target: str, *, dry_run: bool) -> Iterator[Store]:
    """Open the target. In a dry run an empty store in memory stands for one that is not there yet."""
    from shardstore import Store, StoreNotFound

    with ExitStack() as stack:
        if not dry_run:
            yield stack.enter_context(open_store(ctx, target, create=True))
            return
        try:
            new = stack.enter_context(open_store(ctx, target, create=False, read_only=True))
            new.token()  # a database is asked only now
        except StoreNotFound as error:
            output.message(f"there is no store at {show.text(str(error.root))} yet; without --dry-run it is created")
            new = stack.enter_context(Store.memory())
        yield new


def _next(report: CopyReport, there: str) -> str:
    """Advise what helps: running again does not where the target's session was changed."""
    from shardstore._copy_store import CHANGED_THERE

    changed = next((one.key for one in report.skipped if one.failed and one.why.startswith(CHANGED_THERE)), None)
    if changed is None:
        return _AGAIN
    delete = f"`shardstore delete --store {show.text(there)} {show.text(str(changed))}`"
    return f"{_AGAIN}; where the target's change may go, {delete} before that"


def _print(report: CopyReport) -> None:
    for one in report.skipped:
        output.message(f"{show.text(str(one.key))}: {show.text(one.why)}")
    verb = "would be copied" if report.dry_run else "copied"
    parts = [f"{show.count(len(report.copied), 'session')} {verb}", f"{report.unchanged:,} unchanged"]
    if report.removed:
        parts.append(f"{len(report.removed):,} {'would be ' if report.dry_run else ''}removed")
    if report.archived:
        parts.append(f"{show.count(len(report.archived), 'archived session')} {verb}")
    if report.verified:
        parts.append(f"{report.verified:,} compared")
    output.line(", ".join(parts))
    if report.quarantined:
        output.message(f"{show.count(report.quarantined, 'damaged file')} in quarantine of the source stay there")
