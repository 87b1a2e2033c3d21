"""get, list, history and inspect: text for people, JSON for programs, nothing changed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from shardstore import Store
from tests.cli.conftest import LONG
from tests.cli.shell import Shell


def test_get_prints_the_entry_or_one_field(busy: Shell) -> None:
    assert busy("get", "agent:main:main").json == {"status": "running", "totalTokens": 7, "origin": {"to": "ä🏡"}}
    assert busy("get", "agent:main:main", "origin").json == {"to": "ä🏡"}
    told = busy("get", "agent:main:main", "totalTokens", "--json").json
    assert (told["schema_version"], told["key"], told["rev"], told["actor"], told["data"]) == (
        1,
        "agent:main:main",
        3,
        "agent:main",
        7,
    )
    with Store(busy.store) as store:
        assert told["version"] == store["agent:main:main"].version


def test_get_of_what_is_not_there_says_what_is(busy: Shell) -> None:
    session = busy("get", "agent:main:nobody")
    assert (session.code, session.out) == (3, "")
    assert session.err.splitlines()[0] == "Error: no session 'agent:main:nobody'"
    field = busy("get", "agent:ops:hook", "model")
    assert (field.code, field.out) == (1, "")
    assert "status" in field.err


def test_list_for_programs(busy: Shell) -> None:
    told = busy("list", "--json", "--sort", "key").json
    assert told["schema_version"] == 1
    assert [session["key"] for session in told["sessions"]] == [LONG, "agent:main:main", "agent:ops:hook"]
    main = told["sessions"][1]
    assert main["rev"] == 3
    assert main["fields"]["totalTokens"] == 7
    assert main["updated_at"].endswith("Z")
    assert main["size"] > 20


def test_list_selects_sorts_and_pages(busy: Shell) -> None:
    assert [
        s["key"] for s in busy("list", "--json", "--where", "totalTokens>=6", "--sort", "-size").json["sessions"]
    ] == [LONG, "agent:main:main"]
    assert [
        s["key"]
        for s in busy(
            "list", "--json", "--prefix", "agent:main:", "--order-by", "key", "--limit", "1", "--offset", "1"
        ).json["sessions"]
    ] == ["agent:main:main"]
    assert busy("list", "--count", "--where", "status in done,failed").out == "2\n"
    assert busy("list", "--count", "--json", "--where", "totalTokens missing").json == {
        "schema_version": 1,
        "count": 1,
        "damaged": 0,
    }


def test_list_goes_on_behind_a_cursor(busy: Shell) -> None:
    first = busy("list", "--json", "--sort", "-size", "--limit", "1").json["sessions"]
    rest = busy("list", "--json", "--sort", "-size", "--after", first[0]["cursor"]).json["sessions"]
    assert [session["key"] for session in first + rest] == [LONG, "agent:main:main", "agent:ops:hook"]
    assert busy("list", "--after", first[0]["cursor"]).code == 2
    assert busy("list", "--after", "nonsense").code == 2


def test_list_shows_the_fields_asked_for(busy: Shell) -> None:
    lines = busy("list", "--sort", "key", "--fields", "status,none").out.splitlines()
    assert lines[0].split() == ["KEY", "UPDATED", "SIZE", "REV", "STATUS", "NONE"]
    assert '"running"' in lines[2]
    told = busy("list", "--json", "--fields", "totalTokens").json["sessions"]
    assert all(set(session["fields"]) <= {"totalTokens"} for session in told)


def test_list_counts_by_the_values_of_a_field(busy: Shell) -> None:
    told = busy("list", "--json", "--group-by", "totalTokens").json
    assert told["field"] == "totalTokens"
    assert sum(group["count"] for group in told["groups"]) == 3
    assert "value" not in told["groups"][-1], "those without the field come last"
    assert "(none)" in busy("list", "--group-by", "totalTokens").out


def test_a_field_that_no_session_has_is_named(busy: Shell) -> None:
    listed = busy("list", "--where", "staus=running")
    assert listed.code == 0
    assert "Warning: where: no session in this store has a field 'staus'" in listed.err
    sorted_ = busy("list", "--sort", "-totalTokns")
    assert (sorted_.code, len(sorted_.out.splitlines())) == (0, 4)
    assert "Warning: order_by: no session in this store has a field 'totalTokns'" in sorted_.err


def test_a_list_says_that_it_left_damaged_sessions_out(busy: Shell) -> None:
    busy("list")
    path = next((busy.store / "shards").glob("*/agent-ops-hook~*.jsonl"))
    path.write_bytes(b"x" * 50 + b"\n" + path.read_bytes())
    busy("verify")
    listed = busy("list")
    assert "Warning: 1 damaged session left out" in listed.err
    assert len(listed.out.splitlines()) == 3
    busy("verify", "--repair")


def test_reindex_chooses_the_fields(busy: Shell) -> None:
    assert busy("reindex", "status", "--json").json == {"schema_version": 1, "indexed": ["status"]}
    with Store(busy.store, indexed=("status",)) as store:
        assert store.count(where={"status": "running"}) == 1
    assert busy("reindex").code == 2
    assert busy("reindex", "--none").code == 0
    with Store(busy.store, indexed=()) as store:
        assert len(store) == 3


def test_list_in_a_pipe_is_one_line_a_session(busy: Shell) -> None:
    """So that grep, cut and wc work, however long the key is."""
    lines = busy("list", "--sort", "key").out.splitlines()
    assert lines[0].split() == ["KEY", "UPDATED", "SIZE", "REV"]
    assert [line.split()[0] for line in lines[1:]] == [LONG, "agent:main:main", "agent:ops:hook"]


@pytest.mark.parametrize("columns", [120, 80, 40])
def test_a_key_stays_on_one_line_at_every_width(busy: Shell, columns: int) -> None:
    """A person copies it; what is broken over two lines comes back with a line end, or with spaces, inside."""
    lines = busy("list", COLUMNS=str(columns)).out.splitlines()
    assert sum(LONG in line for line in lines) == 1
    assert [line for line in lines if len(line) > columns] == ([] if columns > len(LONG) else [LONG])


def test_history_names_author_and_fields(busy: Shell) -> None:
    text = busy("history", "agent:main:main").out.splitlines()
    assert len(text) == 4
    assert "+status, +totalTokens, +origin" in text[1]
    assert text[3].split()[0] == "3"
    assert text[3].split()[-2:] == ["agent:main", "totalTokens"]
    told = busy("history", "agent:main:main", "--json").json
    assert [(r["rev"], r["data"]["totalTokens"]) for r in told["revisions"]] == [(1, 5), (2, 6), (3, 7)]
    assert busy("history", "nobody").code == 3


def test_inspect_sums_up_the_store(busy: Shell) -> None:
    busy("list")
    text = busy("inspect", COLUMNS="80").out
    for expected in (
        "Sessions  3",
        "none known; `shardstore verify`",
        "none held",
        "3 biggest sessions",
        "most revised",
    ):
        assert expected in text
    assert "preallocated space not counted" in busy("inspect").out
    told = busy("inspect", "--json").json
    assert told["schema_version"] == 1
    assert told["sessions"] == 3
    assert [s["key"] for s in told["biggest"]] == [LONG, "agent:main:main", "agent:ops:hook"]
    assert told["most_revised"][0]["key"] == "agent:main:main"
    assert told["bytes_live"] > 3000
    assert (told["damaged"], told["locks"]) == ([], [])


def test_inspect_says_when_there_is_no_index(busy: Shell) -> None:
    """It makes none, for it changes nothing; it says what does."""
    busy("list")
    assert busy("inspect", "--json").json["index_unusable"] is None
    shutil.rmtree(busy.store / "index")
    assert "every session was read; `shardstore list` rebuilds it" in " ".join(busy("inspect").out.split())
    assert busy("inspect", "--json").json["index_unusable"] == "there is no index"
    assert not (busy.store / "index").exists()


def test_inspect_shows_one_session(busy: Shell) -> None:
    text = busy("inspect", "agent:main:main", COLUMNS="40").out
    with Store(busy.store) as store:
        version = store["agent:main:main"].version
    for expected in ("Revision", "Version", version, "by", "Lock", "free", "totalTokens", "ä🏡"):
        assert expected in text
    told = busy("inspect", "agent:main:main", "--json").json
    assert told["data"]["totalTokens"] == 7
    assert told["lock"] is None
    assert Path(told["path"]).stat().st_size == told["file_size"]
    assert told["size"] == len(json.dumps(told["data"], ensure_ascii=False, separators=(",", ":")).encode())


def test_inspect_history_shows_who_changed_what(busy: Shell) -> None:
    text = busy("inspect", "agent:main:main", "--history").out
    assert "by agent:main" in text
    assert "~ totalTokens: 6 -> 7" in text
    steps = busy("inspect", "agent:main:main", "--history", "--json").json["history"]
    assert steps[2]["changes"] == [{"field": "totalTokens", "change": "changed", "from": 6, "to": 7}]


def test_inspect_selects_by_age_and_size(busy: Shell) -> None:
    told = busy("inspect", "--larger-than", "1KB", "--active", "2h", "--json").json
    assert (told["matching"], [s["key"] for s in told["sessions"]]) == (1, [LONG])
    assert busy("inspect", "--older-than", "30d", "--json").json["matching"] == 0
    limited = busy("inspect", "--prefix", "agent:", "--limit", "1")
    assert len(limited.out.splitlines()) == 2
    assert "1 of 3 matching" in limited.err


def test_inspect_refuses_what_makes_no_sense(busy: Shell) -> None:
    assert busy("inspect", "agent:main:main", "--where", "a=1").code == 2
    assert busy("inspect", "--history").code == 2


@pytest.mark.skipif(not Path("/proc/locks").exists(), reason="only Linux tells who holds a lock")
def test_inspect_names_who_holds_a_lock(busy: Shell) -> None:
    holder = (
        "import sys\n"
        "from shardstore import Store\n"
        "with Store(sys.argv[1]).edit('agent:main:main'):\n"
        "    print('held', flush=True); sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", holder, busy.store], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        assert process.stdout.readline() == b"held\n"
        (lock,) = busy("inspect", "--json").json["locks"]
        assert (lock["key"], lock["pid"]) == ("agent:main:main", process.pid)
        assert "python" in lock["command"]
        assert f"held by {process.pid}" in busy("inspect", "agent:main:main").out
        refused = busy("patch", "agent:main:main", "a=1", "--lock-timeout", "0.1")
        assert refused.code == 11
        assert str(process.pid) in refused.err
    finally:
        process.stdin.close()
        assert process.wait(30) == 0
        process.stdout.close()


def test_inspect_changes_no_byte_and_works_on_a_read_only_copy(busy: Shell) -> None:
    before = _fingerprint(busy.store)
    directories = [path for path in [busy.store, *busy.store.rglob("*")] if path.is_dir()]
    for path in directories:
        path.chmod(0o500)
    try:
        assert busy("inspect", "--json").json["sessions"] == 3
        assert busy("inspect", LONG).code == 0
    finally:
        for path in directories:
            path.chmod(0o700)
    assert _fingerprint(busy.store) == before


def _fingerprint(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for path in root.rglob("*")
    }


def test_an_empty_store_is_shown_as_one(shell: Shell) -> None:
    Store(shell.store).close()
    assert "Sessions  0" in shell("inspect").out
    listed = shell("list")
    assert (listed.code, listed.out, listed.err) == (0, "", "no session matches\n")
    assert shell("list", "--json").json == {"schema_version": 1, "damaged": 0, "sessions": []}


def test_a_key_that_steers_terminals_is_shown_escaped(shell: Shell) -> None:
    key = "agent:\x1b[2Jmain:[bold]:smile:\nx"
    with Store(shell.store) as store:
        store.create(key, {"note": "\x1b]0;owned\x07", "[red]": 1})
    for told in (shell("list"), shell("list", COLUMNS="80"), shell("inspect", key, COLUMNS="80")):
        assert told.code == 0
        assert "\x1b" not in told.out
        assert "[bold]:smile:" in told.out.replace("\n", "").replace(" ", "")
    assert shell("list", "--json").json["sessions"][0]["key"] == key


def test_output_survives_a_terminal_that_knows_ascii_only(busy: Shell) -> None:
    told = busy.fresh("inspect", "agent:main:main", PYTHONIOENCODING="ascii", COLUMNS="80")
    assert told.code == 0
    assert "\\U0001f3e1" in told.out
    assert json.loads(busy.fresh("get", "agent:main:main", PYTHONIOENCODING="ascii").out)["origin"] == {"to": "ä🏡"}


def test_the_environment_names_the_store(busy: Shell) -> None:
    assert busy("get", "agent:ops:hook", named=False, SHARDSTORE_PATH=str(busy.store)).code == 0
    before = busy("--store", busy.store, "get", "agent:ops:hook", named=False, SHARDSTORE_PATH="/nowhere")
    assert before.json == {"status": "failed"}
    assert os.listdir(busy.directory) == ["store"]


def test_stats_are_numbers(busy: Shell) -> None:
    told = busy("stats", "--json").json
    assert (told["sessions"], told["damaged"], told["locks_held"]) == (3, [], 0)
    assert "sessions" in busy("stats").out
    lines = busy("stats", "--prometheus").out.splitlines()
    assert f'shardstore_sessions{{store="{busy.store}"}} 3' in lines
    assert len(lines) == 33
    for n in range(0, 33, 3):
        name = lines[n].split()[2]
        assert lines[n].startswith(f"# HELP {name} ")
        assert lines[n + 1] == f"# TYPE {name} gauge"
        assert lines[n + 2].startswith(f'{name}{{store="')
        assert lines[n + 2].rsplit(" ", 1)[1].isdigit()
    assert busy("stats", "--prometheus", "--json").code == 2


def test_an_earlier_revision_is_printed_and_put_back(busy: Shell) -> None:
    busy("set", "k", '{"n": 1}')
    busy("patch", "k", "n=2")
    assert busy("get", "k", "n", "--rev", "1").out == "1\n"
    assert busy("get", "k", "--rev", "9", "--json").code == 3
    assert busy("get", "k", "--rev", "first").code == 2
    done = busy("revert", "k", "1", "--json")
    assert (done.code, done.json["rev"], done.json["changed"]) == (0, 3, True)
    assert busy("get", "k", "n").out == "1\n"
    assert "nothing changed" in busy("revert", "k", "1").err
    assert busy("revert", "k", "9").code == 3
    assert "history KEY" in busy("revert", "k", "9").err
    assert busy("revert", "nobody", "1").code == 3
    assert busy("revert", "k", "2", "--expect", "x").code == 4
