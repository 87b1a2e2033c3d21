"""Entries that the store cannot hold: named, skipped and kept, or repaired; and what `updatedAt` may look like."""

from __future__ import annotations

import json
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shardstore_cli import openclaw
from shardstore_cli.exits import CommandError
from shardstore_cli.openclaw_entries import last_change

from shardstore import Store
from tests.cli.mutated import mutated
from tests.cli.shell import Shell

GOOD = 20
ODD = {  # the raw text of an entry -> where and why
    r'{"displayName": "hello \ud83e"}': ("entry['displayName']", "lone surrogate"),
    r'{"a": [{"b\udc00": 1}]}': ("entry['a'][0]", "lone surrogate"),
    "null": ("entry", "null is not an object"),
    "[1, 2]": ("entry", "is not an object"),
    '"text"': ("entry", "is not an object"),
    '{"id": 123456789012345678901234567890}': ("entry['id']", "64 bits"),
    '{"cost": 1e400}': ("entry['cost']", "not a JSON number"),
    '{"cost": NaN}': ("entry['cost']", "not a JSON number"),
    '{"a": {"x": 1, "x": 2}}': ("entry", "stands twice"),
    '{"x": 1, "x": 2}': ("entry", "stands twice"),
    '{"a": [1, {"y": {"x": {}, "x": {}}}], "b": 1}': ("entry", "stands twice"),
    '{"deep": ' + "[" * 300 + "]" * 300 + "}": ("entry['deep']", "levels deep"),
    '{"deep": ' + "[" * 100_000 + "]" * 100_000 + "}": ("entry", "too deep"),
    '{"digits": ' + "9" * 5000 + "}": ("entry", "4300 digits"),
    "9" * 5000: ("entry", "4300 digits"),
}
REPAIRED = [r'{"displayName": "hello \ud83e"}', r'{"a": [{"b\udc00": 1}]}']


def _write(shell: Shell, *odd: str, key: str = "agent:main:odd") -> Path:
    good = [f'"agent:main:{n}": {{"sessionId": "{n}", "updatedAt": 1771290458500}}' for n in range(GOOD)]
    path = shell.directory / "sessions.json"
    path.write_text(
        "{\n" + ",\n".join([*good, *(f'"{key}{n}": {raw}' for n, raw in enumerate(odd))]) + "\n}", encoding="utf-8"
    )
    return path


def _side_files(shell: Shell) -> list[Path]:
    return sorted(shell.directory.glob("store.skipped-*.jsonl"))


@pytest.mark.parametrize("raw", ODD, ids=lambda raw: raw[:30])
def test_an_odd_entry_is_named_and_can_be_skipped(shell: Shell, raw: str) -> None:
    """One entry of years of sessions once stopped the whole migration."""
    where, why = ODD[raw]
    source = _write(shell, raw)
    refused = shell("import", "openclaw", source)
    assert (refused.code, refused.out) == (1, "")
    assert f"session 'agent:main:odd0' cannot be stored: {where}" in refused.err and why in refused.err
    assert (
        "--skip-invalid" in refused.err and "--replace-invalid" in refused.err and "nothing was imported" in refused.err
    )
    assert "damaged" not in refused.err, "the file is whole"
    assert not shell.store.exists() and _side_files(shell) == []
    done = shell("import", "openclaw", source, "--skip-invalid")
    assert (done.code, done.out) == (0, f"imported {GOOD} sessions: {GOOD} new, 1 skipped\n")
    (kept,) = _side_files(shell)
    skipped, named, _ = done.err.splitlines()
    assert skipped.startswith(f"skipped agent:main:odd0: {where}") and why in skipped
    assert named == f"1 skipped session kept in {kept}"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    (line,) = kept.read_text(encoding="utf-8").splitlines()
    told = json.loads(line)
    assert told["key"] == "agent:main:odd0" and told["path"].startswith(where) and why in told["reason"]
    assert max(map(len, [*refused.err.splitlines(), *done.err.splitlines()])) < 400
    assert raw in line or told.get("text") == raw, "the entry itself is lost"


