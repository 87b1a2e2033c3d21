"""Ctrl-C: 130 from the first import on, no traceback, and what is done, what is left, how to go on."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from shardstore import Store
from tests.cli.shell import COMMAND, Done, Shell, environment, it_waits

# Sends SIGINT to itself when a module is looked for; `{patch}` may take a protection out first.
_AT_IMPORT = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
import shardstore_cli.main
{patch}
class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == {name!r}:
            os.kill(os.getpid(), signal.SIGINT)
            for _ in range(1000):
                pass
sys.meta_path.insert(0, Interrupting())
sys.argv = ["shardstore", "list", "--store", {store!r}]
shardstore_cli.main.main()
"""
_UNPROTECTED = "shardstore_cli.main.interrupts.leave_at_once = lambda: None"


def _python(code: str, **variables: str) -> Done:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment(**variables), timeout=60
    )
    return Done(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize(
    "name",
    [
        "shardstore_cli.app",
        "typer",
        "typer.core",
        "shardstore_cli.options",
        "shardstore_cli.cmd_list",
        "shardstore",
        "shardstore.store",
    ],
)
def test_an_interrupt_during_an_import_is_130_in_silence(busy: Shell, name: str) -> None:
    done = _python(_AT_IMPORT.format(name=name, store=str(busy.store), patch=""))
    assert done.code == 130
    assert done.err in ("", "Error: interrupted\n")


def test_without_either_protection_the_import_ends_in_a_traceback(busy: Shell) -> None:
    plain = f"{_UNPROTECTED}; shardstore_cli.main.main = shardstore_cli.main._run"
    done = _python(_AT_IMPORT.format(name="typer", store=str(busy.store), patch=plain))
    assert "Traceback" in done.err


def test_an_interrupt_in_a_finalizer_during_an_import_is_130_in_silence(busy: Shell) -> None:
    """Python's own imports end in weakref callbacks, where a KeyboardInterrupt is printed and dropped."""
    inside = _AT_IMPORT.replace(
        "class Interrupting:",
        "class Dying:\n    __del__ = lambda self: signal.raise_signal(signal.SIGINT)\nclass Interrupting:",
    )
    inside = inside.replace("os.kill(os.getpid(), signal.SIGINT)", "Dying()")
    done = _python(inside.format(name="typer", store=str(busy.store), patch=""))
    assert (done.code, done.err) == (130, "")
    plain = _python(inside.format(name="typer", store=str(busy.store), patch=_UNPROTECTED))
    assert "Exception ignored" in plain.err and plain.code == 0


_IN_DEL = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
import shardstore_cli.main
from shardstore_cli import cmd_list
{patch}
class Dying:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(1000):
            pass
def slow(*args, **kwargs):
    import time
    Dying()
    time.sleep({wait})
    raise AssertionError("the interrupt was dropped")
cmd_list.open_existing = slow
sys.argv = ["shardstore", "list", "--store", {store!r}]
shardstore_cli.main.main()
"""


def test_an_interrupt_inside_a_finalizer_is_not_lost(busy: Shell) -> None:
    """Python prints the traceback of a KeyboardInterrupt in `__del__`, drops it, and the command goes on."""
    done = _python(_IN_DEL.format(store=str(busy.store), patch="", wait=30))
    assert (done.code, done.err) == (130, "Error: interrupted\n")
    plain = _python(
        _IN_DEL.format(
            store=str(busy.store),
            patch="shardstore_cli.main.interrupts._raise_again = sys.__unraisablehook__",
            wait=1,
        )
    )
    assert plain.code != 130 and "Traceback" in plain.err


def test_an_interrupt_in_a_finalizer_at_the_very_end_kills_nobody() -> None:
    """The timer that raises it again must not outlive its handler: SIGALRM ends a process that has none."""
    code = (
        "import signal, time\n"
        "import shardstore_cli.main as m\n"
        "from shardstore_cli import app\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "class Dying: __del__ = lambda self: signal.raise_signal(signal.SIGINT)\n"
        "def run():\n"
        "    Dying()\n"
        "    return 0\n"
        "app.run = run\n"
        "try: m.main()\n"
        "except SystemExit as done: code = done.code\n"
        "time.sleep(0.1)\n"
        "raise SystemExit(code)\n"
    )
    assert _python(code) == Done(0, "", "")


def test_an_interrupt_that_is_ignored_stays_ignored(busy: Shell) -> None:
    """A shell starts background jobs so; Ctrl-C at its prompt must not end them."""
    code = _AT_IMPORT.format(name="typer", store=str(busy.store), patch="signal.signal(signal.SIGINT, signal.SIG_IGN)")
    done = _python(code)
    assert (done.code, done.err) == (0, "")


def test_the_caller_gets_its_handlers_back(busy: Shell) -> None:
    code = (
        "import signal, sys, threading\n"
        "from shardstore_cli.main import main\n"
        "def mine(*_): pass\n"
        "signal.signal(signal.SIGINT, mine)\n"
        "before = signal.getsignal(signal.SIGALRM), sys.unraisablehook\n"
        f"sys.argv = ['shardstore', 'list', '--store', {str(busy.store)!r}]\n"
        "def run():\n"
        "    try: main()\n"
        "    except SystemExit as done: assert done.code == 0, done.code\n"
        "run()\n"
        "assert signal.getsignal(signal.SIGINT) is mine\n"
        "assert (signal.getsignal(signal.SIGALRM), sys.unraisablehook) == before\n"
        "thread = threading.Thread(target=run); thread.start(); thread.join()\n"
    )
    done = _python(code)
    assert (done.code, done.err) == (0, "")


def _interrupt(shell: Shell, words: list[str], when: Callable[[int], bool]) -> Done:
    """Send SIGINT to a command as soon as `when` holds of its process."""
    process = subprocess.Popen(
        [*COMMAND, *words, "--store", str(shell.store)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
        cwd=shell.directory,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        deadline = time.monotonic() + 60
        while not when(process.pid):
            assert process.poll() is None and time.monotonic() < deadline, process.communicate()
            time.sleep(0.001)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    return Done(process.returncode, out.decode(), err.decode())


def _source(shell: Shell, count: int) -> Path:
    path = shell.directory / "sessions.json"
    entries = {f"agent:main:{n}": {"sessionId": str(n), "text": "x" * 300} for n in range(count)}
    path.write_text(json.dumps(entries), encoding="utf-8")
    return path


def test_an_interrupted_import_says_what_is_left_and_can_be_repeated(shell: Shell) -> None:
    source = _source(shell, 4000)
    done = _interrupt(
        shell, ["import", "openclaw", str(source)], lambda _: len(list(shell.store.glob("shards/*/*.jsonl"))) > 20
    )
    assert (done.code, done.out) == (130, "")
    first, following = done.err.splitlines()
    count = int(first.removeprefix("Error: interrupted; ").split(" of ")[0].replace(",", ""))
    assert 0 < count < 4000 and first.endswith(" of 4,000 done")
    assert "run the same command again for the rest" in following
    with Store(shell.store) as store:
        assert count <= len(store) <= count + 1
    again = shell("import", "openclaw", source, "--json").json
    assert (again["created"] + again["unchanged"], again["conflicts"]) == (4000, [])
    assert count <= again["unchanged"] <= count + 1


def test_an_interrupted_import_tells_programs_too(shell: Shell) -> None:
    source = _source(shell, 4000)
    done = _interrupt(
        shell,
        ["import", "openclaw", str(source), "--json"],
        lambda _: len(list(shell.store.glob("shards/*/*.jsonl"))) > 5,
    )
    told = json.loads(done.err)
    assert (done.code, told["schema_version"], told["error"]["kind"], told["error"]["code"]) == (
        130,
        1,
        "interrupted",
        130,
    )


def test_an_interrupted_delete_says_how_far_it_came(busy: Shell) -> None:
    words = ["delete", "agent:main:main", "agent:ops:hook", "--lock-timeout", "60"]
    gone: list[float] = []

    def waits_for_the_second(_pid: int) -> bool:
        if store.get("agent:main:main") is None:
            gone.append(time.monotonic())
        return bool(gone) and time.monotonic() > gone[0] + 1

    with Store(busy.store) as store, store.edit("agent:ops:hook"):
        done = _interrupt(busy, words, waits_for_the_second)
    assert done.code == 130
    assert done.err.startswith("Error: interrupted; 1 of 2 sessions done\nNext: run it again")


def test_an_interrupted_write_says_where_to_look(busy: Shell) -> None:
    with Store(busy.store) as store, store.edit("agent:ops:hook"):
        done = _interrupt(busy, ["patch", "agent:ops:hook", "a=1", "--lock-timeout", "60"], it_waits)
    assert done.code == 130
    assert "`shardstore history agent:ops:hook` shows" in done.err


_ANNOUNCED = "import shardstore_cli.main as m; print('up', flush=True); m.main()"


@pytest.mark.exhaustive
def test_an_interrupt_at_any_moment_leaves_no_traceback(shell: Shell) -> None:
    """From the first line of our own on: before that, Python imports its site module, and says so."""
    source = _source(shell, 500)
    codes = set()
    for n in range(120):
        process = subprocess.Popen(
            [sys.executable, "-c", _ANNOUNCED, "import", "openclaw", str(source), "--store", str(shell.store)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(),
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        assert process.stdout is not None and process.stdout.readline() == b"up\n"
        time.sleep(n * 0.005)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        assert b"Traceback" not in err and b"Exception" not in err, err.decode()
        codes.add(process.returncode)
    assert 130 in codes and codes <= {0, 130, -signal.SIGINT}
