"""Every public docstring has an example, which is what happens, and docstrings open as the house does."""

from __future__ import annotations

import ast
import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

import shardstore
from shardstore import ShardStoreError, ShardStoreWarning, Store, otel
from shardstore.aio import AsyncStore
from tests.docs import running
from tests.docs.public import NOT_FOR_USERS, Member, classes, function_of, members
from tests.support.peer import REPOSITORY

ODD = {"Do", "Give", "Make", "Say", "Tell"}
# Without an example of their own: values that others return, whose docstrings show them.
SHOWN_ELSEWHERE = {
    "Action": "CompactReport",
    "ArchivedFile": "Archive.list",
    "Check": "the command `shardstore doctor` prints it",
    "DoctorReport": "the command `shardstore doctor` prints it",
    "LockHolder": "Store.engine",
    "Problem": "VerifyReport",
    "Skipped": "PruneReport",
}
WITH_EXAMPLES = [one for one in members() if ">>>" in one.text]


def setting(one: Member) -> list[str]:
    """Return the docstrings whose examples come before: those of the stores, and of a class that says so."""
    name = one.name.partition(".")[0]
    chain = ["AsyncStore" if name.startswith("Async") else "Store"]
    if "Typed" in name:
        chain.append(chain[0].replace("Store", "TypedStore"))
    if one.owner is not None and "goes on from here" in (one.owner.__doc__ or ""):
        chain.append(one.owner.__name__)
    return [classes()[kind].__doc__ or "" for kind in dict.fromkeys(chain) if kind != one.name]


def is_shown(one: Member) -> bool:
    """Return whether a user finds an example: a property may stand in that of its class."""
    kind = one.owner or one.made
    if isinstance(kind, type) and issubclass(kind, (ShardStoreError, ShardStoreWarning)):
        kind = ShardStoreError if issubclass(kind, ShardStoreError) else ShardStoreWarning
        return ">>>" in (kind.__doc__ or "")
    if ">>>" in one.text or kind.__name__ in SHOWN_ELSEWHERE:
        return True
    if isinstance(one.made, property) and one.owner is not None:
        sources = "".join(example.source for example in running.examples(one.owner.__doc__ or ""))
        return bool(re.search(rf"\.{one.made.fget.__name__}\b", sources))
    return False


def is_method(name: str) -> bool:
    """Return whether a class of the package has this method."""
    kind, _, method = name.partition(".")
    return function_of(vars(classes()[kind]).get(method)) is not None


def close(names: dict[str, Any], loop: asyncio.Runner) -> None:
    """Close what examples opened, what was opened last first."""
    for made in [*names.values()][::-1]:
        if isinstance(made, AsyncStore):
            loop.run(made.close())
        elif isinstance(made, Store) or type(made).__name__ in ("Watch", "Follower", "TypedFollower"):
            made.close()


@pytest.mark.parametrize("one", WITH_EXAMPLES, ids=[one.name for one in WITH_EXAMPLES])
def test_the_examples_of_a_docstring_are_what_happens(one: Member, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a new store, after the examples of its class, each prints what stands below it."""
    root.mkdir()
    monkeypatch.chdir(root)
    names: dict[str, Any] = {name: getattr(shardstore, name) for name in shardstore.__all__}
    with asyncio.Runner() as loop:
        try:
            failures = [failure for text in [*setting(one), one.text] for failure in running.run(text, names, loop)]
        finally:
            otel.uninstrument()
            close(names, loop)
    assert failures == []


def test_an_example_that_prints_something_else_is_a_failure() -> None:
    """So is one that prints nothing, raises another error, or returns after an await what it should not."""
    with asyncio.Runner() as loop:
        right = ">>> 1 + 1\n2\n>>> import asyncio\n>>> await asyncio.sleep(0, 3)\n3"
        assert list(running.run(right, {}, loop)) == []
        raised = ">>> {}['a']\nTraceback (most recent call last):\n    ...\nKeyError: 'b'"
        wrong = [">>> 1 + 1\n3", ">>> one = 1\n1", ">>> import asyncio\n>>> await asyncio.sleep(0, 3)\n4", raised]
        assert [len(list(running.run(text, {}, loop))) for text in wrong] == [1, 1, 1, 1]
        with pytest.raises(KeyError):
            list(running.run(">>> {}['a']\n1", {}, loop))


def test_each_public_name_has_an_example() -> None:
    """Write one of two to five lines in its docstring; a property may stand in the example of its class."""
    assert [one.name for one in members() if not is_shown(one)] == []


def test_the_walk_reaches_what_users_reach() -> None:
    """From the exported names it goes on to what their methods return, and to nothing that was left out."""
    reached = {one.name for one in members()}
    assert {"Store.update", "Store.close", "AsyncStore.update", "AsyncStore.close", "AsyncArchive.purge"} <= reached
    assert {"DraftLog.keep", "Watch.ready", "Change", "TypedLog.find", "AsyncTypedStore.follow", "jsonable"} <= reached
    assert reached.isdisjoint(NOT_FOR_USERS)
    assert set(SHOWN_ELSEWHERE) <= reached
    assert [name for name in NOT_FOR_USERS if name.partition(".")[0] not in classes()] == []
    assert [name for name in NOT_FOR_USERS if "." in name and not is_method(name)] == []


def test_an_awaited_verb_shows_awaited_examples() -> None:
    """`help(AsyncStore.update)` is the contract of Store.update, with its examples awaited."""
    own, awaited = Store.get_many.__doc__ or "", AsyncStore.get_many.__doc__ or ""
    assert awaited.partition(">>>")[0] == own.partition(">>>")[0]
    assert '>>> list(await store.get_many(["agent:main"' in awaited


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
