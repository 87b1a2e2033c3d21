"""`shardstore get-many`: print many sessions, one line of JSON each."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from . import exits, output, parse, show
from .cmd_get import describe
from .options import JsonOption, PrefixOption, StoreOption, WhereOption, complete_key, open_existing, plain_app

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shardstore import Session
    from shardstore.types import OnDamage

app = plain_app()


@app.command("get-many")
def get_many(
    ctx: typer.Context,
    keys: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY",
            help="Keys of the sessions; - reads one key a line from stdin.",
            autocompletion=complete_key,
            show_default=False,
        ),
    ] = None,
    prefix: PrefixOption = None,
    where: WhereOption = None,
    skip_damaged: Annotated[
        bool, typer.Option("--skip-damaged", help="With --prefix or --where: leave damaged sessions out.")
    ] = False,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Print many sessions, one line of JSON each.

    A line has the members of `get --json`, also without --json. Give KEYs, or choose with --prefix and --where. If one
    of the KEYs is missing, the others are printed and the exit code is 3. Logs are not printed; `log` prints one.

    `create-many` creates sessions from such lines.
    """
    del json
    chosen = prefix is not None or bool(where)
    if bool(keys) == chosen:
        message = "give KEY, or --prefix or --where" if not keys else "give either KEY, or --prefix and --where"
        raise typer.BadParameter(message, ctx=ctx, param_hint="KEY")
    named = _keys(keys or [])
    with open_existing(ctx, store) as opened:
        if chosen:
            on_damage: OnDamage = "skip" if skip_damaged else "raise"
            return _print(opened.sessions(prefix, parse.conditions(where), on_damage=on_damage))
        found = opened.get_many(named)
    _print(found.values())
    missing = [show.quoted(key) for key in dict.fromkeys(named) if key not in found]
    if missing:
        raise exits.CommandError(f"no session {', '.join(missing)}", code=exits.NO_SESSION)
    return None


def _keys(given: list[str]) -> list[str]:
    """Return the keys, those of stdin in the place of "-"; blank lines are skipped."""
    found: list[str] = []
    for key in given:
        found += [line for _, line in parse.lines(sys.stdin.buffer.read())] if key == "-" else [key]
    return found


def _print(sessions: Iterable[Session]) -> None:
    for session in sessions:
        output.json_line({**describe(session), "data": dict(session.data)})
