"""What the field loses of transcripts, each incident by its name, and what a log does instead."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from shardstore import Conflict, CorruptShard, InvalidEntry, Store
from tests.scenarios import logs
from tests.support import disk


def message(number: int, size: int = 1_000) -> dict[str, Any]:
    return {"role": "assistant" if number % 2 else "user", "n": number, "content": "x" * size}


def fill(store: Store, key: str, count: int) -> None:
    quick = store.using(durability="relaxed")
    for number in range(count):
        quick.append(key, [message(number)], {"n": number})


def test_claude_code_81843_no_two_records_on_one_line(root: Path) -> None:
    """30 invalid lines in 23 files, most of them two records spliced: one writer at a time, one write behind a crc."""
    logs.two_writers(root)


def test_hermes_agent_13695_two_turns_append_to_one_transcript(root: Path) -> None:
    """So hermes-agent #20278, and a concurrent resume of cortex v0.0.7: without a lock lines merged and split.

    An append is an update under the session's lock, across processes.
    """
    logs.many_writers_retry(root, times=40)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_copilot_cli_4098_a_torn_last_line_is_never_fused(root: Path, share: float) -> None:
    """So ms-agent #1000 and oh-my-pi #8596: the next append met half a line.

    Here it is stepped over, kept in quarantine, and nothing is fused.
    """
    with Store(root) as store:
        store.append("k", [message(0)])
        store.append("k", [message(1)])
        path = disk.shard(root, "k")
        data = path.read_bytes()
        end, start = disk.end(data), data.index(b"\n") + 1
        kept = start + int((end - start) * share)
        disk.edit(path, data[:kept] + b"\n" * (len(data) - kept))
        assert store.log("k") == [message(0)]
        assert store.append("k", [message(2)]).log == [message(0), message(2)]
        assert any((root / "quarantine").iterdir())


@pytest.mark.damages("a changed byte in a transcript")
def test_claude_code_49876_a_changed_item_is_refused(root: Path) -> None:
    """What is damaged is never handed to the model as if it were whole."""
    logs.a_changed_item_is_refused(root)


@pytest.mark.damages("NUL bytes in a transcript")
def test_claude_code_49876_a_block_of_nul_bytes_is_an_error_not_silence(root: Path) -> None:
    """Everything before it was silently lost to the model: the error names the line, the rest is read and salvaged."""
    with Store(root) as store:
        fill(store, "k", 300)
        [path] = root.glob("shards/*/*.log.jsonl")
        data = bytearray(path.read_bytes())
        lines = data.split(b"\n")
        start = sum(len(line) + 1 for line in lines[:100])
        data[start : start + 3_000] = bytes(3_000)
        path.write_bytes(data)
        with pytest.raises(CorruptShard) as caught:
            store.log("k")
        assert (caught.value.path, caught.value.offset) == (str(path), start)
        assert store.log("k", 0, 100) == [message(n) for n in range(100)]
        assert store.log("k", -100) == [message(n) for n in range(200, 300)]
        [problem] = store.verify().problems
        assert "items 100 to 10" in problem.detail
        assert store.verify(repair=True).ok
        assert [item["n"] for item in store.log("k")] == [n for n in range(300) if n not in range(100, 103)]


def test_claude_code_31328_parallel_tool_calls_lose_no_message(root: Path) -> None:
    """A message lost among parallel calls made every later request fail: many are appended atomically, in order."""
    with Store(root) as store:
        turn = [
            {"role": "assistant", "tool_calls": ["a", "b"]},
            {"role": "tool", "id": "a"},
            {"role": "tool", "id": "b"},
        ]
        for _ in range(3):
            store.append("k", turn)
        assert store.log("k") == turn * 3
        with pytest.raises(InvalidEntry):
            store.append("k", [*turn, float("inf")])
        assert store.log("k") == turn * 3


def written(root: Path) -> int:
    """Return the bytes that this process has written to disk caches so far."""
    del root
    text = Path("/proc/self/io").read_text()
    return int(text.split("wchar: ")[1].split()[0])


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="counts written bytes by /proc")
def test_kern_ai_305_an_append_writes_its_item_not_the_transcript(root: Path) -> None:
    """38 MB wrote 564 MB a turn: here bytes per append do not depend on what is there already."""
    with Store(root, durability="relaxed") as store:
        costs = []
        for _ in range(3):
            before = written(root)
            fill(store, "k", 500)
            costs.append((written(root) - before) / 500)
        assert max(costs) < 4_000, costs
        assert costs[2] < costs[0] * 1.3, costs


def test_claude_code_79196_metadata_never_reads_the_transcript(root: Path) -> None:
    """So claude-code #24457: whole transcripts stood in memory, 9 to 14 times their size.

    Opening a session reads its journal, and nothing of the log's file.
    """
    with Store(root) as store:
        fill(store, "k", 2_000)
    journal, [log] = disk.shard(root, "k"), [*root.glob("shards/*/*.log.jsonl")]
    assert journal.stat().st_size < 600_000 < log.stat().st_size
    hidden = log.rename(root.parent / "hidden")
    with Store(root) as store:
        session = store["k"]
        assert (session["n"], len(session.log), session.log[-1]["n"]) == (1_999, 2_000, 1_999)
        assert store.list()[0].key == "k"
    hidden.rename(log)


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="counts read bytes by /proc")
def test_adk_3039_the_newest_of_thousands_reads_the_newest(root: Path) -> None:
    """So ADK #4917 and #4918, OpenAI Agents #2810, #2811 and #2878: the newest N of thousands took seconds.

    A slice reads what it returns, wherever it lies.
    """
    with Store(root) as store:
        fill(store, "k", 3_000)
        session = store["k"]
        for start, stop in ((-20, None), (1_500, 1_520), (0, 20), (-400, -380)):
            before = int(Path("/proc/self/io").read_text().split("rchar: ")[1].split()[0])
            assert len(session.log[start:stop]) == 20
            assert int(Path("/proc/self/io").read_text().split("rchar: ")[1].split()[0]) - before < 160_000


def test_adk_3717_a_stale_session_cannot_write_over_a_newer_one(root: Path) -> None:
    """So ADK #5194 and #1733, and `replace_suffix` of OpenAI's session: they appended and compacted over newer ones.

    `expect` is compared inside the lock.
    """
    with Store(root) as store:
        stale = store.append("k", [1])
        store.append("k", [2])
        with pytest.raises(Conflict):
            store.append("k", [3], expect=stale)
        with pytest.raises(Conflict), store.edit("k", expect=stale) as draft:
            draft.log[:] = ["compacted"]
        assert store.log("k") == [1, 2]


def test_claude_session_store_retried_append_adds_nothing(root: Path) -> None:
    """It is retried up to three times, and ADK delivers again: with ids each item stands there once."""
    with Store(root) as store:
        for _ in range(3):
            store.append("k", [message(1), message(2)], {"n": 1}, ids=["u1", "u2"])
        assert (len(store["k"].log), store["k"].rev) == (2, 1)


def test_myagents_469_metadata_and_transcript_are_one_commit(root: Path) -> None:
    """So Claude's summary fold: they disagreed after a crash. Items and fields are one record, in every revision."""
    with Store(root) as store:
        for _ in range(20):
            store.append("k", ["x"], lambda draft: draft.update(count=len(draft.log)))
        assert all(session["count"] == len(session.log) for session in store.history("k"))


