"""A power cut on a real file system: real journals, real recovery, every write logged on its way to the disk."""

from __future__ import annotations

import pytest

from . import logdisk
from .harness import exhaustive, seconds, tool


def on(kind: str) -> pytest.MarkDecorator:
    """Skip, and say why, where this file system cannot be put on a logging disk."""
    reason = logdisk.why_not(kind)
    return pytest.mark.skipif(reason is not None, reason=f"{kind} on a logging disk: {reason}")


DISKS = [pytest.param(kind, marks=on(kind)) for kind in ("ext4", "xfs", "btrfs")]


@exhaustive
@pytest.mark.parametrize("durability", ["commit", "relaxed"])
@pytest.mark.parametrize("workload", ["life", "rewrite", "mixed", "compact", "listed", "log", "log-moves", "busy"])
@pytest.mark.parametrize("kind", DISKS)
def test_every_image_that_a_power_cut_may_leave(kind: str, workload: str, durability: str) -> None:
    """Mounted again, the store has all that was acknowledged durably, and needs no help."""
    args = ("--workload", workload, "--durability", durability, "--seconds", seconds(6))
    assert tool("disk_outage", kind, *args)["states"] > 0


@exhaustive
@pytest.mark.parametrize("kind", DISKS)
def test_a_store_that_does_not_sync_is_caught(kind: str) -> None:
    """Or the logging disk would prove nothing."""
    tool("disk_outage", kind, "--mutant", "no-data-sync", "--enough", "1", "--seconds", "60", expect_complaints=True)
