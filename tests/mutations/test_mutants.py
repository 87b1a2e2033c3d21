"""The mutants of `make mutants` are what they are said to be, and its list names none that is gone."""

from __future__ import annotations

import ast

import pytest

from tests.mutations import mutants


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a == b", ["a != b"]),
        ("a < b <= c", ["a <= b <= c", "a < b < c"]),
        ("a and b", ["a or b"]),
        ("not a", ["a"]),
        ("a + b", ["a - b"]),
        ("a * b", []),
        ("7", ["8"]),
        ("True", ["False"]),
        ("'text'", []),
    ],
)
def test_what_may_stand_in_the_place_of_an_expression(source: str, expected: list[str]) -> None:
    """One change each, and the original stays as it was."""
    node = ast.parse(source, mode="eval").body
    assert [ast.unparse(other) for other in mutants.changed(node)] == expected
    assert ast.unparse(node) == source


def test_a_call_is_left_out() -> None:
    """A call whose value nobody uses."""
    node = ast.parse("f(x)").body[0]
    assert [ast.unparse(other) for other in mutants.changed(node)] == ["pass"]


@pytest.mark.parametrize("module", mutants.MODULES)
def test_each_mutant_differs_in_one_place(module: str) -> None:
    """Each is a program of its own, and the tests that have to notice it exist."""
    path = mutants.REPOSITORY / f"shardstore/{module}.py"
    original = ast.unparse(ast.parse(path.read_text()))
    made = list(mutants.mutants(module, every=7))
    assert len({mutant.source for mutant in made} - {original}) == len(made) > 1
    for test in mutants.MODULES[module]:
        assert (mutants.REPOSITORY / "tests" / test).exists()


def test_every_survivor_that_has_a_reason_still_exists() -> None:
    """A line of SURVIVORS.md whose mutant is gone has no use."""
    there = {(module, name) for module in mutants.MODULES for name in mutants.names(module)}
    assert mutants.known() - there == set()
