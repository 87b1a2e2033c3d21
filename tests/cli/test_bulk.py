"""delete --prefix and restore --prefix, --since: many at once, only what was meant, and said in numbers."""

from __future__ import annotations

import pytest

from shardstore import Store
from tests.cli.shell import Shell


@pytest.fixture
def many(shell: Shell) -> Shell:
    """Return a shell whose store holds twelve sessions of one agent and one of another."""
    with Store(shell.store, durability="relaxed") as store:
        store.create_many([(f"agent:{n:02d}", {"n": n}) for n in range(12)])
        store.create("other", {})
    return shell


def keys(shell: Shell) -> list[str]:
    with Store(shell.store) as store:
        return sorted(store)


def test_delete_by_prefix_wants_a_yes(many: Shell) -> None:
    refused = many("delete", "--prefix", "agent:")
    assert (refused.code, refused.out) == (1, "")
    assert "12 sessions" in refused.err
    assert "--yes" in refused.err
    assert len(keys(many)) == 13


def test_delete_by_prefix_counts(many: Shell) -> None:
    dry = many("delete", "--prefix", "agent:1", "--dry-run")
    assert (dry.code, dry.out.strip()) == (0, "would delete 2 sessions whose keys begin with agent:1 for good")
    assert len(keys(many)) == 13
    done = many("delete", "--prefix", "agent:1", "--yes")
    assert (done.code, done.out.strip()) == (0, "deleted 2 sessions for good")
    again = many("delete", "--prefix", "agent:1", "--yes", "--json")
    assert (again.code, again.json["found"], again.json["deleted"]) == (0, 0, 0)
    assert many("delete", "--prefix", "agent:", "-y", "--json").json["deleted"] == 10
    assert keys(many) == ["other"]


@pytest.mark.parametrize(
    "arguments", [(), ("--prefix", ""), ("agent:01", "--prefix", "agent:"), ("--prefix", "a", "--expect", "v")]
)
def test_delete_wants_either_keys_or_a_prefix(many: Shell, arguments: tuple[str, ...]) -> None:
    assert many("delete", *arguments).code == 2
    assert len(keys(many)) == 13


def test_restore_by_prefix_and_time(many: Shell) -> None:
    assert many("prune", "--where", "n>=0").code == 0
    assert keys(many) == ["other"]
    assert many("restore", "--since", "2999-01-01", "--json").json["restored"] == []
    with Store(many.store) as store:
        store.create("agent:11", {"new": 1})
    done = many("restore", "--prefix", "agent:1", "--since", "1h")
    assert (done.code, done.out.strip()) == (0, "restored 1 session")
    assert "agent:11" in done.err
    told = many("restore", "--prefix", "agent:", "--json").json
    assert (len(told["restored"]), [one["key"] for one in told["skipped"]], told["ok"]) == (10, ["agent:11"], True)
    assert len(keys(many)) == 13


@pytest.mark.parametrize("arguments", [(), ("k", "--prefix", "a"), ("k", "--since", "1h"), ("--since", "yesterday")])
def test_restore_wants_either_a_key_or_several(many: Shell, arguments: tuple[str, ...]) -> None:
    assert many("restore", *arguments).code == 2
