"""Documentation is tested as shipped: blocks run, links lead somewhere, examples are what the code makes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from shardstore import Store, errors
from shardstore._journal import replay as journal
from tests.support import disk
from tests.support.peer import REPOSITORY, environment

TOP = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")
PAGES = sorted([*(REPOSITORY / name for name in TOP), *(REPOSITORY / "docs").rglob("*.md")])
GUIDE = sorted((REPOSITORY / "docs" / "guide").glob("*.md"))
INTERNALS = REPOSITORY / "docs" / "internals"
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    """Return the fenced blocks of one language."""
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
    assert lines[0] == "1 4", "turns and revision after an update, a patch, an edit and an append"
    assert lines[1] == "[{'role': 'user', 'content': 'hi'}]"
    assert lines[2].startswith("agent:main:telegram:direct:42 20")
    assert lines[2].endswith(" m-2")
    assert "expected" in lines[3], "the Conflict of a stale session"
    assert disk.shards(tmp_path / "agents/main/sessions")


@pytest.mark.parametrize("page", GUIDE, ids=lambda page: page.name)
def test_the_python_blocks_of_the_guide_run(page: Path, tmp_path: Path) -> None:
    """A reader who pastes all blocks of one page, in order, into a file and runs it gets no error."""
    script = tmp_path / "pasted.py"
    script.write_text("\n".join(blocks(page.read_text(encoding="utf-8"), "python")), encoding="utf-8")
    outcome = subprocess.run(
        [sys.executable, "-W", "error", str(script)],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert outcome.returncode == 0, outcome.stderr
    if page.name == "getting-started.md":
        assert outcome.stdout.splitlines()[0] == "1 1", "turns and revision after the first update"
        assert "another writer was faster" in outcome.stdout


def test_the_commands_of_the_readme_exist() -> None:
    """Every `make` target and every `shardstore` command that the README and the guide show is one."""
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    guide = "\n".join(page.read_text(encoding="utf-8") for page in GUIDE)
    console = "\n".join(blocks(f"{README}\n{guide}", "console"))
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


def test_the_guide_says_what_to_do_about_every_error() -> None:
    """A reader who gets any error of the library finds its name in the table, with a next step beside it."""
    page = (REPOSITORY / "docs" / "guide" / "when-things-go-wrong.md").read_text(encoding="utf-8")
    told = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    named = {name for cell in told for name in re.findall(r"`(\w+)`", cell)}
    assert set(errors.__all__) - {"ShardStoreError"} - named == set()


RETIRED = "anchors?|attic|gates?|lighten|noter|parked|patience|rent|rooms?|surgery|tears?"
REFERENCE = (REPOSITORY / "docs" / "reference").glob("*.md")
IN_NEW_WORDS = sorted([*(REPOSITORY / name for name in TOP), *GUIDE, *REFERENCE, *INTERNALS.rglob("*.md")])


@pytest.mark.parametrize("page", IN_NEW_WORDS, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_the_pages_use_the_words_of_the_glossary(page: Path) -> None:
    """The words that the glossary replaced are gone, so a reader meets one word for each concept."""
    prose = re.sub(r"`[^`]*`", "", page.read_text(encoding="utf-8"))
    assert re.findall(rf"\b(?:{RETIRED})\b", prose, re.IGNORECASE) == []


def test_the_glossary_has_one_line_for_each_word() -> None:
    """The terms that the files engine puts on disk and the API names are defined, each once."""
    text = (INTERNALS / "architecture.md").read_text(encoding="utf-8").partition("## Glossary")[2]
    defined = [word.strip() for line in re.findall(r"^\| (.+?) \|", text, re.MULTILINE) for word in line.split(",")]
    wanted = "session key fields shard journal record revision version incarnation index catalog mark seal archive quarantine"
    assert len(defined) == len(set(defined))
    assert set(wanted.split()) | {"change file"} <= set(defined)


def test_every_decision_stands_in_the_list_under_its_number() -> None:
    """The list of decisions links to each page, and each page begins with the number of its file."""
    folder = INTERNALS / "decisions"
    pages = sorted(folder.glob("[0-9]*.md"))
    listed = re.findall(r"^\| (\d+) \| \[(.+)\]\((.+)\) \|$", (folder / "README.md").read_text(), re.MULTILINE)
    assert [f"{int(page.name[:4])}" for page in pages] == [number for number, _, _ in listed]
    assert [page.name for page in pages] == [link for _, _, link in listed]
    heads = [page.read_text(encoding="utf-8").splitlines()[0] for page in pages]
    assert heads == [f"# {number}. {title}" for number, title, _ in listed]


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
    links = [link for link in LINK.findall(page.read_text(encoding="utf-8")) if "://" not in link]
    targets = {link: (page.parent / link).resolve() for link in links}
    assert [link for link, target in targets.items() if not target.exists()] == []
    assert [link for link, target in targets.items() if not target.is_relative_to(REPOSITORY.resolve())] == []


def anchors(page: Path) -> set[str]:
    """Return the fragments that a page's headings give, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_links_into_a_page_lead_to_a_heading(page: Path) -> None:
    """The part of a link behind `#` is a heading of the page it leads to."""
    links = re.findall(r"\]\(([^)#\s]*)#([^)\s]+)\)", page.read_text(encoding="utf-8"))
    missing = [
        f"{path}#{part}"
        for path, part in links
        if "://" not in path and part not in anchors(page.parent / path if path else page)
    ]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_files_named_in_the_text_exist(page: Path) -> None:
    """Every path into the repository that a page names in code type is there."""
    named = re.findall(r"`((?:shardstore|cli|tests|docs|bench)/[\w./-]+\.(?:py|md))`", page.read_text(encoding="utf-8"))
    assert [name for name in named if not (REPOSITORY / name).exists()] == []