def test_every_odd_entry_is_skipped_at_once_and_again(shell: Shell) -> None:
    source = _write(shell, *ODD)
    refused = shell("import", "openclaw", source)
    assert f"session 'agent:main:odd0' and {len(ODD) - 1} others cannot be stored" in refused.err
    told = shell("import", "openclaw", source, "--skip-invalid", "--json").json
    assert (told["created"], len(told["skipped"])) == (GOOD, len(ODD))
    for one, (where, why) in zip(told["skipped"], ODD.values(), strict=True):
        assert one["path"].startswith(where) and why in one["reason"]
    assert len(Path(told["skipped_file"]).read_text(encoding="utf-8").splitlines()) == len(ODD)
    again = shell("import", "openclaw", source, "--skip-invalid", "--json").json
    assert (again["created"], again["unchanged"]) == (0, GOOD)
    assert again["skipped_file"] != told["skipped_file"], "an earlier side file is not written over"


def test_a_dry_run_reports_and_keeps_nothing(shell: Shell) -> None:
    done = shell("import", "openclaw", _write(shell, *ODD), "--skip-invalid", "--dry-run")
    assert done.code == 0
    assert done.err.count("skipped agent:main:odd") == len(ODD)
    assert not shell.store.exists() and _side_files(shell) == []


@pytest.mark.parametrize("raw", REPAIRED)
def test_half_a_pair_is_replaced_on_demand(shell: Shell, raw: str) -> None:
    source = _write(shell, raw)
    before = source.read_bytes()
    done = shell("import", "openclaw", source, "--replace-invalid")
    assert (done.code, done.out) == (0, f"imported {GOOD + 1} sessions: {GOOD + 1} new\n")
    assert "replaced by U+FFFD in agent:main:odd0: entry['" in done.err
    with Store(shell.store) as store:
        data = json.dumps(store["agent:main:odd0"].data, ensure_ascii=False)
    assert data == json.dumps(
        json.loads(raw.replace(r"\ud83e", "\ufffd").replace(r"\udc00", "\ufffd")), ensure_ascii=False
    )
    assert source.read_bytes() == before
    again = shell("import", "openclaw", source, "--replace-invalid", "--json").json
    assert (again["unchanged"], len(again["replaced"])) == (GOOD + 1, 1)


def test_both_options_together_lose_nothing(shell: Shell) -> None:
    told = shell("import", "openclaw", _write(shell, *ODD), "--skip-invalid", "--replace-invalid", "--json").json
    assert (told["created"], len(told["skipped"]), len(told["replaced"])) == (GOOD + 2, len(ODD) - 2, 2)


def test_a_repair_that_would_merge_two_is_none(shell: Shell) -> None:
    source = _write(shell, r'{"a\ud800": 1, "a\udc00": 2}')
    done = shell("import", "openclaw", source, "--replace-invalid")
    assert done.code == 1 and "stands twice once it is repaired" in done.err
    path = shell.directory / "sessions.json"
    path.write_text(r'{"k\ud800": {"n": 1}, "k\udc00": {"n": 2}}', encoding="utf-8")
    done = shell("import", "openclaw", path, "--replace-invalid", "--skip-invalid", "--json")
    assert (done.json["created"], done.json["skipped"][0]["key"]) == (1, "k\udc00")


def test_keys_that_are_none(shell: Shell) -> None:
    path = shell.directory / "sessions.json"
    path.write_text(
        r'{"": {}, "a\u0000b": {}, "half\ud83d": {}, "' + "x" * 5000 + '": {}, "good": {}}', encoding="utf-8"
    )
    told = shell("import", "openclaw", path, "--skip-invalid", "--json").json
    assert (told["created"], {one["path"] for one in told["skipped"]}) == (1, {"key"})
    assert len(told["skipped"]) == 4


def test_of_a_key_that_stands_twice_the_last_counts_and_none_is_lost(shell: Shell) -> None:
    path = shell.directory / "sessions.json"
    path.write_text('{"k": {"n": 1}, "k": {"n": 2}}', encoding="utf-8")
    assert "stands twice" in shell("import", "openclaw", path).err
    assert shell("import", "openclaw", path, "--skip-invalid").code == 0
    assert shell("get", "k").json == {"n": 2}
    assert '"entry": {"n": 1}' in _side_files(shell)[0].read_text(encoding="utf-8")


def test_where_nothing_may_be_made_beside_the_store_the_side_file_is_here(shell: Shell) -> None:
    home, work = shell.directory / "home", shell.directory / "work"
    home.mkdir()
    work.mkdir()
    source = _write(shell, "null")
    closed = "lambda original: lambda path, mode: False if str(path).endswith('home') else original(path, mode)"
    there = mutated(Shell(work), ("os:access", closed))
    told = there("import", "openclaw", source, "--skip-invalid", "--json", "--store", home / "s", named=False).json
    assert Path(told["skipped_file"]).parent == work


