"""The options that several commands take, and how a command opens a store; writing.py has those of writing commands.

Every parameter is text or a flag; see plain_text.py.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import bash, escape, exits, progress

if TYPE_CHECKING:
    from collections.abc import Callable

    from shardstore import Store

PATH_VARIABLE = "SHARDSTORE_PATH"
COMPLETIONS_MAX = 200
HELP_OPTIONS = {"help_option_names": ["-h", "--help"]}


@dataclass(frozen=True)
class Globals:
    """The options before the command's name."""

    store: str | None = None
    allow_shared: bool = False


def plain_app() -> typer.Typer:
    """Return the app of one command, without rich in help and errors: importing it would slow every start."""
    return typer.Typer(
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings=HELP_OPTIONS,
    )


def store_path(ctx: typer.Context, store: str | None) -> str | Path:
    """Return the store from the command's option, the one before the command, or the environment; else exit 2."""
    shared = ctx.find_object(Globals) or Globals()
    named = next((one for one in (store, shared.store, os.environ.get(PATH_VARIABLE)) if one is not None), "")
    if not named:  # an empty --store is a shell variable that is not set: another store is not meant
        message = f"which store? Pass --store PATH or set {PATH_VARIABLE}"
        raise typer.BadParameter(message, ctx=ctx, param_hint="--store")
    return place_of(named)


def place_of(named: str) -> str | Path:
    """Return a URL as it is, and anything else as a path."""
    is_url = "://" in named or named.lstrip().startswith(("postgresql:", "postgres:"))  # or was meant as one
    return named if is_url else Path(named)


def open_store(ctx: typer.Context, place: str | Path, **settings: Any) -> Store:
    """Open a store. Raises as Store does; a URL of an unknown scheme is a usage error."""
    from shardstore import Store

    from . import notes

    notes.printed()
    shared = ctx.find_object(Globals) or Globals()
    where = place_of(place) if isinstance(place, str) else place
    try:
        return Store(where, allow_shared=shared.allow_shared, scan_progress=_scan_progress(), **settings)
    except ModuleNotFoundError as error:
        if error.name != "psycopg":
            raise
        raise exits.CommandError(str(error)) from None
    except ValueError as error:
        if isinstance(where, Path):
            raise
        raise typer.BadParameter(str(error), ctx=ctx, param_hint="--store") from None


def open_existing(ctx: typer.Context, store: str | None, *, read_only: bool = False) -> Store:
    """Open a store that must be there. Raises StoreNotFound; makes nothing."""
    return open_store(ctx, store_path(ctx, store), create=False, read_only=read_only)


def _scan_progress() -> Callable[[int, int], None] | None:
    return progress.on_demand("Reading every session")


def _may_be_offered(key: str) -> bool:
    """Return whether the shell shows the key as it is and runs no part of it: zsh evaluates its completions."""
    return escape.text(key) == key and (bash.is_asked() or bash.SPECIAL.search(key) is None)


def complete_key(ctx: typer.Context, incomplete: str) -> list[str]:
    """Offer the keys that begin like this; nothing where there is no store or it cannot be read."""
    try:
        named = ctx.params.get("store") or ctx.find_root().params.get("store")  # the callback has not run
        with open_existing(ctx, named, read_only=True) as store:
            found = store.list(prefix=incomplete or None, order_by="key", limit=COMPLETIONS_MAX)
            return [info.key for info in found if _may_be_offered(info.key)]
    except Exception:  # noqa: BLE001 - a traceback in the middle of somebody's prompt helps nobody
        return []


StoreOption = Annotated[
    str | None,
    typer.Option("--store", "-s", metavar="PATH", help=f"Directory or URL of the store (or set {PATH_VARIABLE})."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON with a schema_version, for programs.")]
KeyArgument = Annotated[
    str,
    typer.Argument(metavar="KEY", help="Key of the session.", autocompletion=complete_key, show_default=False),
]
TargetArgument = Annotated[
    str, typer.Argument(metavar="TARGET", help="New key, which no session has yet.", show_default=False)
]
WhereOption = Annotated[
    list[str] | None,
    typer.Option(
        "--where",
        metavar="CONDITION",
        help="Only sessions that match: status=running, 'totalTokens>=5', 'status in done,failed', 'endedAt exists', "
        "'!endedAt'. Repeatable.",
    ),
]
PrefixOption = Annotated[str | None, typer.Option("--prefix", metavar="TEXT", help="Only keys that begin with this.")]
SortOption = Annotated[
    str | None,
    typer.Option(
        "--sort",
        "--order-by",
        metavar="FIELD",
        help="A field, or key, size, rev, log_length, updated_at, created_at; -FIELD sorts descending.",
    ),
]
TimeoutOption = Annotated[
    str,
    typer.Option("--lock-timeout", metavar="SECONDS", help="How long to wait for the session's lock."),
]
ActorOption = Annotated[
    str | None,
    typer.Option("--actor", metavar="NAME", help="The name beside the change in the history.  [default: cli:<user>]"),
]
CreateOption = Annotated[
    bool,
    typer.Option("--create/--no-create", help="Create a missing session, or exit with 3."),
]
ExpectOption = Annotated[
    str | None,
    typer.Option("--expect", metavar="VERSION", help="Write only if the session is at this version; else exit with 4."),
]
