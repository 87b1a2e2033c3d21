"""Run the command line with one of its protections taken out: what a test then still finds whole, it does not test."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.cli.shell import SECONDS, Done, Shell, environment
from tests.support.peer import REPOSITORY

_PRELUDE = """
import sys
sys.path.insert(0, {repository!r})
from tests.mutations.catalogue import swap
for target, make in {swaps!r}:
    swap(target, eval(make))
from shardstore_cli.main import main
main()
"""


@dataclass
class Mutated(Shell):
    """A shell whose commands run with `swaps`: `module:attribute` and the source of a function of the original."""

    swaps: tuple[tuple[str, str], ...] = ()

    def __call__(self, *arguments: str | Path, stdin: str | bytes = b"", named: bool = True, **variables: str) -> Done:
        store = ["--store", str(self.store)] if named else []
        code = _PRELUDE.format(repository=str(REPOSITORY), swaps=self.swaps)
        done = subprocess.run(
            [sys.executable, "-c", code, *map(str, arguments), *store],
            input=stdin.encode() if isinstance(stdin, str) else stdin,
            capture_output=True,
            env=environment(**self.variables, **variables),
            cwd=self.directory,
            timeout=SECONDS,
        )
        assert b"TargetGone" not in done.stderr, done.stderr.decode()
        return Done(done.returncode, done.stdout.decode(), done.stderr.decode())


def mutated(shell: Shell, *swaps: tuple[str, str]) -> Mutated:
    """Return a shell on the same store with protections taken out."""
    return Mutated(shell.directory, shell.variables, swaps)
