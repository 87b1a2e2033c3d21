"""Documentation is tested as shipped: blocks run, links lead somewhere, examples are what the code makes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from shardstore._journal import replay as journal
from tests.support import disk
from tests.support.peer import REPOSITORY, environment

PAGES = sorted([REPOSITORY / "README.md", REPOSITORY / "CHANGELOG.md", *(REPOSITORY / "docs").rglob("*.md")])
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    """Give the fenced blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def test_the_python_blocks_of_the_readme_run(tmp_path: Path) -> None:
    """A reader who pastes the blocks, in order, into a file and runs it gets no error, and what the comments say."""
    script = "\n".join(blocks(README, "python"))
    assert "store.update(" in script
    outcome = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert outcome.returncode == 0, outcome.stderr
    lines = outcome.stdout.splitlines()
    assert lines[0] == "1 3", "turns and revision after an update, a patch and an edit"
    assert lines[1].startswith("agent:main:telegram:direct:42 20")
    assert lines[1].endswith(" m-2")
    assert "expected" in lines[2], "the Conflict of a stale session"
    assert disk.shards(tmp_path / "agents/main/sessions")


def test_the_commands_of_the_readme_exist() -> None:
    """Every `make` target and every `shardstore` command that the README shows is one."""
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    console = "\n".join(blocks(README, "console"))
    targets = re.findall(r"^\$ make (\w+)", console, re.MULTILINE)
    assert targets[:2] == ["demo", "test"]
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"make {target}"
    commands = set(re.findall(r"^\$ shardstore (\w+)", console, re.MULTILINE))
    also = re.search(r"Also `([\w ]+)`", README)
    assert also is not None
    commands |= set(also[1].split())
    assert {"inspect", "compact", "import", "export", "get", "verify"} <= commands
    help_text = subprocess.run(
        [sys.executable, "-m", "shardstore_cli", "--help"],
        env=environment(TERMINAL_WIDTH="200"),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert help_text.returncode == 0, help_text.stderr
    assert [name for name in sorted(commands) if not re.search(rf"\b{name}\b", help_text.stdout)] == []


def test_the_exit_codes_of_the_readme_are_the_documented_ones() -> None:
    """The list of exit codes is whole."""
    for code in (
        "0 ok",
        "1 error",
        "2 usage",
        "3 no such session",
        "4 conflict",
        "5 corruption",
        "10 no store",
        "11 lock timeout",
        "130 interrupted",
    ):
        assert code in README


def test_what_is_not_promised_stands_in_the_first_screen() -> None:
    """Advisory locks, local file systems, one key at a time, no Windows: within the first 20 lines."""
    first = "\n".join(README.splitlines()[:20])
    for promise in ("Not promised", "advisory", "network file", "two keys", "Windows"):
        assert promise in first


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link of every page names a file of this repository."""
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text)
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_files_named_in_the_text_exist(page: Path) -> None:
    """Every path into the repository that a page names in code type is there."""
    named = re.findall(r"`((?:shardstore|cli|tests|docs|bench)/[\w./-]+\.(?:py|md))`", page.read_text(encoding="utf-8"))
    assert [name for name in named if not (REPOSITORY / name).exists()] == []


def _example() -> tuple[bytes, str]:
    text = (REPOSITORY / "docs" / "format.md").read_text(encoding="utf-8")
    found = [block for block in blocks(text, "jsonl") if block.startswith('{"crc":')]
    assert found, "no worked example in docs/format.md"
    return found[0].encode(), text


def test_the_example_of_the_format_page_is_a_journal() -> None:
    """The store reads the page's example, byte for byte, as the page says that it does."""
    data, text = _example()
    found = journal.replay(data)
    assert found.damage is None
    assert found.tail == b""
    after = re.search(r"the entry is `(\{.*?\})` at rev (\d+)", text)
    assert after is not None
    state = found.journal.state
    assert state.rev == int(after[2])
    assert state.fields is not None
    assert {name: json.loads(raw) for name, raw in state.fields.items()} == json.loads(after[1])


def test_a_second_reader_agrees_on_the_example() -> None:
    """A reader written from the page, sharing no code with the store, finds the same entry; every crc holds."""
    data, text = _example()
    entry = re.search(r"the entry is `(\{.*?\})`", text)
    assert entry is not None
    assert disk.state(data) == json.loads(entry[1])


def test_the_format_page_names_every_member_of_a_record() -> None:
    """What a store writes has no member that the page does not list, and the other way round."""
    _, text = _example()
    from shardstore._journal.record import next_record, whole_record
    from shardstore._model import ABSENT, Change

    named: set[str] = set()
    state = ABSENT
    for change in (
        Change({"a": b"1", "b": b"1"}, [], whole=True),
        Change({"a": b"2"}, ["b"]),
        Change({}, [], delete=True),
    ):
        line, state = next_record(state, change, "k", "me", durable=True)
        named |= json.loads(line).keys()
        if state.exists:
            named |= json.loads(whole_record(state)).keys()
    rows = set(re.findall(r"(?m)^\| (?:one of )?((?:`\w+`[ ,·]*)+)", text))
    assert named == {name for row in rows for name in re.findall(r"`(\w+)`", row)}


def test_the_marker_on_the_format_page_is_a_marker(root: Path) -> None:
    """The page's marker has the members that a new store's marker has."""
    from shardstore import Store

    Store(root).close()
    written = json.loads((root / "shardstore.json").read_text())
    text = (REPOSITORY / "docs" / "format.md").read_text(encoding="utf-8")
    shown = [json.loads(block) for block in blocks(text, "json") if '"shardstore"' in block]
    assert shown
    assert written.keys() == shown[0].keys()
    assert written["shardstore"].keys() == shown[0]["shardstore"].keys()


def test_nothing_names_a_path_of_somebodys_machine() -> None:
    """No page and no source names somebody's home directory or a sibling of the repository."""
    suspicious = re.compile(r"/root/|/home/\w+/|/Users/\w+/|[\"' (]\.\./\w")
    files = [
        *PAGES,
        *(REPOSITORY / "shardstore").rglob("*.py"),
        *(REPOSITORY / "cli").rglob("*.py"),
        REPOSITORY / "Makefile",
        REPOSITORY / "pyproject.toml",
    ]
    assert [str(path) for path in files if suspicious.search(path.read_text(encoding="utf-8"))] == []
