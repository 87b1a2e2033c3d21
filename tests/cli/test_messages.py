"""What a person is told to do next works; programs get the same as JSON."""

from __future__ import annotations

import errno
import json
import os
import re
from pathlib import Path

import pytest
from shardstore_cli import failure, progress
from shardstore_cli.exits import CommandError

from shardstore import Store, errors
from tests.cli.mutated import mutated
from tests.cli.shell import Shell

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a store to another user")


@pytest.mark.parametrize(
    ("words", "code", "kind"),
    [
        (("get", "nobody"), 3, "no-session"),
        (("get", "agent:ops:hook", "nofield"), 1, "error"),
        (("set", "agent:ops:hook", "{}", "--expect", "x"), 4, "conflict"),
        (("restore", "agent:ops:hook"), 4, "conflict"),
        (("list", "--where", "nonsense"), 2, "usage"),
        (("list", "--no-such-option"), 2, "usage"),
        (("get",), 2, "usage"),
        (("no-such-command",), 2, "usage"),
        (("prune", "--older-than", "30"), 2, "usage"),
        (("import", "openclaw", "/nowhere"), 1, "error"),
        (("delete", "nobody"), 3, "no-session"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_an_error_with_json_is_json(busy: Shell, words: tuple[str, ...], code: int, kind: str) -> None:
    done = busy(*words, "--json")
    assert done.code == code
    told = json.loads(done.err.splitlines()[-1])
    assert told["schema_version"] == 1
    assert (told["error"]["code"], told["error"]["kind"]) == (code, kind)
    assert told["error"]["message"] and set(told["error"]) == {"code", "kind", "message", "next"}


def test_no_store_with_json_is_json(shell: Shell) -> None:
    told = json.loads(shell("list", "--json").err)
    assert (told["error"]["code"], told["error"]["kind"]) == (10, "no-store")
    assert str(shell.store) in told["error"]["message"]


@pytest.mark.damages("flips a byte")
def test_damage_with_json_is_json(busy: Shell) -> None:
    _damage(busy)
    for words in (("get", "agent:main:main"), ("verify",)):
        told = json.loads(busy(*words, "--json").err)
        assert (told["error"]["code"], told["error"]["kind"]) == (5, "damage")


def test_every_exit_code_has_its_kind() -> None:
    assert len(set(failure.KINDS.values())) == len(failure.KINDS)
    assert set(failure.KINDS) == {1, 2, 3, 4, 5, 10, 11, 130}


def test_a_full_disk_is_told_what_frees_space(busy: Shell) -> None:
    """Compacting writes files before it frees any; what frees space at once is the archive."""
    told = failure.describe(errors.StoreFull(errno.ENOSPC, "No space left on device", str(busy.store)))
    advised = re.findall(r"`shardstore ([^`]+)`", told.hint)
    assert advised[0].startswith("archive purge")
    assert busy("prune", "--where", "status=done").code == 0
    assert busy(*advised[0].split()).code == 0
    for words in advised[1:]:
        assert busy(*words.split()).code == 0
    assert "--all" in told.hint and "removed 1 file" in busy("archive", "purge", "--all").out


@pytest.mark.parametrize(("place", "advice"), [("/srv/s", "mount"), ("postgresql://h/db", "server that takes writes")])
def test_where_nothing_can_be_written_it_says_what_to_do(place: str, advice: str) -> None:
    told = failure.describe(errors.StoreIOError(errno.EROFS, "Read-only file system", place))
    assert advice in told.hint


def test_a_file_in_the_place_of_a_store_is_named_as_one(shell: Shell) -> None:
    file = shell.directory / "sessions.json"
    file.write_text('{"agent:main:main": {}}', encoding="utf-8")
    for named in (file, file / "below", file / "far" / "below"):
        for words in (("list",), ("set", "k", "{}"), ("patch", "k", "a=1"), ("verify",), ("import", "openclaw", file)):
            done = shell(*words, "--store", named, named=False)
            assert done.code == 10, (words, named)
            assert f"Error: {file} is a file, not a store\n" in done.err
            assert "a store is a directory" in done.err
    assert file.read_text(encoding="utf-8") == '{"agent:main:main": {}}'
    advised = re.search(r"`shardstore (import openclaw \S+) --store", shell("list", "--store", file, named=False).err)
    assert advised is not None
    assert shell(*advised[1].split()).code == 0
    assert shell("get", "agent:main:main").code == 0


@needs_root
def test_the_store_of_another_user_is_told_whose_it_is(busy: Shell) -> None:
    """Taking rights away from others, which was advised once, changes nothing about the owner."""
    os.chown(busy.store, 12345, 12345)
    try:
        done = busy("get", "agent:ops:hook")
        assert done.code == 1
        assert "belongs to user 12345, not to user root" in done.err
        assert "run it as user 12345" in done.err and "chmod" not in done.err
        assert busy("--allow-shared", "get", "agent:ops:hook").code == 0  # what else is advised works
    finally:
        os.chown(busy.store, 0, 0)


def test_a_store_that_is_open_to_others_is_closed_by_what_is_advised(busy: Shell) -> None:
    busy.store.chmod(0o770)
    told = busy("get", "agent:ops:hook").err
    advised = re.search(r"`chmod go-w ([^`]+)`", told)
    assert advised is not None and Path(advised[1]) == busy.store
    busy.store.chmod(0o770 & ~0o022)
    assert busy("get", "agent:ops:hook").code == 0
    busy.store.chmod(0o700)


@needs_root
def test_a_refused_path_says_whose_it_is(tmp_path: Path) -> None:
    os.chown(tmp_path, 12345, 12345)
    told = failure.describe(errors.StoreIOError(errno.EACCES, "Permission denied", f"{tmp_path}/s/shardstore.json"))
    assert "user 12345" in told.hint
    assert (
        failure.describe(PermissionError(errno.EACCES, "Permission denied", "/")).hint
        == "check who may read and write there"
    )


def _damage(shell: Shell, slug: str = "agent-main-main") -> None:
    (path,) = (shell.store / "shards").rglob(f"{slug}~*")
    raw = bytearray(path.read_bytes())
    raw[40] ^= 1
    path.write_bytes(raw)
    with Store(shell.store) as store:
        store.verify()  # bytes that went bad by themselves are told to the index by nobody else


def _told_of_damage(shell: Shell) -> list[bool]:
    """Return for each way to list whether it warned that sessions were left out."""
    told = []
    for words in (("list",), ("list", "--count"), ("inspect", "--prefix", "agent:")):
        text, data = shell(*words), shell(*words, "--json")
        warned = [line for line in text.err.splitlines() if line.startswith("Warning: ")]
        told.append(text.code == 0 and "2 damaged sessions left out" in "".join(warned) and len(warned) == 1)
        told.append(data.code == 0 and data.json["damaged"] == 2)
    return told


@pytest.mark.damages("flips bytes")
def test_a_list_says_what_it_leaves_out(busy: Shell) -> None:
    assert busy("list").err == ""
    assert busy("list", "--json").json["damaged"] == 0
    _damage(busy)
    assert "Warning: 1 damaged session left out" in busy("list").err
    _damage(busy, "agent-ops-hook")
    assert all(_told_of_damage(busy))
    assert len(busy("list", "--json").json["sessions"]) == 1
    silent = mutated(busy, ("shardstore_cli.damage:tell", "lambda original: lambda store: 0"))
    assert not any(_told_of_damage(silent))


def test_a_failed_doctor_blames_the_disk_only_where_it_may() -> None:
    from shardstore_cli import cmd_doctor

    from shardstore._files.maintenance.doctor import Check, DoctorReport

    def advice(status: str) -> str:
        first = Check("the file system is local", status, "x")  # type: ignore[arg-type]
        return cmd_doctor._advice(
            DoctorReport(Path("/"), "x", (first, Check("syncing works", "fail", "No space left")))
        )

    assert "local disk" in advice("warn")
    assert "local disk" not in advice("pass") and "space" in advice("pass")


def test_progress_in_a_pipe_is_a_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with progress.bar("Importing", "again") as shown:
        for done in range(2000):
            shown(done, 2000)
            now[0] += 0.01
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in lines] == ["Importing"] * 3
    assert re.fullmatch(r"Importing: \d{3} of 2,000", lines[0])


def test_an_interrupted_bar_tells_where_it_was() -> None:
    with pytest.raises(CommandError) as caught, progress.bar("Importing", "again") as shown:
        shown(3, 10)
        raise KeyboardInterrupt
    assert (caught.value.message, caught.value.hint, caught.value.code) == ("interrupted; 3 of 10 done", "again", 130)


def test_warnings_of_the_library_are_one_line(busy: Shell) -> None:
    """Python shows a warning with a line of code, which helps nobody at a prompt."""
    warns = "lambda original: lambda *a, **k: (__import__('warnings').warn('field \\x9bx is in no session'), original(*a, **k))[1]"
    done = mutated(busy, ("shardstore._verbs.listing:Listing.list", warns))("list")
    assert done.err == "Warning: field \\x9bx is in no session\n"