def test_the_bench_target_writes_where_the_pages_are() -> None:
    """The page, the README and the pictures that `make bench` writes to are those that exist."""
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    written = dict(re.findall(r"--(markdown|readme|plots) (\S+)", makefile))
    assert set(written) == {"markdown", "readme", "plots"}
    assert "<!-- measured: begin" in (REPOSITORY / written["markdown"]).read_text(encoding="utf-8")
    assert "<!-- benchmarks: begin" in (REPOSITORY / written["readme"]).read_text(encoding="utf-8")
    assert list((REPOSITORY / written["plots"]).glob("*.png"))


@pytest.mark.parametrize("folder", ["bench", "cli", "shardstore", "tests"])
def test_pages_named_in_the_sources_exist(folder: str) -> None:
    """A docstring or comment that points to a page points to one that is there."""
    sources = (REPOSITORY / folder).rglob("*.py")
    named = {name for path in sources for name in re.findall(r"\bdocs/[\w/-]+\.md", path.read_text(encoding="utf-8"))}
    assert [name for name in sorted(named) if not (REPOSITORY / name).exists()] == []


def _example() -> tuple[bytes, str]:
    text = (INTERNALS / "format.md").read_text(encoding="utf-8")
    found = [block for block in blocks(text, "jsonl") if block.startswith('{"crc":')]
    assert found, "no worked example in docs/internals/format.md"
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


def test_the_version_on_the_format_page_is_that_of_the_example() -> None:
    """The page builds the version from the incarnation, the revision and the crc of the last record."""
    data, text = _example()
    records = [json.loads(line) for line in data.splitlines()]
    assert f"`{records[0]['id']}.{records[-1]['rev']}-{records[-1]['crc']}`" in text


def test_a_second_reader_agrees_on_the_example() -> None:
    """A reader written from the page, sharing no code with the store, finds the same entry; every crc holds."""
    data, text = _example()
    entry = re.search(r"the entry is `(\{.*?\})`", text)
    assert entry is not None
    assert disk.state(data) == json.loads(entry[1])


def test_the_format_page_names_every_member_of_a_record() -> None:
    """What a store writes has no member that the page does not list."""
    _, text = _example()
    from shardstore._journal.record import next_record, whole_record
    from shardstore._model import ABSENT, Change

    changes = [Change({"a": b"1"}, []), Change({"b": b"2"}, ["a"]), Change({}, [], delete=True)]
    state, written = ABSENT, set[str]()
    for change in changes:
        line, state = next_record(state, change, "k", "me", durable=True)
        written |= json.loads(line).keys()
        if state.exists:
            written |= json.loads(whole_record(state)).keys()
    assert written == {
        "crc",
        "rev",
        "at",
        "by",
        "durable",
        "id",
        "key",
        "created",
        "tag",
        "put",
        "set",
        "unset",
        "delete",
    }
    for name in written:
        assert f"`{name}`" in text


def test_the_marker_on_the_format_page_is_a_marker(root: Path) -> None:
    """The page's marker has the members that a new store's marker has."""
    from shardstore import Store

    Store(root).close()
    written = json.loads((root / "shardstore.json").read_text())
    text = (INTERNALS / "format.md").read_text(encoding="utf-8")
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
    texts = {str(path): LINK.sub("", path.read_text(encoding="utf-8")) for path in files}  # links have their own test
    assert [path for path, text in texts.items() if suspicious.search(text)] == []


def test_the_loop_for_long_programs_outlives_an_outage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The step of watch.md keeps its token while a server is away, and lists anew where a token expired."""
    page = (REPOSITORY / "docs" / "guide" / "watch.md").read_text(encoding="utf-8")
    code = [block for block in blocks(page, "python") if "def mirror" in block or "def step" in block]
    assert len(code) == 2
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("time.sleep", lambda _: None)
    with Store(tmp_path / "sessions") as store:
        store.create("agent:web", {})
        names: dict[str, Any] = {"store": store}
        exec("\n".join(code), names)  # what a reader pastes
        token, known = names["token"], names["known"]
        assert sorted(known) == ["agent:cron"]

        class Away:
            def watch(self, *_: object, **__: object) -> None:
                raise errors.StoreUnavailable("postgresql://host/db", "refused")

            token = watch

        assert names["step"](Away(), known, token) == token
        assert names["step"](Away(), known, None) is None
        assert names["step"](store, known, "an old token") is None
