"""Nothing that steers a terminal, turns text round or hides in it reaches a person; JSON reads back equal."""

from __future__ import annotations

import json
import sys
import unicodedata

import pytest
from shardstore_cli import escape

from shardstore import Store
from tests.cli.mutated import mutated
from tests.cli.shell import Shell

C1 = "\x80\x85\x9b\x9f"
BIDI = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
HIDDEN = "\u00ad\u034f\u115f\u1160\u17b4\u180e\u200b\u200c\u200d\u2028\u2029\u2060\u2800\u3164\ufe0f\ufeff\uffa0\U000e0041\U000e0100"
HOSTILE = f"\x1b]0;pwn\x07\x7f\t\n\r{C1}{BIDI}{HIDDEN}"
KEY = f"key{HOSTILE}end"
NO_KEY = f"absent{HOSTILE}"


def unseen(text: str) -> set[str]:
    """Find what no person sees; line ends are layout."""
    return {f"{ord(c):04x}" for c in text if c != "\n" and (not c.isprintable() or c in HIDDEN)}


@pytest.mark.parametrize("hostile", f"\x1b\x07\x7f\t\n\r{C1}{BIDI}{HIDDEN}", ids=lambda c: f"{ord(c):04x}")
def test_every_unseen_character_is_escaped(hostile: str) -> None:
    shown = escape.text(f"a{hostile}b")
    assert shown.isascii() and shown.isprintable() and shown[1] == "\\"
    raw = json.dumps({f"k{hostile}": [hostile]}, ensure_ascii=False, indent=2).encode()
    told = escape.json_bytes(raw).decode()
    assert not unseen(told)
    assert json.loads(told) == json.loads(raw)


def test_what_is_seen_stays_as_it_is() -> None:
    seen = "agent:main:ä🏡 日本語 עברית العربية ₿½—…"
    assert escape.text(seen) == seen
    assert escape.json_text(json.dumps(seen, ensure_ascii=False)) == json.dumps(seen, ensure_ascii=False)


def test_no_character_of_a_hidden_category_is_left_out() -> None:
    """Whatever Unicode calls a control, a format, a line end or a surrogate character, of the whole range."""
    hidden = {"Cc", "Cf", "Cs", "Zl", "Zp"}
    left = [
        n for n in range(sys.maxunicode + 1) if unicodedata.category(chr(n)) in hidden and escape.text(chr(n)) == chr(n)
    ]
    assert left == []


COMMANDS = (
    ("list",),
    ("list", "--json"),
    ("inspect",),
    ("inspect", "--json"),
    ("inspect", KEY),
    ("inspect", KEY, "--history"),
    ("inspect", KEY, "--history", "--json"),
    ("get", KEY),
    ("get", KEY, "--json"),
    ("get", KEY, f"field{HOSTILE}"),
    ("get", KEY, NO_KEY),
    ("history", KEY),
    ("history", KEY, "--json"),
    ("export", "openclaw"),
    ("get", NO_KEY),
    ("get", NO_KEY, "--json"),
    ("delete", NO_KEY),
    ("restore", NO_KEY),
    ("set", KEY, '{"n": 9}', "--expect", f"no{HOSTILE}"),
    ("patch", NO_KEY, "--no-create", "a=1"),
    ("patch", KEY, f"a={C1}{BIDI}"),
    ("patch", KEY, f"b={C1}{BIDI}", "--json"),
    ("patch", KEY, f"no assignment{HOSTILE}"),
    ("append", KEY, f'"{C1}{BIDI}"', "--id", f"id{C1}{BIDI}"),
    ("append", KEY, f"no JSON{HOSTILE}"),
    ("append", NO_KEY, "--no-create", "1"),
    ("log", KEY),
    ("log", KEY, "--json"),
    ("log", NO_KEY),
    ("copy", KEY, f"copy{HOSTILE}"),
    ("copy", NO_KEY, "other"),
    ("rename", f"copy{HOSTILE}", f"renamed{HOSTILE}", "--json"),
    ("rename", NO_KEY, "other"),
    ("list", "--where", f"no condition{HOSTILE}"),
    ("list", "--where", f"no condition{HOSTILE}", "--json"),
    ("list", "--limit", HOSTILE),
    ("list", f"--no-option{HOSTILE}"),
    (f"no-command{HOSTILE}",),
    ("doctor", NO_KEY),
    ("import", "openclaw", NO_KEY),
    ("prune", "--where", f"field{HOSTILE} exists", "--dry-run"),
    ("prune", "--where", f"field{HOSTILE} exists"),
    ("archive", "list"),
    ("archive", "list", "--json"),
    ("archive", "purge", "--all"),
)


def _say(shell: Shell, *words: str, **variables: str) -> set[str]:
    done = shell(*words, **variables)
    return unseen(done.out) | unseen(done.err)


def test_no_command_prints_what_nobody_sees(shell: Shell) -> None:
    with Store(shell.store, actor=f"by{HOSTILE}") as store:
        store.create(KEY, {f"field{HOSTILE}": f"v{HOSTILE}", "n": 1})
        store.patch(KEY, {"n": 2, f"new{HOSTILE}": [1, HOSTILE]})
    raw = {words: found for words in COMMANDS if (found := _say(shell, *words))}
    assert raw == {}


@pytest.mark.parametrize("columns", ["40", "80", "200"])
def test_no_width_changes_that(shell: Shell, columns: str) -> None:
    with Store(shell.store, actor=f"by{HOSTILE}") as store:
        store.create(KEY, {f"field{HOSTILE}": f"v{HOSTILE}"})
    for words in (("list",), ("history", KEY), ("inspect", KEY), ("inspect",)):
        assert _say(shell, *words, COLUMNS=columns) == set()


@pytest.mark.damages("flips a byte")
def test_damage_is_told_in_what_is_seen(shell: Shell) -> None:
    with Store(shell.store) as store:
        store.create(KEY, {"n": 1})
        store.patch(KEY, {"n": 2})
    (path,) = (shell.store / "shards").rglob("*.jsonl")
    raw = bytearray(path.read_bytes())
    raw[40] ^= 1
    path.write_bytes(raw)
    for words in (
        ("get", KEY),
        ("get", KEY, "--json"),
        ("verify",),
        ("verify", "--json"),
        ("list",),
        ("verify", "--repair"),
    ):
        assert _say(shell, *words) == set(), words
    assert _say(shell, "archive", "list") == set()


@pytest.mark.parametrize(
    ("target", "make", "words"),
    [
        ("shardstore_cli.show:text", "lambda original: lambda raw: raw", ("list",)),
        ("shardstore_cli.escape:text", "lambda original: lambda raw: raw", ("get", NO_KEY)),
        ("shardstore_cli.escape:lines", "lambda original: lambda raw: raw", (f"no-command{HIDDEN}",)),
        ("shardstore_cli.escape:json_text", "lambda original: lambda raw: raw", ("get", KEY)),
        ("shardstore_cli.escape:json_bytes", "lambda original: lambda raw: raw", ("list", "--json")),
        ("shardstore_cli.escape:json_bytes", "lambda original: lambda raw: raw", ("export", "openclaw")),
    ],
)
def test_without_the_escapes_it_would_be_seen(shell: Shell, target: str, make: str, words: tuple[str, ...]) -> None:
    with Store(shell.store) as store:
        store.create(KEY, {"v": HOSTILE})
    assert _say(mutated(shell, (target, make)), *words) != set()
