"""set, patch, delete and restore: what they change, what they refuse, what they say."""

from __future__ import annotations

from shardstore import Store
from tests.cli.shell import Shell

KEY = "agent:main:main"


def test_set_makes_store_and_session(shell: Shell) -> None:
    done = shell("set", KEY, '{"b": 1, "a": null}', "--json", "--actor", "me")
    assert (done.code, done.err) == (0, "")
    assert (done.json["schema_version"], done.json["key"], done.json["rev"]) == (1, KEY, 1)
    with Store(shell.store, create=False) as store:
        assert (list(store[KEY].data.items()), store[KEY].actor) == ([("b", 1), ("a", None)], "me")


def test_set_reads_stdin_and_tells_the_version_on_stderr(shell: Shell) -> None:
    done = shell("set", KEY, "-", stdin='{"text": "ä🏡"}\n')
    assert (done.code, done.out) == (0, "")
    with Store(shell.store, create=False) as store:
        assert store[KEY].data == {"text": "ä🏡"}
        assert store[KEY].version in done.err
        assert store[KEY].actor.startswith("cli:")


def test_set_with_an_old_version_is_a_conflict(shell: Shell) -> None:
    with Store(shell.store) as store:
        old = store.create(KEY, {"n": 1}).version
        now = store.patch(KEY, {"n": 2}).version
    assert shell("patch", KEY, "n=3", "--expect", old).code == 4
    refused = shell("set", KEY, '{"n": 3}', "--expect", old)
    assert (refused.code, refused.out) == (4, "")
    assert now in refused.err
    assert shell("set", KEY, '{"n": 3}', "--expect", now).code == 0
    with Store(shell.store) as store:
        assert store[KEY].data == {"n": 3}


def test_set_refuses_what_is_no_entry_and_makes_no_store(shell: Shell) -> None:
    for entry in ("[1]", '{"a": 1', '{"a": 1, "a": 2}', '{"a": NaN}'):
        refused = shell("set", KEY, entry)
        assert (refused.code, refused.out) == (2, "")
    assert not shell.store.exists()


def test_patch_touches_only_the_named_fields(shell: Shell) -> None:
    with Store(shell.store) as store:
        store.create(KEY, {"a": 1, "b": 2, "unknown": {"x": [1]}})
    assert shell("patch", KEY, "a=5", 'c={"d": "e"}', "note=hello world", "--unset", "b").code == 0
    with Store(shell.store) as store:
        expected = {"a": 5, "unknown": {"x": [1]}, "c": {"d": "e"}, "note": "hello world"}
        assert list(store[KEY].data.items()) == list(expected.items())


def test_patch_makes_nothing_when_told_so(shell: Shell) -> None:
    assert shell("patch", KEY, "a=1", "--no-create").code == 10
    assert not shell.store.exists()
    assert shell("patch", KEY, "a=1").code == 0
    assert shell("patch", "agent:other", "a=1", "--no-create").code == 3
    assert shell("patch", KEY).code == 2


def test_patch_with_a_whole_entry_is_told_how(shell: Shell) -> None:
    refused = shell("patch", KEY, '{"status":"x"}')
    assert (refused.code, refused.out) == (2, "")
    told = " ".join(refused.err.split())
    assert "for example status=x; to replace the whole entry use `set`" in told
    assert not shell.store.exists()


def test_delete_names_what_was_there_and_what_was_not(shell: Shell) -> None:
    with Store(shell.store) as store:
        version = store.create(KEY, {"n": 1}).version
        store.create("b", {})
    dry = shell("delete", KEY, "b", "nobody", "--dry-run", "--json")
    assert (dry.code, dry.json) == (
        3,
        {"schema_version": 1, "dry_run": True, "deleted": [KEY, "b"], "missing": ["nobody"]},
    )
    assert shell("delete", KEY, "b", "--expect", version).code == 2
    assert shell("delete", KEY, "--expect", "other").code == 4
    done = shell("delete", KEY, "nobody")
    assert (done.code, done.out) == (3, f"deleted {KEY} for good\n")
    assert "nobody" in done.err
    with Store(shell.store) as store:
        assert list(store) == ["b"]


def test_restore_brings_back_what_compact_archived(shell: Shell) -> None:
    with Store(shell.store) as store:
        store.create(KEY, {"n": 1})
        store.prune(where={"n": 1})
        assert KEY not in store
    assert shell("restore", KEY).code == 0
    assert shell("restore", KEY).code == 4
    nobody = shell("restore", "nobody")
    assert nobody.code == 3
    assert "`shardstore archive list`" in nobody.err
    with Store(shell.store) as store:
        assert store[KEY].data == {"n": 1}
        store.prune(where={"n": 1})
        store.create(KEY, {"n": 2})
    assert shell("restore", KEY).code == 4


def test_a_receipt_says_that_a_session_was_created(shell: Shell) -> None:
    """A mistyped key makes a session; whoever typed it must see that."""
    for verb, word in (("patch", "n=1"), ("set", '{"n": 1}')):
        key = f"agent:{verb}"
        made = shell(verb, key, word)
        assert (made.code, made.out) == (0, "")
        assert f"{key}: CREATED" in made.err
        same = shell(verb, key, word)
        assert "CREATED" not in same.err
        assert "nothing changed" in same.err
        told = shell(verb, f"{key}:json", word, "--json").json
        assert (told["created"], told["changed"], told["rev"]) == (True, True, 1)
        told = shell(verb, f"{key}:json", word, "--json").json
        assert (told["created"], told["changed"]) == (False, False)


def test_set_makes_nothing_when_told_so(shell: Shell) -> None:
    assert shell("set", KEY, "{}", "--no-create").code == 10
    assert not shell.store.exists()
    assert shell("set", KEY, "{}").code == 0
    refused = shell("set", "agent:mian", "{}", "--no-create")
    assert (refused.code, refused.out) == (3, "")
    assert shell("set", KEY, '{"n": 2}', "--no-create", "--json").json["rev"] == 2


def test_a_command_that_makes_a_store_says_so(shell: Shell) -> None:
    """A mistyped --store makes a store; whoever typed it must see that, once."""
    made, again = shell("set", KEY, "{}"), shell("set", KEY, "{}")
    assert f"a new store: {shell.store}" in made.err
    assert "a new store" not in again.err


def test_an_empty_store_option_is_refused(shell: Shell) -> None:
    """A shell variable that is not set does not send the command to the store that SHARDSTORE_PATH names."""
    shell("set", KEY, '{"n": 1}')
    for words in (("--store", "", "get", KEY), ("get", KEY, "--store", "")):
        refused = shell(*words, named=False, SHARDSTORE_PATH=str(shell.store))
        assert (refused.code, refused.out) == (2, "")
        assert "Pass --store PATH" in " ".join(refused.err.split())
