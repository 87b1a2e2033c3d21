"""Assemble the command line: each command's module is imported when that command runs."""

from __future__ import annotations

import importlib
import sys
import warnings
from functools import partial
from typing import Annotated, Any

import typer
import typer.core

from . import bash, exits, failure, output
from .options import HELP_OPTIONS, PATH_VARIABLE, Globals
from .plain_text import take_text_as_it_is

NAME = "shardstore"
# Name and module, in the order of the help. `archive`, `import` and `export` are groups.
COMMANDS = {
    "get": "cmd_get",
    "get-many": "cmd_get_many",
    "set": "cmd_set",
    "create-many": "cmd_create_many",
    "patch": "cmd_patch",
    "append": "cmd_append",
    "log": "cmd_log",
    "watch": "cmd_watch",
    "copy": "cmd_copy",
    "rename": "cmd_rename",
    "revert": "cmd_revert",
    "delete": "cmd_delete",
    "list": "cmd_list",
    "history": "cmd_history",
    "inspect": "cmd_inspect",
    "stats": "cmd_stats",
    "compact": "cmd_compact",
    "prune": "cmd_prune",
    "verify": "cmd_verify",
    "restore": "cmd_restore",
    "archive": "cmd_archive",
    "import": "cmd_import",
    "export": "cmd_export",
    "reindex": "cmd_reindex",
    "copy-store": "cmd_copy_store",
    "doctor": "cmd_doctor",
}


class LazyCommands(typer.core.TyperGroup):
    """The commands, each imported on its first use. `Any`: typer keeps its context's base class private."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Name the commands in the order of the help."""
        del ctx
        return [*COMMANDS]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Import a command's module and build the command; None for an unknown name."""
        del ctx
        if cmd_name not in self.commands and cmd_name in COMMANDS:
            module = importlib.import_module(f".{COMMANDS[cmd_name]}", __package__)
            command = take_text_as_it_is(typer.main.get_command(module.app))
            command.name = cmd_name
            self.commands[cmd_name] = command
        return self.commands.get(cmd_name)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Load every command before a mistyped one is refused: suggestions come from the loaded ones."""
        if args[0] not in COMMANDS:
            for name in COMMANDS:
                self.get_command(ctx, name)
        return super().resolve_command(ctx, args)


app = typer.Typer(
    cls=LazyCommands,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings=HELP_OPTIONS,
    epilog="Exit codes: 0 ok, 1 error, 2 usage, 3 no such session, 4 conflict, 5 damage found, 10 no store there, "
    "11 lock timeout, 130 interrupted.",
)


def _version(wanted: bool) -> None:
    """Print the version and leave."""
    if wanted:
        from shardstore._version import __version__

        output.line(f"shardstore {__version__}")
        raise typer.Exit


@app.callback()
def shardstore(
    ctx: typer.Context,
    store: Annotated[
        str | None,
        typer.Option("--store", "-s", metavar="PATH", help=f"Directory or URL of the store (or set {PATH_VARIABLE})."),
    ] = None,
    allow_shared: Annotated[
        bool, typer.Option("--allow-shared", help="Use a store that other users may write to as well.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Store the sessions of agents: one file and one lock for each session, and no update is lost.

    If something is slow or full, start with `shardstore inspect`, then `shardstore compact --dry-run`.
    """
    del version
    ctx.obj = Globals(store, allow_shared)


def run() -> int:
    """Run the command that sys.argv names; return the exit code of exits.py. Raises unforeseen errors as they are."""
    _never_fail_to_encode()
    try:
        try:
            with warnings.catch_warnings():
                warnings.showwarning = failure.warn
                code = _run()
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        output.reader_left()
    except Exception as error:  # noqa: BLE001 - sorted out below; a bug keeps its traceback
        return failure.report(error)
    return interrupted() if code == exits.INTERRUPTED else code


def _run() -> int:
    """Complete a word for bash, or run a command; typer answers Ctrl-C with a code."""
    command = take_text_as_it_is(typer.main.get_command(app))
    if bash.is_asked():
        return bash.complete(partial(command, prog_name=NAME))
    return command(prog_name=NAME, standalone_mode=False) or exits.OK


def interrupted() -> int:
    """Report Ctrl-C in a command that does not count its own progress; return the exit code."""
    return failure.report(exits.CommandError("interrupted", code=exits.INTERRUPTED))


def _never_fail_to_encode() -> None:
    """Escape what a terminal's encoding lacks: a key with an emoji is no reason for a traceback."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
