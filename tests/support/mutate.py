"""Apply one mutation of tests/mutations in this process, when the environment names one."""

from __future__ import annotations

import os

VARIABLE = "SHARDSTORE_TEST_MUTATION"


def apply_from_environment() -> None:
    """Break what the environment says; do nothing where it says nothing."""
    name = os.environ.get(VARIABLE)
    if name:
        import tests.mutations.people
        import tests.mutations.postgres  # noqa: F401
        from tests.mutations.catalogue import MUTATIONS

        MUTATIONS[name].apply()
