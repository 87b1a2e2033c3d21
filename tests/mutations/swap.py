"""Putting a mutant's functions in the place of those that a process has loaded."""

from __future__ import annotations

import ast
import gc
import inspect
from collections.abc import Iterator
from types import CodeType, FunctionType


def swap(file: str, original: str, source: str) -> bool:
    """Replace the code of each loaded function in which a mutant differs; return False where that cannot be all.

    original: the text that was loaded. Whatever holds a function has the mutant's, because the function itself stays.
    """
    loaded = compile(original, file, "exec")
    before = compile(ast.unparse(ast.parse(original)), file, "exec")  # laid out as the mutant is
    after = compile(source, file, "exec")
    if outline(before) != outline(after):
        return False
    rows = zip(functions(loaded), functions(before), functions(after), strict=True)
    return all(put(old, new) for old, same, new in rows if new != same)


def outline(code: CodeType) -> object:
    """Return what a module or the body of a class does beside its functions."""
    constants = []
    for one in code.co_consts:
        if not isinstance(one, CodeType):
            constants.append((type(one), one))
        else:
            constants.append((CodeType, "" if is_function(one) else outline(one)))
    return code.co_code, code.co_names, constants


def functions(code: CodeType) -> Iterator[CodeType]:
    """Yield the functions of a module and of its classes, in their order; not those inside of functions."""
    for one in code.co_consts:
        if isinstance(one, CodeType):
            yield from [one] if is_function(one) else functions(one)


def is_function(code: CodeType) -> bool:
    return bool(code.co_flags & inspect.CO_OPTIMIZED)


def put(old: CodeType, new: CodeType) -> bool:
    """Set the code of every loaded function that has the old one; return whether there is any."""
    found = [one for one in gc.get_objects() if isinstance(one, FunctionType) and one.__code__ == old]
    try:
        for one in found:
            one.__code__ = new
    except ValueError:  # it has other free variables
        return False
    return bool(found)
