"""append, log, copy and rename at a shell: what a person reads, what a program gets, and the exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from shardstore_cli import transcripts

from shardstore import Store
from shardstore import _codec as codec
from tests.cli.shell import COMMAND, Shell, environment

CHAT = [
    {"role": "user", "content": "What is in the file?\nAll of it, please."},
    {
        "role": "assistant",
        "content": [
            {"type": "text", "text": "I look."},
            {"type": "tool_use", "name": "read", "input": {"path": "a.txt"}},
        ],
    },
    {"role": "user", "content": [{"type": "tool_result", "content": "line\n" * 50_000}]},
    {"role": "assistant", "content": "Ä \x1b[31mred\x1b[0m ending"},
    {"type": "checkpoint", "n": 3},
    "a text",
    [1, 2],
]


@pytest.fixture
def chat(shell: Shell) -> Shell:
    """Return a shell whose store holds one conversation."""
    with Store(shell.store, actor="agent:main") as store:
        store.append("chat", CHAT, {"status": "running"}, ids=[f"m{n}" for n in range(len(CHAT))])
    return shell


def test_the_log_for_a_person(chat: Shell) -> None:
    """One line an item: index, time, role, first line; tool output is cut; nothing steers the terminal."""
    done = chat("log", "chat")
    lines = done.out.splitlines()
    assert done.code == 0
    assert len(lines) == len(CHAT)
    assert lines[0].split()[0] == "0"
    assert "user" in lines[0]
    assert lines[0].endswith("What is in the file? …")
    assert lines[1].endswith('I look.  [read {"path":"a.txt"}]')
    assert "[result: line… 250.0 KB]" in lines[2]
    assert "\x1b" not in done.out
    assert "\\x1b[31mred" in lines[3]
    assert "checkpoint" in lines[4]
    assert lines[5].endswith("a text")
    assert lines[6].endswith("[1,2]")
    narrow = chat("log", "chat", COLUMNS="60").out.splitlines()
    assert all(len(line) <= 60 for line in narrow)


def test_ranges_and_grep(chat: Shell) -> None:
    """-n is the newest so many, --from and --to a range, --grep the items that hold a text."""

    def indices(*arguments: str) -> list[str]:
        return [line.split()[0] for line in chat("log", "chat", *arguments).out.splitlines()]

    assert indices("-n", "2") == ["5", "6"]
    assert indices("--from", "1", "--to", "3") == ["1", "2"]
    assert indices("--from", "5") == ["5", "6"]
    assert indices("--grep", "LOOK") == ["1"]
    assert indices("--grep", "e", "-n", "1") == ["5"]
    assert indices("-n", "0") == []
    assert chat("log", "chat", "-n", "some").code == 2
    assert chat("log", "nobody").code == 3


def test_the_log_for_a_program(chat: Shell) -> None:
    """Every item whole, with what is known of it."""
    found = chat("log", "chat", "--json").json
    assert (found["schema_version"], found["key"]) == (1, "chat")
    assert [row["value"] for row in found["items"]] == CHAT
    assert [row["id"] for row in found["items"]] == [f"m{n}" for n in range(len(CHAT))]
    assert {row["actor"] for row in found["items"]} == {"agent:main"}


def _change_the_log_alone(chat: Shell) -> None:
    """Commit revisions 2 to 5, which leave the fields as they are."""
    with Store(chat.store, actor="agent:main") as store:
        store.append("chat", ["more", "and more"])
        with store.edit("chat") as draft:
            draft.log.pop()
        with store.edit("chat") as draft:
            draft.log[0] = "another"
        with store.edit("chat") as draft:
            del draft.log[:3]
        store.patch("chat", {"status": "done"})


def test_a_history_shows_how_each_commit_changed_the_log(chat: Shell) -> None:
    """A commit that only appends items is a revision as well: a row without a change looked like an error."""
    _change_the_log_alone(chat)
    changed = [row.split("agent:main")[1].strip() for row in chat("history", "chat").out.splitlines()[1:]]
    assert changed == [
        "+status, [log: 7 items added]",
        "[log: 2 items added]",
        "[log: 1 item removed]",
        "[log: items replaced]",
        "[log: 3 items dropped]",
        "status",
    ]
    assert [row["log_length"] for row in chat("history", "chat", "--json").json["revisions"]] == [7, 9, 8, 8, 5, 5]


def test_inspect_history_shows_how_each_commit_changed_the_log(chat: Shell) -> None:
    _change_the_log_alone(chat)
    assert "  Log: 2 items added, 9 in all\n" in chat("inspect", "chat", "--history").out
    steps = chat("inspect", "chat", "--history", "--json").json["history"]
    assert [step["log"] for step in steps] == [
        {"from": 0, "to": 7, "dropped": 0},
        {"from": 7, "to": 9, "dropped": 0},
        {"from": 9, "to": 8, "dropped": 0},
        {"from": 8, "to": 8, "dropped": 0},
        {"from": 8, "to": 5, "dropped": 3},
        None,
    ]
    assert {step["actor"] for step in steps} == {"agent:main"}


def test_append_one_item_and_lines_from_a_pipe(shell: Shell) -> None:
    """All in one commit, with fields beside them; ids make it safe to run again."""
    done = shell("append", "chat", '{"role":"user","content":"hi"}', "--patch", "status=running")
    assert (done.code, "CREATED" in done.err) == (0, True)
    lines = '{"uuid":"u1","n":1}\n\n{"uuid":"u2","n":2}\n'
    for _ in range(2):
        assert shell("append", "chat", "-", "--id-field", "uuid", "--json", stdin=lines).json["rev"] == 2
    assert shell("append", "chat", "5", "--id", "five").code == 0
    with Store(shell.store) as store:
        session = store["chat"]
    assert session.log[:] == [{"role": "user", "content": "hi"}, {"uuid": "u1", "n": 1}, {"uuid": "u2", "n": 2}, 5]
    assert (session.log.ids(), session["status"]) == ([None, "u1", "u2", "five"], "running")


@pytest.mark.parametrize("inside", ["\u2028", "\u2029", "\x85"])
def test_append_splits_lines_at_line_feeds_alone(shell: Shell, inside: str) -> None:
    """Other characters that end a line of text may stand in a JSON string as they are; a CR before the LF is space."""
    done = shell("append", "chat", "-", stdin=f'{{"text":"a{inside}b"}}\r\n{{"n":2}}\r\n')
    assert done.code == 0, done.err
    with Store(shell.store) as store:
        assert store["chat"].log[:] == [{"text": f"a{inside}b"}, {"n": 2}]


def test_append_refuses_what_is_no_json(shell: Shell) -> None:
    """A usage error that names the line; nothing is made."""
    done = shell("append", "chat", "-", stdin='{"a":1}\nhello\n')
    assert (done.code, "line 2 is not JSON" in done.err) == (2, True)
    assert shell("append", "chat", "hello").code == 2
    assert shell("append", "chat", "1", "--no-create").code in (3, 10)
    assert not shell.store.exists() or shell("get", "chat").code == 3


@pytest.mark.parametrize("nothing", ["", "\n", " \r\n\n"])
def test_append_of_nothing_changes_and_makes_nothing(shell: Shell, nothing: str) -> None:
    """A pipe whose producer found nothing: no session, no store, and no patch either."""
    done = shell("append", "chat", "-", "--patch", "status=x", stdin=nothing)
    assert (done.code, done.out, "no item came" in done.err, shell.store.exists()) == (0, "", True, False)
    with Store(shell.store) as store:
        assert shell("append", "chat", "-", "--json", stdin=nothing).json["version"] == "absent"
        assert list(store) == []
        before = store.append("chat", [1])
        told = shell("append", "chat", "-", "--patch", "status=x", "--json", stdin=nothing).json
        assert (told["created"], told["changed"], told["version"]) == (False, False, before.version)
        assert store["chat"].version == before.version


@pytest.mark.parametrize("without", ['{"n":2}', '{"uuid":null}', '{"uuid":true}', '{"uuid":["u"]}', "2"])
def test_append_with_an_id_field_needs_it_in_every_item(shell: Shell, without: str) -> None:
    """An item without an id would come twice when the pipe is run again; all or nothing, and the line is named."""
    done = shell("append", "chat", "-", "--id-field", "uuid", stdin=f'{{"uuid":"u1"}}\n\n{without}\n{{"uuid":3}}\n')
    assert (done.code, "line 3" in done.err, "'uuid'" in done.err, shell.store.exists()) == (2, True, True, False)
    assert shell("append", "chat", "-", "--id-field", "uuid", stdin='{"uuid":"u1"}\n{"uuid":3}\n').code == 0
    with Store(shell.store) as store:
        assert store["chat"].log.ids() == ["u1", "3"]


def test_copy_and_rename(chat: Shell) -> None:
    """A branch, a new key, and the exit codes for what is not there or is there already."""
    assert chat("copy", "chat", "branch", "--stop", "2").code == 0
    assert chat("copy", "chat", "branch").code == 4
    assert chat("copy", "nobody", "x").code == 3
    assert chat("rename", "branch", "kept").code == 0
    assert chat("rename", "branch", "kept").code == 3
    assert chat("rename", "kept", "chat").code == 4
    assert chat("rename", "kept", "last", "--expect", "wrong").code == 4
    assert chat("rename", "kept", "last", "--json").json["was"] == "kept"
    with Store(chat.store) as store:
        assert store.log("last") == CHAT[:2]
        assert sorted(store) == ["chat", "last"]


def test_follow_prints_what_comes(chat: Shell) -> None:
    """Until it is interrupted: exit code 130."""
    command = [*COMMAND, "log", "chat", "-n", "1", "--follow", "--json", "--store", str(chat.store)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment())
    try:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["value"] == CHAT[-1]
        time.sleep(0.3)
        with Store(chat.store) as store:
            store.append("chat", ["later"])
        assert json.loads(process.stdout.readline())["value"] == "later"
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(20) == 130
    finally:
        process.kill()
        process.wait()
        process.stdout.close()  # type: ignore[union-attr]


def openclaw(shell: Shell) -> str:
    """Write a sessions.json with two transcripts beside it; return its path."""
    directory = shell.directory / "openclaw"
    directory.mkdir()
    rows = {
        "agent:main:main": {"sessionId": "s-1", "updatedAt": 1_763_800_000_000},
        "agent:main:other": {"sessionId": "s-2", "sessionFile": "/home/somebody/s-2-topic.jsonl"},
        "agent:main:none": {"sessionId": "../s-1"},
    }
    (directory / "sessions.json").write_text(json.dumps(rows))
    lines = [{"type": "session", "id": "s-1"}] + [
        {"type": "message", "id": f"m{n}", "timestamp": "2025-11-22T08:26:40.500Z", "message": message}
        for n, message in enumerate(CHAT[:3])
    ]
    (directory / "s-1.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (directory / "s-2-topic.jsonl").write_text('{"n":1}\n{"n":2}\n')
    return str(directory / "sessions.json")


def test_import_brings_transcripts_once(shell: Shell) -> None:
    """Fields and log of a session are one commit, with the times of the source; a second run adds what is new."""
    path = openclaw(shell)
    assert shell("import", "openclaw", path, "--dry-run", "--json").json["items"] == 6
    assert not shell.store.exists()
    assert shell("import", "openclaw", path, "--json").json["items"] == 6
    with Store(shell.store) as store:
        main, other, none = (store[f"agent:main:{name}"] for name in ("main", "other", "none"))
        assert (main.rev, len(main.log), main.log[1]["id"], main.log.find("m2")) == (1, 4, "m0", 3)
        assert main.log.entries(1, 2)[0].at.timestamp() == 1_763_800_000.5
        assert (other.log[:], other.log.ids()) == ([{"n": 1}, {"n": 2}], ["line:1", "line:2"])
        assert none.log == []
        assert main.updated_at.timestamp() == 1_763_800_000
    with open(path.replace("sessions.json", "s-2-topic.jsonl"), "a") as file:
        file.write('{"n":3}\n')
    again = shell("import", "openclaw", path, "--json").json
    assert (again["items"], again["unchanged"]) == (1, 3)
    assert shell("import", "openclaw", path, "--json").json["items"] == 0
    with Store(shell.store) as store:
        assert store.log("agent:main:other") == [{"n": 1}, {"n": 2}, {"n": 3}]


def test_import_refuses_a_broken_transcript_and_can_leave_it_out(shell: Shell) -> None:
    """The line is named and nothing is imported; --no-transcripts imports the rest."""
    path = openclaw(shell)
    with open(path.replace("sessions.json", "s-1.jsonl"), "a") as file:
        file.write('{"half": ')
    done = shell("import", "openclaw", path)
    assert (done.code, "s-1.jsonl, line 5" in done.err, "--no-transcripts" in done.err) == (1, True, True)
    assert not shell.store.exists()
    alone = shell("import", "openclaw", path, "--no-transcripts")
    assert (alone.code, alone.err) == (0, ""), "nothing is said of transcripts that nobody asked for"
    with Store(shell.store) as store:
        assert len(store["agent:main:main"].log) == 0


def test_export_writes_what_import_reads(shell: Shell) -> None:
    """Sessions and transcripts there and back again."""
    shell("import", "openclaw", openclaw(shell))
    target = shell.directory / "out"
    target.mkdir()
    assert shell("export", "openclaw", target / "sessions.json").code == 0
    assert sorted(path.name for path in target.iterdir())[-2:] == ["s-2-topic.jsonl", "sessions.json"]
    assert (target / "s-1.jsonl").read_text().count("\n") == 4
    assert shell("export", "openclaw", target / "alone.json", "--no-transcripts").code == 0
    with Store(shell.store) as store:
        before = {key: store.log(key) for key in store}
        for key in before:
            store.delete(key)
    assert shell("import", "openclaw", target / "sessions.json").code == 0
    with Store(shell.store) as store:
        assert {key: store.log(key) for key in store} == before


def _there_and_back(shell: Shell, *more: str) -> dict[str, list[tuple[str | None, object]]]:
    """Export, delete every session, import; return ids and items by key."""
    target = shell.directory / "out" / "sessions.json"
    target.parent.mkdir(exist_ok=True)
    done = shell("export", "openclaw", target, *more)
    assert done.code == 0, done.err
    with Store(shell.store) as store:
        for key in list(store):
            store.delete(key)
        done = shell("import", "openclaw", target)
        assert done.code == 0, done.err
        return {key: [(item.id, item.value) for item in store[key].log.entries()] for key in store}


@pytest.mark.parametrize(
    "fields",
    [
        {"sessionId": "s-1"},
        {"sessionId": "s-1", "sessionFile": "/home/somebody/topic.jsonl"},
        {},
        {"sessionId": "../s-1"},
        {"sessionId": 5, "sessionFile": "sessions.json"},
        {"sessionId": None},
        {"sessionFile": "x.jsonl.ids"},
    ],
    ids=str,
)
def test_an_import_finds_what_an_export_wrote(shell: Shell, fields: dict[str, object]) -> None:
    """Whatever the entry says of its transcript's name, and ids that were given with ids= come back too."""
    with Store(shell.store) as store:
        store.append("agent:one", [{"n": 1}, "two", {"id": "own"}, 4], fields, ids=["a", "b", "own", "line:1"])
        store.append("agent:two", [{"n": 9}], ids=["z"])
        store.create("agent:three", {"sessionId": "s-3"})
    found = _there_and_back(shell)
    assert found == {
        "agent:one": [("a", {"n": 1}), ("b", "two"), ("own", {"id": "own"}), ("line:1", 4)],
        "agent:two": [("z", {"n": 9})],
        "agent:three": [],
    }
    assert _there_and_back(shell, "--force") == found
    with Store(shell.store) as store:
        with store.edit("agent:one") as draft:
            del draft.log[:2]
        store.delete("agent:two")
        store.append("agent:two", [{"n": 10}])
    again = _there_and_back(shell, "--force")
    assert again["agent:one"] == found["agent:one"][2:]
    assert again["agent:two"] == [("line:1", {"n": 10})], "an id of an earlier export"


