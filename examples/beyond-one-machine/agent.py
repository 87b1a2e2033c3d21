"""One agent of several hosts: it counts its turns in a session that all of them share.

usage: python agent.py NAME TURNS        the store's URL is in SHARDSTORE_PATH
"""

from __future__ import annotations

import os
import socket
import sys

from shardstore import Draft, Store

KEY = "agent:main:inbox"


def main() -> None:
    """Take so many turns, and say how many there were in all."""
    name, turns = f"{socket.gethostname()}/{sys.argv[1]}", int(sys.argv[2])

    def turn(draft: Draft) -> None:
        draft["turns"] = draft.get("turns", 0) + 1
        draft["by"] = {**draft.get("by", {}), name: draft.get("by", {}).get(name, 0) + 1}

    with Store(os.environ["SHARDSTORE_PATH"], actor=name, lock_timeout=60.0) as store:
        for _ in range(turns):
            session = store.update(KEY, turn)
        print(f"{name}: {turns} turns of my own, {session['turns']} in all")


if __name__ == "__main__":
    main()
