"""Run the command line with one of its protections taken out: what a test then still finds whole, it does not test."""

from __future__ import annotations

from tests.cli.shell import Shell


def mutated(shell: Shell, *swaps: tuple[str, str]) -> Shell:
    """Return a shell on the same store with protections taken out.

    A swap is `module:attribute` and the source of a function of the original.
    """
    return Shell(shell.directory, shell.variables, swaps)
