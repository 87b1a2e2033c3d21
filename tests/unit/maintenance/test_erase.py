"""erase_history: afterwards no file of the store, but the index, holds a byte of what a session was before."""

from __future__ import annotations

import os
from pathlib import Path

from shardstore import Store
from tests.support import disk

SECRET = b"hunter2"


def holders(root: Path) -> list[str]:
    """Return the files, except the index's, that hold the secret."""
    files = [path for path in root.rglob("*") if path.is_file() and "index" not in path.parts]
    return sorted(str(path.relative_to(root)) for path in files if SECRET in path.read_bytes())


def test_every_trace_of_a_secret_goes(root: Path) -> None:
    """In the fields, in settled, replaced, dropped and cut items, in torn tails, archived copies and unused files."""
    secret = SECRET.decode()
    with Store(root) as store:
        store.append("k", [secret], {"password": secret})
        store.prune(older_than=0)  # an archived copy
        store.create("other", {"mine": "stays"})
        quick = store.using(durability="relaxed")
        for number in range(400):
            quick.append("k", [{"n": number, "text": secret * 140}], {"password": secret})
        path = disk.shard(root, "k")
        data = path.read_bytes()
        disk.edit(path, data[: disk.end(data)] + b'{"crc":"00000000","rev":999,"set":{"password":"hunter2"')
        store.patch("k", {"password": None})  # its torn tail goes to quarantine
        [log] = root.glob("shards/*/*.log.jsonl")
        ghost = log.with_name(log.name.replace(log.name.split(".")[1], "0123456789abcdef"))
        os.link(log, ghost)
        with store.edit("k") as draft:
            del draft.log[:390]
            del draft.log[5:]
            for index in range(5):
                draft.log[index] = "redacted"
        assert len(holders(root)) >= 3
        version = store["k"].version
        report = store.erase_history("k")
        assert holders(root) == []
        assert {name.split("/")[0] for name in report.removed} == {"shards", "archive", "quarantine"}
        assert any("backups" in place for place in report.unreached)
        assert (store["k"].version, store["k"].log[:], store["k"].log.dropped) == (version, ["redacted"] * 5, 390)
        assert store["other"]["mine"] == "stays"
        assert store.append("k", ["more"]).log[:] == [*["redacted"] * 5, "more"]
