"""Run the examples of a docstring as `python -m asyncio` would: `await` may stand anywhere."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import doctest
import inspect
import io
import sys
import traceback
from collections.abc import Iterator
from typing import Any

_CHECKER = doctest.OutputChecker()


def examples(text: str) -> list[doctest.Example]:
    """Return the examples of a docstring."""
    return doctest.DocTestParser().get_examples(inspect.cleandoc(text))


def run(text: str, names: dict[str, Any], loop: asyncio.Runner) -> Iterator[str]:
    """Run the examples of a docstring; yield a report of each that does not print what stands below it."""
    for example in examples(text):
        want, got = example.want, _output(example, names, loop)
        if example.exc_msg is not None:  # the frames of a traceback are not compared
            want = example.exc_msg
        if not _CHECKER.check_output(want, got, 0):
            yield f">>> {example.source}expected {want!r}, got {got!r}"


def _output(example: doctest.Example, names: dict[str, Any], loop: asyncio.Runner) -> str:
    """Return what an example prints; of an exception that it says it raises, the last line."""
    code = compile(example.source, "<example>", "single", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed), _plain_display():
            made = eval(code, names)
            if code.co_flags & inspect.CO_COROUTINE:
                loop.run(made)
    except Exception as error:
        if example.exc_msg is None:
            raise
        return traceback.format_exception_only(error)[-1]
    return printed.getvalue()


@contextlib.contextmanager
def _plain_display() -> Iterator[None]:
    """Show a value as an interpreter does, whatever a debugger or a plug-in made of that."""
    before, sys.displayhook = sys.displayhook, sys.__displayhook__
    try:
        yield
    finally:
        sys.displayhook = before
