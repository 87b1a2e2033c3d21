"""Write the generated parts of docs/reference/: `make reference`.

A page holds text for people, and between two comments what this package makes from the code:

    <!-- begin: methods Store update edit -->
    ...
    <!-- end -->

The word behind `begin:` names the maker, the rest are its arguments. tests/docs/test_reference.py fails where a page
is not what these makers make of it now.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from . import commands, errors, library, limits, shapes

if TYPE_CHECKING:
    from collections.abc import Callable

PAGES: Final = sorted((Path(__file__).parents[1] / "reference").glob("*.md"))
MAKERS: Final[dict[str, Callable[..., str]]] = {
    "class": library.whole_class,
    "methods": library.methods,
    "properties": library.properties,
    "function": library.function,
    "awaited": library.awaited,
    "reports": library.reports,
    "error-tree": errors.tree,
    "errors": errors.table,
    "limits": limits.table,
    "command": commands.one,
    "exits": commands.exit_codes,
    "json": shapes.of,
}
_PART: Final = re.compile(r"(<!-- begin: (.+?) -->\n).*?(<!-- end -->)", re.DOTALL)


def render(text: str) -> str:
    """Return a page with its generated parts made anew. Raises KeyError for a maker or a name that is not there."""

    def part(found: re.Match[str]) -> str:
        maker, *names = found[2].split()
        return f"{found[1]}\n{MAKERS[maker](*names).strip()}\n\n{found[3]}"

    return _PART.sub(part, text)


def named(page: str, maker: str) -> list[list[str]]:
    """Return the arguments of each part of a page that this maker makes."""
    parts = [text.split() for _, text, _ in _PART.findall(page)]
    return [names for kind, *names in parts if kind == maker]
