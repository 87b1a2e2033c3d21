"""What people type is understood, or refused before anything is opened."""

from __future__ import annotations

from datetime import timedelta

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from shardstore_cli import parse


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("15m", 900),
        ("15min", 900),
        ("2h", 7200),
        ("30d", 2_592_000),
        ("1w", 604_800),
        ("1d12h", 129_600),
        ("1.5h", 5400),
    ],
)
def test_a_duration_has_a_unit(text: str, seconds: int) -> None:
    assert parse.duration(text, "--older-than") == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "text",
    ["", "30", "d", "-30d", "30 days ago", "30x", "0d", "1e3d", "inf", "nan", "30d!", "9" * 30 + "d", "３０d "[1:]],
)
def test_a_malformed_duration_is_a_usage_error(text: str) -> None:
    """A malformed limit must disable removal, never trigger it."""
    with pytest.raises(typer.BadParameter):
        parse.duration(text, "--older-than")


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("500MB", 500_000_000),
        ("100kb", 100_000),
        ("64KiB", 65_536),
        ("2GiB", 2 * 1024**3),
        ("1000", 1000),
        ("1.5k", 1500),
        ("7 B", 7),
    ],
)
def test_a_size_may_have_a_unit(text: str, count: int) -> None:
    assert parse.size(text, "--max-bytes") == count


@pytest.mark.parametrize("text", ["", "MB", "-1MB", "0", "1XB", "1 MB 2", "nan", "1e9", "0.5"])
def test_a_malformed_size_is_a_usage_error(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        parse.size(text, "--max-bytes")


@pytest.mark.parametrize(
    ("text", "field", "condition"),
    [
        ("status=running", "status", ("==", "running")),
        ("status == running", "status", ("==", "running")),
        ("status!=done", "status", ("!=", "done")),
        ("totalTokens>=5", "totalTokens", (">=", 5)),
        ("totalTokens < 5.5", "totalTokens", ("<", 5.5)),
        ("flag=true", "flag", ("==", True)),
        ("x=null", "x", ("==", None)),
        ('x="5"', "x", ("==", "5")),
        ("note=a=b>c", "note", ("==", "a=b>c")),
        ("status in done,failed", "status", ("in", ["done", "failed"])),
        ('n in [1, "2"]', "n", ("in", [1, "2"])),
        ("endedAt exists", "endedAt", ("exists", True)),
        ("endedAt missing", "endedAt", ("exists", False)),
        ("!endedAt", "endedAt", ("exists", False)),
        ("x=", "x", ("==", "")),
        ("x=NaN", "x", ("==", "NaN")),
    ],
)
def test_a_condition_is_a_field_an_operator_and_a_value(text: str, field: str, condition: object) -> None:
    assert parse.conditions([text]) == {field: condition}


@pytest.mark.parametrize("texts", [["status"], ["=5"], [""], [">5"], ["a=1", "a=2"], ["n in [1,"]])
def test_a_malformed_condition_is_a_usage_error(texts: list[str]) -> None:
    with pytest.raises(typer.BadParameter):
        parse.conditions(texts)


@pytest.mark.parametrize("text", ["n>>5", "n=>5", "n<=>5", "n>==5", "n=!=5", "n=<5"])
def test_a_condition_with_two_operators_is_refused_with_advice(text: str) -> None:
    """`n>>5` asked for texts above ">5", and found nothing without a word."""
    with pytest.raises(typer.BadParameter, match="two operators") as refused:
        parse.conditions([text])
    advised = str(refused.value).rpartition(": ")[2]
    assert parse.conditions([advised]) is not None, "the advice works"


def test_a_text_in_quotes_may_begin_with_an_operator() -> None:
    assert parse.conditions(['n=">5"', "m=!x"]) == {"n": ("==", ">5"), "m": ("==", "!x")}


def test_no_condition_is_none() -> None:
    assert parse.conditions(None) is None
    assert parse.conditions([]) is None


def test_an_assigned_value_is_json_or_text() -> None:
    given = ["a=1", "b=hello world", 'c={"x": [true, null]}', "d=", "e=x=y", 'f="1"']
    expected = {"a": 1, "b": "hello world", "c": {"x": [True, None]}, "d": "", "e": "x=y", "f": "1"}
    assert parse.assignments(given) == expected


@pytest.mark.parametrize("text", ["a", "=1", "a={1", "a=[", 'a="x', "a=NaN", "a=-Infinity", 'a={"x":1,"x":2}'])
def test_a_broken_value_is_not_taken_as_text(text: str) -> None:
    """`patch KEY 'origin={"to":7'` must not store the typo as a string."""
    with pytest.raises(typer.BadParameter):
        parse.assignments([text])


@pytest.mark.parametrize("text", ['{"a":1,"a":2}', '{"x":{"a":1,"a":2}}', "NaN", "[Infinity]", "{", "", "[" * 100_000])
def test_strict_json_refuses_what_would_be_changed_without_a_word(text: str) -> None:
    with pytest.raises(ValueError):
        parse.strict_json(text)


@given(st.text())
def test_no_text_makes_the_parsers_fail_otherwise(text: str) -> None:
    for parser in (parse.duration, parse.size, lambda x, _: parse.conditions([x]), lambda x, _: parse.assignments([x])):
        try:
            parser(text, "--x")
        except typer.BadParameter:
            pass
