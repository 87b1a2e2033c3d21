"""The parts of a page that describe commands: usage, arguments and options, from the commands themselves."""

from __future__ import annotations

import re
from typing import Any, Final

import typer
from shardstore_cli import app, exits, failure

from . import markdown

_MEANINGS: Final = {
    "OK": "success",
    "ERROR": "an error; also a maintenance command that could not do a part of its work",
    "USAGE": "the command line, a key or a value was refused; nothing was written",
    "NO_SESSION": "no such session",
    "CONFLICT": "the session is at another version than `--expect`, or exists already",
    "CORRUPT": "damage was found",
    "NO_STORE": "no store there",
    "LOCKED": "another process held the session's lock for longer than `--lock-timeout`",
    "INTERRUPTED": "interrupted by Ctrl-C",
    "PIPE_CLOSED": "the program that read the output left, as in `shardstore list | head`",
}
_EVERYWHERE: Final = ("help", "json", "store", "lock_timeout", "actor")


def every() -> dict[str, Any]:
    """Return each command by its whole name; a group's commands in place of the group."""
    group: Any = typer.main.get_command(app.app)
    found: dict[str, Any] = {}
    for name in group.list_commands(None):
        command = group.get_command(None, name)
        members = getattr(command, "commands", None)
        found.update({f"{name} {member}": made for member, made in members.items()} if members else {name: command})
    return found


def one(*words: str) -> str:
    """Return a command's usage, its help, and tables of its arguments and of the options that are its own."""
    name = " ".join(words)
    command = every()[name]
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    options = [one for one in command.params if one.param_type_name == "option"]
    parts = [
        f"```text\nshardstore {name} {' '.join([*map(_usage, arguments), '[OPTIONS]'])}\n```",
        *(markdown.prose(" ".join(text.splitlines())) for text in command.help.split("\n\n")),
    ]
    if arguments:
        parts.append(markdown.table(("argument", "meaning"), [(f"`{_usage(it)}`", _help(it)) for it in arguments]))
    own = [it for it in options if it.name not in _EVERYWHERE]
    if own:
        parts.append(markdown.table(("option", "meaning"), [(_option(it), _help(it)) for it in own]))
    shared = [f"`{_longest(it)}`" for it in options if it.name in _EVERYWHERE and it.name != "help"]
    parts.append(f"Also: {', '.join(shared)}.")
    return "\n\n".join(parts)


def _usage(argument: Any) -> str:
    name = argument.metavar or argument.name
    many = " ..." if argument.nargs == -1 else ""
    return f"{name}{many}" if argument.required else f"[{name}{many}]"


def _longest(option: Any) -> str:
    return max(option.opts, key=len)


def _option(option: Any) -> str:
    names = sorted([*option.opts, *option.secondary_opts], key=len)
    value = "" if option.is_flag else f" {option.metavar}"
    return ", ".join(f"`{name}{value}`" for name in names)


def _help(parameter: Any) -> str:
    text = re.sub(r"\s+\[default: .*\]$", "", parameter.help or "")
    default = parameter.default
    shown = isinstance(default, str) and default and parameter.show_default
    return markdown.prose(text + (f" Default: `{default}`." if shown else ""))


def exit_codes() -> str:
    """Return a row for each exit code: its meaning, and the kind that JSON names it by."""
    rows = [
        (str(code), _MEANINGS[name], f"`{failure.KINDS[code]}`" if code in failure.KINDS else "")
        for name, code in vars(exits).items()
        if name.isupper() and isinstance(code, int) and not isinstance(code, bool)
    ]
    return markdown.table(("code", "meaning", "`kind` in JSON"), rows)
