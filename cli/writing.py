"""The options that every writing command has, and how such a command opens its store.

A command that `writes` decorates takes a Writing in front of its own parameters. typer shows the shared options behind
the command's own, so no command repeats them.
"""

from __future__ import annotations

import inspect
import os
import pwd
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Concatenate, Final

import typer

from . import escape, failure, output, parse
from .options import ActorOption, JsonOption, StoreOption, TimeoutOption, open_store, store_path

if TYPE_CHECKING:
    from collections.abc import Callable

    from shardstore import Store


@dataclass(frozen=True)
class Writing:
    """The shared options as they were given: which store a command writes to, how long it may wait, and as whom."""

    ctx: typer.Context
    store: StoreOption = None
    lock_timeout: TimeoutOption = "10"
    actor: ActorOption = None
    json: JsonOption = False

    def open(self, *, create: bool, announce: bool = True, actor: str | None = None) -> Store:
        """Open the store; `create` makes a missing one. Raises StoreNotFound without it.

        announce: name a new store on stderr, for its path may be a typo.
        actor: the author in the history where --actor names none; by default the user at the shell.
        """
        from shardstore import StoreNotFound

        opened = partial(
            open_store,
            self.ctx,
            store_path(self.ctx, self.store),
            lock_timeout=parse.seconds(self.lock_timeout, "--lock-timeout"),
            actor=self.actor or actor or _user(),
        )
        try:
            return opened(create=False)
        except StoreNotFound:
            if not create:
                raise
        made = opened(create=True)
        if announce and not failure.json_wanted():
            output.message(f"a new store: {escape.text(made.location)}")
        return made


_SHARED: Final = inspect.signature(Writing, eval_str=True).parameters


def writes(command: Callable[Concatenate[Writing, ...], None]) -> Callable[..., None]:
    """Return the command as typer takes it: with the shared options as parameters of its own."""

    def run(**given: Any) -> None:
        shared = {name: given.pop(name) for name in _SHARED}
        command(Writing(**shared), **given)

    _, *own = inspect.signature(command, eval_str=True).parameters.values()
    ctx, *options = _SHARED.values()
    named = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in (ctx, *own, *options)]
    run.__name__, run.__doc__ = command.__name__, command.__doc__
    run.__signature__ = inspect.Signature(named)  # type: ignore[attr-defined]
    run.__annotations__ = {one.name: one.annotation for one in named}
    return run


def _user() -> str:
    """Return the author of a change that a person makes at a shell; a process number would tell nobody who it was."""
    try:
        return f"cli:{pwd.getpwuid(os.geteuid()).pw_name}"
    except KeyError:  # a container's user without a name
        return f"cli:{os.geteuid()}"
