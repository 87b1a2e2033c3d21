"""The errors: their tree, and a table with what to do about each."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Final

from shardstore_cli import exits, failure

from shardstore import errors

from . import markdown

GUIDE: Final = Path(__file__).parents[1] / "guide" / "when-things-go-wrong.md"
_CODES: Final = {exits.ERROR: "1", exits.USAGE: "2", exits.NO_SESSION: "3", exits.CONFLICT: "4", exits.CORRUPT: "5",
                 exits.NO_STORE: "10", exits.LOCKED: "11"}  # fmt: skip


def tree() -> str:
    """Return the tree that the docstring of errors.py draws."""
    text = inspect.cleandoc(errors.__doc__ or "")
    drawn = re.findall(r"^    .*$", text, re.MULTILINE)
    return "```text\n" + "\n".join(line[4:] for line in drawn) + "\n```"


def table() -> str:
    """Return a row for each error and warning: its attributes, its meaning, the next step, the exit code.

    Meaning and next step stand in the guide, which is written by people.
    """
    told = _guide()
    drawn = re.findall(r"[A-Z]\w+", tree())
    rows = [
        (f"`{name}`", _attributes(name), *told[name], _code(name))
        for name in sorted(errors.__all__, key=lambda name: drawn.index(name) if name in drawn else len(drawn))
        if name in told
    ]
    return markdown.table(("error", "attributes", "it means", "do this next", "exit code"), rows)


def _guide() -> dict[str, tuple[str, str]]:
    found = {}
    for line in GUIDE.read_text(encoding="utf-8").splitlines():
        if line.startswith("| `"):
            names, meaning, step = (cell.strip() for cell in line.strip("|").split(" | "))
            here = re.sub(
                r"\]\(([\w-]+\.md)", r"](../guide/\1", step
            )  # links of the guide, from the page of the reference
            found.update(dict.fromkeys(re.findall(r"`(\w+)`", names), (meaning, here)))
    return found


def _attributes(name: str) -> str:
    """Return the attributes that the docstring of the class names, as in `.key .rev`."""
    groups = re.findall(r"`(\.[a-z_]+(?: \.[a-z_]+)*)`", getattr(errors, name).__doc__ or "")
    return " ".join(f"`{one}`" for one in dict.fromkeys(" ".join(groups).split()))


def _code(name: str) -> str:
    """Return the exit code of the command line; a warning has none."""
    kind = getattr(errors, name)
    if issubclass(kind, Warning):
        return ""
    return _CODES[_exit_code(kind)]


def _exit_code(kind: type[Exception]) -> int:
    if issubclass(kind, errors.LockTimeout):
        return exits.LOCKED
    if issubclass(kind, errors.SessionExists):
        return exits.CONFLICT
    return next((told[0] for base, told in failure._by_kind() if issubclass(kind, base)), exits.ERROR)