def test_langgraph_6661_a_log_can_be_compacted(root: Path) -> None:
    """So langgraph #6883 and #8531, langgraphjs #1138: checkpoints grew without end.

    Dropped items give their space back, and followers keep their position.
    """
    with Store(root) as store:
        fill(store, "k", 1_000)
        size = sum(path.stat().st_size for path in root.glob("shards/*/*.jsonl"))
        with store.edit("k") as draft:
            del draft.log[:-20]
        store.compact()
        assert sum(path.stat().st_size for path in root.glob("shards/*/*.jsonl")) < size / 5
        assert (store["k"].log[0], store["k"].log.dropped) == (message(980), 980)


def test_openclaw_21828_there_is_no_other_way_to_write(root: Path) -> None:
    """Delivery mirror and gateway wrote without the session's lock: a snapshot offers no way to change the log."""
    with Store(root) as store:
        log = store.append("k", [1]).log
        for verb in ("append", "extend", "insert", "pop", "clear", "__setitem__", "__delitem__"):
            assert not hasattr(log, verb)


def test_openclaw_20188_session_and_transcript_cannot_roll_apart(root: Path) -> None:
    """So OpenClaw #20336 and #15176: the path of the transcript rolled apart from the session id.

    The log belongs to the session.
    """
    with Store(root) as store:
        fill(store, "k", 300)
        store.rename("k", "rolled")
        assert (store["rolled"]["n"], len(store["rolled"].log), store.get("k")) == (299, 300, None)
        with store.edit("rolled") as draft:
            draft.log.clear()
            draft["n"] = 0
        assert (store["rolled"]["n"], len(store["rolled"].log)) == (0, 0)


def test_agentscope_1117_half_a_surrogate_pair_is_refused_with_its_path(root: Path) -> None:
    """So OpenClaw #101659, cognee-integrations #275, claude-code-log #139: it broke every later reader.

    It is refused when it is written, and the error names the place. The importer repairs it on request: tests/cli has that.
    """
    with Store(root) as store:
        broken = json.loads('{"role": "user", "parts": ["ok", "\\ud83d"]}')
        with pytest.raises(InvalidEntry) as caught:
            store.append("k", [message(0), broken])
        assert caught.value.path == "items[1]['parts'][1]"
        assert not store.exists("k")