def test_items_that_hold_one_id_are_all_kept(shell: Shell) -> None:
    """Two lines may hold the same `id`; a second import still adds nothing."""
    items = [{"id": "x", "n": 1}, {"id": "x", "n": 2}, {"id": "x#2"}, {"id": "line:2"}, {"n": 5}, {"id": ""}]
    with Store(shell.store) as store:
        store.append("a", items, {"sessionId": "s-1"})
        found = _there_and_back(shell)["a"]
        assert [value for _, value in found] == items
        assert [name for name, _ in found] == ["x", "x#2", "x#2#2", "line:2", "line:5", ""]
        assert shell("import", "openclaw", shell.directory / "out", "--json").json["items"] == 0


def test_a_damaged_file_of_ids_is_named(shell: Shell) -> None:
    """Its items would come a second time, under other ids."""
    with Store(shell.store) as store:
        store.append("a", [1], {"sessionId": "s-1"}, ids=["one"])
    assert shell("export", "openclaw", shell.directory / "sessions.json").code == 0
    (shell.directory / "s-1.jsonl.ids").write_text('{"n":1,\n')
    done = shell("import", "openclaw", shell.directory / "sessions.json")
    assert (done.code, "s-1.jsonl.ids, line 1" in done.err) == (1, True)


def test_lines_that_no_log_can_hold_are_skipped_on_demand(shell: Shell) -> None:
    """Each is named with its file and line, and kept; the others are imported, and half a pair is repaired."""
    path = openclaw(shell)
    transcript = path.replace("sessions.json", "s-1.jsonl")
    with open(transcript, "ab") as file:
        file.write(b'{"half": \n{"id":"ok"}\n{"bad":"\\ud83e"}\n\xff\n[NaN]\n{"a":1,"a":2}\n{"id":"end"}\n')
    refused = shell("import", "openclaw", path)
    assert (refused.code, f"{transcript}, line 5" in refused.err, "--skip-invalid" in refused.err) == (1, True, True)
    assert not shell.store.exists()
    done = shell("import", "openclaw", path, "--skip-invalid", "--json").json
    assert [(one["key"], one["path"], one["line"]) for one in done["skipped"]] == [
        ("agent:main:main", transcript, number) for number in (5, 7, 8, 9, 10)
    ]
    with open(done["skipped_file"]) as file:
        kept = [json.loads(line) for line in file]
    assert [one["line"] for one in kept] == [5, 7, 8, 9, 10]
    assert (kept[0]["text"], kept[1]["entry"], kept[4]["entry"]) == ('{"half": ', {"bad": "\ud83e"}, {"a": 2})
    with Store(shell.store) as store:
        assert [item.get("id") for item in store.log("agent:main:main", -2)] == ["ok", "end"]
        store.delete("agent:main:main")
    told = shell("import", "openclaw", path, "--skip-invalid", "--replace-invalid")
    assert (told.code, "4 lines of transcripts skipped" in told.out) == (0, True)
    assert f"{transcript}, line 8: byte 0 is not UTF-8" in told.err
    assert f"replaced by U+FFFD in agent:main:main: {transcript}, line 7['bad']" in told.err
    assert "4 skipped lines kept in" in told.err
    with Store(shell.store) as store:
        assert store.log("agent:main:main", -2, -1) == [{"bad": "\ufffd"}]


