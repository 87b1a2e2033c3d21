"""Keep typer's value checking, and the library it imports for it, away from plain text.

typer builds a pydantic validator for every parameter that was given or has a default, also for plain text: 0.2 s at
every start. Here parameters are text or flags; parse.py turns text into numbers, durations and sizes.
"""

from __future__ import annotations

from functools import partial
from typing import Any


def take_text_as_it_is(command: Any) -> Any:
    """Let the parameters of a command, or of a group's commands, take plain text; return the command."""
    command.get_params = partial(_get_params, command.get_params)
    for member in getattr(command, "commands", {}).values():
        take_text_as_it_is(member)
    return command


def _get_params(made: Any, ctx: Any) -> list[Any]:
    """Return a command's parameters; --help is among them, which typer makes here."""
    parameters: list[Any] = made(ctx)
    for parameter in parameters:
        if not isinstance(parameter.process_value, partial):
            parameter.process_value = partial(_process_value, parameter, parameter.process_value)
    return parameters


def _process_value(parameter: Any, checked: Any, ctx: Any, value: Any) -> Any:
    """Pass text and absence on to the parameter's callback; leave everything else to typer, also missing arguments."""
    absent = value is None or value == ()
    if (absent and parameter.required) or not (absent or _is_text(value)):
        return checked(ctx, value)
    return value if parameter.callback is None else parameter.callback(ctx, parameter, value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, (tuple, list)) and all(isinstance(one, str) for one in value))
