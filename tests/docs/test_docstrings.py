"""The examples in docstrings are what happens, and docstrings open as the house does."""

from __future__ import annotations

import ast
import doctest
import inspect
from pathlib import Path
from typing import Any

import pytest

import shardstore
from shardstore import Store, archive, convert
from shardstore._verbs.listing import Listing
from shardstore._verbs.opened import Opened
from shardstore._verbs.reading import Reading
from shardstore._verbs.upkeep import Upkeep
from tests.support.peer import REPOSITORY

ODD = {"Do", "Give", "Make", "Say", "Tell"}


def documented() -> list[tuple[str, str]]:
    """Return name and docstring of each verb, and of the helpers, in the order of the source."""
    kinds: list[Any] = [Opened, Store, Reading, Listing, Upkeep, archive.Archive]
    verbs = [
        (f"{kind.__name__}.{name}", getattr(kind, name)) for kind in kinds for name in vars(kind) if name[0] != "_"
    ]
    helpers = [(name, getattr(convert, name)) for name in ("jsonable", "join_key", "split_key")]
    return [(name, inspect.getdoc(made) or "") for name, made in [*verbs, *helpers]]


def test_the_examples_in_docstrings_are_what_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run in the order of the source, on one store, each example prints what its docstring says."""
    monkeypatch.chdir(tmp_path)
    names = {name: getattr(shardstore, name) for name in shardstore.__all__}
    names["store"] = Store("agents/main/sessions")
    parser, runner = doctest.DocTestParser(), doctest.DocTestRunner(optionflags=doctest.REPORT_ONLY_FIRST_FAILURE)
    told: list[str] = []
    try:
        for name, text in documented():
            test = parser.get_doctest(text, names, name, None, None)
            runner.run(test, out=told.append, clear_globs=False)
            names.update(test.globs)
    finally:
        names["store"].close()
        if "hot" in names:
            names["hot"].close()
    assert runner.summarize(verbose=False).failed == 0, "".join(told)
    assert runner.tries > 30


@pytest.mark.parametrize("folder", ["bench", "cli", "docs", "shardstore", "tests"])
def test_docstrings_open_with_a_verb_that_says_what_happens(folder: str) -> None:
    """No docstring opens with Give, Tell, Say, Make or Do: Return, Yield, Write and their like say more."""
    odd = []
    for path in sorted((REPOSITORY / folder).rglob("*.py")):
        name = str(path.relative_to(REPOSITORY))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                words = (ast.get_docstring(node) or "").split()
                if words and words[0] in ODD:
                    odd.append(f"{name}:{node.lineno} {node.name}")
    assert odd == []
