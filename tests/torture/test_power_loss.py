"""A power cut loses nothing that was acknowledged durably, and never leaves a mixture.

The model of powerloss.py is the strictest legal disk: nothing is there unless it was synced, names and data and single
sectors in any order.  Mutants without a sync or a checksum must be caught by it, or it would prove nothing.
"""

from __future__ import annotations

import pytest

from .harness import exhaustive, needs_strace, sampled, seconds, tool
from .powerloss import Trace, crash_states


def found(ops: list, start: dict | None = None) -> list[dict]:
    """Return every tree that a list of operations may leave."""
    trace = Trace("/r", start or {"d": None})
    trace.ops.extend(ops)
    return [state.tree for state in crash_states(trace)]


def test_the_model_tears_what_was_not_synced() -> None:
    """A write of four sectors is found absent, whole, in part, zero where it was not written, and out of order."""
    start = {"d": None, "d/f": b"o" * 2048}
    contents = {tree["d/f"] for tree in found([("write", 1, 0, b"n" * 2048)], start)}
    assert {b"o" * 2048, b"n" * 2048, b"n" * 512 + b"o" * 1536, b"o" * 512 + b"n" * 1536} <= contents
    assert all(set(c[i : i + 512]) in ({ord("o")}, {ord("n")}) for c in contents for i in range(0, 2048, 512))
    grown = {tree["d/f"] for tree in found([("write", 1, 2048, b"n" * 100)], start)}
    assert {b"o" * 2048, b"o" * 2048 + b"n" * 100, b"o" * 2048 + bytes(100)} <= grown


def test_the_model_keeps_what_was_synced() -> None:
    """After sync and syncdir there is only one state; before, the name may be missing though the data is safe."""
    ops = [("create", "d/f", 9), ("write", 9, 0, b"n"), ("sync", 9)]
    assert {tree.get("d/f") for tree in found(ops)} == {None, b"", b"n", b"\0"}
    last = [("syncdir", "d"), ("begin", 1), ("ack", 1)]
    trace = Trace("/r", {"d": None})
    trace.ops.extend(ops + last)
    assert [s.tree["d/f"] for s in crash_states(trace) if s.acknowledged] == [b"n"]


def test_the_model_knows_the_rename_without_a_sync() -> None:
    """Rename over a file without syncing the new one: the old content is gone, the new one is not there."""
    start = {"d": None, "d/f": b"old"}
    ops = [("create", "d/t", 9), ("write", 9, 0, b"new"), ("rename", "d/t", "d/f")]
    assert {b"old", b"new", b"", b"\0\0\0"} <= {tree["d/f"] for tree in found(ops, start)}
    safe = [*ops[:2], ("sync", 9), ops[2]]
    assert {tree["d/f"] for tree in found(safe, start)} == {b"old", b"new"}


@sampled
@pytest.mark.parametrize("name", ["mixed", "torn"])
def test_crash_states_of_short_workloads(name: str) -> None:
    """Relaxed and durable writers on one session, a torn tail: some of the states that the model allows."""
    assert tool("outage", name, "--every", "25")["states"] > 5


@sampled
@pytest.mark.parametrize(
    ("name", "durability", "stride", "every"),
    [
        ("rewrite", "commit", "1", "5"),
        ("life", "commit", "3", "5"),
        ("life", "relaxed", "27", "120"),
        ("compact", "commit", "9", "7"),
        ("group", "commit", "3", "19"),
        ("bulk", "commit", "19", "23"),
        ("bulk-syncfs", "commit", "11", "15"),
        ("bulk-archive", "commit", "3", "9"),
    ],
)
def test_some_crash_states_of_long_workloads(name: str, durability: str, stride: str, every: str) -> None:
    """The long ones are sampled here; `make torture` has more."""
    args = ("--durability", durability, "--stride", stride, "--every", every, "--seconds", "20")
    assert tool("outage", name, *args)["states"] > 5


