"""Tables: every width, no word broken, no key over two lines."""

from __future__ import annotations

import pytest
from shardstore_cli import tables
from shardstore_cli.tables import Column

from shardstore import Store
from tests.cli.conftest import LONG
from tests.cli.mutated import mutated
from tests.cli.shell import Shell

COLUMNS = (Column("key", lead=True), Column("size", right=True), Column("why", fold=True))
ROWS = (
    ("agent:main:a key with spaces", "4 B", "it was not updated for more than thirty days"),
    ("k", "10 KB", "short"),
)


@pytest.mark.parametrize("limit", [None, *range(20, 120)])
def test_every_width_keeps_words_and_keys_whole(limit: int | None) -> None:
    lines = tables.lay_out(COLUMNS, ROWS, limit).split("\n")
    assert sum(ROWS[0][0] in line for line in lines) == 1
    words = {word for row in ROWS for cell in row for word in cell.split()}
    shown = {word.strip(",") for line in lines for word in line.split()}
    assert words <= shown
    if limit is None:
        assert len(lines) == 3
    else:
        assert all(len(line) <= limit for line in lines if ROWS[0][0] not in line or line.lstrip() != ROWS[0][0])


def test_a_column_of_words_goes_on_below() -> None:
    lines = tables.lay_out(COLUMNS, ROWS, 70).split("\n")
    assert lines[0].split() == ["KEY", "SIZE", "WHY"]
    assert len(lines) == 4
    assert lines[2].strip() and lines[2].startswith(" " * 30)


def test_wide_characters_take_two_columns() -> None:
    lines = tables.lay_out((Column("key"), Column("n")), [("日本", "1"), ("a\u0301bcd", "2")], 80).split("\n")
    assert [tables.cells(line.rpartition(" ")[0]) for line in lines[1:]] == [5, 5]


def test_many_rows_are_not_wrapped() -> None:
    rows = [(f"agent:main:{n}", "1 B", "one of very many rows that nobody will read to their end") for n in range(6000)]
    assert len(tables.lay_out(COLUMNS, rows, 60).split("\n")) == 6001


def _broken(shell: Shell, columns: int) -> list[tuple[str, ...]]:
    """List the commands that show a key otherwise than whole on one line, or another line beyond the width."""
    bad = []
    spaced = "agent:main:a key with many spaces in it: forty columns are not enough for this"
    with Store(shell.store) as store:
        store.replace(spaced, {"status": "done"})
    for words in (("list",), ("inspect",), ("inspect", spaced), ("prune", "--dry-run", "--where", "status=done")):
        lines = shell(*words, COLUMNS=str(columns)).out.splitlines()
        wide = [line for line in lines if len(line) > columns and spaced not in line and LONG not in line]
        wide = [
            line for line in wide if not line.startswith(("File ", "Store ", "Version ")) and "would free" not in line
        ]
        if wide or not any(spaced in line for line in lines):
            bad.append(words)
    return bad


@pytest.mark.parametrize("columns", [40, 60, 80, 100, 200])
def test_keys_are_whole_in_every_command(busy: Shell, columns: int) -> None:
    assert _broken(busy, columns) == []


def test_a_table_that_breaks_words_would_be_noticed(busy: Shell) -> None:
    """The mutation: what a row is about wraps like any other text."""
    wraps = "lambda original: lambda *a, **k: '\\n'.join(line[n:n+40] for line in original(*a, **k).split('\\n') for n in range(0, len(line), 40))"
    assert _broken(mutated(busy, ("shardstore_cli.tables:lay_out", wraps)), 40) != []


def test_one_is_not_many(shell: Shell) -> None:
    with Store(shell.store) as store:
        store.create("k", {"a": 1})
    told = (
        shell("inspect").out
        + shell("inspect", "k").out
        + shell("verify").out
        + shell("export", "openclaw", shell.directory / "e").err
    )
    assert "1 field\n" in told
    assert "1 session, 1 shard, 1 record read" in told
    assert "1 session written to" in told
    assert "1 sessions" not in told and "1 biggest sessions" not in told