@pytest.mark.parametrize("cut", range(1, 400, 7))
def test_what_is_cut_is_damaged_even_when_asked_to_skip(shell: Shell, cut: int) -> None:
    source = _write(shell, *list(ODD)[:9])
    source.write_bytes(source.read_bytes()[:-cut])
    with pytest.raises(CommandError, match="damaged or half written"):
        openclaw.read(source, skip_invalid=True, replace_invalid=True)


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        (1771290458500, "2026-02-17T01:07:38.500"),
        (1771290458500.25, "2026-02-17T01:07:38.500"),
        (1771290458, "2026-02-17T01:07:38.000"),
        (1771290458.5, "2026-02-17T01:07:38.500"),
        (1771290458500123, "2026-02-17T01:07:38.500"),
        (1771290458500123456, "2026-02-17T01:07:38.500"),
        ("1771290458500", "2026-02-17T01:07:38.500"),
        ("1771290458.5", "2026-02-17T01:07:38.500"),
        ("2026-02-17T01:07:38.500Z", "2026-02-17T01:07:38.500"),
        ("2026-02-17T03:07:38.500+02:00", "2026-02-17T01:07:38.500"),
        ("2026-02-17 01:07:38", "2026-02-17T01:07:38.000"),
        ("2026-02-17", "2026-02-17T00:00:00.000"),
    ],
)
def test_a_time_may_be_written_in_many_ways(moment: object, expected: str) -> None:
    found = last_change(moment)
    assert found is not None
    assert found.isoformat(timespec="milliseconds") == f"{expected}+00:00"


@pytest.mark.parametrize(
    "moment", [None, True, 0, -5, 1e30, float("nan"), float("inf"), "", "soon", "-1", "0001-01-01", [], {}, "1" * 400]
)
def test_what_is_no_time_is_left_alone(moment: object) -> None:
    assert last_change(moment) is None


def test_the_time_of_the_last_change_is_kept(shell: Shell) -> None:
    path = shell.directory / "sessions.json"
    entries = {
        "ms": {"updatedAt": 1771290458500},
        "s": {"updatedAt": 1771290458.5},
        "iso": {"updatedAt": "2026-02-17T01:07:38.5Z"},
    }
    path.write_text(json.dumps(entries), encoding="utf-8")
    assert shell("import", "openclaw", path).code == 0
    with Store(shell.store) as store:
        assert {store[key].updated_at for key in entries} == {datetime(2026, 2, 17, 1, 7, 38, 500_000, UTC)}
        assert {key: store[key].data for key in entries} == entries


def test_without_the_check_an_odd_entry_would_stop_the_import(shell: Shell) -> None:
    """The mutation: entries are handed on unchecked, and the import ends half way."""
    source = _write(shell, "null")
    unchecked = mutated(shell, ("shardstore_cli.openclaw_entries:_check", "lambda original: lambda key, entry: None"))
    done = unchecked("import", "openclaw", source, "--skip-invalid")
    assert done.code != 0


_scalars = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(st.characters(), max_size=6)
_values = st.recursive(
    _scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
_sources = st.dictionaries(st.text(min_size=1, max_size=6), _values, max_size=6)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(source=_sources, indent=st.sampled_from([None, 0, 2]), ascii_only=st.booleans(), repair=st.booleans())
def test_every_entry_is_taken_or_kept(
    tmp_path: Path, source: dict[str, object], indent: int | None, ascii_only: bool, repair: bool
) -> None:
    """Whatever JSON text holds: an entry is imported exactly as it is, repaired as asked, or kept as it was written."""
    path = tmp_path / "sessions.json"
    path.write_bytes(json.dumps(source, indent=indent, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass"))
    try:
        found = openclaw.read(path, skip_invalid=True, replace_invalid=repair)
    except CommandError as error:
        assert "is not UTF-8" in error.message and not ascii_only
        return
    assert len(found.entries) + len(found.odd) == len(source)
    repaired = {one.key for one in found.replaced}
    for key, entry in found.entries.items():
        if key in source and key not in repaired:
            assert json.dumps(entry) == json.dumps(source[key])
    for one in found.odd:
        line = json.loads(one.as_line())
        kept = line["entry"] if "entry" in line else json.loads(line["text"])
        assert json.dumps(kept) == json.dumps(source[one.key])
    if repair:
        assert not any("lone surrogate" in one.reason for one in found.odd)
