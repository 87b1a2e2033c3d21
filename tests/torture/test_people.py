"""People at a store in use: copies, backups, converted files, lost directories, signals, forks, root, lost mounts.

After each attack: nothing acknowledged is lost, get is right, list is right, verify is clean (after a repair where files
were damaged), and the next update works.
"""

from __future__ import annotations

import os
import shutil
import sys

import pytest

from tests.support.mutate import VARIABLE

from .harness import exhaustive, sampled, seconds, tool
from .people import KINDS

NEEDS_ROOT = {"root", "remounts"}
MINIMUM = 20  # acknowledged calls: fewer are no attack on a store in use


def play(kind: str, length: str, seed: int = 1) -> None:
    """Play one kind, where this machine can."""
    if kind in NEEDS_ROOT and os.geteuid() != 0:
        pytest.skip("needs root")
    if kind == "remounts" and (sys.platform != "linux" or shutil.which("mount") is None):
        pytest.skip("needs bind mounts")
    counts = tool("people", kind, "--seconds", length, "--seed", str(seed))
    assert counts["attacks"] > 0
    assert counts["acknowledged"] > MINIMUM


@sampled
@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_for_a_moment(kind: str) -> None:
    """A second of each."""
    play(kind, "1.0")


@exhaustive
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_each_kind(kind: str, seed: int) -> None:
    """Each for half a minute, twice, in a run of 20 minutes; longer as MINUTES says."""
    play(kind, seconds(30.0), seed)


@sampled
def test_a_broken_store_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The judge complains of a store that takes a converted line for a torn one."""
    monkeypatch.setenv(VARIABLE, "carriage_returns_kept")
    tool("people", "line-endings", "--seconds", "1.5", expect_complaints=True)
