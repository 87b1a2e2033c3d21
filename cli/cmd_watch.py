"""`shardstore watch`: changes of sessions, as they come."""

from __future__ import annotations

import os
import subprocess
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import exits, output, parse, show
from .options import JsonOption, StoreOption, complete_key, open_existing, plain_app

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shardstore import Store
    from shardstore.watch import Change

app = plain_app()


@app.command()
def watch(
    ctx: typer.Context,
    prefix: Annotated[
        str | None,
        typer.Argument(metavar="PREFIX", help="Only sessions whose key begins with this.", autocompletion=complete_key),
    ] = None,
    command: Annotated[
        str | None,
        typer.Option("--exec", metavar="CMD", help="Run a shell command for each change, one after the other."),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="TOKEN", help="Continue from this token; --json prints one with each change."),
    ] = None,
    seconds: Annotated[
        str | None, typer.Option("--timeout", metavar="SECONDS", help="End after this time without a change.")
    ] = None,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Print the changes of sessions until interrupted.

    Several changes in a short time may be one line. --json prints one object a line.

    The command of --exec finds the change in SHARDSTORE_KEY, SHARDSTORE_KIND, SHARDSTORE_REV and SHARDSTORE_VERSION.
    """
    timeout = None if seconds is None else parse.seconds(seconds, "--timeout")
    with open_existing(ctx, store) as opened:
        for change in _changes(opened, prefix, since, timeout):
            if json:
                output.json_line(_for_programs(change))
            elif command is None:
                output.line(_line(change))
            if command is not None:
                _run(command, change)


def _changes(store: Store, prefix: str | None, since: str | None, timeout: float | None) -> Iterator[Change]:
    """Yield changes. If the index was rebuilt meanwhile, warn that some may be missing, and go on."""
    from shardstore.errors import WatchExpired

    while True:
        with store.watch(prefix, since=since, timeout=timeout) as found:
            try:
                yield from found
            except WatchExpired as error:
                if since is not None:
                    raise
                output.message(f"{error.reason}: some changes may be missing here")
            else:
                return


def _for_programs(change: Change) -> dict[str, Any]:
    at = None if change.updated_at is None else show.iso(change.updated_at)
    return {**change._asdict(), "updated_at": at}


def _line(change: Change) -> str:
    at = (change.updated_at or datetime.now(UTC)).astimezone(UTC).strftime("%m-%d %H:%M:%S")
    return f"{at}  {change.kind:<7}  {change.rev:>6}  {show.text(change.key)}"


def _run(command: str, change: Change) -> None:
    """Run a command for a change. A key never becomes a part of the command: it may hold anything."""
    given = {"KEY": change.key, "KIND": change.kind, "REV": str(change.rev), "VERSION": change.version}
    environment = {**os.environ, **{f"SHARDSTORE_{name}": value for name, value in given.items()}}
    ended = subprocess.run(["/bin/sh", "-c", command], env=environment, check=False)
    if ended.returncode < 0 and -ended.returncode == _SIGINT:
        raise exits.CommandError("interrupted", code=exits.INTERRUPTED)
    if ended.returncode:
        output.message(f"the command ended with {ended.returncode} for {show.text(change.key)}")


_SIGINT = 2
