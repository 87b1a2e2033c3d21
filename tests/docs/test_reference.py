"""docs/reference/ is whole and up to date: `make reference` writes the parts of it that come from the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import shardstore
from docs import generate
from docs.generate import commands, errors, library, shapes
from tests.support.peer import REPOSITORY

PAGES = {page.name: page for page in generate.PAGES}
LIBRARY = PAGES["library.md"].read_text(encoding="utf-8")
COMMANDS = PAGES["command-line.md"].read_text(encoding="utf-8")
# Public methods that only the store calls.
OF_THE_STORE = {
    "Store.on",
    "Draft.accept",
    "TypedDraft.accept",
    "Draft.change",
    "Draft.committed",
    "DraftLog.add_encoded",
    "DraftLog.change",
}


@pytest.mark.parametrize("page", generate.PAGES, ids=lambda page: page.name)
def test_the_reference_is_what_the_code_makes_of_it(page: Path) -> None:
    """A page whose docstrings, options or limits changed since is out of date: run `make reference`."""
    text = page.read_text(encoding="utf-8")
    assert text == generate.render(text), f"{page.name} is out of date: run `make reference`"


@pytest.mark.parametrize(
    "name",
    [
        *("Store", "Archive", "AsyncStore", "Session", "SessionInfo", "Log", "Draft", "DraftLog"),
        *("TypedStore", "TypedSession", "TypedDraft", "TypedLog", "TypedDraftLog"),
    ],
)
def test_every_public_member_of_a_class_is_on_the_page(name: str) -> None:
    """A new verb is in one of the groups of library.md."""
    parts = [*generate.named(LIBRARY, "methods"), *generate.named(LIBRARY, "properties")]
    described = {member for kind, *members in parts if kind == name for member in members}
    if name == "AsyncStore":
        described |= set(re.findall(r"`(\w+)`", library.awaited()))
    members = {member for member in library.members(name) if f"{name}.{member}" not in OF_THE_STORE}
    in_prose = set(re.findall(r"`store\.(\w+)`", LIBRARY)) | {"archive"} if name in {"Store", "AsyncStore"} else set()
    assert members - described - in_prose == set(), f"add them to a group in docs/reference/library.md: {name}"


def test_every_public_name_is_on_the_page() -> None:
    """Every name of `shardstore` stands in library.md in code type, or has a section."""
    known = set(re.findall(r"`(\w+)`", LIBRARY)) | set(re.findall(r"^### (\w+)$", LIBRARY, re.MULTILINE))
    known |= set(re.findall(r"shardstore\.(\w+)", LIBRARY))
    assert [name for name in shardstore.__all__ if name not in known] == []


def test_every_command_is_on_the_page_with_its_json() -> None:
    """Each command has its part in command-line.md, and the shape of its JSON where it prints any."""
    every = commands.every()
    assert [" ".join(words) for words in generate.named(COMMANDS, "command")] == [*every]
    printing = [name for name, made in every.items() if any(one.name == "json" for one in made.params)]
    assert [" ".join(words) for words in generate.named(COMMANDS, "json")] == printing
    assert set(printing) & shapes.WITHOUT == set()
    assert "Exit codes" in COMMANDS


def test_every_error_of_the_tree_has_a_row() -> None:
    """The table names each error once, with a next step."""
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \| (.+?) \| (.+?) \| (\d*) \|$", errors.table(), re.MULTILINE)
    assert sorted(row[0] for row in rows) == sorted(set(shardstore.errors.__all__) - {"ShardStoreError"})


def test_every_environment_variable_is_on_a_page() -> None:
    """What a program or a test reads from the environment stands in settings.md or CONTRIBUTING.md."""
    pages = PAGES["settings.md"].read_text(encoding="utf-8") + (REPOSITORY / "CONTRIBUTING.md").read_text(
        encoding="utf-8"
    )
    sources = [
        *(REPOSITORY / "cli").rglob("*.py"),
        *(REPOSITORY / "shardstore").rglob("*.py"),
        *(REPOSITORY / "tests").rglob("*.py"),
    ]
    read = re.compile(r"""(?:environ(?:\.get\(|\[)|VARIABLE = )["'](SHARDSTORE_\w+)""")
    named = {name for path in sources for name in read.findall(path.read_text(encoding="utf-8"))}
    assert {"SHARDSTORE_PATH", "SHARDSTORE_TEST_DIR"} <= named
    assert [name for name in sorted(named) if f"`{name}" not in pages] == []
