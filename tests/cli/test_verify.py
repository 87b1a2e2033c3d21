"""verify at a shell: the next step it names, in which order it prints, and what the writes after it say."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from shardstore import Store
from tests.cli.shell import Shell
from tests.support import disk

pytestmark = pytest.mark.damages("takes files and directories away")
WRITES = [
    ("set", "{key}", '{{"n": 1}}'),
    ("patch", "{key}", "n=1"),
    ("append", "{key}", "1"),
]


def shard(shell: Shell, key: str) -> Path:
    return disk.shard(shell.store, key)


def test_a_missing_log_is_put_back_before_it_is_repaired(shell: Shell) -> None:
    with Store(shell.store, durability="relaxed") as store:
        for number in range(100):
            store.append("k", [f"{number}" + "x" * 4_000])
    (log,) = (shell.store / "shards").glob("*/*.log.jsonl")
    data = log.read_bytes()
    for left, what in ((data[:5_000], "too short"), (None, "missing")):
        log.unlink() if left is None else log.write_bytes(left)
        found = shell("verify")
        assert f"the log's file is {what}" in found.out
        if left is None:
            assert "put it back from a backup before any repair" in shell("log", "k", "--from", "0").err
        assert f"{log.name}" in found.out
        assert "put the file back from a backup, under this name, before you repair" in found.out
        assert "Next: put the log files named above back from a backup, under their names; only then" in found.err
    log.write_bytes(data)
    assert shell("verify").code == 0
    log.unlink()
    repaired = shell("verify", "--repair")
    assert "the originals are in quarantine/" in repaired.err
    assert [path.name for path in (shell.store / "quarantine").iterdir() if path.name in repaired.out]
    log.write_bytes(data)
    (row,) = [line for line in shell("verify").out.splitlines() if "unused-log" in line]
    assert "harmless" not in row


def test_what_is_lost_is_acknowledged_and_not_repaired(busy: Shell) -> None:
    assert busy("compact").code == 0
    shard(busy, "agent:ops:hook").unlink()
    found = busy("verify")
    assert "after `shardstore verify --repair` this is no longer named" in found.err
    repaired = busy("verify", "--repair")
    (row,) = [line for line in repaired.out.splitlines() if line.startswith("lost")]
    assert row.endswith("acknowledged")
    assert "this is acknowledged now" in repaired.err
    assert "after `shardstore verify" not in repaired.err
    assert busy("verify").code == 0


def test_many_directories_that_are_gone_share_a_row_above_the_lost_sessions(busy: Shell) -> None:
    assert busy("compact").code == 0
    shutil.move(busy.store / "shards", busy.directory / "away")
    found = busy("verify")
    kinds = [line.split()[0] for line in found.out.splitlines()[1:] if line][:-1]
    assert kinds == ["incomplete", "lost", "lost", "lost"]
    assert "shards/00 and 255 more" in found.out
    assert len(busy("verify", "--json").json["problems"]) == 259
    shutil.move(busy.directory / "away", busy.store / "shards")
    assert busy("verify").code == 0


@pytest.mark.parametrize("words", WRITES, ids=lambda words: words[0])
def test_a_write_makes_a_missing_directory_and_says_so(busy: Shell, words: tuple[str, ...]) -> None:
    """As the library does; what may create no session refuses."""
    given = [word.format(key="new") for word in words]
    directory = shard_directory(busy, "new")
    refused = busy(*given, "--no-create")
    assert refused.code == 1
    assert "lacks its directory" in refused.err
    assert not directory.exists()
    done = busy(*given)
    assert done.code == 0
    assert f"Note: made the lost directory {directory} again" in done.err
    assert "new: CREATED" in done.err


def test_an_import_makes_a_missing_directory(busy: Shell) -> None:
    source = busy.directory / "sessions.json"
    source.write_text(json.dumps({"new": {"sessionId": "x", "updatedAt": 1_700_000_000_000}}))
    directory = shard_directory(busy, "new")
    assert busy("import", "openclaw", source).code == 0
    assert directory.exists()


def shard_directory(shell: Shell, key: str) -> Path:
    """Remove the directory that a key's file would be in, and return it."""
    from shardstore._files.layout import shard_name

    found = (shell.store / "shards" / shard_name(key)).parent
    shutil.rmtree(found)
    return found
