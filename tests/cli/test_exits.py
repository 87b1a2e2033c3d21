"""Exit codes and messages: one or two lines that say what to do next, never a traceback."""

from __future__ import annotations

import errno
import signal
import subprocess

import pytest
from shardstore_cli import exits, failure

from shardstore import Store, errors
from tests.cli.shell import COMMAND, Shell, environment, it_waits


@pytest.mark.parametrize(
    "arguments",
    [
        ("get", "x"),
        ("delete", "x"),
        ("list",),
        ("history", "x"),
        ("inspect",),
        ("compact",),
        ("verify",),
        ("restore", "x"),
        ("export", "openclaw"),
        ("doctor",),
    ],
    ids=" ".join,
)
def test_without_a_store_nothing_is_made(shell: Shell, arguments: tuple[str, ...]) -> None:
    done = shell(*arguments)
    assert (done.code, done.out) == (10, "")
    assert str(shell.store) in done.err
    assert not shell.store.exists()


def test_no_store_named_is_a_usage_error(shell: Shell) -> None:
    done = shell("list", named=False)
    assert done.code == 2
    assert "SHARDSTORE_PATH" in done.err
    assert shell.fresh("--version", named=False).out.startswith("shardstore ")


def test_a_mistyped_command_is_guessed(shell: Shell) -> None:
    done = shell("inspct")
    assert done.code == 2
    assert "'inspect'" in done.err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.SessionNotFound("k\x1b[2J"), 3),
        (errors.SessionExists("k"), 4),
        (errors.Conflict("k", "1", None), 4),
        (errors.LockTimeout("k", 1.0, None), 11),
        (errors.CorruptShard("/p", 3, "why", "k"), 5),
        (errors.InvalidKey("bad"), 2),
        (errors.InvalidEntry("entry", "bad"), 2),
        (errors.InvalidQuery("bad"), 2),
        (errors.StoreNotFound("/p"), 10),
        (errors.UnsafeStore("/p", "may be written to by others"), 1),
        (errors.UnsupportedFormat("newer"), 1),
        (errors.UnsupportedFileSystem(errno.ENOLCK, "no locks"), 1),
        (errors.StoreIOError(errno.EIO, "input/output error", "/p"), 1),
        (errors.StoreFull(errno.ENOSPC, "full", "/p"), 1),
        (errors.CommitUncertain(errno.EIO, "sync failed", "/p"), 1),
        (PermissionError(errno.EACCES, "Permission denied", "/p"), 1),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_every_error_has_its_code_and_one_printable_line(error: Exception, code: int) -> None:
    told = failure.describe(error)
    assert told.code == code
    assert told.message.isprintable() and told.hint.isprintable()
    assert told.message


@pytest.mark.damages("flips a byte")
def test_a_damaged_session_is_reported_and_left_alone(busy: Shell) -> None:
    (path,) = (busy.store / "shards").rglob("agent-main-main~*")
    raw = bytearray(path.read_bytes())
    raw[40] ^= 1
    path.write_bytes(raw)
    for arguments in (("get", "agent:main:main"), ("patch", "agent:main:main", "a=1"), ("export", "openclaw")):
        done = busy(*arguments)
        assert done.code == 5
        assert "verify --repair" in done.err
    assert path.read_bytes() == raw
    assert busy("get", "agent:ops:hook").code == 0


def test_a_store_that_others_may_write_to_is_refused(busy: Shell) -> None:
    busy.store.chmod(0o777)
    refused = busy("get", "agent:ops:hook")
    assert refused.code == 1
    assert "--allow-shared" in refused.err
    assert busy("--allow-shared", "get", "agent:ops:hook").code == 0
    busy.store.chmod(0o700)


def test_an_interrupt_leaves_with_130_and_a_sound_store(shell: Shell) -> None:
    """Ctrl-C while waiting for a lock: no traceback, nothing written."""
    with Store(shell.store) as store, store.edit("k") as draft:
        draft["n"] = 1
        process = subprocess.Popen(
            [*COMMAND, "patch", "k", "n=2", "--lock-timeout", "30", "--store", str(shell.store)],
            stderr=subprocess.PIPE,
            env=environment(),
            cwd=shell.directory,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a run in the background ignores it
        )
        assert process.stderr is not None
        assert it_waits(process.pid)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert b"Traceback" not in err
    with Store(shell.store) as store:
        assert store["k"].data == {"n": 1}


def test_a_reader_that_leaves_is_no_error(shell: Shell) -> None:
    """`shardstore list | head -1` ends without a word."""
    with Store(shell.store, durability="relaxed") as store:
        for n in range(300):
            store.create(f"agent:main:{n}", {"text": "x" * 200, "n": n})
    for arguments in (("list", "--json"), ("list",), ("export", "openclaw"), ("--help",)):
        command = [*COMMAND, "--store", str(shell.store), *arguments]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment())
        assert process.stdout is not None
        process.stdout.close()
        _, err = process.communicate(timeout=30)
        assert err == b""
        assert process.returncode in (exits.PIPE_CLOSED, 1)
