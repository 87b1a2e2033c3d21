"""Run one scenario in a process of its own: python -m tests.support.run module:function ROOT.

Exit status: 0 it held, HELD_NOT it failed in the way a broken store fails, anything else: the run itself is broken.
"""

from __future__ import annotations

import signal
import sys
import traceback
from pathlib import Path

from tests.support import mutate
from tests.support.peer import PeerDied, PeerSilent, resolve

HELD_NOT = 42
_PATIENCE_S = 20


def main() -> int:
    """Run it and turn its outcome into an exit status."""
    scenario, root = sys.argv[1:]
    mutate.apply_from_environment()
    from shardstore import ShardStoreError

    try:
        resolve(scenario)(Path(root))
    except (PeerDied, PeerSilent):
        traceback.print_exc()
        return 1
    except (AssertionError, ShardStoreError):
        traceback.print_exc()
        if hasattr(signal, "alarm"):
            signal.alarm(_PATIENCE_S)  # threads of a broken store may keep what the end of an interpreter waits for
        return HELD_NOT
    return 0


if __name__ == "__main__":
    sys.exit(main())
