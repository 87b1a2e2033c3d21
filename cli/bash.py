"""Completion for bash, whose words end at every `:`, `=` and `@`.

bash hands over `agent:main:x` as the five words `agent`, `:`, `main`, `:`, `x`, and replaces the last of them alone.
So the pieces are joined before typer sees them, and the text in front of the last piece is taken off the answers.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
from typing import TYPE_CHECKING

from . import output

if TYPE_CHECKING:
    from collections.abc import Callable

_ASKED = "_SHARDSTORE_COMPLETE"
_QUOTES = ("'", '"')
_BREAKS = ":=@"  # of COMP_WORDBREAKS; the others mean something to the shell and must be quoted
SPECIAL = re.compile(r"[^\w@%+=:,./-]")


def is_asked() -> bool:
    """Return whether bash's completion started this process."""
    return os.environ.get(_ASKED) == "complete_bash"


def complete(command: Callable[[], object]) -> int:
    """Run `command`, typer's completion, on whole words; print the replacements of the last piece."""
    pieces, current = os.environ["COMP_WORDS"].split("\n"), int(os.environ["COMP_CWORD"])
    typed = [*pieces, ""][: current + 1]
    words, before = join(typed)
    os.environ.update(COMP_WORDS="\n".join(map(shlex.quote, words)), COMP_CWORD=str(len(words) - 1))
    answers = io.StringIO()
    with contextlib.redirect_stdout(answers), contextlib.suppress(SystemExit):
        command()
    for answer in answers.getvalue().splitlines():
        rest = answer.removeprefix(before)
        output.line(rest if typed[-1].startswith(_QUOTES) else SPECIAL.sub(r"\\\g<0>", rest))
    return 0


def join(pieces: list[str]) -> tuple[list[str], str]:
    """Return the words that the pieces were cut from, unquoted, and the part of the last word that bash keeps.

    A piece of break characters belongs to both its neighbours; an empty one stands behind a space.
    """
    words: list[str] = []
    before, previous = "", " "
    for piece in pieces:
        if words and piece and (not piece.strip(_BREAKS) or not previous.strip(_BREAKS)):
            before = words[-1]
            words[-1] += _unquoted(piece)
        else:
            before = ""
            words.append(_unquoted(piece))
        previous = piece or " "
    before = before if previous.strip(_BREAKS) else words[-1]
    return words, before.removesuffix("@")  # bash replaces a host name with its @


def _unquoted(piece: str) -> str:
    """Return what the shell would make of a piece; its last quote may be open still."""
    try:
        return "".join(shlex.split(piece))
    except ValueError:
        return piece.removeprefix(piece[0]) if piece.startswith(_QUOTES) else piece