@pytest.mark.parametrize(
    ("mutant", "name", "stride", "every"),
    [
        ("no-temp-sync", "rewrite", "3", "1"),
        ("no-directory-sync", "life", "7", "3"),
        ("no-data-sync", "life", "7", "3"),
        ("no-crc", "mixed", "1", "5"),
    ],
)
def test_a_store_that_skips_a_step_is_caught(mutant: str, name: str, stride: str, every: str) -> None:
    """Without fsync of the temp, of the directory, of the data, or without the checksum, some crash state is wrong."""
    args = ("--enough", "1", "--stride", stride, "--every", every)
    tool("outage", name, "--mutant", mutant, *args, expect_complaints=True)


@pytest.mark.parametrize("mutant", ["acknowledged-too-early", "batch-without-names"])
def test_a_batch_that_skips_a_step_is_caught(mutant: str) -> None:
    """Sessions counted before their sync, or whose directories were not synced, are missing in some crash state."""
    options = ("--mutant", mutant, "--enough", "1", "--stride", "17", "--every", "23")
    tool("outage", "bulk", *options, expect_complaints=True)


@exhaustive
@pytest.mark.parametrize("mutant", ["group-not-synced", "group-says-durable"])
def test_a_group_that_skips_a_step_is_caught(mutant: str) -> None:
    """Without the sync something acknowledged is missing; with the wrong member a torn tail is taken for damage."""
    tool("outage", "group", "--durability", "commit", "--mutant", mutant, "--enough", "1", expect_complaints=True)


@sampled
@pytest.mark.parametrize(("name", "every"), [("log", "11"), ("log-moves", "31")])
def test_some_crash_states_of_a_log(name: str, every: str) -> None:
    """Settling, replacing and moving the pair: items and fields are always of one commit."""
    assert tool("outage", name, "--stride", "7", "--every", every, "--seconds", "60")["states"] > 3


@exhaustive
@pytest.mark.parametrize("mutant", ["no-log-sync", "no-committed-end", "log-name-reused"])
def test_a_log_that_skips_a_step_is_caught(mutant: str) -> None:
    """Without the sync before the journal names it, the end that it names, or a new name, some crash state is wrong."""
    tool("outage", "log", "--mutant", mutant, "--every", "7", "--enough", "1", expect_complaints=True)


@exhaustive
@pytest.mark.parametrize("durability", ["commit", "relaxed"])
@pytest.mark.parametrize(
    "name",
    [
        "birth",
        "life",
        "rewrite",
        "torn",
        "mixed",
        "group",
        "group-rewrite",
        "compact",
        "bulk",
        "bulk-syncfs",
        "bulk-archive",
        "listed",
        "log",
        "log-moves",
    ],
)
def test_crash_states(name: str, durability: str) -> None:
    """Every state of the short workloads; of the long ones those at every third operation, as far as the time goes."""
    stride = {
        "life": "3",
        "listed": "3",
        "compact": "3",
        "bulk": "3",
        "bulk-syncfs": "3",
        "birth": "11",
    }.get(name, "1")
    every = (
        {
            "life": "9",
            "listed": "9",
            "compact": "9",
            "bulk": "9",
            "bulk-syncfs": "9",
            "bulk-archive": "9",
            "log": "5",
            "log-moves": "5",
        }.get(name, "1")
        if durability == "relaxed"
        else "1"
    )
    tool("outage", name, "--durability", durability, "--stride", stride, "--every", every, "--seconds", seconds(14))


@exhaustive
@needs_strace
@pytest.mark.parametrize("name", ["birth", "life", "rewrite", "compact", "bulk-syncfs", "listed"])
def test_crash_states_recorded_from_outside(name: str) -> None:
    """The same with every write that the kernel saw, SQLite's included: what is left of the index is torn too."""
    stride = {"compact": "5", "listed": "5", "birth": "11"}.get(name, "1")
    tool("outage", name, "--outside", "--stride", stride, "--seconds", seconds(14))
