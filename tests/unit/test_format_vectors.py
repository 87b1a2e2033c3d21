"""docs/internals/format-vectors.jsonl: journals and the states they lead to, for any reader of the format.

Each line: `name`; the journal as `text`, or `base64`; and `expect`: a state with `end`, the byte behind the last record
(what follows is space or a torn tail), or the byte of the `damage`. Three readers agree on them.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from shardstore import CorruptShard, Store
from shardstore._files.layout import Layout, shard_name
from shardstore._journal import replay as journal
from tests.support import disk

FILE = Path(__file__).parents[2] / "docs" / "internals" / "format-vectors.jsonl"
VECTORS = [json.loads(line) for line in FILE.read_text(encoding="utf-8").splitlines()]
KEY = "agent:main"
MICROSECOND = 1e-6


def data_of(vector: dict[str, Any]) -> bytes:
    return vector["text"].encode() if "text" in vector else base64.b64decode(vector["base64"])


every_vector = pytest.mark.parametrize("vector", VECTORS, ids=[vector["name"] for vector in VECTORS])


def test_the_names_are_unique_and_both_outcomes_are_there() -> None:
    assert len({vector["name"] for vector in VECTORS}) == len(VECTORS) > 45
    assert sum("damage" in vector["expect"] for vector in VECTORS) > 15


@every_vector
def test_replay(vector: dict[str, Any]) -> None:
    """The store's interpreter, whole and from every record on."""
    data, expect = data_of(vector), vector["expect"]
    found = journal.replay(data)
    if "damage" in expect:
        assert found.damage is not None
        assert found.damage.offset == expect["damage"]
        return
    assert found.damage is None
    state = found.journal.state
    assert {
        "exists": state.exists,
        "fields": None if state.fields is None else {name: json.loads(raw) for name, raw in state.fields.items()},
        "rev": state.rev,
        "version": state.version,
        "created_at": state.created_at,
        "updated_at": state.updated_at,
        "actor": state.actor,
        "end": found.journal.end,
    } == expect
    step, _ = journal.read_records(data, journal.EMPTY, most=1)
    assert journal.replay(data[step.end :], step).journal.state == state


@every_vector
@pytest.mark.damages("files of every kind")
def test_a_store_that_holds_the_file(root: Path, vector: dict[str, Any]) -> None:
    """get answers the state, absent, or CorruptShard; a writer goes on from the same."""
    data, expect = data_of(vector), vector["expect"]
    with Store(root, durability="relaxed") as store:
        path = Path(Layout(root).shard_path(shard_name(KEY)))
        path.write_bytes(data)
        path.chmod(0o600)
        if "damage" in expect:
            for call in (lambda: store.get(KEY), lambda: store.patch(KEY, {"p": 1})):
                with pytest.raises(CorruptShard):
                    call()
            assert path.read_bytes() == data
            return
        session = store.get(KEY)
        assert (session is not None) is expect["exists"]
        if session is not None:
            assert session.data == expect["fields"]
            assert (session.rev, session.version, session.actor) == (
                expect["rev"],
                expect["version"],
                expect["actor"],
            )
            for moment, name in ((session.created_at, "created_at"), (session.updated_at, "updated_at")):
                assert moment.timestamp() == pytest.approx(expect[name] / 1e6, abs=MICROSECOND * 40)
        if expect["rev"] < 2**53 - 1 and expect["updated_at"] < 253_402_300_799_999_999:
            after = store.patch(KEY, {"p": 1})
            assert after.data == {**(expect["fields"] or {}), "p": 1}
            assert after.rev == (expect["rev"] + 1 if expect["exists"] else 1)


@every_vector
def test_the_second_reader(vector: dict[str, Any]) -> None:
    """A reader that shares no code with the store, on what is whole; it calls the rest no journal."""
    data, expect = data_of(vector), vector["expect"]
    if "damage" in expect:
        with pytest.raises((AssertionError, ValueError, KeyError)):
            disk.state(data)
        return
    whole = data[: expect["end"]]
    assert disk.state(whole) == expect["fields"]
    assert disk.version(whole) == expect["version"]
    if data[expect["end"] :].strip(b"\r\n"):
        with pytest.raises((AssertionError, ValueError)):
            disk.state(data)