def test_a_transcript_may_be_longer_than_one_append(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything was checked before: no session in the middle may be refused for the length of its transcript."""
    lines = [transcripts.Line(b'{"n":%d,"text":"%b"}' % (n, b"x" * 1_000), f"line:{n}", 0) for n in range(300)]
    monkeypatch.setattr(codec, "ENTRY_BYTES_MAX", 100_000)
    with Store(root) as store:
        assert transcripts.bring(store, "k", {"a": 1}, lines, at=None)
        assert len(store.log("k")) == 300


def test_a_conflict_leaves_the_log_alone_too(shell: Shell) -> None:
    """A session that the store holds differently stays as it is: its log may have been rewound on purpose."""
    path = openclaw(shell)
    with Store(shell.store) as store:
        store.append("agent:main:main", ["mine"], {"status": "newer"})
        before = store["agent:main:main"].version
        assert shell("import", "openclaw", path).code == 4
        assert store["agent:main:main"].version == before
        assert shell("import", "openclaw", path, "--overwrite").code == 0
        assert len(store["agent:main:main"].log) == 5


@pytest.mark.parametrize("more", [(), ("--force",)])
def test_export_refuses_to_write_two_logs_to_one_file(shell: Shell, more: tuple[str, ...]) -> None:
    """A copy has its source's sessionId: while the logs are equal one file holds both, later no file is written."""
    with Store(shell.store) as store:
        store.append("a", [{"n": 1}], {"sessionId": "s-1"})
        store.copy("a", "b")
        target = shell.directory / "sessions.json"
        assert shell("export", "openclaw", target, *more).code == 0
        assert (shell.directory / "s-1.jsonl").read_text() == '{"n":1}\n'
        target.unlink()
        (shell.directory / "s-1.jsonl").unlink()
        store.append("b", [{"n": 2}])
        done = shell("export", "openclaw", target, *more)
        assert (done.code, "a and b" in done.err, "sessionId" in done.err) == (1, True, True)
        assert not list(shell.directory.glob("*.json*"))
        assert shell("export", "openclaw", target, "--no-transcripts").code == 0
        store.patch("b", {"sessionId": "s-2"})
        assert shell("export", "openclaw", target, "--force").code == 0
        assert (shell.directory / "s-2.jsonl").read_text() == '{"n":1}\n{"n":2}\n'


def test_export_refuses_to_lead_an_import_to_another_log(shell: Shell) -> None:
    """A branch without items has its source's sessionId: an import would give it the source's items."""
    with Store(shell.store) as store:
        store.append("a", [{"n": 1}], {"sessionId": "s-1"})
        store.copy("a", "b", stop=0)
        store.patch("b", {"sessionFile": "none.jsonl"})
    done = shell("export", "openclaw", shell.directory / "sessions.json")
    assert (done.code, "a and b" in done.err, (shell.directory / "sessions.json").exists()) == (1, True, False)


def test_inspect_shows_the_log(chat: Shell) -> None:
    """Length, bytes and the newest item, for people and for programs."""
    done = chat("inspect", "chat")
    assert "7 items" in done.out
    assert "newest" in done.out
    found = chat("inspect", "chat", "--json").json["log"]
    assert (found["length"], found["dropped"]) == (7, 0)
    assert found["bytes"] > 250_000
    assert found["newest_at"]


def test_a_list_for_programs_has_the_length_of_the_log(chat: Shell) -> None:
    [listed] = chat("list", "--json").json["sessions"]
    assert listed["log_length"] == len(CHAT)
