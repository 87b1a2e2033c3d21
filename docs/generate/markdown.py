"""From docstrings and help texts to Markdown."""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, Final

import shardstore

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

_WORDS: Final = {
    "Action",
    "Check",
    "Draft",
    "JSON",
    "Log",
    "Problem",
    "Session",
    "Store",
    "Where",
}  # in prose they are words as well
_NAMES: Final = {name for name in shardstore.__all__ if name[:1].isupper()} - _WORDS
_CLASS_NAME: Final = re.compile(rf"(?<![\w`.])({'|'.join(sorted(_NAMES, key=len, reverse=True))})(?![\w`])")
_BUILTIN: Final = re.compile(r"(?<![\w`.])((?:Type|Value|Runtime|Index|Key)Error)(?![\w`])")
_ARGUMENT: Final = re.compile(r"(\w+(?:, \w+)*): (.*)")


def table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table; `|` in a cell is escaped."""
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join("| " + " | ".join(re.sub(r"(?<!\\)\|", r"\\|", cell) for cell in line) + " |" for line in lines)


def prose(text: str) -> str:
    """Return text whose names of classes stand in code type; code that stands in it already is left alone."""
    pieces = text.split("`")
    for place in range(0, len(pieces), 2):
        pieces[place] = _BUILTIN.sub(r"`\1`", _CLASS_NAME.sub(r"`\1`", _html(pieces[place])))
    return "`".join(pieces)


def _html(text: str) -> str:
    return re.sub(r"<(?=\w)", "&lt;", text)


def docstring(text: str | None, parameters: Collection[str] = ()) -> str:
    """Return a docstring as Markdown: `name: text` of a parameter is an item of a list, `>>>` begins an example."""
    parts: list[str] = []
    for paragraph in inspect.cleandoc(text or "").split("\n\n"):
        if paragraph.startswith(">>>"):
            parts.append(f"```pycon\n{paragraph}\n```")
        elif all(line.startswith("    ") for line in paragraph.splitlines()):
            parts.append(f"```python\n{inspect.cleandoc(paragraph)}\n```")
        else:
            parts.extend(_blocks(paragraph, parameters))
    return "\n\n".join(parts)


def _blocks(paragraph: str, parameters: Collection[str]) -> Iterator[str]:
    """Yield the text of a paragraph, and its lists of parameters, in order."""
    items: list[str] = []
    lines: list[str] = []
    for line in paragraph.splitlines():
        found = _ARGUMENT.fullmatch(line)
        if found and set(found[1].split(", ")) <= set(parameters):
            if lines:
                yield prose(" ".join(lines))
                lines = []
            items.append(f"- {', '.join(f'`{name}`' for name in found[1].split(', '))}: {found[2]}")
        elif items and line.startswith("    "):
            items[-1] += f" {line.strip()}"
        else:
            if items:
                yield "\n".join(map(prose, items))
                items = []
            lines.append(line)
    if items:
        yield "\n".join(map(prose, items))
    if lines:
        yield prose(" ".join(lines))
